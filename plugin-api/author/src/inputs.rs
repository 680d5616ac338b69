//! What arrives on a stage's input ports.

use gantry_abi::v1::{self, kind};

use crate::instance::Ports;
use crate::label::Label;
use crate::voxels::{Element, Voxels};
use crate::{Error, Geometry, Map, Result};

/// The inputs of one call.
pub struct Inputs<'a> {
    items: &'a [v1::Item],
    ports: &'a Ports,
}

// SAFETY: inputs are read-only host memory for the duration of the call.
unsafe impl Sync for Inputs<'_> {}
// SAFETY: as above.
unsafe impl Send for Inputs<'_> {}

/// One image or label map on an input port.
#[derive(Clone, Copy)]
pub struct Image<'a> {
    item: &'a v1::Item,
}

/// The headers of one series: one dataset a slice, Explicit VR Little Endian, without pixels and file meta.
pub struct Headers<'a> {
    /// Element name; the decimal index on a `many` port.
    pub name: &'a str,
    /// Datasets in slice order.
    pub datasets: Vec<&'a [u8]>,
}

impl<'a> Inputs<'a> {
    /// # Safety
    /// `raw` must be a call as the contract describes, alive for `'a`.
    pub(crate) unsafe fn new(raw: &'a v1::Call, ports: &'a Ports) -> Inputs<'a> {
        let items = if raw.n_in == 0 || raw.input.is_null() {
            &[][..]
        } else {
            // SAFETY: the contract gives n_in items.
            unsafe { std::slice::from_raw_parts(raw.input, raw.n_in as usize) }
        };
        Inputs { items, ports }
    }

    fn of(&self, port: &str) -> Result<impl Iterator<Item = &'a v1::Item> + use<'a>> {
        let index = self.ports.index(port, false)?;
        let items = self.items;
        Ok(items.iter().filter(move |item| item.port == index))
    }

    fn voxel_items(&self, port: &str, wanted: u32) -> Result<Vec<Image<'a>>> {
        self.of(port)?
            .map(|item| match item.kind {
                k if k == wanted => Ok(Image { item }),
                k => Err(Error::internal(format!("port `{port}` carries kind {k}, asked for as kind {wanted}"))),
            })
            .collect()
    }

    fn one(&self, port: &str, wanted: u32) -> Result<Image<'a>> {
        self.optional(port, wanted)?.ok_or_else(|| Error::internal(format!("nothing arrived on port `{port}`")))
    }

    fn optional(&self, port: &str, wanted: u32) -> Result<Option<Image<'a>>> {
        Ok(self.voxel_items(port, wanted)?.into_iter().next())
    }

    /// The image on a port with count `one`.
    pub fn image(&self, port: &str) -> Result<Image<'a>> {
        self.one(port, kind::IMAGE)
    }

    /// The image on an `optional` port, if there is one.
    pub fn optional_image(&self, port: &str) -> Result<Option<Image<'a>>> {
        self.optional(port, kind::IMAGE)
    }

    /// The images on a `many` port in pipeline order, or on a `named` port in the order of its names.
    pub fn images(&self, port: &str) -> Result<Vec<Image<'a>>> {
        self.voxel_items(port, kind::IMAGE)
    }

    /// The label map on a port with count `one`.
    pub fn labels(&self, port: &str) -> Result<Image<'a>> {
        self.one(port, kind::LABELS)
    }

    /// The label map on an `optional` port, if there is one.
    pub fn optional_labels(&self, port: &str) -> Result<Option<Image<'a>>> {
        self.optional(port, kind::LABELS)
    }

    /// The label maps on a `many` or `named` port.
    pub fn label_maps(&self, port: &str) -> Result<Vec<Image<'a>>> {
        self.voxel_items(port, kind::LABELS)
    }

    /// The JSON text of a record or table on a port, if there is one.
    pub fn json(&self, port: &str) -> Result<Option<&'a str>> {
        let Some(item) = self.of(port)?.next() else { return Ok(None) };
        // SAFETY: host text, alive for the call.
        let text = unsafe { item.bytes.text() };
        text.map(Some).ok_or_else(|| Error::internal(format!("port `{port}` does not carry text")))
    }

    /// The bytes of files on a port, with their names.
    pub fn files(&self, port: &str) -> Result<Vec<(&'a str, &'a [u8])>> {
        self.of(port)?
            .map(|item| {
                // SAFETY: host memory, alive for the call.
                let both = unsafe { item.name.text().zip(item.bytes.bytes()) };
                both.ok_or_else(|| Error::internal(format!("port `{port}` carries a malformed file")))
            })
            .collect()
    }

    /// The headers of every series on a port whose `view` is `headers` or `both`.
    pub fn headers(&self, port: &str) -> Result<Vec<Headers<'a>>> {
        self.of(port)?
            .map(|item| headers(item).ok_or_else(|| Error::internal(format!("port `{port}` carries no headers"))))
            .collect()
    }
}

fn headers(item: &v1::Item) -> Option<Headers<'_>> {
    // SAFETY: host memory, alive for the call.
    let (name, bytes) = unsafe { (item.name.text()?, item.bytes.bytes()?) };
    if item.n_parts == 0 {
        return Some(Headers { name, datasets: Vec::new() });
    }
    if item.parts.is_null() {
        return None;
    }
    // SAFETY: the contract gives n_parts + 1 offsets.
    let offsets = unsafe { std::slice::from_raw_parts(item.parts, item.n_parts as usize + 1) };
    let datasets = offsets
        .windows(2)
        .map(|w| bytes.get(usize::try_from(w[0]).ok()?..usize::try_from(w[1]).ok()?))
        .collect::<Option<_>>()?;
    Some(Headers { name, datasets })
}

impl<'a> Image<'a> {
    pub(crate) fn new(item: &'a v1::Item) -> Image<'a> {
        Image { item }
    }

    /// Element name on a `named` port, decimal index on a `many` port, else empty.
    pub fn name(&self) -> &'a str {
        // SAFETY: host text, alive for the call.
        unsafe { self.item.name.text() }.unwrap_or_default()
    }

    /// Voxels of this call.
    ///
    /// # Errors
    /// If the voxels are of another type.
    pub fn voxels<T: Element>(&self) -> Result<Voxels<'a, T>> {
        // SAFETY: an input of the call, read-only for its duration.
        unsafe { Voxels::new(&self.item.tensor) }
    }

    /// The voxel type, one of `gantry_abi::v1::dtype`.
    pub fn dtype(&self) -> u32 {
        self.item.tensor.dtype
    }

    /// `[C, Z, Y, X]` of this call; in `begin`, of the whole volume.
    pub fn shape(&self) -> [usize; 4] {
        self.item.tensor.shape.map(|n| n.max(0) as usize)
    }

    /// Index in the volume of the first slice of this call.
    pub fn z0(&self) -> usize {
        self.item.z0.max(0) as usize
    }

    /// Maps back to physical units, `[C][Z]`; empty where the host has none.
    pub fn maps(&self) -> &'a [Map] {
        let [c, z, ..] = self.shape();
        if self.item.maps.is_null() || c * z == 0 {
            return &[];
        }
        // SAFETY: the contract gives shape[0] x shape[1] maps.
        unsafe { std::slice::from_raw_parts(self.item.maps, c * z) }
    }

    /// The map of channel `c` and slice `z` of this call.
    pub fn map(&self, c: usize, z: usize) -> Option<Map> {
        self.maps().get(c * self.shape()[1] + z).copied()
    }

    /// Geometry of the whole volume.
    pub fn geometry(&self) -> Result<Geometry> {
        // SAFETY: the contract makes it a valid pointer on images and labels.
        let raw = unsafe { self.item.geometry.as_ref() }.ok_or_else(|| Error::internal("an image without geometry"))?;
        // SAFETY: as above.
        Ok(unsafe { Geometry::read(raw) })
    }

    /// Channel names.
    pub fn channels(&self) -> Vec<&'a str> {
        if self.item.channels.is_null() {
            return Vec::new();
        }
        // SAFETY: the contract gives shape[0] names.
        let names = unsafe { std::slice::from_raw_parts(self.item.channels, self.shape()[0]) };
        // SAFETY: host text, alive for the call.
        names.iter().map(|s| unsafe { s.text() }.unwrap_or_default()).collect()
    }

    /// Rows of the label table: what every voxel value means.
    pub fn label_table(&self) -> Vec<Label<'a>> {
        if self.item.labels.is_null() {
            return Vec::new();
        }
        // SAFETY: the contract gives n_labels rows.
        let rows = unsafe { std::slice::from_raw_parts(self.item.labels, self.item.n_labels as usize) };
        // SAFETY: host text, alive for the call.
        let text = |s: &'a v1::Str| unsafe { s.text() }.unwrap_or_default();
        let row = |l: &'a v1::Label| Label {
            value: l.value,
            name: text(&l.name),
            scheme: text(&l.scheme),
            code: text(&l.code),
            rgba: l.rgba,
        };
        rows.iter().map(row).collect()
    }

    /// Headers of the slices of this call, on a port whose `view` is `both`.
    pub fn headers(&self) -> Result<Headers<'a>> {
        headers(self.item).ok_or_else(|| Error::internal("an image with malformed headers"))
    }
}
