//! One row of a label table: what a voxel value means.

/// A label: the meaning of one voxel value of a label map.
///
/// Value 0 is the background. A row of value, name and colour alone converts with `into()`; its code is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Label<'a> {
    /// The voxel value.
    pub value: i64,
    /// Name, such as `heart`; unique in its table.
    pub name: &'a str,
    /// Designator of the coding scheme, such as `SCT` for SNOMED CT; empty where there is no code.
    pub scheme: &'a str,
    /// Code of the structure in that scheme, such as `80891009`; empty where there is none.
    pub code: &'a str,
    /// Colour to show it with, `0xRRGGBBAA`.
    pub rgba: u32,
}

impl<'a> From<(i64, &'a str, u32)> for Label<'a> {
    fn from((value, name, rgba): (i64, &'a str, u32)) -> Self {
        Label { value, name, scheme: "", code: "", rgba }
    }
}
