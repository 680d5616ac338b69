//! Stage ABI 1, the Rust mirror of `include/gantry_v1.h`. The prose of the contract (threads, states, lifetimes) stands
//! in the header; here are the same structs with the same members in the same order.
//!
//! Function pointers are `Option`s: a NULL in another side's table can then be seen and refused instead of called.

use std::ffi::c_void;

use abi_stable::StableAbi;

/// ABI major version: the only number that is compared.
pub const ABI_MAJOR: u32 = 1;
/// ABI minor version: shown, never compared.
pub const ABI_MINOR: u32 = 0;
/// The one exported symbol.
pub const SYMBOL: &str = "gantry_plugin_v1";

/// What a call returns. The effect of each value on the case is fixed.
pub mod status {
    /// Done.
    pub const OK: i32 = 0;
    /// Stopped because `cancelled` said so.
    pub const CANCELLED: i32 = 1;
    /// A person must answer; the node is run again with the answer.
    pub const PENDING: i32 = 2;
    /// Configuration refused (create, prepare).
    pub const BAD_PARAMS: i32 = -1;
    /// This case's data are refused: the case is quarantined.
    pub const BAD_INPUT: i32 = -2;
    /// Legal input that the stage does not implement: the case fails.
    pub const UNSUPPORTED: i32 = -3;
    /// Not enough memory or device: the host may repeat with a smaller batch.
    pub const RESOURCE: i32 = -4;
    /// A host service failed.
    pub const SERVICE: i32 = -5;
    /// The checkpoint is malformed.
    pub const BAD_WEIGHTS: i32 = -6;
    /// A bug or a caught panic: the case fails, the instance is made anew.
    pub const INTERNAL: i32 = -7;
}

/// Kinds of item, and so of edge.
pub mod kind {
    /// The optional output is absent for this case (set by the stage in `begin`).
    pub const ABSENT: u32 = 0;
    /// Voxels with a physical meaning.
    pub const IMAGE: u32 = 1;
    /// Integer voxels with a label table.
    pub const LABELS: u32 = 2;
    /// DICOM datasets without pixels.
    pub const HEADERS: u32 = 3;
    /// One JSON object with a schema.
    pub const RECORD: u32 = 4;
    /// Typed columns as JSON.
    pub const TABLE: u32 = 5;
    /// Bytes with a media type.
    pub const FILE: u32 = 6;
}

/// Voxel types: DLPack's `{code, bits, lanes = 1}` as one little-endian word.
pub mod dtype {
    /// 8-bit signed.
    pub const I8: u32 = 0x1_0800;
    /// 16-bit signed.
    pub const I16: u32 = 0x1_1000;
    /// 32-bit signed.
    pub const I32: u32 = 0x1_2000;
    /// 64-bit signed.
    pub const I64: u32 = 0x1_4000;
    /// 8-bit unsigned.
    pub const U8: u32 = 0x1_0801;
    /// 16-bit unsigned.
    pub const U16: u32 = 0x1_1001;
    /// 32-bit unsigned.
    pub const U32: u32 = 0x1_2001;
    /// IEEE half.
    pub const F16: u32 = 0x1_1002;
    /// IEEE single.
    pub const F32: u32 = 0x1_2002;
    /// IEEE double.
    pub const F64: u32 = 0x1_4002;
    /// bfloat16.
    pub const BF16: u32 = 0x1_1004;

    /// Bytes of one element.
    pub const fn size(dtype: u32) -> usize {
        ((dtype >> 8) & 0xff) as usize / 8
    }

    /// The name used in caps, e.g. `f32`; `None` for an unknown word.
    pub const fn name(dtype: u32) -> Option<&'static str> {
        Some(match dtype {
            I8 => "i8",
            I16 => "i16",
            I32 => "i32",
            I64 => "i64",
            U8 => "u8",
            U16 => "u16",
            U32 => "u32",
            F16 => "f16",
            F32 => "f32",
            F64 => "f64",
            BF16 => "bf16",
            _ => return None,
        })
    }

    /// The word of a name used in caps.
    pub fn parse(name: &str) -> Option<u32> {
        [I8, I16, I32, I64, U8, U16, U32, F16, F32, F64, BF16].into_iter().find(|&d| self::name(d) == Some(name))
    }
}

/// Levels of `report`.
pub mod level {
    /// Explains a failed status.
    pub const ERROR: i32 = 1;
    /// Something a reader of the result must know.
    pub const WARN: i32 = 2;
    /// Progress worth a line.
    pub const INFO: i32 = 3;
    /// For the author.
    pub const DEBUG: i32 = 4;
}

/// Flags of [`Geometry`].
pub mod z {
    /// Slice positions are not known.
    pub const UNKNOWN: u32 = 1;
    /// Slices are not evenly spaced; `slice_origin_mm` holds their positions.
    pub const IRREGULAR: u32 = 2;
}

/// Flag of a call to `end`: the case failed or was cancelled.
pub const ABANDONED: u32 = 1;
/// DLPack's number of the CPU, the only device of base v1.
pub const DEVICE_CPU: i32 = 1;

/// Text (UTF-8, not NUL-terminated) or bytes. `ptr` may be NULL only if `len` is 0.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct Str {
    /// First byte.
    pub ptr: *const u8,
    /// Number of bytes.
    pub len: u64,
}

/// A view of voxels `[C, Z, Y, X]`, always rank 4; Z counts the slices in this call.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct Tensor {
    /// 64-byte aligned; NULL in `begin`.
    pub data: *mut c_void,
    /// Readable (inputs) or writable (outputs) bytes from `data`.
    pub byte_len: u64,
    /// The host's name for the buffer.
    pub buffer: u64,
    /// One of [`dtype`].
    pub dtype: u32,
    /// DLPack device type; 1 = CPU.
    pub device_type: i32,
    /// DLPack device number.
    pub device_id: i32,
    /// 0.
    pub reserved: u32,
    /// Lengths.
    pub shape: [i64; 4],
    /// Steps in elements; planes are dense: `stride[3] = 1`, `stride[2] = shape[3]`.
    pub stride: [i64; 4],
}

/// Geometry of the whole volume, not of the slices in this call.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct Geometry {
    /// Token: equal and not 0 means the same grid.
    pub grid: u64,
    /// Token: equal and not 0 means an integer voxel offset apart.
    pub lattice: u64,
    /// Token: equal and not 0 means the same frame of reference.
    pub frame: u64,
    /// z, y, x.
    pub size: [i64; 3],
    /// 3x4 row-major: (x, y, z, 1) of a voxel's centre to (L, P, S) millimetres.
    pub affine: [f64; 12],
    /// `size[0] x 3` positions if [`z::IRREGULAR`], else NULL.
    pub slice_origin_mm: *const f64,
    /// Of [`z`].
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

/// `physical = value * scale + offset`, true for `lo..=hi` (physical).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, StableAbi)]
pub struct Map {
    /// Factor.
    pub scale: f64,
    /// Summand.
    pub offset: f64,
    /// Lowest physical value for which the map holds.
    pub lo: f64,
    /// Highest physical value for which the map holds.
    pub hi: f64,
}

/// One row of a label table.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct Label {
    /// Voxel value.
    pub value: i64,
    /// Human name.
    pub name: Str,
    /// Coding scheme, e.g. `SCT`.
    pub scheme: Str,
    /// Code in the scheme.
    pub code: Str,
    /// `0xRRGGBBAA`.
    pub rgba: u32,
    /// 0.
    pub reserved: u32,
}

/// One thing on one port. A `many` port has several items; an absent optional has none.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct Item {
    /// Index into the ports given to `prepare`.
    pub port: u32,
    /// One of [`kind`].
    pub kind: u32,
    /// Element name (named), decimal index (many), file name (file), else empty.
    pub name: Str,
    /// Voxels of image and labels.
    pub tensor: Tensor,
    /// Index in the volume of the tensor's first slice.
    pub z0: i64,
    /// Geometry of the whole volume; writable only on out items of a new or sub grid, in `begin` or before `allocate`.
    pub geometry: *mut Geometry,
    /// `shape[0]` channel names.
    pub channels: *const Str,
    /// `shape[0] x shape[1]` maps, `[C][Z]`; on out items pre-filled from the `like` input and writable.
    pub maps: *mut Map,
    /// Label table.
    pub labels: *const Label,
    /// Rows of the label table.
    pub n_labels: u64,
    /// RECORD, TABLE: JSON; HEADERS: Explicit VR Little Endian datasets without pixels; FILE: bytes.
    pub bytes: Str,
    /// HEADERS: `n_parts + 1` offsets into `bytes`, one dataset a slice.
    pub parts: *const u64,
    /// Number of parts.
    pub n_parts: u64,
}

/// A port as the stage will see it: in plugin.toml order, inputs first, ports with a false `when` left out.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct Port {
    /// Name.
    pub name: Str,
    /// Resolved caps as JSON; an undecided key is `"dynamic"`.
    pub caps: Str,
    /// 1 for an output.
    pub output: u32,
    /// 1 if something is connected.
    pub connected: u32,
}

/// What a stage needs for this case; pre-filled from plugin.toml.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, StableAbi)]
pub struct Needs {
    /// Slices a call at most; 0: no limit.
    pub batch_max: u32,
    /// Slab: extra slices below.
    pub halo_below: u32,
    /// Slab: extra slices above.
    pub halo_above: u32,
    /// 0.
    pub reserved: u32,
    /// Host bytes beyond the host's own buffers.
    pub host_bytes: u64,
    /// The same, for each slice in a call.
    pub host_bytes_per_slice: u64,
    /// Device bytes.
    pub device_bytes: u64,
    /// Device bytes for each slice in a call.
    pub device_bytes_per_slice: u64,
}

/// One call. Read-only for the plugin, except `*out`.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct Call {
    /// The host's functions.
    pub host: *const Host,
    /// This call's token, to be passed back.
    pub ctx: *mut c_void,
    /// f(run seed, case, node).
    pub seed: [u64; 2],
    /// Index of the case in the run, never an identity.
    pub case_no: u64,
    /// Bytes of host memory the stage may hold of its own; 0: unknown.
    pub host_budget: u64,
    /// Bytes of device memory; 0: unknown.
    pub device_budget: u64,
    /// CPU threads this call may keep busy, at least 1.
    pub threads: u32,
    /// [`ABANDONED`] on `end`.
    pub flags: u32,
    /// Inputs by port, then pipeline order (many) or `names` order (named).
    pub input: *const Item,
    /// Number of inputs.
    pub n_in: u64,
    /// Outputs the host could size; nothing for unread optional outputs.
    pub out: *mut Item,
    /// Number of outputs.
    pub n_out: u64,
}

/// The host's functions; every member may be used from any thread during a call, and none is NULL.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct Host {
    /// [`ABI_MAJOR`].
    pub abi_major: u32,
    /// [`ABI_MINOR`].
    pub abi_minor: u32,
    /// Free text.
    pub built_by: Str,
    /// A message; the last ERROR explains a failed status. No patient text.
    pub report: Option<unsafe extern "C" fn(*mut c_void, i32, Str, i32, Str)>,
    /// Monotonic progress; also proves life to the watchdog.
    pub progress: Option<unsafe extern "C" fn(*mut c_void, u64, u64)>,
    /// Not 0: return CANCELLED soon.
    pub cancelled: Option<unsafe extern "C" fn(*mut c_void) -> i32>,
    /// A verified file of a checkpoint, 64-byte aligned; `card.json` is the card.
    pub checkpoint: Option<unsafe extern "C" fn(*mut c_void, Str, Str, *mut Str) -> i32>,
    /// Voxels for outputs whose size is known only in `process`.
    pub allocate: Option<unsafe extern "C" fn(*mut c_void, *mut Item) -> i32>,
    /// Publishes RECORD, TABLE, HEADERS (one call a slice) and FILE bytes.
    pub emit: Option<unsafe extern "C" fn(*mut c_void, u32, Str, Str) -> i32>,
    /// Announces large own allocations.
    pub reserve: Option<unsafe extern "C" fn(*mut c_void, i32, i64) -> i32>,
    /// JSON in, JSON out, by versioned name.
    pub service: Option<unsafe extern "C" fn(*mut c_void, Str, Str, *mut Str) -> i32>,
    /// A frozen table by versioned name, or NULL.
    pub extension: Option<unsafe extern "C" fn(*mut c_void, Str) -> *const c_void>,
}

/// The one exported symbol, read before anything is called.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct Entry {
    /// [`ABI_MAJOR`]; the first 8 bytes have this meaning for ever.
    pub abi_major: u32,
    /// [`ABI_MINOR`].
    pub abi_minor: u32,
    /// Free text.
    pub built_by: Str,
    /// The text of plugin.toml.
    pub manifest: Str,
    /// Makes an instance of a stage from a complete JSON object of parameters.
    pub create: Option<unsafe extern "C" fn(*const Host, *mut c_void, Str, Str, *mut *mut c_void) -> i32>,
    /// Loads weights; `n_in = n_out = 0`.
    pub prepare: Option<unsafe extern "C" fn(*mut c_void, *const Call, *const Port, u64) -> i32>,
    /// Opens a case: no voxels yet; sizes new grids.
    pub begin: Option<unsafe extern "C" fn(*mut c_void, *const Call, *mut Needs) -> i32>,
    /// Does the work.
    pub process: Option<unsafe extern "C" fn(*mut c_void, *const Call) -> i32>,
    /// Closes a case, after every OK `begin`; last emits.
    pub end: Option<unsafe extern "C" fn(*mut c_void, *const Call) -> i32>,
    /// Destroys an instance.
    pub destroy: Option<unsafe extern "C" fn(*mut c_void)>,
    /// A frozen table by versioned name, or NULL.
    pub extension: Option<unsafe extern "C" fn(Str, Str) -> *const c_void>,
}

// SAFETY: an entry and a host table are immutable data; the functions state their own threading rules.
unsafe impl Sync for Entry {}
// SAFETY: as above.
unsafe impl Sync for Host {}
// SAFETY: as above; moving the table between threads moves only pointers to immutable data.
unsafe impl Send for Host {}

impl Str {
    /// The empty text.
    pub const EMPTY: Str = Str { ptr: std::ptr::null(), len: 0 };

    /// A view of bytes; the caller keeps them alive as long as the contract asks.
    pub const fn new(bytes: &[u8]) -> Str {
        Str { ptr: bytes.as_ptr(), len: bytes.len() as u64 }
    }

    /// The bytes, or `None` where the pair is not lawful (NULL with a length, or longer than the address space).
    ///
    /// # Safety
    /// A non-NULL `ptr` must be readable for `len` bytes for `'a`.
    pub unsafe fn bytes<'a>(self) -> Option<&'a [u8]> {
        if self.len == 0 {
            return Some(&[]);
        }
        if self.ptr.is_null() || self.len > isize::MAX as u64 {
            return None;
        }
        // SAFETY: not NULL, the length fits, and the caller vouches for the memory.
        Some(unsafe { std::slice::from_raw_parts(self.ptr, self.len as usize) })
    }

    /// The text, or `None` where the pair is not lawful or not UTF-8.
    ///
    /// # Safety
    /// As [`Str::bytes`].
    pub unsafe fn text<'a>(self) -> Option<&'a str> {
        // SAFETY: forwarded.
        std::str::from_utf8(unsafe { self.bytes() }?).ok()
    }
}

impl Tensor {
    /// No tensor: an item that carries no voxels.
    pub const NONE: Tensor = Tensor {
        data: std::ptr::null_mut(),
        byte_len: 0,
        buffer: 0,
        dtype: 0,
        device_type: DEVICE_CPU,
        device_id: 0,
        reserved: 0,
        shape: [0; 4],
        stride: [0; 4],
    };
}

impl Item {
    /// An item of a kind on a port, with nothing in it.
    pub const fn new(port: u32, kind: u32) -> Item {
        Item {
            port,
            kind,
            name: Str::EMPTY,
            tensor: Tensor::NONE,
            z0: 0,
            geometry: std::ptr::null_mut(),
            channels: std::ptr::null(),
            maps: std::ptr::null_mut(),
            labels: std::ptr::null(),
            n_labels: 0,
            bytes: Str::EMPTY,
            parts: std::ptr::null(),
            n_parts: 0,
        }
    }
}
