//! Asking the host's own services, and turning `series` faults into stage errors.

use gantry_plugin::{Call, Element, Error, Geometry, OutputImage, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::engine::PaddingRun;
use crate::series::{self, Fault, SeriesRecord};

/// The answer of `gantry.source/1`.
#[derive(Deserialize)]
pub struct Source {
    /// The series of this case.
    pub source: SeriesRecord,
    /// The run's input folders.
    pub roots: Vec<std::path::PathBuf>,
    /// For each instance: the SOP Instance UID that `gantry.pseudonym/1` gives for its own; empty where there is no key.
    #[serde(default)]
    pub mapped: Vec<String>,
}

/// Asks a service that answers with JSON.
///
/// # Errors
/// If the host refuses, or its answer is not of the wanted form.
pub fn ask<T: DeserializeOwned>(call: &Call, name: &str, request: &str) -> Result<T> {
    let answer = call.service(name, request)?;
    serde_json::from_str(&answer).map_err(|e| Error::service(format!("{name}: {e}")))
}

/// Padding of slice `z` of the image that arrives.
///
/// # Errors
/// As [`ask`].
pub fn padding(call: &Call, z: usize) -> Result<Vec<PaddingRun>> {
    #[derive(Deserialize)]
    struct Answer {
        runs: Vec<PaddingRun>,
    }
    let answer: Answer = ask(call, "gantry.padding/1", &format!("{{\"get\": {z}}}"))?;
    Ok(answer.runs)
}

/// Copies the slices a call asks for out of a volume `[z, y, x]` that was read whole.
///
/// # Errors
/// If nothing was read, or the call asks for a slice the volume does not have.
pub fn copy_slices<T: Element>(voxels: Option<&[T]>, output: OutputImage) -> Result<()> {
    let voxels = voxels.ok_or_else(|| Error::internal("not opened"))?;
    let z0 = output.z0();
    let mut to = output.voxels_mut::<T>()?;
    for k in 0..to.slices() {
        let plane = to.plane_mut(0, k);
        let from = (z0 + k) * plane.len();
        let source = voxels.get(from..from + plane.len());
        plane.copy_from_slice(source.ok_or_else(|| Error::internal("a slice outside the file"))?);
    }
    Ok(())
}

/// A fault of the data: the case is quarantined under the fault's code.
pub fn refuse(fault: Fault) -> Error {
    Error::bad_input(&fault.code, fault.text)
}

/// A series' geometry as it crosses the ABI: the frame of reference becomes a token.
pub fn outgoing(geometry: &series::Geometry) -> Geometry {
    let frame = geometry.frame_of_reference.as_deref().unwrap_or_default();
    let digest: [u8; 32] = Sha256::digest(frame.as_bytes()).into();
    let token = u64::from_le_bytes(std::array::from_fn(|i| digest[i])).max(1);
    Geometry {
        size: geometry.size,
        affine: geometry.affine,
        slice_origins_mm: geometry.slice_origins_mm.clone(),
        frame: if frame.is_empty() { 0 } else { token },
        ..Geometry::default()
    }
}

/// A geometry that arrived over the ABI, for the functions of `series`.
pub fn arriving(geometry: Geometry) -> series::Geometry {
    series::Geometry {
        size: geometry.size,
        affine: geometry.affine,
        slice_origins_mm: geometry.slice_origins_mm,
        frame_of_reference: None,
        z_unknown: geometry.size[0] == 1,
    }
}
