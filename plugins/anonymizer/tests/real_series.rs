//! Real series from ../shared: what the table lists is nowhere in the output, and what it does not list is as it was.

mod keyed;

use anonymizer::case::deidentify_case;
use anonymizer::profile::{Decision, Profile};
use anonymizer::{dataset, value};
use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, open_file};
use gantry_tests::fixture::shared;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn headers(folder: &Path) -> Vec<InMemDicomObject> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).expect("folder").flatten().map(|e| e.path()).collect();
    paths.sort();
    let mut read: Vec<InMemDicomObject> =
        paths.iter().filter_map(|path| open_file(path).ok()).map(|file| file.into_inner()).collect();
    for object in &mut read {
        object.retain(|e| e.header().tag.group() != 0x7fe0);
    }
    read
}

/// Text of every element that the profile does not keep, at every level, and of those it does.
fn sort_texts(object: &InMemDicomObject, class: &str, gone: &mut BTreeSet<String>, kept: &mut BTreeSet<String>) {
    let profile = Profile::basic().expect("profile");
    for element in object {
        if let Some(items) = element.items() {
            items.iter().for_each(|item| sort_texts(item, class, gone, kept));
            continue;
        }
        let stays =
            profile.decide(profile.iod(class), &[], element.header().tag, element.vr()).decision == Decision::Keep;
        // Short numbers occur by chance, inside other numbers.
        let telling = |t: &String| t.len() >= 8 || (t.len() >= 6 && t.chars().any(char::is_alphabetic));
        let texts = value::texts(element.value()).into_iter().filter(telling);
        let binary =
            matches!(element.vr(), VR::OB | VR::OW | VR::UN | VR::US | VR::SS | VR::UL | VR::SL | VR::FL | VR::FD);
        if !binary {
            if stays { kept.extend(texts) } else { gone.extend(texts) }
        }
    }
}

#[test]
fn listed_values_are_gone_and_the_rest_is_untouched() {
    let Some(data) = shared("data") else { return };
    let mut folders = vec![data.join("chest-cta-heart/dicom"), data.join("siemens-abdomen-j2k")];
    for odd in ["gantrytilting", "notavolume", "sliceincrement"] {
        let mut folder = data.join("odd-series/dicom2nifti_ct_series").join(odd);
        // Some series lie one level deeper.
        while let Some(inner) =
            std::fs::read_dir(&folder).expect("folder").flatten().map(|e| e.path()).find(|p| p.is_dir())
        {
            folder = inner;
        }
        folders.push(folder);
    }
    let profile = Profile::basic().expect("profile");
    for folder in folders {
        let sources = headers(&folder);
        let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        assert!(!sources.is_empty(), "{name}: nothing read");
        let bytes: Vec<Vec<u8>> = sources.iter().map(|o| dataset::write(o).expect("written")).collect();
        let series = [bytes.iter().map(Vec::as_slice).collect()];
        let clean = deidentify_case(&series, profile, |r| keyed::service(7, r), |_, _| true).expect("cleaned");
        let (mut gone, mut kept) = (BTreeSet::new(), BTreeSet::new());
        for source in &sources {
            let class = value::first_text(source, tags::SOP_CLASS_UID);
            sort_texts(source, &class, &mut gone, &mut kept);
        }
        // The patient of some series is called like their sequence: that label goes.
        let own = |source: &InMemDicomObject| {
            [tags::PATIENT_NAME, tags::PATIENT_ID].map(|tag| value::first_text(source, tag))
        };
        let patients: BTreeSet<String> = sources.iter().flat_map(own).filter(|text| !text.is_empty()).collect();
        kept.retain(|text| !patients.contains(text));
        // A value that also stands in a kept attribute is kept by rule.
        let searched: Vec<&String> = gone.iter().filter(|g| !kept.iter().any(|k| k.contains(g.as_str()))).collect();
        let mut untouched = 0;
        for (source, after) in sources.iter().zip(&clean.series[0]) {
            for value in &searched {
                assert!(!after.windows(value.len()).any(|w| w == value.as_bytes()), "{name}: a listed value is left");
            }
            let class = value::first_text(source, tags::SOP_CLASS_UID);
            let after = dataset::read(after).expect("read");
            for element in source {
                let (tag, vr) = (element.header().tag, element.vr());
                let noted = [0x0012_0062, 0x0012_0063, 0x0028_0303];
                let number = (u32::from(tag.group()) << 16) | u32::from(tag.element());
                if noted.contains(&number)
                    || profile.decide(profile.iod(&class), &[], tag, vr).decision != Decision::Keep
                {
                    continue;
                }
                let texts = value::texts(element.value());
                if texts.iter().any(|text| patients.contains(text)) {
                    assert!(after.get(tag).is_some_and(|found| value::is_empty(found.value())), "{name}: {tag} stays");
                    continue;
                }
                let found = after.get(tag).unwrap_or_else(|| panic!("{name}: {tag} is lost"));
                assert_eq!(value::texts(found.value()), texts, "{name}: {tag}");
                untouched += 1;
            }
        }
        println!(
            "{name}: {} slices, {} values searched, {untouched} attributes untouched",
            sources.len(),
            searched.len()
        );
        assert!(searched.len() > 5 && untouched > 20 * sources.len());
    }
}
