//! What is thinner than a square: the image less its opening, or its closing less the image.

/// Half the side of the square: strokes up to twice this width are found.
const RADIUS: usize = 5;

/// The image as numbers of 16 bits with the smallest at 0, and the range of its values but for the outermost parts of
/// a hundred. `None` for an image of one value.
pub(super) fn scaled(values: &[i32]) -> Option<(Vec<i16>, i16)> {
    let low = *values.iter().min()?;
    let span = values.iter().max()?.abs_diff(low);
    let mut shift = 0;
    while span >> shift > i16::MAX as u32 {
        shift += 1;
    }
    let image: Vec<i16> = values.iter().map(|&v| ((v.wrapping_sub(low) as u32) >> shift) as i16).collect();
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
    let range = if range < 8 { (span >> shift) as usize } else { range };
    (range > 0).then_some((image, i16::try_from(range).ok()?))
}

/// How far each pixel stands out as part of a thin bright structure.
pub(super) fn strokes(image: &[i16], rows: usize, columns: usize) -> Vec<i16> {
    let eroded = extreme(image, rows, columns, i16::MAX, i16::min);
    let mut opened = extreme(&eroded, rows, columns, i16::MIN, i16::max);
    for (ground, &value) in opened.iter_mut().zip(image) {
        *ground = value - (*ground).min(value);
    }
    opened
}

/// Steps that make a window of one pixel one of eleven: each joins it with itself, so much farther on.
const STEPS: [usize; 4] = [1, 2, 4, 3];

/// The smallest or largest value in a square around each pixel; `neutral` is what lies outside the image.
fn extreme(
    image: &[i16],
    rows: usize,
    columns: usize,
    neutral: i16,
    pick: impl Fn(i16, i16) -> i16 + Copy,
) -> Vec<i16> {
    let mut out = vec![neutral; (rows + RADIUS) * columns];
    let mut line = vec![neutral; columns + 2 * RADIUS];
    let mut joined = line.clone();
    for (target, source) in out.chunks_exact_mut(columns).skip(RADIUS).zip(image.chunks_exact(columns)) {
        line.fill(neutral);
        if let Some(middle) = line.get_mut(RADIUS..RADIUS + columns) {
            middle.copy_from_slice(source);
        }
        for step in STEPS {
            for ((to, &a), &b) in joined.iter_mut().zip(&line).zip(line.get(step..).unwrap_or(&[])) {
                *to = pick(a, b);
            }
            std::mem::swap(&mut line, &mut joined);
        }
        target.copy_from_slice(line.get(..columns).unwrap_or(source));
    }
    // Down the columns in place: a row so much farther on has not changed yet.
    for step in STEPS.map(|step| step * columns) {
        for from in (0..out.len() - step).step_by(columns) {
            let (head, tail) = out.split_at_mut(from + step);
            for (to, &other) in head.iter_mut().skip(from).take(columns).zip(tail.iter()) {
                *to = pick(*to, other);
            }
        }
    }
    out.truncate(rows * columns);
    out
}
