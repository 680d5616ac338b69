//! The fixtures' models as their trainer left them, and their images and labels.
#![allow(dead_code, reason = "each test uses a part")]

use std::path::{Path, PathBuf};

use gantry_neural::{Engine, Isa, Precision};
use gantry_nnunet::{Image, Model};
use gantry_volume::Orientation;
use gantry_weights::nnunet::{Configuration, Dataset, Plans, Trained};
use gantry_weights::to_safetensors;
use half::f16;
use nifti::{NiftiObject, ReaderOptions};

/// A model's folder: plans, data set, and its folds as `gantry weights import` stores them.
pub struct Folder {
    pub configuration: Configuration,
    pub dataset: Dataset,
    pub mirror_axes: Vec<usize>,
    pub folds: Vec<Vec<u8>>,
}

/// Elements of a `.npy` file of half-precision numbers, which the reader of fixtures does not know.
pub fn halves(path: &Path) -> Vec<f16> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let says = |text: &str| String::from_utf8_lossy(&bytes[..header]).contains(text);
    assert!(says("'<f2'") && says("'fortran_order': False"), "{}", path.display());
    bytes[header..].chunks_exact(2).map(|two| f16::from_le_bytes([two[0], two[1]])).collect()
}

/// The only folder below `folder`.
fn only(folder: &Path) -> PathBuf {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    assert_eq!(found.len(), 1, "{}", folder.display());
    found.remove(0)
}

impl Folder {
    /// Of the data set in `root`, these folds.
    pub fn open(dataset: &Path, folds: &[usize]) -> Self {
        let folder = only(dataset);
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a text");
        let dataset = Dataset::parse(&text("dataset.json")).expect("a data set");
        let plans = Plans::parse(&text("plans.json")).expect("plans");
        let trained: Vec<Trained> = (folds.iter())
            .map(|fold| Trained::open(folder.join(format!("fold_{fold}")).join(Trained::FILE)).expect("a checkpoint"))
            .collect();
        let configuration = plans.configuration(&trained[0].configuration).expect("a configuration");
        let mirror_axes = trained[0].mirror_axes.clone();
        let (channels, heads) = (dataset.channels.len(), dataset.heads());
        let folds = trained.into_iter().map(|trained| {
            let weights =
                configuration.network.select(trained.weights, channels, heads).expect("the network's tensors");
            to_safetensors(&weights).expect("a file")
        });
        Self { folds: folds.collect(), configuration, dataset, mirror_axes }
    }

    /// The model of all folds.
    pub fn model(&self, precision: Precision) -> Model {
        let engine = Engine::new(Isa::best(), precision).expect("an engine");
        let folds: Vec<&[u8]> = self.folds.iter().map(Vec::as_slice).collect();
        Model::new(&engine, &self.configuration, &self.dataset, &folds).expect("a model")
    }
}

/// A NIfTI file in memory.
pub struct Nifti {
    /// `[z][y][x]`.
    pub voxels: Vec<f32>,
    pub size: [usize; 3],
    pub spacing_mm: [f64; 3],
    pub orientation: Orientation,
    pub affine: [f64; 12],
}

impl Nifti {
    pub fn read(path: &Path) -> Self {
        let object = ReaderOptions::new().read_file(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let header = object.header().clone();
        let size = [3, 2, 1].map(|axis| usize::from(header.dim[axis]));
        let spacing_mm = [3, 2, 1].map(|axis| f64::from(header.pixdim[axis]));
        // NIfTI's axes point right and forward, ours left and backward.
        let rows = [header.srow_x.map(|x| -x), header.srow_y.map(|x| -x), header.srow_z];
        let affine: [f64; 12] = std::array::from_fn(|at| f64::from(rows[at / 4][at % 4]));
        let orientation = Orientation::of(&affine).expect("an affine");
        let volume = object.into_volume();
        let voxels: Vec<f32> = match header.datatype {
            2 => volume.into_nifti_typed_data::<u8>().expect("voxels").into_iter().map(f32::from).collect(),
            _ => volume.into_nifti_typed_data::<i16>().expect("voxels").into_iter().map(f32::from).collect(),
        };
        assert_eq!(voxels.len(), size.iter().product::<usize>());
        Self { voxels, size, spacing_mm, orientation, affine }
    }

    pub fn image(&self) -> Image<'_> {
        Image { voxels: &self.voxels, size: self.size, spacing_mm: self.spacing_mm, orientation: self.orientation }
    }

    pub fn labels(&self) -> Vec<u8> {
        self.voxels.iter().map(|&x| x as u8).collect()
    }
}
