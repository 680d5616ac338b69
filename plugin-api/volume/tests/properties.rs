//! What holds for any volume: against slow, plain ways of saying the same, for degenerate sizes, and for any number of
//! threads.

use gantry_volume::export::{Decision, Logits, Way, higher_order, labels, one_hot, resample_class};
use gantry_volume::{
    AxisOrder, Bounds, Components, Connectivity, Error, Normalisation, Order, Orientation, Resampling,
    bounds_of_nonzero, dilate, fill_holes, fill_holes_in_slices, importance_map, new_size, nonzero_mask, outline,
    permute, remove_small, resample, resize, separate_axis, spacing_f32, starts, zoom, zoom_labels, zoom_size,
};
use half::f16;
use proptest::prelude::*;

/// Numbers that repeat: a linear congruential generator.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1_u32 << 31)
    }

    /// A mask with about this fraction set.
    fn mask(&mut self, n: usize, fraction: f64) -> Vec<u8> {
        (0..n).map(|_| u8::from(self.next() < fraction)).collect()
    }
}

fn axis() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1_usize), 2_usize..4, 4_usize..20]
}

fn size() -> impl Strategy<Value = [usize; 3]> {
    [axis(), axis(), axis()]
}

/// Logits whose labels hang on little.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Shapes with clear insides.
    Smooth,
    /// Few different values: exact ties.
    Steps,
    /// Classes a place or two of half precision apart, around 8, where places double: interpolation makes ties.
    Places,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Smooth), Just(Kind::Steps), Just(Kind::Places)]
}

fn logits(noise: &mut Noise, classes: usize, size: [usize; 3], kind: Kind) -> Vec<f16> {
    let n = size.iter().product::<usize>();
    let base: Vec<f64> = (0..n).map(|_| 7.9 + 0.2 * noise.next()).collect();
    let mut out = Vec::with_capacity(classes * n);
    for class in 0..classes {
        let level = noise.next() * 4.0 - 2.0;
        for (i, &base) in base.iter().enumerate() {
            out.push(match kind {
                Kind::Smooth => f16::from_f64(level + ((i / 3) as f64 * 0.1 + class as f64).sin()),
                Kind::Steps => {
                    f16::from_f64((noise.next() * 4.0).floor() * if noise.next() < 0.1 { 1e-7 } else { 1.0 })
                }
                Kind::Places => f16::from_bits(f16::from_f64(base).to_bits() + class as u16),
            });
        }
    }
    out
}

/// What [`labels`] says it does, by holding every class at full resolution.
fn greatest(logits: &Logits<'_>, to: [usize; 3], separate: Option<usize>) -> Vec<u8> {
    let mut best = resample_class(logits, 0, to, separate).unwrap();
    let mut out = vec![0; best.len()];
    for class in 1..logits.classes() {
        for (i, value) in resample_class(logits, class, to, separate).unwrap().into_iter().enumerate() {
            if value > best[i] {
                best[i] = value;
                out[i] = class as u8;
            }
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn fast_and_exact_labels_are_the_same(
        from in size(), to in size(), classes in 1_usize..7, separate in prop::option::of(0_usize..3),
        seed: u64, kind in kind(),
    ) {
        let values = logits(&mut Noise(seed), classes, from, kind);
        let given = Logits::new(&values, classes, from).unwrap();
        let exact = labels(&given, to, separate, Decision::Greatest, Way::Exact).unwrap();
        let fast = labels(&given, to, separate, Decision::Greatest, Way::Fast).unwrap();
        prop_assert_eq!(&exact, &fast);
        prop_assert_eq!(exact, greatest(&given, to, separate));
    }

    #[test]
    fn regions_are_sigmoids_above_one_half(
        from in size(), to in size(), classes in 1_usize..5, seed: u64,
    ) {
        let values = logits(&mut Noise(seed), classes, from, Kind::Steps);
        let given = Logits::new(&values, classes, from).unwrap();
        let order: Vec<u8> = (0..classes).map(|c| (c as u8 * 7 + 1) % 5).collect();
        let ours = labels(&given, to, None, Decision::Regions(&order), Way::Fast).unwrap();
        let mut theirs = vec![0; ours.len()];
        for (class, &label) in order.iter().enumerate() {
            for (out, value) in theirs.iter_mut().zip(resample_class(&given, class, to, None).unwrap()) {
                if 1.0 / (1.0 + (-value.to_f32()).exp()) > 0.5 {
                    *out = label;
                }
            }
        }
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn components_are_those_of_a_flood(size in size(), seed: u64, fraction in 0.05_f64..0.95, kind in 0..3) {
        let mask = Noise(seed).mask(size.iter().product(), fraction);
        let (connectivity, reach): (_, fn([isize; 3]) -> bool) = match kind {
            0 => (Connectivity::Faces, |d| d.iter().map(|v| v.abs()).sum::<isize>() == 1),
            1 => (Connectivity::SidesInSlice, |d| d[0] == 0 && d[1].abs() + d[2].abs() == 1),
            _ => (Connectivity::CornersInSlice, |d| d[0] == 0),
        };
        let ours = Components::find(&mask, size, connectivity, |v| v != 0).unwrap();
        let theirs = flood(&mask, size, reach);
        prop_assert_eq!(ours.list().len(), theirs.len());
        let mut painted = vec![usize::MAX; mask.len()];
        ours.each_run(|component, voxels| painted[voxels].fill(component));
        for (number, (component, voxels)) in ours.list().iter().zip(&theirs).enumerate() {
            prop_assert_eq!(component.voxels, voxels.len());
            for &[z, y, x] in voxels {
                prop_assert_eq!(painted[(z * size[1] + y) * size[2] + x], number);
                prop_assert_eq!(ours.at([z, y, x]), Some(number));
            }
            for axis in 0..3 {
                let mean = voxels.iter().map(|v| v[axis] as f64).sum::<f64>() / voxels.len() as f64;
                prop_assert!((component.centroid[axis] - mean).abs() < 1e-9);
                prop_assert_eq!(component.bounds.low[axis], voxels.iter().map(|v| v[axis]).min().unwrap());
                prop_assert_eq!(component.bounds.high[axis], voxels.iter().map(|v| v[axis]).max().unwrap() + 1);
            }
        }
        prop_assert_eq!(painted.iter().filter(|&&p| p == usize::MAX).count(), mask.iter().filter(|&&m| m == 0).count());
    }

    #[test]
    fn small_components_go(size in size(), seed: u64, most in 0_usize..6) {
        let mut ours = Noise(seed).mask(size.iter().product(), 0.3);
        let mut theirs = ours.clone();
        let mut gone = 0;
        for voxels in flood(&ours, size, |d| d.iter().map(|v| v.abs()).sum::<isize>() == 1) {
            if voxels.len() <= most {
                gone += voxels.len();
                voxels.iter().for_each(|[z, y, x]| theirs[(z * size[1] + y) * size[2] + x] = 0);
            }
        }
        prop_assert_eq!(remove_small(&mut ours, size, 1, most).unwrap(), gone);
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn dilation_is_repeated_dilation(size in size(), seed: u64, fraction in 0.0_f64..0.1, n in 0_usize..5) {
        let mask = Noise(seed).mask(size.iter().product(), fraction);
        let mut theirs = mask.clone();
        for _ in 0..n {
            let before = theirs.clone();
            each(size, |at| {
                let near = neighbours(at, size, |d| d.iter().map(|v| v.abs()).sum::<isize>() == 1);
                if near.into_iter().any(|[z, y, x]| before[(z * size[1] + y) * size[2] + x] != 0) {
                    theirs[(at[0] * size[1] + at[1]) * size[2] + at[2]] = 1;
                }
            });
        }
        prop_assert_eq!(dilate(&mask, size, n).unwrap(), theirs);
    }

    #[test]
    fn holes_are_what_the_outside_does_not_reach(size in size(), seed: u64, fraction in 0.4_f64..0.9, slices: bool) {
        let mut ours = Noise(seed).mask(size.iter().product(), fraction);
        let empty: Vec<u8> = ours.iter().map(|&m| 1 - m).collect();
        let mut theirs = ours.clone();
        let step: fn([isize; 3]) -> bool = if slices {
            |d| d[0] == 0 && d[1].abs() + d[2].abs() == 1
        } else {
            |d| d.iter().map(|v| v.abs()).sum::<isize>() == 1
        };
        let axes: &[usize] = if slices { &[1, 2] } else { &[0, 1, 2] };
        for voxels in flood(&empty, size, step) {
            if voxels.iter().all(|v| axes.iter().all(|&a| v[a] > 0 && v[a] + 1 < size[a])) {
                voxels.iter().for_each(|[z, y, x]| theirs[(z * size[1] + y) * size[2] + x] = 1);
            }
        }
        if slices {
            fill_holes_in_slices(&mut ours, size).unwrap();
        } else {
            fill_holes(&mut ours, size).unwrap();
        }
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn cutting_and_pasting(size in size(), seed: u64) {
        let values: Vec<u16> = (0..size.iter().product::<usize>()).map(|i| i as u16).collect();
        let mut noise = Noise(seed);
        let mut bounds = Bounds::all(size);
        for ((low, high), n) in bounds.low.iter_mut().zip(&mut bounds.high).zip(size) {
            *low = (noise.next() * n as f64) as usize;
            *high = *low + 1 + (noise.next() * (n - *low) as f64) as usize;
        }
        let part = bounds.cut(&values, size).unwrap();
        let mut back = vec![u16::MAX; values.len()];
        bounds.paste(&part, &mut back, size).unwrap();
        each(size, |at| {
            let i = (at[0] * size[1] + at[1]) * size[2] + at[2];
            let inside = (0..3).all(|a| (bounds.low[a]..bounds.high[a]).contains(&at[a]));
            assert_eq!(back[i], if inside { values[i] } else { u16::MAX });
        });
        let found = Bounds::of(&back, size, |v| v != u16::MAX).unwrap().unwrap();
        prop_assert_eq!(found, bounds);
        let image: Vec<f32> = back.iter().map(|&v| if v == u16::MAX { 0.0 } else { 1.0 }).collect();
        prop_assert_eq!(bounds_of_nonzero(&image, size).unwrap(), bounds);
    }

    #[test]
    fn orientation_there_and_back(size in size(), turn in 0_usize..48, tilt in -0.2_f64..0.2) {
        // A permutation with flips, then a tilt that leaves the closest axes what they are.
        let axes = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]][turn / 8];
        let spacing = [0.7, 0.9, 2.5];
        let mut affine = [0.0; 12];
        for column in 0..3 {
            let sign = if turn >> column & 1 == 1 { -1.0 } else { 1.0 };
            affine[axes[column] * 4 + column] = sign * spacing[column];
            affine[(axes[column] + 1) % 3 * 4 + column] = tilt * spacing[column];
            affine[column * 4 + 3] = column as f64 * 10.0;
        }
        let orientation = Orientation::of(&affine).unwrap();
        let values: Vec<u32> = (0..size.iter().product::<usize>() as u32).collect();
        let (canonical, new) = orientation.apply(&values, size).unwrap();
        prop_assert_eq!(orientation.reorder(size), new);
        prop_assert_eq!(orientation.undo(&canonical, new).unwrap(), (values.clone(), size));
        // The canonical affine puts every voxel where it was, and points right, front and up (RAS).
        let placed = orientation.canonical_affine(&affine, size);
        prop_assert!(placed[0] < 0.0 && placed[5] < 0.0 && placed[10] > 0.0, "{placed:?}");
        let world = |m: &[f64; 12], [z, y, x]: [usize; 3]| {
            [0, 1, 2].map(|r| m[r * 4] * x as f64 + m[r * 4 + 1] * y as f64 + m[r * 4 + 2] * z as f64 + m[r * 4 + 3])
        };
        each(new, |at| {
            let value = canonical[(at[0] * new[1] + at[1]) * new[2] + at[2]] as usize;
            let was = [value / (size[1] * size[2]), value / size[2] % size[1], value % size[2]];
            let (here, there) = (world(&placed, at), world(&affine, was));
            assert!((0..3).all(|a| (here[a] - there[a]).abs() < 1e-9), "{here:?} {there:?}");
        });
    }

    #[test]
    fn any_number_of_threads(from in size(), to in size(), seed: u64) {
        let mut noise = Noise(seed);
        let image: Vec<f32> = (0..from.iter().product::<usize>()).map(|_| (noise.next() * 3000.0 - 1000.0) as f32).collect();
        let values = logits(&mut noise, 3, from, Kind::Steps);
        let mask = noise.mask(from.iter().product(), 0.5);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let given = Logits::new(&values, 3, from).unwrap();
                let images = [Order::Nearest, Order::Linear, Order::Cubic].map(|order| {
                    let bits: Vec<u32> = resize(&image, from, to, order).unwrap().iter().map(|v| v.to_bits()).collect();
                    (bits, zoom::<_, i32>(&image, from, to, order, AxisOrder::Xyz).unwrap())
                });
                let apart = Resampling { order: Order::Cubic, force_separate: Some(true) };
                let apart = resample(&image, from, to, [1.0, 4.0, 1.0], [1.0; 3], apart).unwrap();
                let apart: Vec<u32> = apart.iter().map(|v| v.to_bits()).collect();
                let segmented = [Way::Exact, Way::Fast].map(|w| labels(&given, to, None, Decision::Greatest, w).unwrap());
                (images, apart, segmented, higher_order(&given, to, None).unwrap(), dilate(&mask, from, 2).unwrap())
            })
        };
        prop_assert_eq!(run(1), run(3));
    }

    #[test]
    fn sizes_of_one_and_constant_images(from in size(), to in size(), value in -1024_i16..3000) {
        let image = vec![f32::from(value); from.iter().product()];
        for order in [Order::Nearest, Order::Linear, Order::Cubic] {
            prop_assert!(resize(&image, from, to, order).unwrap().iter().all(|&v| v == f32::from(value)));
            for axes in [AxisOrder::Zyx, AxisOrder::Xyz] {
                let zoomed: Vec<f32> = zoom(&image, from, to, order, axes).unwrap();
                prop_assert!(zoomed.iter().all(|&v| (v - f32::from(value)).abs() < 1e-3));
            }
        }
    }
}

/// Calls `visit` with every voxel.
fn each(size: [usize; 3], mut visit: impl FnMut([usize; 3])) {
    for z in 0..size[0] {
        for y in 0..size[1] {
            for x in 0..size[2] {
                visit([z, y, x]);
            }
        }
    }
}

/// The neighbours of a voxel whose offset `accept` takes.
fn neighbours(at: [usize; 3], size: [usize; 3], accept: impl Fn([isize; 3]) -> bool) -> Vec<[usize; 3]> {
    let mut out = Vec::new();
    for n in (0..27).filter(|&n| n != 13) {
        let d = [n / 9 - 1, n / 3 % 3 - 1, n % 3 - 1];
        let to: Vec<usize> = (0..3).filter_map(|a| at[a].checked_add_signed(d[a]).filter(|&v| v < size[a])).collect();
        if to.len() == 3 && accept(d) {
            out.push([to[0], to[1], to[2]]);
        }
    }
    out
}

/// Components by flooding, in raster order of their first voxels.
fn flood(mask: &[u8], size: [usize; 3], accept: impl Fn([isize; 3]) -> bool + Copy) -> Vec<Vec<[usize; 3]>> {
    let at = |[z, y, x]: [usize; 3]| (z * size[1] + y) * size[2] + x;
    let mut seen = vec![false; mask.len()];
    let mut out = Vec::new();
    each(size, |first| {
        if mask[at(first)] == 0 || seen[at(first)] {
            return;
        }
        seen[at(first)] = true;
        let (mut open, mut voxels) = (vec![first], vec![]);
        while let Some(voxel) = open.pop() {
            voxels.push(voxel);
            for next in neighbours(voxel, size, accept) {
                if mask[at(next)] != 0 && !seen[at(next)] {
                    seen[at(next)] = true;
                    open.push(next);
                }
            }
        }
        out.push(voxels);
    });
    out
}

#[test]
fn bad_sizes_are_errors() {
    let image = [0.0_f32; 8];
    let two = [2, 2, 2];
    let text = |e: Error| e.to_string();
    assert_eq!(
        text(resize(&image, [2, 2, 3], two, Order::Cubic).unwrap_err()),
        "image: expected 12 values for size [2, 2, 3], found 8"
    );
    assert!(matches!(resize(&image, two, [2, 0, 2], Order::Linear), Err(Error::Empty { .. })));
    assert!(matches!(resize(&image, two, [1 << 40, 1 << 40, 2], Order::Linear), Err(Error::TooLarge { .. })));
    assert!(matches!(Order::try_from(2), Err(Error::Range { found: 2, .. })));
    assert!(matches!(zoom_labels(&[1_u8], [0, 1, 1], two), Err(Error::Empty { .. })));
    assert!(matches!(zoom_size([10; 3], [1.0, f64::NAN, 1.0]), Err(Error::NotPositive { .. })));
    assert!(matches!(zoom_size([10; 3], [1.0, 0.01, 1.0]), Err(Error::Empty { .. })));
    assert!(matches!(new_size([10; 3], [1.0; 3], [1.0, -1.0, 1.0]), Err(Error::NotPositive { .. })));
    assert!(matches!(Logits::new(&[f16::ONE; 8], 0, two), Err(Error::Range { .. })));
    assert!(matches!(Logits::new(&[f16::ONE; 15], 2, two), Err(Error::Length { expected: 16, found: 15, .. })));
    let mut values = [f16::ONE; 16];
    values[9] = f16::INFINITY;
    assert!(matches!(Logits::new(&values, 2, two), Err(Error::NotFinite { at: 9, .. })));
    let good = [f16::ONE; 16];
    let logits = Logits::new(&good, 2, two).unwrap();
    assert!(labels(&logits, two, Some(3), Decision::Greatest, Way::Fast).is_err());
    assert!(labels(&logits, two, None, Decision::Regions(&[1]), Way::Fast).is_err());
    assert!(resample_class(&logits, 2, two, None).is_err());
    assert!(one_hot(&[0; 7], two, two).is_err());
    assert!(permute(&image, two, [0, 0, 1], [false; 3]).is_err());
    assert!(starts([10, 10, 10], [16, 8, 8], 0.5).is_err());
    assert!(starts([10, 10, 10], [8, 8, 8], 0.0).is_err());
    assert!(importance_map([0, 1, 1]).is_err());
    assert!(bounds_of_nonzero(&image, [2, 2, 3]).is_err());
    assert!(nonzero_mask(&[], two).is_err());
    let mut affine = [1.0, 0.0, 2.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    assert!(matches!(Orientation::of(&affine), Err(Error::Affine { .. })));
    affine[0] = f64::NAN;
    assert!(matches!(Orientation::of(&affine), Err(Error::Affine { .. })));
    let bounds = Bounds { low: [0; 3], high: [2, 2, 3] };
    assert!(bounds.cut(&image, two).is_err());
    assert!(Normalisation::RgbTo01.apply(&mut [256.0], None).is_err());
    assert!(Normalisation::ZScore.apply(&mut [2.0], Some(&[1, 1])).is_err());
}

#[test]
fn an_empty_image_keeps_its_whole_extent() {
    assert_eq!(bounds_of_nonzero(&[0.0; 24], [2, 3, 4]).unwrap(), Bounds::all([2, 3, 4]));
    assert_eq!(nonzero_mask(&[0.0; 24], [2, 3, 4]).unwrap(), [0; 24]);
}

#[test]
fn which_axis_is_apart() {
    let mm = [1.5; 3];
    assert_eq!(separate_axis([5.0, 1.5, 1.5], mm, None), Some(0));
    assert_eq!(separate_axis([4.5, 1.5, 1.5], mm, None), None, "three times is not more than three times");
    assert_eq!(separate_axis(mm, [1.0, 1.0, 3.5], None), Some(2));
    assert_eq!(separate_axis([5.0, 5.0, 1.5], mm, None), None);
    assert_eq!(separate_axis([5.0, 1.0, 1.0], mm, Some(false)), None);
    assert_eq!(separate_axis([1.0, 1.5, 1.0], mm, Some(true)), Some(1));
    assert_eq!(separate_axis(mm, [1.0, 2.0, 3.0], Some(true)), None);
}

#[test]
fn spacings_are_single_precision_norms() {
    let affine = [0.0, 0.3, -3.0, 1.0, 0.0, 0.4, 4.0, 1.0, 1.9, 0.0, 0.0, 1.0];
    assert_eq!(spacing_f32(&affine), [5.0, 0.5, 1.9]);
}

#[test]
fn strokes_of_small_sets() {
    let draw = |rows: &[&str]| -> Vec<u8> { rows.concat().bytes().map(|b| u8::from(b == b'#')).collect() };
    // A ring: filled, and a cross wider.
    let ring = draw(&[".......", ".......", "..###..", "..#.#..", "..###..", ".......", "......."]);
    let wide = draw(&[".......", "..###..", ".#####.", ".#####.", ".#####.", "..###..", "......."]);
    assert_eq!(outline::stroke_two(&ring, [7, 7]).unwrap(), wide);
    // One diagonal step: besides the crosses of both pixels, (x + dy, y - dx) and (x - dy, y + dx) of both.
    let step = draw(&["......", ".#....", "..#...", "......", "......"]);
    let wide = draw(&[".##...", "####..", "####..", ".##...", "......"]);
    let ours = outline::stroke_two(&step, [5, 6]).unwrap();
    let shown: Vec<String> =
        ours.chunks(6).map(|r| r.iter().map(|&v| if v == 0 { '.' } else { '#' }).collect()).collect();
    assert_eq!(ours, wide, "{shown:#?}");
    // Thickness 4: the outline of a filled square, two city blocks to both sides; a deep hole stays.
    let mut square = vec![0; 15 * 15];
    for y in 2..13 {
        for x in 2..13 {
            square[y * 15 + x] = u8::from((y, x) != (7, 7));
        }
    }
    let ours = outline::stroke_four(&square, [15, 15]).unwrap();
    assert_eq!(ours[7 * 15 + 7], 0);
    for y in 0..15_usize {
        for x in 0..15_usize {
            let out = [y, x].map(|v| if v < 2 { 2 - v } else { v.saturating_sub(12) });
            assert_eq!(ours[y * 15 + x] == 1, out[0] + out[1] <= 2 && (y, x) != (7, 7), "{y} {x}");
        }
    }
}

#[test]
fn borders_go_once_around() {
    let set = [0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0];
    let steps = outline::border_steps(&set, [4, 4]).unwrap();
    assert_eq!(steps.len(), 4);
    assert!(steps.windows(2).all(|w| w[0].1 == w[1].0), "{steps:?}");
    assert_eq!(steps[0].0, steps[3].1);
    // A line is gone along and back; a single pixel has no step.
    assert_eq!(outline::border_steps(&[1, 1, 1], [1, 3]).unwrap().len(), 4);
    assert_eq!(outline::border_steps(&[1], [1, 1]).unwrap(), []);
}
