//! Programs that know nothing of Gantry: the scripts of `tests/oracles`, run by the interpreter that
//! `GANTRY_ORACLE_PYTHON` names (else `python3`).

use std::process::Command;

use crate::staging::workspace;

/// The modules that most scripts need.
pub const DICOM: &str = "import numpy, pydicom, sys, pathlib, shutil; \
    assert shutil.which('dciodvfy') or (pathlib.Path(sys.executable).parent / 'dciodvfy').exists()";
/// What reading and writing segmentations needs.
pub const SEGMENTATION: &str = "import highdicom, nibabel, numpy, pydicom, sys, pathlib, shutil; \
    assert shutil.which('dciodvfy') or (pathlib.Path(sys.executable).parent / 'dciodvfy').exists()";
/// What comparing NIfTI files needs.
pub const NIFTI: &str = "import nibabel, numpy, pydicom, shutil; assert shutil.which('dcm2niix')";

/// Runs `tests/oracles/<script>`; what it printed, or `None` (said on stderr) where this machine lacks what it `needs`.
///
/// # Panics
/// If the script says that something is wrong; under `CI` also if it cannot be run.
pub fn python(script: &str, needs: &str, arguments: &[&str]) -> Option<String> {
    let python = std::env::var("GANTRY_ORACLE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let probe = Command::new(&python).args(["-c", needs]).output();
    if !probe.is_ok_and(|p| p.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "{python} cannot run `{needs}`, and CI must");
        eprintln!("skipped: {python} cannot run `{needs}` for {script}");
        return None;
    }
    let path = workspace().join("tests/oracles").join(script);
    let done = Command::new(&python).arg(path).args(arguments).output().unwrap_or_else(|e| panic!("{python}: {e}"));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{script}: {text}{}", String::from_utf8_lossy(&done.stderr));
    println!("{script}: {}", text.trim_end());
    Some(text)
}
