//! What the tests of foreign plugins share: plugins built from C, small patients, and runs of the staged program.
#![allow(dead_code, reason = "every test file uses its part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
pub use gantry_tests::c_plugin::build_c;
use gantry_tests::staging::{stage, workspace};
use serde_json::Value as Json;

/// Where the sources of test plugins lie.
pub fn sources() -> PathBuf {
    workspace().join("tests/plugins")
}

/// Builds the hostile plugin, once a process: its plugins folder.
pub fn hostile() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let plugins = tempfile::tempdir().unwrap();
            let manifest = std::fs::read_to_string(sources().join("hostile.toml")).unwrap();
            build_c(&sources().join("hostile.c"), &manifest, plugins.path(), "hostile", &[]);
            plugins
        })
        .path()
}

/// The plugins of the out-of-tree workspace, built with its own lock file and target folder, once a process.
pub fn out_of_tree() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let source = sources().join("out-of-tree");
        let program = std::env::current_exe().unwrap();
        let target = program.ancestors().find(|a| a.file_name().is_some_and(|n| n == "target")).unwrap();
        let target = target.join("out-of-tree");
        let build = |offline: bool| {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.current_dir(&source).args(["build", "--quiet", "--locked"]).arg("--target-dir").arg(&target);
            // What the surrounding cargo said to this test must not leak into a stranger's build.
            for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("CARGO_")) {
                if name != "CARGO_HOME" {
                    cargo.env_remove(name);
                }
            }
            if offline {
                cargo.arg("--offline");
            }
            cargo.output().unwrap()
        };
        // Everything it needs was fetched for the main workspace already.
        let mut built = build(true);
        if !built.status.success() {
            built = build(false);
        }
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let plugins = target.join("stage/plugins");
        for plugin in ["invert", "panics"] {
            gantry_tests::staging::stage_plugin(&source.join(plugin), &target.join("debug"), &plugins).unwrap();
        }
        plugins
    })
}

/// A made-up patient: an axial CT of `slices` slices of 16 x 12 pixels, the first at `z_mm`.
pub struct Patient {
    pub name: &'static str,
    pub z_mm: f64,
    pub slices: u16,
    pub seed: u16,
}

impl Patient {
    /// Stored value of a voxel (HU = stored - 1024); the first voxel of a marked patient is 3000 HU.
    pub fn stored(&self, z: u16, i: u16) -> u16 {
        if i == 0 && self.z_mm == MARK_MM {
            return 4024;
        }
        (z * 613 + i * 37 + self.seed * 97) % 2048
    }

    /// Writes it below `root`.
    pub fn write(&self, root: &Path) {
        let folder = root.join(self.name);
        std::fs::create_dir_all(&folder).unwrap();
        for z in 0..self.slices {
            let text = |tag, vr, value: &str| DataElement::new(tag, vr, PrimitiveValue::from(value));
            let word = |tag, value: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(value));
            let instance = format!("2.25.7{}.{}", self.seed, z + 1);
            let position = format!("-10\\-20\\{}", self.z_mm + f64::from(z) * 2.0);
            let mut object = InMemDicomObject::from_element_iter([
                text(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\AXIAL"),
                text(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE),
                text(tags::SOP_INSTANCE_UID, VR::UI, &instance),
                text(tags::STUDY_DATE, VR::DA, "20260102"),
                text(tags::STUDY_TIME, VR::TM, "101500"),
                text(tags::ACCESSION_NUMBER, VR::SH, ""),
                text(tags::MODALITY, VR::CS, "CT"),
                text(tags::MANUFACTURER, VR::LO, "Gantry tests"),
                text(tags::REFERRING_PHYSICIAN_NAME, VR::PN, ""),
                text(tags::PATIENT_NAME, VR::PN, &format!("Test^{}", self.name)),
                text(tags::PATIENT_ID, VR::LO, self.name),
                text(tags::PATIENT_BIRTH_DATE, VR::DA, ""),
                text(tags::PATIENT_SEX, VR::CS, "O"),
                text(tags::SLICE_THICKNESS, VR::DS, "2"),
                text(tags::KVP, VR::DS, "120"),
                text(tags::STUDY_INSTANCE_UID, VR::UI, &format!("2.25.5{}", self.seed)),
                text(tags::SERIES_INSTANCE_UID, VR::UI, &format!("2.25.6{}", self.seed)),
                text(tags::STUDY_ID, VR::SH, ""),
                text(tags::SERIES_NUMBER, VR::IS, "3"),
                text(tags::INSTANCE_NUMBER, VR::IS, &(z + 1).to_string()),
                text(tags::IMAGE_POSITION_PATIENT, VR::DS, &position),
                text(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1\\0\\0\\0\\1\\0"),
                text(tags::FRAME_OF_REFERENCE_UID, VR::UI, &format!("2.25.4{}", self.seed)),
                text(tags::POSITION_REFERENCE_INDICATOR, VR::LO, ""),
                word(tags::SAMPLES_PER_PIXEL, 1),
                text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
                word(tags::ROWS, 12),
                word(tags::COLUMNS, 16),
                text(tags::PIXEL_SPACING, VR::DS, "0.7\\0.6"),
                word(tags::BITS_ALLOCATED, 16),
                word(tags::BITS_STORED, 16),
                word(tags::HIGH_BIT, 15),
                word(tags::PIXEL_REPRESENTATION, 0),
                text(tags::RESCALE_INTERCEPT, VR::DS, "-1024"),
                text(tags::RESCALE_SLOPE, VR::DS, "1"),
                text(tags::RESCALE_TYPE, VR::LO, "HU"),
            ]);
            let pixels: Vec<u16> = (0..192).map(|i| self.stored(z, i)).collect();
            object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(pixels.into())));
            let meta = FileMetaTableBuilder::new()
                .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
                .media_storage_sop_class_uid(uids::CT_IMAGE_STORAGE)
                .media_storage_sop_instance_uid(&instance);
            object.with_meta(meta).unwrap().write_to_file(folder.join(format!("{z:03}.dcm"))).unwrap();
        }
    }
}

/// Where the first slice of the marked patient lies.
pub const MARK_MM: f64 = 777.0;

/// Three patients, of whom the second is marked.
pub fn patients() -> [Patient; 3] {
    [
        Patient { name: "anna", z_mm: -100.0, slices: 5, seed: 1 },
        Patient { name: "bert", z_mm: MARK_MM, slices: 4, seed: 2 },
        Patient { name: "carl", z_mm: 40.0, slices: 6, seed: 3 },
    ]
}

/// A folder with all three patients, and one with the two that are not marked.
pub fn cohort() -> &'static (PathBuf, PathBuf) {
    static FOLDER: OnceLock<(tempfile::TempDir, PathBuf, PathBuf)> = OnceLock::new();
    static PATHS: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    PATHS.get_or_init(|| {
        let (_, all, healthy) = FOLDER.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let (all, healthy) = (folder.path().join("all"), folder.path().join("healthy"));
            for patient in patients() {
                patient.write(&all);
                if patient.z_mm != MARK_MM {
                    patient.write(&healthy);
                }
            }
            (folder, all, healthy)
        });
        (all.clone(), healthy.clone())
    })
}

/// A site's pseudonym key for all runs of this process, so that case names and UIDs can be compared.
pub fn key() -> &'static Path {
    static KEY: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    &KEY.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.key");
        let out = Command::new(&stage().gantry).args(["key", "new"]).arg(&path).output().unwrap();
        assert!(out.status.success(), "{}", words(&out));
        (folder, path)
    })
    .1
}

/// stdout and stderr of a program.
pub fn words(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// A finished run.
pub struct Run {
    pub folder: tempfile::TempDir,
    pub out: PathBuf,
    pub code: i32,
    pub words: String,
}

/// `gantry run` of a pipeline text with plugins from `plugins` before the staged ones.
pub fn run(pipeline: &str, plugins: &[&Path], input: &Path, more: &[&str]) -> Run {
    run_among(pipeline, plugins, input, more, &[])
}

/// The same, with these variables in its environment.
pub fn run_among(pipeline: &str, plugins: &[&Path], input: &Path, more: &[&str], among: &[(&str, &str)]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("pipeline.toml");
    std::fs::write(&document, pipeline).unwrap();
    let out = folder.path().join("out");
    let mut command = Command::new(&stage().gantry);
    command.current_dir(folder.path()).arg("run").arg(&document).arg("-i").arg(input).arg("-o").arg(&out);
    command.args(["--run-time", "2026-01-31T10:15:00Z", "--key"]).arg(key());
    for plugins in plugins {
        command.arg("--plugins").arg(plugins);
    }
    // A configuration of this machine's user must not change what a test sees.
    command.env("XDG_CONFIG_HOME", folder.path()).env("XDG_DATA_HOME", folder.path());
    let output = command.args(more).envs(among.iter().copied()).output().unwrap();
    Run { out, code: output.status.code().unwrap_or(-1), words: words(&output), folder }
}

impl Run {
    /// run.json.
    pub fn json(&self) -> Json {
        let text = std::fs::read_to_string(self.out.join("run.json")).unwrap_or_else(|e| panic!("{e}: {}", self.words));
        serde_json::from_str(&text).unwrap()
    }

    /// The cases that did not finish.
    pub fn unfinished(&self) -> Vec<Json> {
        let json = self.json();
        json["cases"].as_array().unwrap().iter().filter(|c| c["status"] != "done").cloned().collect()
    }

    /// Every result of every finished case: path to bytes.
    pub fn results(&self) -> BTreeMap<String, Vec<u8>> {
        let json = self.json();
        let done = json["cases"].as_array().unwrap().iter().filter(|c| c["status"] == "done");
        let outputs = done.flat_map(|c| c["outputs"].as_array().unwrap().clone());
        outputs
            .map(|o| {
                let path = o["path"].as_str().unwrap().to_owned();
                let bytes = std::fs::read(self.out.join(&path)).unwrap();
                (path, bytes)
            })
            .collect()
    }

    /// Panics with what was said unless the run ended with `code`.
    pub fn ended(self, code: i32) -> Run {
        assert_eq!(self.code, code, "{}", self.words);
        self
    }
}
