//! A case that failed: why, what stages warned of and what was logged are searched for the case's own values before any of it
//! leaves the worker.

use std::collections::BTreeSet;

use super::search::{Numbers, Searcher};
use super::withheld::Withheld;
use super::{IN_PLACE, LEAK, leak};
use crate::engine::failure::{Failure, Outcome};
use crate::engine::node::Warning;

/// Searches what a failed case says of itself. Where one of its values stands, the failure becomes `identity-leak` without it
/// (an interruption and an error of the environment stay what they are), and warnings lose it. Also all values that were found.
pub fn failed(failure: Failure, warnings: &mut [Warning], log: &[u8], withheld: &mut Withheld) -> (Failure, Withheld) {
    withheld.forget_names(&BTreeSet::from([failure.code.clone()]));
    let (mut found, mut first) = (BTreeSet::new(), None);
    let mut clean = failure.clone();
    for searcher in Searcher::parts(withheld.values()) {
        let mut look = |what: &str, bytes: &[u8]| {
            for hit in searcher.hits(bytes, Numbers::Long) {
                found.insert(hit.value);
                first.get_or_insert_with(|| leak(what, withheld, &hit).failure);
            }
        };
        let mut wash = |what: &str, text: &mut String| {
            look(what, text.as_bytes());
            if let Some(clean) = searcher.redacted(text, Numbers::Long, IN_PLACE) {
                *text = clean;
            }
        };
        wash("the reason for which the case failed", &mut clean.text);
        wash("the reason for which the case failed", &mut clean.code);
        if let Some(node) = &mut clean.node {
            wash("the reason for which the case failed", node);
        }
        for warning in warnings.iter_mut() {
            for text in [&mut warning.text, &mut warning.code, &mut warning.node] {
                wash("a warning of the case, which failed,", text);
            }
        }
        look("the log", log);
    }
    let values = found.into_iter().map(|index| withheld.only(index));
    let values = values.fold(Withheld::default(), |mut all, value| {
        all.join(value);
        all
    });
    let stays = clean.environment || clean.outcome == Outcome::Cancelled || clean.code == LEAK;
    match first {
        Some(leak) if !stays => (Failure { node: clean.node, ..*leak }, values),
        _ => (clean, values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::self_audit::Public;
    use crate::series::identifying::{Class, Differences, Gone};

    fn withheld() -> Withheld {
        let mut differences = Differences::default();
        for (text, element) in [("Canary471112", 0x20), ("Other^Person", 0x10)] {
            let gone = Gone { raw: text.as_bytes().to_vec(), text: None, class: Class::Identifier };
            differences.gone.insert(gone, dicom_core::Tag(0x0010, element));
        }
        let noon: jiff::Timestamp = "2026-03-01T12:30:15Z".parse().unwrap();
        Withheld::of(&differences, &BTreeSet::new(), &Public::new("", noon, noon))
    }

    fn warning(text: &str) -> Warning {
        Warning { node: "n".to_owned(), code: "said".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_failure_a_warning_or_a_log_with_a_value_is_a_leak_without_it() {
        let refused = |text: &str| Failure::quarantine("bad-input", text).at("n");
        let (failure, values) =
            failed(refused("no axis"), &mut [warning("thick slices")], b"read 3 files", &mut withheld());
        assert_eq!((failure, values.values().len()), (refused("no axis"), 0));
        for (text, warned, log) in [
            ("see Canary471112", "", ""),
            ("", "see Canary471112", ""),
            ("", "", "see canary471112"),
            ("", "43616e617279343731313132", ""),
        ] {
            let mut warnings = [warning(warned), warning("thick slices")];
            let (failure, values) = failed(refused(text), &mut warnings, log.as_bytes(), &mut withheld());
            assert_eq!((failure.code.as_str(), failure.node.as_deref()), (LEAK, Some("n")));
            assert!(failure.text.contains("(0010,0020)") && !failure.text.contains("anary4"), "{failure}");
            assert!(warnings[0].text.is_empty() || warnings[0].text.contains(IN_PLACE), "{}", warnings[0].text);
            assert_eq!(warnings[1], warning("thick slices"));
            assert_eq!(values.values().len(), 1);
        }
        let both = failed(refused("Canary471112"), &mut [warning("of Other^Person")], b"", &mut withheld()).1;
        assert_eq!(both.values().len(), 2);
    }

    #[test]
    fn an_interruption_stays_one_and_says_nothing_either() {
        let failure = Failure { outcome: Outcome::Cancelled, ..Failure::host("cancelled", "at Canary471112") };
        let (failure, values) = failed(failure, &mut [], b"", &mut withheld());
        assert_eq!((failure.outcome, failure.code.as_str()), (Outcome::Cancelled, "cancelled"));
        assert_eq!((failure.text.as_str(), values.values().len()), ("at (withheld)", 1));
    }
}
