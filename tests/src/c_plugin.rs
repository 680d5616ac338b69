//! Building a plugin from one C source, as a third party would: a C99 compiler, the header, and nothing else.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::staging::workspace;

/// `manifest.h` as a C author makes it: the bytes of plugin.toml and their digest.
pub fn manifest_header(manifest: &str) -> String {
    let mut text = format!("#define MANIFEST_SHA256 \"{}\"\n", hex::encode(Sha256::digest(manifest)));
    text.push_str("static const unsigned char manifest_text[] = {");
    for byte in manifest.bytes() {
        let _ = write!(text, "{byte},");
    }
    text.push_str("};\n");
    text
}

/// Builds a plugin from one C source with the header alone, as strictly as C99 allows, into `plugins/<folder>`; the path
/// of its library.
///
/// # Panics
/// If it does not build.
pub fn build_c(source: &Path, manifest: &str, plugins: &Path, folder: &str, flags: &[&str]) -> PathBuf {
    let table: toml::Table = toml::from_str(manifest).expect("a plugin.toml");
    let library = table["library"]["linux-x86_64"]["cpu"].as_str().expect("plugin.toml names no library").to_owned();
    let to = plugins.join(folder);
    std::fs::create_dir_all(&to).expect("a plugin folder");
    std::fs::write(to.join("plugin.toml"), manifest).expect("plugin.toml");
    let scratch = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(scratch.path().join("manifest.h"), manifest_header(manifest)).expect("manifest.h");
    let out = Command::new("cc")
        .args(["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC"])
        .arg("-I")
        .arg(workspace().join("plugin-api/abi/include"))
        .arg("-I")
        .arg(scratch.path())
        .arg(source)
        .arg("-o")
        .arg(to.join(&library))
        .args(flags)
        .output()
        .expect("a C compiler");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    to.join(library)
}
