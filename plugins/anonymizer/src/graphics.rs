//! The option Clean Graphics: what is drawn over images keeps its geometry and loses its text.
//!
//! Overlays stay where they outline a region (Overlay Type R) and bring their own bits; a graphics overlay (type G) may
//! be a picture of text, so it goes, as curves always do. Of annotations, text objects stay as far as harmless words of
//! their text do.

use crate::audit::Action;
use crate::deidentify::{Cleaner, Surroundings};
use crate::dummy;
use crate::profile::{Reason, Verdict};
use crate::refusal::Refusal;
use crate::value;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

const OVERLAY_TYPE: u16 = 0x0040;
const OVERLAY_DATA: u16 = 0x3000;

/// Groups of the overlays that may stay.
pub(crate) fn regions(dataset: &InMemDicomObject) -> Vec<u16> {
    let overlays = dataset.tags().filter(|tag| matches!(tag.group(), 0x6000..=0x601e) && tag.element() == OVERLAY_DATA);
    overlays
        .map(|tag| tag.group())
        .filter(|group| value::first_text(dataset, Tag(*group, OVERLAY_TYPE)) == "R")
        .collect()
}

/// Whether an item of sequence `tag` lost what makes it one: the text of a text object, everything drawn of an
/// annotation.
pub(crate) fn is_hollow(tag: Tag, item: &InMemDicomObject) -> bool {
    let holds = |tag| item.get(tag).is_some_and(|e| !value::is_empty(e.value()));
    match tag {
        tags::TEXT_OBJECT_SEQUENCE => {
            let text = value::first_text(item, tags::UNFORMATTED_TEXT_VALUE);
            text.is_empty() || text == dummy::TEXT
        }
        tags::GRAPHIC_ANNOTATION_SEQUENCE => {
            let drawn = [tags::GRAPHIC_OBJECT_SEQUENCE, tags::TEXT_OBJECT_SEQUENCE, tags::COMPOUND_GRAPHIC_SEQUENCE];
            !drawn.into_iter().any(holds)
        }
        _ => false,
    }
}

impl Cleaner<'_> {
    /// An attribute of an overlay.
    pub(crate) fn overlay(
        &mut self,
        element: InMemElement,
        near: &Surroundings,
        verdict: Verdict,
    ) -> Result<Option<InMemElement>, Refusal> {
        let (tag, vr) = (element.header().tag, element.vr());
        if !near.regions.contains(&tag.group()) {
            return Ok(self.remove(tag, Reason::Graphics, verdict));
        }
        let stays = match tag.element() {
            // Rows, columns, planes, frames, origin, bits, area and values of the region
            0x0010..=0x0012 | 0x0015 | 0x0050..=0x0052 | 0x0100 | 0x0102 => matches!(vr, VR::US | VR::SS),
            0x1301 => vr == VR::IS && value::is_possible(vr, element.value()),
            0x1302 | 0x1303 => vr == VR::DS && value::is_possible(vr, element.value()),
            OVERLAY_TYPE => vr == VR::CS && value::texts(element.value()) == ["R"],
            0x0045 => {
                let texts = value::texts(element.value());
                let one = matches!(texts.as_slice(), [text] if ["USER", "AUTOMATED", "ACTIVE IMAGE AREA"].contains(&text.as_str()));
                vr == VR::CS && one
            }
            OVERLAY_DATA => matches!(vr, VR::OB | VR::OW),
            // Description, label, comments
            0x0022 | 0x1500 | 0x4000 if matches!(vr, VR::LO | VR::LT) => {
                return self.clean_text(element, near, verdict);
            }
            _ => false,
        };
        if !stays {
            return Ok(self.remove(tag, Reason::Graphics, verdict));
        }
        self.audit.note(tag, Action::Kept, verdict);
        Ok(Some(element))
    }
}
