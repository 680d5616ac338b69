//! What a processor refuses still ends the process, and the emulator says why.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::arch::asm;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use gantry_amx_emulator::{AmxEmulator, Tiles};

const SIGILL: i32 = 4;
const SIGSEGV: i32 = 11;

/// Runs an ignored test of this file in a process of its own.
fn child(name: &str) -> Output {
    let program = std::env::current_exe().expect("this program has a path");
    Command::new(program).args(["--ignored", "--exact", name]).output().expect("this program starts again")
}

fn dies_of(signals: &[i32], name: &str, emulator_says: &str) {
    let tiles = AmxEmulator::install();
    let output = child(name);
    let says = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.signal().is_some_and(|s| signals.contains(&s)), "{name}: {:?} {says}", output.status);
    if tiles == Tiles::Emulated {
        assert!(says.contains(emulator_says), "{name}: {says}");
        assert_eq!(says.contains("AMX emulator"), !emulator_says.is_empty(), "{name}: {says}");
    }
}

/// A #UD of the processor is SIGILL, a #GP is SIGSEGV; the emulator makes both SIGILL.
#[test]
fn what_a_processor_refuses() {
    dies_of(&[SIGILL], "another_illegal_instruction", "");
    dies_of(&[SIGILL], "tiles_without_configuration", "without LDTILECFG");
    dies_of(&[SIGILL], "tiles_after_a_release", "without LDTILECFG");
    dies_of(&[SIGILL], "shapes_that_do_not_fit", "shapes do not fit");
    dies_of(&[SIGILL, SIGSEGV], "a_configuration_with_too_many_rows", "more than 16 rows");
}

#[test]
#[ignore = "ends its process: `what_a_processor_refuses` starts it"]
fn another_illegal_instruction() {
    AmxEmulator::install();
    // SAFETY: ends the process.
    unsafe { asm!("ud2", options(nostack)) };
}

#[test]
#[ignore = "ends its process: `what_a_processor_refuses` starts it"]
fn tiles_without_configuration() {
    AmxEmulator::install();
    // SAFETY: ends the process.
    unsafe { asm!("tilezero tmm0", out("tmm0") _, options(nostack)) };
}

fn configure(rows: [u8; 3]) {
    let mut config = [0_u8; 64];
    config[0] = 1;
    for (tile, rows) in rows.into_iter().enumerate() {
        config[48 + tile] = rows;
        config[16 + 2 * tile] = 64;
    }
    // SAFETY: the instruction reads 64 bytes.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly)) };
}

#[test]
#[ignore = "ends its process: `what_a_processor_refuses` starts it"]
fn tiles_after_a_release() {
    AmxEmulator::install();
    configure([16; 3]);
    // SAFETY: ends the process at the last instruction.
    unsafe { asm!("tilezero tmm0", "tilerelease", "tilezero tmm0", out("tmm0") _, options(nostack)) };
}

#[test]
#[ignore = "ends its process: `what_a_processor_refuses` starts it"]
fn shapes_that_do_not_fit() {
    AmxEmulator::install();
    configure([16, 16, 15]);
    // SAFETY: ends the process.
    unsafe { asm!("tdpbf16ps tmm0, tmm1, tmm2", out("tmm0") _, options(nostack)) };
}

#[test]
#[ignore = "ends its process: `what_a_processor_refuses` starts it"]
fn a_configuration_with_too_many_rows() {
    AmxEmulator::install();
    configure([17, 16, 16]);
}
