//! `instance-write`: the instances of the case as files, each the data set that arrives and the pixels that were read.

use std::collections::{BTreeMap, BTreeSet};

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use dicom_object::mem::InMemElement;
use gantry_plugin::{Call, CaseStage, Error, Inputs, Outputs, Result};
use rayon::prelude::*;
use serde::Deserialize;

use super::services::{Source, ask, refuse};
use crate::series::blank::{self, BlankDescription, Pixels, Rectangle};
use crate::series::guard::PixelSpan;
use crate::series::instance::{self, Instance, Outgoing, PixelGroup};
use crate::series::instance_file::{Content, InstanceFile};
use crate::series::samples::Samples;
use crate::series::{Fault, InstanceRecord, marks, text_like};

/// Places that are named in a warning.
const PLACES: usize = 5;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    detect_text: bool,
}

struct InstanceWrite {
    params: Params,
}

/// Code and words.
type Warning = (&'static str, String);

/// The record `gantry.blank-regions/1`: what is to be blanked, by index of the instance.
#[derive(Default, Deserialize)]
struct BlankRegions {
    instances: BTreeMap<usize, Vec<[usize; 4]>>,
}

impl CaseStage for InstanceWrite {
    type Params = Params;

    fn create(params: Params) -> Result<Self> {
        Ok(InstanceWrite { params })
    }

    fn process(&mut self, call: &Call, inputs: &Inputs, _: &mut Outputs) -> Result<()> {
        let Source { source, mapped, .. } = ask(call, "gantry.source/1", "{}")?;
        let headers = inputs.headers("instances")?;
        let data_sets = headers.first().map(|h| h.datasets.as_slice()).unwrap_or_default();
        let records = source.instances.as_slice();
        if data_sets.len() != records.len() {
            let text = format!("{} data sets for {} instances that were read", data_sets.len(), records.len());
            return Err(Error::internal(text));
        }
        let blank =
            inputs.json("blank")?.filter(|text| !text.is_empty()).map(serde_json::from_str::<BlankRegions>).transpose();
        let blank = blank.map_err(|_| Error::internal("the regions to blank are not of the form they should have"))?;
        let blank = blank.unwrap_or_default();
        if let Some(stray) = blank.instances.keys().find(|&&i| i >= records.len()) {
            return Err(Error::internal(format!("regions to blank in instance {stray} of {}", records.len())));
        }
        // An instance that was left out on the way has no data set.
        let all: Vec<usize> = (0..records.len()).filter(|&i| !data_sets[i].is_empty()).collect();
        // Read twice: a study's parsed data sets would be large to hold.
        let place =
            |&i: &usize| outgoing(&records[i], mapped.get(i), data_sets[i]).map(|o| (o.series(), o.sop_instance));
        let places = all.par_iter().map(place).collect::<std::result::Result<Vec<_>, Fault>>().map_err(refuse)?;
        let names = names(places).map_err(refuse)?;
        // Files are large: one at a time, so that no thread is left with several at the end.
        let written = all.par_iter().zip(&names).with_max_len(1).map(|(&i, name)| {
            call.go_on()?;
            let regions = blank.instances.get(&i).map(Vec::as_slice).unwrap_or_default();
            let outgoing = outgoing(&records[i], mapped.get(i), data_sets[i]).map_err(refuse)?;
            let written = self.file(&records[i], &outgoing, regions);
            let (head, pixels, text) = written.map_err(|f| refuse(f.at(format_args!("#{}", records[i].input))))?;
            if let Some((code, text)) = text {
                call.warn(code, &text);
            }
            call.emit("file", name, &head)?;
            // The same name again appends.
            if pixels.bytes.is_empty() { Ok(()) } else { call.emit("file", name, &pixels.bytes) }
        });
        written.collect::<Result<()>>()
    }
}

impl InstanceWrite {
    /// The file of one instance up to its pixels, the pixels, and a warning where they look like text or cannot be looked at.
    fn file(
        &self,
        record: &InstanceRecord,
        outgoing: &Outgoing,
        regions: &[[usize; 4]],
    ) -> std::result::Result<(Vec<u8>, PixelGroup<'static>, Option<Warning>), Fault> {
        let file = InstanceFile::open(record)?;
        let mut source = file.instance()?;
        let came = source.header()?;
        // What the data set that is written says of its pixels decides how many bytes are pixels.
        let samples = Samples::of(&outgoing.header);
        if Samples::of(&came) != samples {
            let text = "the data set that arrives says another number or size of pixels than the file, so they do not belong together";
            return Err(Fault::new("pixel-module", text));
        }
        let mut changed = marks::lost(&came, &outgoing.header);
        if regions.is_empty()
            && !self.params.detect_text
            && let Some(pixels) = file.unread_pixels(samples)?
        {
            return Ok((head(outgoing, changed, &pixels)?, pixels, None));
        }
        if let Content::Head(_) = file.content() {
            source = Instance::open(file.whole()?)?;
        }
        let shown = !matches!(source.outline().pixels, PixelSpan::Absent | PixelSpan::Float);
        let mut text = None;
        let pixels = if !regions.is_empty() {
            let blanked = blanked(&source, regions)?;
            text = if self.params.detect_text { places(record, &blanked) } else { None };
            changed.extend(blanked.changed);
            changed.push(DataElement::new(tags::BURNED_IN_ANNOTATION, VR::CS, PrimitiveValue::from("NO")));
            PixelGroup::native(&blanked.bytes, blanked.description.bits_allocated)
        } else {
            if self.params.detect_text && shown {
                text = match blanked(&source, &[]) {
                    Ok(seen) => places(record, &seen),
                    Err(fault) => {
                        let text = format!("#{}: the pixels could not be looked at: {fault}", record.input);
                        Some(("text-not-looked-for", text))
                    }
                };
            }
            source.pixel_group(samples)?
        };
        Ok((head(outgoing, changed, &pixels)?, pixels.into_owned(), text))
    }
}

/// The file up to its pixels, with some elements in place of its own.
fn head(outgoing: &Outgoing, changed: Vec<InMemElement>, pixels: &PixelGroup) -> std::result::Result<Vec<u8>, Fault> {
    if changed.is_empty() {
        return outgoing.head(&pixels.transfer_syntax);
    }
    let data_set = instance::with_elements(outgoing.data_set, changed)?;
    Outgoing::read(&data_set)?.head(&pixels.transfer_syntax)
}

/// The pixels of an instance, decoded, with regions blanked.
fn blanked(source: &Instance, regions: &[[usize; 4]]) -> std::result::Result<blank::Blanked, Fault> {
    let description = BlankDescription::of(&source.header()?)?;
    let rectangles: Vec<Rectangle> =
        regions.iter().map(|&[x, y, width, height]| Rectangle { x, y, width, height }).collect();
    blank::blank(&description, Pixels::of(source.outline(), &description)?, &rectangles)
}

/// A warning of where the pixels that are written look like text; `None` where they do not.
fn places(record: &InstanceRecord, blanked: &blank::Blanked) -> Option<Warning> {
    let d = &blanked.description;
    let frames = (0..d.frames).flat_map(|frame| {
        let found = text_like::text_like(&blank::grey(d, &blanked.bytes, frame), d.rows, d.columns);
        found.into_iter().map(move |text| (frame, text.rectangle))
    });
    let all: Vec<(usize, Rectangle)> = frames.collect();
    if all.is_empty() {
        return None;
    }
    let some = all.iter().take(PLACES).map(|(frame, r)| {
        let frame = if d.frames > 1 { format!("frame {}: ", frame + 1) } else { String::new() };
        format!("{frame}x {} y {}, {} x {}", r.x, r.y, r.width, r.height)
    });
    let more = if all.len() > PLACES { format!(" and {} more", all.len() - PLACES) } else { String::new() };
    let input = record.input;
    let some = some.collect::<Vec<_>>().join("; ");
    Some(("text-like-pixels", format!("#{input}: pixels look like text at {some}{more}")))
}

/// Reads an arriving data set and makes sure that it is the one of this instance: an anonymizer may keep a SOP Instance UID
/// or replace it by what the host's service gives for it, and nothing else, or pixels could come under another's header.
fn outgoing<'a>(
    record: &InstanceRecord,
    mapped: Option<&String>,
    data_set: &'a [u8],
) -> std::result::Result<Outgoing<'a>, Fault> {
    let outgoing = Outgoing::read(data_set).map_err(|f| f.at(format_args!("#{}", record.input)))?;
    if outgoing.sop_instance != record.sop_instance && Some(&outgoing.sop_instance) != mapped {
        let text =
            format!("the data set that arrives for #{} is not one made of it (by its SOPInstanceUID)", record.input);
        return Err(Fault::new("other-instance", text));
    }
    Ok(outgoing)
}

/// A name for each instance, from its series, its modality and its SOP Instance UID: modality, number of its series in
/// the case, number of the instance in its series.
fn names(places: Vec<((String, String), String)>) -> std::result::Result<Vec<String>, Fault> {
    let mut series: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut names = Vec::with_capacity(places.len());
    for ((uid, modality), sop_instance) in places {
        if !seen.insert(sop_instance) {
            return Err(Fault::new("same-instance-uid", "two of the data sets to write have one SOPInstanceUID"));
        }
        let next = series.len() + 1;
        let (number, count) = series.entry(uid).or_insert((next, 0));
        *count += 1;
        names.push(format!("{modality}-{number:03}-{count:05}.dcm"));
    }
    Ok(names)
}

gantry_plugin::stage!("instance-write", case, InstanceWrite);
