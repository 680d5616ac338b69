//! Unit tests of the derived header; whole series through the verifiers are in `host/tests/derived_series.rs`.

use super::*;
use crate::series::geometry::Geometry;
use proptest::prelude::*;

const SOURCE_UID: &str = "1.2.3.4.5";

fn context() -> DerivationContext {
    DerivationContext {
        uids: UidMaker::new(None, "plan", "inputs", "write"),
        run_time: "2026-01-31T23:30:05Z".parse().unwrap(),
        series_number: 103,
        series_description: "sCECT (DuCoSy)".to_owned(),
        pipeline: "ducosy".to_owned(),
        nature: Nature::Synthetic,
        toy: false,
        models: vec![ModelReference {
            name: "ducosy-soft".to_owned(),
            version: "1.2".to_owned(),
            sha256: "0123456789abcdef0123456789abcdef".to_owned(),
        }],
        codes: DerivationCodes { masked: true, gaussian: true, unsharp: false },
        contrast_removed: false,
        deidentified_by_gantry: false,
        software_versions: vec!["0.1.0".to_owned(), "plan 0123".to_owned()],
        lossy_source: false,
        repair: false,
    }
}

fn header() -> InMemDicomObject {
    let mut h = InMemDicomObject::new_empty();
    for (tag, vr, text) in [
        (tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE),
        (tags::SOP_INSTANCE_UID, VR::UI, SOURCE_UID),
        (tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3"),
        (tags::SERIES_INSTANCE_UID, VR::UI, "1.2.3.4"),
        (tags::FRAME_OF_REFERENCE_UID, VR::UI, "1.2.9"),
        (tags::MODALITY, VR::CS, "CT"),
        (tags::PATIENT_NAME, VR::PN, "Doe^Jane"),
        (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        (tags::RESCALE_SLOPE, VR::DS, "1"),
        (tags::RESCALE_INTERCEPT, VR::DS, "-1024"),
        (tags::WINDOW_CENTER, VR::DS, "40"),
        (tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "01"),
        (tags::LOSSY_IMAGE_COMPRESSION_RATIO, VR::DS, "12.5"),
        (tags::DERIVATION_DESCRIPTION, VR::ST, "Lossy compression"),
    ] {
        put(&mut h, tag, vr, text);
    }
    let image_type = ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"].map(str::to_owned);
    put(&mut h, tags::IMAGE_TYPE, VR::CS, PrimitiveValue::Strs(C::from_vec(image_type.to_vec())));
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, 1u16),
        (tags::ROWS, 2),
        (tags::COLUMNS, 3),
        (tags::BITS_ALLOCATED, 16),
        (tags::BITS_STORED, 12),
        (tags::HIGH_BIT, 11),
        (tags::PIXEL_REPRESENTATION, 0),
        (tags::SMALLEST_IMAGE_PIXEL_VALUE, 7),
        (tags::LARGEST_IMAGE_PIXEL_VALUE, 9),
        (tags::SMALLEST_PIXEL_VALUE_IN_SERIES, 7),
        (tags::PIXEL_PADDING_VALUE, 63536),
    ] {
        put(&mut h, tag, VR::US, PrimitiveValue::from(value));
    }
    put_sequence(&mut h, tags::DERIVATION_CODE_SEQUENCE, vec![dcm_code("113040", "Lossy Compression")]);
    let mut scanner = InMemDicomObject::new_empty();
    put(&mut scanner, tags::MANUFACTURER, VR::LO, "ACME");
    put(&mut scanner, Tag(0x0009, 0x1001), VR::LO, "private in an item");
    put_sequence(&mut h, tags::CONTRIBUTING_EQUIPMENT_SEQUENCE, vec![scanner]);
    for tag in [
        Tag(0x0009, 0x0010),
        Tag(0x0029, 0x1010),
        Tag(0x6000, 0x1500),
        Tag(0x601E, 0x0022),
        Tag(0x5000, 0x2500),
        Tag(0xFFFC, 0xFFFC),
        Tag(0x7FE0, 0x0001),
        Tag(0x0008, 0x0000),
    ] {
        put(&mut h, tag, VR::LO, "stale");
    }
    for tag in [tags::ICON_IMAGE_SEQUENCE, tags::DIGITAL_SIGNATURES_SEQUENCE, tags::REFERENCED_RAW_DATA_SEQUENCE] {
        put_sequence(&mut h, tag, vec![InMemDicomObject::new_empty()]);
    }
    h
}

const VALUES: [f32; 6] = [-1024.0, -1000.4, 0.0, 40.5, 3071.0, 9000.0];

fn slice<'a>(values: &'a [f32], padding: &'a [PaddingRun]) -> SlicePixels<'a> {
    SlicePixels { index: 4, values, padding, rounding: Rounding::Nearest, frame: None }
}

fn derive(h: &InMemDicomObject, ctx: &DerivationContext) -> DerivedInstance {
    derive_instance(h, ctx, &slice(&VALUES, &[])).unwrap()
}

fn samples(d: &DerivedInstance) -> Vec<u16> {
    d.object.element(tags::PIXEL_DATA).unwrap().value().primitive().unwrap().to_multi_int::<u16>().unwrap()
}

fn code<E: std::fmt::Debug>(result: Result<E, Fault>) -> String {
    result.unwrap_err().code
}

#[test]
fn every_row_of_the_table() {
    let ctx = context();
    let d = derive(&header(), &ctx);
    let o = &d.object;
    let text = |tag| text_of(o, tag);
    assert_eq!(text(tags::SOP_INSTANCE_UID), ctx.uids.instance(SOURCE_UID, 4));
    assert_eq!(o.meta().media_storage_sop_instance_uid(), d.sop_instance);
    assert_eq!(o.meta().media_storage_sop_class_uid(), uids::CT_IMAGE_STORAGE);
    assert_eq!(o.meta().transfer_syntax(), uids::EXPLICIT_VR_LITTLE_ENDIAN);
    assert_eq!(text(tags::SERIES_INSTANCE_UID), ctx.uids.series("1.2.3.4"));
    assert_eq!(text(tags::STUDY_INSTANCE_UID), "1.2.3");
    assert_eq!(text(tags::FRAME_OF_REFERENCE_UID), "1.2.9");
    assert_eq!(text(tags::PATIENT_NAME), "Doe^Jane");
    assert_eq!(text(tags::IMAGE_TYPE), "DERIVED\\SECONDARY\\AXIAL\\CT_SOM5 SPI");
    assert_eq!(text(tags::SERIES_NUMBER), "103");
    assert_eq!(text(tags::SERIES_DESCRIPTION), "SYNTHETIC sCECT (DuCoSy)");
    assert_eq!(text(tags::INSTANCE_NUMBER), "5");
    for (date, time) in
        [(tags::INSTANCE_CREATION_DATE, tags::INSTANCE_CREATION_TIME), (tags::CONTENT_DATE, tags::CONTENT_TIME)]
    {
        assert_eq!((text(date).as_str(), text(time).as_str()), ("20260131", "233005"));
    }
    let derivation = text(tags::DERIVATION_DESCRIPTION);
    assert!(derivation.starts_with("Lossy compression | Gantry: SYNTHETIC - not for diagnosis"), "{derivation}");
    assert!(derivation.contains("model ducosy-soft 1.2 (sha256 0123456789abcdef)"), "{derivation}");
    let codes: Vec<_> = items(o, tags::DERIVATION_CODE_SEQUENCE).iter().map(|i| text_of(i, tags::CODE_VALUE)).collect();
    assert_eq!(codes, ["113040", "113047", "113088"]);
    let source = &items(o, tags::SOURCE_IMAGE_SEQUENCE)[0];
    assert_eq!(text_of(source, tags::REFERENCED_SOP_CLASS_UID), uids::CT_IMAGE_STORAGE);
    assert_eq!(text_of(source, tags::REFERENCED_SOP_INSTANCE_UID), SOURCE_UID);
    assert_eq!(text_of(&items(source, tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE)[0], tags::CODE_VALUE), "121322");
    let equipment = items(o, tags::CONTRIBUTING_EQUIPMENT_SEQUENCE);
    assert_eq!(equipment.len(), 2);
    assert_eq!(text_of(&equipment[0], tags::MANUFACTURER), "ACME");
    assert!(equipment[0].get(Tag(0x0009, 0x1001)).is_none());
    assert_eq!(text_of(&equipment[1], tags::MANUFACTURER), "Gantry");
    assert_eq!(text_of(&equipment[1], tags::SOFTWARE_VERSIONS), "0.1.0\\plan 0123");
    assert_eq!(text_of(&equipment[1], tags::CONTRIBUTION_DATE_TIME), "20260131233005+0000");
    assert!(has_equipment(o, "109102") && !has_equipment(o, "109104"));
    assert_eq!(text(tags::SYNTHETIC_DATA), "YES");
    assert_eq!(text(tags::IMAGE_COMMENTS), "SYNTHETIC - not for diagnosis");
    assert_eq!(text(tags::LOSSY_IMAGE_COMPRESSION), "01");
    assert_eq!(text(tags::LOSSY_IMAGE_COMPRESSION_RATIO), "12.5");
    assert_eq!(text(tags::WINDOW_CENTER), "40");
    assert_eq!(text(tags::PIXEL_PADDING_VALUE), "63536");
    // 12 bits: 9000 HU does not fit and is clamped; -1000.4 and 40.5 are rounded.
    assert_eq!(samples(&d), [0, 24, 1024, 1065, 4095, 4095]);
    assert_eq!(d.clamped, 1);
    assert_eq!(
        (text(tags::SMALLEST_IMAGE_PIXEL_VALUE), text(tags::LARGEST_IMAGE_PIXEL_VALUE)),
        ("0".into(), "4095".into())
    );
    assert!(o.get(tags::SMALLEST_PIXEL_VALUE_IN_SERIES).is_none());
    for element in o.iter() {
        let tag = dicom_core::header::Header::tag(element);
        assert!(!stale_in_output(tag), "{tag} survived");
    }
    assert!(!d.to_bytes().unwrap().windows(5).any(|w| w == b"stale"));
}

fn stale_in_output(tag: Tag) -> bool {
    let contrast = (0x0018, 0x0010)..=(0x0018, 0x0014);
    tag.group() % 2 == 1
        || (0x5000..0x6100).contains(&tag.group())
        || tag.group() > 0x7FE0
        || (tag.group() == 0x7FE0 && tag != tags::PIXEL_DATA)
        || contrast.contains(&(tag.group(), tag.element()))
        || [tags::ICON_IMAGE_SEQUENCE, tags::REFERENCED_RAW_DATA_SEQUENCE].contains(&tag)
}

#[test]
fn labels_follow_the_nature() {
    let plain = |nature| DerivationContext { nature, ..context() };
    for nature in [Nature::Derived, Nature::Enhanced] {
        let d = derive(&header(), &plain(nature));
        assert!(d.object.get(tags::SYNTHETIC_DATA).is_none());
        assert!(d.object.get(tags::IMAGE_COMMENTS).is_none());
        assert_eq!(text_of(&d.object, tags::SERIES_DESCRIPTION), "sCECT (DuCoSy)");
    }
    // Once synthetic, always synthetic; a comment that arrived is kept behind the label.
    let mut h = header();
    put(&mut h, tags::SYNTHETIC_DATA, VR::CS, "YES");
    put(&mut h, tags::IMAGE_COMMENTS, VR::LT, "two phases");
    let d = derive(&h, &plain(Nature::Derived));
    assert_eq!(text_of(&d.object, tags::SYNTHETIC_DATA), "YES");
    assert_eq!(text_of(&d.object, tags::IMAGE_COMMENTS), "SYNTHETIC - not for diagnosis. two phases");
    assert_eq!(text_of(&d.object, tags::SERIES_DESCRIPTION), "SYNTHETIC sCECT (DuCoSy)");
    let removed = derive(&header(), &DerivationContext { contrast_removed: true, ..context() });
    assert!(text_of(&removed.object, tags::DERIVATION_DESCRIPTION).contains("contrast enhancement was removed"));
}

#[test]
fn contrast_that_was_given_stays_and_none_is_invented() {
    let mut h = header();
    assert!(derive(&h, &context()).object.get(tags::CONTRAST_BOLUS_AGENT).is_none());
    put(&mut h, tags::CONTRAST_BOLUS_AGENT, VR::LO, "Iodine");
    assert_eq!(text_of(&derive(&h, &context()).object, tags::CONTRAST_BOLUS_AGENT), "Iodine");
}

#[test]
fn deidentification_is_said_once() {
    let ctx = DerivationContext { deidentified_by_gantry: true, ..context() };
    let once = derive(&header(), &ctx);
    assert!(has_equipment(&once.object, "109104"));
    let twice = derive(&once.object, &ctx);
    let manufacturers: Vec<_> = items(&twice.object, tags::CONTRIBUTING_EQUIPMENT_SEQUENCE)
        .iter()
        .map(|i| text_of(i, tags::MANUFACTURER))
        .collect();
    assert_eq!(manufacturers, ["ACME", "Gantry", "Gantry", "Gantry"], "one de-identification, two derivations");
    let source = &items(&twice.object, tags::SOURCE_IMAGE_SEQUENCE)[0];
    assert_eq!(text_of(source, tags::REFERENCED_SOP_INSTANCE_UID), once.sop_instance);
    assert_ne!(once.sop_instance, twice.sop_instance);
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let bytes = |ctx: &DerivationContext| derive(&header(), ctx).to_bytes().unwrap();
    assert_eq!(bytes(&context()), bytes(&context()));
    let later = DerivationContext { run_time: "2026-02-01T00:00:00Z".parse().unwrap(), ..context() };
    assert_ne!(bytes(&context()), bytes(&later));
}

#[test]
fn times_follow_the_headers_offset() {
    let mut h = header();
    put(&mut h, tags::TIMEZONE_OFFSET_FROM_UTC, VR::SH, "+0130");
    let d = derive(&h, &context());
    assert_eq!(text_of(&d.object, tags::CONTENT_DATE), "20260201");
    assert_eq!(text_of(&d.object, tags::CONTENT_TIME), "010005");
    let item = items(&d.object, tags::CONTRIBUTING_EQUIPMENT_SEQUENCE).last().unwrap().clone();
    assert_eq!(text_of(&item, tags::CONTRIBUTION_DATE_TIME), "20260201010005+0130");
}

#[test]
fn descriptions() {
    assert_eq!(series_description("sCECT", true, true).unwrap(), "TOY SYNTHETIC sCECT");
    assert_eq!(series_description("TOY SYNTHETIC x", true, true).unwrap(), "TOY SYNTHETIC x");
    assert_eq!(series_description("", false, true).unwrap(), "SYNTHETIC");
    assert_eq!(series_description(&"x".repeat(64), false, false).unwrap().len(), 64);
    for (bad, toy) in [("a\\b", false), ("Übersicht", false), ("a\nb", false), (&*"x".repeat(61), true)] {
        assert_eq!(code(series_description(bad, toy, false)), "description");
    }
}

#[test]
fn long_histories_keep_the_latest_step_whole() {
    let mut h = header();
    put(&mut h, tags::DERIVATION_DESCRIPTION, VR::ST, "é".repeat(1020));
    let d = derive(&h, &context());
    let text = text_of(&d.object, tags::DERIVATION_DESCRIPTION);
    assert_eq!(text.chars().count(), 1024);
    assert!(text.contains("| Gantry: SYNTHETIC") && text.ends_with("Gaussian blur"), "{text}");
    let many = ModelReference { name: "m".repeat(64), version: String::new(), sha256: String::new() };
    let ctx = DerivationContext { models: vec![many; 40], ..context() };
    assert_eq!(text_of(&derive(&header(), &ctx).object, tags::DERIVATION_DESCRIPTION).chars().count(), 1024);
}

#[test]
fn padding_comes_back_bit_for_bit() {
    let mut h = header();
    put(&mut h, tags::PIXEL_PADDING_VALUE, VR::SS, PrimitiveValue::from(-2000i16));
    let mut values = VALUES;
    values[0] = f32::NAN;
    let padding = [PaddingRun { start: 0, len: 2, stored: 63536 }, PaddingRun { start: 5, len: 1, stored: -2000 }];
    let d = derive_instance(&h, &context(), &slice(&values, &padding)).unwrap();
    assert_eq!(samples(&d), [63536, 63536, 1024, 1065, 4095, 63536]);
    // Unsigned pixels: the padding value is written with VR US, the same bits.
    assert_eq!(text_of(&d.object, tags::PIXEL_PADDING_VALUE), "63536");
    assert_eq!(text_of(&d.object, tags::SMALLEST_IMAGE_PIXEL_VALUE), "1024");
    let outside = [PaddingRun { start: 5, len: 2, stored: 0 }];
    assert_eq!(code(derive_instance(&h, &context(), &slice(&VALUES, &outside))), "padding-run");
    let wrapping = [PaddingRun { start: usize::MAX, len: 2, stored: 0 }];
    assert_eq!(code(derive_instance(&h, &context(), &slice(&VALUES, &wrapping))), "padding-run");
    let all = [PaddingRun { start: 0, len: 6, stored: 0 }];
    let d = derive_instance(&h, &context(), &slice(&VALUES, &all)).unwrap();
    assert!(d.object.get(tags::SMALLEST_IMAGE_PIXEL_VALUE).is_none());
}

/// Patient's names in every kind of character set come out with the bytes they came in with.
#[test]
fn names_keep_their_bytes() {
    use dicom_transfer_syntax_registry::entries::EXPLICIT_VR_LITTLE_ENDIAN;
    let element = |tag: Tag, vr: &[u8; 2], value: &[u8]| {
        let mut value = value.to_vec();
        value.extend((value.len() % 2 == 1).then_some(b' '));
        let mut bytes = [tag.group().to_le_bytes(), tag.element().to_le_bytes()].concat();
        bytes.extend_from_slice(vr);
        bytes.extend_from_slice(&(value.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&value);
        bytes
    };
    // Examples of PS3.5 annexes H, I and J, and the western, Chinese and Unicode sets.
    let kanji: &[u8] = b"Yamada^Tarou=\x1B$B;3ED\x1B(B^\x1B$BB@O:\x1B(B=\x1B$B$d$^$@\x1B(B^\x1B$B$?$m$&\x1B(B";
    let hangul: &[u8] = b"Hong^Gildong=\x1B$)C\xFB\xF3^\x1B$)C\xD1\xCE\xD4\xD7=\x1B$)C\xC8\xAB^\x1B$)C\xB1\xE6\xB5\xBF";
    let katakana: &[u8] = b"\xD4\xCF\xC0\xDE^\xC0\xDB\xB3=\x1B$B;3ED\x1B(J^\x1B$BB@O:\x1B(J";
    let mut changed = Vec::new();
    for (charset, name) in [
        (&b"ISO_IR 100"[..], &b"Buc^J\xE9r\xF4me"[..]),
        (b"ISO_IR 101", b"Novotn\xFD^Ji\xF8\xED"),
        (b"ISO_IR 144", b"\xBB\xEE\xDACe\xDC\xD1yp\xD3"),
        (b"ISO_IR 126", b"\xC4\xE9\xEF\xED\xF5\xF3\xE9\xEF\xF2"),
        (b"ISO_IR 192", "Wang^XiaoDong=王^小東".as_bytes()),
        (b"GB18030", b"Wang^XiaoDong=\xCD\xF5^\xD0\xA1\xB6\xAB"),
        (b"\\ISO 2022 IR 87", kanji),
        (b"ISO 2022 IR 6\\ISO 2022 IR 87", kanji),
        (b"ISO 2022 IR 13\\ISO 2022 IR 87", katakana),
        (b"\\ISO 2022 IR 149", hangul),
        (b"ISO 8859-1", b"J\xE9r\xF4me"),
        (b"", b"J\xE9r\xF4me"),
    ] {
        let set = element(tags::SPECIFIC_CHARACTER_SET, b"CS", charset);
        let patient = element(tags::PATIENT_NAME, b"PN", name);
        let bytes = [set, patient.clone()].concat();
        let mut h = InMemDicomObject::read_dataset_with_ts(&bytes[..], &EXPLICIT_VR_LITTLE_ENDIAN.erased()).unwrap();
        for e in header().into_iter().filter(|e| dicom_core::header::Header::tag(e) != tags::PATIENT_NAME) {
            h.put(e);
        }
        let written = derive(&h, &context()).to_bytes();
        if !written.is_ok_and(|w| w.windows(patient.len()).any(|w| w == patient)) {
            changed.push(String::from_utf8_lossy(charset).into_owned());
        }
    }
    assert_eq!(changed, [""; 0]);
}

#[test]
fn padding_runs_of_a_decoded_slice() {
    let run = |start, len, stored| PaddingRun { start, len, stored };
    let stored = [5, 5, 6, 9, 7, 7];
    assert_eq!(PaddingRun::of(&[0..3, 4..6], (5, 8), &stored), [run(0, 2, 5), run(2, 1, 6), run(4, 2, 7)]);
    // One value, which does not fit the stored bits: the header's is the whole cell.
    assert_eq!(PaddingRun::of(std::slice::from_ref(&(0..2)), (-2000, -2000), &stored), [run(0, 2, -2000)]);
    assert_eq!(PaddingRun::of(std::slice::from_ref(&(4..9)), (5, 8), &stored), [run(4, 2, 7)]);
    // High bit 15: a padding value that fits is shifted with the others, a whole cell is not.
    let c = PixelCoding { columns: 3, ..coding(false, 12, 15, 1.0, 0.0) };
    let padding = [run(0, 1, 7), run(1, 1, 0xF830)];
    let pixels =
        SlicePixels { index: 0, values: &[0.0, 0.0, 1.0], padding: &padding, rounding: Rounding::Nearest, frame: None };
    assert_eq!(pixels.encode(&c).unwrap().samples, [0x0070, 0xF830, 0x0010]);
}

#[test]
fn frames_of_enhanced_files() {
    let mut h = header();
    let image_type = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"].map(str::to_owned);
    put(&mut h, tags::IMAGE_TYPE, VR::CS, PrimitiveValue::Strs(C::from_vec(image_type.to_vec())));
    put(&mut h, tags::VOLUMETRIC_PROPERTIES, VR::CS, "VOLUME");
    let frame = Some(SourceFrame { sop_class: uids::ENHANCED_CT_IMAGE_STORAGE, index: 4 });
    let pixels = SlicePixels { frame, ..slice(&VALUES, &[]) };
    let d = derive_instance(&h, &context(), &pixels).unwrap();
    let source = &items(&d.object, tags::SOURCE_IMAGE_SEQUENCE)[0];
    assert_eq!(text_of(source, tags::REFERENCED_SOP_CLASS_UID), uids::ENHANCED_CT_IMAGE_STORAGE);
    assert_eq!(text_of(source, tags::REFERENCED_FRAME_NUMBER), "5");
    assert_eq!(text_of(&d.object, tags::IMAGE_TYPE), "DERIVED\\SECONDARY\\AXIAL");
    assert_eq!(text_of(&d.object, tags::SOP_CLASS_UID), uids::CT_IMAGE_STORAGE);
    assert!(d.object.get(tags::KVP).is_some() && d.object.get(tags::VOLUMETRIC_PROPERTIES).is_none());
    // An MR frame does not tell the Scanning Sequence a classic MR image must have.
    put(&mut h, tags::SOP_CLASS_UID, VR::UI, uids::MR_IMAGE_STORAGE);
    let fault = derive_instance(&h, &context(), &pixels).unwrap_err();
    assert!(fault.code == "sop-class" && fault.text.contains("Scanning Sequence"), "{fault}");
}

#[test]
fn bad_headers_and_voxels_are_named() {
    let ctx = context();
    let with = |change: &dyn Fn(&mut InMemDicomObject)| {
        let mut h = header();
        change(&mut h);
        code(derive_instance(&h, &ctx, &slice(&VALUES, &[])))
    };
    let text = |tag, vr, value: &'static str| move |h: &mut InMemDicomObject| put(h, tag, vr, value);
    let number = |tag, value: u16| move |h: &mut InMemDicomObject| put(h, tag, VR::US, PrimitiveValue::from(value));
    assert_eq!(with(&text(tags::SOP_CLASS_UID, VR::UI, uids::ENHANCED_CT_IMAGE_STORAGE)), "sop-class");
    assert_eq!(with(&text(tags::SOP_CLASS_UID, VR::UI, uids::SECONDARY_CAPTURE_IMAGE_STORAGE)), "sop-class");
    assert_eq!(with(&text(tags::SOP_CLASS_UID, VR::UI, "")), "sop-class");
    assert_eq!(with(&text(tags::STUDY_INSTANCE_UID, VR::UI, "")), "missing-uid");
    assert_eq!(with(&text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "RGB")), "photometric");
    assert_eq!(with(&text(tags::RESCALE_SLOPE, VR::DS, "0")), "rescale");
    assert_eq!(with(&text(tags::RESCALE_SLOPE, VR::DS, "NaN")), "rescale");
    assert_eq!(with(&text(tags::RESCALE_INTERCEPT, VR::DS, "1e400")), "rescale");
    assert_eq!(with(&text(tags::RESCALE_SLOPE, VR::DS, "1\\2")), "rescale");
    assert_eq!(with(&text(tags::RESCALE_SLOPE, VR::DS, "1e-6")), "precision");
    assert_eq!(with(&text(tags::NUMBER_OF_FRAMES, VR::IS, "2")), "frames");
    assert_eq!(with(&number(tags::BITS_STORED, 33)), "bits");
    assert_eq!(with(&number(tags::BITS_ALLOCATED, 0)), "bits");
    assert_eq!(with(&number(tags::HIGH_BIT, 10)), "bits");
    assert_eq!(with(&number(tags::ROWS, 0)), "slice-size");
    assert_eq!(with(&number(tags::ROWS, 65535)), "slice-size");
    assert_eq!(with(&|h| _ = h.remove_element(tags::PIXEL_REPRESENTATION)), "bits");
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = VALUES;
        values[4] = bad;
        let fault = derive_instance(&header(), &ctx, &slice(&values, &[])).unwrap_err();
        assert_eq!(fault.code, "not-finite");
        assert!(fault.text.contains("slice 4, row 1, column 1"), "{}", fault.text);
    }
    let enhanced = text(tags::SOP_CLASS_UID, VR::UI, uids::ENHANCED_CT_IMAGE_STORAGE);
    let mut h = header();
    enhanced(&mut h);
    let fault = derive_instance(&h, &ctx, &slice(&VALUES, &[])).unwrap_err();
    assert!(fault.text.contains("Enhanced CT Image Storage"), "{}", fault.text);
}

#[test]
fn repair_fills_what_a_file_must_have() {
    let ctx = DerivationContext { repair: true, ..context() };
    let mut h = header();
    for tag in [
        tags::SOP_CLASS_UID,
        tags::SOP_INSTANCE_UID,
        tags::STUDY_INSTANCE_UID,
        tags::SERIES_INSTANCE_UID,
        tags::FRAME_OF_REFERENCE_UID,
    ] {
        put(&mut h, tag, VR::UI, PrimitiveValue::Empty);
    }
    put_sequence(&mut h, tags::SOURCE_IMAGE_SEQUENCE, vec![InMemDicomObject::new_empty()]);
    let d = derive(&h, &ctx);
    assert_eq!(text_of(&d.object, tags::SOP_CLASS_UID), uids::CT_IMAGE_STORAGE);
    assert_eq!(text_of(&d.object, tags::STUDY_INSTANCE_UID), ctx.uids.study());
    assert_eq!(text_of(&d.object, tags::FRAME_OF_REFERENCE_UID), ctx.uids.frame_of_reference());
    assert!(d.object.get(tags::SOURCE_IMAGE_SEQUENCE).is_none(), "nothing to refer to");
    put(&mut h, tags::MODALITY, VR::CS, "OT");
    assert_eq!(code(derive_instance(&h, &ctx, &slice(&VALUES, &[]))), "sop-class");
}

#[test]
fn a_volume_without_a_source_gets_a_header() {
    let ctx = DerivationContext { repair: true, ..context() };
    let geometry = Geometry {
        size: [7, 2, 3],
        affine: [0.0, 0.5, 0.0, 1.0, 0.1 + 0.2, 0.0, 0.0, 2.0, 0.0, 0.0, -2.0, 3.0],
        slice_origins_mm: None,
        frame_of_reference: None,
        z_unknown: false,
    };
    let h = new_ct_header(&geometry, 4, &ctx.uids).unwrap();
    let d = derive(&h, &ctx);
    assert_eq!(samples(&d).iter().map(|&s| s as i16).collect::<Vec<_>>(), [-1024, -1000, 0, 41, 3071, 9000]);
    assert_eq!(text_of(&d.object, tags::IMAGE_POSITION_PATIENT), "1\\2\\-5");
    assert_eq!(text_of(&d.object, tags::IMAGE_ORIENTATION_PATIENT), "0\\1\\0\\1\\0\\0");
    assert_eq!(text_of(&d.object, tags::PIXEL_SPACING), "0.5\\0.3");
    assert_eq!(text_of(&d.object, tags::IMAGE_TYPE), "DERIVED\\SECONDARY\\AXIAL");
    assert_eq!(code(new_ct_header(&geometry, 7, &ctx.uids)), "geometry");
    let skewed = Geometry { affine: [1., 1., 0., 0., 0., 1., 0., 0., 0., 0., 1., 0.], ..geometry };
    assert_eq!(code(new_ct_header(&skewed, 0, &ctx.uids)), "geometry");
}

fn coding(signed: bool, bits_stored: u16, high_bit: u16, slope: f64, intercept: f64) -> PixelCoding {
    let (rows, columns) = (1, 1);
    PixelCoding { rows, columns, bits_allocated: 16, bits_stored, high_bit, signed, slope, intercept }
}

/// Every stored value, through f32 physical values and back, in both roundings.
#[test]
fn untouched_voxels_round_trip_exactly() {
    let mut tried = 0;
    for signed in [false, true] {
        for slope in [1.0, 0.5, 2.3, 0.0244, -1.0, 0.1] {
            for intercept in [-1024.0, -200.25, 0.0, -1024.5, -8192.0] {
                let base = coding(signed, 16, 15, slope, intercept);
                let (lo, hi) = base.stored_range();
                let stored: Vec<i32> = (lo..=hi).collect();
                // As this module computes them, and as readers do that compute in f32 throughout.
                let once = stored.iter().map(|&s| base.physical(s)).collect();
                let f32s = stored.iter().map(|&s| s as f32 * slope as f32 + intercept as f32).collect();
                let roundings = [Rounding::Nearest, Rounding::Truncate];
                let ways: [Vec<f32>; 2] = [once, f32s];
                for (values, rounding) in ways.iter().flat_map(|w| roundings.map(|r| (w, r))) {
                    let one_row = PixelCoding { columns: values.len(), ..base };
                    let pixels = SlicePixels { index: 0, values, padding: &[], rounding, frame: None };
                    let encoded = pixels.encode(&one_row).unwrap();
                    let back = encoded.samples.iter().map(|&s| if signed { i32::from(s as i16) } else { s.into() });
                    assert!(back.eq(stored.iter().copied()), "{signed} {slope} {intercept} {rounding:?}");
                    assert_eq!(encoded.clamped, 0);
                    tried += stored.len();
                }
            }
        }
    }
    assert_eq!(tried, 2 * 6 * 5 * 4 * 65536);
}

#[test]
fn bits_above_the_stored_ones() {
    let encode = |coding: PixelCoding, values: &[f32]| {
        let coding = PixelCoding { columns: values.len(), ..coding };
        let pixels = SlicePixels { index: 0, values, padding: &[], rounding: Rounding::Nearest, frame: None };
        let encoded = pixels.encode(&coding).unwrap();
        (encoded.samples, encoded.clamped)
    };
    // Signed 12 bits: sign-extended, clamped and not wrapped.
    let values = [-1.0, -2048.0, -2049.0, 2047.0, 2048.0];
    assert_eq!(encode(coding(true, 12, 11, 1.0, 0.0), &values), (vec![0xFFFF, 0xF800, 0xF800, 0x07FF, 0x07FF], 2));
    // High bit 15: shifted up.
    assert_eq!(encode(coding(false, 12, 15, 1.0, 0.0), &[1.0, 4095.0, -3.0]), (vec![0x0010, 0xFFF0, 0], 1));
    // Halves go away from zero; a negative slope keeps its sense.
    assert_eq!(encode(coding(true, 16, 15, 1.0, 0.0), &[0.5, -0.5, 1.5]).0, [1, 0xFFFF, 2]);
    assert_eq!(encode(coding(true, 16, 15, -1.0, 0.0), &[5.0]).0, [0xFFFB]);
}

#[test]
fn truncation_goes_toward_physical_zero() {
    let c = PixelCoding { columns: 6, ..coding(false, 16, 15, 1.0, -1024.0) };
    let values = [10.9, -10.9, 0.9, -0.9, 10.0, -10.0];
    let pixels = SlicePixels { index: 0, values: &values, padding: &[], rounding: Rounding::Truncate, frame: None };
    let stored: Vec<i32> = pixels.encode(&c).unwrap().samples.iter().map(|&s| i32::from(s) - 1024).collect();
    assert_eq!(stored, [10, -10, 0, 0, 10, -10]);
}

proptest! {
    /// V4: what is stored stands for the value within half a step, and clamping only ever happens outside the range.
    #[test]
    fn stored_values_stand_for_the_physical_ones(
        value in -5000f32..70_000.0,
        slope in prop_oneof![Just(1.0), Just(0.5), Just(2.3), Just(0.0244)],
        intercept in prop_oneof![Just(-1024.0), Just(-200.25), Just(0.0)],
        signed: bool,
        bits in 8u16..=16,
    ) {
        let c = coding(signed, bits, bits - 1, slope, intercept);
        let values = [value];
        let pixels = SlicePixels { index: 0, values: &values, padding: &[], rounding: Rounding::Nearest, frame: None };
        let encoded = pixels.encode(&c).unwrap();
        let stored = if signed { i32::from(encoded.samples[0] as i16) } else { i32::from(encoded.samples[0]) };
        let (lo, hi) = c.stored_range();
        prop_assert!((lo..=hi).contains(&stored));
        let error = (f64::from(stored) * slope + intercept - f64::from(value)).abs();
        if encoded.clamped == 0 {
            prop_assert!(error <= 0.5 * slope * (1.0 + 1e-9), "{error}");
        } else {
            prop_assert!(stored == lo || stored == hi);
        }
    }

    #[test]
    fn decimal_strings_fit_and_are_close(value in -1e7f64..1e7) {
        let text = super::without_source::decimal_string(value);
        prop_assert!(text.len() <= 16);
        prop_assert!((text.parse::<f64>().unwrap() - value).abs() <= value.abs() * 1e-9 + 1e-12);
    }
}
