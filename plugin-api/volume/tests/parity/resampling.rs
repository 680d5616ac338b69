//! Every pair of fixtures/nnunet/resampling.

use gantry_volume::export::{Logits, one_hot, resample_class};
use gantry_volume::{AxisOrder, Order, Resampling, resample, resize, separate_axis, zoom, zoom_size};
use serde_json::Value as Json;

use crate::files::{fixtures, npy, npy_f16, same, same_f32};

fn three<T: std::fmt::Debug>(value: &Json, convert: impl Fn(&Json) -> T) -> [T; 3] {
    let values: Vec<T> = value.as_array().unwrap().iter().map(convert).collect();
    values.try_into().unwrap()
}

fn size(value: &Json) -> [usize; 3] {
    three(value, |n| n.as_u64().unwrap() as usize)
}

fn numbers(value: &Json) -> [f64; 3] {
    three(value, |n| n.as_f64().unwrap())
}

#[test]
fn every_pair_of_the_manifest() {
    let Some(folder) = fixtures("resampling") else { return };
    let manifest: Json = serde_json::from_slice(&std::fs::read(folder.join("MANIFEST.json")).unwrap()).unwrap();
    let image = npy::<f32>(folder.join("in_f32.npy"));
    let from = [image.shape[1], image.shape[2], image.shape[3]];
    let mut seen = [0; 4];
    for entry in manifest.as_array().unwrap() {
        let file = entry["file"].as_str().unwrap().split(' ').next().unwrap();
        if file == "ts_onehot_out_u8.npy" {
            let input = npy::<u8>(folder.join("ts_onehot_in_u8.npy"));
            let to = size(&entry["new_shape"]);
            let ours = one_hot(&input.data, [input.shape[0], input.shape[1], input.shape[2]], to).unwrap();
            same(file, &ours, &npy::<u8>(folder.join(file)).data);
            seen[3] += 1;
        } else if let Some(fn_) = entry["zoom"].as_array().map(|_| numbers(&entry["zoom"])) {
            let input = npy::<f64>(folder.join("ts_in_f64.npy"));
            let from = [input.shape[0], input.shape[1], input.shape[2]];
            let to = zoom_size(from, fn_).unwrap();
            assert_eq!(to, size(&entry["shape"]), "{file}");
            let order = Order::try_from(entry["order"].as_u64().unwrap() as usize).unwrap();
            let ours: Vec<f32> = zoom(&input.data, from, to, order, AxisOrder::Zyx).unwrap();
            same_f32(file, &ours, &npy::<f32>(folder.join(file)).data);
            let ours: Vec<i32> = zoom(&input.data, from, to, order, AxisOrder::Zyx).unwrap();
            let file = file.replace("_f32", "_i32");
            same(&file, &ours, &npy::<i32>(folder.join(&file)).data);
            seen[2] += 1;
        } else {
            let (current, new) = (numbers(&entry["current_spacing"]), numbers(&entry["new_spacing"]));
            let to = size(&entry["new_shape"]);
            let force_separate = entry["force_separate_z"].as_bool();
            let separate = separate_axis(current, new, force_separate);
            assert_eq!(separate.is_some(), file.contains("sepz"), "{file}");
            match entry["dtype"].as_str().unwrap() {
                "float32" => {
                    let order = Order::try_from(entry["order"].as_u64().unwrap() as usize).unwrap();
                    let how = Resampling { order, force_separate };
                    let ours = resample(&image.data, from, to, current, new, how).unwrap();
                    same_f32(file, &ours, &npy::<f32>(folder.join(file)).data);
                }
                "float16" => {
                    let (shape, values) = npy_f16(folder.join("in_logits_f16.npy"));
                    let logits = Logits::new(&values, shape[0], [shape[1], shape[2], shape[3]]).unwrap();
                    let ours: Vec<u16> = (0..shape[0])
                        .flat_map(|class| resample_class(&logits, class, to, separate).unwrap())
                        .map(|v| v.to_bits())
                        .collect();
                    let theirs: Vec<u16> = npy_f16(folder.join(file)).1.into_iter().map(|v| v.to_bits()).collect();
                    same(file, &ours, &theirs);
                    seen[1] += 1;
                }
                _ => {
                    let input = npy::<u8>(folder.join("heart_in_u8.npy"));
                    let n = input.shape.len();
                    let from = [input.shape[n - 3], input.shape[n - 2], input.shape[n - 1]];
                    // A mask: inside where its linear interpolation reaches one half.
                    let mask: Vec<f32> = input.data.iter().map(|&v| f32::from(v)).collect();
                    let ours = resize(&mask, from, to, Order::Linear).unwrap();
                    let ours: Vec<u8> = ours.into_iter().map(|v| u8::from(v >= 0.5)).collect();
                    let theirs = npy::<i8>(folder.join(file)).data.into_iter().map(|v| v as u8).collect::<Vec<_>>();
                    same(file, &ours, &theirs);
                }
            }
            seen[0] += 1;
        }
    }
    assert_eq!(seen, [15, 2, 9, 1]);
}
