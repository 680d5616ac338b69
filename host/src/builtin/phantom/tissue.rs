//! The tissues of the chest phantom: label value, name, SNOMED CT code and the Hounsfield values stated for them.
//!
//! The stated values are ground truth: away from borders the mean of each tissue in a rendered volume lies within
//! 20 HU of them for every patient and seed, where the voxels are smaller than the structure.

/// One tissue of the phantom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tissue {
    /// Value in the label volume, 0..=255; equals the tissue's index in [`TISSUES`].
    pub label: u8,
    /// Plain English name.
    pub name: &'static str,
    /// SNOMED CT code of the structure; `None` where one label covers things that share no code.
    pub snomed: Option<&'static str>,
    /// Attenuation without contrast medium.
    pub plain_hu: f32,
    /// Attenuation with contrast medium.
    pub contrast_hu: f32,
}

const fn tissue(
    label: u8,
    name: &'static str,
    snomed: Option<&'static str>,
    plain_hu: f32,
    contrast_hu: f32,
) -> Tissue {
    Tissue { label, name, snomed, plain_hu, contrast_hu }
}

/// Air around the body.
pub const AIR: u8 = 0;
/// Skin.
pub const SKIN: u8 = 1;
/// Fat: under the skin, in the mediastinum and in the abdomen.
pub const FAT: u8 = 2;
/// Muscle of the chest wall and diaphragm.
pub const MUSCLE: u8 = 3;
/// Lung parenchyma.
pub const LUNG: u8 = 4;
/// Arteries and veins inside the lungs.
pub const LUNG_VESSEL: u8 = 5;
/// Air inside trachea and bronchi.
pub const AIRWAY: u8 = 6;
/// Wall of trachea and bronchi.
pub const AIRWAY_WALL: u8 = 7;
/// Heart muscle.
pub const MYOCARDIUM: u8 = 8;
/// Blood in the left ventricle.
pub const LEFT_VENTRICLE: u8 = 9;
/// Blood in the right ventricle.
pub const RIGHT_VENTRICLE: u8 = 10;
/// Blood in the left atrium.
pub const LEFT_ATRIUM: u8 = 11;
/// Blood in the right atrium.
pub const RIGHT_ATRIUM: u8 = 12;
/// Ascending aorta, arch with its branches, descending aorta.
pub const AORTA: u8 = 13;
/// Pulmonary trunk and main pulmonary arteries.
pub const PULMONARY_ARTERY: u8 = 14;
/// Pulmonary veins outside the lungs.
pub const PULMONARY_VEIN: u8 = 15;
/// Superior and inferior vena cava and the left brachiocephalic vein.
pub const VENA_CAVA: u8 = 16;
/// Bony ribs.
pub const RIB: u8 = 17;
/// Costal cartilage.
pub const CARTILAGE: u8 = 18;
/// Spongy bone of the vertebral bodies.
pub const VERTEBRA: u8 = 19;
/// Dense bone: rims of vertebral bodies, vertebral arches and processes.
pub const DENSE_BONE: u8 = 20;
/// Discs between vertebrae.
pub const DISC: u8 = 21;
/// Content of the spinal canal.
pub const SPINAL_CANAL: u8 = 22;
/// Sternum.
pub const STERNUM: u8 = 23;
/// Oesophagus.
pub const OESOPHAGUS: u8 = 24;
/// Liver.
pub const LIVER: u8 = 25;
/// Spleen.
pub const SPLEEN: u8 = 26;
/// Stomach, filled with fluid.
pub const STOMACH: u8 = 27;

/// Every tissue; the index is the label value.
pub const TISSUES: [Tissue; 28] = [
    tissue(AIR, "air", None, -1000.0, -1000.0),
    tissue(SKIN, "skin", Some("39937001"), 20.0, 25.0),
    tissue(FAT, "fat", Some("55603005"), -100.0, -100.0),
    tissue(MUSCLE, "muscle", Some("127954009"), 55.0, 62.0),
    tissue(LUNG, "lung", Some("39607008"), -850.0, -830.0),
    tissue(LUNG_VESSEL, "lung vessel", None, 40.0, 300.0),
    tissue(AIRWAY, "airway", Some("89187006"), -1000.0, -1000.0),
    tissue(AIRWAY_WALL, "airway wall", None, 30.0, 45.0),
    tissue(MYOCARDIUM, "myocardium", Some("74281007"), 60.0, 100.0),
    tissue(LEFT_VENTRICLE, "left ventricle", Some("87878005"), 40.0, 300.0),
    tissue(RIGHT_VENTRICLE, "right ventricle", Some("53085002"), 40.0, 300.0),
    tissue(LEFT_ATRIUM, "left atrium", Some("82471001"), 40.0, 300.0),
    tissue(RIGHT_ATRIUM, "right atrium", Some("73829009"), 40.0, 300.0),
    tissue(AORTA, "aorta", Some("15825003"), 40.0, 300.0),
    tissue(PULMONARY_ARTERY, "pulmonary artery", Some("81040000"), 40.0, 350.0),
    tissue(PULMONARY_VEIN, "pulmonary vein", Some("122972007"), 40.0, 300.0),
    tissue(VENA_CAVA, "vena cava", Some("35532006"), 40.0, 180.0),
    tissue(RIB, "rib", Some("113197003"), 420.0, 420.0),
    tissue(CARTILAGE, "costal cartilage", Some("50016007"), 110.0, 110.0),
    tissue(VERTEBRA, "vertebra", Some("51282000"), 220.0, 220.0),
    tissue(DENSE_BONE, "dense bone", None, 650.0, 650.0),
    tissue(DISC, "intervertebral disc", None, 85.0, 85.0),
    tissue(SPINAL_CANAL, "spinal canal", Some("61853006"), 25.0, 25.0),
    tissue(STERNUM, "sternum", Some("56873002"), 260.0, 260.0),
    tissue(OESOPHAGUS, "oesophagus", Some("32849002"), 40.0, 60.0),
    tissue(LIVER, "liver", Some("10200004"), 58.0, 95.0),
    tissue(SPLEEN, "spleen", Some("78961009"), 50.0, 115.0),
    tissue(STOMACH, "stomach", Some("69695003"), 15.0, 15.0),
];

/// The labels that make up the heart: muscle and the blood in its four chambers.
pub const HEART_LABELS: [u8; 5] = [MYOCARDIUM, LEFT_VENTRICLE, RIGHT_VENTRICLE, LEFT_ATRIUM, RIGHT_ATRIUM];

/// The labels of blood outside the lungs that contrast medium brightens.
pub const VESSEL_LABELS: [u8; 4] = [AORTA, PULMONARY_ARTERY, PULMONARY_VEIN, VENA_CAVA];

impl Tissue {
    /// The stated attenuation in HU, with or without contrast medium.
    pub fn hu(&self, contrast: bool) -> f32 {
        if contrast { self.contrast_hu } else { self.plain_hu }
    }
}
