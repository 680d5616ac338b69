//! TotalSegmentator's task `total`: its models, and the table of what it segments.

use std::sync::OnceLock;

/// The table as a file: a line of origin, a line of column names, then one class a line.
const TABLE: &str = include_str!("../../data/totalsegmentator-total.csv");

/// A SNOMED CT code with its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// The code.
    pub code: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

/// One class of the task `total`. All codes are SNOMED CT (`SCT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// Its value in a result, 1 to 117.
    pub value: u32,
    /// Its name, such as `pulmonary_vein`.
    pub name: &'static str,
    /// What kind of thing it is.
    pub category: Code,
    /// What it is.
    pub kind: Code,
    /// Left or right, where it has a side.
    pub modifier: Option<Code>,
    /// Where it is, where `kind` alone does not say.
    pub region: Option<Code>,
    /// The side of the region.
    pub region_modifier: Option<Code>,
    /// Recommended colour, `0xRRGGBBAA`.
    pub rgba: u32,
}

/// All classes, by value: class `i + 1` at index `i`.
pub fn classes() -> &'static [Class] {
    static CLASSES: OnceLock<Vec<Class>> = OnceLock::new();
    CLASSES.get_or_init(|| TABLE.lines().skip(2).filter_map(row).collect())
}

/// The class called `name`.
pub fn class(name: &str) -> Option<&'static Class> {
    classes().iter().find(|class| class.name == name)
}

/// A line of the table; a test proves that none is left out.
fn row(line: &'static str) -> Option<Class> {
    let fields: Vec<&'static str> = line.split(',').collect();
    let [value, name, rest @ ..] = fields.as_slice() else { return None };
    let [codes @ .., rgb] = rest else { return None };
    let code = |i: usize| {
        let (code, meaning) = (codes.get(2 * i)?, codes.get(2 * i + 1)?);
        (!code.is_empty()).then_some(Code { code, meaning })
    };
    Some(Class {
        value: value.parse().ok()?,
        name,
        category: code(0)?,
        kind: code(1)?,
        modifier: code(2),
        region: code(3),
        region_modifier: code(4),
        rgba: u32::from_str_radix(rgb, 16).ok()? << 8 | 0xff,
    })
}

/// One of the models of the task `total`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TotalModel {
    /// Number of its data set: its folder is called `Dataset<number>_…`.
    pub dataset: u32,
    /// Name of its folder in an imported checkpoint.
    pub folder: &'static str,
    /// Spacing of its voxels, mm, the same along every axis.
    pub spacing_mm: f64,
    /// The trainer's class.
    pub trainer: &'static str,
    /// What is added to its own values to get those of [`classes`].
    pub offset: u32,
    /// How many classes it has.
    pub classes: u32,
}

impl TotalModel {
    /// Name of the folder, inside the data set's, that TotalSegmentator runs.
    pub fn trained_folder(&self) -> String {
        format!("{}__nnUNetPlans__3d_fullres", self.trainer)
    }
}

const fn part(dataset: u32, folder: &'static str, offset: u32, classes: u32) -> TotalModel {
    TotalModel { dataset, folder, spacing_mm: 1.5, trainer: "nnUNetTrainerNoMirroring", offset, classes }
}

const fn whole(dataset: u32, folder: &'static str, spacing_mm: f64) -> TotalModel {
    let trainer = "nnUNetTrainer_4000epochs_NoMirroring";
    TotalModel { dataset, folder, spacing_mm, trainer, offset: 0, classes: 117 }
}

/// The models of the task `total`: five parts of 1.5 mm, and all classes at 3 mm and at 6 mm.
pub const TOTAL: [TotalModel; 7] = [
    part(291, "organs", 0, 24),
    part(292, "vertebrae", 24, 26),
    part(293, "cardiac", 50, 18),
    part(294, "muscles", 68, 23),
    part(295, "ribs", 91, 26),
    whole(297, "total-3mm", 3.0),
    whole(298, "total-6mm", 6.0),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_line_of_the_table_is_a_class() {
        assert!(TABLE.starts_with("# TotalSegmentator 2.18.0") && TABLE.contains("Apache-2.0"));
        assert_eq!(TABLE.lines().count(), 119);
        assert!(classes().iter().zip(1..).all(|(class, value)| class.value == value));
        assert_eq!(classes().len(), 117);
        for of in [|c: &Class| c.name.to_owned(), |c: &Class| c.rgba.to_string()] {
            assert_eq!(classes().iter().map(of).collect::<BTreeSet<_>>().len(), 117);
        }
        let whole = |c: &Class| (c.kind.code, c.modifier.map(|m| m.code), c.region_modifier.map(|m| m.code));
        assert_eq!(
            classes().iter().map(whole).collect::<BTreeSet<_>>().len(),
            117,
            "codes with sides tell classes apart"
        );
        assert!(classes().iter().all(|c| c.kind.code.bytes().all(|b| b.is_ascii_digit())));
    }

    #[test]
    fn cardiac_classes_are_where_published() {
        let heart = class("heart").unwrap();
        assert_eq!((heart.value, heart.kind.code, heart.kind.meaning), (51, "80891009", "Heart"));
        assert_eq!((heart.category.meaning, heart.rgba), ("Anatomical Structure", 0xb400_28ff));
        for (name, value) in [
            ("aorta", 52),
            ("pulmonary_vein", 53),
            ("brachiocephalic_trunk", 54),
            ("brachiocephalic_vein_left", 59),
            ("atrial_appendage_left", 61),
            ("superior_vena_cava", 62),
            ("inferior_vena_cava", 63),
        ] {
            assert_eq!(class(name).unwrap().value, value);
        }
        assert_eq!(class("kidney_left").unwrap().modifier.unwrap().meaning, "Left");
        assert_eq!(class("kidney_cyst_left").unwrap().region.unwrap().meaning, "Kidney");
        assert_eq!(class("pulmonary_artery"), None);
    }

    #[test]
    fn the_five_parts_share_the_classes_out() {
        let mut next = 0;
        for model in TOTAL.iter().filter(|model| model.spacing_mm == 1.5) {
            assert_eq!(model.offset, next);
            next += model.classes;
        }
        assert_eq!(next, 117);
    }
}
