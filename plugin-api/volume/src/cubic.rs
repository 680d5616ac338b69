//! Cubic spline interpolation (order 3): values replicated beyond the edges, coefficients fitted axis by axis, then
//! 64 neighbours (16 in a plane) per output voxel.

use std::array::from_fn;

use rayon::prelude::*;

use crate::interpolate::{AxisOrder, LANES, Sums, each_block};
use crate::sample::Sample;
use crate::spline::{Filter, Rows, Stack};
use crate::taps::{Alignment, CUBIC_PAD as PAD, Taps};

/// Interpolates a volume; each double-precision sum is stored by `convert`. The lengths were checked by the caller.
///
/// Needs one double per voxel of the padded input besides input and output.
pub(crate) fn cubic<S: Sample, O: Send>(
    volume: &[S],
    size: [usize; 3],
    new_size: [usize; 3],
    alignment: Alignment,
    order: AxisOrder,
    out: &mut [O],
    convert: impl Fn(f64) -> O + Sync + Send,
) {
    let [nz, ny, nx] = size;
    let [pz, py, px] = size.map(|n| n + 2 * PAD);
    let mut coefficients = vec![0.0; pz * py * px];
    fill_middle(volume, size, &mut coefficients);
    match order {
        AxisOrder::Zyx => {
            fit_along_z(&mut coefficients, nz, py * px, [ny, nx]);
            fit_in_planes(&mut coefficients, ny, nx, order);
        }
        AxisOrder::Xyz => {
            fit_in_planes(&mut coefficients[PAD * py * px..(PAD + nz) * py * px], ny, nx, order);
            fit_along_z(&mut coefficients, nz, py * px, [py, px]);
        }
    }
    let [z, y, x] = [(nz, 0), (ny, 1), (nx, 2)].map(|(n, axis)| Taps::cubic(alignment, n, new_size[axis]));
    let coefficients = &coefficients;
    each_block(
        out,
        new_size,
        || Sums::new(px, new_size[2]),
        |sums, block, rows| {
            let first: [usize; LANES] = from_fn(|lane| y.first[block.row(lane)]);
            let wy = from_fn(|lane| y.weights[block.row(lane)]);
            let plane = z.first[block.z];
            let row = |a: usize, lane: usize, b: usize| {
                let from = ((plane + a) * py + first[lane] + b) * px;
                &coefficients[from..from + px]
            };
            let lines = from_fn(|a| from_fn(|lane| from_fn(|b| row(a, lane, b))));
            sums.fill(order, &lines, &z.weights[block.z], &wy, x.all());
            for (lane, row) in rows.chunks_mut(new_size[2]).enumerate() {
                sums.put(lane, row, &convert);
            }
        },
    );
}

/// Interpolates one plane `[y, x]`.
pub(crate) fn cubic_plane<S: Sample, O: Send>(
    plane: &[S],
    size: [usize; 2],
    new_size: [usize; 2],
    alignment: Alignment,
    out: &mut [O],
    convert: impl Fn(f64) -> O + Sync + Send,
) {
    let [ny, nx] = size;
    let [py, px] = size.map(|n| n + 2 * PAD);
    let mut coefficients = vec![0.0; py * px];
    for (row, values) in coefficients.chunks_mut(px).skip(PAD).zip(plane.chunks(nx)) {
        S::widen(values, &mut row[PAD..PAD + nx]);
    }
    fit_in_planes(&mut coefficients, ny, nx, AxisOrder::Zyx);
    let (y, x) = (Taps::cubic(alignment, ny, new_size[0]), Taps::cubic(alignment, nx, new_size[1]));
    let coefficients = &coefficients;
    each_block(
        out,
        [1, new_size[0], new_size[1]],
        || Sums::new(px, new_size[1]),
        |sums, block, rows| {
            let first: [usize; LANES] = from_fn(|lane| y.first[block.row(lane)]);
            let wy = from_fn(|lane| y.weights[block.row(lane)]);
            let lines = [from_fn(|lane| from_fn(|b| &coefficients[(first[lane] + b) * px..][..px]))];
            sums.fill_zyx(&lines, &[1.0], &wy, x.all());
            for (lane, row) in rows.chunks_mut(new_size[1]).enumerate() {
                sums.put(lane, row, &convert);
            }
        },
    );
}

/// Puts the volume into the middle of the padded array.
fn fill_middle<S: Sample>(volume: &[S], [nz, ny, nx]: [usize; 3], coefficients: &mut [f64]) {
    let [py, px] = [ny, nx].map(|n| n + 2 * PAD);
    let planes = coefficients.par_chunks_mut(py * px).skip(PAD).take(nz);
    planes.zip(volume.par_chunks(ny * nx)).for_each(|(plane, values)| {
        for (row, values) in plane.chunks_mut(px).skip(PAD).zip(values.chunks(nx)) {
            S::widen(values, &mut row[PAD..PAD + nx]);
        }
    });
}

/// Replicates the first and last plane, and filters along z; `[rows, columns]` of a plane from its middle.
fn fit_along_z(coefficients: &mut [f64], nz: usize, plane: usize, [rows, columns]: [usize; 2]) {
    let filter = Filter::new(nz + 2 * PAD);
    // A whole plane, or the unpadded middle of one.
    let row_length = if rows * columns == plane { columns } else { columns + 2 * PAD };
    let (skip_rows, skip_columns) = if rows * columns == plane { (0, 0) } else { (PAD, PAD) };
    // lines[y] holds row y of every plane.
    let mut lines: Vec<Vec<&mut [f64]>> = (0..rows).map(|_| Vec::with_capacity(nz + 2 * PAD)).collect();
    for plane in coefficients.chunks_mut(plane) {
        for (line, row) in lines.iter_mut().zip(plane.chunks_mut(row_length).skip(skip_rows)) {
            line.push(&mut row[skip_columns..skip_columns + columns]);
        }
    }
    lines.into_par_iter().for_each_init(
        || vec![0.0; columns],
        |start, mut line| {
            let (before, rest) = line.split_at_mut(PAD);
            let (middle, after) = rest.split_at_mut(nz);
            for row in before {
                row.copy_from_slice(middle[0]);
            }
            for row in after {
                row.copy_from_slice(middle[nz - 1]);
            }
            filter.apply(&mut Stack(&mut line), start);
        },
    );
}

/// Replicates the edges of every plane along y and x, and filters along both, in the order of the axes.
fn fit_in_planes(coefficients: &mut [f64], ny: usize, nx: usize, order: AxisOrder) {
    let [py, px] = [ny, nx].map(|n| n + 2 * PAD);
    let (along_y, along_x) = (Filter::new(py), Filter::new(px));
    coefficients.par_chunks_mut(py * px).for_each_init(
        || (vec![0.0; px.max(LANES)], vec![0.0; px * LANES]),
        |(start, turned), plane| match order {
            AxisOrder::Zyx => {
                replicate_rows(plane, ny, px);
                along_y.apply(&mut Rows { values: plane, stride: px, from: PAD, width: nx }, start);
                fit_rows(plane, nx, &along_x, start, turned);
            }
            AxisOrder::Xyz => {
                fit_rows(&mut plane[PAD * px..(PAD + ny) * px], nx, &along_x, start, turned);
                replicate_rows(plane, ny, px);
                along_y.apply(&mut Rows { values: plane, stride: px, from: 0, width: px }, start);
            }
        },
    );
}

/// Copies the first and last row of the middle outward.
fn replicate_rows(plane: &mut [f64], ny: usize, px: usize) {
    for y in 0..PAD {
        plane.copy_within(PAD * px..(PAD + 1) * px, y * px);
        plane.copy_within((PAD + ny - 1) * px..(PAD + ny) * px, (PAD + ny + y) * px);
    }
}

/// Replicates the ends of every row, and filters the rows, several turned upright at a time.
fn fit_rows(rows: &mut [f64], nx: usize, filter: &Filter, start: &mut [f64], turned: &mut [f64]) {
    let px = nx + 2 * PAD;
    for rows in rows.chunks_mut(px * LANES) {
        for (lane, row) in rows.chunks_mut(px).enumerate() {
            let (first, last) = (row[PAD], row[PAD + nx - 1]);
            row[..PAD].fill(first);
            row[PAD + nx..].fill(last);
            for (column, &value) in turned.chunks_mut(LANES).zip(row.iter()) {
                column[lane] = value;
            }
        }
        filter.apply(&mut Rows { values: turned, stride: LANES, from: 0, width: LANES }, start);
        for (lane, row) in rows.chunks_mut(px).enumerate() {
            for (value, column) in row.iter_mut().zip(turned.chunks(LANES)) {
                *value = column[lane];
            }
        }
    }
}
