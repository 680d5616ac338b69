//! Derived UIDs: the same inputs, plan and key give the same UID, anything else gives another one.
//!
//! A UID is `2.25.` followed by the first 128 bits of a hash as a decimal number (PS3.5 B.2 allows any 128-bit number
//! there, without leading zeros): 6 to 44 characters. The hash runs over length-prefixed fields, so that no two
//! different lists of fields give the same bytes.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Leads every hashed message: other uses of the same key cannot collide with UIDs.
const DOMAIN: &[u8] = b"gantry.derived-uid/1";

/// Makes the UIDs of one output series group: one case, one plan, one sink node.
///
/// With a key (a pipeline that de-identifies) the hash is HMAC-SHA-256 and nobody without the key can link a new UID
/// to an old one; without a key it is SHA-256.
#[derive(Clone)]
pub struct UidMaker {
    key: Option<[u8; 32]>,
    plan_digest: String,
    case_inputs_digest: String,
    sink: String,
}

impl std::fmt::Debug for UidMaker {
    /// Shows nothing of the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UidMaker").field("keyed", &self.key.is_some()).field("sink", &self.sink).finish_non_exhaustive()
    }
}

impl UidMaker {
    /// `plan_digest` covers the pipeline with plugins, weights and arithmetic; `case_inputs_digest` covers every input
    /// of the case; `sink` is the id of the node that writes. `key` is the pseudonym key where the pipeline
    /// de-identifies, else `None`.
    pub fn new(key: Option<&[u8; 32]>, plan_digest: &str, case_inputs_digest: &str, sink: &str) -> Self {
        Self {
            key: key.copied(),
            plan_digest: plan_digest.to_owned(),
            case_inputs_digest: case_inputs_digest.to_owned(),
            sink: sink.to_owned(),
        }
    }

    /// SOP Instance UID for the slice with index `slice` (counted from 0) whose header arrived with the SOP Instance
    /// UID `arriving`. The index keeps slices apart that arrive with an empty or repeated UID.
    pub fn instance(&self, arriving: &str, slice: usize) -> String {
        self.make("instance", arriving, slice)
    }

    /// Series Instance UID for the series that arrived with the Series Instance UID `arriving` (may be empty).
    pub fn series(&self, arriving: &str) -> String {
        self.make("series", arriving, 0)
    }

    /// Dimension Organization UID of the segmentation of the series that arrived with `arriving`.
    pub fn dimension_organization(&self, arriving: &str) -> String {
        self.make("dimension-organization", arriving, 0)
    }

    /// Tracking UID of the structure with label `value` in the series that arrived with `arriving`.
    pub fn tracking(&self, arriving: &str, value: usize) -> String {
        self.make("tracking", arriving, value)
    }

    /// Study Instance UID, only for inputs that have none and are repaired: the same for every series and every sink
    /// of one case.
    pub fn study(&self) -> String {
        let case_only = Self { plan_digest: String::new(), sink: String::new(), ..self.clone() };
        case_only.make("study", "", 0)
    }

    /// Frame of Reference UID, only for images that have a grid but no DICOM header (NIfTI, generated): the same for
    /// every series and every sink of one case.
    pub fn frame_of_reference(&self) -> String {
        let case_only = Self { plan_digest: String::new(), sink: String::new(), ..self.clone() };
        case_only.make("frame-of-reference", "", 0)
    }

    fn make(&self, purpose: &str, arriving: &str, index: usize) -> String {
        let index = (index as u64).to_be_bytes();
        // A UID is compared by its significant characters: padding must not make another one.
        let arriving = arriving.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        let fields: [&[u8]; 7] = [
            DOMAIN,
            purpose.as_bytes(),
            arriving.as_bytes(),
            &index,
            self.sink.as_bytes(),
            self.plan_digest.as_bytes(),
            self.case_inputs_digest.as_bytes(),
        ];
        let mut message = Vec::with_capacity(256);
        for field in fields {
            message.extend_from_slice(&(field.len() as u64).to_be_bytes());
            message.extend_from_slice(field);
        }
        let digest: [u8; 32] = match &self.key {
            Some(key) => {
                // HMAC pads a key to the 64-byte block with zeros; done here, no length can be wrong.
                let mut block = [0u8; 64];
                block[..32].copy_from_slice(key);
                let mut mac = Hmac::<Sha256>::new(&block.into());
                mac.update(&message);
                mac.finalize().into_bytes().into()
            }
            None => Sha256::digest(&message).into(),
        };
        let mut number = 0u128;
        for byte in &digest[..16] {
            number = number << 8 | u128::from(*byte);
        }
        format!("2.25.{number}")
    }
}

/// Whether `uid` has the form PS3.5 9.1 asks for: at most 64 characters, components of digits without leading zeros.
pub fn is_valid_uid(uid: &str) -> bool {
    !uid.is_empty()
        && uid.len() <= 64
        && uid.split('.').all(|part| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn maker(key: Option<&[u8; 32]>) -> UidMaker {
        UidMaker::new(key, "plan", "inputs", "write")
    }

    #[test]
    fn same_in_same_out_and_everything_counts() {
        let base = maker(None);
        let uid = base.instance("1.2.3", 4);
        assert_eq!(uid, maker(None).instance("1.2.3", 4));
        assert_eq!(uid, base.instance("1.2.3\0", 4), "padding is no part of a UID");
        let others = [
            base.instance("1.2.3", 5),
            base.instance("1.2.4", 4),
            base.instance("", 4),
            base.instance("", 5),
            base.series("1.2.3"),
            base.series(""),
            base.study(),
            base.frame_of_reference(),
            base.dimension_organization("1.2.3"),
            base.tracking("1.2.3", 4),
            base.tracking("1.2.3", 5),
            maker(Some(&[7; 32])).instance("1.2.3", 4),
            maker(Some(&[8; 32])).instance("1.2.3", 4),
            UidMaker::new(None, "plan2", "inputs", "write").instance("1.2.3", 4),
            UidMaker::new(None, "plan", "inputs2", "write").instance("1.2.3", 4),
            UidMaker::new(None, "plan", "inputs", "write2").instance("1.2.3", 4),
            // The same bytes with other borders between the fields.
            UidMaker::new(None, "plani", "nputs", "write").instance("1.2.3", 4),
        ];
        let all: HashSet<&String> = others.iter().chain([&uid]).collect();
        assert_eq!(all.len(), others.len() + 1);
        assert_eq!(UidMaker::new(None, "other", "inputs", "other").study(), base.study());
    }

    #[test]
    fn known_answers() {
        // Computed independently: python3 hashlib/hmac over the same length-prefixed fields.
        assert_eq!(maker(None).instance("1.2.3", 4), "2.25.213814024338033440080376066472162191843");
        assert_eq!(maker(Some(&[7; 32])).instance("1.2.3", 4), "2.25.317678572833646886316627176594385441683");
    }

    #[test]
    fn debug_hides_the_key() {
        assert!(!format!("{:?}", maker(Some(&[77; 32]))).contains("77"));
    }

    #[test]
    fn validity() {
        for good in ["1", "2.25.0", "1.2.840.10008.1.2.1"] {
            assert!(is_valid_uid(good), "{good}");
        }
        for bad in ["", ".", "1.", "1..2", "1.02", "2.25.a", "1 ", &"1".repeat(65)] {
            assert!(!is_valid_uid(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn always_valid(arriving in ".{0,80}", slice in 0usize..10_000, keyed: bool) {
            let maker = maker(keyed.then_some(&[3; 32]));
            for uid in [maker.instance(&arriving, slice), maker.series(&arriving), maker.study()] {
                prop_assert!(is_valid_uid(&uid));
                prop_assert!(uid.starts_with("2.25.") && uid.len() <= 44);
            }
        }
    }
}
