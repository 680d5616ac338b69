//! What a stage writes to: voxels the host sized, and voxels it allocates on request.

use std::cell::Cell;
use std::marker::PhantomData;

use gantry_abi::v1::{self, kind};

use crate::instance::{Arena, Ports};
use crate::voxels::{Element, VoxelsMut};
use crate::{Call, Error, Geometry, Map, Result};

/// The outputs of one call. Each output is handed out once, so two of them can be written side by side.
pub struct Outputs<'a> {
    items: *mut v1::Item,
    taken: Vec<Cell<bool>>,
    ports: &'a Ports,
    arena: &'a Arena,
    life: PhantomData<&'a mut v1::Item>,
}

/// One image or label map to write.
pub struct OutputImage<'a> {
    item: &'a mut v1::Item,
}

impl<'a> Outputs<'a> {
    /// # Safety
    /// `raw` must be a call as the contract describes, alive for `'a`, whose outputs nobody else uses.
    pub(crate) unsafe fn new(raw: &'a v1::Call, ports: &'a Ports, arena: &'a Arena) -> Outputs<'a> {
        let count = if raw.out.is_null() { 0 } else { raw.n_out as usize };
        Outputs { items: raw.out, taken: vec![Cell::new(false); count], ports, arena, life: PhantomData }
    }

    fn find(&self, port: &str, element: Option<&str>) -> Result<Option<usize>> {
        let index = self.ports.index(port, true)?;
        for i in 0..self.taken.len() {
            // SAFETY: i < n_out; only `port` and `name` are read, which no `OutputImage` writes.
            let (found, name) = unsafe { ((*self.items.add(i)).port, (*self.items.add(i)).name) };
            // SAFETY: host text, alive for the call.
            if found == index && element.is_none_or(|e| unsafe { name.text() } == Some(e)) {
                return Ok(Some(i));
            }
        }
        Ok(None)
    }

    fn take(&self, port: &str, element: Option<&str>, wanted: u32) -> Result<Option<OutputImage<'a>>> {
        let Some(i) = self.find(port, element)? else { return Ok(None) };
        if self.taken[i].replace(true) {
            return Err(Error::internal(format!("output `{port}` was asked for twice in one call")));
        }
        // SAFETY: i < n_out, and the flag just set makes this the only reference.
        let item = unsafe { &mut *self.items.add(i) };
        if item.kind != wanted {
            return Err(Error::internal(format!("port `{port}` is of kind {}, asked for as {wanted}", item.kind)));
        }
        Ok(Some(OutputImage { item }))
    }

    fn demand(&self, port: &str, wanted: u32) -> Result<OutputImage<'a>> {
        self.take(port, None, wanted)?.ok_or_else(|| Error::internal(format!("the host made no output `{port}`")))
    }

    /// The image of a required port.
    pub fn image(&self, port: &str) -> Result<OutputImage<'a>> {
        self.demand(port, kind::IMAGE)
    }

    /// The image of an optional port: `None` where nobody reads it, and it need not be computed.
    pub fn optional_image(&self, port: &str) -> Result<Option<OutputImage<'a>>> {
        self.take(port, None, kind::IMAGE)
    }

    /// The label map of a required port.
    pub fn labels(&self, port: &str) -> Result<OutputImage<'a>> {
        self.demand(port, kind::LABELS)
    }

    /// The label map of an optional port.
    pub fn optional_labels(&self, port: &str) -> Result<Option<OutputImage<'a>>> {
        self.take(port, None, kind::LABELS)
    }

    /// One element (its decimal index) of a `many` image port.
    pub fn element(&self, port: &str, element: &str) -> Result<Option<OutputImage<'a>>> {
        self.take(port, Some(element), kind::IMAGE)
    }

    /// Voxels for an output with `size = "data"` or one more element of a `many` port, in `process`.
    ///
    /// # Errors
    /// If the host refuses the size.
    pub fn allocate<T: Element>(
        &self,
        call: &Call,
        port: &str,
        element: &str,
        shape: [usize; 4],
        geometry: &Geometry,
    ) -> Result<VoxelsMut<'a, T>> {
        let index = self.ports.index(port, true)?;
        let mut item = v1::Item::new(index, self.ports.kind(index));
        item.name = self.arena.text(element);
        item.tensor.dtype = T::DTYPE;
        item.tensor.shape = shape.map(|n| n as i64);
        item.geometry = self.arena.geometry(geometry);
        call.allocate(&mut item)?;
        // SAFETY: the host just gave these voxels to this call alone.
        unsafe { VoxelsMut::new(&item.tensor) }
    }
}

impl<'a> OutputImage<'a> {
    /// The voxels to write: every one of them.
    ///
    /// # Errors
    /// If the output is of another voxel type.
    pub fn voxels_mut<T: Element>(self) -> Result<VoxelsMut<'a, T>> {
        // SAFETY: an output handed out once, so this is the only view.
        unsafe { VoxelsMut::new(&self.item.tensor) }
    }

    /// Voxels and maps together.
    pub fn voxels_and_maps<T: Element>(mut self) -> Result<(VoxelsMut<'a, T>, &'a mut [Map])> {
        let maps = self.maps_raw();
        Ok((self.voxels_mut()?, maps))
    }

    fn maps_raw(&mut self) -> &'a mut [Map] {
        let n = (self.item.tensor.shape[0].max(0) * self.item.tensor.shape[1].max(0)) as usize;
        if self.item.maps.is_null() || n == 0 {
            return &mut [];
        }
        // SAFETY: the contract gives shape[0] x shape[1] writable maps on out items; handed out once.
        unsafe { std::slice::from_raw_parts_mut(self.item.maps, n) }
    }

    /// The maps to write, `[C][Z]`, pre-filled from the `like` input; empty where the output has none.
    pub fn maps_mut(&mut self) -> &mut [Map] {
        self.maps_raw()
    }

    /// Index in the volume of the first slice to produce.
    pub fn z0(&self) -> usize {
        self.item.z0.max(0) as usize
    }

    /// `[C, Z, Y, X]` to produce in this call.
    pub fn shape(&self) -> [usize; 4] {
        self.item.tensor.shape.map(|n| n.max(0) as usize)
    }
}
