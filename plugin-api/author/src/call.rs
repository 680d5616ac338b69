//! One call of the host, and what a stage may ask of it.

use gantry_abi::v1::{self, level, status};

use crate::instance::Ports;
use crate::{Error, Result};

/// One call: the host's functions, seeds and budgets. May be shared with threads that end before the call returns.
pub struct Call<'a> {
    raw: &'a v1::Call,
    host: &'a v1::Host,
    ports: &'a Ports,
}

// SAFETY: every host function may be used from any thread during a call; the rest is read-only.
unsafe impl Sync for Call<'_> {}
// SAFETY: as above.
unsafe impl Send for Call<'_> {}

macro_rules! host_fn {
    ($call:expr, $name:ident ( $($arg:expr),* )) => {{
        let function = $call.host.$name.ok_or_else(|| Error::internal(concat!("the host offers no `", stringify!($name), "`")))?;
        // SAFETY: a function of the host's table, with this call's token, during the call.
        unsafe { function($call.raw.ctx, $($arg),*) }
    }};
}

impl<'a> Call<'a> {
    /// # Safety
    /// `raw` must be a call as the contract describes, alive for `'a`.
    pub(crate) unsafe fn new(raw: &'a v1::Call, ports: &'a Ports) -> Result<Call<'a>> {
        // SAFETY: the contract makes `host` a valid pointer for the call.
        let host = unsafe { raw.host.as_ref() }.ok_or_else(|| Error::internal("the call has no host table"))?;
        Ok(Call { raw, host, ports })
    }

    pub(crate) fn raw(&self) -> &'a v1::Call {
        self.raw
    }

    pub(crate) fn ports(&self) -> &'a Ports {
        self.ports
    }

    /// Whether the host wants the call to end; return [`Error::Cancelled`] soon. Cheap.
    pub fn cancelled(&self) -> bool {
        // SAFETY: as in `host_fn`.
        self.host.cancelled.is_some_and(|f| unsafe { f(self.raw.ctx) } != 0)
    }

    /// [`Error::Cancelled`] if the host wants the call to end: `call.go_on()?` inside long loops.
    pub fn go_on(&self) -> Result<()> {
        if self.cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Monotonic progress; also proves life to the watchdog.
    pub fn progress(&self, done: u64, total: u64) {
        if let Some(f) = self.host.progress {
            // SAFETY: as in `host_fn`.
            unsafe { f(self.raw.ctx, done, total) }
        }
    }

    fn report(&self, level: i32, code: &str, port: i32, text: &str) {
        if let Some(f) = self.host.report {
            // SAFETY: as in `host_fn`; both texts outlive the call.
            unsafe { f(self.raw.ctx, level, v1::Str::new(code.as_bytes()), port, v1::Str::new(text.as_bytes())) }
        }
    }

    pub(crate) fn error(&self, error: &Error) {
        self.report(level::ERROR, error.code(), -1, &error.to_string());
    }

    /// Something a reader of the result must know; ends up in run.json. No patient text.
    pub fn warn(&self, code: &str, text: &str) {
        self.report(level::WARN, code, -1, text);
    }

    /// A line for the log. No patient text.
    pub fn info(&self, text: &str) {
        self.report(level::INFO, "", -1, text);
    }

    /// A file of the checkpoint chosen by parameter `param`: verified, read-only, 64-byte aligned, alive as long as the
    /// instance. `card.json` is the card.
    pub fn checkpoint(&self, param: &str, file: &str) -> Result<&'static [u8]> {
        let mut out = v1::Str::EMPTY;
        let status =
            host_fn!(self, checkpoint(v1::Str::new(param.as_bytes()), v1::Str::new(file.as_bytes()), &mut out));
        if status != status::OK {
            return Err(Error::bad_weights(format!("checkpoint of `{param}` has no file `{file}`")));
        }
        // SAFETY: the contract keeps checkpoint bytes alive until `destroy` returns. The author crate hands the bytes
        // to the instance only, which cannot outlive its own destruction.
        unsafe { out.bytes() }.ok_or_else(|| Error::internal("the host gave a malformed checkpoint file"))
    }

    /// A host service by versioned name, JSON in and out; only names listed under `services` in plugin.toml.
    pub fn service(&self, name: &str, request: &str) -> Result<String> {
        let mut out = v1::Str::EMPTY;
        let status = host_fn!(self, service(v1::Str::new(name.as_bytes()), v1::Str::new(request.as_bytes()), &mut out));
        Error::from_status(status, name)?;
        // SAFETY: valid until this call returns; copied here.
        let text = unsafe { out.text() }.ok_or_else(|| Error::service(format!("`{name}` did not answer with text")))?;
        Ok(text.to_owned())
    }

    /// Says which arithmetic (`f32`, `f32x3`, `bf16`, `int8`) and which instructions ([`Isa::name`](crate::Isa::name), or a
    /// device's own word) the stage computes with: run.json tells it. In `prepare` or `begin`; the stage lists the service
    /// `gantry.kernels/1`. Words that contradict its parameters `precision` and `instructions` are refused by the host.
    pub fn kernels(&self, precision: &str, instructions: &str) -> Result<()> {
        let request = serde_json::json!({ "precision": precision, "instructions": instructions });
        self.service("gantry.kernels/1", &request.to_string()).map(|_| ())
    }

    /// Publishes bytes on an output port: a record or table (`name` empty), one dataset of a headers port (`name` is the
    /// decimal index of the series on a `many` port), or a file (`name` is its name; the same name again appends).
    pub fn emit(&self, port: &str, name: &str, bytes: &[u8]) -> Result<()> {
        let index = self.ports.index(port, true)?;
        let status = host_fn!(self, emit(index, v1::Str::new(name.as_bytes()), v1::Str::new(bytes)));
        Error::from_status(status, "emit")
    }

    /// Announces an own allocation of more than a few megabytes: `+n` before, `-n` after.
    pub fn reserve(&self, bytes: i64) -> Result<()> {
        let status = host_fn!(self, reserve(v1::DEVICE_CPU, bytes));
        Error::from_status(status, "reserve")
    }

    /// Asks the host for a frozen table by versioned name; NULL where it is not offered.
    pub fn extension(&self, name: &str) -> *const std::ffi::c_void {
        match self.host.extension {
            // SAFETY: as in `host_fn`.
            Some(f) => unsafe { f(self.raw.ctx, v1::Str::new(name.as_bytes())) },
            None => std::ptr::null(),
        }
    }

    pub(crate) fn allocate(&self, item: &mut v1::Item) -> Result<()> {
        let status = host_fn!(self, allocate(std::ptr::from_mut(item)));
        Error::from_status(status, "allocate")
    }

    /// CPU threads this call may keep busy, at least 1.
    pub fn threads(&self) -> usize {
        self.raw.threads.max(1) as usize
    }

    /// f(run seed, case, node). Mix in the slice index: a result must not depend on batching.
    pub fn seed(&self) -> [u64; 2] {
        self.raw.seed
    }

    /// Index of the case in the run, never an identity.
    pub fn case_no(&self) -> u64 {
        self.raw.case_no
    }

    /// Bytes of host memory the stage may hold of its own; `None`: unknown.
    pub fn host_budget(&self) -> Option<u64> {
        (self.raw.host_budget != 0).then_some(self.raw.host_budget)
    }

    /// In `end`: whether the case failed or was cancelled.
    pub fn abandoned(&self) -> bool {
        self.raw.flags & v1::ABANDONED != 0
    }
}
