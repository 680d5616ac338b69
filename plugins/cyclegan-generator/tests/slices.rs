//! Slices through the generator as the stage runs it: sizes, resizing, masks, batches, threads, refusals.

#[allow(dead_code)]
mod fixture;

use std::time::Instant;

use cyclegan_generator::Generator;
use fixture::{TOLERANCE, array, folder, generator, max_error, recipe, uniform};
use gantry_neural::{Workers, resize_antialiased, resize_nearest};
use gantry_plugin::Error;
use gantry_tests::fixture::npy;

fn run(generator: &Generator, image: &[f32], masks: &[&[u8]], size: [usize; 2]) -> Vec<f32> {
    generator.slice(image, masks, size, &|| Ok(())).unwrap()
}

/// Stored values with intercept -1024 to the window's [-1, 1], as the published inference does it.
fn windowed(stored: &[u16], lo: f32, hi: f32) -> Vec<f32> {
    stored.iter().map(|&v| 2.0 * ((f32::from(v) - 1024.0).clamp(lo, hi) - lo) / (hi - lo) - 1.0).collect()
}

const WINDOWS: [(&str, f32, f32); 2] = [("soft", -150.0, 250.0), ("lung", -1000.0, -150.0)];

#[test]
fn the_published_mode_resizes_to_the_network_and_back() {
    let Some(folder) = folder() else { return };
    let stored = npy::<u16>(folder.join("e2e/raw_stored_u16.npy"));
    let [_, rows, columns] = stored.shape[..] else { panic!("[z, y, x] expected") };
    for (name, lo, hi) in WINDOWS {
        let dict = recipe(name, 1, 9, true, 64);
        let entered = array(&folder, &format!("e2e/slice0_{name}_in_64")).data;
        let image = windowed(&stored.data[..rows * columns], lo, hi);
        let resized = resize_antialiased(&image, [rows, columns], [64, 64]);
        assert!(max_error(&format!("{name}: resized to 64 x 64"), &resized, &entered) <= 1e-5);
        let out = run(&generator(&dict, &[]), &entered, &[], [64, 64]);
        let expected = array(&folder, &format!("e2e/slice0_{name}_out_64")).data;
        assert!(max_error(&format!("{name}: 64 x 64"), &out, &expected) <= TOLERANCE);
        let out = run(&generator(&dict, &[64, 64]), &image, &[], [rows, columns]);
        let expected = array(&folder, &format!("e2e/slice0_{name}_out_96x80")).data;
        assert!(max_error(&format!("{name}: {rows} x {columns} through 64 x 64"), &out, &expected) <= 2.0 * TOLERANCE);
    }
}

#[test]
fn a_full_size_slice_agrees_and_is_timed() {
    let Some(folder) = folder() else { return };
    let stored = npy::<u16>(folder.join("data/slice272_stored_u16.npy"));
    for (name, lo, hi) in WINDOWS {
        let generator = generator(&recipe(name, 1, 9, true, 64), &[]);
        let image = windowed(&stored.data, lo, hi);
        let start = Instant::now();
        let out = run(&generator, &image, &[], [512, 512]);
        println!("9 blocks, width 64, 512 x 512: {:.1} s", start.elapsed().as_secs_f64());
        let expected = array(&folder, &format!("e2e/slice272_512_{name}_out_f32")).data;
        assert!(max_error(&format!("{name} slice 272"), &out, &expected) <= TOLERANCE);
    }
    let small = generator(&recipe("soft", 1, 9, true, 16), &[]);
    let image = windowed(&stored.data, -150.0, 250.0);
    let start = Instant::now();
    assert_eq!(run(&small, &image, &[], [512, 512]).len(), 512 * 512);
    println!("9 blocks, width 16, 512 x 512: {:.2} s", start.elapsed().as_secs_f64());
}

#[test]
fn resizing_agrees_with_the_published_filters() {
    let Some(folder) = folder() else { return };
    let read = |name: &str| array(&folder, &format!("hu/resize_{name}")).data;
    let source = read("in_160x144");
    for (name, size) in [("64x64", [64, 64]), ("256x256", [256, 256]), ("96x200", [96, 200])] {
        let out = resize_antialiased(&source, [160, 144], size);
        assert!(max_error(&format!("resize to {name}"), &out, &read(&format!("160x144_to_{name}"))) <= 1e-5);
    }
    let out = resize_antialiased(&read("160x144_to_64x64"), [64, 64], [160, 144]);
    assert!(max_error("resize 64x64 to 160x144", &out, &read("64x64_to_160x144")) <= 1e-5);
    let mask: Vec<u8> = source.iter().map(|&x| u8::from(x > 0.0)).collect();
    let expected = array(&folder, "hu/mask_nearest_160x144_to_64x200").data;
    let expected: Vec<u8> = expected.into_iter().map(|x| x as u8).collect();
    assert_eq!(resize_nearest(&mask, [160, 144], [64, 200]), expected);
}

#[test]
fn any_size_comes_back_at_its_own_size() {
    let generator = generator(&recipe("narrow", 1, 1, true, 8), &[]);
    for size in [[5, 5], [8, 8], [7, 30], [66, 90], [33, 17]] {
        let image = uniform("x/size", size[0] * size[1]);
        let out = run(&generator, &image, &[], size);
        assert_eq!(out.len(), image.len());
        assert!(out.iter().all(|x| (-1.0..=1.0).contains(x)));
    }
    // 66 x 90 is mirrored by hand to 68 x 92, which the network takes as it is.
    let image = uniform("x/by-hand", 66 * 90);
    let mirrored = |at: usize, size: usize| if at < size { at } else { 2 * (size - 1) - at };
    let large: Vec<f32> = (0..68 * 92).map(|at| image[mirrored(at / 92, 66) * 90 + mirrored(at % 92, 90)]).collect();
    let large = run(&generator, &large, &[], [68, 92]);
    let cropped: Vec<f32> = large.chunks_exact(92).take(66).flat_map(|row| row[..90].to_vec()).collect();
    assert!(run(&generator, &image, &[], [66, 90]) == cropped);
}

#[test]
fn resizing_takes_masks_along() {
    let dict = recipe("narrow", 2, 1, true, 8);
    let image = uniform("x/resized", 50 * 37);
    let mask: Vec<u8> = image.iter().map(|&x| 3 * u8::from(x > 0.0)).collect();
    let small = resize_antialiased(&image, [50, 37], [24, 28]);
    let small = run(&generator(&dict, &[]), &small, &[&resize_nearest(&mask, [50, 37], [24, 28])], [24, 28]);
    let expected = resize_antialiased(&small, [24, 28], [50, 37]);
    assert!(run(&generator(&dict, &[24, 28]), &image, &[&mask], [50, 37]) == expected);
}

#[test]
fn threads_and_order_change_no_bit() {
    let generator = generator(&recipe("narrow", 3, 2, true, 16), &[]);
    let image = uniform("x/threads", 50 * 70);
    let bone: Vec<u8> = image.iter().map(|&x| u8::from(x > 0.5)).collect();
    let lung: Vec<u8> = image.iter().map(|&x| 200 * u8::from(x < -0.5)).collect();
    let slice = |threads: usize| {
        let work = || {
            assert_eq!(rayon::current_num_threads(), threads);
            run(&generator, &image, &[&bone, &lung], [50, 70])
        };
        Workers::default().run(threads, work).unwrap()
    };
    let one = slice(1);
    for threads in [2, 3, 5] {
        assert!(slice(threads) == one, "{threads} threads differ from one");
    }
    let swapped = run(&generator, &image, &[&lung, &bone], [50, 70]);
    assert!(swapped != one, "the order of the masks must matter");
    let ones: Vec<u8> = lung.iter().map(|&x| u8::from(x > 0)).collect();
    assert!(run(&generator, &image, &[&bone, &ones], [50, 70]) == one, "any value above 0 is inside");
}

#[test]
fn bad_slices_are_refused_in_words() {
    let generator = generator(&recipe("narrow", 2, 1, true, 8), &[]);
    let refuse = |image: &[f32], masks: &[&[u8]], size| generator.slice(image, masks, size, &|| Ok(())).unwrap_err();
    let error = refuse(&[0.0; 4 * 90], &[&[0; 4 * 90]], [4, 90]);
    assert_eq!(error.code(), "slice-too-small");
    assert!(error.to_string().contains("5 x 5 px expected, found 4 x 90"), "{error}");
    let mut image = vec![0.0; 64];
    assert!(refuse(&image, &[], [8, 8]).to_string().contains("1 expected, 0 arrived"));
    image[9] = f32::NAN;
    assert_eq!(refuse(&image, &[&[0; 64]], [8, 8]).code(), "not-finite");
}

#[test]
fn a_network_that_breaks_down_is_refused() {
    let mut dict = recipe("narrow", 1, 1, true, 8);
    let key = "model.20.weight";
    let head = dict.remove(key).unwrap();
    // Finite, but every sum becomes infinity minus infinity.
    let huge: Vec<f32> = (0..head.len()).map(|at| if at % 2 == 0 { f32::MAX } else { f32::MIN }).collect();
    dict.insert(key, gantry_weights::Tensor::from_f32(head.shape().to_vec(), &huge).unwrap()).unwrap();
    let image = uniform("x/broken", 16 * 16);
    let error = generator(&dict, &[]).slice(&image, &[], [16, 16], &|| Ok(())).unwrap_err();
    assert_eq!(error.code(), "internal");
    assert!(error.to_string().contains("NaN or infinite"), "{error}");
}

#[test]
fn cancelling_ends_between_layers() {
    let generator = generator(&recipe("narrow", 1, 3, true, 8), &[]);
    let image = uniform("x/cancel", 32 * 32);
    let asked = std::cell::Cell::new(0);
    let go_on = || {
        asked.set(asked.get() + 1);
        if asked.get() == 7 { Err(Error::Cancelled) } else { Ok(()) }
    };
    assert_eq!(generator.slice(&image, &[], [32, 32], &go_on), Err(Error::Cancelled));
    assert_eq!(asked.get(), 7);
}

#[test]
fn a_card_that_contradicts_the_weights_is_refused() {
    let bytes = gantry_weights::to_safetensors(&recipe("narrow", 2, 1, true, 8)).unwrap();
    let architecture = cyclegan_generator::architecture().unwrap();
    let load = |card| {
        gantry_neural::NetworkCheckpoint::from_parts(card, &bytes, &architecture, gantry_neural::ComputeDevice::Cpu)
    };
    let error = load(fixture::card(&[], &[])).err().expect("a mask is missing");
    assert!(error.to_string().contains("take 1 masks"), "{error}");
    let mut other = fixture::card(&["lung"], &[]);
    other.architecture = "nnunet-v2".to_owned();
    assert!(load(other).err().expect("another network").to_string().contains("found nnunet-v2"));
    let small = load(fixture::card(&["lung"], &[4, 64])).unwrap();
    assert!(Generator::new(small, &fixture::engine()).err().expect("too small").to_string().contains("run.resize"));
    assert_eq!(
        Generator::new(load(fixture::card(&["lung"], &[])).unwrap(), &fixture::engine()).unwrap().masks(),
        ["lung"]
    );
}
