//! [`deidentify_case`] and [`deidentify_instances`]: all objects of one case together, in two passes.
//!
//! First every identifier of every object is collected and asked for in one request, then the objects are rewritten: the
//! same UID gets the same replacement wherever it is referred to, within and across series. Objects are parsed and rewritten
//! on the threads of the caller's rayon pool.

use crate::audit::Audit;
use crate::dataset;
use crate::deidentify::deidentify;
use crate::options::Choice;
use crate::pixel_rules::Rectangle;
use crate::profile::Profile;
use crate::pseudonyms::{self, Answered, Pseudonyms, Replacement, Wanted};
use crate::refusal::{self, Passed, Refusal};
use dicom_object::InMemDicomObject;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Objects that are read or cleaned before the caller is told how far the work is: some for each thread.
fn together() -> usize {
    8 * rayon::current_num_threads()
}

/// The headers of a cleaned case.
#[derive(Debug)]
pub struct CleanCase {
    /// For each series its slices' data sets, in the order they came.
    pub series: Vec<Vec<Vec<u8>>>,
    /// Counts over the whole case.
    pub audit: Audit,
}

/// The objects of a cleaned case.
#[derive(Debug)]
pub struct CleanInstances {
    /// The objects in the order they came; `None` for one that is left out.
    pub instances: Vec<Option<CleanInstance>>,
    /// Counts over the whole case.
    pub audit: Audit,
}

/// One cleaned object.
#[derive(Debug)]
pub struct CleanInstance {
    /// Its data set.
    pub bytes: Vec<u8>,
    /// What of its pixels must be blanked.
    pub blank: Vec<Rectangle>,
}

/// What a refused object does to its case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The case is refused.
    Case,
    /// The object is left out.
    Instance,
}

/// Why a case was not cleaned.
#[derive(Debug)]
pub enum CaseError<E> {
    /// The data: quarantined.
    Refused(Refusal),
    /// The pseudonym service failed.
    Service(E),
    /// The pseudonym service answered what was not asked.
    BadAnswer(String),
    /// The caller asked to stop.
    Cancelled,
}

impl<E> From<Refusal> for CaseError<E> {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// De-identifies the headers of an imaging case.
///
/// `series`: for each series its slices' data sets (Explicit VR Little Endian, no file meta, no pixels). `service` takes
/// a request of `gantry.pseudonym/1` and gives its answer. `go_on` is told (done, total) passes over slices and says
/// whether to continue.
///
/// # Errors
/// [`CaseError`]; nothing of the case is returned then.
pub fn deidentify_case<E>(
    series: &[Vec<&[u8]>],
    profile: &Profile,
    service: impl FnOnce(&str) -> Result<String, E>,
    go_on: impl FnMut(u64, u64) -> bool,
) -> Result<CleanCase, CaseError<E>> {
    let places: Vec<(usize, usize)> =
        series.iter().enumerate().flat_map(|(s, slices)| (0..slices.len()).map(move |z| (s, z))).collect();
    let name = |n: usize| places.get(n).map_or_else(String::new, |(s, z)| format!("series {s}, slice {z}"));
    let datasets: Vec<&[u8]> = series.iter().flatten().copied().collect();
    let mut work =
        Work { profile, refused: Refused::Case, name: &name, go_on, done: 0, total: 2 * datasets.len() as u64 };
    let clean = work.run(&datasets, service)?;
    let mut instances = clean.instances.into_iter().flatten().map(|instance| instance.bytes);
    let series = series.iter().map(|slices| instances.by_ref().take(slices.len()).collect()).collect();
    Ok(CleanCase { series, audit: clean.audit })
}

/// De-identifies the objects of one patient's study, of whatever class; the rest as [`deidentify_case`].
///
/// # Errors
/// [`CaseError`]; nothing of the case is returned then. With [`Refused::Instance`] objects that cannot be cleaned are
/// left out instead, but a case of which nothing is left is refused.
pub fn deidentify_instances<E>(
    datasets: &[&[u8]],
    profile: &Profile,
    refused: Refused,
    service: impl FnOnce(&str) -> Result<String, E>,
    go_on: impl FnMut(u64, u64) -> bool,
) -> Result<CleanInstances, CaseError<E>> {
    let name = |n: usize| format!("instance {n}");
    Work { profile, refused, name: &name, go_on, done: 0, total: 2 * datasets.len() as u64 }.run(datasets, service)
}

/// One run over a case.
struct Work<'a, G> {
    profile: &'a Profile,
    refused: Refused,
    /// What the nth object is called in messages.
    name: &'a dyn Fn(usize) -> String,
    go_on: G,
    done: u64,
    total: u64,
}

/// An object, and that it may pass; `None` for one that is left out.
type Object = Option<(InMemDicomObject, Passed)>;

/// What the first pass over a case found.
#[derive(Default)]
struct Collected {
    objects: Vec<Object>,
    wanted: Wanted,
    /// Whose objects they are, as kind of identifier and value.
    patient: Option<(&'static str, String)>,
    left_out: LeftOut,
}

impl<G: FnMut(u64, u64) -> bool> Work<'_, G> {
    fn run<E>(
        &mut self,
        datasets: &[&[u8]],
        service: impl FnOnce(&str) -> Result<String, E>,
    ) -> Result<CleanInstances, CaseError<E>> {
        let Collected { objects, mut wanted, patient, left_out } = self.collect(datasets)?;
        if self.profile.has(Choice::ModifiedDates) {
            let text = "neither PatientID nor PatientName says whose dates are to be moved";
            let (_, whose) = patient.as_ref().ok_or_else(|| Refusal::new("no-patient", text))?;
            wanted.move_dates_of(whose);
        }
        let searched = wanted.searched() as u64;
        let answer = service(&wanted.request()).map_err(CaseError::Service)?;
        let map = wanted.answered(&answer).map_err(CaseError::BadAnswer)?;
        if patient.is_some_and(|(kind, value)| map.id(kind, &value) == Some(Replacement::Unlisted)) {
            let text = "the patient is not on the site's list of pseudonyms";
            return Err(Refusal::new("unlisted-patient", text).into());
        }
        let mut clean = self.rewrite(objects, &map, left_out)?;
        clean.audit.searched = searched;
        Ok(clean)
    }

    /// The first pass: what may pass, whose it is, and which identifiers it holds.
    fn collect<E>(&mut self, datasets: &[&[u8]]) -> Result<Collected, CaseError<E>> {
        let profile = self.profile;
        let lists_uid = |tag| profile.table().row(tag).is_some_and(|row| row.basic.map_uid);
        let read = |bytes: &&[u8]| {
            let header = dataset::read(bytes)?;
            let passed = refusal::check(&header, profile);
            Ok((header, passed))
        };
        let mut all = Collected { objects: Vec::with_capacity(datasets.len()), ..Collected::default() };
        let mut patient = None;
        for block in datasets.chunks(together()) {
            for result in block.par_iter().map(read).collect::<Vec<Result<_, Refusal>>>() {
                let n = all.objects.len();
                let object = match result {
                    Err(refusal) => self.leave_out(n, refusal, &mut all.left_out)?,
                    Ok((header, passed)) => {
                        // One that is left out still must be this patient's, and its identifiers are searched for in labels.
                        let whose = pseudonyms::patient(&header);
                        if *patient.get_or_insert_with(|| whose.clone()) != whose {
                            let text = "the patient is not the one of those before: a case must hold one patient";
                            return Err(self.at(n, Refusal::new("mixed-patients", text)).into());
                        }
                        all.wanted.collect(&header, &lists_uid);
                        match passed {
                            Ok(passed) => Some((header, passed)),
                            Err(refusal) => self.leave_out(n, refusal, &mut all.left_out)?,
                        }
                    }
                };
                all.objects.push(object);
                self.step()?;
            }
        }
        all.patient = patient.flatten();
        Ok(all)
    }

    /// The second pass: every object anew.
    fn rewrite<E>(
        &mut self,
        objects: Vec<Object>,
        map: &Answered,
        mut left_out: LeftOut,
    ) -> Result<CleanInstances, CaseError<E>> {
        let profile = self.profile;
        let cleaned = |(mut header, passed): (InMemDicomObject, Passed)| {
            let audit = deidentify(&mut header, &passed, map, profile)?;
            let bytes = dataset::write(&header)?;
            Ok((audit, CleanInstance { bytes, blank: passed.blank().to_vec() }))
        };
        let mut clean = CleanInstances { instances: Vec::with_capacity(objects.len()), audit: Audit::default() };
        let mut objects = objects.into_iter();
        loop {
            let block: Vec<Object> = objects.by_ref().take(together()).collect();
            if block.is_empty() {
                break;
            }
            let block = block.into_par_iter().map(|object| object.map(cleaned));
            for result in block.collect::<Vec<Option<Result<_, Refusal>>>>() {
                let instance = match result {
                    None => None,
                    Some(Ok((audit, instance))) => {
                        clean.audit.add(&audit);
                        Some(instance)
                    }
                    Some(Err(refusal)) => self.leave_out(clean.instances.len(), refusal, &mut left_out)?,
                };
                clean.instances.push(instance);
                self.step()?;
            }
        }
        clean.audit.refused = left_out.counts;
        match left_out.first {
            Some(refusal) if clean.audit.datasets == 0 => Err(refusal.into()),
            _ => Ok(clean),
        }
    }

    /// Leaves an object out, or refuses its case.
    fn leave_out<T>(&self, n: usize, refusal: Refusal, left_out: &mut LeftOut) -> Result<Option<T>, Refusal> {
        let refusal = self.at(n, refusal);
        if self.refused == Refused::Case {
            return Err(refusal);
        }
        *left_out.counts.entry(refusal.code).or_default() += 1;
        left_out.first.get_or_insert(refusal);
        Ok(None)
    }

    fn at(&self, n: usize, refusal: Refusal) -> Refusal {
        Refusal::new(refusal.code, format!("{}: {}", (self.name)(n), refusal.text))
    }

    fn step<E>(&mut self) -> Result<(), CaseError<E>> {
        self.done += 1;
        if (self.go_on)(self.done, self.total) { Ok(()) } else { Err(CaseError::Cancelled) }
    }
}

/// Objects that are left out.
#[derive(Default)]
struct LeftOut {
    counts: BTreeMap<&'static str, u64>,
    first: Option<Refusal>,
}
