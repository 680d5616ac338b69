//! Checked views of voxels: `[C, Z, Y, X]`, dense planes, one element type.

use std::marker::PhantomData;

use gantry_abi::v1::{self, dtype};

use crate::{Error, Result};

mod sealed {
    pub trait Sealed {}
}

/// A voxel type that Rust has natively. (Half types cross as their bits; convert with a crate of your choice.)
pub trait Element: sealed::Sealed + Copy + Send + Sync + 'static {
    /// The ABI's word for it.
    const DTYPE: u32;
}

macro_rules! elements {
    ($($t:ty => $d:ident),*) => { $(
        impl sealed::Sealed for $t {}
        impl Element for $t { const DTYPE: u32 = dtype::$d; }
    )* };
}
elements!(i8 => I8, i16 => I16, i32 => I32, i64 => I64, u8 => U8, u16 => U16, u32 => U32, f32 => F32, f64 => F64);

#[derive(Clone, Copy)]
struct Frame {
    shape: [usize; 4],
    stride: [usize; 2], // of C and Z, in elements
}

impl Frame {
    fn check<T: Element>(tensor: &v1::Tensor) -> Result<Frame> {
        if tensor.dtype != T::DTYPE {
            let name = |d| dtype::name(d).unwrap_or("unknown");
            return Err(Error::internal(format!("voxels are {}, asked for as {}", name(tensor.dtype), name(T::DTYPE))));
        }
        let wrong = || Error::internal("the host handed over a malformed tensor");
        let size = |n: i64| usize::try_from(n).map_err(|_| wrong());
        let [c, z, y, x] = tensor.shape;
        let shape = [size(c)?, size(z)?, size(y)?, size(x)?];
        let stride = [size(tensor.stride[0])?, size(tensor.stride[1])?];
        let dense = tensor.stride[3] == 1 && tensor.stride[2] == x;
        if !dense || tensor.device_type != v1::DEVICE_CPU {
            return Err(wrong());
        }
        if shape.contains(&0) {
            return Ok(Frame { shape, stride });
        }
        let last = (shape[0] - 1)
            .checked_mul(stride[0])
            .and_then(|n| n.checked_add((shape[1] - 1).checked_mul(stride[1])?))
            .and_then(|n| n.checked_add(shape[2].checked_mul(shape[3])?))
            .and_then(|n| n.checked_mul(size_of::<T>()))
            .ok_or_else(wrong)?;
        let aligned = (tensor.data as usize).is_multiple_of(align_of::<T>());
        if tensor.data.is_null() || !aligned || (last as u64) > tensor.byte_len {
            return Err(wrong());
        }
        Ok(Frame { shape, stride })
    }

    fn plane(&self, c: usize, z: usize) -> (usize, usize) {
        assert!(c < self.shape[0] && z < self.shape[1], "plane ({c}, {z}) of {:?}", self.shape);
        (c * self.stride[0] + z * self.stride[1], self.shape[2] * self.shape[3])
    }
}

macro_rules! measures {
    () => {
        /// Channels.
        pub fn channels(&self) -> usize {
            self.frame.shape[0]
        }
        /// Slices in this call.
        pub fn slices(&self) -> usize {
            self.frame.shape[1]
        }
        /// Rows of a slice.
        pub fn rows(&self) -> usize {
            self.frame.shape[2]
        }
        /// Columns of a slice.
        pub fn columns(&self) -> usize {
            self.frame.shape[3]
        }
        /// `[C, Z, Y, X]`.
        pub fn shape(&self) -> [usize; 4] {
            self.frame.shape
        }
        /// Every `(c, z)`, channels outermost.
        pub fn planes(&self) -> impl Iterator<Item = (usize, usize)> + use<T> {
            let [channels, slices, ..] = self.frame.shape;
            (0..channels).flat_map(move |c| (0..slices).map(move |z| (c, z)))
        }
    };
}

/// Read-only voxels.
#[derive(Clone, Copy)]
pub struct Voxels<'a, T> {
    data: *const T,
    frame: Frame,
    life: PhantomData<&'a [T]>,
}

// SAFETY: a `Voxels` is a shared slice with strides; inputs are read-only for the duration of the call.
unsafe impl<T: Element> Send for Voxels<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Element> Sync for Voxels<'_, T> {}

impl<'a, T: Element> Voxels<'a, T> {
    /// # Safety
    /// The tensor must be readable for `'a` as the contract says.
    pub(crate) unsafe fn new(tensor: &v1::Tensor) -> Result<Voxels<'a, T>> {
        let frame = Frame::check::<T>(tensor)?;
        Ok(Voxels { data: tensor.data.cast_const().cast(), frame, life: PhantomData })
    }

    measures!();

    /// One slice of one channel, row by row.
    ///
    /// # Panics
    /// If `c` or `z` is out of range.
    pub fn plane(&self, c: usize, z: usize) -> &'a [T] {
        let (at, len) = self.frame.plane(c, z);
        if len == 0 {
            return &[];
        }
        // SAFETY: `Frame::check` proved that every plane lies inside the readable span, and the input lives for 'a.
        unsafe { std::slice::from_raw_parts(self.data.add(at), len) }
    }

    /// All voxels as one array `[C, Z, Y, X]`, where the host laid them out without gaps.
    pub fn contiguous(&self) -> Option<&'a [T]> {
        let [channels, slices, rows, columns] = self.frame.shape;
        let plane = rows * columns;
        let len = channels * slices * plane;
        if len == 0 {
            return Some(&[]);
        }
        let no_gap =
            (slices == 1 || self.frame.stride[1] == plane) && (channels == 1 || self.frame.stride[0] == slices * plane);
        // SAFETY: without gaps the last voxel, which `Frame::check` proved to lie inside the readable span, is number
        // `len - 1`; the input lives for 'a.
        no_gap.then(|| unsafe { std::slice::from_raw_parts(self.data, len) })
    }
}

/// Writable voxels, handed out once per output and call.
pub struct VoxelsMut<'a, T> {
    data: *mut T,
    frame: Frame,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: a `VoxelsMut` is an exclusive slice with strides.
unsafe impl<T: Element> Send for VoxelsMut<'_, T> {}
// SAFETY: as above; `&VoxelsMut` gives only shapes and shared planes.
unsafe impl<T: Element> Sync for VoxelsMut<'_, T> {}

impl<T: Element> VoxelsMut<'_, T> {
    /// # Safety
    /// The tensor must be writable, by nobody else, for the view's lifetime.
    pub(crate) unsafe fn new<'a>(tensor: &v1::Tensor) -> Result<VoxelsMut<'a, T>> {
        let frame = Frame::check::<T>(tensor)?;
        // Planes must not overlap, or two `&mut` planes would alias.
        let [channels, slices, rows, columns] = frame.shape;
        let plane = rows * columns;
        let z_apart = slices < 2 || frame.stride[1] >= plane;
        let c_apart = channels < 2
            || frame.stride[0] >= slices.saturating_sub(1) * frame.stride[1] + plane
            || (frame.stride[1] >= (channels - 1) * frame.stride[0] + plane && frame.stride[0] >= plane);
        if !(z_apart && c_apart) {
            return Err(Error::internal("the host handed over an output whose planes overlap"));
        }
        Ok(VoxelsMut { data: tensor.data.cast(), frame, life: PhantomData })
    }

    measures!();

    /// One slice of one channel, row by row.
    ///
    /// # Panics
    /// If `c` or `z` is out of range.
    pub fn plane_mut(&mut self, c: usize, z: usize) -> &mut [T] {
        let (at, len) = self.frame.plane(c, z);
        if len == 0 {
            return &mut [];
        }
        // SAFETY: inside the writable span, and `&mut self` makes it the only view.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(at), len) }
    }

    /// All planes at once as disjoint slices, `(c, z)` with channels outermost: what a thread pool wants.
    pub fn planes_mut(&mut self) -> Vec<&mut [T]> {
        let [channels, slices, rows, columns] = self.frame.shape;
        let len = rows * columns;
        let mut out = Vec::with_capacity(channels * slices);
        for (c, z) in (0..channels).flat_map(|c| (0..slices).map(move |z| (c, z))) {
            let (at, _) = self.frame.plane(c, z);
            // SAFETY: inside the writable span; `new` proved that planes do not overlap; `&mut self` outlives them.
            out.push(if len == 0 {
                &mut []
            } else {
                unsafe { std::slice::from_raw_parts_mut(self.data.add(at), len) }
            });
        }
        out
    }
}
