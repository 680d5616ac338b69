//! Pseudonyms that a site gives itself, and the file that says what stands for whom.

mod bench;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bench::Patient;
use dicom_dictionary_std::tags;
use dicom_object::OpenFileOptions;
use gantry_tests::launch::{Ended, end, gantry, run_json, walk};

const CHAIN: &str = "format = 1\nname = \"chain\"\n[nodes.ct]\nstage = \"dicom-read\"\n\
    params = { modality = \"CT\", quantity = \"hu\" }\n[nodes.anonymous]\nstage = \"anonymizer\"\nfrom = \"ct\"\n\
    [nodes.write]\nstage = \"dicom-write\"\nfrom = \"anonymous.series\"\n";

struct Bench {
    root: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let root = tempfile::tempdir().unwrap();
        let input = root.path().join("in");
        Patient { name: "first-4711", z_mm: 0.0, slices: 3, seed: 1 }.write(&input);
        Patient { name: "second-4712", z_mm: 10.0, slices: 3, seed: 2 }.write(&input);
        std::fs::write(root.path().join("p.toml"), CHAIN).unwrap();
        Bench { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn private(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn run(&self, out: &str, more: &[&str]) -> Ended {
        let mut command = gantry();
        command.arg("run").arg(self.path("p.toml")).arg("-i").arg(self.path("in")).arg("-o").arg(self.path(out));
        end(command.arg("--key").arg(bench::key()).args(more))
    }
}

fn patients(out: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk(out, &mut |path| {
        let Ok(file) = OpenFileOptions::new().read_until(tags::PIXEL_DATA).open_file(path) else { return };
        found.insert(file.element(tags::PATIENT_ID).unwrap().to_str().unwrap().into_owned());
    });
    found
}

fn holders(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    walk(folder, &mut |path| {
        let bytes = std::fs::read(path).unwrap();
        if bytes.windows(text.len()).any(|w| w == text.as_bytes()) {
            found.push(path.strip_prefix(folder).unwrap().to_string_lossy().into_owned());
        }
    });
    found
}

#[test]
fn listed_patients_have_the_pseudonyms_of_the_site_and_others_are_quarantined() {
    let bench = Bench::new();
    let list = bench.private("list.csv", "patient_id,pseudonym\nfirst-4711,STUDY-001\n");
    let ended = bench.run("out", &["--pseudonyms", list.to_str().unwrap()]).expect(1);
    assert_eq!(patients(&bench.path("out")), BTreeSet::from(["STUDY-001".to_owned()]), "{}", ended.stderr);
    let json = run_json(&bench.path("out"));
    let codes: Vec<_> = json["cases"].as_array().unwrap().iter().map(|c| (&c["status"], &c["code"])).collect();
    assert!(codes.contains(&(&"quarantined".into(), &"unlisted-patient".into())), "{json}");
    for original in ["first-4711", "second-4712"] {
        assert_eq!(holders(&bench.path("out"), original), Vec::<String>::new());
    }
    // A patient more on the list: another plan, so everything is run again.
    let list = bench.private("list.csv", "patient_id,pseudonym\nfirst-4711,STUDY-001\nsecond-4712,STUDY-002\n");
    bench.run("out", &["--pseudonyms", list.to_str().unwrap()]).expect(0);
    assert_eq!(patients(&bench.path("out")).len(), 2);
    // The site's document names it as well.
    let site = bench.path("site.toml");
    std::fs::write(&site, "[identity]\npseudonyms = \"list.csv\"\n").unwrap();
    let again = bench.run("out", &["--site", site.to_str().unwrap()]).expect(0);
    assert!(again.stdout.contains("2 done before"), "{}", again.stdout);
}

#[test]
fn a_list_with_a_fault_is_refused_with_its_line_and_without_its_values() {
    let bench = Bench::new();
    let list = bench.private("list.csv", "patient_id,pseudonym\nfirst-4711,A\nsecond-4712,A\n");
    let ended = bench.run("out", &["--pseudonyms", list.to_str().unwrap()]).expect(2);
    assert!(ended.stderr.contains("line 3") && !ended.stderr.contains("4712"), "{}", ended.stderr);
    assert!(!bench.path("out").exists());
    std::fs::set_permissions(&list, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ended = bench.run("out", &["--pseudonyms", list.to_str().unwrap()]).expect(2);
    assert!(ended.stderr.contains("chmod 600"), "{}", ended.stderr);
}

#[test]
fn the_mapping_holds_finished_cases_of_every_run_and_no_other_file_does() {
    let bench = Bench::new();
    let map = bench.path("map.csv");
    let asked = ["--mapping", map.to_str().unwrap()];
    bench.run("out", &[&asked[..], &["--limit", "1"]].concat()).expect(0);
    let first = std::fs::read_to_string(&map).unwrap();
    assert_eq!(map.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    bench.run("out", &asked).expect(0);
    let both = std::fs::read_to_string(&map).unwrap();
    for line in first.lines() {
        assert!(both.lines().any(|l| l == line), "a row of the first run is gone");
    }
    let rows: Vec<Vec<&str>> = both.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let patients_mapped: BTreeSet<&str> = rows.iter().filter(|r| r[1] == "patient-id").map(|r| r[2]).collect();
    assert_eq!(patients_mapped, BTreeSet::from(["first-4711", "second-4712"]));
    let given: BTreeSet<String> = rows.iter().filter(|r| r[1] == "patient-id").map(|r| r[3].to_owned()).collect();
    assert_eq!(given, patients(&bench.path("out")));
    assert!(rows.iter().any(|r| r[1] == "uid" && r[2] == "2.25.51"), "the study's UID is mapped");
    assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), rows.len(), "each row once");
    for original in ["first-4711", "second-4712"] {
        assert_eq!(holders(&bench.path("out"), original), Vec::<String>::new(), "{original}");
    }
    // Not asked for: not there. Among the results: refused.
    bench.run("plain", &[]).expect(0);
    assert!(!bench.path("plain/private").exists());
    let among = bench.path("plain/map.csv");
    let ended = bench.run("plain", &["--mapping", among.to_str().unwrap()]).expect(2);
    assert!(ended.stderr.contains("outside the output folder"), "{}", ended.stderr);
    let inside = bench.path("inside/private/map.csv");
    bench.run("inside", &["--mapping", inside.to_str().unwrap()]).expect(0);
    let folder = |out: &str| bench.path(out).canonicalize().unwrap().display().to_string();
    assert_eq!(std::fs::read_to_string(&inside).unwrap(), both.replace(&folder("out"), &folder("inside")));
}

#[test]
fn a_case_that_fails_here_keeps_its_rows_of_elsewhere() {
    let bench = Bench::new();
    let (map, list) =
        (bench.path("map.csv"), bench.private("list.csv", "patient_id,pseudonym\nfirst-4711,STUDY-001\n"));
    let asked = ["--mapping", map.to_str().unwrap()];
    bench.run("out", &asked).expect(0);
    let first = std::fs::read_to_string(&map).unwrap();
    bench.run("other", &[&asked[..], &["--pseudonyms", list.to_str().unwrap()]].concat()).expect(1);
    let both = std::fs::read_to_string(&map).unwrap();
    assert!(first.lines().all(|line| both.lines().any(|l| l == line)), "a row of the first folder is gone");
    let other = bench.path("other").canonicalize().unwrap().display().to_string();
    let here: Vec<&str> = both.lines().filter(|line| line.ends_with(&other)).collect();
    assert!(here.iter().any(|line| line.contains("first-4711,STUDY-001")), "{here:?}");
    assert!(!here.iter().any(|line| line.contains("second-4712")), "{here:?}");
}

#[test]
fn an_option_that_the_site_does_not_permit_is_refused_where_it_stands() {
    let bench = Bench::new();
    let site = bench.path("site.toml");
    std::fs::write(&site, "[policy]\npermitted_options = [\"modified-dates\"]\n").unwrap();
    let text = CHAIN.replace("from = \"ct\"\n", "from = \"ct\"\nparams = { retain = [\"device\"] }\n");
    std::fs::write(bench.path("p.toml"), text).unwrap();
    let check = |site: &Path| {
        let mut command = gantry();
        command.arg("check").arg(bench.path("p.toml")).arg("--site").arg(site);
        end(command.arg("--key").arg(bench::key()))
    };
    let ended = check(&site).expect(2);
    for words in ["option-policy", "`device`", "p.toml:9:21", "site.toml:2:", "the site permits modified-dates"] {
        assert!(
            ended.stderr.contains(words) || ended.stdout.contains(words),
            "{words}: {}{}",
            ended.stderr,
            ended.stdout
        );
    }
    std::fs::write(&site, "[policy]\npermitted_options = [\"modified-dates\", \"device\"]\n").unwrap();
    check(&site).expect(0);
    std::fs::write(&site, "[policy]\npermitted_options = [\"devices\"]\n").unwrap();
    check(&site).expect(2);
}

#[test]
fn a_mapping_never_takes_the_place_of_another_file() {
    let bench = Bench::new();
    let key = bench.path("site.key");
    std::fs::copy(bench::key(), &key).unwrap();
    let note = bench.private("note.txt", "one line of text");
    let (link, hard) = (bench.path("link"), bench.path("hard"));
    std::os::unix::fs::symlink(&key, &link).unwrap();
    std::fs::hard_link(&key, &hard).unwrap();
    let list = bench.private("list.csv", "patient_id,pseudonym\nfirst-4711,STUDY-001\n");
    let script = bench.private("site.script", "set.[0018,0060]KVP=@remove()\n");
    std::fs::set_permissions(bench.path("p.toml"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let held = |path: &Path| std::fs::read(path).unwrap();
    let same = "the mapping cannot be the same file as ";
    for (path, verb, words) in [
        (&key, "deid", format!("{same}the key")),
        (&link, "deid", format!("{same}the key")),
        (&hard, "deid", format!("{same}the key")),
        (&list, "deid", format!("{same}the list of pseudonyms")),
        (&script, "deid", format!("{same}--script")),
        (&bench.path("p.toml"), "run", format!("{same}the pipeline")),
        (&note, "run", "neither an empty file nor a mapping".to_owned()),
    ] {
        let before = held(path);
        let mut command = gantry();
        command.arg(verb).arg("-i").arg(bench.path("in")).arg("-o").arg(bench.path("out"));
        command.arg("--key").arg(&key).arg("--mapping").arg(path);
        match verb {
            "run" => command.arg(bench.path("p.toml")),
            _ => command.arg("--pseudonyms").arg(&list).arg("--script").arg(&script),
        };
        let ended = end(&mut command).expect(2);
        assert!(ended.stderr.contains(&words), "{}: {}", path.display(), ended.stderr);
        assert_eq!(held(path), before, "{}", path.display());
    }
}

#[test]
fn folders_that_share_a_mapping_keep_their_rows() {
    let bench = Bench::new();
    let map = bench.path("map.csv");
    let asked = ["--mapping", map.to_str().unwrap()];
    let rows = |out: &str| {
        let folder = bench.path(out).canonicalize().unwrap().display().to_string();
        let text = std::fs::read_to_string(&map).unwrap();
        text.lines().filter(|line| line.ends_with(&format!(",{folder}"))).map(str::to_owned).collect::<Vec<_>>()
    };
    bench.run("a", &asked).expect(0);
    let all = rows("a").len();
    assert!(all > 6, "UIDs as well: {all}");
    bench.run("b", &asked).expect(0);
    bench.run("c", &asked).expect(0);
    assert_eq!(["a", "b", "c"].map(|out| rows(out).len()), [all; 3]);
    bench.run("a", &[&asked[..], &["--fresh"]].concat()).expect(0);
    assert_eq!(["a", "b", "c"].map(|out| rows(out).len()), [all; 3]);
    // One of the two patients fails in one folder.
    let list = bench.private("list.csv", "patient_id,pseudonym\nfirst-4711,STUDY-001\n");
    bench.run("b", &[&asked[..], &["--pseudonyms", list.to_str().unwrap()]].concat()).expect(1);
    assert_eq!(["a", "c"].map(|out| rows(out).len()), [all; 2]);
    let left = rows("b");
    assert!(left.iter().any(|row| row.contains("first-4711,STUDY-001")) && left.len() > 3, "{left:?}");
    assert!(left.len() < all && !left.iter().any(|row| row.contains("second-4712")), "{left:?}");
}
