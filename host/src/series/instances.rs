//! From recognised files to everything of one patient and study: SOP instances of any class, for chains that pass them on
//! without making volumes of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use rayon::prelude::*;

use super::group::content_uid;
use super::header::{integer, text};
use super::input::{self, Stamp};
use super::record::{Fault, InstanceRecord, SeriesKind, SeriesRecord, Skipped, common_folder};

/// One recognised DICOM file of any class.
#[derive(Debug, Clone)]
pub(crate) struct ScannedInstance {
    pub path: PathBuf,
    pub folder_parts: Vec<String>,
    pub input: usize,
    pub digest: String,
    /// SHA-256 of all bytes, where it was asked for.
    pub content: Option<String>,
    pub stamp: Option<Stamp>,
    pub transfer_syntax: String,
    /// What its header says; `Err`: why it cannot be told whose it is.
    pub facts: Result<InstanceFacts, Fault>,
    /// Damage behind the header: the study that it belongs to is not whole.
    pub damage: Option<Fault>,
}

/// Whose an instance is, and its place in the study.
#[derive(Debug, Clone, Default)]
pub(crate) struct InstanceFacts {
    patient: String,
    name: String,
    study: String,
    series: String,
    sop_instance: String,
    series_number: Option<i32>,
    number: Option<i32>,
}

impl InstanceFacts {
    /// Reads a header.
    ///
    /// # Errors
    /// `missing-uid`: without a SOP Class and Instance UID nothing can refer to it, and it can be no file.
    pub fn of(header: &InMemDicomObject) -> Result<Self, Fault> {
        let get = |tag| text(header, tag).unwrap_or_default();
        let sop_instance = get(tags::SOP_INSTANCE_UID);
        for (value, name) in [(&sop_instance, "SOPInstanceUID"), (&get(tags::SOP_CLASS_UID), "SOPClassUID")] {
            if value.is_empty() {
                return Err(Fault::new("missing-uid", format!("the instance has no {name}")));
            }
        }
        // The number tells a patient; spellings of the name differ between the machines of a hospital.
        let (id, name) = (get(tags::PATIENT_ID), get(tags::PATIENT_NAME));
        let patient = match (id.is_empty(), name.is_empty()) {
            (false, _) => format!("id:{id}"),
            (true, false) => format!("name:{name}"),
            (true, true) => String::new(),
        };
        Ok(Self {
            patient,
            name,
            study: get(tags::STUDY_INSTANCE_UID),
            series: get(tags::SERIES_INSTANCE_UID),
            sop_instance,
            series_number: integer(header, tags::SERIES_NUMBER),
            number: integer(header, tags::INSTANCE_NUMBER),
        })
    }
}

/// Hashes files whose SOP Instance UID other files have too. `on_file` is told each before it is opened.
pub(crate) fn tell_copies(found: &mut [ScannedInstance], on_file: &(dyn Fn(&Path) + Sync)) {
    let mut count: HashMap<String, usize> = HashMap::new();
    let uid = |instance: &ScannedInstance| instance.facts.as_ref().ok().map(|facts| facts.sop_instance.clone());
    for uid in found.iter().filter_map(uid) {
        *count.entry(uid).or_default() += 1;
    }
    let repeated = |i: &&mut ScannedInstance| uid(i).is_some_and(|uid| count.get(&uid).is_some_and(|&n| n > 1));
    found.par_iter_mut().filter(repeated).for_each(|instance| {
        on_file(&instance.path);
        // One that cannot be read any more is no copy of another.
        instance.content = input::sha256_of(&instance.path).ok();
    });
}

/// Groups instances by patient and study; a damaged one, as long as its header tells whose it is, spoils its study. Within a study they are ordered by Series Number, series, Instance Number and
/// instance, so that nothing depends on the names of files. Equal copies of a file are passed over; what cannot be passed
/// on becomes a record of its own, with its fault.
pub(crate) fn group(found: Vec<ScannedInstance>, skipped: &mut Vec<Skipped>) -> Vec<SeriesRecord> {
    let mut studies: BTreeMap<(String, String), Vec<(InstanceFacts, ScannedInstance)>> = BTreeMap::new();
    let mut records = Vec::new();
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for mut instance in found {
        match std::mem::replace(&mut instance.facts, Ok(InstanceFacts::default())) {
            Err(_) if refused.contains_key(&instance.digest) => {
                let first = refused.get(&instance.digest).copied().unwrap_or_default();
                skipped.push(copy(instance, first));
            }
            Err(fault) => {
                refused.insert(instance.digest.clone(), instance.input);
                let fault = fault.at(format_args!("#{}", instance.input));
                let apart = content_uid("instance", [instance.digest.as_str()]);
                let facts = InstanceFacts { patient: apart.clone(), study: apart.clone(), ..InstanceFacts::default() };
                records.push(record(facts.patient.clone(), apart, vec![(facts, instance)], vec![fault]));
            }
            Ok(facts) => {
                // What belongs to no study is a case of its own.
                let study = match facts.study.is_empty() {
                    true => content_uid("study", [facts.sop_instance.as_str()]),
                    false => facts.study.clone(),
                };
                studies.entry((facts.patient.clone(), study)).or_default().push((facts, instance));
            }
        }
    }
    for ((patient, study), mut instances) in studies {
        let place = |f: &InstanceFacts| (f.series_number, f.series.clone(), f.number, f.sop_instance.clone());
        instances.sort_by_cached_key(|(facts, instance)| (place(facts), instance.content.clone(), instance.input));
        let mut faults = Vec::new();
        let mut kept: Vec<(InstanceFacts, ScannedInstance)> = Vec::with_capacity(instances.len());
        let mut known: BTreeMap<String, (Option<String>, usize)> = BTreeMap::new();
        for (facts, instance) in instances {
            faults.extend(instance.damage.clone().map(|fault| fault.at(format_args!("#{}", instance.input))));
            match known.get(&facts.sop_instance) {
                None => {
                    known.insert(facts.sop_instance.clone(), (instance.content.clone(), instance.input));
                    kept.push((facts, instance));
                }
                Some((content, first)) if content.is_some() && *content == instance.content => {
                    skipped.push(copy(instance, *first));
                }
                Some((_, first)) => faults.push(Fault::new(
                    "same-instance-uid",
                    format!("#{first} and #{} have one SOPInstanceUID and different content", instance.input),
                )),
            }
        }
        records.push(record(patient, study, kept, faults));
    }
    records
}

fn copy(instance: ScannedInstance, first: usize) -> Skipped {
    let text = format!("the same file as #{first}");
    Skipped { input: instance.input, path: instance.path, code: "copy".to_owned(), text }
}

fn record(
    patient: String,
    study: String,
    instances: Vec<(InstanceFacts, ScannedInstance)>,
    faults: Vec<Fault>,
) -> SeriesRecord {
    let folder_parts = instances.first().map(|(_, i)| i.folder_parts.clone()).unwrap_or_default();
    let transfer_syntax = instances.first().map(|(_, i)| i.transfer_syntax.clone()).unwrap_or_default();
    SeriesRecord {
        kind: SeriesKind::Instances,
        modality: String::new(),
        description: String::new(),
        series_number: None,
        folder: common_folder(instances.iter().map(|(_, i)| i.path.as_path())),
        folder_parts,
        series: study.clone(),
        study,
        part: 0,
        patient,
        patient_names: instances
            .iter()
            .map(|(facts, _)| facts.name.clone())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        sop_class: String::new(),
        transfer_syntax,
        rows: 0,
        columns: 0,
        instances: instances
            .into_iter()
            .map(|(facts, instance)| InstanceRecord {
                path: instance.path,
                input: instance.input,
                digest: instance.digest,
                stamp: instance.stamp,
                sop_instance: facts.sop_instance,
                number: facts.number,
                position_mm: None,
                frame: None,
            })
            .collect(),
        geometry: None,
        derived_by_gantry: false,
        localizer: false,
        deidentified: false,
        burned_in_annotation: false,
        faults,
        warnings: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(input: usize, facts: Result<InstanceFacts, Fault>) -> ScannedInstance {
        let path = PathBuf::from(format!("/in/{input}"));
        let (digest, transfer_syntax) = (format!("{:064}", input), String::new());
        let (content, stamp, damage) = (None, None, None);
        ScannedInstance { path, folder_parts: vec![], input, digest, content, stamp, transfer_syntax, facts, damage }
    }

    fn facts(study: &str, series_number: i32, number: i32, sop_instance: &str) -> Result<InstanceFacts, Fault> {
        Ok(InstanceFacts {
            patient: "id:1".into(),
            name: "A^B".into(),
            study: study.into(),
            series: format!("1.{series_number}"),
            sop_instance: sop_instance.into(),
            series_number: Some(series_number),
            number: Some(number),
        })
    }

    #[test]
    fn a_study_is_one_record_in_the_order_of_its_series() {
        let found = vec![
            instance(0, facts("1.2", 2, 1, "1.2.2.1")),
            instance(1, facts("1.2", 1, 10, "1.2.1.10")),
            instance(2, facts("1.2", 1, 9, "1.2.1.9")),
            instance(3, facts("1.3", 1, 1, "1.3.1.1")),
            instance(4, Err(Fault::new("truncated", "the file ends early"))),
        ];
        let mut skipped = Vec::new();
        let records = group(found, &mut skipped);
        let inputs = |r: &SeriesRecord| r.instances.iter().map(|i| i.input).collect::<Vec<_>>();
        assert_eq!(records.iter().map(inputs).collect::<Vec<_>>(), [vec![4], vec![2, 1, 0], vec![3]]);
        assert_eq!(records[0].faults[0].text, "#4: the file ends early");
        assert!(records[1].faults.is_empty() && skipped.is_empty());

        let mut cut = instance(5, facts("1.3", 1, 2, "1.3.1.2"));
        cut.damage = Some(Fault::new("truncated", "the file ends early"));
        let records = group(vec![instance(3, facts("1.3", 1, 1, "1.3.1.1")), cut], &mut skipped);
        assert_eq!((records.len(), records[0].faults[0].text.as_str()), (1, "#5: the file ends early"));
    }

    #[test]
    fn copies_are_passed_over_and_contradictions_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = |input: usize, sop_instance: &str, bytes: &[u8]| {
            let mut found = instance(input, facts("1.2", 1, 1, sop_instance));
            found.path = folder.path().join(input.to_string());
            std::fs::write(&found.path, bytes).unwrap();
            found
        };
        let mut found = vec![
            file(0, "1.2.1.1", b"one"),
            file(1, "1.2.1.1", b"one"),
            file(2, "1.2.1.2", b"one"),
            file(3, "1.2.1.2", b"two"),
            file(4, "1.2.1.3", b"one"),
        ];
        let told = std::sync::Mutex::new(Vec::new());
        tell_copies(&mut found, &|path| told.lock().unwrap().push(path.to_owned()));
        assert_eq!(told.into_inner().unwrap().len(), 4, "a sign of life for each file that is read again");
        let mut skipped = Vec::new();
        let records = group(found, &mut skipped);
        assert_eq!(skipped.iter().map(|s| (s.input, s.code.as_str())).collect::<Vec<_>>(), [(1, "copy")]);
        assert_eq!(records[0].faults[0].code, "same-instance-uid");
    }
}
