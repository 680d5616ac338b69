//! The post-processing of a volume: smooth along z, re-estimate by a method, sharpen in the plane, protect what is bright
//! (`DuCoSy` specification, section 7, steps 1 to 4). The unit of the values is the caller's.

use crate::along_z;
use crate::gaussian::{self, Kernel, mirrored};
use crate::parallel::{Stopped, each};

/// Sigma along z of the first pass of [`Method::Adaptive`].
const ADAPTIVE_FIRST_SIGMA_Z: f64 = 1.5;
/// Sigmas along z, and along y and x, of its second pass.
const ADAPTIVE_SECOND_SIGMAS: (f64, f64) = (3.0, 0.3);

/// How each voxel is estimated anew from its neighbours along z (and in the plane). Sigmas in voxels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// Gaussian along z.
    Gaussian {
        /// Along z.
        sigma_z: f64,
    },
    /// Gaussian along z, then y and x.
    Gaussian3d {
        /// Along z.
        sigma_z: f64,
        /// Along y and x.
        sigma_xy: f64,
    },
    /// Two fixed Gaussian passes: 1.5 along z, then 3.0 along z with 0.3 in the plane.
    Adaptive,
    /// Median of three slices.
    Median,
    /// A not-a-knot cubic spline, taken between the slices.
    Interpolation,
    /// A Kalman filter from the first slice upwards.
    Kalman,
}

impl Method {
    /// Fewest slices it is defined for.
    pub fn least_slices(self) -> usize {
        if self == Self::Interpolation { along_z::SPLINE_SLICES } else { 1 }
    }
}

/// Unsharp masking in the plane of a slice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sharpen {
    /// Weight `a` in `S = G + a ((1 - a) (G - blur G) + a (O - blur O))`.
    pub amount: f64,
    /// Sigma of the blur in pixels.
    pub radius_px: f64,
}

/// The whole chain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chain {
    /// Sigma of the first smoothing along z, voxels; 0: none. Its result is O.
    pub smooth_z_sigma: f64,
    /// Makes G from O.
    pub method: Method,
    /// Makes S from G and O, clipped to the range of O over the volume.
    pub sharpen: Option<Sharpen>,
    /// Where O is at or above it, O is the result.
    pub protect_above: f64,
}

/// Voxels of one channel.
#[derive(Debug, Clone)]
pub struct Volume<'a> {
    /// Slices along z, each `rows * columns` values, row by row; all finite.
    pub planes: Vec<&'a [f32]>,
    /// Columns of a slice.
    pub columns: usize,
}

/// Working memory of one thread: five planes.
#[derive(Default)]
struct Scratch {
    method: Vec<f64>,
    method_f32: [Vec<f32>; 2],
    blurred: [Vec<f64>; 2],
    input: Vec<f64>,
    padded: Vec<f64>,
}

/// What a method prepared over the whole volume before single planes can be asked for.
enum Prepared {
    Nothing,
    /// The first pass of `Adaptive`.
    Planes(Vec<f32>),
    /// A result stored as `[y][z][x]`.
    Rows(Vec<f64>),
}

impl Chain {
    /// Bytes of working memory for a volume of `[z, y, x]` voxels, beyond its input and output.
    pub fn bytes(&self, [z, y, x]: [usize; 3], threads: usize) -> usize {
        let plane = y * x;
        let smoothed = if self.smooth_z_sigma > 0.0 { 4 } else { 0 };
        let prepared = match self.method {
            Method::Adaptive => 4,
            Method::Interpolation | Method::Kalman => 8,
            _ => 0,
        };
        plane * z * (smoothed + prepared) + plane * 48 * threads
    }

    /// Runs the chain. `finish(z, result, out)` turns a slice of results into what is wanted and is called once for
    /// each slice with the element of `out` that belongs to it, from several threads; `out` has one element a slice.
    ///
    /// `watch(done, total)` hears of progress and says whether to go on.
    ///
    /// # Errors
    /// [`Stopped`] once `watch` says so.
    ///
    /// # Panics
    /// If the volume has fewer slices than the method needs, or `out` has another number of them.
    pub fn run<T: Send>(
        &self,
        volume: &Volume<'_>,
        out: Vec<T>,
        threads: usize,
        watch: &(dyn Fn(usize, usize) -> bool + Sync),
        finish: impl Fn(usize, &[f64], T) + Sync,
    ) -> Result<(), Stopped> {
        let slices = volume.planes.len();
        assert_eq!(slices, out.len(), "one output for each slice");
        let plane_len = volume.planes.first().map_or(0, |p| p.len());
        if plane_len == 0 {
            return Ok(());
        }
        assert!(slices >= self.method.least_slices(), "{:?} with {slices} slices", self.method);
        let total = 3 * slices;

        let mut smoothed = Vec::new();
        let smooth = Kernel::new(self.smooth_z_sigma);
        if self.smooth_z_sigma > 0.0 {
            smoothed.resize(plane_len * slices, 0.0_f32);
            let pieces = smoothed.chunks_exact_mut(plane_len).collect();
            each(
                pieces,
                threads,
                &|done| watch(done, total),
                || (),
                |z, plane, ()| {
                    gaussian::along_z(&volume.planes, z, &smooth, plane);
                },
            )?;
        }
        let original = if smoothed.is_empty() {
            volume.clone()
        } else {
            Volume { planes: smoothed.chunks_exact(plane_len).collect(), columns: volume.columns }
        };
        let (low, high) = range(&original);
        let prepared = self.prepare(&original, threads, &|done| watch(slices + done, total))?;
        let estimate = Estimate::new(self.method, &original, &prepared);
        let blur = self.sharpen.map(|s| (s.amount, Kernel::new(s.radius_px)));

        each(out, threads, &|done| watch(2 * slices + done, total), Scratch::default, |z, out, scratch| {
            estimate.plane(z, scratch);
            let original = original.planes[z];
            if let Some((amount, kernel)) = &blur {
                sharpen(scratch, original, volume.columns, *amount, kernel, (low, high));
            }
            for (value, &original) in scratch.method.iter_mut().zip(original) {
                let original = f64::from(original);
                if original >= self.protect_above {
                    *value = original;
                }
            }
            finish(z, &scratch.method, out);
        })
    }

    fn prepare(
        &self,
        original: &Volume<'_>,
        threads: usize,
        watch: &(dyn Fn(usize) -> bool + Sync),
    ) -> Result<Prepared, Stopped> {
        let (slices, columns) = (original.planes.len(), original.columns);
        let plane_len = original.planes[0].len();
        match self.method {
            Method::Adaptive => {
                let kernel = Kernel::new(ADAPTIVE_FIRST_SIGMA_Z);
                let mut first = vec![0.0_f32; plane_len * slices];
                let pieces = first.chunks_exact_mut(plane_len).collect();
                each(
                    pieces,
                    threads,
                    watch,
                    || (),
                    |z, plane, ()| {
                        gaussian::along_z(&original.planes, z, &kernel, plane);
                    },
                )?;
                Ok(Prepared::Planes(first))
            }
            Method::Interpolation | Method::Kalman => {
                let mut rows = vec![0.0_f64; plane_len * slices];
                let pieces: Vec<&mut [f64]> = rows.chunks_exact_mut(slices * columns).collect();
                let n = pieces.len();
                let scratch = || (Vec::new(), Vec::new());
                let watch = |done: usize| watch(done * slices / n);
                each(pieces, threads, &watch, scratch, |y, out, (row, bend): &mut (Vec<f64>, Vec<f64>)| {
                    row.clear();
                    for plane in &original.planes {
                        row.extend(plane[y * columns..(y + 1) * columns].iter().map(|&v| f64::from(v)));
                    }
                    if self.method == Method::Kalman {
                        along_z::kalman(row, columns, out);
                    } else {
                        along_z::spline(row, columns, out, bend);
                    }
                })?;
                Ok(Prepared::Rows(rows))
            }
            _ => Ok(Prepared::Nothing),
        }
    }
}

/// Gives single planes of G.
struct Estimate<'a> {
    method: Method,
    original: &'a Volume<'a>,
    first_pass: Vec<&'a [f32]>,
    rows: &'a [f64],
    kernel_z: Kernel,
    kernel_xy: Kernel,
}

impl<'a> Estimate<'a> {
    fn new(method: Method, original: &'a Volume<'a>, prepared: &'a Prepared) -> Self {
        let (sigma_z, sigma_xy) = match method {
            Method::Gaussian { sigma_z } => (sigma_z, 0.0),
            Method::Gaussian3d { sigma_z, sigma_xy } => (sigma_z, sigma_xy),
            Method::Adaptive => ADAPTIVE_SECOND_SIGMAS,
            Method::Median | Method::Interpolation | Method::Kalman => (0.0, 0.0),
        };
        let (first_pass, rows) = match prepared {
            Prepared::Nothing => (Vec::new(), &[][..]),
            Prepared::Planes(values) => (values.chunks_exact(original.planes[0].len()).collect(), &[][..]),
            Prepared::Rows(values) => (Vec::new(), values.as_slice()),
        };
        let (kernel_z, kernel_xy) = (Kernel::new(sigma_z), Kernel::new(sigma_xy));
        Self { method, original, first_pass, rows, kernel_z, kernel_xy }
    }

    /// Puts plane `z` of G into `scratch.method`.
    fn plane(&self, z: usize, scratch: &mut Scratch) {
        let planes = &self.original.planes;
        let (columns, len) = (self.original.columns, planes[z].len());
        let Scratch { method, method_f32: [a, b], blurred: [wide, _], padded, .. } = scratch;
        method.resize(len, 0.0);
        match self.method {
            // One rounding to single precision after each axis, as in the reference.
            Method::Gaussian { .. } | Method::Gaussian3d { .. } => {
                a.resize(len, 0.0);
                gaussian::along_z(planes, z, &self.kernel_z, a);
                if !self.kernel_xy.is_identity() {
                    b.resize(len, 0.0);
                    gaussian::along_y(a, columns, &self.kernel_xy, b);
                    gaussian::along_x(b, columns, &self.kernel_xy, a, padded);
                }
                widen(a, method);
            }
            Method::Adaptive => {
                wide.resize(len, 0.0);
                gaussian::along_z(&self.first_pass, z, &self.kernel_z, method);
                gaussian::along_y(method, columns, &self.kernel_xy, wide);
                gaussian::along_x(wide, columns, &self.kernel_xy, method, padded);
            }
            Method::Median => {
                let below = planes[mirrored(z as isize - 1, planes.len())];
                let above = planes[mirrored(z as isize + 1, planes.len())];
                for (((out, &a), &b), &c) in method.iter_mut().zip(below).zip(planes[z]).zip(above) {
                    *out = f64::from(a.min(b).max(a.max(b).min(c)));
                }
            }
            Method::Interpolation | Method::Kalman => {
                let slab = planes.len() * columns;
                for (out, rows) in method.chunks_exact_mut(columns).zip(self.rows.chunks_exact(slab)) {
                    out.copy_from_slice(&rows[z * columns..(z + 1) * columns]);
                }
            }
        }
    }
}

/// Replaces G in `scratch.method` by S.
fn sharpen(
    scratch: &mut Scratch,
    original: &[f32],
    columns: usize,
    amount: f64,
    kernel: &Kernel,
    (low, high): (f64, f64),
) {
    let Scratch { method, blurred: [blur_g, blur_o], input, padded, .. } = scratch;
    let len = method.len();
    for buffer in [&mut *blur_g, &mut *blur_o, &mut *input] {
        buffer.resize(len, 0.0);
    }
    // blur_o serves as the half-way buffer of blur_g, then input serves blur_o.
    gaussian::along_y(method, columns, kernel, blur_o);
    gaussian::along_x(blur_o, columns, kernel, blur_g, padded);
    widen(original, blur_o);
    gaussian::along_y(blur_o, columns, kernel, input);
    gaussian::along_x(input, columns, kernel, blur_o, padded);
    for (((g, &blur_g), &blur_o), &o) in method.iter_mut().zip(&*blur_g).zip(&*blur_o).zip(original) {
        let (detail_g, detail_o) = (*g - blur_g, f64::from(o) - blur_o);
        *g = (*g + amount * ((1.0 - amount) * detail_g + amount * detail_o)).clamp(low, high);
    }
}

fn widen(from: &[f32], to: &mut [f64]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = f64::from(from);
    }
}

/// Smallest and largest value of a volume that has some.
fn range(volume: &Volume<'_>) -> (f64, f64) {
    let start = (f32::INFINITY, f32::NEG_INFINITY);
    let (low, high) = volume
        .planes
        .iter()
        .fold(start, |range, plane| plane.iter().fold(range, |(low, high), &v| (low.min(v), high.max(v))));
    (f64::from(low), f64::from(high))
}
