//! The C entry points, and the macro that exports them with the embedded manifest.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use gantry_abi::v1::{self, level, status};
use gantry_abi::{layout, section as elf};

use crate::instance::{Instance, Live};
use crate::{Error, Result};

/// One stage of this library, collected with `inventory`.
pub struct Registration {
    /// Stage id, as in plugin.toml.
    pub stage: &'static str,
    /// Makes an instance from the JSON text of its parameters.
    pub create: fn(&str) -> Result<Box<dyn Instance>>,
}

inventory::collect!(Registration);

/// The entry of a library whose plugin.toml reads `manifest`.
pub const fn entry(manifest: &'static str) -> v1::Entry {
    v1::Entry {
        abi_major: v1::ABI_MAJOR,
        abi_minor: v1::ABI_MINOR,
        built_by: v1::Str::new(concat!("gantry-plugin ", env!("CARGO_PKG_VERSION")).as_bytes()),
        manifest: v1::Str::new(manifest.as_bytes()),
        create: Some(create),
        prepare: Some(prepare),
        begin: Some(begin),
        process: Some(process),
        end: Some(end),
        destroy: Some(destroy),
        extension: Some(extension),
    }
}

/// The bytes of the ELF section of a library whose plugin.toml reads `manifest`.
pub const fn section(manifest: &[u8]) -> [u8; elf::LEN] {
    elf::content(sha2_const_stable::Sha256::new().update(manifest).finalize())
}

/// Runs `work`; a panic becomes INTERNAL and is explained through `say`.
fn guarded(say: impl Fn(&str, &str), work: impl FnOnce() -> Result<()>) -> i32 {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => status::OK,
        Ok(Err(error)) => error.status(),
        Err(payload) => {
            let text = payload
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("a panic without a message");
            say("panic", text);
            // Dropping a payload may panic again; leaking it cannot.
            std::mem::forget(payload);
            status::INTERNAL
        }
    }
}

/// # Safety
/// `host` and `ctx` must be those of the current call.
unsafe fn say(host: *const v1::Host, ctx: *mut c_void, code: &str, text: &str) {
    // SAFETY: forwarded; a NULL table or member is skipped.
    if let Some(report) = unsafe { host.as_ref() }.and_then(|h| h.report) {
        // SAFETY: both texts outlive the call.
        unsafe { report(ctx, level::ERROR, v1::Str::new(code.as_bytes()), -1, v1::Str::new(text.as_bytes())) }
    }
}

unsafe extern "C" fn create(
    host: *const v1::Host,
    ctx: *mut c_void,
    stage: v1::Str,
    params: v1::Str,
    out: *mut *mut c_void,
) -> i32 {
    // SAFETY: the host passes its table and this call's token.
    let explain = |code: &str, text: &str| unsafe { say(host, ctx, code, text) };
    guarded(explain, || {
        let made = (|| {
            // SAFETY: host text, alive for the call.
            let (stage, params) = unsafe { stage.text().zip(params.text()) }
                .ok_or_else(|| Error::bad_params("stage or parameters are not text"))?;
            let registration = inventory::iter::<Registration>
                .into_iter()
                .find(|r| r.stage == stage)
                .ok_or_else(|| Error::bad_params(format!("this library has no stage `{stage}`")))?;
            (registration.create)(params)
        })();
        let instance = made.inspect_err(|e| explain(e.code(), &e.to_string()))?;
        // SAFETY: the contract makes `out` writable.
        unsafe { *out = Box::into_raw(Box::new(Live::new(instance))).cast() };
        Ok(())
    })
}

/// Runs `work` on the stage behind the pointer.
///
/// # Safety
/// `stage` must come from `create` and `call` must be a call as the contract describes.
unsafe fn on_stage(
    stage: *mut c_void,
    call: *const v1::Call,
    work: impl FnOnce(&Live, &v1::Call) -> Result<()>,
) -> i32 {
    // SAFETY: forwarded; NULL is refused.
    let (Some(live), Some(raw)) = (unsafe { stage.cast::<Live>().as_ref() }, unsafe { call.as_ref() }) else {
        return status::INTERNAL;
    };
    // SAFETY: host and token of this call.
    guarded(|code, text| unsafe { say(raw.host, raw.ctx, code, text) }, || work(live, raw))
}

unsafe extern "C" fn prepare(stage: *mut c_void, call: *const v1::Call, ports: *const v1::Port, n: u64) -> i32 {
    // SAFETY: forwarded from the host.
    unsafe { on_stage(stage, call, |live, raw| live.prepare(raw, ports, n)) }
}

unsafe extern "C" fn begin(stage: *mut c_void, call: *const v1::Call, needs: *mut v1::Needs) -> i32 {
    // SAFETY: forwarded from the host.
    unsafe {
        on_stage(stage, call, |live, raw| {
            let needs = needs.as_mut().ok_or_else(|| Error::internal("begin without needs"))?;
            live.begin(raw, needs)
        })
    }
}

unsafe extern "C" fn process(stage: *mut c_void, call: *const v1::Call) -> i32 {
    // SAFETY: forwarded from the host.
    unsafe { on_stage(stage, call, |live, raw| live.process(raw)) }
}

unsafe extern "C" fn end(stage: *mut c_void, call: *const v1::Call) -> i32 {
    // SAFETY: forwarded from the host.
    unsafe { on_stage(stage, call, |live, raw| live.end(raw)) }
}

unsafe extern "C" fn destroy(stage: *mut c_void) {
    if !stage.is_null() {
        // SAFETY: made by `create`, destroyed once, idle.
        let live = unsafe { Box::from_raw(stage.cast::<Live>()) };
        // A panic while dropping must not cross the boundary; there is nobody left to tell.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(live)));
    }
}

unsafe extern "C" fn extension(_stage: v1::Str, name: v1::Str) -> *const c_void {
    // SAFETY: host text, alive for the call.
    match unsafe { name.text() } {
        Some(layout::NAME) => std::ptr::from_ref(&layout::TABLE).cast(),
        _ => std::ptr::null(),
    }
}

/// Registers one stage of this library (or of the host): `stage!("id", slice, Type)`.
#[macro_export]
macro_rules! stage {
    ($id:expr, $scope:ident, $stage:ty) => {
        $crate::inventory::submit! {
            $crate::Registration { stage: $id, create: $crate::scope_of::$scope::<$stage> }
        }
    };
}

/// Exports the library's one symbol, embeds plugin.toml and registers the stages:
/// `export_plugin! { manifest: "../plugin.toml", stages: { "hu-window" => slice HuWindow } }`.
#[macro_export]
macro_rules! export_plugin {
    (manifest: $manifest:literal, stages: { $($id:literal => $scope:ident $stage:ty),+ $(,)? }) => {
        $( $crate::stage!($id, $scope, $stage); )+

        /// The library's entry, read by the host.
        #[unsafe(no_mangle)]
        #[allow(non_upper_case_globals, unsafe_code)]
        pub static gantry_plugin_v1: $crate::abi::v1::Entry = $crate::entry(include_str!($manifest));

        #[used]
        #[allow(unsafe_code)]
        #[unsafe(link_section = ".gantry.v1")]
        static GANTRY_SECTION: [u8; $crate::abi::section::LEN] = $crate::section(include_bytes!($manifest));
    };
}
