//! Connected pieces of a thresholded image, found run by run.

/// A connected piece (8 neighbours).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Piece {
    pub(super) left: usize,
    pub(super) right: usize,
    pub(super) top: usize,
    pub(super) bottom: usize,
    /// Pixels.
    pub(super) area: usize,
    /// Runs of pixels within rows.
    pub(super) runs: usize,
    /// Brightest value.
    pub(super) peak: i16,
    /// How far the brightest stroke stands out.
    pub(super) stroke: i16,
    /// Sum of the values.
    pub(super) sum: f64,
    /// Sum of the squares of the values.
    pub(super) squares: f64,
}

impl Piece {
    pub(super) fn width(&self) -> usize {
        self.right - self.left + 1
    }

    pub(super) fn height(&self) -> usize {
        self.bottom - self.top + 1
    }

    /// Mean of the values.
    fn mean(&self) -> f32 {
        (self.sum / self.area as f64) as f32
    }

    /// Standard deviation of the values.
    pub(super) fn spread(&self) -> f32 {
        let mean = self.sum / self.area as f64;
        (self.squares / self.area as f64 - mean * mean).max(0.0).sqrt() as f32
    }

    /// How far the piece stands out.
    pub(super) fn contrast(&self) -> f32 {
        f32::from(self.stroke)
    }

    fn run(row: usize, left: usize, strokes: &[i16], values: &[i16]) -> Self {
        let most = |of: &[i16]| of.iter().max().copied().unwrap_or_default();
        let (sum, squares) = values.iter().fold((0i64, 0i64), |(sum, squares), &v| {
            let v = i64::from(v);
            (sum + v, squares + v * v)
        });
        Self {
            left,
            right: left + strokes.len().max(1) - 1,
            top: row,
            bottom: row,
            area: strokes.len().max(1),
            runs: 1,
            peak: most(values),
            stroke: most(strokes),
            sum: sum as f64,
            squares: squares as f64,
        }
    }

    fn join(self, other: Self) -> Self {
        Self {
            left: self.left.min(other.left),
            right: self.right.max(other.right),
            top: self.top.min(other.top),
            bottom: self.bottom.max(other.bottom),
            area: self.area + other.area,
            runs: self.runs + other.runs,
            peak: self.peak.max(other.peak),
            stroke: self.stroke.max(other.stroke),
            sum: self.sum + other.sum,
            squares: self.squares + other.squares,
        }
    }
}

/// A part of a row, in which strokes are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    row: usize,
    from: usize,
    to: usize,
}

impl Span {
    /// All rows of an image.
    pub(super) fn all(rows: usize, columns: usize) -> Vec<Self> {
        (0..rows).map(|row| Self { row, from: 0, to: columns }).collect()
    }
}

/// An image with what stands out in it, of rows of `columns` pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drawing<'a> {
    pub(super) strokes: &'a [i16],
    pub(super) image: &'a [i16],
    pub(super) columns: usize,
}

/// The pieces of `strokes >= threshold` within `spans` (in the order of rows and columns), and the spans that they fill;
/// values that differ by more than `step` part pieces.
pub(super) fn pieces(drawing: Drawing<'_>, spans: &[Span], threshold: i16, step: i16) -> (Vec<Piece>, Vec<Span>) {
    let columns = drawing.columns;
    let mut runs: Vec<Piece> = Vec::new();
    let mut filled = Vec::new();
    let mut parent: Vec<u32> = Vec::new();
    // Runs of the row above.
    let mut above = 0..0;
    for spans in spans.chunk_by(|a, b| a.row == b.row) {
        let row = spans.first().map_or(0, |s| s.row);
        if runs.get(above.start).is_some_and(|r| r.top + 1 < row) {
            above = runs.len()..runs.len();
        }
        let from = runs.len();
        let line = drawing.strokes.get(row * columns..(row + 1) * columns).unwrap_or(&[]);
        let values = drawing.image.get(row * columns..(row + 1) * columns).unwrap_or(&[]);
        for span in spans {
            let mut x = span.from;
            let find = |x: usize| line.get(x..span.to).and_then(|l| l.iter().position(|&s| s >= threshold));
            while let Some(start) = find(x).map(|i| i + x) {
                let strong = line.get(start..span.to).unwrap_or(&[]);
                let end = start + run_length(strong, values.get(start..span.to).unwrap_or(&[]), threshold, step);
                runs.push(Piece::run(
                    row,
                    start,
                    line.get(start..end).unwrap_or(&[]),
                    values.get(start..end).unwrap_or(&[]),
                ));
                filled.push(Span { row, from: start, to: end });
                parent.push(parent.len() as u32);
                x = end;
            }
        }
        let mut candidate = above.start;
        for index in from..runs.len() {
            let Some(&run) = runs.get(index) else { break };
            // Corners touch.
            while candidate < above.end && runs.get(candidate).is_some_and(|r| r.right + 1 < run.left) {
                candidate += 1;
            }
            let mut touching = candidate;
            while touching < above.end && runs.get(touching).is_some_and(|r| r.left <= run.right + 1) {
                let even = runs.get(touching).is_some_and(|r| (r.mean() - run.mean()).abs() <= f32::from(step));
                if even {
                    unite(&mut parent, touching as u32, index as u32);
                }
                touching += 1;
            }
        }
        above = from..runs.len();
    }
    let mut whole: Vec<Option<Piece>> = vec![None; runs.len()];
    for (index, run) in runs.into_iter().enumerate() {
        let root = root(&mut parent, index as u32) as usize;
        if let Some(slot) = whole.get_mut(root) {
            *slot = Some(slot.map_or(run, |piece| piece.join(run)));
        }
    }
    (whole.into_iter().flatten().collect(), filled)
}

/// Pixels from the first on that belong together.
fn run_length(strokes: &[i16], values: &[i16], threshold: i16, step: i16) -> usize {
    let strong = strokes.iter().take_while(|&&s| s >= threshold).count();
    if step == i16::MAX {
        return strong;
    }
    let values = values.get(..strong).unwrap_or(&[]);
    let parts = values.iter().zip(values.iter().skip(1)).position(|(a, b)| a.abs_diff(*b) > step.unsigned_abs());
    parts.map_or(strong, |at| at + 1)
}

fn root(parent: &mut [u32], mut at: u32) -> u32 {
    while let Some(&up) = parent.get(at as usize) {
        if up == at {
            break;
        }
        let over = parent.get(up as usize).copied().unwrap_or(up);
        if let Some(slot) = parent.get_mut(at as usize) {
            *slot = over;
        }
        at = over;
    }
    at
}

fn unite(parent: &mut [u32], a: u32, b: u32) {
    let (a, b) = (root(parent, a), root(parent, b));
    let (low, high) = (a.min(b), a.max(b));
    if let Some(slot) = parent.get_mut(high as usize) {
        *slot = low;
    }
}
