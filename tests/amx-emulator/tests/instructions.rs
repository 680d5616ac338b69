//! Every tile instruction against arithmetic written out in plain loops, on random shapes, every register and every way of
//! addressing. Where the processor has AMX the same tests judge the processor.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::arch::asm;

use gantry_amx_emulator::{AmxEmulator, Tiles};

/// Rows and bytes per row of tiles 0, 1, ...; others are not configured.
fn config(shapes: &[(usize, usize)]) -> [u8; 64] {
    let mut config = [0; 64];
    config[0] = 1;
    for (tile, &(rows, bytes)) in shapes.iter().enumerate() {
        config[48 + tile] = rows as u8;
        config[16 + 2 * tile] = bytes as u8;
    }
    config
}

fn configure(config: &[u8; 64]) {
    // SAFETY: the instruction reads 64 bytes.
    unsafe { asm!("ldtilecfg [{}]", in(reg) config, options(nostack, readonly)) };
}

fn release() {
    // SAFETY: takes no operand. What the tiles held is lost.
    unsafe { asm!("tilerelease", options(nomem, nostack)) };
}

/// Numbers that look random and are the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// One of `range`, both ends included.
    fn within(&mut self, range: std::ops::RangeInclusive<usize>) -> usize {
        range.start() + (self.next() >> 33) as usize % (range.end() - range.start() + 1)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.next() >> 40) as u8).collect()
    }

    /// In -1 to 1.
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn bf16(&mut self) -> u16 {
        (self.float().to_bits() >> 16) as u16
    }
}

/// `tiles[$c] += tiles[$a] * tiles[$b]` of contiguous rows of dwords, by one instruction, in registers of one's choice.
macro_rules! product {
    ($instruction:literal, $c:literal, $a:literal, $b:literal, $size:expr, $into:expr, $left:expr, $right:expr) => {{
        let [m, n, k]: [usize; 3] = $size;
        let mut shapes = [(1, 4); 8];
        shapes[$c] = (m, 4 * n);
        shapes[$a] = (m, 4 * k);
        shapes[$b] = (k, 4 * n);
        let into: &mut [u32] = $into;
        let (left, right): (&[u32], &[u32]) = ($left, $right);
        assert_eq!([into.len(), left.len(), right.len()], [m * n, m * k, k * n]);
        let config = config(&shapes);
        // SAFETY: the tiles are as large as the slices.
        unsafe {
            asm!(
                "ldtilecfg [{config}]",
                concat!("tileloadd tmm", $c, ", [{into} + {wide}]"),
                concat!("tileloadd tmm", $a, ", [{left} + {narrow}]"),
                concat!("tileloaddt1 tmm", $b, ", [{right} + {wide}]"),
                concat!($instruction, " tmm", $c, ", tmm", $a, ", tmm", $b),
                concat!("tilestored [{into} + {wide}], tmm", $c),
                "tilerelease",
                config = in(reg) &config,
                into = in(reg) into.as_mut_ptr(),
                left = in(reg) left.as_ptr(),
                right = in(reg) right.as_ptr(),
                wide = in(reg) 4 * n,
                narrow = in(reg) 4 * k,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack)
            );
        }
    }};
}

/// Random shapes with the largest among them, and all three factors in every register.
macro_rules! products {
    ($instruction:literal, $random:expr, $size:expr, $into:expr, $left:expr, $right:expr) => {
        match $random.within(0..=7) {
            0 => product!($instruction, 0, 1, 2, $size, $into, $left, $right),
            1 => product!($instruction, 1, 2, 3, $size, $into, $left, $right),
            2 => product!($instruction, 2, 3, 4, $size, $into, $left, $right),
            3 => product!($instruction, 3, 4, 5, $size, $into, $left, $right),
            4 => product!($instruction, 4, 5, 6, $size, $into, $left, $right),
            5 => product!($instruction, 5, 6, 7, $size, $into, $left, $right),
            6 => product!($instruction, 6, 7, 0, $size, $into, $left, $right),
            _ => product!($instruction, 7, 0, 1, $size, $into, $left, $right),
        }
    };
}

fn size(random: &mut Random, round: usize) -> [usize; 3] {
    if round == 0 { [16; 3] } else { [(); 3].map(|()| random.within(1..=16)) }
}

fn daz(x: f32) -> f32 {
    if x.is_subnormal() { 0.0_f32.copysign(x) } else { x }
}

/// What TDPBF16PS does, from its description: even and odd products apart, each step rounded, subnormal numbers zero.
fn reference_bf16([m, n, k]: [usize; 3], into: &mut [u32], left: &[u32], right: &[u32]) {
    let half = |pair: u32, odd: usize| daz(f32::from_bits(if odd == 1 { pair & 0xffff_0000 } else { pair << 16 }));
    for row in 0..m {
        for column in 0..n {
            let mut sums = [0.0_f32; 2];
            for at in 0..k {
                let (a, b) = (left[row * k + at], right[at * n + column]);
                for (odd, sum) in sums.iter_mut().enumerate() {
                    *sum = daz(half(a, odd).mul_add(half(b, odd), *sum));
                }
            }
            let c = &mut into[row * n + column];
            *c = daz(daz(f32::from_bits(*c)) + daz(sums[0] + sums[1])).to_bits();
        }
    }
}

fn pairs(random: &mut Random, count: usize, mut element: impl FnMut(&mut Random) -> u16) -> Vec<u32> {
    (0..count).map(|_| u32::from(element(random)) | u32::from(element(random)) << 16).collect()
}

/// Equal bits, except that a NaN is a NaN.
fn assert_same(found: &[u32], expected: &[u32], what: &str) {
    for (at, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let [f, e] = [found, expected].map(f32::from_bits);
        assert!(found == expected || f.is_nan() && e.is_nan(), "{what}, element {at}: {f:e} found, {e:e} expected");
    }
}

#[test]
fn products_of_bfloat16() {
    AmxEmulator::install();
    let mut random = Random(1);
    for round in 0..200 {
        let size @ [m, n, k] = size(&mut random, round);
        let (left, right) = (pairs(&mut random, m * k, Random::bf16), pairs(&mut random, k * n, Random::bf16));
        let mut found: Vec<u32> = (0..m * n).map(|_| random.float().to_bits()).collect();
        let mut expected = found.clone();
        reference_bf16(size, &mut expected, &left, &right);
        products!("tdpbf16ps", random, size, &mut found, &left, &right);
        assert_same(&found, &expected, &format!("{size:?}"));
    }
}

/// Infinities, NaN, signed zeros, the largest and the smallest numbers, and numbers too small to be normal.
#[test]
fn products_of_bfloat16_at_the_ends_of_the_scale() {
    AmxEmulator::install();
    let mut random = Random(2);
    let odd = [0x0000, 0x8000, 0x0001, 0x807f, 0x0080, 0x8080, 0x2000, 0xa000, 0x7f7f, 0xff7f, 0x7f80, 0xff80, 0x7fc0];
    let (mut not_numbers, mut infinite, mut zeros) = (0, 0, 0);
    for round in 0..400 {
        let size @ [m, n, k] = size(&mut random, round);
        let element = |random: &mut Random| if random.within(0..=9) == 0 { odd[random.within(0..=12)] } else { 0x2001 };
        let (left, right) = (pairs(&mut random, m * k, element), pairs(&mut random, k * n, element));
        let mut found: Vec<u32> = (0..m * n).map(|_| u32::from(odd[random.within(0..=12)]) << 16).collect();
        let mut expected = found.clone();
        reference_bf16(size, &mut expected, &left, &right);
        products!("tdpbf16ps", random, size, &mut found, &left, &right);
        assert_same(&found, &expected, &format!("{size:?}"));
        for number in expected.into_iter().map(f32::from_bits) {
            not_numbers += usize::from(number.is_nan());
            infinite += usize::from(number.is_infinite());
            zeros += usize::from(number == 0.0);
        }
    }
    assert!(not_numbers.min(infinite).min(zeros) > 100, "{not_numbers} {infinite} {zeros}");
}

/// The result does not depend on the thread's rounding control, and leaves it alone.
#[test]
fn the_control_register_is_neither_read_nor_changed() {
    AmxEmulator::install();
    let mut random = Random(3);
    let size @ [m, n, k] = [16; 3];
    let (left, right) = (pairs(&mut random, m * k, Random::bf16), pairs(&mut random, k * n, Random::bf16));
    let mut expected = vec![0; m * n];
    reference_bf16(size, &mut expected, &left, &right);
    let (mut before, towards_zero, mut after) = (0_u32, 0x7f80_u32, 0_u32);
    let mut found = vec![0; m * n];
    // SAFETY: reads the control word, then sets one that differs in its rounding alone; no arithmetic of Rust's own
    // follows before the old one is back.
    unsafe {
        asm!("stmxcsr [{}]", in(reg) &raw mut before);
        asm!("ldmxcsr [{}]", in(reg) &raw const towards_zero);
    }
    product!("tdpbf16ps", 0, 1, 2, size, &mut found, &left, &right);
    // SAFETY: as above.
    unsafe {
        asm!("stmxcsr [{}]", in(reg) &raw mut after);
        asm!("ldmxcsr [{}]", in(reg) &raw const before);
    }
    assert_eq!(after, towards_zero);
    assert_same(&found, &expected, "towards zero");
}

/// The bytes of a dword, signed or not.
fn quad(dword: u32, signed: bool) -> [i32; 4] {
    dword.to_le_bytes().map(|byte| if signed { i32::from(byte as i8) } else { i32::from(byte) })
}

#[test]
fn products_of_bytes() {
    AmxEmulator::install();
    let mut random = Random(4);
    for round in 0..400 {
        let size @ [m, n, k] = size(&mut random, round);
        let dwords = |random: &mut Random, count| (0..count).map(|_| random.next() as u32).collect::<Vec<u32>>();
        let (left, right) = (dwords(&mut random, m * k), dwords(&mut random, k * n));
        let mut found = dwords(&mut random, m * n);
        let mut expected = found.clone();
        let signs = [round % 4 / 2 == 0, round % 2 == 0];
        for (at, c) in expected.iter_mut().enumerate() {
            let (row, column) = (at / n, at % n);
            for along in 0..k {
                let a = quad(left[row * k + along], signs[0]);
                let b = quad(right[along * n + column], signs[1]);
                let sum: i32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                *c = c.wrapping_add(sum as u32);
            }
        }
        match signs {
            [true, true] => products!("tdpbssd", random, size, &mut found, &left, &right),
            [true, false] => products!("tdpbsud", random, size, &mut found, &left, &right),
            [false, true] => products!("tdpbusd", random, size, &mut found, &left, &right),
            [false, false] => products!("tdpbuud", random, size, &mut found, &left, &right),
        }
        assert_eq!(found, expected, "{signs:?} {size:?}");
    }
}

/// Loads and stores of random shapes and strides touch the bytes of the shape and no others; what lies outside a tile's
/// shape is zero after a load.
#[test]
fn loads_and_stores() {
    AmxEmulator::install();
    let mut random = Random(5);
    for _ in 0..200 {
        let (rows, bytes) = (random.within(1..=16), random.within(1..=64));
        let (from_stride, to_stride) = (random.within(0..=200), random.within(64..=200));
        let source = random.bytes(16 * 200 + 64);
        let mut target = random.bytes(16 * 200 + 64);
        let mut expected = target.clone();
        for row in 0..rows {
            expected[row * to_stride..][..bytes].copy_from_slice(&source[row * from_stride..][..bytes]);
        }
        configure(&config(&[(rows, bytes)]));
        // SAFETY: 16 rows of 64 bytes, 200 apart, fit both.
        unsafe {
            asm!(
                "tileloadd tmm0, [{from} + {from_stride}]",
                "tilestored [{to} + {to_stride}], tmm0",
                "tilerelease",
                from = in(reg) source.as_ptr(), from_stride = in(reg) from_stride,
                to = in(reg) target.as_mut_ptr(), to_stride = in(reg) to_stride,
                out("tmm0") _, options(nostack)
            );
        }
        assert!(target == expected, "{rows} x {bytes}, {from_stride} to {to_stride}");
    }
}

/// A configuration zeroes all tiles, as does TILEZERO one; STTILECFG tells what was loaded, and zeros after a release.
#[test]
fn configuration() {
    AmxEmulator::install();
    let loaded = config(&[(3, 12), (16, 64), (1, 1)]);
    let ones = [1_u8; 1024];
    let (mut told, mut after) = ([9_u8; 64], [9_u8; 64]);
    let (mut zeroed, mut again, mut kept) = ([9_u8; 1024], [9_u8; 1024], [9_u8; 1024]);
    // SAFETY: every tile is at most 16 rows of 64 bytes.
    unsafe {
        asm!(
            "ldtilecfg [{config}]",
            "sttilecfg [{told}]",
            "tileloadd tmm1, [{ones} + {stride}]",
            "tilestored [{kept} + {stride}], tmm1",
            "tilezero tmm1",
            "tilestored [{zeroed} + {stride}], tmm1",
            "tileloadd tmm1, [{ones} + {stride}]",
            "ldtilecfg [{config}]",
            "tilestored [{again} + {stride}], tmm1",
            "tilerelease",
            "sttilecfg [{after}]",
            config = in(reg) &loaded, told = in(reg) &mut told, after = in(reg) &mut after, ones = in(reg) &ones,
            kept = in(reg) &mut kept, zeroed = in(reg) &mut zeroed, again = in(reg) &mut again, stride = in(reg) 64_usize,
            out("tmm1") _, options(nostack)
        );
    }
    assert_eq!(told, loaded);
    assert_eq!(after, [0; 64]);
    assert_eq!(kept, ones);
    assert_eq!(zeroed, [0; 1024]);
    assert_eq!(again, [0; 1024]);
}

/// Copies two rows of eight bytes through a tile, with the source addressed in a given way.
macro_rules! through {
    ($operand:expr; $($place:tt)*) => {{
        let mut target = [0_u64; 2];
        // SAFETY: the caller's operands address two rows of eight bytes.
        unsafe {
            asm!(
                concat!("tileloadd tmm3, [", $operand, "]"),
                "tilestored [r14 + r15], tmm3",
                in("r14") &mut target, in("r15") 8_usize,
                $($place)*,
                out("tmm3") _, options(nostack)
            );
        }
        target
    }};
}

#[test]
fn ways_of_addressing() {
    AmxEmulator::install();
    configure(&config(&[(1, 1), (1, 1), (1, 1), (2, 8)]));
    let mut data = [0_u64; 64];
    data.iter_mut().enumerate().for_each(|(at, word)| *word = 1000 + at as u64);
    let p = &raw const data[32];
    let start = 1032;
    // Scales, and displacements of one and of four bytes, both signs.
    assert_eq!(through!("{p} + {s}"; p = in(reg) p, s = in(reg) 8_usize), [start, start + 1]);
    assert_eq!(through!("{p} + {s}*2 + 8"; p = in(reg) p, s = in(reg) 8_usize), [start + 1, start + 3]);
    assert_eq!(through!("{p} + {s}*4 - 8"; p = in(reg) p, s = in(reg) 8_usize), [start - 1, start + 3]);
    assert_eq!(through!("{p} + {s}*8 - 256"; p = in(reg) p, s = in(reg) 8_usize), [start - 32, start - 24]);
    assert_eq!(through!("{p} + {s} + 248"; p = in(reg) p, s = in(reg) -8_isize), [start + 31, start + 30]);
    // Without an index all rows are the first.
    assert_eq!(through!("{p}"; p = in(reg) p), [start, start]);
    // Every register as base and as index.
    macro_rules! registers {
        ($($name:tt)*) => {$(
            assert_eq!(through!(concat!($name, " + r11 + 8"); in($name) p, in("r11") 16_usize), [start + 1, start + 3]);
            assert_eq!(through!(concat!("r11 + ", $name, "*2"); in($name) 16_usize, in("r11") p), [start, start + 4]);
        )*};
    }
    registers!("rax" "rcx" "rdx" "rsi" "rdi" "r8" "r9" "r10" "r12" "r13");
    let mut by_others = [[0_u64; 2]; 5];
    // SAFETY: the compiler's own registers are put back; the stack grows by the 64 bytes that are used and shrinks again.
    unsafe {
        asm!(
            // rbx and rbp as base, then as index, the latter the base that needs a displacement.
            "mov r8, rbx",
            "mov r9, rbp",
            "mov rbx, r10",
            "mov rbp, r10",
            "tileloadd tmm3, [rbx + r11]",
            "tilestored [r14 + r15], tmm3",
            "tileloadd tmm3, [rbp + r11]",
            "tilestored [r14 + r15 + 16], tmm3",
            "mov rbx, r11",
            "tileloadd tmm3, [r10 + rbx*4]",
            "tilestored [r14 + r15 + 32], tmm3",
            "mov rbp, r11",
            "tileloadd tmm3, [r10 + rbp*4]",
            "tilestored [r14 + r15 + 48], tmm3",
            "mov rbx, r8",
            "mov rbp, r9",
            // The stack pointer as base.
            "sub rsp, 64",
            "tilestored [rsp + r15 + 16], tmm3",
            "tilezero tmm3",
            "tileloadd tmm3, [rsp + r15 + 16]",
            "tilestored [r14 + r15 + 64], tmm3",
            "add rsp, 64",
            in("r10") p, in("r11") 8_usize, in("r14") &mut by_others, in("r15") 8_usize,
            out("r8") _, out("r9") _, out("tmm3") _,
        );
    }
    let far = [start, start + 4];
    assert_eq!(by_others, [[start, start + 1], [start, start + 1], far, far, far]);
    release();
}

/// The configuration may lie beside the code.
#[test]
fn configuration_relative_to_the_instruction() {
    AmxEmulator::install();
    let mut told = [0_u8; 64];
    // SAFETY: the label is in front of 64 bytes that are jumped over.
    unsafe {
        asm!(
            "jmp 3f",
            ".balign 64",
            "2:",
            ".byte 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0",
            ".word 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0",
            ".byte 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0",
            "3:",
            "ldtilecfg [rip + 2b]",
            "sttilecfg [{told}]",
            "tilerelease",
            told = in(reg) &mut told, options(nostack)
        );
    }
    assert_eq!(told, config(&[(5, 24)]));
}

/// Every thread has tiles of its own.
#[test]
fn threads_do_not_share_tiles() {
    AmxEmulator::install();
    let barrier = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let barrier = &barrier;
            scope.spawn(move || {
                let (rows, mine) = (4 + usize::from(thread), [thread; 1024]);
                configure(&config(&[(rows, 64)]));
                let mut seen = [9_u8; 1024];
                // SAFETY: 16 rows of 64 bytes.
                unsafe {
                    asm!("tileloadd tmm0, [{} + {}]", in(reg) &mine, in(reg) 64_usize, out("tmm0") _, options(nostack));
                    barrier.wait();
                    asm!("tilestored [{} + {}], tmm0", in(reg) &mut seen, in(reg) 64_usize, options(nostack));
                }
                assert!(seen[..64 * rows].iter().all(|&byte| byte == thread), "the tile of another thread");
                assert!(seen[64 * rows..].iter().all(|&byte| byte == 9), "the shape of another thread");
                release();
            });
        }
    });
}

/// A block of 32 x 32 results over a long sum, the way a convolution runs: 2 x 2 tiles, two factors of each side.
#[test]
fn a_block_of_four_tiles_in_one_loop() {
    const STEPS: usize = 4000;
    let tiles = AmxEmulator::install();
    let mut random = Random(6);
    // [step][row or column half][16 rows][16 pairs]
    let (left, right) = (pairs(&mut random, 3 * 512, Random::bf16), pairs(&mut random, 3 * 512, Random::bf16));
    let mut expected = vec![0_u32; 1024];
    for step in 0..STEPS {
        let at = step % 3 * 512;
        for (block, into) in expected.chunks_exact_mut(256).enumerate() {
            let (left, right) = (&left[at + block / 2 * 256..][..256], &right[at + block % 2 * 256..][..256]);
            reference_bf16([16; 3], into, left, right);
        }
    }
    let mut found = vec![0_u32; 1024];
    // Byte offsets of the factors of each step: a table, so that any order of taps is the same loop.
    let offsets: Vec<[usize; 2]> = (0..STEPS).map(|step| [step % 3 * 2048; 2]).collect();
    let before = AmxEmulator::executed();
    let started = std::time::Instant::now();
    configure(&config(&[(16, 64); 8]));
    // SAFETY: offsets stay within the factors, which hold three steps; the result is four tiles.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "mov {a}, [{offsets}]",
            "mov {b}, [{offsets} + 8]",
            "add {a}, {left}",
            "add {b}, {right}",
            "tileloadd tmm4, [{a} + {stride}]",
            "tileloadd tmm6, [{b} + {stride}]",
            "tileloadd tmm7, [{b} + {stride} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a} + {stride} + 1024]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {offsets}, 16",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{into} + {stride}], tmm0",
            "tilestored [{into} + {stride} + 1024], tmm1",
            "tilestored [{into} + {stride} + 2048], tmm2",
            "tilestored [{into} + {stride} + 3072], tmm3",
            offsets = inout(reg) offsets.as_ptr() => _,
            steps = inout(reg) STEPS => _,
            left = in(reg) left.as_ptr(),
            right = in(reg) right.as_ptr(),
            into = in(reg) found.as_mut_ptr(),
            stride = in(reg) 64_usize,
            a = out(reg) _,
            b = out(reg) _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        );
    }
    release();
    let (seconds, instructions) = (started.elapsed().as_secs_f64(), 8 * STEPS + 10);
    println!("{tiles:?}: {:.0} ns an instruction", seconds * 1e9 / instructions as f64);
    assert_same(&found, &expected, "the block");
    let executed = AmxEmulator::executed() - before;
    // Other tests of this process may run at the same time.
    let plausible = if tiles == Tiles::Emulated { executed >= instructions as u64 } else { executed == 0 };
    assert!(plausible, "{executed} instructions emulated, {tiles:?}");
}
