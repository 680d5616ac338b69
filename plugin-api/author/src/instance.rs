//! One live stage behind the C entry points: its ports, the memory it lent to the host, and the locks that keep a
//! mistaken host from aliasing it.

use std::sync::{Mutex, OnceLock, RwLock};

use gantry_abi::v1::{self, kind};

use crate::label::Label;
use crate::{
    Call, CaseStage, CohortStage, Error, Geometry, Inputs, Needs, Opening, Outputs, Result, SlabStage, SliceStage,
    VolumeStage,
};

/// The ports as `prepare` described them, inputs first.
#[derive(Debug, Default)]
pub struct Ports {
    ports: Vec<PortInfo>,
}

#[derive(Debug)]
struct PortInfo {
    name: String,
    caps: serde_json::Value,
    output: bool,
    connected: bool,
}

impl Ports {
    /// # Safety
    /// `ports` must point to `n` ports as the contract describes.
    pub(crate) unsafe fn read(ports: *const v1::Port, n: u64) -> Result<Ports> {
        let raw = if n == 0 || ports.is_null() {
            &[][..]
        } else {
            // SAFETY: forwarded.
            unsafe { std::slice::from_raw_parts(ports, n as usize) }
        };
        let wrong = || Error::internal("the host described a port in malformed text");
        let ports = raw
            .iter()
            .map(|p| {
                // SAFETY: host text, alive for the call.
                let (name, caps) = unsafe { p.name.text().zip(p.caps.text()) }.ok_or_else(wrong)?;
                let caps = serde_json::from_str(caps).map_err(|_| wrong())?;
                Ok(PortInfo { name: name.to_owned(), caps, output: p.output != 0, connected: p.connected != 0 })
            })
            .collect::<Result<_>>()?;
        Ok(Ports { ports })
    }

    pub(crate) fn index(&self, name: &str, output: bool) -> Result<u32> {
        let at = self.ports.iter().position(|p| p.name == name && p.output == output);
        at.map(|i| i as u32).ok_or_else(|| {
            let side = if output { "output" } else { "input" };
            Error::internal(format!("plugin.toml names no {side} port `{name}`"))
        })
    }

    pub(crate) fn kind(&self, index: u32) -> u32 {
        let caps = self.ports.get(index as usize).map(|p| &p.caps["kind"]);
        match caps.and_then(|k| k.as_str()) {
            Some("labels") => kind::LABELS,
            Some("headers") => kind::HEADERS,
            Some("record") => kind::RECORD,
            Some("table") => kind::TABLE,
            Some("file") => kind::FILE,
            _ => kind::IMAGE,
        }
    }

    /// Whether something is connected to a port.
    pub fn connected(&self, name: &str) -> bool {
        self.ports.iter().any(|p| p.name == name && p.connected)
    }

    /// Resolved caps of a port as JSON; `Null` for a port that does not exist.
    pub fn caps(&self, name: &str) -> &serde_json::Value {
        self.ports.iter().find(|p| p.name == name).map_or(&serde_json::Value::Null, |p| &p.caps)
    }
}

/// Memory lent to the host until `end`: texts, geometries and tables stored in out items.
#[derive(Default)]
pub struct Arena {
    kept: Mutex<Vec<Kept>>,
}

#[expect(dead_code, reason = "held only to keep the memory alive until `end`")]
enum Kept {
    Text(Box<str>),
    Texts(Box<[v1::Str]>),
    Geometry(Box<v1::Geometry>),
    Doubles(Box<[f64]>),
    Labels(Box<[v1::Label]>),
}

// SAFETY: the pointers inside point into other boxes of the same arena; nothing is written after creation.
unsafe impl Send for Kept {}

impl Arena {
    fn keep(&self, kept: Kept) {
        self.kept.lock().unwrap_or_else(|e| e.into_inner()).push(kept);
    }

    fn clear(&self) {
        self.kept.lock().unwrap_or_else(|e| e.into_inner()).clear();
    }

    pub(crate) fn text(&self, text: &str) -> v1::Str {
        let text: Box<str> = text.into();
        let view = v1::Str::new(text.as_bytes());
        self.keep(Kept::Text(text));
        view
    }

    pub(crate) fn texts(&self, texts: &[&str]) -> *const v1::Str {
        let views: Box<[v1::Str]> = texts.iter().map(|t| self.text(t)).collect();
        let at = views.as_ptr();
        self.keep(Kept::Texts(views));
        at
    }

    pub(crate) fn geometry(&self, geometry: &Geometry) -> *mut v1::Geometry {
        let mut flags = 0;
        let mut origins = std::ptr::null();
        if let Some(positions) = &geometry.slice_origins_mm {
            let flat: Box<[f64]> = positions.iter().flatten().copied().collect();
            origins = flat.as_ptr();
            flags |= v1::z::IRREGULAR;
            self.keep(Kept::Doubles(flat));
        }
        let mut raw = Box::new(v1::Geometry {
            grid: geometry.grid,
            lattice: geometry.lattice,
            frame: geometry.frame,
            size: geometry.size.map(|n| n as i64),
            affine: geometry.affine,
            slice_origin_mm: origins,
            flags,
            reserved: 0,
        });
        let at = std::ptr::from_mut(&mut *raw);
        self.keep(Kept::Geometry(raw));
        at
    }

    pub(crate) fn labels(&self, rows: &[Label]) -> *const v1::Label {
        let rows: Box<[v1::Label]> = rows
            .iter()
            .map(|row| v1::Label {
                value: row.value,
                name: self.text(row.name),
                scheme: self.text(row.scheme),
                code: self.text(row.code),
                rgba: row.rgba,
                reserved: 0,
            })
            .collect();
        let at = rows.as_ptr();
        self.keep(Kept::Labels(rows));
        at
    }
}

/// A stage behind the entry points, whatever its scope.
pub trait Instance: Send + Sync {
    /// Forwards `prepare`.
    fn prepare(&self, call: &Call, ports: &Ports) -> Result<()>;
    /// Forwards `begin`.
    fn begin(&self, call: &Call, opening: &mut Opening) -> Result<()>;
    /// Forwards `process`.
    fn process(&self, call: &Call, inputs: &Inputs, outputs: &mut Outputs) -> Result<()>;
    /// Forwards `end`.
    fn end(&self, call: &Call) -> Result<()>;
}

fn busy() -> Error {
    Error::internal("the host called one instance from two threads at once")
}

macro_rules! adapter {
    ($make:ident, $scope:ident, $lock:ident, $write:ident, $process:ident, $($m:tt)*) => {
        /// Makes an instance of this scope from the JSON text of its parameters.
        pub fn $make<S: $scope>(params: &str) -> Result<Box<dyn Instance>> {
            struct Adapter<S>($lock<S>);
            impl<S: $scope> Instance for Adapter<S> {
                fn prepare(&self, call: &Call, ports: &Ports) -> Result<()> {
                    self.0.$write().map_err(|_| busy())?.prepare(call, ports)
                }
                fn begin(&self, call: &Call, opening: &mut Opening) -> Result<()> {
                    self.0.$write().map_err(|_| busy())?.begin(call, opening)
                }
                fn process(&self, call: &Call, inputs: &Inputs, outputs: &mut Outputs) -> Result<()> {
                    let $($m)* stage = self.0.$process().map_err(|_| busy())?;
                    stage.process(call, inputs, outputs)
                }
                fn end(&self, call: &Call) -> Result<()> {
                    self.0.$write().map_err(|_| busy())?.end(call)
                }
            }
            let params = serde_json::from_str(params).map_err(|e| Error::bad_params(e.to_string()))?;
            Ok(Box::new(Adapter($lock::new(S::create(params)?))))
        }
    };
}

adapter!(slice, SliceStage, RwLock, try_write, try_read,);
adapter!(slab, SlabStage, RwLock, try_write, try_read,);
adapter!(volume, VolumeStage, Mutex, try_lock, try_lock, mut);
adapter!(case, CaseStage, Mutex, try_lock, try_lock, mut);
adapter!(cohort, CohortStage, Mutex, try_lock, try_lock, mut);

/// What the opaque `stage` pointer points to.
pub(crate) struct Live {
    instance: Box<dyn Instance>,
    ports: OnceLock<Ports>,
    arena: Arena,
}

static NO_PORTS: Ports = Ports { ports: Vec::new() };

impl Live {
    pub(crate) fn new(instance: Box<dyn Instance>) -> Live {
        Live { instance, ports: OnceLock::new(), arena: Arena::default() }
    }

    /// # Safety
    /// The arguments must be those of a call of `prepare`.
    pub(crate) unsafe fn prepare(&self, raw: &v1::Call, ports: *const v1::Port, n: u64) -> Result<()> {
        // SAFETY: forwarded.
        let ports = unsafe { Ports::read(ports, n) }?;
        self.ports.set(ports).map_err(|_| Error::internal("prepare was called twice"))?;
        let ports = self.ports.get().unwrap_or(&NO_PORTS);
        // SAFETY: forwarded.
        unsafe { self.with_call(raw, |call| self.instance.prepare(call, ports)) }
    }

    /// # Safety
    /// The arguments must be those of a call of `begin`.
    pub(crate) unsafe fn begin(&self, raw: &v1::Call, needs: &mut Needs) -> Result<()> {
        self.arena.clear();
        let ports = self.ports.get().unwrap_or(&NO_PORTS);
        // SAFETY: forwarded.
        unsafe {
            let mut opening = Opening::new(raw, ports, &self.arena, needs);
            self.with_call(raw, |call| self.instance.begin(call, &mut opening))
        }
    }

    /// # Safety
    /// `raw` must be a call of `process`.
    pub(crate) unsafe fn process(&self, raw: &v1::Call) -> Result<()> {
        let ports = self.ports.get().unwrap_or(&NO_PORTS);
        // SAFETY: forwarded.
        unsafe {
            let inputs = Inputs::new(raw, ports);
            let mut outputs = Outputs::new(raw, ports, &self.arena);
            self.with_call(raw, |call| self.instance.process(call, &inputs, &mut outputs))
        }
    }

    /// # Safety
    /// `raw` must be a call of `end`.
    pub(crate) unsafe fn end(&self, raw: &v1::Call) -> Result<()> {
        // SAFETY: forwarded.
        let result = unsafe { self.with_call(raw, |call| self.instance.end(call)) };
        self.arena.clear();
        result
    }

    /// Runs `work` with a view of the call; a failure is explained to the host before its status goes back.
    ///
    /// # Safety
    /// `raw` must be a call as the contract describes.
    unsafe fn with_call(&self, raw: &v1::Call, work: impl FnOnce(&Call) -> Result<()>) -> Result<()> {
        // SAFETY: forwarded.
        let call = unsafe { Call::new(raw, self.ports.get().unwrap_or(&NO_PORTS)) }?;
        debug_assert!(
            std::ptr::eq(call.raw(), raw) && std::ptr::eq(call.ports(), self.ports.get().unwrap_or(&NO_PORTS))
        );
        let result = work(&call);
        if let Err(error) = &result {
            call.error(error);
        }
        result
    }
}
