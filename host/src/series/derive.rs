//! The header of a derived image: what of the arriving header stays, what is new, and what must go.
//!
//! One rule for identity: everything is taken from the header that *arrives on the edge* (after an anonymizer: cleaned
//! and with mapped UIDs), never from the source file; only text written here by the host is added, last. DICOM PS3.3
//! C.7.6.1 (General Image), C.12.1 (SOP Common), C.7.6.3 (Image Pixel). One output instance per arriving instance.

mod coding;
mod frames;
mod pixels;
pub(super) mod stale;
pub(super) mod text;
mod without_source;

use dicom_core::value::{C, DataSetSequence, PrimitiveValue};
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::meta::FileMetaTableBuilder;
use dicom_object::{FileDicomObject, InMemDicomObject};
use serde::{Deserialize, Serialize};

use super::record::Fault;
use super::uid::UidMaker;
pub use coding::PixelCoding;
pub use pixels::{PaddingRun, Rounding, SlicePixels, SourceFrame};
pub use text::{SYNTHETIC_COMMENT, series_description};
pub(super) use without_source::decimal_string;
pub use without_source::new_ct_header;

/// Manufacturer in the equipment item that marks a series as made by Gantry.
pub const MANUFACTURER: &str = "Gantry";
/// Manufacturer's Model Name in that item.
pub const MODEL_NAME: &str = "Gantry plugin host";
/// Implementation Class UID of files written here (a fixed random UUID, PS3.5 B.2).
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.195538407865195640295503908631458357807";
/// Implementation Version Name of files written here (at most 16 characters).
pub const IMPLEMENTATION_VERSION_NAME: &str = concat!("GANTRY_", env!("CARGO_PKG_VERSION"));

/// What the chain made of the image, from the checkpoint cards: decides the label that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nature {
    /// Computed from the source by an arithmetic rule.
    Derived,
    /// The source made better (denoised, sharpened) by a network.
    Enhanced,
    /// Content that was never measured: marked as synthetic and not for diagnosis.
    Synthetic,
}

/// A network that took part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelReference {
    /// Name on its card.
    pub name: String,
    /// Version on its card or of the plugin that runs it; may be empty.
    #[serde(default)]
    pub version: String,
    /// SHA-256 of its weights, hexadecimal; the first 16 digits are written.
    pub sha256: String,
}

/// Operations of the chain that a DICOM code describes truly (context group 7203).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DerivationCodes {
    /// A mask chose pixel by pixel between images: 113047.
    pub masked: bool,
    /// Gaussian smoothing: 113088.
    pub gaussian: bool,
    /// Unsharp masking: 113089.
    pub unsharp: bool,
}

impl DerivationCodes {
    /// Code values and meanings of the operations that took place, in rising order of the code.
    fn codes(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        [
            (self.masked, ("113047", "Pixel by pixel mask")),
            (self.gaussian, ("113088", "Gaussian blur")),
            (self.unsharp, ("113089", "Unsharp mask")),
        ]
        .into_iter()
        .filter_map(|(happened, code)| happened.then_some(code))
    }
}

/// What is the same for every slice of a derived series.
#[derive(Debug, Clone)]
pub struct DerivationContext {
    /// Makes the new UIDs; keyed where the pipeline de-identifies.
    pub uids: UidMaker,
    /// Time of the run, from the journal. The clock is never asked.
    pub run_time: jiff::Timestamp,
    /// Series Number (0020,0011) of the new series.
    pub series_number: i32,
    /// Series Description as the pipeline gives it; the marks are added by [`series_description`].
    pub series_description: String,
    /// Name of the pipeline.
    pub pipeline: String,
    /// Decides the synthetic label.
    pub nature: Nature,
    /// A toy checkpoint took part: the series description begins with `TOY`.
    pub toy: bool,
    /// The networks that took part, in the order of the chain.
    pub models: Vec<ModelReference>,
    /// Which coded operations took place.
    pub codes: DerivationCodes,
    /// The chain took contrast medium out of the image: said in the derivation. Contrast attributes are never written.
    pub contrast_removed: bool,
    /// An anonymizer of this chain has been at work: a De-identifying Equipment item is added.
    pub deidentified_by_gantry: bool,
    /// Software Versions of the equipment item: host version, plan digest, plugins (each at most 64 characters).
    pub software_versions: Vec<String>,
    /// The arriving pixels came out of a lossy transfer syntax, whatever the header says.
    pub lossy_source: bool,
    /// Fill in what a file must have and the arriving header leaves empty: SOP Class (from Modality), Study and Frame
    /// of Reference UIDs (one each per case). Without it such a header is refused.
    pub repair: bool,
}

/// One finished instance.
#[derive(Debug, Clone)]
pub struct DerivedInstance {
    /// Data set and file meta, Explicit VR Little Endian.
    pub object: FileDicomObject<InMemDicomObject>,
    /// Its new SOP Instance UID.
    pub sop_instance: String,
    /// How many voxels lay outside what the slice's bits can hold and were set to the nearest value they can.
    pub clamped: usize,
}

impl DerivedInstance {
    /// The bytes of the DICOM file: zero preamble, file meta, data set.
    ///
    /// # Errors
    /// `dicom-encode` when a text cannot be written in the header's character set.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        self.object.write_all(&mut bytes).map_err(|_| cannot_encode())?;
        Ok(bytes)
    }
}

/// The derived instance of one slice.
///
/// `header` is the header that arrived on the edge, without pixel data; `ctx` is common to the series; `slice` holds
/// the new voxels in physical units, which are stored with the header's own rescale slope and intercept.
///
/// # Errors
/// A [`Fault`] whose text holds no patient text: `sop-class` (enhanced, secondary capture, …), `missing-uid`,
/// `photometric`, `modality-lut`, `bits`, `rescale`, `precision`, `frames`, `slice-size`, `not-finite`,
/// `padding-run`, `description`, `dicom-depth`.
pub fn derive_instance(
    header: &InMemDicomObject,
    ctx: &DerivationContext,
    slice: &SlicePixels<'_>,
) -> Result<DerivedInstance, Fault> {
    let coding = PixelCoding::from_header(header)?;
    let sop_class = sop_class(header, ctx.repair)?;
    let arriving_instance = text_of(header, tags::SOP_INSTANCE_UID);
    // An image that is synthetic once stays so, whatever was done to it since.
    let synthetic = ctx.nature == Nature::Synthetic || text_of(header, tags::SYNTHETIC_DATA) == "YES";
    let description = series_description(&ctx.series_description, ctx.toy, synthetic)?;
    let encoded = slice.encode(&coding)?;

    let mut out = stale::without_stale(header)?;
    let sop_instance = ctx.uids.instance(&arriving_instance, slice.index);
    put(&mut out, tags::SOP_CLASS_UID, VR::UI, sop_class);
    put(&mut out, tags::SOP_INSTANCE_UID, VR::UI, sop_instance.as_str());
    put(&mut out, tags::SERIES_INSTANCE_UID, VR::UI, ctx.uids.series(&text_of(header, tags::SERIES_INSTANCE_UID)));
    repair_uids(&mut out, ctx)?;

    if slice.frame.is_some() {
        frames::make_classic(&mut out, sop_class)?;
    }
    image_type(header, &mut out, sop_class, slice.frame.is_some());
    put(&mut out, tags::SERIES_NUMBER, VR::IS, ctx.series_number.to_string());
    put(&mut out, tags::SERIES_DESCRIPTION, VR::LO, description);
    put(&mut out, tags::INSTANCE_NUMBER, VR::IS, (slice.index + 1).to_string());
    let moment = text::Moment::new(ctx.run_time, &text_of(header, tags::TIMEZONE_OFFSET_FROM_UTC));
    put(&mut out, tags::INSTANCE_CREATION_DATE, VR::DA, moment.date.as_str());
    put(&mut out, tags::INSTANCE_CREATION_TIME, VR::TM, moment.time.as_str());
    put(&mut out, tags::CONTENT_DATE, VR::DA, moment.date.as_str());
    put(&mut out, tags::CONTENT_TIME, VR::TM, moment.time.as_str());

    let derivation = text::derivation(ctx, synthetic, "image");
    let older = text_of(header, tags::DERIVATION_DESCRIPTION);
    put(&mut out, tags::DERIVATION_DESCRIPTION, VR::ST, text::appended(&older, &derivation));
    let codes: Vec<InMemDicomObject> = ctx.codes.codes().map(|(value, meaning)| dcm_code(value, meaning)).collect();
    append_items(&mut out, tags::DERIVATION_CODE_SEQUENCE, codes, true);
    source_image(&mut out, header, sop_class, &arriving_instance, slice.frame);
    equipment(&mut out, ctx, &derivation, &moment);
    if synthetic {
        put(&mut out, tags::SYNTHETIC_DATA, VR::CS, "YES");
        let comment = text::synthetic_comment(&text_of(header, tags::IMAGE_COMMENTS));
        put(&mut out, tags::IMAGE_COMMENTS, VR::LT, comment);
    }
    pixel_module(header, &mut out, &coding, &encoded, ctx.lossy_source);

    let clamped = encoded.clamped;
    put_pixel_data(&mut out, &coding, encoded);
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
        .implementation_class_uid(IMPLEMENTATION_CLASS_UID)
        .implementation_version_name(IMPLEMENTATION_VERSION_NAME);
    let object = out.with_meta(meta).map_err(|_| cannot_encode())?;
    Ok(DerivedInstance { object, sop_instance, clamped })
}

/// The SOP Class to write: the arriving one, if it is a classic single-frame volume slice.
fn sop_class(header: &InMemDicomObject, repair: bool) -> Result<&'static str, Fault> {
    let arriving = text_of(header, tags::SOP_CLASS_UID);
    let modality = text_of(header, tags::MODALITY);
    match arriving.as_str() {
        uids::CT_IMAGE_STORAGE => Ok(uids::CT_IMAGE_STORAGE),
        uids::MR_IMAGE_STORAGE => Ok(uids::MR_IMAGE_STORAGE),
        uids::POSITRON_EMISSION_TOMOGRAPHY_IMAGE_STORAGE => Ok(uids::POSITRON_EMISSION_TOMOGRAPHY_IMAGE_STORAGE),
        "" if repair => match modality.as_str() {
            "CT" => Ok(uids::CT_IMAGE_STORAGE),
            "MR" => Ok(uids::MR_IMAGE_STORAGE),
            "PT" => Ok(uids::POSITRON_EMISSION_TOMOGRAPHY_IMAGE_STORAGE),
            _ => Err(Fault::new(
                "sop-class",
                "the arriving header has no SOP Class UID, and its Modality is none of CT, MR and PT to tell one by",
            )),
        },
        "" => Err(Fault::new("sop-class", "the arriving header has no SOP Class UID (0008,0016)")),
        other => Err(Fault::new(
            "sop-class",
            format!(
                "no series can be derived from {}: expected CT, MR or Positron Emission Tomography Image Storage \
                 (one slice per file)",
                coding::sop_class_name(other)
            ),
        )),
    }
}

/// Study and Frame of Reference UIDs are kept; where they are missing they are made or the header refused.
pub(super) fn repair_uids(out: &mut InMemDicomObject, ctx: &DerivationContext) -> Result<(), Fault> {
    if text_of(out, tags::STUDY_INSTANCE_UID).is_empty() {
        if !ctx.repair {
            return Err(Fault::new("missing-uid", "the arriving header has no Study Instance UID (0020,000D)"));
        }
        put(out, tags::STUDY_INSTANCE_UID, VR::UI, ctx.uids.study());
    }
    if ctx.repair && text_of(out, tags::FRAME_OF_REFERENCE_UID).is_empty() {
        put(out, tags::FRAME_OF_REFERENCE_UID, VR::UI, ctx.uids.frame_of_reference());
    }
    Ok(())
}

/// DERIVED, SECONDARY, then the arriving values from the third on; a missing third value, and one of a multi-frame
/// file (where it has another meaning), is what the SOP class has for an ordinary slice.
fn image_type(header: &InMemDicomObject, out: &mut InMemDicomObject, sop_class: &str, of_frame: bool) {
    let mut values = vec!["DERIVED".to_owned(), "SECONDARY".to_owned()];
    if !of_frame
        && let Some(element) = header.get(tags::IMAGE_TYPE)
        && let Ok(arriving) = element.value().to_multi_str()
    {
        values.extend(arriving.iter().skip(2).map(|v| v.trim().to_owned()));
    }
    let ordinary = match sop_class {
        uids::CT_IMAGE_STORAGE => "AXIAL",
        uids::POSITRON_EMISSION_TOMOGRAPHY_IMAGE_STORAGE => "IMAGE",
        _ => "OTHER",
    };
    match values.get_mut(2) {
        None => values.push(ordinary.to_owned()),
        Some(third) if third.is_empty() => ordinary.clone_into(third),
        Some(_) => {}
    }
    put(out, tags::IMAGE_TYPE, VR::CS, PrimitiveValue::Strs(C::from_vec(values)));
}

/// Replaces Source Image Sequence: the slice this one was computed from, and nothing further back.
fn source_image(
    out: &mut InMemDicomObject,
    header: &InMemDicomObject,
    sop_class: &str,
    arriving_instance: &str,
    frame: Option<SourceFrame<'_>>,
) {
    out.remove_element(tags::SOURCE_IMAGE_SEQUENCE);
    if arriving_instance.is_empty() {
        return;
    }
    let arriving = text_of(header, tags::SOP_CLASS_UID);
    let class = frame.map(|f| f.sop_class).or(Some(arriving.as_str())).filter(|c| !c.is_empty());
    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::REFERENCED_SOP_CLASS_UID, VR::UI, class.unwrap_or(sop_class));
    put(&mut item, tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, arriving_instance);
    if let Some(frame) = frame {
        put(&mut item, tags::REFERENCED_FRAME_NUMBER, VR::IS, (u64::from(frame.index) + 1).to_string());
    }
    let purpose = dcm_code("121322", "Source image for image processing operation");
    put_sequence(&mut item, tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, vec![purpose]);
    put_sequence(out, tags::SOURCE_IMAGE_SEQUENCE, vec![item]);
}

/// Appends Gantry to Contributing Equipment Sequence.
pub(super) fn equipment(out: &mut InMemDicomObject, ctx: &DerivationContext, derivation: &str, moment: &text::Moment) {
    let item = |code: &str, meaning: &str, contribution: &str| {
        let mut item = InMemDicomObject::new_empty();
        put(&mut item, tags::MANUFACTURER, VR::LO, MANUFACTURER);
        put(&mut item, tags::MANUFACTURER_MODEL_NAME, VR::LO, MODEL_NAME);
        let versions: Vec<String> =
            ctx.software_versions.iter().map(|v| text::plain(v, 64)).filter(|v| !v.is_empty()).collect();
        if !versions.is_empty() {
            put(&mut item, tags::SOFTWARE_VERSIONS, VR::LO, PrimitiveValue::Strs(C::from_vec(versions)));
        }
        put(&mut item, tags::CONTRIBUTION_DATE_TIME, VR::DT, moment.date_time.as_str());
        put(&mut item, tags::CONTRIBUTION_DESCRIPTION, VR::ST, contribution);
        put_sequence(&mut item, tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, vec![dcm_code(code, meaning)]);
        item
    };
    let mut items = Vec::new();
    if ctx.deidentified_by_gantry && !has_equipment(out, "109104") {
        items.push(item("109104", "De-identifying Equipment", "De-identified before the derivation"));
    }
    items.push(item("109102", "Processing Equipment", derivation));
    append_items(out, tags::CONTRIBUTING_EQUIPMENT_SEQUENCE, items, false);
}

/// Whether Gantry already stands in Contributing Equipment Sequence with this purpose (a DCM code value).
pub fn has_equipment(header: &InMemDicomObject, purpose: &str) -> bool {
    items(header, tags::CONTRIBUTING_EQUIPMENT_SEQUENCE).iter().any(|item| {
        text_of(item, tags::MANUFACTURER) == MANUFACTURER
            && items(item, tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE)
                .iter()
                .any(|code| text_of(code, tags::CODE_VALUE) == purpose)
    })
}

/// Attributes that must agree with the pixels as they are written now. The window, the padding value and the rescale
/// are the arriving ones.
fn pixel_module(
    header: &InMemDicomObject,
    out: &mut InMemDicomObject,
    coding: &PixelCoding,
    encoded: &pixels::Encoded,
    lossy_source: bool,
) {
    // Same bits, but the VR follows Pixel Representation; implicit VR files do not say which it was.
    for tag in [tags::PIXEL_PADDING_VALUE, tags::PIXEL_PADDING_RANGE_LIMIT] {
        if let Some(bits) = coding::sample_bits(header, tag) {
            put_sample(out, tag, coding.signed, bits);
        }
    }
    let extremes = [(tags::SMALLEST_IMAGE_PIXEL_VALUE, true), (tags::LARGEST_IMAGE_PIXEL_VALUE, false)];
    for (tag, smallest) in extremes {
        let had = header.get(tag).is_some();
        out.remove_element(tag);
        if let (true, Some((lo, hi))) = (had, encoded.extremes) {
            put_sample(out, tag, coding.signed, if smallest { lo } else { hi } as u16);
        }
    }
    if lossy_source && text_of(header, tags::LOSSY_IMAGE_COMPRESSION) != "01" {
        put(out, tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "01");
    }
}

/// A US or SS element from its 16 bits.
fn put_sample(out: &mut InMemDicomObject, tag: Tag, signed: bool, bits: u16) {
    if signed {
        put(out, tag, VR::SS, PrimitiveValue::from(bits as i16));
    } else {
        put(out, tag, VR::US, PrimitiveValue::from(bits));
    }
}

fn put_pixel_data(out: &mut InMemDicomObject, coding: &PixelCoding, encoded: pixels::Encoded) {
    if coding.bits_allocated == 8 {
        let mut bytes: Vec<u8> = encoded.samples.iter().map(|&s| s as u8).collect();
        if bytes.len() % 2 == 1 {
            bytes.push(0);
        }
        put(out, tags::PIXEL_DATA, VR::OB, PrimitiveValue::U8(C::from_vec(bytes)));
    } else {
        put(out, tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(C::from_vec(encoded.samples)));
    }
}

/// A code of the DICOM controlled terminology (PS3.16 annex D).
pub(super) fn dcm_code(value: &str, meaning: &str) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::CODE_VALUE, VR::SH, value);
    put(&mut item, tags::CODING_SCHEME_DESIGNATOR, VR::SH, "DCM");
    put(&mut item, tags::CODE_MEANING, VR::LO, meaning);
    item
}

/// Adds items at the end of a sequence; with `unique` those whose code value stands there already are left out.
pub(super) fn append_items(out: &mut InMemDicomObject, tag: Tag, new: Vec<InMemDicomObject>, unique: bool) {
    if new.is_empty() {
        return;
    }
    let mut all = items(out, tag).to_vec();
    for item in new {
        let code = text_of(&item, tags::CODE_VALUE);
        if !(unique && all.iter().any(|old| text_of(old, tags::CODE_VALUE) == code)) {
            all.push(item);
        }
    }
    put_sequence(out, tag, all);
}

/// The items of a sequence; none where it is absent or no sequence.
pub(super) fn items(object: &InMemDicomObject, tag: Tag) -> &[InMemDicomObject] {
    object.get(tag).and_then(|e| e.items()).unwrap_or_default()
}

pub(super) fn put_sequence(object: &mut InMemDicomObject, tag: Tag, items: Vec<InMemDicomObject>) {
    object.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
}

pub(super) fn put(object: &mut InMemDicomObject, tag: Tag, vr: VR, value: impl Into<PrimitiveValue>) {
    object.put(DataElement::new(tag, vr, value.into()));
}

/// The text of an element without padding; empty where it is absent, empty or no text.
pub(super) fn text_of(object: &InMemDicomObject, tag: Tag) -> String {
    object
        .get(tag)
        .and_then(|e| {
            e.value().to_str().ok().map(|s| s.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned())
        })
        .unwrap_or_default()
}

/// The texts of dicom-rs's errors may quote values, so they are not passed on.
pub(super) fn cannot_encode() -> Fault {
    Fault::new("dicom-encode", "the data set cannot be encoded: a value does not fit its type or the character set")
}

#[cfg(test)]
mod tests;
