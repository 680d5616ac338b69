//! Volumes between the host's planes and one dense array.

use std::borrow::Cow;

use gantry_plugin::{Error, OutputImage, Result, Voxels};

/// All voxels as one `[C, Z, Y, X]` array; without a copy where the host's planes already lie so.
pub(crate) fn dense<'a>(voxels: &Voxels<'a, f32>) -> Cow<'a, [f32]> {
    match voxels.contiguous() {
        Some(all) => Cow::Borrowed(all),
        None => Cow::Owned(voxels.planes().flat_map(|(c, z)| voxels.plane(c, z)).copied().collect()),
    }
}

/// Writes a label volume `[z, y, x]`.
pub(crate) fn write(labels: &[u8], output: OutputImage) -> Result<()> {
    let mut voxels = output.voxels_mut::<u8>()?;
    let planes = voxels.planes_mut();
    let plane = planes.first().map_or(0, |plane| plane.len());
    if labels.len() != plane * planes.len() {
        return Err(Error::internal(format!("{} labels for {} voxels", labels.len(), plane * planes.len())));
    }
    for (to, from) in planes.into_iter().zip(labels.chunks(plane.max(1))) {
        to.copy_from_slice(from);
    }
    Ok(())
}
