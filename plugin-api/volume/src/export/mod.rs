//! Labels on the image's grid from a network's logits on its own, class after class in one block of rows at a time.
//!
//! No class is ever held at full resolution: beside the logits only the labels and a few rows per thread exist. Two
//! ways give the same labels, [`Way::Exact`] by interpolating every class at every voxel, [`Way::Fast`] by doing so
//! only where the neighbours' labels leave a doubt.

mod certain;
mod higher_order;
mod one_hot;
mod plain;
mod regions;

use half::f16;

use crate::error::{Error, Result, expect_length, voxels};
use crate::interpolate::AxisOrder;
use crate::linear::{Grid, linear};
use crate::sample::FromReal;
use crate::taps::{Alignment, Taps};

pub use higher_order::higher_order;
pub use one_hot::one_hot;

/// Which voxels are interpolated in full; the labels are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// Every class at every voxel, as nnU-Net does.
    Exact,
    /// Not where all neighbours agree on one class by more than rounding could undo.
    Fast,
}

/// What a voxel's label is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// The class with the greatest logit, of equals the first.
    Greatest,
    /// Regions that may overlap: channel `i` writes label `order[i]` wherever its sigmoid exceeds one half, later
    /// channels over earlier ones (`regions_class_order` of dataset.json).
    Regions(&'a [u8]),
}

impl Decision<'_> {
    /// Labels of a row of voxels from finite logits on the same grid; `logits` gives the row of each of `classes` (at most 256).
    pub fn row<'l>(&self, classes: usize, logits: impl Fn(usize) -> &'l [f16], labels: &mut [u8]) {
        match self {
            Self::Greatest => plain::row(classes, logits, labels),
            Self::Regions(order) => regions::row(order, logits, labels),
        }
    }

    /// Labels of every voxel of the network's grid.
    fn every(&self, logits: &Logits<'_>, labels: &mut [u8]) {
        const PART: usize = 1 << 14;
        use rayon::prelude::*;
        labels.par_chunks_mut(PART).enumerate().for_each(|(part, labels)| {
            let length = labels.len();
            self.row(logits.classes, |class| &logits.class(class)[part * PART..][..length], labels);
        });
    }
}

/// A network's logits `[class, z, y, x]` in half precision, all finite.
#[derive(Debug, Clone, Copy)]
pub struct Logits<'a> {
    values: &'a [f16],
    classes: usize,
    size: [usize; 3],
}

impl<'a> Logits<'a> {
    /// From the values, the number of classes (1..=256) and the size of one class.
    ///
    /// # Errors
    /// A length that does not fit, no or too many classes, or a value that is not finite.
    pub fn new(values: &'a [f16], classes: usize, size: [usize; 3]) -> Result<Self> {
        let one = voxels("logits", size)?;
        if classes == 0 || classes > 256 {
            return Err(Error::Range { what: "classes", expected: "1 to 256".into(), found: classes });
        }
        let expected = one.checked_mul(classes).ok_or(Error::TooLarge { what: "logits", size })?;
        if values.len() != expected {
            let size = vec![classes, size[0], size[1], size[2]];
            return Err(Error::Length { what: "logits", size, expected, found: values.len() });
        }
        let odd = |v: &f16| v.to_bits() & 0x7C00 == 0x7C00;
        use rayon::prelude::*;
        let whole = values.par_chunks(1 << 16).all(|part| !part.iter().fold(false, |any, v| any | odd(v)));
        if !whole && let Some(at) = values.iter().position(odd) {
            return Err(Error::NotFinite { what: "logits", at, found: values[at].to_f64() });
        }
        Ok(Self { values, classes, size })
    }

    /// Number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Size of one class (z, y, x).
    #[must_use]
    pub fn size(&self) -> [usize; 3] {
        self.size
    }

    /// One class.
    pub(crate) fn class(&self, class: usize) -> &'a [f16] {
        let n = self.values.len() / self.classes;
        &self.values[class * n..(class + 1) * n]
    }

    /// All classes, one after another.
    pub(crate) fn each(&self) -> std::slice::ChunksExact<'a, f16> {
        self.values.chunks_exact(self.values.len() / self.classes)
    }
}

/// Where nnU-Net takes logits of a grid on another one: linear, or linear in the planes across `separate` and the nearest
/// plane along it.
fn grid(size: [usize; 3], new_size: [usize; 3], separate: Option<usize>) -> Grid {
    let axes = [0, 1, 2].map(|a| {
        if separate == Some(a) {
            Taps::nearest(Alignment::Faces, size[a], new_size[a])
        } else {
            Taps::linear(Alignment::Faces, size[a], new_size[a])
        }
    });
    Grid { size, axes, order: AxisOrder::Zyx }
}

/// The labels `[z, y, x]` at `new_size` that nnU-Net's export gives for these logits.
///
/// `separate` is the axis that [`crate::separate_axis`] gives. Logits of the same size as the labels are not resampled.
///
/// # Errors
/// An empty axis, an axis number beyond 2, or region labels that are not one per channel.
pub fn labels(
    logits: &Logits<'_>,
    new_size: [usize; 3],
    separate: Option<usize>,
    decision: Decision<'_>,
    way: Way,
) -> Result<Vec<u8>> {
    let mut out = vec![0; voxels("labels", new_size)?];
    expect_axis(separate)?;
    if let Decision::Regions(order) = decision
        && order.len() != logits.classes
    {
        let expected = format!("one label for each of the {} channels", logits.classes);
        return Err(Error::Range { what: "regions_class_order", expected, found: order.len() });
    }
    if logits.size == new_size {
        decision.every(logits, &mut out);
        return Ok(out);
    }
    let grid = grid(logits.size, new_size, separate);
    match (decision, way) {
        (Decision::Greatest, Way::Exact) => plain::exact(logits, &grid, &mut out),
        (Decision::Greatest, Way::Fast) => certain::fast(logits, &grid, &mut out),
        (Decision::Regions(order), _) => regions::resampled(logits, &grid, order, &mut out),
    }
    Ok(out)
}

/// One class resampled as for [`labels`], in half precision.
///
/// # Errors
/// An empty axis, an axis number beyond 2, or a class that is not there.
pub fn resample_class(
    logits: &Logits<'_>,
    class: usize,
    new_size: [usize; 3],
    separate: Option<usize>,
) -> Result<Vec<f16>> {
    let mut out = vec![f16::ZERO; voxels("logits after resampling", new_size)?];
    expect_axis(separate)?;
    if class >= logits.classes {
        let expected = format!("less than the number of classes, {}", logits.classes);
        return Err(Error::Range { what: "class", expected, found: class });
    }
    if logits.size == new_size {
        out.copy_from_slice(logits.class(class));
    } else {
        let grid = grid(logits.size, new_size, separate);
        linear(logits.class(class), &grid, &mut out, |v, out| *out = f16::from_real(v));
    }
    Ok(out)
}

/// Refuses an axis number beyond 2.
fn expect_axis(axis: Option<usize>) -> Result<()> {
    match axis {
        Some(found) if found > 2 => Err(Error::Range { what: "axis", expected: "0 (z), 1 (y) or 2 (x)".into(), found }),
        _ => Ok(()),
    }
}

/// The label of a class; [`Logits`] has at most 256.
fn label(class: usize) -> u8 {
    u8::try_from(class).unwrap_or(u8::MAX)
}

/// Refuses labels that do not fit their grid.
fn expect_labels(labels: &[u8], size: [usize; 3]) -> Result<()> {
    expect_length("labels", size, labels.len())
}
