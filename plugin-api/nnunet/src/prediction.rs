//! [`Prediction`]: the networks of a model over all windows of one image, to logits or labels on the network's grid.

use std::cell::Cell;
use std::ops::Range;

use gantry_neural::{Shape, Unet};
use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use crate::accumulator::{Accumulator, Place};
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::watch::Watch;
use crate::windows::Windows;

/// What a run over an image needs.
pub(crate) struct Prediction<'a> {
    /// One network for each fold, in the order in which they are averaged; at least one.
    pub networks: &'a [Unet],
    /// Channels of the image.
    pub channels: usize,
    /// Channels of the networks' output.
    pub heads: usize,
    /// Where the windows lie.
    pub windows: &'a Windows,
    /// Weight of each voxel of a window.
    pub map: &'a [f32],
    /// The ways in which windows are mirrored, beginning with not at all.
    pub mirrored: &'a [[bool; 3]],
    /// Who looks on.
    pub watch: &'a dyn Watch,
    /// Predictions made so far.
    pub done: Cell<usize>,
}

/// Gets planes of the padded image that are finished, as logits.
type Finished<'a> = dyn FnMut(&Accumulator, Range<usize>) -> Result<()> + 'a;

impl Prediction<'_> {
    /// Labels `[z][y][x]` on the grid of `image` `[channels][z][y][x]`.
    ///
    /// With one network, logits are held for the planes that windows still reach alone.
    pub fn labels(&self, image: &[f32], decision: &Decision) -> Result<Vec<u8>> {
        let [depth, rows, columns] = self.windows.size;
        let [below, top, left] = self.windows.below;
        let (heads, decision) = (self.heads, decision.exported());
        let mut labels = vec![0u8; depth * rows * columns];
        if let [network] = self.networks {
            let mut sums = Accumulator::new(self.heads, self.windows.reach(), self.plane())?;
            let width = self.windows.padded[2];
            self.fold(network, image, &mut sums, &mut |sums, planes| {
                let planes = planes.start.max(below)..planes.end.min(below + depth);
                let Some(first) = planes.start.checked_sub(below).filter(|_| !planes.is_empty()) else { return Ok(()) };
                let out = &mut labels[first * rows * columns..][..planes.len() * rows * columns];
                out.par_chunks_exact_mut(columns).enumerate().for_each(|(at, out)| {
                    let from = (top + at % rows) * width + left;
                    decision.row(heads, |head| &sums.plane(head, planes.start + at / rows)[from..][..columns], out);
                });
                Ok(())
            })?;
        } else {
            let logits = self.logits(image)?;
            let voxels = labels.len();
            labels.par_chunks_exact_mut(columns).enumerate().for_each(|(at, out)| {
                decision.row(heads, |head| &logits[head * voxels + at * columns..][..columns], out);
            });
        }
        Ok(labels)
    }

    /// Logits `[heads][z][y][x]` on the grid of `image` `[channels][z][y][x]`.
    ///
    /// At most two stacks of logits are held, one where there is one network.
    pub fn logits(&self, image: &[f32]) -> Result<Vec<f16>> {
        let padded = self.windows.padded;
        let area = padded[1] * padded[2];
        let mut mean: Option<Vec<f16>> = None;
        for network in self.networks {
            let Some(mean) = &mut mean else {
                let mut sums = Accumulator::new(self.heads, padded[0], self.plane())?;
                self.fold(network, image, &mut sums, &mut |_, _| Ok(()))?;
                mean = Some(sums.into_logits());
                continue;
            };
            let mut sums = Accumulator::new(self.heads, self.windows.reach(), self.plane())?;
            self.fold(network, image, &mut sums, &mut |sums, planes| {
                mean.par_chunks_exact_mut(area).enumerate().for_each(|(at, to)| {
                    let (head, z) = (at / padded[0], at % padded[0]);
                    if planes.contains(&z) {
                        combine(to, sums.plane(head, z), |a, b| a + b);
                    }
                });
                Ok(())
            })?;
        }
        let Some(mut mean) = mean else { return Err(Error::Model("no fold".to_owned())) };
        if self.networks.len() > 1 {
            let folds = self.networks.len() as f32;
            mean.par_chunks_mut(1 << 16).for_each(|part| {
                let mut wide = vec![0f32; part.len()];
                part.convert_to_f32_slice(&mut wide);
                wide.iter_mut().for_each(|x| *x /= folds);
                part.convert_from_f32_slice(&wide);
            });
            match mean.par_iter().filter(|x| !x.is_finite()).count() {
                0 => {}
                bad => return Err(Error::NotFinite(bad)),
            }
        }
        self.crop(&mut mean);
        Ok(mean)
    }

    fn plane(&self) -> [usize; 2] {
        [self.windows.padded[1], self.windows.padded[2]]
    }

    /// Leaves of logits of the padded image those of the image.
    fn crop(&self, logits: &mut Vec<f16>) {
        let Windows { size, padded, below, .. } = self.windows;
        if size == padded {
            return;
        }
        let mut to = 0;
        for head in 0..self.heads {
            for z in below[0]..below[0] + size[0] {
                for y in below[1]..below[1] + size[1] {
                    // Never before `to`: rows move towards the start.
                    let from = ((head * padded[0] + z) * padded[1] + y) * padded[2] + below[2];
                    logits.copy_within(from..from + size[2], to);
                    to += size[2];
                }
            }
        }
        logits.truncate(to);
        logits.shrink_to_fit();
    }

    /// One network over all windows.
    fn fold(&self, network: &Unet, image: &[f32], sums: &mut Accumulator, finished: &mut Finished<'_>) -> Result<()> {
        let mut done = 0;
        for (plane, windows) in self.windows.rows() {
            for [y, x] in windows {
                self.window(network, image, [plane, y, x], sums)?;
            }
            let planes = done..self.windows.finished(plane);
            sums.divide(planes.clone())?;
            finished(sums, planes.clone())?;
            if planes.end < self.windows.padded[0] {
                done = planes.end;
                if sums.depth() < self.windows.padded[0] {
                    sums.clear(planes);
                }
            }
        }
        Ok(())
    }

    /// One window: its predictions are averaged, weighted and added.
    fn window(&self, network: &Unet, image: &[f32], first: [usize; 3], sums: &mut Accumulator) -> Result<()> {
        let patch = self.windows.patch;
        let [depth, height, width] = patch;
        let mut voxels = vec![0f32; self.channels * depth * height * width];
        if let [axes] = self.mirrored {
            self.windows.cut(image, first, *axes, &mut voxels);
            self.run(network, &voxels, &mut |first_plane, slab| {
                let planes = slab.len() / (self.heads * height * width);
                let place = Place { window: first, patch, first: first_plane, planes };
                sums.add_logits(&place, slab, self.map);
            })?;
        } else {
            let mut mean = vec![0f32; self.heads * depth * height * width];
            for axes in self.mirrored {
                self.windows.cut(image, first, *axes, &mut voxels);
                self.run(network, &voxels, &mut |first_plane, slab| {
                    add_mirrored(&mut mean, patch, *axes, first_plane, slab, self.heads);
                })?;
            }
            let count = self.mirrored.len() as f32;
            mean.par_iter_mut().for_each(|x| *x /= count);
            sums.add_logits(&Place { window: first, patch, first: 0, planes: depth }, &mean, self.map);
        }
        sums.add_weights(first, patch, self.map);
        Ok(())
    }

    /// One run of a network, slab by slab.
    fn run(&self, network: &Unet, voxels: &[f32], sink: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        let shape = Shape { pictures: 1, channels: self.channels, size: self.windows.patch };
        let cancelled = Cell::new(false);
        let go_on = || {
            if self.watch.go_on() {
                return Ok(());
            }
            cancelled.set(true);
            Err(candle_core::Error::Msg("cancelled".to_owned()))
        };
        let ran = network.slabs(voxels, shape, &go_on, &mut |first, slab| {
            sink(first, slab);
            Ok(())
        });
        if cancelled.get() {
            return Err(Error::Cancelled);
        }
        ran?;
        self.done.set(self.done.get() + 1);
        let total = self.networks.len() * self.windows.count() * self.mirrored.len();
        self.watch.windows(self.done.get(), total);
        Ok(())
    }
}

/// `to = f16(work(to, with))`, in f32.
fn combine(to: &mut [f16], with: &[f16], work: impl Fn(f32, f32) -> f32) {
    let (mut a, mut b) = (vec![0f32; to.len()], vec![0f32; to.len()]);
    to.convert_to_f32_slice(&mut a);
    with.convert_to_f32_slice(&mut b);
    for (a, b) in a.iter_mut().zip(&b) {
        *a = work(*a, *b);
    }
    to.convert_from_f32_slice(&a);
}

/// Adds a slab `[heads][planes][height][width]` of the prediction of a mirrored window, mirrored back.
fn add_mirrored(
    sum: &mut [f32],
    [depth, height, width]: [usize; 3],
    axes: [bool; 3],
    first: usize,
    slab: &[f32],
    heads: usize,
) {
    let area = height * width;
    let planes = slab.len() / (heads * area);
    sum.par_chunks_exact_mut(area).enumerate().for_each(|(at, plane)| {
        let (head, z) = (at / depth, at % depth);
        let z = if axes[0] { depth - 1 - z } else { z };
        let Some(z) = z.checked_sub(first).filter(|&z| z < planes) else { return };
        let slab = &slab[(head * planes + z) * area..][..area];
        for (y, row) in plane.chunks_exact_mut(width).enumerate() {
            let y = if axes[1] { height - 1 - y } else { y };
            let slab = &slab[y * width..][..width];
            if axes[2] {
                row.iter_mut().zip(slab.iter().rev()).for_each(|(sum, x)| *sum += x);
            } else {
                row.iter_mut().zip(slab).for_each(|(sum, x)| *sum += x);
            }
        }
    });
}

/// The ways in which nnU-Net mirrors along `axes`: not at all; along one; along two; along all.
pub(crate) fn mirrored(axes: &[usize]) -> Result<Vec<[bool; 3]>> {
    if axes.iter().enumerate().any(|(at, axis)| *axis > 2 || axes[..at].contains(axis)) {
        return Err(Error::Setting(format!("mirroring: different axes out of 0, 1 and 2 expected, found {axes:?}")));
    }
    // Subsets by size, and in the order of their members' places within a size.
    let mut sets: Vec<Vec<usize>> =
        (0..1usize << axes.len()).map(|bits| (0..axes.len()).filter(|at| bits >> at & 1 == 1).collect()).collect();
    sets.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    let has = |set: &[usize], axis: usize| set.iter().any(|&at| axes[at] == axis);
    Ok(sets.into_iter().map(|set| std::array::from_fn(|axis| has(&set, axis))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirroring_goes_from_few_axes_to_many() {
        let shown = |axes: &[usize]| -> Vec<String> {
            let sets = mirrored(axes).expect("axes");
            sets.iter().map(|set| (0..3).filter(|&a| set[a]).map(|a| a.to_string()).collect()).collect()
        };
        assert_eq!(shown(&[0, 1, 2]), ["", "0", "1", "2", "01", "02", "12", "012"]);
        assert_eq!(shown(&[0, 2]), ["", "0", "2", "02"]);
        assert_eq!(shown(&[2, 0]), ["", "2", "0", "02"]);
        assert_eq!(shown(&[]), [""]);
        assert!(mirrored(&[1, 1]).is_err() && mirrored(&[3]).is_err());
    }
}
