//! De-identifies single DICOM files for measuring: `deidentify_file KEY_TEXT [--retain=A,B] [--clean=C,D] IN OUT [IN OUT ...]`.
//!
//! All files count as one patient's study. Pixels are set aside and put back, and a fresh file (new preamble and file
//! meta) is written, as the host does. Pseudonyms come from a SHA-256 over KEY_TEXT and the value: good enough to
//! measure, never for real data. `--repeat=N` cleans N times, to see what one object costs.

use anonymizer::case::{Refused, deidentify_instances};
use anonymizer::options::Options;
use anonymizer::rules::Rules;
use anonymizer::{dataset, profile::Profile};
use dicom_object::{FileMetaTableBuilder, open_file};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

type Failure = Box<dyn std::error::Error>;

fn pseudonyms(key: &str, request: &str) -> Result<String, Failure> {
    let request: Value = serde_json::from_str(request)?;
    let number = |text: &str| {
        let digest = Sha256::digest(format!("{key}\n{text}"));
        digest.iter().take(16).fold(0u128, |n, b| (n << 8) | u128::from(*b))
    };
    let list = |name: &str| request[name].as_array().cloned().unwrap_or_default();
    let uids: Vec<_> = list("uids").iter().map(|u| format!("2.25.{}", number(&u.to_string()))).collect();
    let ids: Vec<_> = list("ids").iter().map(|i| format!("G{:015X}", number(&i.to_string()) >> 68)).collect();
    let days: Vec<_> = list("date_offsets").iter().map(|p| -1 - (number(&p.to_string()) % 3652) as i64).collect();
    Ok(json!({"uids": uids, "ids": ids, "date_offset_days": days}).to_string())
}

fn main() -> Result<(), Failure> {
    let (flags, plain): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|a| a.starts_with("--"));
    let Some((key, files)) = plain.split_first() else { return Err("KEY_TEXT IN OUT [IN OUT ...]".into()) };
    let flag = |name: &str| -> Vec<String> {
        let values = flags.iter().filter_map(|f| f.strip_prefix(name));
        values.flat_map(|v| v.split(',')).map(str::to_owned).collect()
    };
    let options = Options::named(&flag("--retain="), &flag("--clean="))?;
    let profile = Profile::with(options, Rules::default(), vec![])?;
    let repeat: usize = flag("--repeat=").first().map_or(Ok(1), |n| n.parse())?;
    let (mut headers, mut pixels, mut syntaxes) = (vec![], vec![], vec![]);
    for pair in files.chunks_exact(2) {
        let file = open_file(&pair[0])?;
        syntaxes.push(file.meta().transfer_syntax().to_owned());
        let mut object = file.into_inner();
        let group: Vec<_> = object.tags().filter(|tag| tag.group() == 0x7fe0).collect();
        pixels.push(group.into_iter().filter_map(|tag| object.take(tag)).collect::<Vec<_>>());
        headers.push(dataset::write(&object)?);
    }
    let instances: Vec<&[u8]> = headers.iter().map(Vec::as_slice).collect();
    let mut clean = None;
    let started = std::time::Instant::now();
    for _ in 0..repeat.max(1) {
        let service = |request: &str| pseudonyms(key, request);
        clean = Some(
            deidentify_instances(&instances, &profile, Refused::Case, service, |_, _| true)
                .map_err(|e| format!("{e:?}"))?,
        );
    }
    let each = started.elapsed() / (repeat.max(1) * instances.len().max(1)) as u32;
    eprintln!("{} objects, {each:?} each", instances.len());
    let Some(clean) = clean else { return Err("nothing to do".into()) };
    let instances = clean.instances.into_iter().flatten();
    for (((pair, instance), pixels), syntax) in files.chunks_exact(2).zip(instances).zip(pixels).zip(syntaxes) {
        let mut object = dataset::read(&instance.bytes)?;
        pixels.into_iter().for_each(|element| drop(object.put(element)));
        object.with_meta(FileMetaTableBuilder::new().transfer_syntax(syntax))?.write_to_file(&pair[1])?;
    }
    println!("{}", clean.audit.to_json(&profile));
    Ok(())
}
