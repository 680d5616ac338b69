//! What is wrong with a series beyond its grid.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use super::{Slice, folder};
use crate::series::record::Fault;
use crate::series::scan::Damaged;

/// What is wrong with single files.
pub(super) fn file_faults(slices: &[Slice<'_>], faults: &mut Vec<Fault>) {
    let mut by_code: BTreeMap<&str, Vec<(usize, &Fault)>> = BTreeMap::new();
    for slice in slices {
        let own = slice.image.faults.iter().filter(|_| slice.number == 0);
        for fault in own.chain(slice.frame.rescale.as_ref().err()) {
            by_code.entry(&fault.code).or_default().push((slice.image.input, fault));
        }
    }
    for (code, all) in by_code {
        let Some((input, fault)) = all.first() else { continue };
        let more = if all.len() > 1 { format!(" (and {} more)", all.len() - 1) } else { String::new() };
        faults.push(Fault::new(code, format!("#{input}: {}{more}", fault.text)));
    }
}

/// What the headers say that contradicts a volume in Hounsfield units.
pub(super) fn header_faults(slices: &[Slice<'_>], faults: &mut Vec<Fault>, warnings: &mut Vec<Fault>) {
    let mut sops: HashMap<&str, usize> = HashMap::new();
    for slice in slices.iter().filter(|s| s.number == 0 && !s.image.facts.sop_instance.is_empty()) {
        if let Some(other) = sops.insert(&slice.image.facts.sop_instance, slice.image.input) {
            faults.push(Fault::new(
                "duplicate-instance",
                format!("#{other} and #{} have the same SOP Instance UID but different bytes", slice.image.input),
            ));
            break;
        }
    }
    if let Some(slice) = slices.iter().find(|s| s.image.facts.modality_lut) {
        faults.push(Fault::new(
            "modality-lut",
            format!(
                "#{}: a Modality LUT Sequence is not supported, only rescale slope and intercept",
                slice.image.input
            ),
        ));
    }
    let missing = slices.iter().filter(|s| s.frame.rescale.as_ref().is_ok_and(|r| r.missing)).count();
    if missing > 0 && missing < slices.len() {
        faults.push(Fault::new(
            "rescale",
            format!("{missing} of {} slices have no rescale slope and intercept, the others do", slices.len()),
        ));
    } else if missing > 0 {
        warnings.push(Fault::new("rescale-missing", "no rescale slope and intercept: 1 and 0 are assumed"));
    }
    let is_hu = |kind: &str| matches!(kind, "HU" | "HU_MOD" | "US");
    let other = slices
        .iter()
        .find(|s| s.image.facts.modality == "CT" && s.frame.rescale_type.as_deref().is_some_and(|kind| !is_hu(kind)));
    if let Some(slice) = other {
        faults.push(Fault::new(
            "rescale-type",
            format!("#{}: the rescale type is not HU: the values are no Hounsfield units", slice.image.input),
        ));
    }
}

/// Says that exact copies were dropped.
pub(super) fn copy_warning(slices: &[Slice<'_>], copies: &HashMap<usize, Vec<usize>>, warnings: &mut Vec<Fault>) {
    let mut all =
        slices.iter().filter(|s| s.number == 0).filter_map(|s| Some((s.image.input, copies.get(&s.image.input)?)));
    let count: usize = all.clone().map(|(_, copies)| copies.len()).sum();
    if let Some((kept, copies)) = all.next() {
        let copy = copies.first().copied().unwrap_or(kept);
        warnings.push(Fault::new(
            "duplicate-file",
            format!("{count} files are exact copies of others and were dropped: first #{copy}, a copy of #{kept}"),
        ));
    }
}

/// A file that is damaged in its header may be a slice of any series in its folder.
pub(super) fn damage_faults(slices: &[Slice<'_>], damaged: &[Damaged], faults: &mut Vec<Fault>) {
    let folders: BTreeSet<&Path> = slices.iter().map(|s| folder(s.image)).collect();
    let mut near = damaged.iter().filter(|d| folders.contains(d.folder.as_path()));
    let count = near.clone().count();
    if let Some(first) = near.next() {
        faults.push(Fault::new(
            "damaged-neighbour",
            format!(
                "{count} damaged or unreadable files lie in the same folder and may be slices of this series: first #{}",
                first.input
            ),
        ));
    }
}
