//! What every operation means, in plain loops: for networks that are run on the CPU to be compared with, and as the
//! measure of the kernels.

use rayon::prelude::*;

use super::op::{Frame, PictureOp};
use super::plan::Picture;

/// Runs an operation whose shapes the plan has accepted; the result is rounded to the output's type by the caller.
pub(super) fn run(op: PictureOp, pictures: &[Picture], inputs: &[Vec<f32>], output: &Picture) -> Vec<f32> {
    let shape = &pictures[0].shape;
    let mut out = vec![0f32; output.elements()];
    let input = &inputs[0];
    if let PictureOp::ChannelGate = op {
        let (channels, hidden) = (shape[2], pictures[1].shape[0]);
        for (pooled, out) in input.chunks_exact(2 * channels).zip(out.chunks_exact_mut(channels)) {
            let mean = layer(&inputs[1], &pooled[..channels], hidden);
            let largest = layer(&inputs[1], &pooled[channels..], hidden);
            for (out, row) in out.iter_mut().zip(inputs[2].chunks_exact(hidden)) {
                *out = sigmoid(dot(row, &mean) + dot(row, &largest));
            }
        }
        return out;
    }
    let (channels, height, width) = (shape[1], shape[2], shape[3]);
    let pixels = height * width;
    match op {
        PictureOp::Place { frame, relu, .. } => {
            let [rows, columns] = [output.shape[2], output.shape[3]];
            out.par_chunks_exact_mut(rows * columns).zip(input.par_chunks_exact(pixels)).enumerate().for_each(
                |(plane, (out, input))| {
                    let statistics = inputs.get(1).map(|all| (all[2 * plane], all[2 * plane + 1]));
                    for (y, out) in out.chunks_exact_mut(columns).enumerate() {
                        let Some(y) = source(y, frame.border.top, height, frame) else { continue };
                        for (x, out) in out.iter_mut().enumerate() {
                            let Some(x) = source(x, frame.border.left, width, frame) else { continue };
                            let value = input[y * width + x];
                            let value = statistics.map_or(value, |(mean, factor)| (value - mean) * factor);
                            *out = if relu && value < 0.0 { 0.0 } else { value };
                        }
                    }
                },
            );
        }
        PictureOp::Statistics { eps } => {
            out.par_chunks_exact_mut(2).zip(input.par_chunks_exact(pixels)).for_each(|(out, plane)| {
                let mean = plane.iter().map(|&x| f64::from(x)).sum::<f64>() / pixels as f64;
                let squares = plane.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>();
                out[0] = mean as f32;
                out[1] = (1.0 / (squares / pixels as f64 + f64::from(eps)).sqrt()) as f32;
            });
        }
        PictureOp::PoolPlanes => {
            for (plane, values) in input.chunks_exact(pixels).enumerate() {
                let (mean, largest) = mean_and_max(values.iter().copied());
                let at = plane / channels * 2 * channels + plane % channels;
                (out[at], out[at + channels]) = (mean, largest);
            }
        }
        PictureOp::GatePlanes => {
            let planes = out.par_chunks_exact_mut(pixels).zip(input.par_chunks_exact(pixels)).zip(&inputs[1]);
            planes.for_each(|((out, input), &gate)| {
                out.iter_mut().zip(input).for_each(|(out, &x)| *out = x * gate);
            });
        }
        PictureOp::PoolChannels => {
            for (input, out) in input.chunks_exact(channels * pixels).zip(out.chunks_exact_mut(2 * pixels)) {
                for i in 0..pixels {
                    (out[i], out[pixels + i]) = mean_and_max(input[i..].iter().step_by(pixels).copied());
                }
            }
        }
        PictureOp::SpatialGate => {
            let side = pictures[1].shape[3];
            for (input, out) in input.chunks_exact(2 * pixels).zip(out.chunks_exact_mut(pixels)) {
                for (i, out) in out.iter_mut().enumerate() {
                    let mut sum = 0f32;
                    for (tap, weight) in inputs[1].iter().enumerate() {
                        let y = (i / width + tap / side % side).checked_sub(side / 2).filter(|y| *y < height);
                        let x = (i % width + tap % side).checked_sub(side / 2).filter(|x| *x < width);
                        if let (Some(y), Some(x)) = (y, x) {
                            sum += weight * input[(tap / (side * side) * height + y) * width + x];
                        }
                    }
                    *out = sigmoid(sum);
                }
            }
        }
        PictureOp::AddGated => {
            let planes = out.par_chunks_exact_mut(pixels).zip(input.par_chunks_exact(pixels));
            planes.zip(inputs[1].par_chunks_exact(pixels)).enumerate().for_each(|(plane, ((out, base), branch))| {
                let gate = &inputs[2][plane / channels * pixels..][..pixels];
                for (((out, base), branch), gate) in out.iter_mut().zip(base).zip(branch).zip(gate) {
                    *out = base + branch * gate;
                }
            });
        }
        PictureOp::Add => {
            for ((out, a), b) in out.iter_mut().zip(input).zip(&inputs[1]) {
                *out = a + b;
            }
        }
        PictureOp::ChannelGate => {}
    }
    out
}

/// Where a bordered position comes from; `None` in a border of zeros.
fn source(at: usize, before: usize, size: usize, frame: Frame) -> Option<usize> {
    let scale = 1 + usize::from(frame.enlarge);
    let size = size * scale;
    let at = match at.checked_sub(before) {
        Some(inside) if inside < size => inside,
        _ if !frame.mirror => return None,
        Some(behind) => 2 * (size - 1) - behind,
        None => before - at,
    };
    Some(at / scale)
}

/// Mean and maximum; NaN for both if any value is.
fn mean_and_max(values: impl Iterator<Item = f32>) -> (f32, f32) {
    let (mut sum, mut count, mut largest) = (0f64, 0u32, f32::NEG_INFINITY);
    for value in values {
        sum += f64::from(value);
        count += 1;
        largest = if value > largest { value } else { largest };
    }
    let mean = (sum / f64::from(count)) as f32;
    (mean, if mean.is_nan() { mean } else { largest })
}

fn layer(weights: &[f32], from: &[f32], outputs: usize) -> Vec<f32> {
    weights
        .chunks_exact(from.len())
        .take(outputs)
        .map(|row| dot(row, from))
        .map(|x| if x < 0.0 { 0.0 } else { x })
        .collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0f32, |sum, (a, b)| sum + a * b)
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
