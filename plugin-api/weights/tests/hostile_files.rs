//! Files made to do harm, and files that were damaged: an error each time, never a panic, a side effect or much memory.

mod torch_file;

use gantry_weights::{Error, StateDict, WeightFile};
use torch_file::{PickleWriter, torch_file, trainer_file};

fn read(pickle: Vec<u8>) -> gantry_weights::Result<StateDict> {
    StateDict::from_bytes(torch_file(&pickle, &[("0", &[0; 48])]), None)
}

fn damaged(pickle: Vec<u8>) -> String {
    match read(pickle) {
        Err(Error::Malformed(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pickle_that_would_run_a_program_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let canary = folder.path().join("canary");
    let command = format!("touch {}", canary.display());
    let body = |p: PickleWriter| p.text(&command).op(&[0x85, b'R']).stop();
    let names = [("posix", "system"), ("os", "system"), ("builtins", "eval"), ("torch.serialization", "load")];
    for (module, name) in names {
        let plain = body(PickleWriter::new().global(module, name));
        let stack = body(PickleWriter::new().text(module).text(name).op(&[0x93]));
        let inside = PickleWriter::new().op(b"}").text("w").global(module, name).text(&command).op(b"\x85Rs").stop();
        let textual = format!("c{module}\n{name}\n(S'{command}'\ntR.").into_bytes();
        let instance = format!("(S'{command}'\ni{module}\n{name}\n.").into_bytes();
        for (pickle, zipped) in
            [(&plain, true), (&stack, true), (&inside, true), (&plain, false), (&stack, false), (&textual, false)]
        {
            let file = if zipped { torch_file(pickle, &[]) } else { pickle.clone() };
            match StateDict::from_bytes(file, None) {
                Err(Error::ForbiddenGlobal { name: found, .. }) => assert_eq!(found, format!("{module}.{name}")),
                other => panic!("{other:?}"),
            }
        }
        assert!(read(instance).is_err());
    }
    let path = folder.path().join("w.pth");
    std::fs::write(&path, body(PickleWriter::new().global("posix", "system"))).unwrap();
    let error = StateDict::load(&path, None).unwrap_err().to_string();
    assert!(error.contains("refused: the pickle asks for `posix.system`"), "{error}");
    assert!(error.contains("nothing was executed"), "{error}");
    assert!(!canary.exists());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "only the pickle itself");
}

#[test]
fn extension_numbers_and_storage_classes_are_refused() {
    assert!(matches!(read(PickleWriter::new().op(&[0x82, 1]).stop()), Err(Error::ForbiddenGlobal { .. })));
    let complex = PickleWriter::new().op(b"}").text("w").tensor("ComplexFloatStorage", "0", 1, 0, &[], &[]).op(b"s");
    match read(complex.stop()) {
        Err(Error::ForbiddenGlobal { name, .. }) => assert_eq!(name, "torch.ComplexFloatStorage"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn announced_lengths_are_compared_with_what_is_there() {
    let huge = (1u64 << 40).to_le_bytes();
    for opcode in [0x8e, 0x8d, 0x96] {
        let text = damaged(PickleWriter::new().op(&[opcode]).op(&huge).stop());
        assert!(text.contains("1099511627776 bytes are announced, 1 are left"), "{text}");
    }
    for opcode in [b'X', b'B', b'T', 0x8b] {
        let text = damaged(PickleWriter::new().op(&[opcode]).op(&u32::MAX.to_le_bytes()).stop());
        assert!(text.contains("4294967295 bytes are announced"), "{text}");
    }
    assert!(damaged(PickleWriter::new().op(&[0x8e]).op(&[0xff; 8]).stop()).contains("are announced"));
}

#[test]
fn nesting_cycles_and_references_are_harmless() {
    // A million tuples inside each other: no recursion anywhere.
    let deep = PickleWriter::new().op(b"N").op(&vec![0x85; 1_000_000]).stop();
    assert!(matches!(read(deep), Err(Error::Unsupported(_))));
    // A dictionary inside itself, twice.
    let cycle = PickleWriter::new().op(b"}q\x00(").text("a").op(b"h\x00").text("b").op(b"h\x00").op(b"u").stop();
    assert!(matches!(read(cycle), Err(Error::Part { .. } | Error::Malformed(_))));
    // 2^40 leaves by sharing.
    let mut doubling = PickleWriter::new().op(b"}q\x00");
    for i in 0..40u8 {
        doubling = doubling.op(b"0}q").op(&[i + 1]).op(b"(").text("a").op(&[b'h', i]).text("b").op(&[b'h', i]).op(b"u");
    }
    assert!(damaged(doubling.stop()).contains("dictionaries inside each other"));
    // More values than a checkpoint has.
    assert!(damaged(PickleWriter::new().op(&vec![b'N'; 2_000_001]).stop()).contains("more than 2000000 values"));
    let references = PickleWriter::new().op(b"Nq\x00").op(&b"h\x00".repeat(8_000_001)).stop();
    assert!(damaged(references).contains("references"));
    // Copies of copies.
    let mut copies = PickleWriter::new().op(b"(").op(&vec![b'N'; 100_000]).op(b"tq\x00");
    for _ in 0..100 {
        copies = copies.op(b"0").global("torch", "Size").op(b"h\x00\x85R");
    }
    assert!(damaged(copies.stop()).contains("references"));
}

#[test]
fn a_small_file_cannot_become_large() {
    // One storage of 1 MiB, a hundred tensors of it.
    let n = 1 << 18;
    let mut pickle = PickleWriter::new().op(b"}(");
    for i in 0..100 {
        pickle = pickle.text(&format!("w{i}")).tensor("FloatStorage", "0", n, 0, &[n], &[1]);
    }
    let file = torch_file(&pickle.op(b"u").stop(), &[("0", &vec![0; 4 * n as usize])]);
    let error = StateDict::from_bytes(file, None).unwrap_err().to_string();
    assert!(error.contains("more than 8 times the file's"), "{error}");
    // A storage's name is not a place to keep megabytes.
    let name = "9".repeat(1 << 20);
    let long = PickleWriter::new().op(b"}").text("w").tensor("FloatStorage", &name, 1, 0, &[], &[]).op(b"s").stop();
    assert!(damaged(long).contains("name has 1048576 bytes"));
}

#[test]
fn malformed_stacks_are_refused() {
    for ops in [
        &b"."[..],
        b"0.",
        b"1.",
        b"2.",
        b"t.",
        b"(t",
        b"R.",
        b"NNR.",
        b"b.",
        b"Nb.",
        b"}(NNb.",
        b"a.",
        b"]a.",
        b"NNa.",
        b"s.",
        b"}(Nu.",
        b"NNNs.",
        b"Q.",
        b"NQ.",
        b")Q.",
        b"h\x05.",
        b"q\x05.",
        b"(N0(.",
        b"\x93.",
        b"NN\x93.",
        b"\x90.",
        b"(\x90.",
        b"\xff.",
        b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"ctorch._utils\n_rebuild_parameter\n)R.",
        b"ctorch\nSize\n)R.",
        b"ctorch\nFloatStorage\n)R.",
        b"ccollections\nOrderedDict\n]K\x01a\x85R.",
        b"ccollections\nOrderedDict",
        b"(K\x01",
    ] {
        damaged([&[0x80, 2][..], ops].concat());
    }
    assert!(damaged(b"\x80\x09.".to_vec()).contains("protocol 9"));
}

#[test]
fn every_cut_is_an_error() {
    let (file, pickle) = trainer_file();
    for end in 0..file.len() {
        let cut = WeightFile::from_bytes(file[..end].to_vec()).and_then(|f| f.load(Some("nets.G")));
        assert!(cut.is_err(), "cut at {end} of {}", file.len());
    }
    for end in 0..pickle.len() {
        assert!(read(pickle[..end].to_vec()).is_err(), "pickle cut at {end}");
    }
}

#[test]
fn a_flipped_bit_in_the_elements_is_noticed() {
    let (file, _) = trainer_file();
    let seven = 7.0f32.to_le_bytes();
    let at = file.windows(4).position(|w| w == seven).unwrap();
    let mut flipped = file.clone();
    flipped[at + 2] ^= 1;
    let error = StateDict::from_bytes(flipped, Some("nets.G")).unwrap_err().to_string();
    assert!(error.contains("entry data/0") && error.to_lowercase().contains("checksum"), "{error}");
}

/// splitmix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn mutate(bytes: &[u8], state: &mut u64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random(state) % 4 {
        let at = random(state) as usize % bytes.len();
        match random(state) % 5 {
            0 => bytes[at] = random(state) as u8,
            1 => bytes[at] ^= 1 << (random(state) % 8),
            2 => drop(bytes.remove(at)),
            3 => bytes.insert(at, random(state) as u8),
            _ => {
                let end = (at + random(state) as usize % 32).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = random(state) as usize % bytes.len();
                bytes.splice(to..to, piece);
            }
        }
    }
    bytes
}

#[test]
fn damaged_pickles_and_archives_never_panic() {
    let (file, pickle) = trainer_file();
    let (mut state, mut refused) = (20_260_131, 0);
    for _ in 0..6000 {
        refused += usize::from(read(mutate(&pickle, &mut state)).is_err());
        for part in [None, Some("nets.G")] {
            let result = WeightFile::from_bytes(mutate(&file, &mut state)).and_then(|f| f.load(part));
            refused += usize::from(result.is_err());
        }
    }
    println!("{refused} of 18000 damaged files refused; the others still hold well-formed tensors");
    assert!(refused > 12_000, "{refused}");
}

#[test]
fn damaged_safetensors_never_panic() {
    let mut dict = StateDict::new();
    for (key, n) in [("a", 3), ("b", 5)] {
        dict.insert(key, gantry_weights::Tensor::from_f32(vec![n], &vec![1.5; n]).unwrap()).unwrap();
    }
    let file = gantry_weights::to_safetensors(&dict).unwrap();
    for end in 0..file.len() {
        assert!(StateDict::from_bytes(file[..end].to_vec(), None).is_err(), "cut at {end}");
    }
    let mut state = 7;
    for _ in 0..4000 {
        let _ = StateDict::from_bytes(mutate(&file, &mut state), None);
    }
    let mut long = file.clone();
    long[..8].copy_from_slice(&(1u64 << 40).to_le_bytes());
    assert!(StateDict::from_bytes(long, None).is_err());
}
