//! [`Accumulator`]: sums of the windows' predictions in half precision, as nnU-Net keeps them, for as many planes as
//! windows still reach.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use crate::error::{Error, Result};

/// Where the slab of a window lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// First voxel of the window on the padded image.
    pub window: [usize; 3],
    /// Size of the window.
    pub patch: [usize; 3],
    /// The slab's planes, counted from the window's first.
    pub first: usize,
    /// How many planes it has.
    pub planes: usize,
}

/// Sums of weighted logits, and of the weights.
///
/// Every sum is rounded to half precision, ties to even, so the order in which windows are added is part of the result.
pub(crate) struct Accumulator {
    /// Planes held: plane `z` of the padded image lies at `z % depth`.
    depth: usize,
    /// Rows and columns of the padded image.
    plane: [usize; 2],
    /// `[heads][depth][rows][columns]`.
    logits: Vec<f16>,
    /// `[depth][rows][columns]`.
    weights: Vec<f16>,
}

impl Accumulator {
    /// Sums of nothing.
    ///
    /// # Errors
    /// If that much memory cannot be addressed.
    pub fn new(heads: usize, depth: usize, plane: [usize; 2]) -> Result<Self> {
        let all = gantry_volume::voxels("sums of logits", [heads, depth, plane[0] * plane[1]])?;
        let weights = vec![f16::ZERO; depth * plane[0] * plane[1]];
        Ok(Self { depth, plane, logits: vec![f16::ZERO; all], weights })
    }

    /// Bytes held for so many heads and planes.
    pub fn bytes(heads: usize, depth: usize, plane: [usize; 2]) -> u64 {
        [heads + 1, depth, plane[0], plane[1], 2].iter().map(|&n| n as u64).product()
    }

    /// Adds the weights `map` `[z][y][x]` of a whole window.
    pub fn add_weights(&mut self, window: [usize; 3], patch: [usize; 3], map: &[f32]) {
        let place = Place { window, patch, first: 0, planes: patch[0] };
        let [_, height, width] = patch;
        add(&mut self.weights, self.depth, self.plane, &place, |_, z, y, sum| {
            let map = &map[(z * height + y) * width..][..width];
            for (sum, weight) in sum.iter_mut().zip(map) {
                *sum += weight;
            }
        });
    }

    /// Adds a slab of a window's logits, `[heads][planes][height][width]`, each times its weight in `map`.
    pub fn add_logits(&mut self, place: &Place, slab: &[f32], map: &[f32]) {
        let [_, height, width] = place.patch;
        add(&mut self.logits, self.depth, self.plane, place, |head, z, y, sum| {
            let map = &map[(z * height + y) * width..][..width];
            let slab = &slab[((head * place.planes + z - place.first) * height + y) * width..][..width];
            for ((sum, logit), weight) in sum.iter_mut().zip(slab).zip(map) {
                // Two roundings, as the reference has them: no fused multiply-add.
                *sum += logit * weight;
            }
        });
    }

    /// Divides the sums of `planes` by their weights.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if a quotient is NaN or infinite.
    pub fn divide(&mut self, planes: Range<usize>) -> Result<()> {
        let Self { depth, plane, weights, .. } = self;
        let (depth, [_, width]) = (*depth, *plane);
        let area = plane[0] * plane[1];
        let bad = (self.logits.par_chunks_exact_mut(area).enumerate())
            .filter(|(at, _)| holds(&planes, at % depth, depth))
            .map(|(at, logits)| {
                let mut bad = 0usize;
                let (mut sums, mut total) = (vec![0f32; width], vec![0f32; width]);
                let weights = &weights[at % depth * area..][..area];
                for (logits, weights) in logits.chunks_exact_mut(width).zip(weights.chunks_exact(width)) {
                    logits.convert_to_f32_slice(&mut sums);
                    weights.convert_to_f32_slice(&mut total);
                    for (sum, total) in sums.iter_mut().zip(&total) {
                        *sum /= total;
                    }
                    logits.convert_from_f32_slice(&sums);
                    bad += logits.iter().filter(|x| !x.is_finite()).count();
                }
                bad
            })
            .sum();
        if bad == 0 { Ok(()) } else { Err(Error::NotFinite(bad)) }
    }

    /// Planes held.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Plane `z` of a head.
    pub fn plane(&self, head: usize, z: usize) -> &[f16] {
        let area = self.plane[0] * self.plane[1];
        &self.logits[(head * self.depth + z % self.depth) * area..][..area]
    }

    /// Forgets `planes`, so that those `depth` further can be summed.
    pub fn clear(&mut self, planes: Range<usize>) {
        let (depth, area) = (self.depth, self.plane[0] * self.plane[1]);
        let all = self.logits.par_chunks_exact_mut(area).chain(self.weights.par_chunks_exact_mut(area));
        // Heads before weights, both a multiple of `depth`.
        all.enumerate()
            .filter(|(at, _)| holds(&planes, at % depth, depth))
            .for_each(|(_, plane)| plane.fill(f16::ZERO));
    }

    /// The logits, `[heads][depth][rows][columns]`.
    pub fn into_logits(self) -> Vec<f16> {
        self.logits
    }
}

/// Whether place `held` of `depth` holds one of `planes`.
fn holds(planes: &Range<usize>, held: usize, depth: usize) -> bool {
    (held + depth - planes.start % depth) % depth < planes.len()
}

/// For every row that a window's slab meets, `[volumes][depth][rows][columns]`: widens the slab's part of it, calls
/// `work(volume, z, y, part)` with the row's place in the window, and rounds the result back.
fn add(
    sums: &mut [f16],
    depth: usize,
    [rows, columns]: [usize; 2],
    place: &Place,
    work: impl Fn(usize, usize, usize, &mut [f32]) + Sync,
) {
    let [_, height, width] = place.patch;
    let first = place.window[0] + place.first;
    sums.par_chunks_exact_mut(rows * columns).enumerate().for_each(|(at, plane)| {
        let (volume, held) = (at / depth, at % depth);
        // The slab's plane that is held here, if any.
        let z = (held + depth - first % depth) % depth;
        if z >= place.planes {
            return;
        }
        let mut wide = vec![0f32; width];
        for (y, row) in plane.chunks_exact_mut(columns).skip(place.window[1]).take(height).enumerate() {
            let part = &mut row[place.window[2]..place.window[2] + width];
            part.convert_to_f32_slice(&mut wide);
            work(volume, place.first + z, y, &mut wide);
            part.convert_from_f32_slice(&wide);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_of_planes_sums_as_all_planes_do() {
        let (heads, patch, plane, padded) = (3, [4, 3, 5], [4, 7], 9);
        let map: Vec<f32> = (0..60).map(|at| 0.01 + (at * 7 % 13) as f32).collect();
        let mut whole = Accumulator::new(heads, padded, plane).expect("small");
        let mut ring = Accumulator::new(heads, 4, plane).expect("small");
        let mut found = Vec::new();
        let starts = [0, 2, 5];
        for (number, &z) in starts.iter().enumerate() {
            for (y, x) in [(0, 0), (0, 2), (1, 0), (1, 2)] {
                for first in [0, 3] {
                    let place = Place { window: [z, y, x], patch, first, planes: if first == 0 { 3 } else { 1 } };
                    let slab: Vec<f32> = (0..heads * place.planes * 15)
                        .map(|at| ((at * 31 + z * 5 + x + first) % 97) as f32 - 40.3)
                        .collect();
                    whole.add_logits(&place, &slab, &map);
                    ring.add_logits(&place, &slab, &map);
                }
                whole.add_weights([z, y, x], patch, &map);
                ring.add_weights([z, y, x], patch, &map);
            }
            let finished = z..starts.get(number + 1).copied().unwrap_or(padded);
            ring.divide(finished.clone()).expect("finite");
            for z in finished.clone() {
                found.extend((0..heads).map(|head| ring.plane(head, z).to_vec()));
            }
            ring.clear(finished);
        }
        whole.divide(0..padded).expect("finite");
        let expected: Vec<Vec<f16>> = (0..padded)
            .flat_map(|z| (0..heads).map(move |head| (head, z)))
            .map(|(head, z)| whole.plane(head, z).to_vec())
            .collect();
        assert_eq!(found, expected);
        assert!(found.iter().flatten().any(|x| *x != found[0][0]));
    }

    #[test]
    fn sums_round_once_to_the_nearest_half_ties_to_even() {
        // 2049 lies between 2048 and 2050; 3 subnormals and a half between 3 and 4.
        let mut sums = Accumulator::new(1, 1, [1, 4]).expect("small");
        let place = Place { window: [0; 3], patch: [1, 1, 4], first: 0, planes: 1 };
        let small = 2f32.powi(-24);
        sums.add_logits(&place, &[2048.0, 1.0, 3.0, 70000.0], &[1.0, small, small, 1.0]);
        sums.add_logits(&place, &[1.0, 0.5, 0.5, 0.0], &[1.0, small, small, 1.0]);
        let found: Vec<f32> = sums.plane(0, 0).iter().map(|x| x.to_f32()).collect();
        assert_eq!(found, [2048.0, 2.0 * small, 4.0 * small, f32::INFINITY]);
        sums.add_weights([0; 3], [1, 1, 4], &[1.0; 4]);
        assert!(matches!(sums.divide(0..1), Err(Error::NotFinite(1))));
    }
}
