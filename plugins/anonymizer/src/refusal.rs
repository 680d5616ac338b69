//! [`Refusal`]: why an object is not cleaned, and [`check`]: its class can be, and no patient is written in its pixels.
//!
//! This stage never sees pixels, so it refuses every kind of image in which text is commonly burned in, unless a rule
//! of the site says where the text stands.

use crate::classes::Kind;
use crate::options::Choice;
use crate::pixel_rules::{self, Rectangle};
use crate::profile::Profile;
use crate::pseudonyms;
use crate::value;
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

/// A quarantine reason. The text names attributes and slices, never values that come from a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// Kebab-case id.
    pub code: &'static str,
    /// What was found and what was expected.
    pub text: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// That an object passed [`check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    blank: Vec<Rectangle>,
}

impl Passed {
    /// What of its pixels is to be blanked, over all frames.
    pub fn blank(&self) -> &[Rectangle] {
        &self.blank
    }
}

/// Refuses an object that cannot be cleaned, and says what of its pixels must be blanked.
///
/// # Errors
/// `unsupported-class`, `well-known-instance-uid`, and those of [`check_pixels`] where no rule for the image's device
/// blanks anything.
pub fn check(dataset: &InMemDicomObject, profile: &Profile) -> Result<Passed, Refusal> {
    let class = value::first_text(dataset, tags::SOP_CLASS_UID);
    // An object that describes pixels is taken for an image, even one without pixels or without a class.
    let has_pixels = dataset.get(tags::ROWS).is_some() || dataset.get(tags::BITS_ALLOCATED).is_some();
    let kind = match profile.facts().classes.check(&class) {
        Err(_) if class.is_empty() && has_pixels => Kind::Image,
        checked => checked?,
    };
    if !profile.has(Choice::Uids) {
        pseudonyms::check_instance_uids(dataset)?;
    }
    if kind == Kind::Object && !has_pixels {
        return Ok(Passed { blank: vec![] });
    }
    let blank = match profile.has(Choice::PixelData) {
        true => pixel_rules::blanks(&profile.pixel_rules, dataset),
        false => vec![],
    };
    match check_pixels(dataset, kind != Kind::Computed) {
        Err(refusal) if refusal.code == BURNED_IN && !blank.is_empty() => Ok(Passed { blank }),
        checked => checked.map(|()| Passed { blank }),
    }
}

const BURNED_IN: &str = "burned-in-annotation";

/// Modalities whose images come from an acquisition without burned-in text as a rule. Anything else (ultrasound,
/// captured screens, photographs, documents, other, unknown) is refused.
const MODALITIES: [&str; 16] =
    ["CT", "MR", "PT", "NM", "CR", "DX", "MG", "IO", "PX", "XA", "RF", "RTIMAGE", "RTDOSE", "SEG", "BMD", "OPT"];

const SECONDARY_CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7";
const ULTRASOUND: [&str; 7] = [
    "1.2.840.10008.5.1.4.1.1.3",
    "1.2.840.10008.5.1.4.1.1.3.1",
    "1.2.840.10008.5.1.4.1.1.6",
    "1.2.840.10008.5.1.4.1.1.6.1",
    "1.2.840.10008.5.1.4.1.1.6.2",
    "1.2.840.10008.5.1.4.1.1.6.3",
    "1.2.840.10008.5.1.4.1.1.6.4",
];

/// Words in Image Type that mark screens and protocol pages sent as images of the modality.
const SCREENS: [&str; 6] = ["SCREEN", "DOSE", "PROT", "CAPTURE", "REPORT", "SNAPSHOT"];

/// Refuses a data set whose pixels may show who the patient is. `by_modality`: also a kind of image that commonly does.
///
/// # Errors
/// `burned-in-annotation`: the data set says so, or is a captured screen, a dose or protocol page, ultrasound or another
/// kind of image with burned-in text. `unknown-modality`: none is given.
pub fn check_pixels(dataset: &InMemDicomObject, by_modality: bool) -> Result<(), Refusal> {
    let burned = |what: &str| Err(Refusal::new(BURNED_IN, format!("the pixels may show who the patient is: {what}")));
    let texts = |tag: Tag| dataset.get(tag).map(|e| value::texts(e.value())).unwrap_or_default();
    let first = |tag: Tag| texts(tag).into_iter().next().unwrap_or_default().to_ascii_uppercase();
    // Anything but a plain NO counts as YES.
    if !texts(tags::BURNED_IN_ANNOTATION).iter().all(|v| v.is_empty() || v.eq_ignore_ascii_case("NO")) {
        return burned("BurnedInAnnotation is not NO");
    }
    let class = first(tags::SOP_CLASS_UID);
    if class == SECONDARY_CAPTURE || class.strip_prefix(SECONDARY_CAPTURE).is_some_and(|rest| rest.starts_with('.')) {
        return burned("SOPClassUID is a secondary capture");
    }
    if ULTRASOUND.contains(&class.as_str()) {
        return burned("SOPClassUID is ultrasound");
    }
    if matches!(first(tags::CONVERSION_TYPE).as_str(), "DV" | "DI" | "DF" | "SD" | "SI" | "DRW") {
        return burned("ConversionType names a capture, a scan of paper or film, or a drawing");
    }
    let image_type = texts(tags::IMAGE_TYPE);
    if image_type.iter().skip(1).any(|v| SCREENS.iter().any(|s| v.to_ascii_uppercase().contains(s))) {
        return burned("ImageType names a captured screen, or a dose or protocol page");
    }
    if !by_modality {
        return Ok(());
    }
    match first(tags::MODALITY).as_str() {
        "" => Err(Refusal::new(
            "unknown-modality",
            "Modality is missing or empty, so nothing says that the pixels show no text",
        )),
        modality if MODALITIES.contains(&modality) => Ok(()),
        _ => burned("Modality is none whose images are free of text as a rule"),
    }
}
