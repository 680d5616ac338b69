//! What a mask does to a slice. No ABI here. Any label above 0 is inside; voxels are copied bit by bit.

/// What stands inside the mask, and what outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Inside {
    /// Inside: the source's voxels. Outside: the image's.
    Source,
    /// Inside: one value. Outside: the image's voxels.
    Value,
    /// Inside: the image's voxels. Outside: one value.
    Keep,
}

/// Writes `inside` where a label is above 0 and `outside` elsewhere; both give the voxel at an index.
fn choose(labels: &[u8], out: &mut [f32], inside: impl Fn(usize) -> f32, outside: impl Fn(usize) -> f32) {
    for (i, (out, &label)) in out.iter_mut().zip(labels).enumerate() {
        *out = if label > 0 { inside(i) } else { outside(i) };
    }
}

/// Writes the masked slice: `image`, `labels`, `source` (if given) and `out` are equally long.
///
/// # Errors
/// In words, if `inside` is [`Inside::Source`] and there is no source.
pub fn apply(
    image: &[f32],
    labels: &[u8],
    source: Option<&[f32]>,
    inside: Inside,
    value: f32,
    out: &mut [f32],
) -> Result<(), String> {
    match inside {
        Inside::Source => {
            let source = source.ok_or("inside = \"source\" needs an image on port `source`")?;
            choose(labels, out, |i| source[i], |i| image[i]);
        }
        Inside::Value => choose(labels, out, |_| value, |i| image[i]),
        Inside::Keep => choose(labels, out, |i| image[i], |_| value),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: [f32; 4] = [1.0, 2.0, 3.0, 4.0];
    const SOURCE: [f32; 4] = [-1.0, -0.0, 0.1, f32::MIN_POSITIVE];

    fn applied(labels: [u8; 4], inside: Inside) -> [f32; 4] {
        let mut out = [f32::NAN; 4];
        apply(&IMAGE, &labels, Some(&SOURCE), inside, -1024.0, &mut out).unwrap();
        out
    }

    #[test]
    fn any_label_is_inside_and_copies_are_bit_equal() {
        let out = applied([0, 1, 255, 2], Inside::Source);
        assert_eq!(out.map(f32::to_bits), [1.0, -0.0, 0.1, f32::MIN_POSITIVE].map(f32::to_bits));
        assert_eq!(applied([0, 1, 255, 0], Inside::Value), [1.0, -1024.0, -1024.0, 4.0]);
        assert_eq!(applied([0, 1, 255, 0], Inside::Keep), [-1024.0, 2.0, 3.0, -1024.0]);
    }

    #[test]
    fn empty_and_full_masks() {
        assert_eq!(applied([0; 4], Inside::Source), IMAGE);
        assert_eq!(applied([0; 4], Inside::Keep), [-1024.0; 4]);
        assert_eq!(applied([3; 4], Inside::Source), SOURCE);
        assert_eq!(applied([3; 4], Inside::Keep), IMAGE);
    }

    #[test]
    fn a_source_is_needed_only_where_it_is_used() {
        let mut out = [0.0; 4];
        assert!(apply(&IMAGE, &[0; 4], None, Inside::Source, 0.0, &mut out).unwrap_err().contains("source"));
        apply(&IMAGE, &[1; 4], None, Inside::Value, 7.0, &mut out).unwrap();
        assert_eq!(out, [7.0; 4]);
    }
}
