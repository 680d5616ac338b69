//! Gaussian smoothing along one axis, with the exact roundings of the reference.
//!
//! Every pass adds up in double precision, the centre first and then pairs from far to near, and is rounded to the
//! array's type once (`DuCoSy` specification, section 7). With that order results are bit-identical to the reference,
//! whatever the number of threads. Beyond the ends the volume is mirrored at the outer faces of its outermost voxels
//! (`d c b a | a b c d | d c b a`).

/// A voxel type that sums are taken from and rounded to.
pub trait Real: Copy + Send + Sync + Default {
    /// Exact.
    fn wide(self) -> f64;
    /// Rounded to nearest.
    fn rounded(value: f64) -> Self;
}

impl Real for f32 {
    fn wide(self) -> f64 {
        f64::from(self)
    }
    fn rounded(value: f64) -> Self {
        value as f32
    }
}

impl Real for f64 {
    fn wide(self) -> f64 {
        self
    }
    fn rounded(value: f64) -> Self {
        value
    }
}

/// Weights of a sampled Gaussian that add up to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    centre: f64,
    /// Weights at distances radius, radius - 1, ..., 1.
    far_to_near: Vec<f64>,
}

impl Kernel {
    /// The kernel of `sigma` voxels, cut off at 4 sigma. A sigma of 0 gives the identity.
    pub fn new(sigma: f64) -> Self {
        let radius = (4.0 * sigma + 0.5) as usize;
        if radius == 0 {
            return Self { centre: 1.0, far_to_near: Vec::new() };
        }
        let factor = -0.5 / (sigma * sigma);
        let weight = |distance: usize| (factor * (distance * distance) as f64).exp();
        let raw: Vec<f64> = (0..=2 * radius).map(|i| weight(i.abs_diff(radius))).collect();
        let sum = summed(&raw);
        Self { centre: raw[radius] / sum, far_to_near: raw[..radius].iter().map(|w| w / sum).collect() }
    }

    /// Voxels it reaches to either side.
    pub fn radius(&self) -> usize {
        self.far_to_near.len()
    }

    /// Whether it changes nothing.
    pub fn is_identity(&self) -> bool {
        self.far_to_near.is_empty()
    }
}

/// The sum in the order of the reference: eight running sums, joined in pairs, then what is left over.
fn summed(values: &[f64]) -> f64 {
    if values.len() < 8 {
        return values.iter().sum();
    }
    let mut lanes = [0.0; 8];
    let blocks = values.chunks_exact(8);
    let rest = blocks.remainder();
    for block in blocks {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane += value;
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    rest.iter().fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |sum, value| sum + value)
}

/// Index `i` of a line of `n` voxels that is mirrored at its outer faces, again and again.
pub fn mirrored(i: isize, n: usize) -> usize {
    let wrapped = i.rem_euclid(2 * n as isize) as usize;
    if wrapped < n { wrapped } else { 2 * n - 1 - wrapped }
}

/// Smooths line `at` of `count` lines of equal length (planes along z, or rows along y) into `out`.
fn across<'a, I: Real + 'a, O: Real>(
    line: impl Fn(usize) -> &'a [I],
    count: usize,
    at: usize,
    kernel: &Kernel,
    out: &mut [O],
) {
    let radius = kernel.radius();
    let pairs: Vec<(&[I], &[I], f64)> = kernel
        .far_to_near
        .iter()
        .enumerate()
        .map(|(i, &weight)| {
            let distance = (radius - i) as isize;
            (line(mirrored(at as isize - distance, count)), line(mirrored(at as isize + distance, count)), weight)
        })
        .collect();
    weighted(line(at), kernel.centre, &pairs, out);
}

/// `out = centre * weight + sum of (left + right) * weight`, in blocks that stay in the first-level cache.
fn weighted<I: Real, O: Real>(centre: &[I], centre_weight: f64, pairs: &[(&[I], &[I], f64)], out: &mut [O]) {
    const BLOCK: usize = 512;
    let mut sums = [0.0_f64; BLOCK];
    for (block, out) in out.chunks_mut(BLOCK).enumerate() {
        let (from, len) = (block * BLOCK, out.len());
        let sums = &mut sums[..len];
        for (sum, value) in sums.iter_mut().zip(&centre[from..from + len]) {
            *sum = value.wide() * centre_weight;
        }
        for &(left, right, weight) in pairs {
            let (left, right) = (&left[from..from + len], &right[from..from + len]);
            for ((sum, left), right) in sums.iter_mut().zip(left).zip(right) {
                *sum += (left.wide() + right.wide()) * weight;
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = O::rounded(*sum);
        }
    }
}

/// Plane `z` of the volume smoothed along z. All planes are equally long.
pub fn along_z<I: Real, O: Real>(planes: &[&[I]], z: usize, kernel: &Kernel, out: &mut [O]) {
    across(|k| planes[k], planes.len(), z, kernel, out);
}

/// A plane (rows of `columns` voxels) smoothed along y.
pub fn along_y<T: Real>(plane: &[T], columns: usize, kernel: &Kernel, out: &mut [T]) {
    let rows = plane.len().checked_div(columns).unwrap_or(0);
    for (y, out) in out.chunks_exact_mut(columns.max(1)).enumerate() {
        across(|k| &plane[k * columns..(k + 1) * columns], rows, y, kernel, out);
    }
}

/// A plane (rows of `columns` voxels) smoothed along x. `padded` is working memory.
pub fn along_x<T: Real>(plane: &[T], columns: usize, kernel: &Kernel, out: &mut [T], padded: &mut Vec<f64>) {
    let radius = kernel.radius();
    for (row, out) in plane.chunks_exact(columns.max(1)).zip(out.chunks_exact_mut(columns.max(1))) {
        padded.clear();
        padded.extend((0..radius).map(|i| row[mirrored(i as isize - radius as isize, columns)].wide()));
        padded.extend(row.iter().map(|v| v.wide()));
        padded.extend((0..radius).map(|i| row[mirrored((columns + i) as isize, columns)].wide()));
        let shifted = |by: usize| &padded[by..by + columns];
        let pairs: Vec<(&[f64], &[f64], f64)> = kernel
            .far_to_near
            .iter()
            .enumerate()
            .map(|(i, &weight)| (shifted(i), shifted(2 * radius - i), weight))
            .collect();
        weighted(shifted(radius), kernel.centre, &pairs, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_have_the_reference_radii_and_sum_to_one() {
        for (sigma, radius) in [(0.05, 0), (0.3, 1), (0.7, 3), (0.8, 3), (1.0, 4), (1.2, 5), (2.0, 8), (3.0, 12)] {
            let kernel = Kernel::new(sigma);
            let sum = kernel.centre + 2.0 * kernel.far_to_near.iter().sum::<f64>();
            assert_eq!(kernel.radius(), radius, "{sigma}");
            assert!((sum - 1.0).abs() < 1e-15, "{sigma}: {sum}");
            assert_eq!(kernel.is_identity(), radius == 0);
        }
    }

    #[test]
    fn lines_are_mirrored_at_their_outer_faces() {
        let line: Vec<usize> = (-5..8).map(|i| mirrored(i, 3)).collect();
        assert_eq!(line, [1, 2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0, 1]);
        assert!((-20..20).all(|i| mirrored(i, 1) == 0));
    }

    #[test]
    fn an_impulse_gives_the_weights_along_each_axis() {
        let kernel = Kernel::new(0.8);
        let expected: Vec<f64> = {
            let raw: Vec<f64> = (-3..=3).map(|x: i32| (-f64::from(x * x) / 1.28).exp()).collect();
            let sum: f64 = raw.iter().sum();
            raw.iter().map(|w| w / sum).collect()
        };
        let impulse: Vec<f64> = (0..7).map(|i| f64::from(u8::from(i == 3))).collect();
        let mut x = vec![0.0; 7];
        along_x(&impulse, 7, &kernel, &mut x, &mut Vec::new());
        let mut y = vec![0.0; 7];
        along_y(&impulse, 1, &kernel, &mut y);
        let planes: Vec<&[f64]> = impulse.chunks(1).collect();
        let z: Vec<f64> = (0..7)
            .map(|z| {
                let mut out = [0.0];
                along_z(&planes, z, &kernel, &mut out);
                out[0]
            })
            .collect();
        for (i, expected) in expected.iter().enumerate() {
            assert!((x[i] - expected).abs() < 1e-15, "{i}");
        }
        assert_eq!(x, y);
        assert_eq!(x, z);
    }

    #[test]
    fn constants_stay_and_lines_shorter_than_the_kernel_work() {
        for n in [1, 2, 3, 5] {
            let line = vec![100.0_f32; n];
            let mut out = vec![0.0_f32; n];
            along_x(&line, n, &Kernel::new(3.0), &mut out, &mut Vec::new());
            assert!(out.iter().all(|v| (v - 100.0).abs() < 1e-4), "{out:?}");
        }
        along_x::<f32>(&[], 0, &Kernel::new(1.0), &mut [], &mut Vec::new());
        along_y::<f32>(&[], 0, &Kernel::new(1.0), &mut []);
    }
}
