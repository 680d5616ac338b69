//! [`is_defined`]: terms that the standard defines for an attribute (PS3.3). They say nothing of a patient who is called
//! alike: a Mrs Hu does not cost an image its Hounsfield units. No list is complete: a term that is missing here stays all
//! the same, unless it repeats the patient.

use dicom_core::Tag;

/// Attributes, and the terms of each.
const TERMS: &[((u16, u16), &str)] = &[
    (
        (0x0008, 0x0008),
        "ORIGINAL DERIVED PRIMARY SECONDARY MIXED AXIAL LOCALIZER VOLUME NONE MULTIPLANAR REFORMATTED \
        RESAMPLED MPR MIP MAXIMUM MINIMUM MEAN MEDIAN ADDITION SUBTRACTION DIVISION MULTIPLICATION NORM ND M P R I OTHER \
        MAGNITUDE PHASE REAL IMAGINARY ADC DIXON FAT WATER DIFFUSION PERFUSION STATIC DYNAMIC GATED WHOLE BODY TOMO \
        EMISSION TRANSMISSION RECON PROJECTION BIPLANE SINGLE FLUORO ANGIO CARDIAC VASCULAR SET AVERAGE",
    ),
    (
        (0x0008, 0x0060),
        "AR ASMT AU BDUS BI BMD CR CT CTPROTOCOL DG DOC DX ECG EPS ES FID GM HC HD IO IOL IVOCT IVUS KER KO LEN \
        LS MG MR M3D NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PA PLAN POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTPLAN \
        RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR SRF STAIN TEXTUREMAP TG US VA XA XC XAPROTOCOL",
    ),
    ((0x0008, 0x0064), "DV DI DF WSD SD SI DRW SYN"),
    ((0x0008, 0x0068), "PRESENTATION PROCESSING"),
    ((0x0008, 0x9205), "COLOR MONOCHROME MIXED TRUE_COLOR"),
    ((0x0008, 0x9206), "VOLUME SAMPLED DISTORTED MIXED"),
    ((0x0018, 0x0020), "SE IR GR EP RM"),
    ((0x0018, 0x0021), "SK MTC SS TRSS SP MP OSP NONE TOF"),
    ((0x0018, 0x0022), "PER RG CG PPG FC PFF PFP SP FS CT ST NONE HELIX HELICAL AXIAL SCOUT"),
    ((0x0018, 0x0023), "2D 3D"),
    ((0x0018, 0x1140), "CW CC"),
    ((0x0018, 0x1160), "NONE BOWTIE BODY HEAD WEDGE FLAT STRIP MIXED MULTIPLE"),
    ((0x0018, 0x5100), "HFP HFS HFDR HFDL FFDR FFDL FFP FFS LFP LFS RFP RFS AFDR AFDL PFDR PFDL SITTING"),
    ((0x0018, 0x5101), "AP PA LL RL RLD LLD RLO LLO"),
    ((0x0018, 0x9302), "SEQUENCED SPIRAL CONSTANT_ANGLE STATIONARY FREE"),
    ((0x0020, 0x0060), "R L U B"),
    ((0x0020, 0x0062), "R L U B"),
    (
        (0x0028, 0x0004),
        "MONOCHROME1 MONOCHROME2 PALETTE COLOR RGB HSV ARGB CMYK YBR_FULL YBR_FULL_422 YBR_PARTIAL_422 \
        YBR_PARTIAL_420 YBR_ICT YBR_RCT XYB",
    ),
    ((0x0028, 0x0301), "YES NO"),
    ((0x0028, 0x0302), "YES NO"),
    ((0x0028, 0x1054), "HU OD US MGML Z_EFF ED EDW HU_MOD PCT"),
    ((0x0028, 0x1056), "LINEAR LINEAR_EXACT SIGMOID"),
    ((0x0028, 0x2110), "00 01"),
    ((0x0028, 0x2114), "ISO_10918_1 ISO_14495_1 ISO_15444_1 ISO_13818_2"),
    ((0x0040, 0xa010), "CONTAINS HAS PROPERTIES"),
    (
        (0x0040, 0xa040),
        "TEXT NUM CODE DATETIME DATE TIME UIDREF PNAME COMPOSITE IMAGE WAVEFORM SCOORD SCOORD3D TCOORD CONTAINER",
    ),
    ((0x0054, 0x1000), "STATIC DYNAMIC GATED WHOLE BODY IMAGE REPROJECTION"),
    (
        (0x0054, 0x1001),
        "CNTS NONE CM2 PCNT CPS BQML MGMINML UMOLMINML MLMING MLG 1CM UMOLML PROPCNTS PROPCPS MLMINML MLML GML \
        STDDEV SUV",
    ),
    ((0x0054, 0x1101), "NONE MEAS SEG"),
    ((0x0054, 0x1102), "NONE START ADMIN"),
    ((0x0062, 0x0001), "BINARY FRACTIONAL LABELMAP"),
    ((0x0062, 0x0008), "AUTOMATIC SEMIAUTOMATIC MANUAL"),
    ((0x0062, 0x0010), "PROBABILITY OCCUPANCY"),
    ((0x3004, 0x0002), "GY RELATIVE"),
    ((0x3004, 0x0004), "PHYSICAL EFFECTIVE ERROR"),
    ((0x3004, 0x000a), "PLAN MULTI_PLAN FRACTION BEAM BRACHY CONTROL_POINT RECORD"),
    ((0x3006, 0x0042), "POINT OPEN_PLANAR OPEN_NONPLANAR CLOSED_PLANAR CLOSEDPLANAR_XOR"),
    (
        (0x3006, 0x00a4),
        "EXTERNAL PTV CTV GTV BOLUS AVOIDANCE ORGAN MARKER REGISTRATION ISOCENTER CAVITY SUPPORT FIXATION CONTROL",
    ),
];

/// Whether every word of a value is of a term that the standard defines for this attribute.
pub(crate) fn is_defined(tag: Tag, value: &str) -> bool {
    let Some((_, terms)) = TERMS.iter().find(|((group, element), _)| Tag(*group, *element) == tag) else {
        return false;
    };
    let mut words = value.split_whitespace().peekable();
    words.peek().is_some() && words.all(|word| terms.split_whitespace().any(|term| term == word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dicom_core::dictionary::DataDictionary;
    use dicom_dictionary_std::{StandardDataDictionary, tags};

    #[test]
    fn terms_are_defined_for_their_attribute_only() {
        assert!(is_defined(tags::RESCALE_TYPE, "HU") && is_defined(tags::PHOTOMETRIC_INTERPRETATION, "PALETTE COLOR"));
        assert!(is_defined(tags::SERIES_TYPE, "WHOLE BODY"));
        assert!(!is_defined(tags::CONVOLUTION_KERNEL, "HU") && !is_defined(tags::RESCALE_TYPE, "HU WEI"));
        assert!(!is_defined(tags::RESCALE_TYPE, "") && !is_defined(tags::RESCALE_TYPE, "Hu"));
    }

    #[test]
    fn every_attribute_is_in_the_dictionary_once() {
        for (n, (tag, _)) in TERMS.iter().enumerate() {
            assert!(StandardDataDictionary.by_tag(Tag::from(*tag)).is_some(), "{tag:04X?}");
            assert!(TERMS.iter().skip(n + 1).all(|(other, _)| other != tag), "{tag:04X?}");
        }
    }
}
