//! The files of a checkpoint in memory: verified against the card, 64-byte aligned, alive as long as the instance.

use std::io::Read;

use sha2::{Digest, Sha256};

use super::buffers::Buffer;
use super::failure::Failure;
use crate::registry::CheckpointRef;

/// The verified files of one checkpoint.
pub struct CheckpointFiles {
    files: Vec<(String, Buffer)>,
}

impl CheckpointFiles {
    /// Reads and verifies every file that the card lists; `card.json` is the card itself.
    ///
    /// # Errors
    /// Code `checkpoint-integrity` if a file is missing, unreadable or has another digest than the card says.
    pub fn read(checkpoint: &CheckpointRef) -> Result<CheckpointFiles, Failure> {
        let refuse =
            |text: String| Failure::host("checkpoint-integrity", format!("checkpoint `{}`: {text}", checkpoint.name));
        let mut files = Vec::new();
        for listed in &checkpoint.card.files {
            let path = checkpoint.path.join(&listed.path);
            let wrong = |e: std::io::Error| refuse(format!("`{}` cannot be read: {}", listed.path, e.kind()));
            let mut file = std::fs::File::open(&path).map_err(wrong)?;
            let len = file.metadata().map_err(wrong)?.len();
            let len = usize::try_from(len).map_err(|_| refuse(format!("`{}` is too large", listed.path)))?;
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(len).map_err(|_| refuse(format!("`{}` does not fit into memory", listed.path)))?;
            file.read_to_end(&mut bytes).map_err(wrong)?;
            let digest = hex::encode(Sha256::digest(&bytes));
            if digest != listed.sha256 {
                return Err(refuse(format!(
                    "`{}` has the digest {digest}, its card says {}",
                    listed.path, listed.sha256
                )));
            }
            files.push((listed.path.clone(), aligned(&bytes).map_err(|e| refuse(e.to_string()))?));
        }
        let card = checkpoint.card.json.to_string();
        files.push(("card.json".to_owned(), aligned(card.as_bytes()).map_err(|e| refuse(e.to_string()))?));
        Ok(CheckpointFiles { files })
    }

    /// One file's bytes.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.iter().find(|(n, _)| n == name).map(|(_, b)| b.read(0, b.len()))
    }
}

fn aligned(bytes: &[u8]) -> Result<Buffer, super::buffers::NoMemory> {
    let buffer = Buffer::new(bytes.len(), 0)?;
    buffer.write(0, bytes);
    Ok(buffer)
}
