//! NVIDIA's driver, asked directly: is it there, what does it speak, which cards has it. Only a worker process does this: a
//! driver is foreign code, and what goes wrong in it must not take the supervisor along.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_uint, c_void};

use libloading::Library;
use serde::{Deserialize, Serialize};

/// The library that the driver installs; everything of CUDA needs it.
const DRIVER: &str = "libcuda.so.1";

/// A driver with at least one card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Driver {
    /// Newest CUDA it speaks, `13.0`.
    pub cuda: String,
    /// The cards this process may see, in the driver's order.
    pub cards: Vec<Card>,
}

/// A card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Its name, as the driver gives it.
    pub name: String,
    /// Compute capability, `9.0`.
    pub capability: String,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// Asks the driver; `open` is the number of a card that is also opened and let go again.
///
/// # Errors
/// In words: no driver, no card, or one that cannot be used.
pub fn look(open: Option<u32>) -> Result<Driver, String> {
    // SAFETY: the driver's library is what every CUDA program loads; its constructors are as trusted as the driver.
    let library = unsafe { Library::new(DRIVER) }
        .map_err(|_| format!("{DRIVER} cannot be loaded: no NVIDIA driver is installed here"))?;
    let driver = Functions { library: &library };
    driver.call(c"cuInit", "cuInit", |f: unsafe extern "C" fn(c_uint) -> c_int| {
        // SAFETY: cuInit(0) may be called at any time.
        unsafe { f(0) }
    })?;
    let mut version = 0;
    driver.call(c"cuDriverGetVersion", "cuDriverGetVersion", |f: unsafe extern "C" fn(*mut c_int) -> c_int| {
        // SAFETY: writes one number.
        unsafe { f(&mut version) }
    })?;
    let mut count = 0;
    driver.call(c"cuDeviceGetCount", "cuDeviceGetCount", |f: unsafe extern "C" fn(*mut c_int) -> c_int| {
        // SAFETY: writes one number.
        unsafe { f(&mut count) }
    })?;
    let cards = (0..count).map(|at| driver.card(at)).collect::<Result<Vec<_>, _>>()?;
    if cards.is_empty() {
        return Err("the NVIDIA driver shows this process no card".to_owned());
    }
    if let Some(at) = open.filter(|&at| (at as usize) < cards.len()) {
        driver.open(at as c_int)?;
    }
    Ok(Driver { cuda: format!("{}.{}", version / 1000, version % 1000 / 10), cards })
}

/// The driver's functions by name; the types given are those of cuda.h.
struct Functions<'a> {
    library: &'a Library,
}

impl Functions<'_> {
    fn call<F: Copy>(&self, symbol: &std::ffi::CStr, name: &str, run: impl FnOnce(F) -> c_int) -> Result<(), String> {
        // SAFETY: the caller gives the type that cuda.h gives.
        let function = unsafe { self.library.get::<F>(symbol) }
            .map_err(|_| format!("{DRIVER} has no `{name}`: it is not NVIDIA's, or too old"))?;
        match run(*function) {
            0 => Ok(()),
            code => Err(format!("the NVIDIA driver refuses `{name}`: {}", meaning(code))),
        }
    }

    fn card(&self, at: c_int) -> Result<Card, String> {
        let mut device = 0;
        self.call(c"cuDeviceGet", "cuDeviceGet", |f: unsafe extern "C" fn(*mut c_int, c_int) -> c_int| {
            // SAFETY: writes one number.
            unsafe { f(&mut device, at) }
        })?;
        let mut name = [0u8; 256];
        type Name = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
        self.call(c"cuDeviceGetName", "cuDeviceGetName", |f: Name| {
            // SAFETY: writes at most as many bytes as it is told, ending with 0.
            unsafe { f(name.as_mut_ptr().cast(), name.len() as c_int - 1, device) }
        })?;
        let mut memory_bytes = 0usize;
        type Memory = unsafe extern "C" fn(*mut usize, c_int) -> c_int;
        self.call(c"cuDeviceTotalMem_v2", "cuDeviceTotalMem_v2", |f: Memory| {
            // SAFETY: writes one number.
            unsafe { f(&mut memory_bytes, device) }
        })?;
        let mut capability = [0; 2];
        type Attribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int;
        // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
        for (number, attribute) in capability.iter_mut().zip([75, 76]) {
            self.call(c"cuDeviceGetAttribute", "cuDeviceGetAttribute", |f: Attribute| {
                // SAFETY: writes one number.
                unsafe { f(number, attribute, device) }
            })?;
        }
        let end = name.iter().position(|&b| b == 0).unwrap_or(0);
        Ok(Card {
            name: String::from_utf8_lossy(&name[..end]).into_owned(),
            capability: format!("{}.{}", capability[0], capability[1]),
            memory_bytes: memory_bytes as u64,
        })
    }

    /// A card can be listed and yet refuse work: taken by another process, or broken.
    fn open(&self, at: c_int) -> Result<(), String> {
        let mut context: *mut c_void = std::ptr::null_mut();
        type Retain = unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int;
        self.call(c"cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRetain", |f: Retain| {
            // SAFETY: writes one pointer, which is not used.
            unsafe { f(&mut context, at) }
        })?;
        type Release = unsafe extern "C" fn(c_int) -> c_int;
        self.call(c"cuDevicePrimaryCtxRelease_v2", "cuDevicePrimaryCtxRelease_v2", |f: Release| {
            // SAFETY: retained above.
            unsafe { f(at) }
        })
    }
}

/// CUresult, where its meaning helps.
fn meaning(code: c_int) -> String {
    let words = match code {
        2 => "out of memory",
        3 => "not initialised",
        46 => "the card is in use by another process alone",
        100 => "no card that CUDA can use",
        101 => "no such card",
        802 => "the system is not ready",
        803 => "driver and kernel module differ in version",
        804 => "this driver does not suit this card",
        999 => "an unknown error",
        _ => return format!("error {code}"),
    };
    format!("{words} (error {code})")
}

/// Version of the kernel module, as it says itself; `None` where there is none.
pub fn kernel_module() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    let line = text.lines().next()?;
    line.split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
        .map(str::to_owned)
}
