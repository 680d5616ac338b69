//! What cases fill in the host's own documents (the journal's records, run.json), apart from the words that the host writes
//! there for every case: only the former can come from a patient, and only they are changed where something is taken out.

use serde_json::Value as Json;

use super::IN_PLACE;
use super::search::{Numbers, Searcher};

/// Members whose values the host writes, of a few words or digests each.
const OF_THE_HOST: [&str; 10] =
    ["digest", "environment", "event", "gantry", "kernels", "outcome", "plan_digest", "run_time", "sha256", "status"];
/// Members that hold texts of stages and of reasons, which nothing depends on.
const TEXTS: [&str; 3] = ["code", "skipped", "text"];

/// The texts that cases filled in, each ended by a zero; nothing of what is no JSON.
pub fn told(bytes: &[u8]) -> Vec<u8> {
    fn collect(value: &Json, out: &mut Vec<u8>) {
        match value {
            Json::String(text) => {
                out.extend(text.as_bytes());
                out.push(0);
            }
            Json::Array(list) => list.iter().for_each(|v| collect(v, out)),
            Json::Object(map) => {
                map.iter().filter(|(key, _)| !OF_THE_HOST.contains(&key.as_str())).for_each(|(_, v)| collect(v, out));
            }
            _ => {}
        }
    }
    let mut out = Vec::new();
    for value in serde_json::Deserializer::from_slice(bytes).into_iter::<Json>().map_while(Result::ok) {
        // Of run.json the cases; the rest was known before any of them.
        collect(value.get("cases").unwrap_or(&value), &mut out);
    }
    out
}

/// A journal without values: texts lose them, and a record that still holds one that tells by itself goes as a whole.
pub fn journal_without(journal: &str, all: &[Searcher], telling: &[Searcher]) -> String {
    let clean = |line: &str| {
        let mut record: Json = serde_json::from_str(line).ok()?;
        wash(&mut record, all, &|key| TEXTS.contains(&key));
        let text = serde_json::to_string(&record).ok()?;
        (!holds(telling, &text)).then_some(text)
    };
    journal.lines().filter_map(clean).fold(String::new(), |all, line| all + &line + "\n")
}

/// A manifest without values: its cases lose them in their texts, and all of it what tells by itself.
pub fn manifest_without(manifest: &str, all: &[Searcher], telling: &[Searcher]) -> String {
    let clean = || {
        let mut value: Json = serde_json::from_str(manifest).ok()?;
        if let Some(cases) = value.get_mut("cases") {
            wash(cases, all, &|key| TEXTS.contains(&key));
        }
        wash(&mut value, telling, &|_| true);
        wash_names(&mut value, telling);
        let text = serde_json::to_string_pretty(&value).ok()?;
        (!holds(telling, &text)).then_some(text)
    };
    clean().unwrap_or_else(|| "{}".to_owned()) + "\n"
}

fn holds(parts: &[Searcher], text: &str) -> bool {
    parts.iter().any(|searcher| searcher.hits(text.as_bytes(), Numbers::No).next().is_some())
}

/// Replaces values in the names of members: nodes have names of their own.
fn wash_names(value: &mut Json, parts: &[Searcher]) {
    match value {
        Json::Array(list) => list.iter_mut().for_each(|v| wash_names(v, parts)),
        Json::Object(map) => {
            for (name, mut value) in std::mem::take(map) {
                wash_names(&mut value, parts);
                map.insert(washed(&name, parts).unwrap_or(name), value);
            }
        }
        _ => {}
    }
}

/// A text without values; `None` where it has none.
fn washed(text: &str, parts: &[Searcher]) -> Option<String> {
    parts.iter().fold(None, |clean: Option<String>, searcher| {
        searcher.redacted(clean.as_deref().unwrap_or(text), Numbers::Long, IN_PLACE).or(clean)
    })
}

/// Replaces values in the strings of those members.
fn wash(value: &mut Json, parts: &[Searcher], member: &dyn Fn(&str) -> bool) {
    match value {
        Json::Array(list) => list.iter_mut().for_each(|v| wash(v, parts, member)),
        Json::Object(map) => {
            for (key, value) in map.iter_mut() {
                match value {
                    Json::String(text) if member(key) => {
                        if let Some(clean) = washed(text, parts) {
                            *text = clean;
                        }
                    }
                    value => wash(value, parts, member),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_writes_for_every_case_is_not_told() {
        let journal =
            br#"{"event": "case-failed", "case": "c-1", "digest": "ab", "failure": {"code": "x", "text": "why \u00e4"}}
            {"event": "run-finished", "complete": true}"#;
        assert_eq!(told(journal), "c-1\0x\0why \u{e4}\0".as_bytes());
        let manifest =
            br#"{"machine": {"cpu": "EPYC"}, "cases": [{"case": "c-1", "outputs": [{"path": "a/b", "sha256": "0"}]}]}"#;
        assert_eq!(told(manifest), b"c-1\0a/b\0");
        assert!(told(b"no JSON").is_empty());
    }
}
