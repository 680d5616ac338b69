//! PyTorch's zip format: `<name>/data.pkl` says which tensors there are, `<name>/data/<key>` holds their elements.
//!
//! Storages are read where a tensor asks for them, checked against the zip's CRC-32, and never larger than the file.
//! Format: PyTorch's notes on serialisation ("torch.save file format").

use std::borrow::Cow;
use std::io::{Cursor, Read};

use zip::CompressionMethod;
use zip::ZipArchive;

use crate::error::{Error, Result, printable};
use crate::pickle::{Pickle, StorageRef};
use crate::weight_file::Storages;

/// The largest `data.pkl` read: it names tensors and holds no elements.
const MAX_PICKLE_BYTES: u64 = 32 << 20;
/// Entries of the archive: one a storage.
const MAX_ENTRIES: usize = 200_000;

/// An opened archive.
pub(crate) struct TorchZip<'a> {
    archive: ZipArchive<Cursor<&'a [u8]>>,
    file_bytes: u64,
    /// The folder inside the archive, with its slash.
    prefix: String,
}

impl<'a> TorchZip<'a> {
    /// Opens the archive and reads its pickle.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<(Self, Pickle)> {
        let archive = ZipArchive::new(Cursor::new(bytes))
            .map_err(|e| Error::Malformed(format!("the zip archive is truncated or corrupt: {e}")))?;
        if archive.len() > MAX_ENTRIES {
            return Err(Error::Malformed(format!("{} entries; at most {MAX_ENTRIES} are read", archive.len())));
        }
        if archive.has_duplicate_names() {
            return Err(Error::Malformed("two entries of the zip archive have the same name".to_owned()));
        }
        let names: Vec<String> = archive.file_names_raw().map(|n| String::from_utf8_lossy(n).into_owned()).collect();
        let mut pickles =
            names.iter().filter(|n| n.rsplit('/').next() == Some("data.pkl") && n.split('/').count() <= 2);
        let prefix = match (pickles.next(), pickles.next()) {
            (Some(name), None) => name.trim_end_matches("data.pkl").to_owned(),
            (Some(a), Some(b)) => {
                return Err(Error::Malformed(format!("two pickles: {} and {}", printable(a), printable(b))));
            }
            (None, _) => {
                return Err(Error::Unsupported(
                    "a zip archive, but not one that torch.save wrote: it has no data.pkl".to_owned(),
                ));
            }
        };
        let mut zip = Self { archive, file_bytes: bytes.len() as u64, prefix };
        if zip.has(&names, "constants.pkl") {
            return Err(Error::Unsupported(
                "a TorchScript program, not plain weights; save model.state_dict() instead".to_owned(),
            ));
        }
        if zip.has(&names, "byteorder") {
            let order = zip.entry("byteorder", 16)?;
            if order != b"little" {
                return Err(Error::Unsupported(format!(
                    "byte order `{}`; only little-endian files are read",
                    printable(&String::from_utf8_lossy(&order))
                )));
            }
        }
        let pickle = Pickle::read(&zip.entry("data.pkl", MAX_PICKLE_BYTES)?)?;
        Ok((zip, pickle))
    }

    fn has(&self, names: &[String], name: &str) -> bool {
        names.iter().any(|n| n.strip_prefix(&self.prefix) == Some(name))
    }

    /// Reads one entry of at most `limit` bytes, stored without compression.
    fn entry(&mut self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let shown = printable(name);
        let broken = |e: &dyn std::fmt::Display| Error::Malformed(format!("entry {shown}: {e}"));
        let mut file = self.archive.by_name(&format!("{}{name}", self.prefix)).map_err(|e| broken(&e))?;
        // torch.save stores; what is deflated could be a small file that claims to be a huge one.
        if file.compression() != CompressionMethod::Stored || file.size() != file.compressed_size() {
            return Err(Error::Unsupported(format!("entry {shown} is compressed; torch.save stores its entries")));
        }
        let size = file.size();
        if size > limit.min(self.file_bytes) {
            return Err(Error::Malformed(format!(
                "entry {shown} claims {size} bytes; at most {} are possible",
                limit.min(self.file_bytes)
            )));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.by_ref().take(limit).read_to_end(&mut bytes).map_err(|e| broken(&e))?;
        // One read past the end makes the archive compare the CRC.
        file.read(&mut [0u8; 1]).map_err(|e| broken(&e))?;
        if bytes.len() as u64 != size {
            return Err(Error::Malformed(format!("entry {shown} ends after {} of {size} bytes", bytes.len())));
        }
        Ok(bytes)
    }
}

impl Storages for TorchZip<'_> {
    fn storage(&mut self, storage: &StorageRef) -> Result<Cow<'_, [u8]>> {
        let name = format!("data/{}", storage.key);
        Ok(Cow::Owned(self.entry(&name, self.file_bytes)?))
    }
}
