//! Where the voxels of a volume lie: a value copied out of the C struct.

use gantry_abi::v1;

/// Geometry of a whole volume. LPS, millimetres.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Geometry {
    /// Slices, rows, columns: `[z, y, x]`.
    pub size: [usize; 3],
    /// 3x4 row-major: `(x, y, z, 1)` of a voxel's centre to `(L, P, S)` mm.
    pub affine: [f64; 12],
    /// Position of each slice's first voxel, where slices are not evenly spaced.
    pub slice_origins_mm: Option<Vec<[f64; 3]>>,
    /// Token: equal and not 0 means the same grid.
    pub grid: u64,
    /// Token: equal and not 0 means an integer voxel offset apart.
    pub lattice: u64,
    /// Token: equal and not 0 means the same frame of reference.
    pub frame: u64,
}

impl Geometry {
    /// Distance between neighbouring voxels along `[z, y, x]` in mm, from the columns of the affine.
    pub fn spacing_mm(&self) -> [f64; 3] {
        let column = |j: usize| (0..3).map(|i| self.affine[4 * i + j].powi(2)).sum::<f64>().sqrt();
        [column(2), column(1), column(0)]
    }

    /// # Safety
    /// `raw` must satisfy the contract of the header.
    pub(crate) unsafe fn read(raw: &v1::Geometry) -> Geometry {
        let size = raw.size.map(|n| n.max(0) as usize);
        let slice_origins_mm = (raw.flags & v1::z::IRREGULAR != 0 && !raw.slice_origin_mm.is_null()).then(|| {
            // SAFETY: the contract gives size[0] x 3 doubles when the flag is set.
            unsafe { std::slice::from_raw_parts(raw.slice_origin_mm, size[0] * 3) }
                .chunks_exact(3)
                .map(|p| [p[0], p[1], p[2]])
                .collect()
        });
        Geometry { size, affine: raw.affine, slice_origins_mm, grid: raw.grid, lattice: raw.lattice, frame: raw.frame }
    }
}
