//! The transforms of F(4x4, 3x3), and of F(2, 3) along depth, for rows of tiles.
//!
//! The points along height and width are 0, ±1/√2, ±√2 and infinity: outputs grow by less than 3 on their way, where the
//! usual 0, ±1, ±2 let them grow by 8, and errors are half as large on average and a fifth at most (measured with
//! normal values over 32 channels, against sums in f64). Along depth they are 0, ±1 and infinity.

use crate::kernels::lanes::{Lanes, for_lanes};
use crate::kernels::{CELL, LANES};

/// Outputs of a tile along height and width.
pub(super) const OUT: usize = 4;
/// Inputs of a tile along height and width.
pub(super) const IN: usize = 6;
/// Points of a tile of one plane.
pub(super) const FLAT: usize = IN * IN;
/// Planes of output that share points, where depth is transformed.
pub(super) const PAIR: usize = 2;
/// Points along depth, where it is transformed.
pub(super) const DEEP: usize = 4;

/// 1/√2, and its double.
const A: f64 = std::f64::consts::FRAC_1_SQRT_2;
const B: f64 = std::f64::consts::SQRT_2;

/// `G` of F(4, 3): weights to points.
pub(super) const WEIGHTS: [[f64; 3]; IN] = [
    [1.0, 0.0, 0.0],
    [-2.0 / 3.0, -2.0 / 3.0 * A, -1.0 / 3.0],
    [-2.0 / 3.0, 2.0 / 3.0 * A, -1.0 / 3.0],
    [1.0 / 6.0, 1.0 / 6.0 * B, 1.0 / 3.0],
    [1.0 / 6.0, -1.0 / 6.0 * B, 1.0 / 3.0],
    [0.0, 0.0, 1.0],
];

/// `G` of F(2, 3).
pub(super) const DEEP_WEIGHTS: [[f64; 3]; DEEP] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];

/// `B^T` of F(2, 3): each point along depth is one plane plus or minus another.
pub(super) const DEEP_PLANES: [(usize, usize, Mix); DEEP] =
    [(0, 2, Mix::Difference), (1, 2, Mix::Sum), (2, 1, Mix::Difference), (1, 3, Mix::Difference)];

/// What is done with values along depth before the transform in the plane.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mix {
    /// There is one.
    Alone,
    /// The others are added.
    Sum,
    /// The others are subtracted.
    Difference,
}

/// Six rows of cells of one plane; `None` is a row beyond the border, of zeros.
pub(super) type Lines = [Option<*const u8>; IN];

/// Room for a tile between the transforms of its axes. As variables of a function the values would not fit into the
/// registers, and compilers put what is left over where it crosses lines of the cache.
#[repr(C, align(64))]
pub(super) struct Scratch([f32; FLAT * LANES]);

impl Scratch {
    pub(super) fn new() -> Self {
        Self([0.0; FLAT * LANES])
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.0.as_mut_ptr()
    }
}

/// A row of tiles on its way in.
pub(super) struct Enter {
    /// Of one plane, or of the [`DEEP`] planes of a pair.
    pub planes: [Lines; DEEP],
    /// Points along depth: 1, or [`DEEP`].
    pub deep: usize,
    pub tiles: usize,
    /// Whether tiles read columns enlarged by two.
    pub enlarged: bool,
    /// Cells of a row with its border.
    pub width: usize,
    pub to: *mut f32,
    /// f32 between points.
    pub point_stride: usize,
    /// Of [`Scratch`].
    pub scratch: *mut f32,
}

for_lanes! {
    /// # Safety
    /// The instruction set must be there; lines and target must be as long as the job says.
    pub(super) unsafe fn enter(job: &Enter) = enter_body
}

/// `B^T` of F(4, 3) along one axis.
#[inline(always)]
unsafe fn enter_axis<L: Lanes>(d: [L; IN]) -> [L; IN] {
    // SAFETY: the caller's contract.
    unsafe {
        let (two, half, both) = (L::splat(2.0), L::splat(0.5), L::splat(2.5));
        let a = d[4].sub(two.mul(d[2]));
        let b = L::splat(A as f32).mul(d[3].sub(two.mul(d[1])));
        let c = d[4].sub(half.mul(d[2]));
        let e = L::splat(B as f32).mul(d[3].sub(half.mul(d[1])));
        [d[0].sub(both.mul(d[2])).add(d[4]), a.add(b), a.sub(b), c.add(e), c.sub(e), d[1].sub(both.mul(d[3])).add(d[5])]
    }
}

/// The cells of a line at `columns`; beyond its end are zeros. `WHOLE` says that none is there.
#[inline(always)]
unsafe fn cells<L: Lanes, const WHOLE: bool>(job: &Enter, line: Option<*const u8>, columns: &[usize; IN]) -> [L; IN] {
    // SAFETY: the caller's contract.
    unsafe {
        let mut cells = [L::splat(0.0); IN];
        let Some(line) = line else { return cells };
        for (cell, &column) in cells.iter_mut().zip(columns) {
            if WHOLE || column < job.width {
                *cell = L::load(line.add(column * CELL).cast());
            }
        }
        cells
    }
}

/// The points in the plane of one tile, of one point along depth; `MIX` is a [`Mix`].
#[inline(always)]
unsafe fn enter_points<L: Lanes, const WHOLE: bool, const MIX: u8>(
    job: &Enter,
    [first, second]: [&Lines; 2],
    columns: &[usize; IN],
    to: *mut f32,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let rows = job.scratch;
        for line in 0..IN {
            let mut row = cells::<L, WHOLE>(job, first[line], columns);
            if MIX != Mix::Alone as u8 {
                let other = cells::<L, WHOLE>(job, second[line], columns);
                for column in 0..IN {
                    let (x, y) = (row[column], other[column]);
                    row[column] = if MIX == Mix::Sum as u8 { x.add(y) } else { x.sub(y) };
                }
            }
            for (column, value) in enter_axis(row).into_iter().enumerate() {
                value.store(rows.add((line * IN + column) * LANES));
            }
        }
        for column in 0..IN {
            let mut values = [L::splat(0.0); IN];
            for (line, value) in values.iter_mut().enumerate() {
                *value = L::load(rows.add((line * IN + column) * LANES));
            }
            let points = enter_axis(values);
            for (row, point) in points.into_iter().enumerate() {
                point.store(to.add((row * IN + column) * job.point_stride));
            }
        }
    }
}

#[inline(always)]
unsafe fn enter_tile<L: Lanes, const WHOLE: bool>(job: &Enter, tile: usize, columns: &[usize; IN]) {
    // SAFETY: the caller's contract.
    unsafe {
        let to = job.to.add(tile * LANES);
        if job.deep == 1 {
            let alone = &job.planes[0];
            return enter_points::<L, WHOLE, { Mix::Alone as u8 }>(job, [alone, alone], columns, to);
        }
        for (deep, (first, second, mix)) in DEEP_PLANES.into_iter().enumerate() {
            let planes = [&job.planes[first], &job.planes[second]];
            let to = to.add(deep * FLAT * job.point_stride);
            match mix {
                Mix::Sum => enter_points::<L, WHOLE, { Mix::Sum as u8 }>(job, planes, columns, to),
                _ => enter_points::<L, WHOLE, { Mix::Difference as u8 }>(job, planes, columns, to),
            }
        }
    }
}

/// How many tiles ahead cells are asked for: there are more rows than the processor follows by itself.
const AHEAD: usize = 2;

/// Asks for a line of memory, which need not be there.
#[inline(always)]
fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads nothing.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast())
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[inline(always)]
unsafe fn enter_body<L: Lanes>(job: &Enter) {
    // SAFETY: the caller's contract.
    unsafe {
        for tile in 0..job.tiles {
            let mut columns = [0; IN];
            for (line, column) in columns.iter_mut().enumerate() {
                *column = if job.enlarged { tile * OUT / 2 + line.div_ceil(2) } else { tile * OUT + line };
            }
            for lines in &job.planes[..job.deep] {
                for line in lines.iter().flatten() {
                    for column in columns[IN - OUT..].iter().map(|column| column + AHEAD * OUT) {
                        prefetch(line.wrapping_add(column * CELL));
                    }
                }
            }
            match columns[IN - 1] < job.width {
                true => enter_tile::<L, true>(job, tile, &columns),
                false => enter_tile::<L, false>(job, tile, &columns),
            }
        }
    }
}

/// A row of tiles on its way out.
pub(super) struct Leave<'a> {
    /// Sums of the first point along depth that counts.
    pub sums: *const f32,
    /// f32 between points.
    pub point_stride: usize,
    /// What happens to the two points along depth that follow.
    pub mix: Mix,
    pub tiles: usize,
    pub bias: &'a [f32; LANES],
    pub out: *mut f32,
    pub row_stride: usize,
    /// Rows of the output that are there.
    pub rows: usize,
    /// Pixels of an output row.
    pub width: usize,
    /// Of [`Scratch`].
    pub scratch: *mut f32,
}

for_lanes! {
    /// # Safety
    /// The instruction set must be there; sums and output must be as long as the job says.
    pub(super) unsafe fn leave(job: &Leave<'_>) = leave_body
}

/// `A^T` of F(4, 3) along one axis.
#[inline(always)]
unsafe fn leave_axis<L: Lanes>(m: [L; IN]) -> [L; OUT] {
    // SAFETY: the caller's contract.
    unsafe {
        let (two, half) = (L::splat(2.0), L::splat(0.5));
        let (even, even2) = (m[1].add(m[2]), m[3].add(m[4]));
        let odd = L::splat(A as f32).mul(m[1].sub(m[2]));
        let odd2 = L::splat(B as f32).mul(m[3].sub(m[4]));
        [
            m[0].add(even).add(even2),
            odd.add(odd2),
            half.mul(even).add(two.mul(even2)),
            half.mul(odd).add(two.mul(odd2)).add(m[5]),
        ]
    }
}

/// The sum at a point, over depth.
#[inline(always)]
unsafe fn sum<L: Lanes>(job: &Leave<'_>, point: usize, tile: usize) -> L {
    // SAFETY: the caller's contract.
    unsafe {
        let from = job.sums.add(point * job.point_stride + tile * LANES);
        let deep = FLAT * job.point_stride;
        let x = L::load(from);
        match job.mix {
            Mix::Alone => x,
            Mix::Sum => x.add(L::load(from.add(deep))).add(L::load(from.add(2 * deep))),
            Mix::Difference => x.sub(L::load(from.add(deep))).sub(L::load(from.add(2 * deep))),
        }
    }
}

#[inline(always)]
unsafe fn leave_body<L: Lanes>(job: &Leave<'_>) {
    // SAFETY: the caller's contract.
    unsafe {
        let bias = L::load(job.bias.as_ptr());
        for tile in 0..job.tiles {
            for column in 0..IN {
                let values = leave_axis::<L>([
                    sum(job, column, tile),
                    sum(job, IN + column, tile),
                    sum(job, 2 * IN + column, tile),
                    sum(job, 3 * IN + column, tile),
                    sum(job, 4 * IN + column, tile),
                    sum(job, 5 * IN + column, tile),
                ]);
                for (row, value) in values.into_iter().enumerate() {
                    value.store(job.scratch.add((row * IN + column) * LANES));
                }
            }
            for row in 0..job.rows {
                let mut columns = [L::splat(0.0); IN];
                for (column, value) in columns.iter_mut().enumerate() {
                    *value = L::load(job.scratch.add((row * IN + column) * LANES));
                }
                let values = leave_axis(columns);
                for (column, value) in values.into_iter().enumerate() {
                    let x = tile * OUT + column;
                    if x < job.width {
                        value.add(bias).store(job.out.add(row * job.row_stride + x * LANES));
                    }
                }
            }
        }
    }
}
