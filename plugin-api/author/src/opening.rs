//! `begin`: a case is opened. Geometry is known, voxels are not there yet; new grids are sized here.

use gantry_abi::v1::{self, kind};

use crate::inputs::{Image, Inputs};
use crate::instance::{Arena, Ports};
use crate::label::Label;
use crate::{Error, Geometry, Needs, Result};

/// What `begin` sees and decides.
pub struct Opening<'a> {
    raw: &'a v1::Call,
    ports: &'a Ports,
    arena: &'a Arena,
    needs: &'a mut Needs,
}

/// One output of the case, before it has voxels.
pub struct OutputOpening<'a> {
    item: &'a mut v1::Item,
    arena: &'a Arena,
}

impl<'a> Opening<'a> {
    /// # Safety
    /// `raw` must be a call of `begin` as the contract describes, alive for `'a`.
    pub(crate) unsafe fn new(
        raw: &'a v1::Call,
        ports: &'a Ports,
        arena: &'a Arena,
        needs: &'a mut Needs,
    ) -> Opening<'a> {
        Opening { raw, ports, arena, needs }
    }

    /// The inputs: shapes of whole volumes, geometry, channels, headers and records, but no voxels.
    pub fn inputs(&self) -> Inputs<'a> {
        // SAFETY: forwarded from `new`.
        unsafe { Inputs::new(self.raw, self.ports) }
    }

    /// What the stage needs for this case, pre-filled from plugin.toml.
    pub fn needs(&mut self) -> &mut Needs {
        self.needs
    }

    /// An output, or `None` where nobody reads it.
    pub fn output(&mut self, port: &str) -> Result<Option<OutputOpening<'_>>> {
        self.outputs(port).map(|found| found.into_iter().next())
    }

    /// Every element of an output port, in order.
    pub fn outputs(&mut self, port: &str) -> Result<Vec<OutputOpening<'_>>> {
        let index = self.ports.index(port, true)?;
        let items: &mut [v1::Item] = if self.raw.out.is_null() || self.raw.n_out == 0 {
            &mut []
        } else {
            // SAFETY: the contract gives n_out items that only this call may write; `&mut self` guards the borrow.
            unsafe { std::slice::from_raw_parts_mut(self.raw.out, self.raw.n_out as usize) }
        };
        let arena = self.arena;
        Ok(items.iter_mut().filter(|i| i.port == index).map(|item| OutputOpening { item, arena }).collect())
    }
}

impl OutputOpening<'_> {
    /// This case has no such output (optional ports only).
    pub fn absent(&mut self) {
        self.item.kind = kind::ABSENT;
    }

    /// Sets the size and place of a `new` or `sub` grid.
    ///
    /// # Errors
    /// If the host gave no writable geometry: the output's grid is another's.
    pub fn set_geometry(&mut self, geometry: &Geometry) -> Result<()> {
        let [z, y, x] = geometry.size.map(|n| n as i64);
        let prepared = self.arena.geometry(geometry);
        // SAFETY: on new grids the contract makes the pointer valid and writable; NULL is refused.
        let target = unsafe { self.item.geometry.as_mut() }
            .ok_or_else(|| Error::internal("this output's grid is not the stage's to set"))?;
        // SAFETY: `prepared` was just made by the arena and lives until `end`.
        *target = unsafe { *prepared };
        self.item.tensor.shape[1] = z;
        self.item.tensor.shape[2] = y;
        self.item.tensor.shape[3] = x;
        Ok(())
    }

    /// Names the channels of an output with `channels = "dynamic"`.
    pub fn set_channels(&mut self, names: &[&str]) {
        self.item.channels = self.arena.texts(names);
        self.item.tensor.shape[0] = names.len() as i64;
    }

    /// Chooses the voxel type of an output with `dtype = "dynamic"`.
    pub fn set_dtype(&mut self, dtype: u32) {
        self.item.tensor.dtype = dtype;
    }

    /// Sets the label table of a labels output: rows of [`Label`], or of value, name and `0xRRGGBBAA`. The host puts one
    /// there already where the caps name the labels; then the new table must have the same names, whatever their values,
    /// and may have a background (value 0) besides.
    pub fn set_labels<'l, L: Into<Label<'l>> + Clone>(&mut self, rows: &[L]) {
        let rows: Vec<Label<'l>> = rows.iter().cloned().map(Into::into).collect();
        self.item.labels = self.arena.labels(&rows);
        self.item.n_labels = rows.len() as u64;
    }

    /// Shape and geometry as the host pre-filled them.
    pub fn image(&self) -> Image<'_> {
        Image::new(self.item)
    }
}
