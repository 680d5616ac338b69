//! Two ways of re-estimating a line of voxels along z as a whole: a cubic spline, and a one-dimensional Kalman filter.
//!
//! Both work on one row `y` of every slice at a time, so that neighbouring columns are computed side by side. Input and
//! output are `[z][x]`, double precision.

/// Fewest slices that determine a cubic spline without further conditions at its ends.
pub const SPLINE_SLICES: usize = 4;

/// Process noise of the Kalman filter.
const KALMAN_Q: f64 = 1e-5;
/// Measurement noise of the Kalman filter.
const KALMAN_R: f64 = 1e-2;

/// The not-a-knot cubic spline through the slices, at positions `2 k (n - 1) / (2 n - 1)`: every second of `2 n` places
/// spread evenly from the first slice to the last. (They are not the slices' own places; that is as published.)
///
/// `row` and `out` are `[n][columns]` with `n >= SPLINE_SLICES`; `bend` is working memory.
pub fn spline(row: &[f64], columns: usize, out: &mut [f64], bend: &mut Vec<f64>) {
    let n = row.len().checked_div(columns).unwrap_or(0);
    debug_assert!(n >= SPLINE_SLICES && out.len() == row.len());
    second_derivatives(row, columns, n, bend);
    let step = (n - 1) as f64 / (2 * n - 1) as f64;
    for (k, out) in out.chunks_exact_mut(columns).enumerate() {
        let position = (2 * k) as f64 * step;
        let left = (position as usize).min(n - 2);
        let (b, a) = (position - left as f64, 1.0 - (position - left as f64));
        let (bend_a, bend_b) = ((a * a * a - a) / 6.0, (b * b * b - b) / 6.0);
        let (here, next) = (left * columns, (left + 1) * columns);
        for (x, out) in out.iter_mut().enumerate() {
            *out = a * row[here + x] + b * row[next + x] + (bend_a * bend[here + x] + bend_b * bend[next + x]);
        }
    }
}

/// Second derivatives of the not-a-knot spline at the slices, one slice apart.
///
/// The two conditions at an end make the second derivative there go on linearly, and that makes the equation of the
/// next slice give its second derivative directly; the slices between form the usual `1 4 1` system.
fn second_derivatives(row: &[f64], columns: usize, n: usize, bend: &mut Vec<f64>) {
    bend.clear();
    bend.resize(n * columns, 0.0);
    let curvature =
        |z: usize, x: usize| row[(z + 1) * columns + x] - 2.0 * row[z * columns + x] + row[(z - 1) * columns + x];
    for x in 0..columns {
        bend[columns + x] = curvature(1, x);
        bend[(n - 2) * columns + x] = curvature(n - 2, x);
    }
    let mut upper = vec![0.0; n];
    for z in 2..n.saturating_sub(2) {
        upper[z] = 1.0 / (4.0 - upper[z - 1]);
        for x in 0..columns {
            bend[z * columns + x] = (6.0 * curvature(z, x) - bend[(z - 1) * columns + x]) * upper[z];
        }
    }
    for z in (2..n.saturating_sub(2)).rev() {
        for x in 0..columns {
            bend[z * columns + x] -= upper[z] * bend[(z + 1) * columns + x];
        }
    }
    for x in 0..columns {
        bend[x] = 2.0 * bend[columns + x] - bend[2 * columns + x];
        bend[(n - 1) * columns + x] = 2.0 * bend[(n - 2) * columns + x] - bend[(n - 3) * columns + x];
    }
}

/// A Kalman filter with a constant state from the first slice upwards: starts at the first slice with variance 1, and
/// measures that slice as well.
pub fn kalman(row: &[f64], columns: usize, out: &mut [f64]) {
    let mut state = row[..columns.min(row.len())].to_vec();
    let mut variance = 1.0;
    for (row, out) in row.chunks_exact(columns.max(1)).zip(out.chunks_exact_mut(columns.max(1))) {
        variance += KALMAN_Q;
        let gain = variance / (variance + KALMAN_R);
        for ((state, value), out) in state.iter_mut().zip(row).zip(out) {
            *state += gain * (value - *state);
            *out = *state;
        }
        variance *= 1.0 - gain;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cubic_is_its_own_spline() {
        for n in [4, 5, 6, 7, 12, 40] {
            let cubics = [|z: f64| 7.0 - 2.0 * z, |z: f64| 3.0 + z * (0.5 - 0.1 * z), |z: f64| 0.01 * z * z * z - z];
            let row: Vec<f64> = (0..n).flat_map(|z| cubics.map(|f| f(f64::from(z)))).collect();
            let mut out = vec![f64::NAN; row.len()];
            spline(&row, 3, &mut out, &mut Vec::new());
            for k in 0..n as usize {
                let position = 2.0 * k as f64 * f64::from(n - 1) / f64::from(2 * n - 1);
                for (x, f) in cubics.iter().enumerate() {
                    let error = (out[3 * k + x] - f(position)).abs();
                    assert!(error < 1e-10, "n {n}, k {k}, column {x}: {error:e}");
                }
            }
        }
    }

    #[test]
    fn kalman_keeps_constants_and_follows_steps_late() {
        let row = [5.0, 0.0, 5.0, 0.0, 5.0, 100.0];
        let mut out = [f64::NAN; 6];
        kalman(&row, 2, &mut out);
        assert_eq!([out[0], out[2], out[4]], [5.0; 3]);
        assert!(out[1] == 0.0 && out[3] == 0.0 && out[5] > 30.0 && out[5] < 40.0, "{out:?}");
        kalman(&[], 0, &mut []);
    }
}
