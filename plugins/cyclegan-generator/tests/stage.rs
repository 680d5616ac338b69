//! The stage as a host calls it, through the library's entry: batches, threads, masks by name, refusals.

#[allow(dead_code)]
mod fixture;

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Mutex;

use cyclegan_generator::gantry_plugin_v1;
use fixture::{card, recipe, uniform};
use gantry_plugin::abi::v1::{ABI_MAJOR, ABI_MINOR, Call, Host, Item, Map, Needs, Port, Str, dtype, kind, status};
use gantry_weights::to_safetensors;

const ROWS: usize = 22;
const COLUMNS: usize = 30;
const PLANE: usize = ROWS * COLUMNS;

/// What the stage can reach: a checkpoint, and somebody to report to.
struct Site {
    card: Vec<u8>,
    weights: Vec<u8>,
    reports: Mutex<Vec<String>>,
}

impl Site {
    fn new(masks: &[&str]) -> Self {
        let weights = to_safetensors(&recipe("narrow", 1 + masks.len(), 2, true, 16)).unwrap();
        Self { card: card(masks, &[]).to_json().unwrap().into_bytes(), weights, reports: Mutex::default() }
    }

    fn ctx(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    fn call(&self, host: &Host, threads: u32, input: &[Item], out: &mut [Item]) -> Call {
        Call {
            host,
            ctx: self.ctx(),
            seed: [0; 2],
            case_no: 0,
            host_budget: 0,
            device_budget: 0,
            threads,
            flags: 0,
            input: input.as_ptr(),
            n_in: input.len() as u64,
            out: out.as_mut_ptr(),
            n_out: out.len() as u64,
        }
    }

    fn reported(&self) -> String {
        self.reports.lock().unwrap().join("\n")
    }
}

/// # Safety
/// `ctx` must come from [`Site::ctx`], which outlives every call.
unsafe fn site<'a>(ctx: *mut c_void) -> &'a Site {
    // SAFETY: forwarded.
    unsafe { &*ctx.cast::<Site>() }
}

unsafe extern "C" fn report(ctx: *mut c_void, _: i32, code: Str, _: i32, text: Str) {
    // SAFETY: the plugin passes the token back, and texts that outlive the call.
    let (site, code, text) = unsafe { (site(ctx), code.text().unwrap(), text.text().unwrap()) };
    site.reports.lock().unwrap().push(format!("{code}: {text}"));
}

unsafe extern "C" fn checkpoint(ctx: *mut c_void, param: Str, file: Str, out: *mut Str) -> i32 {
    // SAFETY: as in `report`; `out` is the plugin's own variable.
    unsafe {
        assert_eq!(param.text(), Some("checkpoint"));
        let bytes = match file.text() {
            Some("card.json") => &site(ctx).card,
            Some("weights.safetensors") => &site(ctx).weights,
            _ => return status::BAD_WEIGHTS,
        };
        *out = Str::new(bytes);
    }
    status::OK
}

unsafe extern "C" fn progress(_: *mut c_void, done: u64, total: u64) {
    assert!(done <= total);
}

unsafe extern "C" fn service(ctx: *mut c_void, name: Str, request: Str, out: *mut Str) -> i32 {
    // SAFETY: as in `checkpoint`.
    unsafe {
        assert_eq!(name.text(), Some("gantry.kernels/1"));
        site(ctx).reports.lock().unwrap().push(request.text().unwrap().to_owned());
        *out = Str::new(b"{}");
    }
    status::OK
}

unsafe extern "C" fn cancelled(_: *mut c_void) -> i32 {
    0
}

const HOST: Host = Host {
    abi_major: ABI_MAJOR,
    abi_minor: ABI_MINOR,
    built_by: Str::EMPTY,
    report: Some(report),
    progress: Some(progress),
    cancelled: Some(cancelled),
    checkpoint: Some(checkpoint),
    allocate: None,
    emit: None,
    reserve: None,
    service: Some(service),
    extension: None,
};

fn item(port: u32, kind: u32, name: &str, dtype: u32, data: *mut c_void, slices: usize) -> Item {
    let mut item = Item::new(port, kind);
    item.name = Str { ptr: name.as_ptr(), len: name.len() as u64 };
    let tensor = &mut item.tensor;
    tensor.data = data;
    tensor.dtype = dtype;
    tensor.device_type = 1;
    tensor.shape = [1, slices as i64, ROWS as i64, COLUMNS as i64];
    tensor.stride = [(slices * PLANE) as i64, PLANE as i64, COLUMNS as i64, 1];
    tensor.byte_len = (slices * PLANE * dtype::size(dtype)) as u64;
    item
}

/// A stage made and prepared; destroyed on drop.
struct Instance<'a> {
    site: &'a Site,
    stage: *mut c_void,
}

impl<'a> Instance<'a> {
    fn create(site: &'a Site) -> Self {
        let entry = &gantry_plugin_v1;
        let mut stage = null_mut();
        let params = br#"{"checkpoint": "toy", "precision": "auto", "instructions": "auto"}"#;
        // SAFETY: the calls follow the contract; everything passed outlives them.
        let made = unsafe {
            entry.create.unwrap()(&HOST, site.ctx(), Str::new(b"cyclegan-generator"), Str::new(params), &mut stage)
        };
        assert_eq!(made, status::OK, "{}", site.reported());
        Self { site, stage }
    }

    fn prepare(&self) -> i32 {
        let port =
            |name: &'static [u8], output| Port { name: Str::new(name), caps: Str::new(b"{}"), output, connected: 1 };
        let ports = [port(b"image", 0), port(b"masks", 0), port(b"image", 1)];
        let call = self.site.call(&HOST, 1, &[], &mut []);
        // SAFETY: as in `create`.
        unsafe { gantry_plugin_v1.prepare.unwrap()(self.stage, &call, ports.as_ptr(), 3) }
    }

    /// One call over `slices` slices.
    fn process(&self, threads: u32, image: &[f32], masks: &[(&str, &[u8])], out: &mut [f32]) -> i32 {
        let slices = image.len() / PLANE;
        let mut input = vec![item(0, kind::IMAGE, "", dtype::F32, image.as_ptr().cast_mut().cast(), slices)];
        for (name, mask) in masks {
            input.push(item(1, kind::LABELS, name, dtype::U8, mask.as_ptr().cast_mut().cast(), slices));
        }
        let mut maps = vec![Map { scale: 200.0, offset: 50.0, lo: -150.0, hi: 250.0 }; slices];
        let expected = maps.clone();
        let mut output = item(2, kind::IMAGE, "", dtype::F32, out.as_mut_ptr().cast(), slices);
        output.maps = maps.as_mut_ptr();
        let mut outputs = [output];
        let call = self.site.call(&HOST, threads, &input, &mut outputs);
        let mut needs = Needs::default();
        // SAFETY: as in `create`; inputs are only read, the output is this call's own.
        let result = unsafe {
            let begun = gantry_plugin_v1.begin.unwrap()(self.stage, &call, &mut needs);
            assert_eq!(begun, status::OK, "{}", self.site.reported());
            let result = gantry_plugin_v1.process.unwrap()(self.stage, &call);
            assert_eq!(gantry_plugin_v1.end.unwrap()(self.stage, &call), status::OK);
            result
        };
        assert!(needs.host_bytes > 0 && needs.host_bytes_per_slice == 0);
        assert!(maps == expected, "the maps the host copied from the input stay");
        result
    }
}

impl Drop for Instance<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `create`, idle.
        unsafe { gantry_plugin_v1.destroy.unwrap()(self.stage) }
    }
}

fn volume(slices: usize) -> (Vec<f32>, Vec<u8>, Vec<u8>) {
    let image = uniform("x/stage", slices * PLANE);
    let inside = |threshold| image.iter().map(|&x| u8::from(x > threshold)).collect::<Vec<_>>();
    let (bone, mediastinum) = (inside(0.6), inside(-0.2));
    (image, bone, mediastinum)
}

#[test]
fn neither_batch_nor_threads_change_a_bit() {
    let site = Site::new(&["bone", "mediastinum"]);
    let stage = Instance::create(&site);
    assert_eq!(stage.prepare(), status::OK, "{}", site.reported());
    let (image, bone, mediastinum) = volume(5);
    let run = |threads: u32, batch: usize| {
        let mut out = vec![f32::NAN; image.len()];
        for from in (0..5).step_by(batch) {
            let part = from * PLANE..(from + batch).min(5) * PLANE;
            let masks = [("bone", &bone[part.clone()]), ("mediastinum", &mediastinum[part.clone()])];
            let done = stage.process(threads, &image[part.clone()], &masks, &mut out[part]);
            assert_eq!(done, status::OK, "{}", site.reported());
        }
        out
    };
    let reference = run(1, 5);
    assert!(reference.iter().all(|x| (-1.0..=1.0).contains(x)));
    for (threads, batch) in [(1, 1), (2, 2), (3, 5), (2, 3)] {
        assert!(run(threads, batch) == reference, "{threads} threads, batches of {batch}");
    }
}

#[test]
fn masks_must_be_those_of_the_card() {
    let site = Site::new(&["bone", "mediastinum"]);
    let stage = Instance::create(&site);
    assert_eq!(stage.prepare(), status::OK);
    let (image, bone, mediastinum) = volume(1);
    let mut out = vec![0.0; PLANE];
    let swapped = [("mediastinum", &mediastinum[..]), ("bone", &bone[..])];
    assert_eq!(stage.process(1, &image, &swapped, &mut out), status::INTERNAL);
    assert!(site.reported().contains(r#"expected ["bone", "mediastinum"], found ["mediastinum", "bone"]"#));
    assert_eq!(stage.process(1, &image, &swapped[..1], &mut out), status::INTERNAL);
}

#[test]
fn a_slice_that_is_not_finite_is_quarantined() {
    let site = Site::new(&[]);
    let stage = Instance::create(&site);
    assert_eq!(stage.prepare(), status::OK);
    let (mut image, ..) = volume(2);
    image[PLANE + 3] = f32::INFINITY;
    let mut out = vec![0.0; 2 * PLANE];
    assert_eq!(stage.process(2, &image, &[], &mut out), status::BAD_INPUT);
    assert!(site.reported().contains("not-finite"), "{}", site.reported());
}

#[test]
fn weights_that_do_not_fit_are_refused_before_any_case() {
    let mut site = Site::new(&["lung"]);
    site.weights.truncate(1000);
    assert_eq!(Instance::create(&site).prepare(), status::BAD_WEIGHTS);
    let mut site = Site::new(&[]);
    site.weights = to_safetensors(&recipe("narrow", 3, 2, true, 16)).unwrap();
    assert_eq!(Instance::create(&site).prepare(), status::BAD_WEIGHTS);
    assert!(site.reported().contains("take 2 masks"), "{}", site.reported());
}
