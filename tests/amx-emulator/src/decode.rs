//! Reads one tile instruction out of machine code.
//!
//! All are VEX-encoded with three bytes of prefix (C4), opcode map 0F38, L = 0, W = 0; the prefix field `pp` (none, 66,
//! F3, F2) tells those with one opcode apart.

/// A tile instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instruction {
    LoadConfig(Address),
    StoreConfig(Address),
    Release,
    Zero(usize),
    /// Also the one with the hint that the data are used once.
    Load(usize, Address),
    Store(usize, Address),
    /// `tiles[into] += tiles[left] * tiles[right]`.
    Dot {
        kind: Dot,
        into: usize,
        left: usize,
        right: usize,
    },
}

/// Elements of the two factors of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dot {
    Bf16,
    /// Bytes; whether those of the left and of the right factor are signed.
    Bytes {
        left_signed: bool,
        right_signed: bool,
    },
}

/// A memory operand. A tile has its rows at `base + displacement`, `index << shift` bytes apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) base: Base,
    pub(crate) index: Option<u8>,
    pub(crate) shift: u8,
    pub(crate) displacement: i32,
}

/// Where an address starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    Nothing,
    Register(u8),
    /// The address behind the instruction.
    Next,
}

const NONE: u8 = 0;
const P66: u8 = 1;
const PF3: u8 = 2;
const PF2: u8 = 3;

/// The tile instruction at the front of `code`, or `None` where something else stands. Takes no byte behind it.
pub(crate) fn decode(code: &mut impl FnMut() -> u8) -> Option<Instruction> {
    if code() != 0xc4 {
        return None;
    }
    let first = code();
    // R, X and B are stored inverted.
    let [r, x, b] = [7, 6, 5].map(|bit| (!first >> bit & 1) << 3);
    if first & 0x1f != 2 {
        return None;
    }
    let second = code();
    let (wide, vvvv, long, pp) = (second >> 7, !second >> 3 & 15, second >> 2 & 1, second & 3);
    if wide != 0 || long != 0 {
        return None;
    }
    let opcode = code();
    if !matches!(opcode, 0x49 | 0x4b | 0x5c | 0x5e) {
        return None;
    }
    let modrm = code();
    let (mode, reg, rm) = (modrm >> 6, modrm >> 3 & 7, modrm & 7);
    let in_memory = mode != 3;
    if let (0x5c, PF3, false) | (0x5e, _, false) = (opcode, pp, in_memory) {
        let signs = |left_signed, right_signed| Dot::Bytes { left_signed, right_signed };
        let kind = match (opcode, pp) {
            (0x5c, _) => Dot::Bf16,
            (_, PF2) => signs(true, true),
            (_, PF3) => signs(true, false),
            (_, P66) => signs(false, true),
            _ => signs(false, false),
        };
        let plain = r | x | b == 0 && vvvv < 8;
        return plain.then_some(Instruction::Dot { kind, into: reg.into(), left: rm.into(), right: vvvv.into() });
    }
    if vvvv != 0 {
        return None;
    }
    let tile = usize::from(reg);
    match (opcode, pp, in_memory) {
        (0x49, NONE, true) if reg == 0 => Some(Instruction::LoadConfig(address(code, mode, rm, x, b))),
        (0x49, P66, true) if reg == 0 => Some(Instruction::StoreConfig(address(code, mode, rm, x, b))),
        (0x49, NONE, false) if modrm == 0xc0 => Some(Instruction::Release),
        (0x49, PF2, false) if rm == 0 && r == 0 => Some(Instruction::Zero(tile)),
        // The rows need a stride, so these two have a scaled index (rm = 4) or are illegal.
        (0x4b, PF2 | P66, true) if rm == 4 && r == 0 => Some(Instruction::Load(tile, address(code, mode, rm, x, b))),
        (0x4b, PF3, true) if rm == 4 && r == 0 => Some(Instruction::Store(tile, address(code, mode, rm, x, b))),
        _ => None,
    }
}

/// What follows ModRM; `x` and `b` are 8 where the prefix extends the index and the base.
fn address(code: &mut impl FnMut() -> u8, mode: u8, rm: u8, x: u8, b: u8) -> Address {
    let (mut index, mut shift) = (None, 0);
    let (low, extended) = if rm == 4 {
        let sib = code();
        let number = sib >> 3 & 7 | x;
        // Number 4 would be the stack pointer and means none.
        (index, shift) = ((number != 4).then_some(number), sib >> 6);
        (sib & 7, sib & 7 | b)
    } else {
        (rm, rm | b)
    };
    let base = match (mode, low) {
        (0, 5) if rm == 4 => Base::Nothing,
        (0, 5) => Base::Next,
        _ => Base::Register(extended),
    };
    let displacement = match (mode, base) {
        (1, _) => i32::from(code() as i8),
        (2, _) | (_, Base::Nothing | Base::Next) => i32::from_le_bytes([code(), code(), code(), code()]),
        _ => 0,
    };
    Address { base, index, shift, displacement }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `bytes` and demands that all of them were taken.
    fn whole(bytes: &[u8]) -> Option<Instruction> {
        let mut at = bytes.iter();
        let found = decode(&mut || *at.next().expect("no byte behind the instruction"));
        assert!(found.is_none() || at.next().is_none(), "bytes are left of {bytes:x?}");
        found
    }

    fn at(base: Base, index: Option<u8>, shift: u8, displacement: i32) -> Address {
        Address { base, index, shift, displacement }
    }

    /// The bytes are those that the GNU assembler writes.
    #[test]
    fn instructions_as_an_assembler_writes_them() {
        use Base::{Next, Nothing, Register};
        use Instruction::{Dot as Product, Load, LoadConfig, Release, Store, StoreConfig, Zero};
        let bytes = |left_signed, right_signed| Dot::Bytes { left_signed, right_signed };
        let product = |kind, into, left, right| Product { kind, into, left, right };
        let samples: [(&[u8], Instruction); 16] = [
            (&[0xc4, 0xe2, 0x78, 0x49, 0x00], LoadConfig(at(Register(0), None, 0, 0))),
            (&[0xc4, 0xe2, 0x78, 0x49, 0x05, 1, 0, 0, 0], LoadConfig(at(Next, None, 0, 1))),
            (&[0xc4, 0xc2, 0x79, 0x49, 0x06], StoreConfig(at(Register(14), None, 0, 0))),
            (&[0xc4, 0xe2, 0x78, 0x49, 0xc0], Release),
            (&[0xc4, 0xe2, 0x7b, 0x49, 0xf8], Zero(7)),
            (&[0xc4, 0xe2, 0x7b, 0x4b, 0x04, 0x0b], Load(0, at(Register(3), Some(1), 0, 0))),
            (&[0xc4, 0xc2, 0x7b, 0x4b, 0x54, 0xce, 0x40], Load(2, at(Register(14), Some(1), 3, 64))),
            (&[0xc4, 0xe2, 0x79, 0x4b, 0x14, 0x23], Load(2, at(Register(3), None, 0, 0))),
            (&[0xc4, 0x82, 0x7b, 0x4b, 0x44, 0x65, 0xc0], Load(0, at(Register(13), Some(12), 1, -64))),
            (&[0xc4, 0xa2, 0x7b, 0x4b, 0x04, 0x25, 0, 1, 0, 0], Load(0, at(Nothing, Some(12), 0, 256))),
            (&[0xc4, 0xc2, 0x7a, 0x4b, 0x8c, 0x0e, 0, 1, 0, 0], Store(1, at(Register(14), Some(1), 0, 256))),
            (&[0xc4, 0xe2, 0x6a, 0x5c, 0xc8], product(Dot::Bf16, 1, 0, 2)),
            (&[0xc4, 0xe2, 0x6b, 0x5e, 0xc8], product(bytes(true, true), 1, 0, 2)),
            (&[0xc4, 0xe2, 0x42, 0x5e, 0xee], product(bytes(true, false), 5, 6, 7)),
            (&[0xc4, 0xe2, 0x41, 0x5e, 0xee], product(bytes(false, true), 5, 6, 7)),
            (&[0xc4, 0xe2, 0x40, 0x5e, 0xee], product(bytes(false, false), 5, 6, 7)),
        ];
        for (code, expected) in samples {
            assert_eq!(whole(code), Some(expected), "{code:x?}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let samples: [&[u8]; 9] = [
            &[0x0f, 0x0b],                         // ud2
            &[0xc5, 0xf8, 0x77],                   // vzeroupper
            &[0xc4, 0xe2, 0xf8, 0x49, 0x00],       // W = 1
            &[0xc4, 0xe2, 0x7c, 0x49, 0x00],       // L = 1
            &[0xc4, 0xe1, 0x78, 0x49, 0x00],       // another opcode map
            &[0xc4, 0xe2, 0x7b, 0x4b, 0x03, 0x00], // rows without a stride
            &[0xc4, 0x62, 0x7b, 0x4b, 0x04, 0x0b], // tile 8
            &[0xc4, 0xe2, 0x6b, 0x5c, 0xc8],       // the product of half precision, which this emulator lacks
            &[0xc4, 0xe2, 0x68, 0x49, 0xc0],       // a second source where there is none
        ];
        for code in samples {
            assert_eq!(decode(&mut code.iter().copied().chain(std::iter::repeat(0)).fuse_fetch()), None, "{code:x?}");
        }
    }

    /// An iterator of bytes as the reader wants it.
    trait Fetch: Iterator<Item = u8> + Sized {
        fn fuse_fetch(mut self) -> impl FnMut() -> u8 {
            move || self.next().expect("endless")
        }
    }
    impl<I: Iterator<Item = u8>> Fetch for I {}
}
