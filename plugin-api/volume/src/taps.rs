//! Where along one axis each output voxel takes its values, and with which weights.

/// Values replicated beyond each end of a line before a cubic spline is fitted: scipy's choice for its mode `nearest`.
pub(crate) const CUBIC_PAD: usize = 12;

/// How two grids over one extent lie on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alignment {
    /// The outer faces of the first and last voxels coincide (scipy `grid_mode=True`, nnU-Net).
    Faces,
    /// The centres of the first and last voxels coincide (scipy `grid_mode=False`, TotalSegmentator).
    Centres,
}

/// The coordinate, in voxels of the old axis, of each voxel of the new one. Not clamped: faces reach -0.5..n-0.5.
#[expect(clippy::cast_precision_loss, reason = "axes are far shorter than 2^52")]
pub(crate) fn coordinates(alignment: Alignment, old: usize, new: usize) -> impl Iterator<Item = f64> {
    let ratio = match alignment {
        Alignment::Faces => old as f64 / new as f64,
        Alignment::Centres if new > 1 => (old as f64 - 1.0) / (new as f64 - 1.0),
        Alignment::Centres => 1.0,
    };
    (0..new).map(move |k| match alignment {
        Alignment::Faces => (k as f64 + 0.5) * ratio - 0.5,
        Alignment::Centres => k as f64 * ratio,
    })
}

/// The nearest voxel of the old axis, halves upward, clamped to the axis.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped from below at 0")]
pub(crate) fn nearest_index(coordinate: f64, old: usize) -> usize {
    ((coordinate + 0.5).floor().max(0.0) as usize).min(old - 1)
}

/// `N` neighbouring voxels of a line that was padded at both ends, and their weights, for each output voxel.
#[derive(Debug, Clone)]
pub(crate) struct Taps<const N: usize> {
    /// Index of the first of the neighbours in the padded line.
    pub first: Vec<usize>,
    /// Their weights.
    pub weights: Vec<[f64; N]>,
}

/// A stretch of output voxels of an axis, and the part of the padded line that it needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch<'a, const N: usize> {
    /// Where the part of the line begins.
    pub base: usize,
    /// Index of the first neighbour in the whole padded line.
    pub first: &'a [usize],
    /// Weights of the neighbours.
    pub weights: &'a [[f64; N]],
}

impl<const N: usize> Taps<N> {
    /// All output voxels, on the whole line.
    pub fn all(&self) -> Stretch<'_, N> {
        Stretch { base: 0, first: &self.first, weights: &self.weights }
    }

    /// Some output voxels (at least one; their neighbours ascend), on the part of the line that they need.
    pub fn stretch(&self, voxels: std::ops::Range<usize>) -> Stretch<'_, N> {
        let first = &self.first[voxels.clone()];
        Stretch { base: first[0], first, weights: &self.weights[voxels] }
    }

    /// Number of output voxels.
    pub fn len(&self) -> usize {
        self.first.len()
    }
}

impl<const N: usize> Stretch<'_, N> {
    /// The part of the padded line that is needed.
    pub fn needs(&self) -> std::ops::Range<usize> {
        self.base..self.first.last().map_or(self.base, |last| last + N)
    }
}

impl Taps<2> {
    /// Linear interpolation on a line padded by one replicated value at each end.
    pub fn linear(alignment: Alignment, old: usize, new: usize) -> Self {
        Self::linear_at(coordinates(alignment, old, new), old)
    }

    /// Linear interpolation at given coordinates on a line padded by one replicated value at each end.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped from below at 0")]
    pub fn linear_at(coordinates: impl Iterator<Item = f64>, old: usize) -> Self {
        let (first, weights) = coordinates
            .map(|c| {
                let floor = c.floor();
                // The last weight is what the others leave of one, which is not always the fraction itself.
                let before = 1.0 - (c - floor);
                (((floor + 1.0).max(0.0) as usize).min(old), [before, 1.0 - before])
            })
            .unzip();
        Self { first, weights }
    }

    /// The nearest voxel with weight one, in the same form: a second tap with weight nought changes no sum.
    pub fn nearest(alignment: Alignment, old: usize, new: usize) -> Self {
        let first: Vec<_> = coordinates(alignment, old, new).map(|c| nearest_index(c, old) + 1).collect();
        let weights = vec![[1.0, 0.0]; first.len()];
        Self { first, weights }
    }
}

impl Taps<4> {
    /// Cubic B-spline on a line padded by [`CUBIC_PAD`] replicated values at each end.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped from below at 0")]
    #[expect(clippy::cast_precision_loss, reason = "12")]
    pub fn cubic(alignment: Alignment, old: usize, new: usize) -> Self {
        let (first, weights) = coordinates(alignment, old, new)
            .map(|c| {
                let c = c + CUBIC_PAD as f64;
                let floor = c.floor();
                let t = c - floor;
                let z = 1.0 - t;
                let w1 = (t * t * (t - 2.0) * 3.0 + 4.0) / 6.0;
                let w2 = (z * z * (z - 2.0) * 3.0 + 4.0) / 6.0;
                let w0 = z * z * z / 6.0;
                let w3 = 1.0 - w0 - w1 - w2;
                (((floor - 1.0).max(0.0) as usize).min(old + 2 * CUBIC_PAD - 4), [w0, w1, w2, w3])
            })
            .unzip();
        Self { first, weights }
    }
}
