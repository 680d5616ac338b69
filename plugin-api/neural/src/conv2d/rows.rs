//! The picture as the inner loop reads it: padded, enlarged and split by stride, as `[row][channel][phase][pixel]`.
//!
//! Keeping the channels of one row together lets a row of output touch one contiguous stretch of memory that fits the
//! second-level cache, and with the border inside the buffer there is no special case left for the loop.

use super::tile::LANES;
use super::{Conv2dConfig, Padding};
use candle_core::{Result, bail};
use rayon::prelude::*;

/// Sizes and offsets of a convolution over pictures of one size.
pub(super) struct RowPlan {
    pub out_height: usize,
    pub out_width: usize,
    /// Offset of each tap (row-major in the kernel) from the first pixel of the first row of a channel.
    pub taps: Vec<usize>,
    channels: usize,
    height: usize,
    width: usize,
    phases: usize,
    pitch: usize,
    /// First padded column of the picture, where its columns lie there side by side: a row is then copied whole.
    side_by_side: Option<usize>,
    /// Source row of each padded row; `None` is a row of zeros.
    rows: Vec<Option<usize>>,
    /// Source column of each padded column.
    columns: Vec<Option<usize>>,
}

impl RowPlan {
    pub(super) fn new(config: Conv2dConfig, channels: usize, size: [usize; 2], kernel: [usize; 2]) -> Result<Self> {
        let [rows, columns] = [padded_axis(config, size[0])?, padded_axis(config, size[1])?];
        if rows.len() < kernel[0] || columns.len() < kernel[1] {
            bail!("conv2d: kernel {kernel:?} larger than the padded picture [{}, {}]", rows.len(), columns.len())
        }
        let stride = config.stride;
        let out_height = (rows.len() - kernel[0]) / stride + 1;
        let out_width = (columns.len() - kernel[1]) / stride + 1;
        let pitch = (out_width.next_multiple_of(LANES) + (kernel[1] - 1) / stride).next_multiple_of(LANES);
        let row_stride = channels * stride * pitch;
        let taps = (0..kernel[0])
            .flat_map(|ky| (0..kernel[1]).map(move |kx| ky * row_stride + (kx % stride) * pitch + kx / stride))
            .collect();
        let [height, width] = size;
        let side_by_side = (stride == 1 && !config.upsample).then_some(config.padding.width());
        let phases = stride;
        Ok(Self { out_height, out_width, taps, channels, height, width, phases, pitch, side_by_side, rows, columns })
    }

    /// Elements from one input channel to the next.
    pub(super) fn channel_stride(&self) -> usize {
        self.phases * self.pitch
    }

    /// Elements from one output channel to the next in a row of sums: the width rounded up to whole vectors.
    pub(super) fn sum_pitch(&self) -> usize {
        self.out_width.next_multiple_of(LANES)
    }
}

/// Source index of every position along one padded axis.
fn padded_axis(config: Conv2dConfig, source: usize) -> Result<Vec<Option<usize>>> {
    let scale = if config.upsample { 2 } else { 1 };
    let size = source * scale;
    let border = config.padding.width();
    if matches!(config.padding, Padding::Reflect(_)) && border >= size {
        bail!("conv2d: a reflected border of {border} px needs more than {border} px, the picture has {size}")
    }
    Ok((0..size + 2 * border)
        .map(|at| match config.padding {
            Padding::Zero(_) => (border..border + size).contains(&at).then(|| (at - border) / scale),
            Padding::Reflect(_) => Some(crate::pad::reflected(at, border, size) / scale),
        })
        .collect())
}

/// Fills `row` with the pixels at `columns`, as far as both go.
fn take<'a>(row: &mut [f32], columns: impl IntoIterator<Item = &'a Option<usize>>, pixels: &[f32]) {
    for (to, column) in row.iter_mut().zip(columns) {
        *to = column.map_or(0.0, |column| pixels[column]);
    }
}

/// The rearranged picture.
pub(super) struct Rows {
    data: Vec<f32>,
}

impl Rows {
    /// Rearranges `input [channels, height, width]`.
    pub(super) fn gather(plan: &RowPlan, input: &[f32]) -> Self {
        let row_len = plan.channels * plan.channel_stride();
        let mut data = vec![0f32; plan.rows.len() * row_len];
        data.par_chunks_exact_mut(row_len).zip(&plan.rows).for_each(|(row, source)| {
            let Some(source) = *source else { return };
            for (channel, row) in row.chunks_exact_mut(plan.channel_stride()).enumerate() {
                let from = (channel * plan.height + source) * plan.width;
                let pixels = &input[from..from + plan.width];
                match plan.side_by_side {
                    Some(before) => {
                        let (left, rest) = row.split_at_mut(before);
                        let (middle, right) = rest.split_at_mut(plan.width);
                        take(left, &plan.columns, pixels);
                        middle.copy_from_slice(pixels);
                        take(right, &plan.columns[before + plan.width..], pixels);
                    }
                    None => {
                        for (phase, row) in row.chunks_exact_mut(plan.pitch).enumerate() {
                            take(row, plan.columns.iter().skip(phase).step_by(plan.phases), pixels);
                        }
                    }
                }
            }
        });
        Self { data }
    }

    /// Everything from padded row `y` on.
    pub(super) fn starting_at(&self, plan: &RowPlan, y: usize) -> &[f32] {
        &self.data[y * plan.channels * plan.channel_stride()..]
    }
}
