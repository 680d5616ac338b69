//! The calls across the ABI: building C items from checked parts, the host's function table, and one live instance of a
//! stage. Together with `buffers` and `registry/library` the only unsafe code of the host.
//!
//! Lifetimes do the bookkeeping: an [`Items`] borrows everything its pointers point to, so a call cannot outlive it.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use gantry_abi::v1::{self, kind, status};

use super::buffers::Buffer;

/// C rows over texts that lie still: the texts are made with the rows and never change while these live.
pub struct Views<T> {
    texts: Box<[Box<str>]>,
    rows: Box<[T]>,
}

// SAFETY: the rows point into `texts` alone; neither can be changed after creation, and both go together.
unsafe impl<T: Copy + 'static> Send for Views<T> {}
// SAFETY: as above.
unsafe impl<T: Copy + 'static> Sync for Views<T> {}

impl<T> Default for Views<T> {
    fn default() -> Self {
        Views { texts: Box::default(), rows: Box::default() }
    }
}

impl<T> Views<T> {
    /// The C rows.
    pub fn as_slice(&self) -> &[T] {
        &self.rows
    }

    /// The texts, in the order they were given.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(|t| &**t)
    }
}

impl Views<v1::Str> {
    /// One row a name.
    pub fn names(names: impl IntoIterator<Item = String>) -> Self {
        let texts: Box<[Box<str>]> = names.into_iter().map(String::into_boxed_str).collect();
        let rows = texts.iter().map(|t| v1::Str::new(t.as_bytes())).collect();
        Views { texts, rows }
    }
}

impl Views<v1::Label> {
    /// One row a label: voxel value; name, coding scheme and code; `0xRRGGBBAA`.
    pub fn labels<'a>(labels: impl IntoIterator<Item = (i64, [&'a str; 3], u32)>) -> Self {
        let (mut texts, mut numbers) = (Vec::<Box<str>>::new(), Vec::new());
        for (value, three, rgba) in labels {
            texts.extend(three.map(Box::from));
            numbers.push((value, rgba));
        }
        let texts = texts.into_boxed_slice();
        let view = |text: &str| v1::Str::new(text.as_bytes());
        let row = |((value, rgba), three): ((i64, u32), &[Box<str>])| v1::Label {
            value,
            name: view(&three[0]),
            scheme: view(&three[1]),
            code: view(&three[2]),
            rgba,
            reserved: 0,
        };
        let rows = numbers.into_iter().zip(texts.chunks_exact(3)).map(row).collect();
        Views { texts, rows }
    }
}

/// What a stage may ask of the host during a call, on the host's side of the table.
pub trait HostSide: Sync {
    /// A message; the code is kebab-case or empty.
    fn report(&self, level: i32, code: &str, port: i32, text: &str);
    /// Monotonic progress.
    fn progress(&self, done: u64, total: u64);
    /// Whether the call should end.
    fn cancelled(&self) -> bool;
    /// A file of the checkpoint of a parameter.
    fn checkpoint(&self, param: &str, file: &str) -> Option<&[u8]>;
    /// Voxels for an output: where they are, and their strides of C and Z in elements.
    fn allocate(&self, request: Allocation) -> Result<Allocated, i32>;
    /// Bytes published on an output port.
    fn emit(&self, port: u32, name: &str, bytes: &[u8]) -> i32;
    /// An own allocation announced by the stage.
    fn reserve(&self, device_type: i32, delta: i64) -> i32;
    /// A service by versioned name.
    fn service(&self, name: &str, request: &str) -> Result<String, i32>;
}

/// A request for voxels in `process`.
pub struct Allocation {
    /// Port index.
    pub port: u32,
    /// Element name.
    pub name: String,
    /// Voxel type.
    pub dtype: u32,
    /// `[C, Z, Y, X]`.
    pub shape: [i64; 4],
    /// Geometry the stage gave, if any.
    pub geometry: Option<gantry_plugin::Geometry>,
}

/// Voxels granted by [`HostSide::allocate`].
pub struct Allocated {
    /// First byte.
    pub data: *mut u8,
    /// Bytes.
    pub byte_len: u64,
    /// Steps of C and Z in elements.
    pub stride: [i64; 2],
}

/// Numbers of one call.
#[derive(Debug, Clone, Copy)]
pub struct CallNumbers {
    /// f(run seed, case, node).
    pub seed: [u64; 2],
    /// Index of the case in the run.
    pub case_no: u64,
    /// Threads the call may keep busy.
    pub threads: usize,
    /// Bytes the stage may hold of its own; 0: unknown.
    pub host_budget: u64,
    /// Of `end`: the case failed.
    pub abandoned: bool,
}

/// A port as told to `prepare`.
pub struct PortText {
    /// Name.
    pub name: String,
    /// Resolved caps, JSON text.
    pub caps: String,
    /// Output?
    pub output: bool,
    /// Connected?
    pub connected: bool,
}

/// Where the slices of one call lie in a buffer.
#[derive(Clone, Copy)]
pub struct Window<'a> {
    /// The memory.
    pub buffer: &'a Buffer,
    /// Slices the buffer holds for each channel.
    pub depth: usize,
    /// First slice of this call within the buffer.
    pub first: usize,
}

/// The inputs or outputs of one call.
#[derive(Default)]
pub struct Items<'a> {
    items: Vec<v1::Item>,
    /// Geometries that the call may read and must not write, with what stood in them.
    sealed: Vec<(&'a GeometryCell, v1::Geometry)>,
}

/// What an item consists of besides its voxels.
pub struct ItemParts<'a> {
    /// Port index.
    pub port: u32,
    /// One of `gantry_abi::v1::kind`.
    pub kind: u32,
    /// Element name.
    pub name: &'a str,
    /// Voxel type; 0 for items without voxels.
    pub dtype: u32,
    /// `[C, Z, Y, X]` of this call.
    pub shape: [usize; 4],
    /// Index in the volume of the first slice.
    pub z0: usize,
    /// Geometry of the whole volume.
    pub geometry: Option<&'a GeometryCell>,
    /// Whether the call sizes this grid: `begin` of an output on a new one.
    pub new_grid: bool,
    /// Channel names.
    pub channels: &'a [v1::Str],
    /// Maps, `[C][Z]` of this call.
    pub maps: MapsRef<'a>,
    /// Label table.
    pub labels: &'a [v1::Label],
    /// Bytes of records, tables, headers and files.
    pub bytes: &'a [u8],
    /// Offsets of headers.
    pub parts: &'a [u64],
}

/// Maps handed to a call: read by inputs, written by outputs.
pub enum MapsRef<'a> {
    /// None.
    None,
    /// Input.
    Shared(&'a [v1::Map]),
    /// Output.
    Exclusive(&'a mut [v1::Map]),
}

/// A geometry that a call may write (`begin` of a new grid); read again after the call.
pub struct GeometryCell {
    raw: std::cell::UnsafeCell<v1::Geometry>,
    origins: Vec<f64>,
}

// SAFETY: written only by the stage inside a call that was given the cell as an output; the host reads between calls.
unsafe impl Sync for GeometryCell {}
// SAFETY: as above.
unsafe impl Send for GeometryCell {}

impl GeometryCell {
    /// From the author crate's value type.
    pub fn new(geometry: &gantry_plugin::Geometry) -> GeometryCell {
        let origins: Vec<f64> = geometry.slice_origins_mm.iter().flatten().flatten().copied().collect();
        let irregular = !origins.is_empty();
        let raw = v1::Geometry {
            grid: geometry.grid,
            lattice: geometry.lattice,
            frame: geometry.frame,
            size: geometry.size.map(|n| n as i64),
            affine: geometry.affine,
            slice_origin_mm: if irregular { origins.as_ptr() } else { std::ptr::null() },
            flags: if irregular { v1::z::IRREGULAR } else { 0 },
            reserved: 0,
        };
        GeometryCell { raw: raw.into(), origins }
    }

    /// What stands in it now.
    ///
    /// # Errors
    /// In words, if a stage left nonsense: sizes out of range, or flags without positions.
    pub fn get(&self) -> Result<gantry_plugin::Geometry, String> {
        // SAFETY: no call is running; a stage may have written any numbers, which are checked here.
        let raw = unsafe { *self.raw.get() };
        let mut size = [0; 3];
        for (to, from) in size.iter_mut().zip(raw.size) {
            if !(0..=1 << 20).contains(&from) {
                return Err(format!("a grid of {:?} (z, y, x) voxels", raw.size));
            }
            *to = from as usize;
        }
        let irregular = raw.flags & v1::z::IRREGULAR != 0;
        let slice_origins_mm = match (irregular, raw.slice_origin_mm.is_null()) {
            (false, _) => None,
            (true, true) => return Err("irregular slices without positions".to_owned()),
            // SAFETY: not NULL, and the contract gives size[0] x 3 numbers alive until `end`.
            (true, false) => Some(
                unsafe { std::slice::from_raw_parts(raw.slice_origin_mm, size[0] * 3) }
                    .chunks_exact(3)
                    .map(|p| [p[0], p[1], p[2]])
                    .collect(),
            ),
        };
        debug_assert!(self.origins.len().is_multiple_of(3));
        Ok(gantry_plugin::Geometry {
            size,
            affine: raw.affine,
            slice_origins_mm,
            grid: raw.grid,
            lattice: raw.lattice,
            frame: raw.frame,
        })
    }
}

/// What a stage may have changed in an out item in `begin`.
pub struct Opened {
    /// The output is absent for this case.
    pub absent: bool,
    /// Voxel type.
    pub dtype: u32,
    /// Channels, as counted by the stage.
    pub channels: i64,
    /// Channel names.
    pub channel_names: Option<Vec<String>>,
    /// Label table: value, name, scheme, code, colour.
    pub labels: Vec<(i64, String, String, String, u32)>,
}

impl<'a> Items<'a> {
    /// No items.
    pub fn new() -> Items<'a> {
        Items::default()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Adds an item; `window` gives it voxels.
    ///
    /// # Panics
    /// If the window is smaller than the shape: a bug of the engine, caught before a stage could write outside.
    pub fn push(&mut self, parts: ItemParts<'a>, window: Option<Window<'a>>) {
        let [c, z, y, x] = parts.shape;
        let mut item = v1::Item::new(parts.port, parts.kind);
        item.name = v1::Str::new(parts.name.as_bytes());
        item.tensor.dtype = parts.dtype;
        item.tensor.shape = parts.shape.map(|n| n as i64);
        item.tensor.stride = [(z * y * x) as i64, (y * x) as i64, x as i64, 1];
        if let Some(Window { buffer, depth, first }) = window {
            let size = v1::dtype::size(parts.dtype);
            assert!(first + z <= depth && c * depth * y * x * size <= buffer.len(), "a window larger than its buffer");
            let offset = first * y * x * size;
            item.tensor.data = buffer.at(offset).cast();
            item.tensor.byte_len = (buffer.len() - offset) as u64;
            item.tensor.buffer = buffer.at(0) as u64;
            item.tensor.stride[0] = (depth * y * x) as i64;
        }
        item.z0 = parts.z0 as i64;
        item.geometry = parts.geometry.map_or(std::ptr::null_mut(), |g| g.raw.get());
        if let Some(cell) = parts.geometry.filter(|_| !parts.new_grid) {
            // SAFETY: no call is running that may write this cell.
            self.sealed.push((cell, unsafe { *cell.raw.get() }));
        }
        item.channels = if parts.channels.is_empty() { std::ptr::null() } else { parts.channels.as_ptr() };
        item.maps = match parts.maps {
            MapsRef::None => std::ptr::null_mut(),
            MapsRef::Shared(maps) => maps.as_ptr().cast_mut(),
            MapsRef::Exclusive(maps) => maps.as_mut_ptr(),
        };
        item.labels = if parts.labels.is_empty() { std::ptr::null() } else { parts.labels.as_ptr() };
        item.n_labels = parts.labels.len() as u64;
        item.bytes = v1::Str::new(parts.bytes);
        if !parts.parts.is_empty() {
            item.parts = parts.parts.as_ptr();
            item.n_parts = parts.parts.len() as u64 - 1;
        }
        self.items.push(item);
    }

    /// Whether the call wrote into a geometry that was only lent; what stood there is put back.
    pub fn scribbled(&self) -> bool {
        let mut any = false;
        for (cell, before) in &self.sealed {
            // SAFETY: the call is over, and the cell outlives this list.
            let now = unsafe { &mut *cell.raw.get() };
            let numbers = |g: &v1::Geometry| (g.grid, g.lattice, g.frame, g.size, g.affine.map(f64::to_bits));
            let rest = |g: &v1::Geometry| (g.slice_origin_mm, g.flags, g.reserved);
            if numbers(now) != numbers(before) || rest(now) != rest(before) {
                *now = *before;
                any = true;
            }
        }
        any
    }

    /// What `begin` left in out item `i`.
    ///
    /// # Errors
    /// In words, if a stage left malformed names.
    pub fn opened(&self, i: usize) -> Result<Opened, String> {
        let item = &self.items[i];
        let wrong = || "malformed text in an output's names".to_owned();
        // SAFETY (all texts below): pointers a stage stores in an out item stay valid until `end` returns; unlawful
        // pairs and non-UTF-8 are refused.
        let text = |s: v1::Str| unsafe { s.text() }.map(str::to_owned).ok_or_else(wrong);
        let count = item.tensor.shape[0];
        let channel_names = if item.channels.is_null() || !(0..=4096).contains(&count) {
            None
        } else {
            // SAFETY: the contract gives shape[0] names.
            let names = unsafe { std::slice::from_raw_parts(item.channels, count as usize) };
            Some(names.iter().map(|&s| text(s)).collect::<Result<_, _>>()?)
        };
        let labels = if item.labels.is_null() || item.n_labels > 1 << 20 {
            Vec::new()
        } else {
            // SAFETY: the contract gives n_labels rows.
            unsafe { std::slice::from_raw_parts(item.labels, item.n_labels as usize) }
                .iter()
                .map(|l| Ok((l.value, text(l.name)?, text(l.scheme)?, text(l.code)?, l.rgba)))
                .collect::<Result<_, String>>()?
        };
        Ok(Opened {
            absent: item.kind == kind::ABSENT,
            dtype: item.tensor.dtype,
            channels: count,
            channel_names,
            labels,
        })
    }
}

/// What `ctx` points to during a call.
struct Frame<'a> {
    side: &'a dyn HostSide,
    /// Answers of services, alive until the call returns.
    answers: Mutex<Vec<Box<str>>>,
}

/// # Safety
/// `ctx` must be the token of a running call.
unsafe fn frame<'a>(ctx: *mut c_void) -> Option<&'a Frame<'a>> {
    // SAFETY: the engine passes a pointer to a `Frame` that outlives the call; NULL from a careless plugin is refused.
    unsafe { ctx.cast::<Frame<'a>>().as_ref() }
}

/// Runs a host function so that no panic of the host crosses into a plugin.
fn guarded<T>(fallback: T, work: impl FnOnce() -> Option<T>) -> T {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Some(value)) => value,
        _ => fallback,
    }
}

unsafe extern "C" fn report(ctx: *mut c_void, level: i32, code: v1::Str, port: i32, text: v1::Str) {
    // SAFETY: the plugin passes its token and texts alive for the call; malformed ones are dropped.
    guarded((), || unsafe {
        frame(ctx)?.side.report(level, code.text()?, port, text.text().unwrap_or("(text that is not UTF-8)"));
        Some(())
    });
}

unsafe extern "C" fn progress(ctx: *mut c_void, done: u64, total: u64) {
    // SAFETY: as `report`.
    guarded((), || unsafe {
        frame(ctx)?.side.progress(done, total);
        Some(())
    });
}

unsafe extern "C" fn cancelled(ctx: *mut c_void) -> i32 {
    // SAFETY: as `report`.
    guarded(1, || unsafe { Some(i32::from(frame(ctx)?.side.cancelled())) })
}

unsafe extern "C" fn checkpoint(ctx: *mut c_void, param: v1::Str, file: v1::Str, out: *mut v1::Str) -> i32 {
    // SAFETY: as `report`; `out` is writable by contract, NULL is refused.
    guarded(status::INTERNAL, || unsafe {
        let bytes = match frame(ctx)?.side.checkpoint(param.text()?, file.text()?) {
            Some(bytes) => bytes,
            None => return Some(status::BAD_WEIGHTS),
        };
        *out.as_mut()? = v1::Str::new(bytes);
        Some(status::OK)
    })
}

unsafe extern "C" fn allocate(ctx: *mut c_void, item: *mut v1::Item) -> i32 {
    // SAFETY: as `report`; the item is writable by contract, NULL is refused.
    guarded(status::INTERNAL, || unsafe {
        let side = frame(ctx)?.side;
        let item = item.as_mut()?;
        let geometry = match item.geometry.as_ref() {
            None => None,
            Some(raw) => {
                let mut raw = *raw;
                if raw.slice_origin_mm.is_null() {
                    raw.flags &= !v1::z::IRREGULAR;
                }
                Some(GeometryCell { raw: raw.into(), origins: Vec::new() }.get().ok()?)
            }
        };
        let request = Allocation {
            port: item.port,
            name: item.name.text()?.to_owned(),
            dtype: item.tensor.dtype,
            shape: item.tensor.shape,
            geometry,
        };
        match side.allocate(request) {
            Err(status) => Some(status),
            Ok(granted) => {
                let [_, _, y, x] = item.tensor.shape;
                item.tensor.data = granted.data.cast();
                item.tensor.byte_len = granted.byte_len;
                item.tensor.buffer = granted.data as u64;
                item.tensor.device_type = v1::DEVICE_CPU;
                item.tensor.stride = [granted.stride[0], granted.stride[1], x, 1];
                debug_assert!(y >= 0);
                Some(status::OK)
            }
        }
    })
}

unsafe extern "C" fn emit(ctx: *mut c_void, port: u32, name: v1::Str, bytes: v1::Str) -> i32 {
    // SAFETY: as `report`.
    guarded(status::INTERNAL, || unsafe { Some(frame(ctx)?.side.emit(port, name.text()?, bytes.bytes()?)) })
}

unsafe extern "C" fn reserve(ctx: *mut c_void, device_type: i32, delta: i64) -> i32 {
    // SAFETY: as `report`.
    guarded(status::INTERNAL, || unsafe { Some(frame(ctx)?.side.reserve(device_type, delta)) })
}

unsafe extern "C" fn service(ctx: *mut c_void, name: v1::Str, request: v1::Str, response: *mut v1::Str) -> i32 {
    // SAFETY: as `report`; `response` is writable by contract, NULL is refused.
    guarded(status::INTERNAL, || unsafe {
        let frame = frame(ctx)?;
        let response = response.as_mut()?;
        match frame.side.service(name.text()?, request.text()?) {
            Err(status) => Some(status),
            Ok(answer) => {
                let answer: Box<str> = answer.into();
                *response = v1::Str::new(answer.as_bytes());
                frame.answers.lock().unwrap_or_else(|e| e.into_inner()).push(answer);
                Some(status::OK)
            }
        }
    })
}

unsafe extern "C" fn extension(_: *mut c_void, _: v1::Str) -> *const c_void {
    std::ptr::null()
}

static HOST: v1::Host = v1::Host {
    abi_major: v1::ABI_MAJOR,
    abi_minor: v1::ABI_MINOR,
    built_by: v1::Str::new(concat!("gantry ", env!("CARGO_PKG_VERSION")).as_bytes()),
    report: Some(report),
    progress: Some(progress),
    cancelled: Some(cancelled),
    checkpoint: Some(checkpoint),
    allocate: Some(allocate),
    emit: Some(emit),
    reserve: Some(reserve),
    service: Some(service),
    extension: Some(extension),
};

/// A live stage. Destroyed when dropped.
pub struct Instance {
    entry: &'static v1::Entry,
    stage: *mut c_void,
}

// SAFETY: the contract lets any thread call an instance; the engine keeps [one] calls exclusive.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(destroy) = self.entry.destroy {
            // SAFETY: made by `create`, idle, destroyed once.
            unsafe { destroy(self.stage) }
        }
    }
}

impl Instance {
    /// `create`: an instance of `stage`, or the status that refused it.
    ///
    /// # Errors
    /// The status.
    pub fn create(entry: &'static v1::Entry, side: &dyn HostSide, stage: &str, params: &str) -> Result<Instance, i32> {
        let create = entry.create.ok_or(status::INTERNAL)?;
        let mut frame = Frame { side, answers: Mutex::default() };
        let mut made = std::ptr::null_mut();
        // SAFETY: table, token and texts outlive the call.
        let status = unsafe {
            create(
                &HOST,
                std::ptr::from_mut(&mut frame).cast(),
                v1::Str::new(stage.as_bytes()),
                v1::Str::new(params.as_bytes()),
                &mut made,
            )
        };
        match status {
            status::OK if !made.is_null() => Ok(Instance { entry, stage: made }),
            status::OK => Err(status::INTERNAL),
            other => Err(other),
        }
    }

    fn call<'a>(
        &self,
        side: &dyn HostSide,
        numbers: CallNumbers,
        inputs: &Items<'a>,
        outputs: &mut Items<'a>,
        work: impl FnOnce(*const v1::Call) -> i32,
    ) -> i32 {
        let mut frame = Frame { side, answers: Mutex::default() };
        let call = v1::Call {
            host: &HOST,
            ctx: std::ptr::from_mut(&mut frame).cast(),
            seed: numbers.seed,
            case_no: numbers.case_no,
            host_budget: numbers.host_budget,
            device_budget: 0,
            threads: numbers.threads.max(1) as u32,
            flags: if numbers.abandoned { v1::ABANDONED } else { 0 },
            input: inputs.items.as_ptr(),
            n_in: inputs.items.len() as u64,
            out: outputs.items.as_mut_ptr(),
            n_out: outputs.items.len() as u64,
        };
        work(&call)
    }

    /// `prepare`.
    pub fn prepare(&self, side: &dyn HostSide, numbers: CallNumbers, ports: &[PortText]) -> i32 {
        let ports: Vec<v1::Port> = ports
            .iter()
            .map(|p| v1::Port {
                name: v1::Str::new(p.name.as_bytes()),
                caps: v1::Str::new(p.caps.as_bytes()),
                output: p.output.into(),
                connected: p.connected.into(),
            })
            .collect();
        let Some(prepare) = self.entry.prepare else { return status::INTERNAL };
        self.call(side, numbers, &Items::new(), &mut Items::new(), |call| {
            // SAFETY: everything passed outlives the call.
            unsafe { prepare(self.stage, call, ports.as_ptr(), ports.len() as u64) }
        })
    }

    /// `begin`.
    pub fn begin<'a>(
        &self,
        side: &dyn HostSide,
        numbers: CallNumbers,
        inputs: &Items<'a>,
        outputs: &mut Items<'a>,
        needs: &mut v1::Needs,
    ) -> i32 {
        let Some(begin) = self.entry.begin else { return status::INTERNAL };
        // SAFETY: as `prepare`.
        self.call(side, numbers, inputs, outputs, |call| unsafe { begin(self.stage, call, needs) })
    }

    /// `process`. May run on several threads at once for stages with `concurrency = "parallel"`, on disjoint outputs.
    pub fn process<'a>(
        &self,
        side: &dyn HostSide,
        numbers: CallNumbers,
        inputs: &Items<'a>,
        outputs: &mut Items<'a>,
    ) -> i32 {
        let Some(process) = self.entry.process else { return status::INTERNAL };
        // SAFETY: as `prepare`; the engine hands out disjoint windows.
        self.call(side, numbers, inputs, outputs, |call| unsafe { process(self.stage, call) })
    }

    /// `end`.
    pub fn end(&self, side: &dyn HostSide, numbers: CallNumbers) -> i32 {
        let Some(end) = self.entry.end else { return status::INTERNAL };
        // SAFETY: as `prepare`.
        self.call(side, numbers, &Items::new(), &mut Items::new(), |call| unsafe { end(self.stage, call) })
    }
}
