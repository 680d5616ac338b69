//! What is thinner than a square: the image less its opening, or its closing less the image.

/// Half the side of the square: strokes up to twice this width are found.
const RADIUS: usize = 5;

/// The image as numbers of 16 bits with the smallest at 0, and the range of its values but for the outermost parts of
/// a hundred. `None` for an image of one value.
pub(super) fn scaled(values: &[i32]) -> Option<(Vec<i16>, i16)> {
    let low = i64::from(*values.iter().min()?);
    let high = i64::from(*values.iter().max()?);
    let mut shift = 0;
    while (high - low) >> shift > i64::from(i16::MAX) {
        shift += 1;
    }
    let image: Vec<i16> = values.iter().map(|&v| ((i64::from(v) - low) >> shift) as i16).collect();
    let mut counts = vec![0u32; 1 << 15];
    for &value in &image {
        if let Some(count) = counts.get_mut(value as usize) {
            *count += 1;
        }
    }
    let part = |share: f64| {
        let wanted = (image.len() as f64 * share) as u64;
        let mut seen = 0u64;
        counts.iter().position(|&n| {
            seen += u64::from(n);
            seen > wanted
        })
    };
    let range = part(0.995)?.saturating_sub(part(0.005)?);
    // Text alone on an even ground may be less than a part of a hundred.
    let range = if range < 8 { ((high - low) >> shift) as usize } else { range };
    (range > 0).then_some((image, i16::try_from(range).ok()?))
}

/// How far each pixel stands out as part of a thin structure, bright or dark; and the image in which that structure is
/// bright.
pub(super) fn strokes(image: &[i16], rows: usize, columns: usize, dark: bool) -> (Vec<i16>, Vec<i16>) {
    let image: Vec<i16> = if dark { image.iter().map(|&v| i16::MAX - v).collect() } else { image.to_vec() };
    let eroded = extreme(&image, rows, columns, i16::min);
    let mut opened = extreme(&eroded, rows, columns, i16::max);
    for (ground, &value) in opened.iter_mut().zip(&image) {
        *ground = value - (*ground).min(value);
    }
    (opened, image)
}

/// The smallest or largest value in a square around each pixel.
fn extreme(image: &[i16], rows: usize, columns: usize, pick: impl Fn(i16, i16) -> i16 + Copy) -> Vec<i16> {
    let across = rows_extreme(image, columns, pick);
    let mut out = across.clone();
    // Down the columns, row against row.
    for row in 0..rows {
        let Some(target) = out.get_mut(row * columns..(row + 1) * columns) else { break };
        for other in row.saturating_sub(RADIUS)..=(row + RADIUS).min(rows - 1) {
            let Some(source) = across.get(other * columns..(other + 1) * columns) else { break };
            for (t, &s) in target.iter_mut().zip(source) {
                *t = pick(*t, s);
            }
        }
    }
    out
}

fn rows_extreme(image: &[i16], columns: usize, pick: impl Fn(i16, i16) -> i16 + Copy) -> Vec<i16> {
    let mut out = image.to_vec();
    for (target, source) in out.chunks_exact_mut(columns).zip(image.chunks_exact(columns)) {
        for shift in 1..=RADIUS.min(columns - 1) {
            for (t, &s) in target.iter_mut().zip(source.get(shift..).unwrap_or(&[])) {
                *t = pick(*t, s);
            }
            for (t, &s) in target.get_mut(shift..).unwrap_or_default().iter_mut().zip(source) {
                *t = pick(*t, s);
            }
        }
    }
    out
}
