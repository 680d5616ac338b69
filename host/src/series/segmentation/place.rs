//! Do the arriving headers lie where the labels lie? Every slice's position, orientation and spacing against the grid.

use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use crate::series::geometry::{Geometry, SlicePlane, norm};
use crate::series::header;
use crate::series::record::Fault;

/// How far a slice may lie from where the grid has it, as a fraction of a voxel: what the scanner's rounding of positions
/// and the evening out of slice distances move, and far below a mix-up of slices.
const TOLERANCE: f64 = 0.05;

/// The plane that a header describes.
fn plane(header: &InMemDicomObject) -> Option<SlicePlane> {
    Some(SlicePlane {
        position_mm: header::vector(header, tags::IMAGE_POSITION_PATIENT)?,
        orientation: header::vector(header, tags::IMAGE_ORIENTATION_PATIENT)?,
        spacing_mm: header::vector(header, tags::PIXEL_SPACING)?,
    })
}

/// Proves that header `z` is that of slice `z` of the grid, for every slice. The grid is known to be sound.
///
/// # Errors
/// `headers` for another number of them or one that places nothing, `grid` for a slice that lies elsewhere.
pub(super) fn check(headers: &[InMemDicomObject], grid: &Geometry) -> Result<(), Fault> {
    let [slices, rows, columns] = grid.size;
    if headers.len() != slices {
        return Err(Fault::new("headers", format!("expected {slices} headers, one a slice, found {}", headers.len())));
    }
    let [dz, dy, dx] = grid.spacing_mm();
    let column = |c: usize| [0, 4, 8].map(|r| grid.affine[r + c]);
    for (z, header) in headers.iter().enumerate() {
        let size = [tags::ROWS, tags::COLUMNS].map(|tag| header::integer(header, tag).unwrap_or(0));
        if size.map(i64::from) != [rows as i64, columns as i64] {
            let text =
                format!("slice {z}: expected {rows} rows and {columns} columns, found {} and {}", size[0], size[1]);
            return Err(Fault::new("grid", text));
        }
        let place = plane(header).filter(|p| p.check().is_ok());
        let place = place.ok_or_else(|| Fault::new("headers", format!("slice {z}: the header places no slice")))?;
        let moved = |a: [f64; 3], b: [f64; 3]| norm([a[0] - b[0], a[1] - b[1], a[2] - b[2]]);
        let away = moved(place.position_mm, grid.slice_origin_mm(z));
        let step = |direction: [f64; 3], spacing: f64, n: usize| direction.map(|d| d * spacing * (n - 1) as f64);
        let across =
            moved(step(place.row(), place.spacing_mm[1], columns), column(0).map(|v| v * (columns - 1) as f64));
        let down = moved(step(place.column(), place.spacing_mm[0], rows), column(1).map(|v| v * (rows - 1) as f64));
        if away > TOLERANCE * dz.min(dy).min(dx) || across > TOLERANCE * dx || down > TOLERANCE * dy {
            let worst = away.max(across).max(down);
            let text = format!("slice {z}: its header places it {worst:.3} mm from where the labels lie");
            return Err(Fault::new("grid", text));
        }
    }
    Ok(())
}
