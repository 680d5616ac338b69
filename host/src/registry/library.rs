//! Opening a plugin's library: every gate between a folder on disk and the first call into it.
//!
//! The order is fixed: digest of the folder → sanity of the ELF file → the `.gantry.v1` section → a private copy of the
//! verified bytes → the entry symbol → the embedded manifest → the layout. Whatever can be refused before the dynamic
//! loader runs a constructor is refused before. What was hashed is what runs: the files are read once, and those bytes
//! are hashed, inspected and written to a private folder that is opened instead of the original. A library is never
//! unloaded.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use gantry_abi::{layout, section, v1};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, elf};
use sha2::{Digest, Sha256};

use super::hashes::FolderHashes;

/// Largest plugin folder that is read into memory: CUDA libraries are some 40 MB.
const FOLDER_LIMIT: u64 = 4 << 30;

/// Why a plugin was refused. Every variant ends the run with exit code 4 before any case.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// A file could not be read or written.
    #[error("plugin `{plugin}`: {what}: {source}")]
    Io {
        /// Plugin id.
        plugin: String,
        /// What was being done.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// A gate refused it.
    #[error("plugin `{plugin}` is refused: {why}")]
    Refused {
        /// Plugin id.
        plugin: String,
        /// Gate.
        gate: Gate,
        /// In words.
        why: String,
    },
}

/// The gate that refused a plugin; its name is the stable code in messages and run.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// The folder's digest is not the pinned one.
    Digest,
    /// The file is no sound ELF library for this machine.
    Elf,
    /// Its `.gantry.v1` section is missing, malformed or of another ABI.
    Section,
    /// The dynamic loader refused it.
    Load,
    /// The entry symbol is missing or malformed.
    Entry,
    /// The embedded manifest is not the file's.
    Manifest,
    /// The Rust layouts differ.
    Layout,
}

impl Gate {
    /// Its stable code.
    pub fn code(self) -> &'static str {
        match self {
            Gate::Digest => "plugin-digest",
            Gate::Elf => "plugin-elf",
            Gate::Section => "plugin-abi",
            Gate::Load => "plugin-load",
            Gate::Entry => "plugin-entry",
            Gate::Manifest => "plugin-manifest",
            Gate::Layout => "plugin-layout",
        }
    }
}

/// The files of a plugin folder, read once: what was hashed is what will be opened.
pub struct FolderBytes {
    plugin: String,
    files: Vec<(PathBuf, Vec<u8>)>,
    /// Digest of the folder, as [`FolderHashes`] makes it.
    pub sha256: String,
}

impl FolderBytes {
    /// Reads every regular file below `folder`, in sorted order.
    ///
    /// # Errors
    /// If a file cannot be read, or the folder holds a link or special file, or is larger than 4 GiB.
    pub fn read(plugin: &str, folder: &Path) -> Result<FolderBytes, LibraryError> {
        let refuse = |why: String| LibraryError::Refused { plugin: plugin.to_owned(), gate: Gate::Digest, why };
        let mut files = Vec::new();
        let mut total = 0;
        for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
            let entry = entry.map_err(|e| refuse(format!("its folder cannot be read: {e}")))?;
            let kind = entry.file_type();
            if kind.is_dir() {
                continue;
            }
            let relative = entry.path().strip_prefix(folder).unwrap_or(entry.path()).to_path_buf();
            if !kind.is_file() {
                return Err(refuse(format!("`{}` is neither a file nor a folder", relative.display())));
            }
            total += entry.metadata().map(|m| m.len()).unwrap_or(0);
            if total > FOLDER_LIMIT {
                return Err(refuse(format!("its folder holds more than {} GiB", FOLDER_LIMIT >> 30)));
            }
            let bytes = std::fs::read(entry.path()).map_err(|source| LibraryError::Io {
                plugin: plugin.to_owned(),
                what: format!("reading `{}`", relative.display()),
                source,
            })?;
            files.push((relative, bytes));
        }
        let hashes = files.iter().map(|(path, bytes): &(PathBuf, Vec<u8>)| {
            (path.to_string_lossy().into_owned(), hex::encode(Sha256::digest(bytes)))
        });
        let sha256 = FolderHashes::digest_of(&hashes.collect());
        Ok(FolderBytes { plugin: plugin.to_owned(), files, sha256 })
    }

    /// One file's bytes.
    pub fn file(&self, relative: &Path) -> Option<&[u8]> {
        self.files.iter().find(|(path, _)| path == relative).map(|(_, bytes)| bytes.as_slice())
    }

    fn refuse(&self, gate: Gate, why: impl Into<String>) -> LibraryError {
        LibraryError::Refused { plugin: self.plugin.clone(), gate, why: why.into() }
    }

    fn io(&self, what: String, source: std::io::Error) -> LibraryError {
        LibraryError::Io { plugin: self.plugin.clone(), what, source }
    }

    /// Checks everything that can be checked without running code: digest, ELF, section.
    ///
    /// # Errors
    /// The first gate that refuses.
    pub fn inspect(&self, library: &Path, manifest: &str, expected: Option<&str>) -> Result<(), LibraryError> {
        if let Some(expected) = expected
            && expected != self.sha256
        {
            return Err(self.refuse(
                Gate::Digest,
                format!(
                    "its folder has the digest {}, pinned is {expected}; `gantry plugins lock` pins anew",
                    self.sha256
                ),
            ));
        }
        let bytes = self
            .file(library)
            .ok_or_else(|| self.refuse(Gate::Elf, format!("its library `{}` is missing", library.display())))?;
        let found =
            read_section(bytes).map_err(|(gate, why)| self.refuse(gate, format!("`{}` {why}", library.display())))?;
        if found.abi_major != v1::ABI_MAJOR {
            return Err(self.refuse(
                Gate::Section,
                format!("it speaks stage ABI {}, this host speaks ABI {}", found.abi_major, v1::ABI_MAJOR),
            ));
        }
        let digest = hex::encode(Sha256::digest(manifest.as_bytes()));
        if found.manifest_sha256 != digest {
            return Err(self.refuse(
                Gate::Manifest,
                "its library was built with another plugin.toml than the one beside it".to_owned(),
            ));
        }
        Ok(())
    }

    /// Writes the verified bytes below `private` (mode 0700) and opens the library from there, through every gate.
    ///
    /// # Errors
    /// The first gate that refuses.
    pub fn open(
        &self,
        library: &Path,
        manifest: &str,
        expected: Option<&str>,
        private: &Path,
    ) -> Result<Library, LibraryError> {
        self.inspect(library, manifest, expected)?;
        let folder = private.join(&self.plugin);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(|e| self.io("making a private folder".into(), e))?;
        for (relative, bytes) in &self.files {
            let path = folder.join(relative);
            if let Some(parent) = path.parent() {
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(parent)
                    .map_err(|e| self.io("making a private folder".into(), e))?;
            }
            let written = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o500).open(&path);
            written
                .and_then(|mut file| file.write_all(bytes))
                .map_err(|e| self.io(format!("copying `{}`", relative.display()), e))?;
        }
        self.load(&folder.join(library), manifest)
    }

    #[allow(unsafe_code)]
    fn load(&self, path: &Path, manifest: &str) -> Result<Library, LibraryError> {
        // SAFETY: opening a library runs its constructors: that is what the gates before this line are for. It is never
        // unloaded, so nothing it hands out can dangle.
        let opened = unsafe { libloading::Library::new(path) };
        let library = opened.map_err(|e| self.refuse(Gate::Load, format!("the loader says: {}", first_line(&e))))?;
        // SAFETY: the symbol is data of type `gantry_entry_v1`; only its address is taken here, and the first 8 bytes,
        // which mean the same in every version of the ABI, are looked at before the rest.
        let entry = unsafe { library.get::<*const v1::Entry>(c"gantry_plugin_v1") }
            .map_err(|_| self.refuse(Gate::Entry, format!("it does not export `{}`", v1::SYMBOL)))?;
        // SAFETY: the library stays open for ever, so the address outlives the symbol.
        let entry = unsafe { entry.try_as_raw_ptr() }
            .ok_or_else(|| self.refuse(Gate::Entry, format!("`{}` is a NULL symbol", v1::SYMBOL)))?
            .cast::<v1::Entry>();
        std::mem::forget(library);
        if entry.is_null() || !entry.is_aligned() {
            return Err(self.refuse(Gate::Entry, format!("`{}` is not where an entry can be", v1::SYMBOL)));
        }
        // SAFETY: not NULL, aligned, and alive for ever because the library is never unloaded.
        let major = unsafe { std::ptr::read(entry.cast::<u32>()) };
        if major != v1::ABI_MAJOR {
            return Err(self.refuse(
                Gate::Entry,
                format!("its entry speaks stage ABI {major}, this host speaks ABI {}", v1::ABI_MAJOR),
            ));
        }
        // SAFETY: as above, and the major version says that it is a v1 entry.
        let entry: &'static v1::Entry = unsafe { &*entry };
        let complete = entry.create.is_some()
            && entry.prepare.is_some()
            && entry.begin.is_some()
            && entry.process.is_some()
            && entry.end.is_some()
            && entry.destroy.is_some();
        let Some(extension) = entry.extension.filter(|_| complete) else {
            return Err(self.refuse(Gate::Entry, "a function of its entry is NULL"));
        };
        // SAFETY: the contract makes `manifest` readable for ever; unlawful pairs and non-UTF-8 are refused.
        match unsafe { entry.manifest.text() } {
            Some(text) if text == manifest => {}
            Some(_) => {
                return Err(self.refuse(Gate::Manifest, "the manifest it carries is not the plugin.toml beside it"));
            }
            None => return Err(self.refuse(Gate::Manifest, "the manifest it carries is not text")),
        }
        // SAFETY: `extension` is pure and may be called at any time; a table under this name is a `LayoutTable`.
        let table = unsafe {
            extension(v1::Str::EMPTY, v1::Str::new(layout::NAME.as_bytes())).cast::<layout::LayoutTable>().as_ref()
        };
        if let Some(table) = table {
            layout::check(table)
                .map_err(|why| self.refuse(Gate::Layout, format!("its structs are laid out differently: {why}")))?;
        }
        // SAFETY: as for `manifest`.
        let built_by = unsafe { entry.built_by.text() }.unwrap_or("unknown").to_owned();
        Ok(Library { entry, built_by })
    }
}

/// An opened library. It stays open until the process ends.
#[derive(Clone)]
pub struct Library {
    /// Its entry.
    pub entry: &'static v1::Entry,
    /// What built it, as it says itself.
    pub built_by: String,
}

fn first_line(error: &libloading::Error) -> String {
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        let _ = write!(text, " ({source})");
    }
    // The loader names the private copy; its folder means nothing to a reader.
    text.split(": ").filter(|part| !part.starts_with('/')).collect::<Vec<_>>().join(": ")
}

/// Checks that every header of the ELF file lies inside the file and reads the section `.gantry.v1`.
fn read_section(bytes: &[u8]) -> Result<section::Section, (Gate, String)> {
    let bad = |why: &str| (Gate::Elf, why.to_owned());
    if !bytes.starts_with(b"\x7fELF") {
        return Err(bad("is not an ELF file"));
    }
    let header = elf::FileHeader64::<Endianness>::parse(bytes).map_err(|_| bad("is not a 64-bit ELF library"))?;
    let endian = header.endian().map_err(|_| bad("has an unknown byte order"))?;
    if !header.is_little_endian() {
        return Err(bad("is for a big-endian machine"));
    }
    let machine = if cfg!(target_arch = "aarch64") { elf::EM_AARCH64 } else { elf::EM_X86_64 };
    if header.e_machine(endian) != machine {
        return Err(bad(&format!("is for another processor (ELF machine {:?})", header.e_machine(endian))));
    }
    if header.e_type(endian) != elf::ET_DYN {
        return Err(bad("is not a shared library"));
    }
    let size = bytes.len() as u64;
    let programs =
        header.program_headers(endian, bytes).map_err(|_| bad("is truncated: its program headers lie outside"))?;
    for program in programs {
        let end = program.p_offset(endian).checked_add(program.p_filesz(endian));
        if end.is_none_or(|end| end > size) {
            return Err(bad("is truncated: a segment lies outside the file"));
        }
    }
    let sections = header.sections(endian, bytes).map_err(|_| bad("is truncated: its section headers lie outside"))?;
    if sections.is_empty() {
        return Err(bad("has no section headers"));
    }
    let mut found = None;
    for one in sections.iter() {
        if one.sh_type(endian) != elf::SHT_NOBITS {
            let end = one.sh_offset(endian).checked_add(one.sh_size(endian));
            if end.is_none_or(|end| end > size) {
                return Err(bad("is truncated: a section lies outside the file"));
            }
        }
        let name = sections.section_name(endian, one).map_err(|_| bad("is truncated: a section has no name"))?;
        if name == section::NAME.as_bytes() {
            found = Some(one.data(endian, bytes).map_err(|_| bad("is truncated: a section lies outside the file"))?);
        }
    }
    let Some(content) = found else {
        return Err((Gate::Section, format!("has no section `{}`: it is no Gantry plugin", section::NAME)));
    };
    section::parse(content).map_err(|why| (Gate::Section, format!("is refused: {why}")))
}
