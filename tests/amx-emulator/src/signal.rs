//! The handler of SIGILL: executes the tile instructions at the place of the signal and goes on behind them.
//!
//! The signal is the answer to an instruction of the thread itself, which stands in code of a kernel: it never comes in the
//! middle of an allocation or under a lock, so the handler may use the thread's own storage.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::decode::{Address, Base, Dot, Instruction, decode};
use crate::dot;
use crate::tiles::{Refusal, Tile, TileState};

/// Instructions executed by all threads.
pub(crate) static EXECUTED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static STATE: UnsafeCell<TileState> = const { UnsafeCell::new(TileState::INITIAL) };
}

/// Makes [`on_illegal_instruction`] the answer to SIGILL.
pub(crate) fn install() -> std::io::Result<()> {
    // SAFETY: all zero is a valid `sigaction`, and the handler has the signature that SA_SIGINFO asks for.
    let failed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_illegal_instruction as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut())
    };
    if failed == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

extern "C" fn on_illegal_instruction(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: with SA_SIGINFO the system passes the interrupted thread's registers, which nobody else touches.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let mut done = 0;
    let refusal = loop {
        let start = registers[libc::REG_RIP as usize] as usize;
        let mut next = start;
        let mut fetch = || {
            // SAFETY: the processor ran into these bytes, or would next, and the reader takes none behind an instruction.
            let byte = unsafe { (next as *const u8).read() };
            next += 1;
            byte
        };
        let Some(instruction) = decode(&mut fetch) else { break None };
        let registers_then = Registers { general: registers, next };
        // SAFETY: only this handler uses the thread's tiles, and it does not interrupt itself.
        let outcome = STATE.with(|state| unsafe { execute(&mut *state.get(), instruction, &registers_then) });
        if let Err(why) = outcome {
            break Some(why);
        }
        done += 1;
        // Further tile instructions often follow: each done here saves a signal.
        registers[libc::REG_RIP as usize] = next as i64;
    };
    EXECUTED.fetch_add(done, Ordering::Relaxed);
    if done == 0 || refusal.is_some() {
        die(refusal);
    }
}

/// Lets the instruction end the process once it is repeated, as it would without this handler.
fn die(refusal: Option<Refusal>) {
    // SAFETY: both calls are safe in a handler; the text is valid for its length.
    unsafe {
        if let Some(why) = refusal {
            for text in ["AMX emulator: ", why, "\n"] {
                libc::write(2, text.as_ptr().cast(), text.len());
            }
        }
        libc::signal(libc::SIGILL, libc::SIG_DFL);
    }
}

/// The registers that addresses are made of.
struct Registers<'a> {
    general: &'a [libc::greg_t; 23],
    /// Where the next instruction is.
    next: usize,
}

impl Registers<'_> {
    fn get(&self, number: u8) -> usize {
        // In the order of their numbers in machine code.
        const PLACES: [c_int; 16] = [
            libc::REG_RAX,
            libc::REG_RCX,
            libc::REG_RDX,
            libc::REG_RBX,
            libc::REG_RSP,
            libc::REG_RBP,
            libc::REG_RSI,
            libc::REG_RDI,
            libc::REG_R8,
            libc::REG_R9,
            libc::REG_R10,
            libc::REG_R11,
            libc::REG_R12,
            libc::REG_R13,
            libc::REG_R14,
            libc::REG_R15,
        ];
        self.general[PLACES[usize::from(number)] as usize] as usize
    }

    /// Base plus displacement, and the scaled index.
    fn parts(&self, address: Address) -> [usize; 2] {
        let base = match address.base {
            Base::Nothing => 0,
            Base::Register(number) => self.get(number),
            Base::Next => self.next,
        };
        let index = address.index.map_or(0, |number| self.get(number) << address.shift);
        [base.wrapping_add(address.displacement as usize), index]
    }

    fn whole(&self, address: Address) -> usize {
        let [base, index] = self.parts(address);
        base.wrapping_add(index)
    }
}

/// Executes one instruction; `Err` where the processor would refuse it.
///
/// # Safety
/// The memory that the instruction names is as the instruction needs it, and the processor has AVX2 and FMA.
unsafe fn execute(state: &mut TileState, instruction: Instruction, registers: &Registers<'_>) -> Result<(), Refusal> {
    match instruction {
        Instruction::LoadConfig(address) => {
            // SAFETY: the instruction reads these 64 bytes.
            let config = unsafe { (registers.whole(address) as *const [u8; 64]).read_unaligned() };
            state.configure(&config)
        }
        Instruction::StoreConfig(address) => {
            // SAFETY: the instruction writes these 64 bytes.
            unsafe { (registers.whole(address) as *mut [u8; 64]).write_unaligned(*state.config()) };
            Ok(())
        }
        Instruction::Release => {
            state.release();
            Ok(())
        }
        Instruction::Zero(tile) => {
            state.shape(tile)?;
            *state.tile_mut(tile) = Tile::ZERO;
            Ok(())
        }
        Instruction::Load(tile, address) => {
            let shape = state.shape(tile)?;
            let [mut from, stride] = registers.parts(address);
            // What lies outside the shape has been zero since the tile was configured.
            for row in state.tile_mut(tile).0.iter_mut().take(shape.rows) {
                // SAFETY: the instruction reads `shape.bytes` bytes here; a row has room for 64.
                unsafe { std::ptr::copy_nonoverlapping(from as *const u8, row.as_mut_ptr(), shape.bytes) };
                from = from.wrapping_add(stride);
            }
            Ok(())
        }
        Instruction::Store(tile, address) => {
            let shape = state.shape(tile)?;
            let [mut to, stride] = registers.parts(address);
            for row in state.tile(tile).0.iter().take(shape.rows) {
                // SAFETY: the instruction writes `shape.bytes` bytes here; a row holds 64.
                unsafe { std::ptr::copy_nonoverlapping(row.as_ptr(), to as *mut u8, shape.bytes) };
                to = to.wrapping_add(stride);
            }
            Ok(())
        }
        Instruction::Dot { kind, into, left, right } => {
            let size = state.product(into, left, right)?;
            let [result, left, right] = state.three(into, left, right)?;
            // SAFETY: the caller vouches for the instructions.
            unsafe {
                match kind {
                    Dot::Bf16 => dot::bf16(result, left, right, size),
                    Dot::Bytes { left_signed, right_signed } => {
                        dot::bytes(result, left, right, [left_signed, right_signed], size);
                    }
                }
            }
            if size[1] < 16 {
                for row in &mut result.0 {
                    row[4 * size[1]..].fill(0);
                }
            }
            Ok(())
        }
    }
}
