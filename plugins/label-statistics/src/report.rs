//! The table `gantry.label-statistics/1` and the record `gantry.label-statistics-summary/1`.

use gantry_plugin::Label;
use serde_json::{Value as Json, json};

use crate::statistics::{Sums, Tally};

/// One label and what was seen of it.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    /// Its row of the label table.
    pub label: Label<'a>,
    /// Its voxels.
    pub sums: Sums,
}

/// A row for every label of the table but the background, in its order, seen or not; then values the table does not name.
pub fn rows<'a>(labels: &[Label<'a>], tally: &Tally) -> Vec<Row<'a>> {
    let known = labels.iter().copied().filter(|l| l.value != 0);
    let unnamed = tally.seen().filter(|value| labels.iter().all(|l| l.value != *value));
    let unnamed = unnamed.map(|value| Label::from((value, "", 0)));
    known.chain(unnamed).map(|label| Row { label, sums: tally.of(label.value) }).collect()
}

/// The table: a row a label. Where a label has no voxel its intensities are null; volumes are null without `voxel_mm3`.
pub fn table(rows: &[Row], voxel_mm3: Option<f64>) -> Json {
    let column = |name: &str, kind: &str, unit: &str, value: &dyn Fn(&Row) -> Json| json!({ "name": name, "type": kind, "unit": unit, "values": rows.iter().map(value).collect::<Vec<_>>() });
    let mm3 = |row: &Row| voxel_mm3.map(|one| row.sums.voxels as f64 * one);
    json!({
        "schema": "gantry.label-statistics/1",
        "columns": [
            column("label", "int", "", &|r| r.label.value.into()),
            column("name", "string", "", &|r| r.label.name.into()),
            column("scheme", "string", "", &|r| r.label.scheme.into()),
            column("code", "string", "", &|r| r.label.code.into()),
            column("n_voxels", "int", "", &|r| r.sums.voxels.into()),
            column("volume_mm3", "float", "mm3", &|r| mm3(r).into()),
            column("volume_ml", "float", "ml", &|r| mm3(r).map(|v| v / 1000.0).into()),
            column("mean_hu", "float", "HU", &|r| r.sums.intensity().map(|i| i.mean_hu).into()),
            column("std_hu", "float", "HU", &|r| r.sums.intensity().map(|i| i.std_hu).into()),
            column("min_hu", "int", "HU", &|r| r.sums.intensity().map(|i| i.min_hu).into()),
            column("max_hu", "int", "HU", &|r| r.sums.intensity().map(|i| i.max_hu).into()),
            column("incomplete", "bool", "", &|r| r.sums.incomplete.into()),
        ],
    })
}

/// The record: labels that were found with their volume and mean, and the names of those that were not.
pub fn summary(rows: &[Row], voxel_mm3: Option<f64>) -> Json {
    let found = rows.iter().filter_map(|row| {
        let intensity = row.sums.intensity()?;
        let ml = voxel_mm3.map(|one| row.sums.voxels as f64 * one / 1000.0);
        Some(json!({
            "label": row.label.value,
            "name": row.label.name,
            "volume_ml": ml,
            "mean_hu": intensity.mean_hu,
            "incomplete": row.sums.incomplete,
        }))
    });
    let absent = rows.iter().filter(|r| r.sums.voxels == 0).map(|r| r.label.name);
    json!({
        "schema": "gantry.label-statistics-summary/1",
        "found": found.collect::<Vec<_>>(),
        "absent": absent.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_has_a_row_and_absent_ones_have_no_intensity() {
        let labels = [Label::from((0, "background", 0)), Label::from((7, "heart", 0)), Label::from((2, "aorta", 0))];
        let mut tally = Tally::new([2, 1, 3]);
        tally.add(0, &[10.0, 20.0, 30.0], &[7, 7, 3]);
        tally.add(1, &[10.0, 20.0, 30.0], &[0, 0, 0]);
        let rows = rows(&labels, &tally);
        let table = table(&rows, Some(2.0));
        let column = |name: &str| {
            let all = table["columns"].as_array().unwrap();
            all.iter().find(|c| c["name"] == name).unwrap()["values"].clone()
        };
        assert_eq!(column("label"), json!([7, 2, 3]));
        assert_eq!(column("name"), json!(["heart", "aorta", ""]));
        assert_eq!(column("n_voxels"), json!([2, 0, 1]));
        assert_eq!(column("volume_mm3"), json!([4.0, 0.0, 2.0]));
        assert_eq!(column("mean_hu"), json!([15.0, null, 30.0]));
        assert_eq!(column("incomplete"), json!([true, false, true]));
        let summary = summary(&rows, None);
        assert_eq!(summary["absent"], json!(["aorta"]));
        assert_eq!(summary["found"][0]["volume_ml"], Json::Null);
    }
}
