//! Pixels that look like text: found and reported, never changed.
//!
//! Burned-in text is made of thin strokes that stand out from what lies close by, in pieces of one height on a common
//! baseline with small gaps, all of one grey value. Anatomy has thin bright and dark structures as well, but not four
//! and more of them in a row that agree in height, baseline and value. Strokes are what an opening (bright) or closing
//! (dark) with a square takes away; at several thresholds their connected pieces are put together to lines.

mod pieces;
mod strokes;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::blank::Rectangle;
use pieces::{Drawing, Piece, Span};

/// Lowest and greatest height of a glyph, pixels.
const HEIGHTS: std::ops::RangeInclusive<usize> = 5..=60;
/// Fewest glyphs of a line.
const MIN_GLYPHS: usize = 4;
/// Thresholds of contrast, as parts of the image's range.
const LEVELS: [f32; 9] = [0.12, 0.2, 0.3, 0.45, 0.65, 0.9, 1.3, 2.0, 3.0];
/// How much neighbours may differ in a piece of one value, as a part of the image's range.
const EVEN: f32 = 0.05;
/// A logistic regression over [`features`]: lines drawn into CT slices against chains that were found in CT and MR slices
/// and in noise.
const WEIGHTS: [f32; 8] = [6.3, -29.0, -21.8, -7.8, -3.6, 21.4, -2.6, -1.0];
const BIAS: f32 = -10.3;
/// Odds (natural logarithm) from which a line counts as text.
const SURE: f32 = 0.0;
/// More pieces than this at one threshold are noise or texture, in which lines mean nothing.
const MAX_PIECES: usize = 6000;

/// A line of pixels that looks like text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TextLike {
    /// Where it lies.
    pub rectangle: Rectangle,
    /// How much it looks like text: from 0.5 (just enough) to 1.
    pub score: f32,
    /// Pieces that look like glyphs.
    pub glyphs: usize,
}

/// Finds lines that look like text in a grey image, row by row. Nothing is found in an image whose size is not `rows` x
/// `columns` samples, or smaller than a glyph.
pub fn text_like(values: &[i32], rows: usize, columns: usize) -> Vec<TextLike> {
    if values.len() != rows * columns || rows < *HEIGHTS.start() || columns < MIN_GLYPHS {
        return Vec::new();
    }
    let Some((mut image, range)) = strokes::scaled(values) else { return Vec::new() };
    let mut found = Vec::new();
    for dark in [false, true] {
        if dark {
            image.iter_mut().for_each(|v| *v = i16::MAX - *v);
        }
        let strokes = strokes::strokes(&image, rows, columns);
        let drawing = Drawing { strokes: &strokes, image: &image, columns };
        let part = |part: f32| (part * f32::from(range)).clamp(1.0, f32::from(i16::MAX)) as i16;
        let mut spans = Span::all(rows, columns);
        for (index, level) in LEVELS.into_iter().enumerate() {
            let pieces;
            (pieces, spans) = pieces::pieces(drawing, &spans, part(level), i16::MAX);
            if pieces.is_empty() {
                break;
            }
            lines(pieces, rows, &mut found);
            if index == 0 {
                // Grey text on anatomy of its own brightness: pieces of one value each.
                lines(pieces::pieces(drawing, &spans, part(level), part(EVEN)).0, rows, &mut found);
            }
        }
    }
    merged(found)
}

/// Size and proportions of a glyph.
fn like_a_glyph(piece: &Piece) -> bool {
    let (width, height) = (piece.width(), piece.height());
    let fill = piece.area as f32 / (width * height) as f32;
    let stroke = piece.area as f32 / piece.runs as f32;
    HEIGHTS.contains(&height)
        && width * 5 <= height * 9
        && if width * 3 <= height { fill >= 0.5 } else { (0.12..=0.85).contains(&fill) }
        && stroke <= 0.6 * height as f32
}

/// Chains of pieces from left to right on one baseline.
fn lines(mut glyphs: Vec<Piece>, rows: usize, found: &mut Vec<TextLike>) {
    glyphs.retain(like_a_glyph);
    if !(MIN_GLYPHS..=MAX_PIECES).contains(&glyphs.len()) {
        return;
    }
    glyphs.sort_unstable_by_key(|g| (g.left, g.top));
    let mut at_bottom = vec![Vec::new(); rows];
    for (index, glyph) in glyphs.iter().enumerate() {
        if let Some(row) = at_bottom.get_mut(glyph.bottom) {
            row.push(index);
        }
    }
    let follows = |a: &Piece| -> Option<usize> {
        let slack = 1 + a.height() / 12;
        let near = a.bottom.saturating_sub(slack)..=(a.bottom + slack).min(rows - 1);
        let candidates = near.flat_map(|row| at_bottom.get(row).into_iter().flatten().copied());
        candidates
            .filter(|&b| glyphs.get(b).is_some_and(|b| neighbours(a, b)))
            .min_by_key(|&b| glyphs.get(b).map(|g| g.left))
    };
    let next: Vec<Option<usize>> = glyphs.iter().map(follows).collect();
    let mut used = vec![false; glyphs.len()];
    let mut chains = Vec::new();
    for start in 0..glyphs.len() {
        let mut chain = Vec::new();
        let mut at = Some(start);
        while let Some(index) = at.filter(|&i| used.get(i) == Some(&false)) {
            if let Some(mark) = used.get_mut(index) {
                *mark = true;
            }
            chain.extend(glyphs.get(index));
            at = next.get(index).copied().flatten();
        }
        if chain.len() >= MIN_GLYPHS {
            chains.push(chain);
        }
    }
    // Where many pieces lie about in no line, some fall into line by chance.
    let loners = glyphs.len() - chains.iter().map(Vec::len).sum::<usize>();
    found.extend(chains.iter().filter_map(|chain| judge(chain, loners)));
}

/// May `b` be the glyph after `a`?
fn neighbours(a: &Piece, b: &Piece) -> bool {
    let (small, large) = (a.height().min(b.height()), a.height().max(b.height()));
    let value = f32::from(a.peak - b.peak).abs();
    b.left > a.right
        && (b.left - a.right) * 10 <= large * 20
        && small * 9 >= large * 5
        && value <= 0.25 * a.contrast().min(b.contrast())
}

/// How much a chain looks like text; `None` where it does not.
fn judge(chain: &[&Piece], loners: usize) -> Option<TextLike> {
    let z = BIAS + features(chain, loners).iter().zip(WEIGHTS).map(|(feature, weight)| feature * weight).sum::<f32>();
    if z < SURE {
        return None;
    }
    let left = chain.iter().map(|p| p.left).min()?;
    let right = chain.iter().map(|p| p.right).max()?;
    let top = chain.iter().map(|p| p.top).min()?;
    let bottom = chain.iter().map(|p| p.bottom).max()?;
    let rectangle = Rectangle { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
    Some(TextLike { rectangle, score: 1.0 - (SURE - z).exp() / 2.0, glyphs: chain.len() })
}

/// What tells text from chance, in the order of [`WEIGHTS`].
fn features(chain: &[&Piece], loners: usize) -> [f32; 8] {
    let mean = |of: &dyn Fn(&Piece) -> f32| chain.iter().map(|p| of(p)).sum::<f32>() / chain.len() as f32;
    let spread = |of: &dyn Fn(&Piece) -> f32| {
        let middle = mean(of);
        mean(&|p| (of(p) - middle).powi(2)).sqrt()
    };
    let height = mean(&|p| p.height() as f32);
    let contrast = mean(&Piece::contrast).max(1.0);
    let stroke = mean(&|p| p.area as f32 / p.runs as f32) / height;
    let mut gaps: Vec<usize> = chain.iter().zip(chain.iter().skip(1)).map(|(a, b)| b.left - a.right).collect();
    gaps.sort_unstable();
    let gap = gaps.get(gaps.len() / 2).copied().unwrap_or_default() as f32 / height;
    [
        (chain.len() as f32).ln(),
        uneven(chain),
        spread(&|p| p.bottom as f32) / height,
        spread(&|p| f32::from(p.peak)) / contrast,
        mean(&Piece::spread) / contrast,
        stroke.min(0.3),
        gap.min(1.0),
        (loners as f32).ln_1p(),
    ]
}

/// How far heights lie from the two that a line of text has: capitals with digits, and small letters.
fn uneven(chain: &[&Piece]) -> f32 {
    let tallest = chain.iter().map(|p| p.height()).max().unwrap_or_default() as f32;
    let (large, small): (Vec<f32>, Vec<f32>) =
        chain.iter().map(|p| p.height() as f32).partition(|&h| h >= 0.87 * tallest);
    let squares = |heights: &[f32]| {
        let mean = heights.iter().sum::<f32>() / heights.len().max(1) as f32;
        heights.iter().map(|h| (h - mean).powi(2)).sum::<f32>()
    };
    ((squares(&large) + squares(&small)) / chain.len() as f32).sqrt() / tallest.max(1.0)
}

/// Lines that were found at several thresholds become one each, the strongest first.
fn merged(mut found: Vec<TextLike>) -> Vec<TextLike> {
    found.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.rectangle.cmp(&b.rectangle)));
    let mut out: Vec<TextLike> = Vec::new();
    for line in found {
        let r = line.rectangle;
        let meets =
            |o: &Rectangle| r.x < o.x + o.width && o.x < r.x + r.width && r.y < o.y + o.height && o.y < r.y + r.height;
        match out.iter_mut().find(|o| meets(&o.rectangle)) {
            Some(other) => {
                let o = &mut other.rectangle;
                let (right, bottom) = ((o.x + o.width).max(r.x + r.width), (o.y + o.height).max(r.y + r.height));
                (o.x, o.y) = (o.x.min(r.x), o.y.min(r.y));
                (o.width, o.height) = (right - o.x, bottom - o.y);
                other.glyphs = other.glyphs.max(line.glyphs);
            }
            None => out.push(line),
        }
    }
    out
}
