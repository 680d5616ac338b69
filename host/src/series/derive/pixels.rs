//! From physical values back to stored integers.
//!
//! Stored value = (physical - intercept) / slope, computed in f64, rounded half away from zero, then clamped to what
//! Bits Stored can hold (never wrapped). A voxel that no stage touched comes back as the stored value it had; see
//! `PixelCoding::from_header` for where that could fail and is refused.

use std::ops::Range;

use super::coding::PixelCoding;
use crate::series::record::Fault;

/// How a physical value between two stored ones is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rounding {
    /// To the nearest; halves away from zero (an error of at most half a step).
    #[default]
    Nearest,
    /// Toward zero in *physical* units, as the published DuCoSy program stores (compatibility mode only). A value
    /// within f32 rounding of a stored one is that one: untouched voxels are exact here too.
    Truncate,
}

/// A run of padding pixels in a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaddingRun {
    /// First pixel, counted row by row from 0.
    pub start: usize,
    /// Number of pixels.
    pub len: usize,
    /// What they all hold: a stored value, or, where it does not fit in Bits Stored (a frequent fault of scanners),
    /// the whole allocated cell, whose low Bits Allocated bits are then written as they are.
    pub stored: i32,
}

impl PaddingRun {
    /// The runs of a decoded slice: `runs` are the padded pixels, ascending; `range` the smallest and largest padding
    /// value as the header gives them; `stored` the stored values `[Y, X]`. One padding value is taken from the header,
    /// a range from the pixels; neighbours with the same value make one run.
    pub fn of(runs: &[Range<usize>], range: (i32, i32), stored: &[i32]) -> Vec<Self> {
        let mut out: Vec<Self> = Vec::new();
        for pixel in runs.iter().cloned().flatten() {
            let value = if range.0 == range.1 { Some(&range.0) } else { stored.get(pixel) };
            let Some(&value) = value else { continue };
            match out.last_mut() {
                Some(run) if run.stored == value && run.start + run.len == pixel => run.len += 1,
                _ => out.push(Self { start: pixel, len: 1, stored: value }),
            }
        }
        out
    }
}

/// The new content of one slice.
#[derive(Debug, Clone, Copy)]
pub struct SlicePixels<'a> {
    /// Position in the ascending order of the series, counted from 0; Instance Number is this + 1.
    pub index: usize,
    /// Physical values `[Y, X]` (Hounsfield units for CT), all finite.
    pub values: &'a [f32],
    /// Pixels that are padding: their stored value is written, whatever `values` says there (NaN included).
    pub padding: &'a [PaddingRun],
    /// How to round.
    pub rounding: Rounding,
    /// Set where the header is that of one frame of a multi-frame file, made into a single-frame one.
    pub frame: Option<SourceFrame<'a>>,
}

/// The frame of a multi-frame file that a header was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceFrame<'a> {
    /// SOP Class UID of the file.
    pub sop_class: &'a str,
    /// The frame, counted from 0.
    pub index: u32,
}

/// Stored samples as they go into the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Encoded {
    /// Samples `[Y, X]` with sign extension or zeros above the stored bits, shifted up to High Bit.
    pub samples: Vec<u16>,
    /// Smallest and largest stored value of pixels that are not padding; `None` if all are.
    pub extremes: Option<(i32, i32)>,
    /// How many voxels were clamped.
    pub clamped: usize,
}

impl SlicePixels<'_> {
    /// Stores the slice as `coding` says.
    ///
    /// # Errors
    /// `slice-size`, `not-finite` (with row and column), `padding-run`.
    pub(super) fn encode(&self, coding: &PixelCoding) -> Result<Encoded, Fault> {
        let size = coding.rows * coding.columns;
        if self.values.len() != size {
            return Err(Fault::new(
                "slice-size",
                format!(
                    "slice {}: expected {} x {} = {size} voxels, found {}",
                    self.index,
                    coding.rows,
                    coding.columns,
                    self.values.len()
                ),
            ));
        }
        // Samples of padding pixels, by pixel.
        let mut padded = vec![false; if self.padding.is_empty() { 0 } else { size }];
        for run in self.padding {
            let end = run.start.checked_add(run.len).filter(|&end| end <= size);
            let Some(pixels) = end.and_then(|end| padded.get_mut(run.start..end)) else {
                return Err(Fault::new(
                    "padding-run",
                    format!("slice {}: a padding run leaves the slice of {size} pixels", self.index),
                ));
            };
            pixels.fill(true);
        }
        let (lo, hi) = coding.stored_range();
        let shift = u32::from(coding.high_bit + 1 - coding.bits_stored);
        let round: fn(f64, &PixelCoding) -> f64 = match self.rounding {
            Rounding::Nearest => |steps, _| steps.round(),
            Rounding::Truncate => truncate,
        };
        let mut out = Encoded { samples: Vec::with_capacity(size), extremes: None, clamped: 0 };
        for (i, &value) in self.values.iter().enumerate() {
            if padded.get(i) == Some(&true) {
                out.samples.push(0);
                continue;
            }
            if !value.is_finite() {
                return Err(Fault::new(
                    "not-finite",
                    format!(
                        "slice {}, row {}, column {}: the value is not a finite number",
                        self.index,
                        i / coding.columns,
                        i % coding.columns
                    ),
                ));
            }
            let wanted = round((f64::from(value) - coding.intercept) / coding.slope, coding);
            let stored = wanted.clamp(f64::from(lo), f64::from(hi));
            out.clamped += usize::from(stored != wanted);
            let stored = stored as i32;
            out.extremes = Some(out.extremes.map_or((stored, stored), |(a, b)| (a.min(stored), b.max(stored))));
            out.samples.push((stored << shift) as u16);
        }
        for run in self.padding {
            let shift = if (lo..=hi).contains(&run.stored) { shift } else { 0 };
            let sample = (run.stored << shift) as u16;
            out.samples.get_mut(run.start..run.start + run.len).unwrap_or_default().fill(sample);
        }
        Ok(out)
    }
}

/// The stored value whose physical value is nearest to `steps`'s, not beyond it as seen from physical zero.
fn truncate(steps: f64, coding: &PixelCoding) -> f64 {
    let nearest = steps.round();
    // What f32 can have done to an exact stored value.
    if (steps - nearest).abs() <= coding.noise_steps(nearest).min(0.5) {
        return nearest;
    }
    // Toward physical zero is toward the stored value of physical zero.
    let zero = -coding.intercept / coding.slope;
    if steps > zero { steps.floor() } else { steps.ceil() }
}
