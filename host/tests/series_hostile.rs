//! Hostile and damaged DICOM files: errors by name, quickly, in little memory, and never a panic.

mod ct;

use std::time::{Duration, Instant};

use ct::{Ct, folder};
use flate2::{Compression, write::DeflateEncoder};
use gantry_host::series::{Fault, ScanOptions, guard, header, pixel, read_slice, scan};
use std::io::Write;

/// Preamble, `DICM`, and a meta group that names a transfer syntax.
fn head(transfer_syntax: &str) -> Vec<u8> {
    let mut uid = transfer_syntax.as_bytes().to_vec();
    if uid.len() % 2 == 1 {
        uid.push(0);
    }
    let mut meta = vec![2, 0, 0x10, 0, b'U', b'I'];
    meta.extend((uid.len() as u16).to_le_bytes());
    meta.extend(uid);
    let mut out = vec![0u8; 128];
    out.extend(b"DICM");
    out.extend([2, 0, 0, 0, b'U', b'L', 4, 0]);
    out.extend((meta.len() as u32).to_le_bytes());
    out.extend(meta);
    out
}

const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const IMPLICIT: &str = "1.2.840.10008.1.2";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";

fn element(tag: (u16, u16), vr: &[u8; 2], length: u32) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(tag.0.to_le_bytes());
    out.extend(tag.1.to_le_bytes());
    out.extend(vr);
    out.extend([0, 0]);
    out.extend(length.to_le_bytes());
    out
}

fn item(length: u32) -> Vec<u8> {
    let mut out = vec![0xFE, 0xFF, 0x00, 0xE0];
    out.extend(length.to_le_bytes());
    out
}

/// Walks in a thread with a small stack, and takes the time.
fn refuse(bytes: Vec<u8>) -> Fault {
    let start = Instant::now();
    let worker = std::thread::Builder::new().stack_size(256 << 10);
    let found = worker.spawn(move || guard::walk(bytes).map(|outline| outline.is_some())).unwrap().join().unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "took {:?}", start.elapsed());
    found.expect_err("accepted")
}

#[test]
fn deep_nesting_is_refused_on_a_worker_thread() {
    for depth in [65, 2_000, 10_000, 1_000_000] {
        let mut undefined = head(EXPLICIT);
        let mut implicit = head(IMPLICIT);
        let mut unknown = head(EXPLICIT);
        unknown.extend(element((0x0009, 0x1001), b"UN", u32::MAX));
        unknown.extend(item(u32::MAX));
        for _ in 0..depth {
            undefined.extend(element((0x0040, 0xA730), b"SQ", u32::MAX));
            undefined.extend(item(u32::MAX));
            implicit.extend([0x40, 0, 0x30, 0xA7, 0xFF, 0xFF, 0xFF, 0xFF]);
            implicit.extend(item(u32::MAX));
            unknown.extend([0x40, 0, 0x30, 0xA7, 0xFF, 0xFF, 0xFF, 0xFF]);
            unknown.extend(item(u32::MAX));
        }
        for bytes in [undefined, implicit, unknown] {
            let fault = refuse(bytes);
            assert_eq!(fault.code, "nesting-depth", "{fault}");
        }
    }
    // Sixty-four levels are read.
    let mut bytes = Vec::new();
    for _ in 0..64 {
        let mut outer = element((0x0040, 0xA730), b"SQ", bytes.len() as u32 + 8);
        outer.extend(item(bytes.len() as u32));
        outer.extend(bytes);
        bytes = outer;
    }
    let mut file = head(EXPLICIT);
    file.extend(bytes);
    std::thread::spawn(move || {
        let outline = guard::walk(file).unwrap().unwrap();
        header::parse(&outline).unwrap();
    })
    .join()
    .unwrap();
}

#[test]
fn false_lengths_are_refused() {
    for (vr, length) in [(b"OB", 0xFFFF_FFF0u32), (b"UT", 0x7FFF_FFFE), (b"OW", 1 << 30), (b"SQ", 1 << 30)] {
        let mut bytes = head(EXPLICIT);
        bytes.extend(element((0x0009, 0x1001), vr, length));
        bytes.resize(501, 0);
        let fault = refuse(bytes);
        assert_eq!(fault.code, "truncated", "{fault}");
        assert!(fault.text.contains(&length.to_string()), "{fault}");
    }
    // An element that is larger than the item around it.
    let mut bytes = head(EXPLICIT);
    let inner = element((0x0009, 0x1001), b"OB", 100);
    bytes.extend(element((0x0040, 0xA730), b"SQ", inner.len() as u32 + 8));
    bytes.extend(item(inner.len() as u32));
    bytes.extend(inner);
    bytes.extend([0u8; 200]);
    assert_eq!(refuse(bytes).code, "value-length");
    // A fragment without an end, and one beyond the end.
    for length in [u32::MAX, 0xFFFF_FFF0] {
        let mut bytes = head("1.2.840.10008.1.2.5");
        bytes.extend(element((0x7FE0, 0x0010), b"OB", u32::MAX));
        bytes.extend(item(0));
        bytes.extend(item(length));
        assert!(["truncated", "bad-structure"].contains(&refuse(bytes).code.as_str()));
    }
    // Numbers that are no whole numbers: a parser would round down and lose its place.
    let mut bytes = head(EXPLICIT);
    bytes.extend([0x28, 0, 0x10, 0, b'U', b'S', 3, 0, 1, 2, 3]);
    assert_eq!(refuse(bytes).code, "value-length");
}

#[test]
fn contradictions_are_refused() {
    let mut twice = head(EXPLICIT);
    twice.extend([0x28, 0, 0x10, 0, b'U', b'S', 2, 0, 1, 0, 0x28, 0, 0x10, 0, b'U', b'S', 2, 0, 2, 0]);
    assert_eq!(refuse(twice).code, "duplicate-element");
    let mut odd = head(EXPLICIT);
    odd.extend([0x28, 0, 0x10, 0, b'?', b'?', 2, 0, 1, 0]);
    assert_eq!(refuse(odd).code, "bad-vr");
    let mut late = head(EXPLICIT);
    late.extend(element((0x7FE0, 0x0010), b"OW", 0));
    late.extend([0x28, 0, 0x10, 0, b'U', b'S', 2, 0, 1, 0]);
    assert_eq!(refuse(late).code, "bad-structure");
    let mut many = head(EXPLICIT);
    many.extend(element((0x0040, 0xA730), b"SQ", u32::MAX));
    for _ in 0..guard::MAX_ELEMENTS {
        many.extend(item(0));
    }
    assert_eq!(refuse(many).code, "too-many-elements");
}

#[test]
fn deflate_bombs_are_refused() {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    let block = vec![0u8; 1 << 20];
    for _ in 0..800 {
        encoder.write_all(&block).unwrap();
    }
    let mut bytes = head(DEFLATED);
    let packed = encoder.finish().unwrap();
    println!("{} bytes inflate to 800 MiB", packed.len());
    bytes.extend(&packed);
    assert_eq!(refuse(bytes.clone()).code, "inflate-limit");
    bytes.truncate(head(DEFLATED).len() + 1000);
    assert_eq!(refuse(bytes).code, "inflate");
}

#[test]
fn claimed_sizes_need_bytes() {
    let root = folder();
    Ct { rows: 65535, ..Ct::default() }.write(root.path(), "a");
    let report = scan(&[root.path().to_owned()], &ScanOptions::default(), &|_| {}).unwrap();
    assert_eq!(report.series[0].faults[0].code, "pixel-length");
    assert_eq!(read_slice(&report.series[0], 0).unwrap_err().code, "pixel-length");
}

/// Every file of a fault-finding set: small, and each of another kind.
fn victims() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let own = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/samples");
    for name in ["jpeg_ls_12_s_near_2", "jpeg_lossless_3", "htj2k_16_s", "jpeg2000_16_s", "native_16_12_s_filled"] {
        out.push(std::fs::read(own.join(format!("{name}.dcm"))).unwrap());
    }
    if let Some(root) = gantry_tests::fixture::shared("data") {
        for path in [
            "transfer-syntaxes/pydicom/CT_small.dcm",
            "transfer-syntaxes/pydicom/MR_small_RLE.dcm",
            "transfer-syntaxes/pydicom/MR_small_implicit.dcm",
            "transfer-syntaxes/pydicom/MR_small_expb.dcm",
            "transfer-syntaxes/pydicom/image_dfl.dcm",
        ] {
            out.push(std::fs::read(root.join(path)).unwrap());
        }
    }
    out
}

/// Everything that is done to a file between finding and decoding.
fn whole_way(bytes: Vec<u8>) -> Result<(), Fault> {
    let Some(outline) = guard::walk(bytes)? else { return Err(Fault::new("not-dicom", "")) };
    let header = header::parse(&outline)?;
    let module = pixel::PixelModule::of(&header)?;
    pixel::decode(&outline, &module, 0).map(|_| ())
}

fn values(bytes: &[u8]) -> Result<Vec<i32>, Fault> {
    let outline = guard::walk(bytes)?.ok_or_else(|| Fault::new("not-dicom", ""))?;
    let module = pixel::PixelModule::of(&header::parse(&outline)?)?;
    pixel::decode(&outline, &module, 0).map(|stored| stored.values)
}

#[test]
fn truncated_files_are_never_slices() {
    for (number, whole) in victims().into_iter().enumerate() {
        for step in 0..50 {
            let length = whole.len() * step / 50;
            assert!(whole_way(whole[..length].to_vec()).is_err(), "file {number} cut at {length} of {}", whole.len());
        }
        // The last bytes may be padding, which is no loss; then the values are still the same.
        let whole_values = values(&whole).unwrap();
        for cut in 1..20 {
            if let Ok(found) = values(&whole[..whole.len() - cut]) {
                assert_eq!(found, whole_values, "file {number} less {cut} bytes");
            }
        }
    }
    // In a scan: nothing usable.
    let whole = &victims()[5..6];
    for whole in whole {
        for step in 1..50 {
            let root = folder();
            std::fs::write(root.path().join("a"), &whole[..whole.len() * step / 50]).unwrap();
            let report = scan(&[root.path().to_owned()], &ScanOptions::default(), &|_| {}).unwrap();
            assert!(report.series.iter().all(|s| s.check(&[]).is_err()), "cut at {step}/50");
            assert_eq!(report.series.len() + report.skipped.len(), 1);
        }
    }
}

#[test]
fn mutated_files_never_panic() {
    // A small generator (xorshift64*), so that a failure can be repeated.
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = |below: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % below.max(1)
    };
    let rounds = std::env::var("GANTRY_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000usize);
    let victims = victims();
    let mut slowest = Duration::ZERO;
    let mut accepted = 0;
    for round in 0..rounds {
        let mut bytes = victims[round % victims.len()].clone();
        for _ in 0..1 + random(4) {
            let at = random(bytes.len());
            match random(5) {
                0 => bytes[at] ^= 1 << random(8),
                1 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF][random(6)],
                2 => bytes.truncate(at.max(1)),
                3 => {
                    let end = (at + random(40)).min(bytes.len());
                    bytes.drain(at..end);
                    if bytes.is_empty() {
                        bytes.push(0);
                    }
                }
                _ => {
                    let end = (at + 4).min(bytes.len());
                    let fill = [0xFF, 0x00, 0x7F][random(3)];
                    bytes[at..end].fill(fill);
                }
            }
        }
        let start = Instant::now();
        let found = std::panic::catch_unwind(|| whole_way(bytes));
        slowest = slowest.max(start.elapsed());
        match found {
            Ok(found) => accepted += usize::from(found.is_ok()),
            Err(_) => panic!("round {round} panicked"),
        }
    }
    println!("{rounds} mutations: {accepted} still decoded, slowest {slowest:?}");
    assert!(slowest < Duration::from_secs(2));
}
