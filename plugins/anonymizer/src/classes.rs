//! [`Classes`]: which SOP Classes can be cleaned. Everything else is refused: nothing is known of what an encapsulated
//! document, a voice or a private object holds. The list is made by tests/oracles/make_sop_classes.py.

use crate::refusal::Refusal;
use crate::sheet::Sheet;
use std::collections::HashMap;

const CSV: &str = include_str!("../data/sop_classes.csv");

/// How objects of a class are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Holds pixels: checked for burned-in text.
    Image,
    /// Holds pixels that were computed (a segmentation, a dose, a map): text is not burned into them, whatever their
    /// modality.
    Computed,
    /// Holds none.
    Object,
    /// Cannot be cleaned.
    Refused,
}

/// The storage classes of the standard.
#[derive(Debug)]
pub struct Classes {
    by_uid: HashMap<String, Kind>,
}

impl Classes {
    /// The embedded list.
    ///
    /// # Errors
    /// A malformed file, with the line.
    pub fn embedded() -> Result<Self, String> {
        let mut by_uid = HashMap::new();
        for row in Sheet::read("SOP Classes", CSV)?.rows() {
            let wrong = || row.wrong("expected UID, name and kind");
            let [uid, _, kind] = row.fields().ok_or_else(wrong)?;
            let kind = match kind {
                "image" => Kind::Image,
                "computed" => Kind::Computed,
                "object" => Kind::Object,
                "refused" => Kind::Refused,
                _ => return Err(wrong()),
            };
            by_uid.insert(uid.to_owned(), kind);
        }
        Ok(Self { by_uid })
    }

    /// How an object of a class is treated.
    ///
    /// # Errors
    /// `unsupported-class`: the class cannot be cleaned, or is none of the standard's.
    pub fn check(&self, uid: &str) -> Result<Kind, Refusal> {
        let refused = |text| Err(Refusal::new("unsupported-class", text));
        match self.by_uid.get(uid) {
            Some(Kind::Refused) => refused("objects of this class (documents, waveforms, raw data) cannot be cleaned"),
            Some(kind) => Ok(*kind),
            None if uid.is_empty() => refused("SOPClassUID is missing or empty"),
            None => refused("SOPClassUID is no storage class of the standard; what it holds is unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_classes_pass_and_no_others() {
        let classes = Classes::embedded().expect("classes");
        assert_eq!(classes.check("1.2.840.10008.5.1.4.1.1.2"), Ok(Kind::Image));
        assert_eq!(classes.check("1.2.840.10008.5.1.4.1.1.66.4"), Ok(Kind::Computed));
        assert_eq!(classes.check("1.2.840.10008.5.1.4.1.1.88.33"), Ok(Kind::Object));
        assert_eq!(classes.check("1.2.840.10008.5.1.4.1.1.481.3"), Ok(Kind::Object));
        for (uid, expected) in [
            ("1.2.840.10008.5.1.4.1.1.104.1", "of this class"),
            ("1.2.840.10008.5.1.4.1.1.9.4.1", "of this class"),
            ("1.2.840.10008.5.1.4.1.1.66", "of this class"),
            ("1.3.46.670589.11.0.0.12.1", "no storage class"),
            ("", "missing"),
        ] {
            let refusal = classes.check(uid).expect_err(uid);
            assert_eq!(refusal.code, "unsupported-class");
            assert!(refusal.text.contains(expected) && !refusal.text.contains("1.3.46"), "{refusal}");
        }
    }
}
