//! The `[[tests]]` of a pipeline: the sinks that make what they look at visible, and whether what they expect came true.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dicom_core::dictionary::DataDictionary;
use dicom_dictionary_std::StandardDataDictionary;

use crate::pipeline::{ExpectDoc, TestDoc};
use crate::series::nifti::{Limits, NiftiFile, NiftiVolume, same_grid};

/// Two grids that are compared may lie this far apart, millimetres: NIfTI keeps affines in single precision.
const SAME_GRID_MM: f64 = 1e-3;

/// The sinks that a test needs besides those of its pipeline.
#[derive(Debug, Default)]
pub struct Probes {
    /// Nodes whose voxels are written.
    voxels: Vec<String>,
    /// Nodes whose headers are written.
    headers: Vec<String>,
}

/// `"<node> <comparison> <number> [HU]"`.
#[derive(Debug, Clone, PartialEq)]
pub struct Where {
    /// The node whose voxels decide.
    pub node: String,
    /// How they are compared.
    pub comparison: Comparison,
    /// With what.
    pub number: f64,
}

/// How a voxel is compared with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `==`
    Equal,
}

impl Where {
    /// Reads the text of `where`.
    ///
    /// # Errors
    /// In words, what was expected.
    pub fn parse(text: &str) -> Result<Where, String> {
        let wrong = || format!("expected \"node > number HU\" (or >=, <, <=, ==), found \"{text}\"");
        let words: Vec<&str> = text.split_whitespace().collect();
        let ([node, comparison, number] | [node, comparison, number, "HU"]) = words[..] else { return Err(wrong()) };
        let comparison = match comparison {
            ">" => Comparison::Above,
            ">=" => Comparison::AtLeast,
            "<" => Comparison::Below,
            "<=" => Comparison::AtMost,
            "==" => Comparison::Equal,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().ok().filter(|n: &f64| n.is_finite()).ok_or_else(wrong)?;
        Ok(Where { node: node.to_owned(), comparison, number })
    }

    fn holds(&self, voxel: f32) -> bool {
        let voxel = f64::from(voxel);
        match self.comparison {
            Comparison::Above => voxel > self.number,
            Comparison::AtLeast => voxel >= self.number,
            Comparison::Below => voxel < self.number,
            Comparison::AtMost => voxel <= self.number,
            Comparison::Equal => voxel == self.number,
        }
    }
}

impl Probes {
    /// What `test` looks at.
    ///
    /// # Errors
    /// In words, a `where` that cannot be read.
    pub fn of(test: &TestDoc) -> Result<Probes, String> {
        let mut probes = Probes::default();
        let add = |list: &mut Vec<String>, node: &str| {
            if !list.iter().any(|n| n == node) {
                list.push(node.to_owned());
            }
        };
        for expect in &test.expect {
            if !expect.absent.is_empty() {
                add(&mut probes.headers, &expect.node.text);
            }
            if let Some(equals) = &expect.equals {
                add(&mut probes.voxels, &expect.node.text);
                add(&mut probes.voxels, &equals.text);
            }
            if let Some(text) = &expect.where_ {
                add(&mut probes.voxels, &Where::parse(&text.text)?.node);
            }
        }
        Ok(probes)
    }

    /// The nodes looked at, without their ports.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.voxels.iter().chain(&self.headers).map(|n| n.split('.').next().unwrap_or_default())
    }

    /// The sinks as text that continues the pipeline's.
    pub fn toml(&self) -> String {
        let sink = |kind: &str, stage: &str, i: usize, from: &str| {
            let from = toml::Value::String(from.to_owned());
            format!("\n[nodes.test-{kind}-{i}]\nstage = \"{stage}\"\nfrom = {from}\n")
        };
        let voxels = self
            .voxels
            .iter()
            .enumerate()
            .map(|(i, n)| sink("voxels", "nifti-write", i, n) + "params = { name = \"voxels\" }\n");
        let headers = self.headers.iter().enumerate().map(|(i, n)| sink("headers", "dicom-write", i, n));
        voxels.chain(headers).collect()
    }

    /// The voxels of `node` in the finished case.
    fn volume(&self, case: &Path, node: &str) -> Result<NiftiVolume<f32>, String> {
        let i = self.voxels.iter().position(|n| n == node).ok_or_else(|| format!("`{node}` was not looked at"))?;
        let file = case.join(format!("test-voxels-{i}")).join("voxels.nii.gz");
        NiftiFile::open(&file, Limits::default())
            .and_then(NiftiFile::image)
            .map_err(|f| format!("`{node}`: {}", f.text))
    }

    /// The files with the headers of `node` in the finished case.
    fn headers(&self, case: &Path, node: &str) -> Result<Vec<PathBuf>, String> {
        let i = self.headers.iter().position(|n| n == node).ok_or_else(|| format!("`{node}` was not looked at"))?;
        files(&case.join(format!("test-headers-{i}")))
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("reading a result: {}", e.kind()))?;
    let mut all: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| p.is_file()).collect();
    all.sort();
    Ok(all)
}

/// Whether an expectation came true in the finished `case`; `inputs` are the folders of the phantom's series.
///
/// # Errors
/// In words, what is not as expected. Phantoms have no patient, so values may be told.
pub fn check(expect: &ExpectDoc, probes: &Probes, case: &Path, inputs: &[PathBuf]) -> Result<(), String> {
    if !expect.absent.is_empty() {
        absent(expect, &probes.headers(case, &expect.node.text)?, inputs)?;
    }
    match &expect.equals {
        None => Ok(()),
        Some(equals) => equal(expect, &equals.text, probes, case),
    }
}

/// Nothing of the phantom's own values of the attributes may be left: they are absent, empty, or replaced.
fn absent(expect: &ExpectDoc, written: &[PathBuf], inputs: &[PathBuf]) -> Result<(), String> {
    let node = &expect.node.text;
    if written.is_empty() {
        return Err(format!("`{node}` has no headers"));
    }
    for keyword in expect.absent.iter().map(|k| k.text.as_str()) {
        let entry = StandardDataDictionary.by_name(keyword);
        let tag = entry.map(dicom_core::dictionary::DataDictionaryEntry::tag);
        let tag = tag.ok_or_else(|| format!("`{keyword}` is no DICOM keyword"))?;
        let value = |file: &PathBuf| -> Result<Option<String>, String> {
            let object = dicom_object::open_file(file).map_err(|e| format!("a header cannot be read: {e}"))?;
            let text = object.get(tag).and_then(|e| e.to_str().ok()).map(|t| t.trim().to_owned());
            Ok(text.filter(|t| !t.is_empty()))
        };
        let mut own = BTreeSet::new();
        for folder in inputs {
            for file in files(folder)? {
                own.extend(value(&file)?);
            }
        }
        for (slice, file) in written.iter().enumerate() {
            if let Some(found) = value(file)?.filter(|v| own.contains(v)) {
                return Err(format!("`{node}` still has {keyword} = \"{found}\" (file {})", slice + 1));
            }
        }
    }
    Ok(())
}

fn equal(expect: &ExpectDoc, other: &str, probes: &Probes, case: &Path) -> Result<(), String> {
    let node = expect.node.text.as_str();
    let (left, right) = (probes.volume(case, node)?, probes.volume(case, other)?);
    let alike = |a: &NiftiVolume<f32>, b: &NiftiVolume<f32>| {
        a.voxels.len() == b.voxels.len()
            && a.channels == b.channels
            && same_grid(&a.geometry, &b.geometry, SAME_GRID_MM)
    };
    if !alike(&left, &right) {
        return Err(format!("`{node}` and `{other}` do not lie on one grid"));
    }
    let condition = match &expect.where_ {
        None => None,
        Some(text) => {
            let condition = Where::parse(&text.text)?;
            let volume = probes.volume(case, &condition.node)?;
            if !alike(&left, &volume) {
                return Err(format!("`{node}` and `{}` do not lie on one grid", condition.node));
            }
            Some((condition, volume))
        }
    };
    let counts = |i: usize| condition.as_ref().is_none_or(|(c, v)| c.holds(v.voxels[i]));
    let asked: Vec<usize> = (0..left.voxels.len()).filter(|&i| counts(i)).collect();
    if asked.is_empty() {
        return Err("no voxel of the phantom is asked about, so nothing was tested".to_owned());
    }
    let differing: Vec<usize> = asked.iter().copied().filter(|&i| left.voxels[i] != right.voxels[i]).collect();
    match differing.first() {
        None => Ok(()),
        Some(&i) => Err(format!(
            "`{node}` differs from `{other}` in {} of {} voxels, first {} instead of {}",
            differing.len(),
            asked.len(),
            left.voxels[i],
            right.voxels[i]
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_and_hold() {
        let condition = Where::parse("ncct > 250 HU").unwrap();
        assert_eq!(condition, Where { node: "ncct".into(), comparison: Comparison::Above, number: 250.0 });
        assert!(condition.holds(250.5) && !condition.holds(250.0));
        for (text, yes, no) in
            [("a.image >= -1.5", -1.5, -1.6), ("a < 0", -0.5, 0.0), ("a <= 0 HU", 0.0, 0.5), ("a == 3", 3.0, 3.1)]
        {
            let condition = Where::parse(text).unwrap();
            assert!(condition.holds(yes) && !condition.holds(no), "{text}");
        }
        for bad in ["", "ncct", "ncct > ", "ncct > x", "ncct => 3", "ncct > 3 mm", "ncct > NaN", "a > 3 HU more"] {
            assert!(Where::parse(bad).unwrap_err().contains("expected"), "{bad}");
        }
    }
}
