//! [`words`]: what the records of a finished run warn of, in a few plain sentences for the terminal.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Json;

/// As many warnings of a case as are kept in its record; there may have been more.
const KEPT: usize = 1000;

/// Sentences on the finished cases that `run.json` in `output` lists; `text_asked`: whether pixels were searched for text.
pub fn words(output: &Path, text_asked: bool) -> Vec<String> {
    match std::fs::read(output.join("run.json")).map(|bytes| serde_json::from_slice::<Json>(&bytes)) {
        Ok(Ok(manifest)) => Warned::of(&manifest).words(text_asked),
        _ => vec!["run.json cannot be read, so what the cases warn of cannot be told".to_owned()],
    }
}

/// How often finished cases warn of what.
#[derive(Default)]
struct Warned {
    /// Instances left out, by the code of the reason.
    left_out: BTreeMap<String, u64>,
    /// Files whose pixels look like text.
    text_like: u64,
    /// Files whose pixels could not be searched.
    not_searched: u64,
    /// Some case had more warnings than are kept.
    more: bool,
}

impl Warned {
    fn of(manifest: &Json) -> Warned {
        let mut warned = Warned::default();
        let cases = manifest["cases"].as_array().into_iter().flatten();
        for case in cases.filter(|case| case["status"] == "done") {
            let warnings = case["warnings"].as_array().map_or(&[][..], Vec::as_slice);
            warned.more |= warnings.len() >= KEPT;
            for warning in warnings {
                let (code, text) = (warning["code"].as_str(), warning["text"].as_str().unwrap_or_default());
                match (code, left_out(text)) {
                    (Some("text-like-pixels"), _) => warned.text_like += 1,
                    (Some("text-not-looked-for"), _) => warned.not_searched += 1,
                    (Some(code), Some(count)) => *warned.left_out.entry(code.to_owned()).or_default() += count,
                    _ => {}
                }
            }
        }
        warned
    }

    fn words(&self, text_asked: bool) -> Vec<String> {
        let mut said = Vec::new();
        let at_least = if self.more { "at least " } else { "" };
        let left_out: u64 = self.left_out.values().sum();
        if left_out > 0 {
            let were = if left_out == 1 { "instance was" } else { "instances were" };
            let each: Vec<String> = self.left_out.iter().map(|(code, count)| format!("{count} {code}")).collect();
            said.push(format!("{left_out} {were} left out ({}); see run.json", each.join(", ")));
        }
        let files = |count: u64| if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
        match self.text_like {
            0 if text_asked => said.push("pixels that look like text were seen in no file".to_owned()),
            0 => {}
            n => said.push(format!("pixels that look like text were seen in {at_least}{}; see run.json", files(n))),
        }
        if self.not_searched > 0 {
            let n = files(self.not_searched);
            said.push(format!("the pixels of {at_least}{n} could not be searched for text; see run.json"));
        }
        said
    }
}

/// The count in `3 of 8 instances left out`.
fn left_out(text: &str) -> Option<u64> {
    let (count, rest) = text.split_once(" of ")?;
    rest.ends_with(" instances left out").then(|| count.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn warnings_of_finished_cases_are_counted_by_their_code() {
        let warning = |code: &str, text: &str| json!({ "node": "n", "code": code, "text": text });
        let looks = warning("text-like-pixels", "#4: pixels look like text at x 1 y 1, 9 x 9");
        let manifest = json!({ "cases": [
            { "status": "done", "warnings": [
                warning("burned-in-annotation", "2 of 8 instances left out"),
                warning("unsupported-class", "1 of 8 instances left out"),
                looks,
                warning("text-not-looked-for", "#5: the pixels could not be looked at: x"),
            ] },
            { "status": "done", "warnings": [warning("burned-in-annotation", "1 of 3 instances left out"), looks] },
            { "status": "failed", "warnings": [warning("burned-in-annotation", "9 of 9 instances left out"), looks] },
            { "status": "done", "outputs": [] },
        ] });
        let expected = [
            "4 instances were left out (3 burned-in-annotation, 1 unsupported-class); see run.json",
            "pixels that look like text were seen in 2 files; see run.json",
            "the pixels of 1 file could not be searched for text; see run.json",
        ];
        assert_eq!(Warned::of(&manifest).words(true), expected);
        let nothing = Warned::of(&json!({ "cases": [] }));
        assert!(nothing.words(false).is_empty());
        assert_eq!(nothing.words(true), ["pixels that look like text were seen in no file"]);
        let many = json!({ "cases": [{ "status": "done", "warnings": vec![looks; KEPT] }] });
        assert_eq!(
            Warned::of(&many).words(true),
            ["pixels that look like text were seen in at least 1000 files; see run.json"]
        );
    }
}
