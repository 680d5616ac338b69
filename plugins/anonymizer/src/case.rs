//! [`deidentify_case`]: all series of one case together, in two passes.
//!
//! First every identifier of every slice is collected and asked for in one request, then the slices are rewritten: the
//! same UID gets the same replacement wherever it is referred to, within and across the series.

use crate::audit::Audit;
use crate::dataset;
use crate::deidentify::deidentify;
use crate::profile::Profile;
use crate::pseudonyms::{self, Wanted};
use crate::refusal::{self, Refusal};
use dicom_object::InMemDicomObject;

/// The headers of a cleaned case.
#[derive(Debug)]
pub struct CleanCase {
    /// For each series its slices' data sets, in the order they came.
    pub series: Vec<Vec<Vec<u8>>>,
    /// Counts over the whole case.
    pub audit: Audit,
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

/// De-identifies the headers of a case.
///
/// `series`: for each series its slices' data sets (Explicit VR Little Endian, no file meta, no pixels). `service` takes
/// a request of `gantry.pseudonym/1` and gives its answer. `go_on` is told (done, total) slices and says whether to
/// continue.
///
/// # Errors
/// [`CaseError`]; nothing of the case is returned then.
pub fn deidentify_case<E>(
    series: &[Vec<&[u8]>],
    profile: &Profile,
    service: impl FnOnce(&str) -> Result<String, E>,
    mut go_on: impl FnMut(u64, u64) -> bool,
) -> Result<CleanCase, CaseError<E>> {
    let total = 2 * series.iter().map(|slices| slices.len() as u64).sum::<u64>();
    let (mut done, mut wanted, mut patient) = (0, Wanted::default(), None);
    let lists_uid = |tag| profile.table().actions(tag).is_some_and(|actions| actions.map_uid);
    let mut parsed: Vec<Vec<InMemDicomObject>> = Vec::with_capacity(series.len());
    for (s, slices) in series.iter().enumerate() {
        let mut headers = Vec::with_capacity(slices.len());
        for (z, bytes) in slices.iter().enumerate() {
            let header = dataset::read(bytes).map_err(|r| at(s, z, r))?;
            refusal::check_pixels(&header).map_err(|r| at(s, z, r))?;
            pseudonyms::check_instance_uids(&header).map_err(|r| at(s, z, r))?;
            let whose = pseudonyms::patient(&header);
            if *patient.get_or_insert_with(|| whose.clone()) != whose {
                let text = "the patient is not the one of the slices before: a case must hold one patient";
                return Err(at(s, z, Refusal::new("mixed-patients", text)).into());
            }
            wanted.collect(&header, &lists_uid);
            headers.push(header);
            done += 1;
            if !go_on(done, total) {
                return Err(CaseError::Cancelled);
            }
        }
        parsed.push(headers);
    }
    let searched = wanted.searched() as u64;
    let answer = service(&wanted.request()).map_err(CaseError::Service)?;
    let map = wanted.answered(&answer).map_err(CaseError::BadAnswer)?;
    let mut clean =
        CleanCase { series: Vec::with_capacity(parsed.len()), audit: Audit { searched, ..Audit::default() } };
    for (s, headers) in parsed.into_iter().enumerate() {
        let mut slices = Vec::with_capacity(headers.len());
        for (z, mut header) in headers.into_iter().enumerate() {
            let audit = deidentify(&mut header, &map, profile).map_err(|r| at(s, z, r))?;
            clean.audit.add(&audit);
            slices.push(dataset::write(&header).map_err(|r| at(s, z, r))?);
            done += 1;
            if !go_on(done, total) {
                return Err(CaseError::Cancelled);
            }
        }
        clean.series.push(slices);
    }
    Ok(clean)
}

fn at(series: usize, slice: usize, refusal: Refusal) -> Refusal {
    Refusal::new(refusal.code, format!("series {series}, slice {slice}: {}", refusal.text))
}
