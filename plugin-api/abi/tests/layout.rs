//! The C header and the Rust structs are one layout, in every language the header promises, and neither may change.

use std::collections::BTreeMap;
use std::mem::{align_of, offset_of, size_of};
use std::path::{Path, PathBuf};
use std::process::Command;

use abi_stable::StableAbi;
use gantry_abi::{C_HEADER, layout, v1};
use sha2::{Digest, Sha256};

/// SHA-256 over `src/v1.rs` followed by `include/gantry_v1.h`.
const CONTRACT_SHA256: &str = "677375e33c677ecc071a53d51cfb51a3fb0f2baf325001c2d8c0336fd077dbb6";

/// What a compiler says of a struct: its size, its alignment, and `(name, offset, size)` of every member.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    size: usize,
    align: usize,
    members: Vec<(String, usize, usize)>,
}

/// Size of the member a projection yields.
fn size_of_member<S, M>(_: impl Fn(&S) -> &M) -> usize {
    size_of::<M>()
}

macro_rules! shapes {
    ($($rust:ident as $c:literal { $($member:ident $(as $other:literal)?),+ })+) => {{
        let mut all: BTreeMap<&str, Shape> = BTreeMap::new();
        $(
            let mut members = Vec::new();
            $(
                #[allow(unused_mut, unused_assignments)]
                let mut name = stringify!($member);
                $(name = $other;)?
                let size = size_of_member(|s: &v1::$rust| &s.$member);
                members.push((name.to_owned(), offset_of!(v1::$rust, $member), size));
            )+
            // The list above is complete: abi_stable derived its own from the struct.
            let derived = <v1::$rust as StableAbi>::LAYOUT.get_fields().expect("a struct with members").iter().count();
            assert_eq!(derived, members.len(), "members of {}", stringify!($rust));
            let shape = Shape { size: size_of::<v1::$rust>(), align: align_of::<v1::$rust>(), members };
            all.insert($c, shape);
        )+
        all
    }};
}

fn rust_shapes() -> BTreeMap<&'static str, Shape> {
    shapes! {
        Str as "gantry_str_v1" { ptr, len }
        Tensor as "gantry_tensor_v1" { data, byte_len, buffer, dtype, device_type, device_id, reserved, shape, stride }
        Geometry as "gantry_geometry_v1" { grid, lattice, frame, size, affine, slice_origin_mm, flags, reserved }
        Map as "gantry_map_v1" { scale, offset, lo, hi }
        Label as "gantry_label_v1" { value, name, scheme, code, rgba, reserved }
        Item as "gantry_item_v1" {
            port, kind, name, tensor, z0, geometry, channels, maps, labels, n_labels, bytes, parts, n_parts
        }
        Port as "gantry_port_v1" { name, caps, output, connected }
        Needs as "gantry_needs_v1" {
            batch_max, halo_below, halo_above, reserved, host_bytes, host_bytes_per_slice, device_bytes,
            device_bytes_per_slice
        }
        Call as "gantry_call_v1" {
            host, ctx, seed, case_no, host_budget, device_budget, threads, flags, input as "in", n_in, out, n_out
        }
        Host as "gantry_host_v1" {
            abi_major, abi_minor, built_by, report, progress, cancelled, checkpoint, allocate, emit, reserve, service,
            extension
        }
        Entry as "gantry_entry_v1" {
            abi_major, abi_minor, built_by, manifest, create, prepare, begin, process, end, destroy, extension
        }
    }
}

/// Every named number of the header with its value in Rust.
fn rust_constants() -> Vec<(&'static str, i64)> {
    use v1::{dtype, kind, level, status, z};
    vec![
        ("GANTRY_ABI_MAJOR", v1::ABI_MAJOR.into()),
        ("GANTRY_ABI_MINOR", v1::ABI_MINOR.into()),
        ("GANTRY_OK", status::OK.into()),
        ("GANTRY_CANCELLED", status::CANCELLED.into()),
        ("GANTRY_PENDING", status::PENDING.into()),
        ("GANTRY_BAD_PARAMS", status::BAD_PARAMS.into()),
        ("GANTRY_BAD_INPUT", status::BAD_INPUT.into()),
        ("GANTRY_UNSUPPORTED", status::UNSUPPORTED.into()),
        ("GANTRY_RESOURCE", status::RESOURCE.into()),
        ("GANTRY_SERVICE", status::SERVICE.into()),
        ("GANTRY_BAD_WEIGHTS", status::BAD_WEIGHTS.into()),
        ("GANTRY_INTERNAL", status::INTERNAL.into()),
        ("GANTRY_ABSENT", kind::ABSENT.into()),
        ("GANTRY_IMAGE", kind::IMAGE.into()),
        ("GANTRY_LABELS", kind::LABELS.into()),
        ("GANTRY_HEADERS", kind::HEADERS.into()),
        ("GANTRY_RECORD", kind::RECORD.into()),
        ("GANTRY_TABLE", kind::TABLE.into()),
        ("GANTRY_FILE", kind::FILE.into()),
        ("GANTRY_I8", dtype::I8.into()),
        ("GANTRY_I16", dtype::I16.into()),
        ("GANTRY_I32", dtype::I32.into()),
        ("GANTRY_I64", dtype::I64.into()),
        ("GANTRY_U8", dtype::U8.into()),
        ("GANTRY_U16", dtype::U16.into()),
        ("GANTRY_U32", dtype::U32.into()),
        ("GANTRY_F16", dtype::F16.into()),
        ("GANTRY_F32", dtype::F32.into()),
        ("GANTRY_F64", dtype::F64.into()),
        ("GANTRY_BF16", dtype::BF16.into()),
        ("GANTRY_ERROR", level::ERROR.into()),
        ("GANTRY_WARN", level::WARN.into()),
        ("GANTRY_INFO", level::INFO.into()),
        ("GANTRY_DEBUG", level::DEBUG.into()),
        ("GANTRY_Z_UNKNOWN", z::UNKNOWN.into()),
        ("GANTRY_Z_IRREGULAR", z::IRREGULAR.into()),
        ("GANTRY_ABANDONED", v1::ABANDONED.into()),
    ]
}

fn include() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("include")
}

/// A compiler of this machine, or `None` (said) where there is none; under CI its absence is a failure.
fn compiler(variable: &str, usual: &str) -> Option<String> {
    let name = std::env::var(variable).unwrap_or_else(|_| usual.to_owned());
    if Command::new(&name).arg("--version").output().is_ok_and(|o| o.status.success()) {
        return Some(name);
    }
    assert!(std::env::var_os("CI").is_none(), "{name} is missing, and CI must have it");
    eprintln!("skipped: there is no `{name}`");
    None
}

/// Compiles `program`, and runs it if `run`; what it printed.
fn build(compiler: &str, language: &str, standard: &str, program: &str, run: bool) -> String {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join(if language == "c" { "probe.c" } else { "probe.cpp" });
    std::fs::write(&source, program).unwrap();
    let binary = folder.path().join("probe");
    let mut command = Command::new(compiler);
    command.arg(format!("-std={standard}")).args(["-Wall", "-Wextra", "-pedantic", "-Werror", "-Wpadded"]);
    command.arg("-I").arg(include()).arg(&source);
    if run {
        command.arg("-o").arg(&binary);
    } else {
        command.arg("-fsyntax-only");
    }
    let out = command.output().unwrap();
    assert!(out.status.success(), "{compiler} -std={standard}:\n{}", String::from_utf8_lossy(&out.stderr));
    if !run {
        return String::new();
    }
    String::from_utf8(Command::new(&binary).output().unwrap().stdout).unwrap()
}

/// A program that prints every size, alignment, offset and number of the header.
fn probe(shapes: &BTreeMap<&str, Shape>, constants: &[(&str, i64)]) -> String {
    use std::fmt::Write;
    let mut text = "#include \"gantry_v1.h\"\n#include <stddef.h>\n#include <stdio.h>\n".to_owned();
    for (c, _) in shapes.iter() {
        writeln!(text, "struct align_{c} {{ {c} first; }};").unwrap();
    }
    text.push_str("int main(void) {\n");
    for (c, shape) in shapes {
        writeln!(text, "printf(\"struct {c} %zu\\n\", sizeof({c}));").unwrap();
        for (member, ..) in &shape.members {
            writeln!(
                text,
                "printf(\"member {c} {member} %zu %zu\\n\", offsetof({c}, {member}), sizeof((({c} *)0)->{member}));"
            )
            .unwrap();
        }
    }
    for (name, _) in constants {
        writeln!(text, "printf(\"number {name} %lld\\n\", (long long){name});").unwrap();
    }
    text.push_str("return 0; }\n");
    text
}

fn expected(shapes: &BTreeMap<&str, Shape>, constants: &[(&str, i64)]) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for (c, shape) in shapes {
        writeln!(text, "struct {c} {}", shape.size).unwrap();
        for (member, offset, size) in &shape.members {
            writeln!(text, "member {c} {member} {offset} {size}").unwrap();
        }
    }
    for (name, value) in constants {
        writeln!(text, "number {name} {value}").unwrap();
    }
    text
}

#[test]
fn every_size_offset_and_number_of_the_header_is_that_of_the_rust_structs() {
    let (shapes, constants) = (rust_shapes(), rust_constants());
    let (program, expected) = (probe(&shapes, &constants), expected(&shapes, &constants));
    for (variable, usual, language, standard) in [("CC", "cc", "c", "c99"), ("CXX", "c++", "c++", "c++17")] {
        let Some(compiler) = compiler(variable, usual) else { continue };
        assert_eq!(build(&compiler, language, standard, &program, true), expected, "{standard}");
    }
    let members: usize = shapes.values().map(|s| s.members.len()).sum();
    println!("{} structs, {members} members, {} numbers agree", shapes.len(), constants.len());
}

#[test]
fn no_struct_hides_padding() {
    for (name, shape) in rust_shapes() {
        let mut end = 0;
        for (member, offset, size) in &shape.members {
            assert_eq!(*offset, end, "padding before {name}.{member}");
            end = offset + size;
        }
        assert_eq!(end, shape.size, "padding at the end of {name}");
        assert_eq!(shape.align, 8, "{name}");
    }
}

#[test]
fn the_header_names_no_struct_or_number_that_is_not_compared() {
    let (shapes, constants) = (rust_shapes(), rust_constants());
    let code: String = strip_comments(C_HEADER);
    let mut structs: Vec<&str> =
        code.split("typedef struct ").skip(1).filter_map(|t| t.split_whitespace().next()).collect();
    structs.sort_unstable();
    structs.dedup();
    assert_eq!(structs, shapes.keys().copied().collect::<Vec<_>>());
    for part in code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
        let helper = ["GANTRY_V1_H", "GANTRY_EXPORT", "GANTRY_SECTION", "GANTRY_SIZE_"].contains(&part);
        if part.starts_with("GANTRY_") && !helper {
            assert!(constants.iter().any(|(name, _)| *name == part), "{part} is not compared");
        }
    }
}

fn strip_comments(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("/*") {
        out.push_str(&rest[..start]);
        let after = &rest[start + 2..];
        rest = after.find("*/").map_or("", |end| &after[end + 2..]);
    }
    out + rest
}

#[test]
fn the_header_compiles_alone_in_every_promised_language() {
    let program = "#include \"gantry_v1.h\"\nGANTRY_SECTION(\"0000000000000000000000000000000000000000000000000000000000000000\");\n";
    for (variable, usual, language, standards) in
        [("CC", "cc", "c", &["c99", "c11", "c17"][..]), ("CXX", "c++", "c++", &["c++11", "c++17"][..])]
    {
        let Some(compiler) = compiler(variable, usual) else { continue };
        for standard in standards {
            build(&compiler, language, standard, program, false);
        }
    }
}

#[test]
fn the_contract_is_frozen() {
    let mut hash = Sha256::new();
    hash.update(include_bytes!("../src/v1.rs"));
    hash.update(include_bytes!("../include/gantry_v1.h"));
    let found = hex::encode(hash.finalize());
    assert_eq!(
        found, CONTRACT_SHA256,
        "src/v1.rs or include/gantry_v1.h changed. Stage ABI 1 is frozen: this is ABI 2. Leave both files alone and make \
         v2.rs and gantry_v2.h beside them"
    );
}

#[test]
fn abi_stable_accepts_the_same_layout_and_refuses_another() {
    layout::check(&layout::TABLE).unwrap();

    /// An entry whose last function is missing.
    #[repr(C)]
    #[derive(StableAbi)]
    struct Shorter {
        abi_major: u32,
        abi_minor: u32,
        built_by: v1::Str,
        manifest: v1::Str,
    }
    let header = layout::TABLE.header;
    let other = layout::LayoutTable { header, entry: <Shorter as StableAbi>::LAYOUT };
    let why = layout::check(&other).unwrap_err();
    assert!(!why.is_empty());
}
