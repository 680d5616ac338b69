//! Sums over the voxels of every label, and what follows from them. Plain numbers: knows no stage and no table.
//!
//! The definitions are TotalSegmentator's: a voxel's volume is the product of the spacings in single precision, intensities
//! are Hounsfield units cut to whole numbers (toward zero, 16 bits), means and deviations are rounded to five decimals, and
//! a structure that comes within three voxels of an end of the image counts as incomplete.

/// A label with a voxel among this many first or last ones of an axis may go on outside the image.
pub const BORDER_PX: usize = 3;

/// What was seen of one label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sums {
    /// How many voxels.
    pub voxels: u64,
    sum: i64,
    squares: u64,
    min: i16,
    max: i16,
    /// Whether a voxel lies within [`BORDER_PX`] voxels of an end of an axis.
    pub incomplete: bool,
}

/// Hounsfield units of one label's voxels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Intensity {
    /// Mean, rounded to five decimals.
    pub mean_hu: f64,
    /// Standard deviation of the voxels (divided by their number), rounded to five decimals.
    pub std_hu: f64,
    /// Smallest.
    pub min_hu: i16,
    /// Largest.
    pub max_hu: i16,
}

impl Default for Sums {
    fn default() -> Self {
        Sums { voxels: 0, sum: 0, squares: 0, min: i16::MAX, max: i16::MIN, incomplete: false }
    }
}

impl Sums {
    /// The intensities; `None` where the label has no voxel.
    pub fn intensity(&self) -> Option<Intensity> {
        if self.voxels == 0 {
            return None;
        }
        let n = self.voxels as f64;
        // Whole numbers all the way: no order of summing changes the result.
        let spread = i128::from(self.voxels) * i128::from(self.squares) - i128::from(self.sum).pow(2);
        Some(Intensity {
            mean_hu: rounded(self.sum as f64 / n),
            std_hu: rounded((spread as f64).sqrt() / n),
            min_hu: self.min,
            max_hu: self.max,
        })
    }
}

/// The sums of every voxel value of a label map, filled plane by plane.
#[derive(Debug, Clone)]
pub struct Tally {
    size: [usize; 3],
    sums: Vec<Sums>,
}

impl Tally {
    /// Nothing seen yet of a volume of `size` voxels `[z, y, x]`.
    pub fn new(size: [usize; 3]) -> Tally {
        Tally { size, sums: vec![Sums::default(); 256] }
    }

    /// Adds slice `z`: Hounsfield units and labels `[y, x]`.
    pub fn add(&mut self, z: usize, hu: &[f32], labels: &[u8]) {
        let [slices, rows, columns] = self.size;
        if columns == 0 {
            return;
        }
        let at_end = |i: usize, n: usize| i < BORDER_PX || i + BORDER_PX >= n;
        for (y, (hu, labels)) in hu.chunks_exact(columns).zip(labels.chunks_exact(columns)).enumerate() {
            let row_at_end = at_end(z, slices) || at_end(y, rows);
            for (x, (&hu, &label)) in hu.iter().zip(labels).enumerate() {
                if label == 0 {
                    continue;
                }
                // Rounds toward zero; what 16 bits do not hold is held at their ends.
                let hu = hu as i16;
                let sums = &mut self.sums[usize::from(label)];
                sums.voxels += 1;
                sums.sum += i64::from(hu);
                sums.squares += u64::from(hu.unsigned_abs()).pow(2);
                sums.min = sums.min.min(hu);
                sums.max = sums.max.max(hu);
                sums.incomplete |= row_at_end || at_end(x, columns);
            }
        }
    }

    /// What was seen of a voxel value; nothing of the background.
    pub fn of(&self, value: i64) -> Sums {
        usize::try_from(value).ok().and_then(|v| self.sums.get(v)).copied().unwrap_or_default()
    }

    /// Voxel values that were seen, ascending, without the background.
    pub fn seen(&self) -> impl Iterator<Item = i64> {
        self.sums.iter().enumerate().filter(|(_, s)| s.voxels > 0).map(|(value, _)| value as i64)
    }
}

/// Volume of one voxel, mm³: the spacings of x, y and z (lengths of the affine's columns, millimetres) multiplied in this
/// order in single precision.
pub fn voxel_mm3(affine: &[f64; 12]) -> f64 {
    let [z, y, x] = gantry_volume::spacing_f32(affine);
    f64::from(x * y * z)
}

/// Five decimals, halves to the even digit.
fn rounded(value: f64) -> f64 {
    (value * 1e5).round_ties_even() / 1e5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_toward_zero_and_summed_by_label() {
        let mut tally = Tally::new([1, 1, 4]);
        tally.add(0, &[1.9, -1.9, 40.0, 7.0], &[1, 1, 1, 9]);
        let heart = tally.of(1);
        assert_eq!(heart.voxels, 3);
        let found = heart.intensity().unwrap();
        assert_eq!((found.min_hu, found.max_hu), (-1, 40));
        // 1, -1 and 40: mean 40/3, squares 1602.
        assert_eq!(found.mean_hu, 13.33333);
        assert_eq!(found.std_hu, 18.87385);
        assert_eq!(tally.of(9).intensity().unwrap().std_hu, 0.0);
        assert_eq!(tally.of(2), Sums::default());
        assert_eq!(tally.of(0).intensity(), None);
        assert_eq!(tally.seen().collect::<Vec<_>>(), [1, 9]);
        assert_eq!(tally.of(-1).voxels + tally.of(256).voxels, 0);
    }

    /// One voxel in turn at every place of a volume: incomplete exactly where an axis index is below 3 or above n - 4.
    #[test]
    fn incomplete_within_three_voxels_of_an_end() {
        let size = [8, 9, 10];
        for z in 0..8 {
            for y in 0..9 {
                for x in 0..10 {
                    let mut labels = vec![0; 90];
                    labels[y * 10 + x] = 5;
                    let mut tally = Tally::new(size);
                    tally.add(z, &[0.0; 90], &labels);
                    let inside = (3..=4).contains(&z) && (3..=5).contains(&y) && (3..=6).contains(&x);
                    assert_eq!(tally.of(5).incomplete, !inside, "{z} {y} {x}");
                }
            }
        }
    }

    #[test]
    fn the_extremes_of_the_type_do_not_overflow() {
        let mut tally = Tally::new([2, 1000, 1000]);
        for z in 0..2 {
            tally.add(z, &vec![-1e9; 1_000_000], &vec![255; 1_000_000]);
        }
        let found = tally.of(255).intensity().unwrap();
        assert_eq!((found.mean_hu, found.std_hu), (-32768.0, 0.0));
    }

    #[test]
    fn a_voxel_is_the_product_of_single_precision_spacings() {
        // 1.9 x 1.7 x 1.6 mm, the axes permuted and one reversed.
        let affine = [0.0, 0.0, 1.6, 5.0, -1.9, 0.0, 0.0, 5.0, 0.0, 1.7, 0.0, 5.0];
        assert_eq!(voxel_mm3(&affine), f64::from(1.9_f32 * 1.7_f32 * 1.6_f32));
        assert_eq!(voxel_mm3(&affine) * 12527.0, 64_739.538_771_629_33);
    }
}
