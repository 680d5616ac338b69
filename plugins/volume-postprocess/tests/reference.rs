//! The chain against the numbers of the reference program.

use gantry_tests::fixture::{Array, npy, shared};
use volume_postprocess::chain::{Chain, Method, Sharpen, Volume};
use volume_postprocess::gaussian::{Kernel, along_z};

const PRODUCTION: Chain = Chain {
    smooth_z_sigma: 0.8,
    method: Method::Gaussian3d { sigma_z: 0.7, sigma_xy: 0.05 },
    sharpen: Some(Sharpen { amount: 1.7, radius_px: 1.2 }),
    protect_above: 750.0,
};

fn volume<'a>(data: &'a [f32], shape: &[usize]) -> Volume<'a> {
    Volume { planes: data.chunks_exact(shape[1] * shape[2]).collect(), columns: shape[2] }
}

/// The chain's result in double precision.
fn refined(chain: &Chain, data: &[f32], shape: &[usize], threads: usize) -> Vec<f64> {
    let mut out = vec![f64::NAN; data.len()];
    let pieces = out.chunks_exact_mut(shape[1] * shape[2]).collect();
    chain
        .run(&volume(data, shape), pieces, threads, &|_, _| true, |_, from, to: &mut [f64]| to.copy_from_slice(from))
        .unwrap();
    out
}

fn input() -> Option<(std::path::PathBuf, Vec<f32>, Vec<usize>)> {
    let folder = shared("fixtures/ducosy/postproc")?;
    let Array { shape, data } = npy::<u16>(folder.join("in_stored_u16.npy"));
    Some((folder, data.into_iter().map(f32::from).collect(), shape))
}

#[test]
fn smoothing_along_z_is_bit_identical() {
    let Some((folder, data, shape)) = input() else { return };
    let mut planes = data.clone();
    for (sigma, name) in [(0.8, "zsmooth_f32"), (0.7, "gauss3d_f32")] {
        let expected = npy::<f32>(folder.join(format!("{name}.npy"))).data;
        let source = std::mem::take(&mut planes);
        planes = vec![0.0; source.len()];
        let views = volume(&source, &shape).planes;
        for (z, out) in planes.chunks_exact_mut(shape[1] * shape[2]).enumerate() {
            along_z(&views, z, &Kernel::new(sigma), out);
        }
        let differ = planes.iter().zip(&expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        println!("{name}: {differ} of {} voxels differ", expected.len());
        assert_eq!((planes.len(), differ), (expected.len(), 0), "{name}");
    }
}

/// The only difference left is one last bit in exp(-3.125), a weight of the blur: the reference machine's vectorised exp
/// is not correctly rounded there. With this machine's weights the reference library gives the same 11492 differences.
#[test]
fn unsharp_masking_differs_by_the_last_bit_of_one_weight_only() {
    let Some((folder, data, shape)) = input() else { return };
    let expected = npy::<f64>(folder.join("unsharp_f64.npy")).data;
    let result = refined(&Chain { protect_above: f64::INFINITY, ..PRODUCTION }, &data, &shape, 2);
    let differ = result.iter().zip(&expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    let error = result.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    println!("unsharp_f64: {differ} of {} voxels differ, max error {error:e}", expected.len());
    assert_eq!(result.len(), expected.len());
    assert!(error <= 2e-12, "{error:e}");
}

#[test]
fn the_production_chain_is_exact_on_stored_values_and_on_hu() {
    let Some((folder, data, shape)) = input() else { return };
    for (name, offset) in [("production_out_i16", 0.0), ("production_on_hu_out_i16", -1024.0)] {
        let expected = npy::<i16>(folder.join(format!("{name}.npy"))).data;
        let shifted: Vec<f32> = data.iter().map(|v| v + offset).collect();
        let result = refined(&PRODUCTION, &shifted, &shape, 2);
        let differ = result.iter().zip(&expected).filter(|(a, b)| **a as i16 != **b).count();
        println!("{name}: {differ} of {} voxels differ", expected.len());
        assert_eq!((result.len(), differ), (expected.len(), 0), "{name}");
    }
}

#[test]
fn every_other_method_is_exact_plain_and_sharpened() {
    let Some(folder) = shared("fixtures/ducosy/postproc") else { return };
    let Array { shape, data } = npy::<f32>(folder.join("small_in_f32.npy"));
    for (name, method) in [
        ("gaussian", Method::Gaussian { sigma_z: 1.0 }),
        ("gaussian3d", Method::Gaussian3d { sigma_z: 2.0, sigma_xy: 0.5 }),
        ("adaptive", Method::Adaptive),
        ("median", Method::Median),
        ("interpolation", Method::Interpolation),
        ("kalman", Method::Kalman),
    ] {
        for (form, sharpen) in [("plain", None), ("sharp", Some(Sharpen { amount: 0.5, radius_px: 1.0 }))] {
            let expected = npy::<i16>(folder.join(format!("small_{name}_{form}_i16.npy"))).data;
            let chain = Chain { smooth_z_sigma: 0.0, method, sharpen, protect_above: 750.0 };
            let result = refined(&chain, &data, &shape, 2);
            let differ = result.iter().zip(&expected).filter(|(a, b)| **a as i16 != **b).count();
            println!("{name} {form}: {differ} of {} voxels differ", expected.len());
            assert_eq!((result.len(), differ), (expected.len(), 0), "{name} {form}");
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let shape = [9, 13, 600];
    let data: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i * 7919 % 2000) as f32 - 1000.0).collect();
    for method in [
        Method::Gaussian { sigma_z: 1.0 },
        Method::Gaussian3d { sigma_z: 0.7, sigma_xy: 0.9 },
        Method::Adaptive,
        Method::Median,
        Method::Interpolation,
        Method::Kalman,
    ] {
        let chain = Chain { method, ..PRODUCTION };
        let one = refined(&chain, &data, &shape, 1);
        for threads in [2, 3, 8] {
            let many = refined(&chain, &data, &shape, threads);
            assert!(one.iter().zip(&many).all(|(a, b)| a.to_bits() == b.to_bits()), "{method:?}, {threads} threads");
        }
    }
}

#[test]
fn one_slice_and_thin_slices_work_and_bright_voxels_are_protected() {
    for shape in [[1, 5, 7], [2, 1, 9], [5, 9, 1], [4, 1, 1]] {
        let n: usize = shape.iter().product();
        let data: Vec<f32> = (0..n).map(|i| if i == n / 2 { 900.0 } else { 10.0 * (i % 3) as f32 }).collect();
        let chain = Chain { smooth_z_sigma: 0.0, ..PRODUCTION };
        let result = refined(&chain, &data, &shape, 2);
        assert_eq!(result[n / 2], 900.0, "{shape:?}");
        assert!(result.iter().all(|v| (0.0..=900.0).contains(v)), "{shape:?}");
    }
    assert!(refined(&PRODUCTION, &[], &[0, 4, 4], 2).is_empty());
}

#[test]
fn it_stops_when_told_to() {
    let (data, shape) = (vec![0.0_f32; 6 * 16], [6, 4, 4]);
    for stop_at in 0..18 {
        let mut out = vec![0.0_f64; data.len()];
        let pieces = out.chunks_exact_mut(16).collect();
        let chain = Chain { method: Method::Adaptive, ..PRODUCTION };
        let outcome = chain.run(
            &volume(&data, &shape),
            pieces,
            2,
            &|done, total| {
                assert_eq!(total, 18);
                done < stop_at
            },
            |_, _, _: &mut [f64]| (),
        );
        assert!(outcome.is_err(), "{stop_at}");
    }
}

#[test]
fn the_whole_published_run_is_exact() {
    let Some(folder) = shared("fixtures/ducosy/e2e") else { return };
    let Array { shape, data } = npy::<f32>(folder.join("merged_f32.npy"));
    let smoothed = npy::<f32>(folder.join("zsmooth_f32.npy")).data;
    let expected = npy::<u16>(folder.join("final_stored.npy")).data;
    let mut planes = vec![0.0_f32; data.len()];
    let views = volume(&data, &shape).planes;
    for (z, out) in planes.chunks_exact_mut(shape[1] * shape[2]).enumerate() {
        along_z(&views, z, &Kernel::new(0.8), out);
    }
    let of_smoothing = planes.iter().zip(&smoothed).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    let result = refined(&PRODUCTION, &data, &shape, 2);
    let of_result = result.iter().zip(&expected).filter(|(a, b)| i32::from(**a as i16) != i32::from(**b)).count();
    println!("end to end: {of_smoothing} voxels differ after smoothing, {of_result} of {} at the end", expected.len());
    assert_eq!((of_smoothing, of_result, result.len()), (0, 0, expected.len()));
}
