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

    /// Standard deviation of the values.
    pub(super) fn spread(&self) -> f32 {
        let mean = self.sum / self.area as f64;
        (self.squares / self.area as f64 - mean * mean).max(0.0).sqrt() as f32
    }

    /// How far the piece stands out.
    pub(super) fn contrast(&self) -> f32 {
        f32::from(self.stroke)
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

/// The pieces of `strokes >= threshold`, with the values of `image`.
pub(super) fn pieces(strokes: &[i16], image: &[i16], rows: usize, columns: usize, threshold: i16) -> Vec<Piece> {
    let mut runs: Vec<Piece> = Vec::new();
    let mut parent: Vec<u32> = Vec::new();
    // Runs of the row above.
    let mut above = 0..0;
    for row in 0..rows {
        let from = runs.len();
        let Some(line) = strokes.get(row * columns..(row + 1) * columns) else { break };
        let values = image.get(row * columns..(row + 1) * columns).unwrap_or(&[]);
        let mut x = 0;
        while let Some(start) = line.get(x..).and_then(|l| l.iter().position(|&s| s >= threshold)).map(|i| i + x) {
            let length = line.get(start..).map_or(0, |l| l.iter().take_while(|&&s| s >= threshold).count());
            let end = start + length;
            let most = |of: &[i16]| of.get(start..end).and_then(|s| s.iter().max().copied()).unwrap_or_default();
            let total = |of: &dyn Fn(f64) -> f64| {
                values.get(start..end).unwrap_or(&[]).iter().map(|&v| of(f64::from(v))).sum::<f64>()
            };
            runs.push(Piece {
                left: start,
                right: end - 1,
                top: row,
                bottom: row,
                area: length,
                runs: 1,
                peak: most(values),
                stroke: most(line),
                sum: total(&|v| v),
                squares: total(&|v| v * v),
            });
            parent.push(parent.len() as u32);
            x = end;
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
                unite(&mut parent, touching as u32, index as u32);
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
    whole.into_iter().flatten().collect()
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
