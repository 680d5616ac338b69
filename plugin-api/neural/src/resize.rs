//! Resizing of single planes: the antialiased bilinear filter of the published DuCoSy program, and nearest for masks.
//!
//! The filter is separable: for scale `s = in/out`, an output pixel `i` has its centre at `c = (i + 0.5) * s` and takes
//! the source pixels `j` within `r = max(s, 1)` of it with weights `1 - |j - c + 0.5| / r`, normalised to sum 1
//! (DuCoSy specification 4.3). Enlarging does not widen the filter. Aspect ratio is the caller's affair.

use rayon::prelude::*;

/// The taps of one axis: for each output position, its first source index and its weights.
///
/// In f32 on purpose: at ratios f32 cannot hold the published weights differ from exact ones by 1e-5.
fn taps(source: usize, target: usize) -> Vec<(usize, Vec<f32>)> {
    let scale = source as f32 / target as f32;
    let radius = scale.max(1.0);
    (0..target)
        .map(|i| {
            let centre = (i as f32 + 0.5) * scale;
            let first = ((centre - radius + 0.5).max(0.0) as usize).min(source - 1);
            let last = ((centre + radius + 0.5) as usize).clamp(first + 1, source);
            let weight = |j: usize| (1.0 - ((j as f32 - centre + 0.5) / radius).abs()).max(0.0);
            let sum: f32 = (first..last).map(weight).sum();
            (first, (first..last).map(|j| weight(j) / sum).collect())
        })
        .collect()
}

/// One plane `[height, width]` to `[height', width']`; unchanged where the sizes agree.
///
/// # Panics
/// If `plane` is not `height * width` long or a size is 0: sizes come from the caller's own views.
pub fn resize_antialiased(plane: &[f32], [height, width]: [usize; 2], [to_height, to_width]: [usize; 2]) -> Vec<f32> {
    assert!(plane.len() == height * width && plane.len() * to_height * to_width > 0, "plane and sizes disagree");
    if [height, width] == [to_height, to_width] {
        return plane.to_vec();
    }
    let columns = taps(width, to_width);
    let mut narrow = vec![0f32; height * to_width];
    narrow.par_chunks_exact_mut(to_width).zip(plane.par_chunks_exact(width)).for_each(|(out, row)| {
        for (out, (first, weights)) in out.iter_mut().zip(&columns) {
            *out = weights.iter().zip(&row[*first..]).map(|(weight, x)| weight * x).sum();
        }
    });
    let rows = taps(height, to_height);
    let mut out = vec![0f32; to_height * to_width];
    out.par_chunks_exact_mut(to_width).zip(&rows).for_each(|(out, (first, weights))| {
        for (weight, row) in weights.iter().zip(narrow[first * to_width..].chunks_exact(to_width)) {
            for (out, x) in out.iter_mut().zip(row) {
                *out += weight * x;
            }
        }
    });
    out
}

/// One plane of labels `[height, width]` to `[height', width']`: source index `floor(i * in / out)`.
///
/// # Panics
/// If `plane` is not `height * width` long or a size is 0.
pub fn resize_nearest<T: Copy>(plane: &[T], [height, width]: [usize; 2], [to_height, to_width]: [usize; 2]) -> Vec<T> {
    assert!(plane.len() == height * width && plane.len() * to_height * to_width > 0, "plane and sizes disagree");
    (0..to_height)
        .flat_map(|y| {
            let row = &plane[y * height / to_height * width..][..width];
            (0..to_width).map(move |x| row[x * width / to_width])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_of_every_pixel_sum_to_one() {
        for (source, target) in [(160, 64), (64, 160), (7, 7), (1, 5), (5, 1), (513, 512)] {
            for (first, weights) in taps(source, target) {
                assert!(!weights.is_empty() && first + weights.len() <= source);
                assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn halving_and_doubling_known_rows() {
        assert_eq!(resize_antialiased(&[1., 2., 3., 4.], [1, 4], [1, 4]), [1., 2., 3., 4.]);
        assert_eq!(resize_antialiased(&[0., 4.], [1, 2], [1, 4]), [0., 1., 3., 4.]);
        let half = resize_antialiased(&[0., 8., 0., 0.], [1, 4], [1, 2]);
        assert!((half[0] - 24. / 7.).abs() < 1e-6 && (half[1] - 8. / 7.).abs() < 1e-6, "{half:?}");
        assert_eq!(resize_nearest(&[1u8, 2, 3], [1, 3], [2, 6]), [1, 1, 2, 2, 3, 3, 1, 1, 2, 2, 3, 3]);
    }
}
