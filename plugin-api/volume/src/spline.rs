//! The cubic B-spline's coefficients from the values of a line: scipy's recursive filter, step for step.

use crate::vector::vectorised;

/// The filter's pole as scipy writes it; the square root of three minus two differs in the last place.
#[expect(clippy::excessive_precision, reason = "the reference's literal")]
const POLE: f64 = -0.267_949_192_431_122_706;

/// Below this a power of the pole times any image value is nought in single precision, whatever is added to it.
const NEGLIGIBLE: f64 = 1e-60;

/// What lines of one length share.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    /// Multiplies every value first.
    gain: f64,
    /// The pole to the power of the length.
    pole_n: f64,
    /// Powers of the pole that start the causal pass: for `i = 1..`, while not negligible.
    powers: Vec<f64>,
}

/// A vector of lines filtered together: element `i` of every line.
pub(crate) trait Line {
    /// Number of elements of a line.
    fn len(&self) -> usize;
    /// Element `i` of all lines.
    fn at(&mut self, i: usize) -> &mut [f64];
    /// Elements `i` (mutable) and `j` (to read) of all lines; `i != j`.
    fn pair(&mut self, i: usize, j: usize) -> (&mut [f64], &[f64]);
}

impl Filter {
    /// For lines of `n` values (`n > 1`).
    #[expect(clippy::cast_precision_loss, reason = "axes are far shorter than 2^52")]
    pub fn new(n: usize) -> Self {
        let mut powers = Vec::new();
        let mut power = POLE;
        for _ in 1..n {
            if power.abs() < NEGLIGIBLE {
                break;
            }
            powers.push(power);
            power *= POLE;
        }
        let pole_n = POLE.powf(n as f64);
        // A power too small to matter is left out whole: denormal numbers are slow.
        let pole_n = if pole_n.abs() < NEGLIGIBLE { 0.0 } else { pole_n };
        Self { gain: (1.0 - POLE) * (1.0 - 1.0 / POLE), pole_n, powers }
    }

    /// Replaces the values of the lines by their coefficients, for lines continued by reflection at half a sample.
    pub fn apply(&self, lines: &mut impl Line, start: &mut [f64]) {
        vectorised(|| self.run(lines, start));
    }

    #[inline(always)]
    fn run(&self, lines: &mut impl Line, start: &mut [f64]) {
        let n = lines.len();
        for i in 0..n {
            lines.at(i).iter_mut().for_each(|c| *c *= self.gain);
        }
        // start = c[0] + pole^n c[n-1] + sum of pole^i (c[i] + pole^n c[n-1-i])
        {
            let (first, last) = lines.pair(0, n - 1);
            for ((start, &first), &last) in start.iter_mut().zip(first.iter()).zip(last) {
                *start = first + self.pole_n * last;
            }
        }
        for (i, &power) in (1..n).zip(&self.powers) {
            let j = n - 1 - i;
            if i == j {
                let middle = lines.at(i);
                for (start, &c) in start.iter_mut().zip(middle.iter()) {
                    *start += power * (c + self.pole_n * c);
                }
            } else {
                let (c, mirrored) = lines.pair(i, j);
                for ((start, &c), &m) in start.iter_mut().zip(c.iter()).zip(mirrored) {
                    *start += power * (c + self.pole_n * m);
                }
            }
        }
        let scale = POLE / (1.0 - self.pole_n * self.pole_n);
        for (c, &start) in lines.at(0).iter_mut().zip(start.iter()) {
            *c += start * scale;
        }
        for i in 1..n {
            let (c, before) = lines.pair(i, i - 1);
            for (c, &before) in c.iter_mut().zip(before) {
                *c += POLE * before;
            }
        }
        let scale = POLE / (POLE - 1.0);
        lines.at(n - 1).iter_mut().for_each(|c| *c *= scale);
        for i in (0..n - 1).rev() {
            let (c, after) = lines.pair(i, i + 1);
            for (c, &after) in c.iter_mut().zip(after) {
                *c = POLE * (after - *c);
            }
        }
    }
}

/// Lines along the slow axis of a contiguous array: element `i` of all lines is row `i`.
pub(crate) struct Rows<'a> {
    /// The array.
    pub values: &'a mut [f64],
    /// Length of a row, which may hold more than is filtered.
    pub stride: usize,
    /// First column that is filtered.
    pub from: usize,
    /// Number of columns that are filtered.
    pub width: usize,
}

impl Line for Rows<'_> {
    fn len(&self) -> usize {
        self.values.len() / self.stride
    }
    #[inline(always)]
    fn at(&mut self, i: usize) -> &mut [f64] {
        &mut self.values[i * self.stride + self.from..][..self.width]
    }
    #[inline(always)]
    fn pair(&mut self, i: usize, j: usize) -> (&mut [f64], &[f64]) {
        let (i, j) = (i * self.stride + self.from, j * self.stride + self.from);
        if i > j {
            let (low, high) = self.values.split_at_mut(i);
            (&mut high[..self.width], &low[j..j + self.width])
        } else {
            let (low, high) = self.values.split_at_mut(j);
            (&mut low[i..i + self.width], &high[..self.width])
        }
    }
}

/// Lines whose elements are separate rows.
pub(crate) struct Stack<'a, 'b>(pub &'b mut [&'a mut [f64]]);

impl Line for Stack<'_, '_> {
    fn len(&self) -> usize {
        self.0.len()
    }
    #[inline(always)]
    fn at(&mut self, i: usize) -> &mut [f64] {
        self.0[i]
    }
    #[inline(always)]
    fn pair(&mut self, i: usize, j: usize) -> (&mut [f64], &[f64]) {
        if i > j {
            let (low, high) = self.0.split_at_mut(i);
            (high[0], low[j])
        } else {
            let (low, high) = self.0.split_at_mut(j);
            (low[i], high[0])
        }
    }
}
