//! [`Options`]: what a site adds to the basic profile: the options of PS3.15 Annex E, each with its name in parameters,
//! its column in Table E.1-1 and its code in PS3.16 CID 7050.

/// One option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Choice {
    /// Clean Pixel Data. Has no column: it acts on pixels.
    PixelData,
    /// Clean Graphics.
    Graphics,
    /// Clean Structured Content.
    StructuredContent,
    /// Clean Descriptors.
    Descriptors,
    /// Retain Longitudinal Temporal Information with Full Dates.
    FullDates,
    /// Retain Longitudinal Temporal Information with Modified Dates.
    ModifiedDates,
    /// Retain Patient Characteristics.
    PatientCharacteristics,
    /// Retain Device Identity.
    Device,
    /// Retain UIDs.
    Uids,
    /// Retain Safe Private.
    SafePrivate,
    /// Retain Institution Identity.
    Institution,
}

use Choice::{
    Descriptors, Device, FullDates, Graphics, Institution, ModifiedDates, PatientCharacteristics, PixelData,
    SafePrivate, StructuredContent, Uids,
};

impl Choice {
    /// Every option, in the order of the codes.
    pub const ALL: [Self; 11] = [
        PixelData,
        Graphics,
        StructuredContent,
        Descriptors,
        FullDates,
        ModifiedDates,
        PatientCharacteristics,
        Device,
        Uids,
        SafePrivate,
        Institution,
    ];

    /// The name in parameters and in the audit.
    pub fn name(self) -> &'static str {
        match self {
            PixelData => "pixel-data",
            Graphics => "graphics",
            StructuredContent => "structured-content",
            Descriptors => "descriptors",
            FullDates => "full-dates",
            ModifiedDates => "modified-dates",
            PatientCharacteristics => "patient-characteristics",
            Device => "device",
            Uids => "uids",
            SafePrivate => "safe-private",
            Institution => "institution",
        }
    }

    /// Whether the option cleans, and so is named in `clean`; the others are named in `retain`.
    pub fn cleans(self) -> bool {
        matches!(self, PixelData | Graphics | StructuredContent | Descriptors)
    }

    /// The column of Table E.1-1.
    pub fn column(self) -> Option<&'static str> {
        match self {
            PixelData => None,
            Graphics => Some("clean_graphics"),
            StructuredContent => Some("clean_structured_content"),
            Descriptors => Some("clean_descriptors"),
            FullDates => Some("retain_longitudinal_full_dates"),
            ModifiedDates => Some("retain_longitudinal_modified_dates"),
            PatientCharacteristics => Some("retain_patient_characteristics"),
            Device => Some("retain_device_identity"),
            Uids => Some("retain_uids"),
            SafePrivate => Some("retain_safe_private"),
            Institution => Some("retain_institution_identity"),
        }
    }

    /// Code value and meaning in the scheme DCM.
    pub fn code(self) -> (&'static str, &'static str) {
        match self {
            PixelData => ("113101", "Clean Pixel Data Option"),
            Graphics => ("113103", "Clean Graphics Option"),
            StructuredContent => ("113104", "Clean Structured Content Option"),
            Descriptors => ("113105", "Clean Descriptors Option"),
            FullDates => ("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
            ModifiedDates => ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
            PatientCharacteristics => ("113108", "Retain Patient Characteristics Option"),
            Device => ("113109", "Retain Device Identity Option"),
            Uids => ("113110", "Retain UIDs Option"),
            SafePrivate => ("113111", "Retain Safe Private Option"),
            Institution => ("113112", "Retain Institution Identity Option"),
        }
    }
}

/// A set of options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    bits: u16,
}

impl Options {
    /// The options named in the parameters `retain` and `clean`.
    ///
    /// # Errors
    /// A name that the list does not take, one named twice, or both kinds of dates, in words for the user.
    pub fn named(retain: &[String], clean: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        for (list, cleans, names) in [("retain", false, retain), ("clean", true, clean)] {
            for name in names {
                let choice = Choice::ALL.into_iter().find(|c| c.cleans() == cleans && c.name() == name);
                let Some(choice) = choice else {
                    let known: Vec<&str> =
                        Choice::ALL.iter().filter(|c| c.cleans() == cleans).map(|c| c.name()).collect();
                    return Err(format!("`{list}` does not know `{name}`; it takes {}", known.join(", ")));
                };
                if options.has(choice) {
                    return Err(format!("`{list}` names `{name}` twice"));
                }
                options = options.with(choice);
            }
        }
        if options.has(FullDates) && options.has(ModifiedDates) {
            return Err(
                "`retain` names both full-dates and modified-dates; dates stay as they are, or they are moved".into()
            );
        }
        Ok(options)
    }

    /// These and one more.
    #[must_use]
    pub fn with(self, choice: Choice) -> Self {
        Self { bits: self.bits | 1 << choice as u16 }
    }

    /// Whether an option is chosen.
    pub fn has(self, choice: Choice) -> bool {
        self.bits & 1 << choice as u16 != 0
    }

    /// The chosen options, in the order of their codes.
    pub fn iter(self) -> impl Iterator<Item = Choice> {
        Choice::ALL.into_iter().filter(move |choice| self.has(*choice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(retain: &[&str], clean: &[&str]) -> Result<Options, String> {
        let owned = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        Options::named(&owned(retain), &owned(clean))
    }

    #[test]
    fn names_are_strict() {
        let all = named(&["uids", "full-dates"], &["descriptors"]).expect("options");
        assert_eq!(all.iter().collect::<Vec<_>>(), [Descriptors, FullDates, Uids]);
        assert_eq!(named(&[], &[]).expect("none"), Options::default());
        for (retain, clean, expected) in [
            (&["descriptors"][..], &[][..], "`retain` does not know `descriptors`"),
            (&[], &["uids"], "`clean` does not know `uids`"),
            (&["UIDs"], &[], "`retain` does not know `UIDs`"),
            (&["uids", "uids"], &[], "twice"),
            (&["full-dates", "modified-dates"], &[], "both"),
        ] {
            let error = named(retain, clean).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn codes_and_meanings_fit_their_vr() {
        for choice in Choice::ALL {
            let (value, meaning) = choice.code();
            assert!(value.starts_with("1131") && value.len() == 6 && meaning.len() <= 64, "{choice:?}");
        }
    }
}
