//! Connected components of a mask, found from runs along x: memory grows with the surface, not with the volume.

use crate::bounds::Bounds;
use crate::error::{Error, Result, expect_length};

/// Which voxels are neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Connectivity {
    /// Those that share a face: 6 in space.
    Faces,
    /// Those of one slice that share a side: 4 in a plane.
    SidesInSlice,
    /// Those of one slice that share a side or a corner: 8 in a plane.
    CornersInSlice,
}

/// One component.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Component {
    /// Number of voxels.
    pub voxels: usize,
    /// Mean voxel index (z, y, x).
    pub centroid: [f64; 3],
    /// The box around it.
    pub bounds: Bounds,
}

/// A run of voxels along x.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: u32,
    end: u32,
    component: u32,
}

/// The components of a mask, in the order of their first voxels (raster order, as scipy's `label` numbers them).
#[derive(Debug, Clone)]
pub struct Components {
    size: [usize; 3],
    runs: Vec<Run>,
    /// For each row (z, y) the index of its first run; one more at the end.
    rows: Vec<usize>,
    list: Vec<Component>,
}

impl Components {
    /// Finds the components of the voxels that `inside` accepts.
    ///
    /// # Errors
    /// A length that does not fit the size, or more than 2^32 voxels along x or runs.
    pub fn find<T: Copy>(
        values: &[T],
        size: [usize; 3],
        connectivity: Connectivity,
        inside: impl Fn(T) -> bool,
    ) -> Result<Self> {
        expect_length("mask", size, values.len())?;
        let [nz, ny, nx] = size;
        if u32::try_from(values.len()).is_err() {
            return Err(Error::Range {
                what: "voxels of a mask",
                expected: "fewer than 2^32".into(),
                found: values.len(),
            });
        }
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mut runs: Vec<Run> = Vec::new();
        let mut rows = Vec::with_capacity(nz * ny + 1);
        let mut parents: Vec<u32> = Vec::new();
        for (r, row) in values.chunks(nx).enumerate() {
            rows.push(runs.len());
            let mut x = 0;
            while let Some(skip) = row[x..].iter().position(|&v| inside(v)) {
                let start = x + skip;
                x = row[start..].iter().position(|&v| !inside(v)).map_or(nx, |n| start + n);
                let component = narrow(runs.len());
                runs.push(Run { start: narrow(start), end: narrow(x), component });
                parents.push(component);
                if x == nx {
                    break;
                }
            }
            let this = rows[r]..runs.len();
            if r % ny > 0 {
                let reach = u32::from(connectivity == Connectivity::CornersInSlice);
                link(&runs, &mut parents, rows[r - 1]..rows[r], this.clone(), reach);
            }
            if r >= ny && connectivity == Connectivity::Faces {
                link(&runs, &mut parents, rows[r - ny]..rows[r - ny + 1], this, 0);
            }
        }
        rows.push(runs.len());
        let list = number(&mut runs, &rows, &mut parents, ny);
        Ok(Self { size, runs, rows, list })
    }

    /// The components, in the order of their first voxels.
    #[must_use]
    pub fn list(&self) -> &[Component] {
        &self.list
    }

    /// Calls `paint` with the voxels (a range of the volume's slice) of every run and the number of its component.
    pub fn each_run(&self, mut paint: impl FnMut(usize, std::ops::Range<usize>)) {
        let nx = self.size[2];
        for (row, at) in self.rows.windows(2).enumerate() {
            for run in &self.runs[at[0]..at[1]] {
                paint(run.component as usize, row * nx + run.start as usize..row * nx + run.end as usize);
            }
        }
    }

    /// Number of the component at a voxel, if it belongs to one.
    #[must_use]
    pub fn at(&self, [z, y, x]: [usize; 3]) -> Option<usize> {
        let row = z.checked_mul(self.size[1])?.checked_add(y)?;
        let runs = self.runs.get(*self.rows.get(row)?..*self.rows.get(row + 1)?)?;
        let run = runs.iter().find(|r| (r.start as usize..r.end as usize).contains(&x))?;
        Some(run.component as usize)
    }
}

/// The run that stands for a run's component so far.
fn root(parents: &mut [u32], mut run: u32) -> u32 {
    while parents[run as usize] != run {
        let above = parents[parents[run as usize] as usize];
        parents[run as usize] = above;
        run = above;
    }
    run
}

/// Joins the runs of two rows that touch; `reach` is 1 where corners count.
fn link(runs: &[Run], parents: &mut [u32], before: std::ops::Range<usize>, this: std::ops::Range<usize>, reach: u32) {
    let (mut i, mut j) = (before.start, this.start);
    while i < before.end && j < this.end {
        let (a, b) = (runs[i], runs[j]);
        if a.start < b.end + reach && b.start < a.end + reach {
            let (a, b) = (root(parents, a.component), root(parents, b.component));
            // The earlier run stands for both, so that components are numbered by their first voxels.
            parents[a.max(b) as usize] = a.min(b);
        }
        if a.end < b.end { i += 1 } else { j += 1 }
    }
}

/// Gives every run the number of its component, and measures the components.
#[expect(clippy::cast_precision_loss, reason = "sums of indices stay far below 2^53")]
fn number(runs: &mut [Run], rows: &[usize], parents: &mut [u32], ny: usize) -> Vec<Component> {
    let mut sums: Vec<[u128; 3]> = Vec::new();
    let mut list: Vec<Component> = Vec::new();
    let mut numbers: Vec<u32> = vec![0; runs.len()];
    for (row, at) in rows.windows(2).enumerate() {
        let (z, y) = (row / ny, row % ny);
        for i in at[0]..at[1] {
            let stands = root(parents, runs[i].component) as usize;
            let (start, end) = (runs[i].start as usize, runs[i].end as usize);
            let bounds = Bounds { low: [z, y, start], high: [z + 1, y + 1, end] };
            if stands == i {
                numbers[i] = u32::try_from(list.len()).unwrap_or(u32::MAX);
                list.push(Component { voxels: 0, centroid: [0.0; 3], bounds });
                sums.push([0; 3]);
            }
            let number = numbers[stands];
            runs[i].component = number;
            let (component, sum) = (&mut list[number as usize], &mut sums[number as usize]);
            let n = end - start;
            component.voxels += n;
            component.bounds = component.bounds.united(bounds);
            sum[0] += (z * n) as u128;
            sum[1] += (y * n) as u128;
            sum[2] += ((start + end - 1) * n / 2) as u128;
        }
    }
    for (component, sum) in list.iter_mut().zip(sums) {
        component.centroid = sum.map(|s| s as f64 / component.voxels as f64);
    }
    list
}

/// Sets the voxels of `label` in components (6 neighbours) of at most `most` voxels to 0; how many voxels that were.
///
/// # Errors
/// A length that does not fit the size.
pub fn remove_small(labels: &mut [u8], size: [usize; 3], label: u8, most: usize) -> Result<usize> {
    let components = Components::find(labels, size, Connectivity::Faces, |v| v == label)?;
    let mut removed = 0;
    components.each_run(|component, voxels| {
        if components.list[component].voxels <= most {
            removed += voxels.len();
            labels[voxels].fill(0);
        }
    });
    Ok(removed)
}
