//! `gantry verify OUT`: hashes every result of a finished run again and compares it with `run.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use clap::Args;
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::reply::Reply;

/// Arguments of `gantry verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// Output folder of a run
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// The part of `run.json` that is verified.
#[derive(Debug, Deserialize)]
struct Manifest {
    format: u32,
    cases: Vec<Case>,
    complete: bool,
}

#[derive(Debug, Deserialize)]
struct Case {
    case: String,
    status: String,
    #[serde(default)]
    outputs: Vec<Output>,
}

#[derive(Debug, Deserialize)]
struct Output {
    path: String,
    sha256: String,
}

/// What was found. Paths are relative to the output folder, with `/`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    /// Files that were hashed.
    files: usize,
    /// In the manifest, not in the folder.
    missing: BTreeSet<String>,
    /// Other bytes than the manifest says.
    changed: BTreeSet<String>,
    /// In the folder of a case, not in the manifest.
    extra: BTreeSet<String>,
    /// There, but the system does not let them be read.
    unreadable: BTreeMap<String, String>,
    /// Folders beside the run's cases, of which the manifest says nothing: an earlier run's.
    other: BTreeSet<String>,
}

impl Findings {
    fn same(&self) -> bool {
        self.missing.is_empty() && self.changed.is_empty() && self.extra.is_empty()
    }
}

/// What a run keeps beside its cases.
const OWN: [&str; 5] = ["run.json", "journal.jsonl", "private", ".staging", "report"];

/// Runs the verb. Exit code 0: every file is what the run wrote; 4: some are not, or `run.json` is malformed; 1: nothing
/// differs, but the run is not complete; 2: there is no run; 3: something cannot be read.
pub fn run(args: &VerifyArgs) -> Reply {
    let path = args.output.join("run.json");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let why = format!(
                "{}: there is no run.json: this is no output folder of a run that came to its end",
                args.output.display()
            );
            return Reply::refuse(2, why);
        }
        Err(e) => return Reply::refuse(3, format!("{}: {e}", path.display())),
    };
    let manifest = match read(&text) {
        Ok(manifest) => manifest,
        Err(why) => return Reply::refuse(4, format!("{}: {why}", path.display())),
    };
    let findings = compare(&args.output, &manifest);
    let code = match &findings {
        f if !f.unreadable.is_empty() => 3,
        f if !f.same() => 4,
        _ if !manifest.complete => 1,
        _ => 0,
    };
    let stdout = if args.json { json(&findings, &manifest, code) } else { words(&findings, &manifest, args) };
    Reply { stdout, stderr: String::new(), code }
}

/// Reads the manifest. A path in it that leads out of the folder of its case is refused: the file may have been changed.
fn read(text: &str) -> Result<Manifest, String> {
    let manifest: Manifest = serde_json::from_str(text).map_err(|e| format!("is no manifest of a run: {e}"))?;
    if manifest.format != 1 {
        return Err(format!("this version of Gantry reads `format` 1, found {}", manifest.format));
    }
    for case in &manifest.cases {
        let inside = |path: &str| {
            let mut parts = Path::new(path).components();
            let first = parts.next().is_some_and(|c| c.as_os_str() == case.case.as_str());
            let rest: Vec<Component> = parts.collect();
            first && !rest.is_empty() && rest.iter().all(|c| matches!(c, Component::Normal(_)))
        };
        let name: Vec<Component> = Path::new(&case.case).components().collect();
        if !matches!(name.as_slice(), [Component::Normal(_)]) || OWN.contains(&case.case.as_str()) {
            return Err(format!("`{}` cannot be the name of a case", case.case));
        }
        if let Some(wrong) = case.outputs.iter().find(|o| !inside(&o.path)) {
            return Err(format!("`{}` is not below the folder of case `{}`", wrong.path, case.case));
        }
    }
    Ok(manifest)
}

fn compare(folder: &Path, manifest: &Manifest) -> Findings {
    let outputs: Vec<&Output> = manifest.cases.iter().flat_map(|c| &c.outputs).collect();
    let hashed: Vec<(&Output, std::io::Result<Option<String>>)> =
        outputs.par_iter().map(|o| (*o, hash(&folder.join(&o.path)))).collect();
    let mut findings = Findings::default();
    for (output, result) in hashed {
        match result {
            Ok(Some(sha256)) => {
                findings.files += 1;
                if sha256 != output.sha256 {
                    findings.changed.insert(output.path.clone());
                }
            }
            Ok(None) => {
                findings.missing.insert(output.path.clone());
            }
            Err(e) => {
                findings.unreadable.insert(output.path.clone(), e.kind().to_string());
            }
        }
    }
    let known: BTreeSet<&str> = outputs.iter().map(|o| o.path.as_str()).collect();
    for case in &manifest.cases {
        for entry in walkdir::WalkDir::new(folder.join(&case.case)).min_depth(1) {
            let entry = match entry {
                Ok(entry) => entry,
                // The folder of a case that failed is not there, and the files of one that is gone are missing already.
                Err(e) if e.io_error().is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound) => continue,
                Err(e) => {
                    let why = e.io_error().map_or_else(|| "a loop of links".to_owned(), |e| e.kind().to_string());
                    let at = e.path().unwrap_or(folder);
                    findings.unreadable.insert(relative(at, folder), why);
                    continue;
                }
            };
            let path = relative(entry.path(), folder);
            if !entry.file_type().is_dir() && !known.contains(path.as_str()) {
                findings.extra.insert(path);
            }
        }
    }
    let cases: BTreeSet<&str> = manifest.cases.iter().map(|c| c.case.as_str()).collect();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !OWN.contains(&name.as_str()) && !cases.contains(name.as_str()) {
            findings.other.insert(name);
        }
    }
    findings
}

fn relative(path: &Path, folder: &Path) -> String {
    path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned()
}

/// The sha256 of an ordinary file; `None` where there is none. A link does not count as the file that was written.
fn hash(path: &Path) -> std::io::Result<Option<String>> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Ok(None),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(e),
    }
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Some(hex::encode(hash.finalize()))),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn counts(manifest: &Manifest) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for case in &manifest.cases {
        *counts.entry(case.status.as_str()).or_default() += 1;
    }
    counts
}

fn json(findings: &Findings, manifest: &Manifest, code: u8) -> String {
    let Findings { files, missing, changed, extra, unreadable, other } = findings;
    let out = json!({
        "ok": code == 0, "complete": manifest.complete, "cases": counts(manifest), "files": files, "missing": missing,
        "changed": changed, "extra": extra, "unreadable": unreadable, "other": other,
    });
    format!("{out:#}\n")
}

fn words(findings: &Findings, manifest: &Manifest, args: &VerifyArgs) -> String {
    let mut lines = Vec::new();
    for (word, paths) in [("missing", &findings.missing), ("changed", &findings.changed), ("extra", &findings.extra)] {
        lines.extend(paths.iter().map(|path| format!("{word}: {path}")));
    }
    lines.extend(findings.unreadable.iter().map(|(path, why)| format!("unreadable: {path}: {why}")));
    lines.extend(findings.other.iter().map(|name| format!("not of this run: {name}")));
    if !manifest.complete {
        lines.push("the run is not complete; the command that started it resumes it".to_owned());
    }
    let cases: Vec<String> = counts(manifest).iter().map(|(status, n)| format!("{n} {status}")).collect();
    let cases = if cases.is_empty() { "no cases".to_owned() } else { cases.join(", ") };
    let verdict = if findings.same() && findings.unreadable.is_empty() { "as written" } else { "not as written" };
    lines.push(format!("{}: {} files {verdict}; cases: {cases}", args.output.display(), findings.files));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha256(bytes: &[u8]) -> String {
        hex::encode(Sha256::digest(bytes))
    }

    fn finished(complete: bool) -> tempfile::TempDir {
        let out = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(out.path().join("c-1/write")).unwrap();
        std::fs::write(out.path().join("c-1/write/0001.dcm"), b"one").unwrap();
        std::fs::write(out.path().join("c-1/write/0002.dcm"), b"two").unwrap();
        let outputs = json!([
            { "path": "c-1/write/0001.dcm", "sha256": sha256(b"one"), "bytes": 3 },
            { "path": "c-1/write/0002.dcm", "sha256": sha256(b"two"), "bytes": 3 },
        ]);
        let cases = json!([
            { "case": "c-1", "inputs": [1], "status": "done", "outputs": outputs },
            { "case": "c-2", "inputs": [2], "status": "quarantined", "code": "series-gap", "outputs": [] },
        ]);
        let text = json!({ "format": 1, "cases": cases, "complete": complete }).to_string();
        std::fs::write(out.path().join("run.json"), text).unwrap();
        out
    }

    fn verify(out: &Path) -> (u8, serde_json::Value) {
        let reply = run(&VerifyArgs { output: out.to_owned(), json: true });
        (reply.code, serde_json::from_str(&reply.stdout).unwrap_or_default())
    }

    #[test]
    fn a_finished_run_is_as_it_was_written() {
        let out = finished(true);
        let (code, found) = verify(out.path());
        assert_eq!((code, &found["files"], &found["ok"]), (0, &json!(2), &json!(true)), "{found}");
        assert_eq!(found["cases"], json!({ "done": 1, "quarantined": 1 }));
        let (code, found) = verify(finished(false).path());
        assert_eq!((code, &found["complete"]), (1, &json!(false)), "{found}");
    }

    #[test]
    fn every_kind_of_difference_is_named() {
        let out = finished(true);
        let case = out.path().join("c-1/write");
        std::fs::remove_file(case.join("0001.dcm")).unwrap();
        std::fs::write(case.join("0002.dcm"), b"twO").unwrap();
        std::fs::write(case.join("0003.dcm"), b"three").unwrap();
        std::fs::create_dir_all(out.path().join("c-2")).unwrap();
        std::fs::write(out.path().join("c-2/late.dcm"), b"late").unwrap();
        std::fs::create_dir_all(out.path().join("c-0")).unwrap();
        let (code, found) = verify(out.path());
        assert_eq!(code, 4, "{found}");
        assert_eq!(found["missing"], json!(["c-1/write/0001.dcm"]));
        assert_eq!(found["changed"], json!(["c-1/write/0002.dcm"]));
        assert_eq!(found["extra"], json!(["c-1/write/0003.dcm", "c-2/late.dcm"]));
        assert_eq!(found["other"], json!(["c-0"]));
        let reply = run(&VerifyArgs { output: out.path().to_owned(), json: false });
        assert!(reply.stdout.contains("changed: c-1/write/0002.dcm") && reply.stdout.contains("not as written"));
    }

    #[test]
    fn a_link_in_place_of_a_file_is_no_result() {
        let out = finished(true);
        let file = out.path().join("c-1/write/0001.dcm");
        std::fs::rename(&file, out.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(out.path().join("elsewhere"), &file).unwrap();
        let (code, found) = verify(out.path());
        assert_eq!((code, &found["missing"]), (4, &json!(["c-1/write/0001.dcm"])), "{found}");
    }

    #[test]
    fn a_manifest_that_points_elsewhere_is_refused() {
        let out = tempfile::tempdir().unwrap();
        assert_eq!(verify(out.path()).0, 2);
        for (case, path) in [
            ("c-1", "c-1/../../etc/passwd"),
            ("c-1", "/etc/passwd"),
            ("c-1", "c-2/a"),
            ("..", "../a"),
            ("private", "private/index.jsonl"),
        ] {
            let outputs = json!([{ "path": path, "sha256": "" }]);
            let cases = json!([{ "case": case, "status": "done", "outputs": outputs }]);
            let text = json!({ "format": 1, "cases": cases, "complete": true }).to_string();
            std::fs::write(out.path().join("run.json"), text).unwrap();
            assert_eq!(verify(out.path()).0, 4, "{case} {path}");
        }
        std::fs::write(out.path().join("run.json"), "{").unwrap();
        assert_eq!(verify(out.path()).0, 4);
    }
}
