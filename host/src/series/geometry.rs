//! The grid of a volume, and how it follows from the positions of its slices.
//!
//! LPS, millimetres, axis order `[z, y, x]`. The grid comes from Image Position, Image Orientation and Pixel Spacing
//! (DICOM PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1), never from Slice Thickness or Instance Number.

use serde::{Deserialize, Serialize};

use super::record::Fault;

/// Slice steps that differ from the median step by more than this fraction are gaps or uneven.
pub const SPACING_TOLERANCE: f64 = 0.01;
/// Positions closer than this are the same position, millimetres.
pub const SAME_POSITION_MM: f64 = 1e-3;
/// Largest error of length and of perpendicularity that direction cosines may have.
const COSINE_TOLERANCE: f64 = 1e-3;
/// A sideways drift of the slices is a tilt from this angle on, degrees …
const TILT_DEGREES: f64 = 0.1;
/// … when the whole stack drifts by more than this, millimetres.
const TILT_MM: f64 = 0.1;

/// Where the voxels of a volume lie in the patient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Geometry {
    /// Numbers of voxels, `[z, y, x]`.
    pub size: [usize; 3],
    /// 3x4, row-major: voxel centre index `(x, y, z, 1)` to LPS millimetres.
    pub affine: [f64; 12],
    /// Origin of every slice, LPS millimetres, where the slices are not evenly spaced on one line; else `None`.
    pub slice_origins_mm: Option<Vec<[f64; 3]>>,
    /// Frame of Reference UID (private).
    pub frame_of_reference: Option<String>,
    /// A single slice: the z column of the affine is the normal, 1 mm long, and means nothing.
    #[serde(default)]
    pub z_unknown: bool,
}

impl Geometry {
    /// LPS millimetres of voxel `[z, y, x]` by the affine.
    pub fn position_mm(&self, [z, y, x]: [f64; 3]) -> [f64; 3] {
        let a = &self.affine;
        [0, 4, 8].map(|r| a[r] * x + a[r + 1] * y + a[r + 2] * z + a[r + 3])
    }

    /// One column of the affine: 0 = x, 1 = y, 2 = z, 3 = origin (of voxel `[0, 0, 0]`), LPS millimetres.
    fn column(&self, c: usize) -> [f64; 3] {
        [self.affine[c], self.affine[4 + c], self.affine[8 + c]]
    }

    /// Centre of voxel `[0, 0, 0]`, LPS millimetres.
    pub fn origin_mm(&self) -> [f64; 3] {
        self.column(3)
    }

    /// Distances between neighbouring voxel centres, `[z, y, x]`, millimetres.
    pub fn spacing_mm(&self) -> [f64; 3] {
        [norm(self.column(2)), norm(self.column(1)), norm(self.column(0))]
    }

    /// Unit vectors of the voxel axes, `[z, y, x]`, LPS.
    pub fn directions(&self) -> [[f64; 3]; 3] {
        [unit(self.column(2)), unit(self.column(1)), unit(self.column(0))]
    }

    /// Unit normal of the slices: row direction x column direction, LPS.
    pub fn normal(&self) -> [f64; 3] {
        unit(cross(self.column(0), self.column(1)))
    }

    /// Angle between the slice axis and the line of the normal, degrees, 0 to 90. Not 0 for a tilted gantry.
    pub fn tilt_degrees(&self) -> f64 {
        let step = self.column(2);
        let along = dot(step, self.normal());
        let sideways = norm(sub(step, scale(self.normal(), along)));
        sideways.atan2(along.abs()).to_degrees()
    }

    /// Origin of slice `z`, LPS millimetres: the slice's own where they are uneven, else by the affine.
    pub fn slice_origin_mm(&self, z: usize) -> [f64; 3] {
        match self.slice_origins_mm.as_ref().and_then(|o| o.get(z)) {
            Some(&origin) => origin,
            None => self.position_mm([z as f64, 0.0, 0.0]),
        }
    }

    /// Largest distance between the same voxel of this grid and of `other`, millimetres; `None` where sizes differ.
    /// Frames of reference are not compared.
    pub fn distance_mm(&self, other: &Self) -> Option<f64> {
        if self.size != other.size {
            return None;
        }
        let mut worst = 0f64;
        let [_, rows, columns] = self.size;
        for z in 0..self.size[0] {
            for (y, x) in [(0, 0), (rows - 1, 0), (0, columns - 1), (rows - 1, columns - 1)] {
                let place = |g: &Self| {
                    let in_slice = sub(g.position_mm([0.0, y as f64, x as f64]), g.origin_mm());
                    add(g.slice_origin_mm(z), in_slice)
                };
                worst = worst.max(norm(sub(place(self), place(other))));
            }
        }
        Some(worst)
    }
}

/// What is needed of one slice to place it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlicePlane {
    /// Image Position (Patient): centre of the first voxel, LPS millimetres.
    pub position_mm: [f64; 3],
    /// Image Orientation (Patient): direction of a row (rising column index), then of a column (rising row index).
    pub orientation: [f64; 6],
    /// Pixel Spacing: between rows (y), then between columns (x), millimetres.
    pub spacing_mm: [f64; 2],
}

impl SlicePlane {
    /// Refuses numbers that place nothing: not finite, no spacing, directions not perpendicular unit vectors.
    pub fn check(&self) -> Result<(), Fault> {
        let all = self.position_mm.iter().chain(&self.orientation).chain(&self.spacing_mm);
        if all.clone().any(|v| !v.is_finite()) {
            return Err(Fault::new("geometry", "position, orientation or pixel spacing is not a finite number"));
        }
        if self.spacing_mm.iter().any(|&s| s <= 0.0) {
            return Err(Fault::new(
                "pixel-spacing",
                format!("pixel spacing must be above 0 mm, found {} x {}", self.spacing_mm[0], self.spacing_mm[1]),
            ));
        }
        let (row, column) = (self.row(), self.column());
        let (a, b, c) = (norm(row), norm(column), dot(row, column));
        if (a - 1.0).abs() > COSINE_TOLERANCE || (b - 1.0).abs() > COSINE_TOLERANCE || c.abs() > COSINE_TOLERANCE {
            return Err(Fault::new(
                "orientation",
                format!(
                    "image orientation must be two perpendicular unit vectors, found lengths {a:.4} and {b:.4} and a \
                     dot product of {c:.4}"
                ),
            ));
        }
        Ok(())
    }

    /// Direction of a row (rising column index).
    pub fn row(&self) -> [f64; 3] {
        [self.orientation[0], self.orientation[1], self.orientation[2]]
    }

    /// Direction of a column (rising row index).
    pub fn column(&self) -> [f64; 3] {
        [self.orientation[3], self.orientation[4], self.orientation[5]]
    }

    /// Unit normal: row x column.
    pub fn normal(&self) -> [f64; 3] {
        unit(cross(self.row(), self.column()))
    }

    /// Position along the normal, millimetres: what slices are ordered by.
    pub fn along_mm(&self) -> f64 {
        dot(self.position_mm, self.normal())
    }
}

/// A grid and what is to be said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The grid; `None` where the slices make none (`faults` says why).
    pub geometry: Option<Geometry>,
    /// What keeps the series from being used, unless the caller accepts its code ([`super::record::ALLOWABLE`]).
    pub faults: Vec<Fault>,
    /// What does not.
    pub warnings: Vec<Fault>,
}

/// Lays out slices that are already ordered ascending along the normal and share orientation and spacing (within
/// rounding). `rows` and `columns` in pixels. Slices are named by their index z, counted from 0.
pub fn layout(planes: &[SlicePlane], rows: usize, columns: usize, frame_of_reference: Option<String>) -> Layout {
    let mut out = Layout { geometry: None, faults: Vec::new(), warnings: Vec::new() };
    let (Some(first), Some(last)) = (planes.first(), planes.last()) else {
        out.faults.push(Fault::new("geometry", "the series has no slices"));
        return out;
    };
    for (z, plane) in planes.iter().enumerate() {
        if let Err(fault) = plane.check() {
            out.faults.push(fault.at(format_args!("slice {z}")));
            return out;
        }
    }
    let n = planes.len();
    let normal = first.normal();
    let origins: Vec<[f64; 3]> = planes.iter().map(|p| p.position_mm).collect();
    let build = |step: [f64; 3], slice_origins_mm, z_unknown| {
        let (x, y) = (scale(first.row(), first.spacing_mm[1]), scale(first.column(), first.spacing_mm[0]));
        let mut affine = [0f64; 12];
        for r in 0..3 {
            affine[r * 4..r * 4 + 4].copy_from_slice(&[x[r], y[r], step[r], first.position_mm[r]]);
        }
        let size = [n, rows, columns];
        Geometry { size, affine, slice_origins_mm, frame_of_reference: frame_of_reference.clone(), z_unknown }
    };
    if n == 1 {
        out.warnings.push(Fault::new("single-slice", "the series has one slice: its spacing along z is unknown"));
        out.geometry = Some(build(normal, None, true));
        return out;
    }

    let steps: Vec<f64> = origins.windows(2).map(|w| dot(sub(w[1], w[0]), normal)).collect();
    let total = sub(last.position_mm, first.position_mm);
    let along = dot(total, normal);
    if along.abs() < SAME_POSITION_MM {
        out.faults.push(Fault::new(
            "not-a-volume",
            format!("all {n} slices lie at the same position along their normal: they make no volume"),
        ));
        return out;
    }
    if let Some(z) = steps.iter().position(|&s| s < SAME_POSITION_MM) {
        out.faults.push(Fault::new(
            "duplicate-position",
            format!("slices {z} and {} lie at the same position along their normal", z + 1),
        ));
        return out;
    }
    let median = median(&steps);
    let tolerance = (median * SPACING_TOLERANCE).max(SAME_POSITION_MM);
    let uneven = spacing_faults(&steps, median, tolerance, &mut out.faults);

    // Of an uneven stack only the direction of the line is taken from its ends; the step is the usual one.
    let step = if uneven { scale(total, median / along) } else { scale(total, 1.0 / (n - 1) as f64) };
    let sideways = norm(sub(total, scale(normal, along)));
    let angle = sideways.atan2(along).to_degrees();
    if angle > TILT_DEGREES && sideways > TILT_MM {
        out.faults.push(Fault::new(
            "gantry-tilt",
            format!(
                "the slices are stacked {angle:.2} degrees off their normal (tilted gantry): the volume is sheared by \
                 {sideways:.1} mm from the first slice to the last"
            ),
        ));
    }
    let line = scale(total, 1.0 / along);
    let off = |z: usize| {
        let from_first = sub(origins[z], first.position_mm);
        norm(sub(from_first, scale(line, dot(from_first, normal))))
    };
    let worst = (0..n).max_by(|&a, &b| off(a).total_cmp(&off(b))).unwrap_or(0);
    let crooked = off(worst) > TILT_MM.max(median * SPACING_TOLERANCE);
    if crooked {
        out.faults.push(Fault::new(
            "slice-offset",
            format!("slice {worst} lies {:.2} mm beside the line from the first slice to the last", off(worst)),
        ));
    }
    out.geometry = Some(build(step, (uneven || crooked).then_some(origins), false));
    out
}

/// Adds `series-gap` and `uneven-spacing`, each naming the first such step; says whether there was one.
fn spacing_faults(steps: &[f64], median: f64, tolerance: f64, faults: &mut Vec<Fault>) -> bool {
    let mut found = false;
    let wide = |s: f64| s > median + tolerance;
    let narrow = |s: f64| s < median - tolerance;
    for (code, is_off) in [("series-gap", &wide as &dyn Fn(f64) -> bool), ("uneven-spacing", &narrow)] {
        let count = steps.iter().filter(|&&s| is_off(s)).count();
        let Some((z, &step)) = steps.iter().enumerate().find(|&(_, &s)| is_off(s)) else { continue };
        found = true;
        let more = if count > 1 { format!(" ({} such steps)", count) } else { String::new() };
        let what = if code == "series-gap" { "gap" } else { "step" };
        faults.push(Fault::new(
            code,
            format!("slice spacing {} mm, {what} of {} mm after slice {z}{more}", mm(median), mm(step)),
        ));
    }
    found
}

/// Millimetres with at least one and at most three decimals.
fn mm(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0');
    if text.ends_with('.') { format!("{text}0") } else { text.to_owned() }
}

/// The lower median of a list that is not empty.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len().max(1) - 1) / 2).copied().unwrap_or(0.0)
}

/// Inner product.
pub fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Cross product a x b.
pub fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// Euclidean length.
pub fn norm(a: [f64; 3]) -> f64 {
    dot(a, a).sqrt()
}

fn add(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

fn sub(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

fn scale(a: [f64; 3], s: f64) -> [f64; 3] {
    a.map(|v| v * s)
}

/// The unit vector along `a`; `a` itself where it has no length.
fn unit(a: [f64; 3]) -> [f64; 3] {
    let n = norm(a);
    if n > 0.0 { scale(a, 1.0 / n) } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(position_mm: [f64; 3]) -> SlicePlane {
        SlicePlane { position_mm, orientation: [1., 0., 0., 0., 1., 0.], spacing_mm: [0.7, 0.6] }
    }

    fn codes(layout: &Layout) -> Vec<&str> {
        layout.faults.iter().map(|f| f.code.as_str()).collect()
    }

    #[test]
    fn even_stack_gives_the_standard_affine() {
        let planes: Vec<_> = (0..5).map(|z| plane([-10., -20., 30. + 2. * f64::from(z)])).collect();
        let layout = layout(&planes, 4, 6, None);
        assert_eq!(codes(&layout), [""; 0]);
        let g = layout.geometry.unwrap();
        assert_eq!(g.size, [5, 4, 6]);
        assert_eq!(g.affine, [0.6, 0., 0., -10., 0., 0.7, 0., -20., 0., 0., 2., 30.]);
        assert_eq!(g.spacing_mm(), [2.0, 0.7, 0.6]);
        assert_eq!(g.position_mm([1., 2., 3.]), [-10. + 1.8, -20. + 1.4, 32.]);
        assert_eq!(g.slice_origins_mm, None);
        assert!(g.tilt_degrees() < 1e-9);
    }

    #[test]
    fn a_missing_slice_is_a_gap_with_its_place() {
        let planes: Vec<_> = (0..60).filter(|&z| z != 38).map(|z| plane([0., 0., 2. * f64::from(z)])).collect();
        let layout = layout(&planes, 4, 4, None);
        assert_eq!(codes(&layout), ["series-gap"]);
        assert_eq!(layout.faults[0].text, "slice spacing 2.0 mm, gap of 4.0 mm after slice 37");
        let g = layout.geometry.unwrap();
        assert_eq!(g.spacing_mm()[0], 2.0);
        assert_eq!(g.slice_origin_mm(38), [0., 0., 78.]);
    }

    #[test]
    fn spacing_may_vary_by_one_percent_and_no_more() {
        for (last, expected) in [(3.009, 0), (3.02, 1), (2.98, 1)] {
            let planes = [0., 1., 2., last].map(|z| plane([0., 0., z]));
            assert_eq!(layout(&planes, 4, 4, None).faults.len(), expected, "{last}");
        }
    }

    #[test]
    fn shear_is_a_tilt_and_the_affine_is_true() {
        let shear = 18.5f64.to_radians().tan();
        let planes: Vec<_> = (0..10).map(|z| plane([0., shear * f64::from(z) * 3., f64::from(z) * 3.])).collect();
        let layout = layout(&planes, 4, 4, None);
        assert_eq!(codes(&layout), ["gantry-tilt"]);
        assert!(layout.faults[0].text.contains("18.50 degrees"), "{}", layout.faults[0].text);
        let g = layout.geometry.unwrap();
        assert!((g.position_mm([9., 0., 0.])[1] - shear * 27.).abs() < 1e-9);
        assert!((g.tilt_degrees() - 18.5).abs() < 1e-9);
    }

    #[test]
    fn bad_numbers_are_named() {
        let mut bad = plane([0., f64::NAN, 0.]);
        assert_eq!(codes(&layout(&[plane([0.; 3]), bad], 4, 4, None)), ["geometry"]);
        bad = plane([0.; 3]);
        bad.orientation = [1., 0., 0., 0.5, 1., 0.];
        assert_eq!(codes(&layout(&[bad], 4, 4, None)), ["orientation"]);
        bad = plane([0.; 3]);
        bad.spacing_mm = [0., 1.];
        assert_eq!(codes(&layout(&[bad], 4, 4, None)), ["pixel-spacing"]);
        assert_eq!(codes(&layout(&[plane([0.; 3]), plane([0.; 3])], 4, 4, None)), ["not-a-volume"]);
        let twice = [0., 1., 1., 2.].map(|z| plane([0., 0., z]));
        assert_eq!(codes(&layout(&twice, 4, 4, None)), ["duplicate-position"]);
        let crooked = [0., 0., 5., 0.].iter().enumerate().map(|(z, &x)| plane([x, 0., z as f64])).collect::<Vec<_>>();
        assert_eq!(codes(&layout(&crooked, 4, 4, None)), ["slice-offset"]);
    }

    #[test]
    fn a_single_slice_is_allowed_with_a_warning() {
        let layout = layout(&[plane([1., 2., 3.])], 4, 4, None);
        assert!(layout.faults.is_empty());
        assert_eq!(layout.warnings[0].code, "single-slice");
        assert!(layout.geometry.unwrap().z_unknown);
    }

    #[test]
    fn grids_are_compared_at_their_corners() {
        let planes: Vec<_> = (0..5).map(|z| plane([0., 0., f64::from(z)])).collect();
        let a = layout(&planes, 11, 11, None).geometry.unwrap();
        let mut b = a.clone();
        b.affine[5] += 0.01;
        assert!((a.distance_mm(&b).unwrap() - 0.1).abs() < 1e-12);
        b.size[0] = 4;
        assert_eq!(a.distance_mm(&b), None);
    }
}
