//! [`InstanceFile`]: the file of one SOP instance, of which no more is read than is asked for. Where uncompressed pixels are
//! all that follows the header, only who passes them on reads them.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use sha2::{Digest, Sha256};

use super::guard::{self, Beginning};
use super::input::{self, Stamp};
use super::instance::{Instance, PixelGroup};
use super::record::{Fault, InstanceRecord};
use super::samples::Samples;

/// The bytes in which the header of most instances lies.
const HEAD: usize = 16 * 1024;

/// An opened file.
pub struct InstanceFile {
    file: File,
    stamp: Option<Stamp>,
    content: Content,
}

/// What was read of a file.
pub enum Content {
    /// All but the samples of the pixel data that it ends with.
    Head(Box<Beginning<'static>>),
    /// Everything.
    Whole(Vec<u8>),
}

impl InstanceFile {
    /// Reads of a file of `size` bytes what must be read; `head` has been read already, after its stamp was taken.
    ///
    /// # Errors
    /// `too-large`, `unreadable`
    pub fn new(file: File, size: u64, stamp: Option<Stamp>, mut head: Vec<u8>) -> Result<Self, Fault> {
        input::read_on(&file, &mut head, HEAD)?;
        let content = match guard::walk_beginning(head.clone(), size).filter(|b| b.samples.end == size) {
            Some(beginning) if size <= input::MAX_FILE_BYTES => Content::Head(Box::new(beginning)),
            _ => Content::Whole(input::read_rest(&file, size, head)?),
        };
        let stamp = stamp.filter(|before| input::stamp(&file).as_ref() == Some(before));
        Ok(Self { file, stamp, content })
    }

    /// Opens the file of an instance and makes sure that it still holds what was scanned.
    ///
    /// # Errors
    /// `unreadable`, `changed`
    pub fn open(record: &InstanceRecord) -> Result<Self, Fault> {
        let (file, size) = input::open(&record.path)?;
        let stamp = input::stamp(&file);
        let opened = Self::new(file, size, stamp, Vec::new())?;
        let same = opened.stamp.is_some() && (opened.stamp == record.stamp || opened.digest() == record.digest);
        if same { Ok(opened) } else { Err(changed()) }
    }

    /// What was read.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// What the system said of the file before and after it was read; `None`: not the same.
    pub fn stamp(&self) -> Option<&Stamp> {
        self.stamp.as_ref()
    }

    /// The instance; without its pixels where they were not read.
    ///
    /// # Errors
    /// As [`Instance::open`].
    pub fn instance(&self) -> Result<Instance<'_>, Fault> {
        match &self.content {
            Content::Head(beginning) => Ok(Instance::without_pixels(beginning.outline.borrowed())),
            Content::Whole(bytes) => Instance::open(bytes.as_slice()),
        }
    }

    /// The pixels where they were not read, for the transfer syntax in which they are written again.
    ///
    /// # Errors
    /// `changed`, `unreadable`, and as [`Instance::pixel_group`].
    pub fn unread_pixels(&self, samples: Samples) -> Result<Option<PixelGroup<'static>>, Fault> {
        let Content::Head(beginning) = &self.content else { return Ok(None) };
        let place = &beginning.samples;
        let found = (place.end - place.start) as usize;
        let group = PixelGroup::read((beginning.vr, beginning.outline.encoding), (found, samples), |bytes| {
            let before = bytes.len();
            let mut file = &self.file;
            file.seek(SeekFrom::Start(place.start)).map_err(|e| input::unreadable(&e))?;
            file.read_to_end(bytes).map_err(|e| input::unreadable(&e))?;
            if bytes.len() - before != found || self.stamp.is_none() || input::stamp(file) != self.stamp {
                return Err(changed());
            }
            Ok(())
        })?;
        Ok(Some(group))
    }

    /// Everything, read now where it was not.
    ///
    /// # Errors
    /// `changed`, `unreadable`
    pub fn whole(&self) -> Result<Cow<'_, [u8]>, Fault> {
        let beginning = match &self.content {
            Content::Whole(bytes) => return Ok(Cow::Borrowed(bytes)),
            Content::Head(beginning) => beginning,
        };
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0)).map_err(|e| input::unreadable(&e))?;
        let bytes = input::read_rest(file, beginning.samples.end, Vec::new())?;
        match self.stamp.is_some() && input::stamp(file) == self.stamp {
            true => Ok(Cow::Owned(bytes)),
            false => Err(changed()),
        }
    }

    /// SHA-256 of what was read and, where that is not all, of the size of the file and the times of its last changes: where
    /// it is the same, the file holds what it held. Copies of a file may differ in it.
    pub fn digest(&self) -> String {
        match &self.content {
            Content::Whole(bytes) => input::sha256(bytes),
            Content::Head(beginning) => {
                let changes = self.stamp.as_ref().map_or("changing", |stamp| &stamp.changes);
                let outline = &beginning.outline;
                let head = outline.data.get(..outline.header.end).unwrap_or(&[]);
                hex::encode(Sha256::new().chain_update(head).chain_update(changes).finalize())
            }
        }
    }
}

fn changed() -> Fault {
    Fault::new("changed", "the file changed since it was scanned")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::instance::tests::{element, file_of, sample};
    use crate::series::samples::tests::two_rows;
    use dicom_core::Tag;
    use dicom_dictionary_std::uids;
    use std::path::Path;

    fn opened(path: &Path) -> InstanceFile {
        let (file, size) = input::open(path).unwrap();
        let stamp = input::stamp(&file);
        InstanceFile::new(file, size, stamp, Vec::new()).unwrap()
    }

    fn record(path: &Path) -> InstanceRecord {
        let file = opened(path);
        let (path, digest, stamp) = (path.to_owned(), file.digest(), file.stamp().cloned());
        let sop_instance = "1.2.3.4".into();
        InstanceRecord { path, input: 0, digest, stamp, sop_instance, number: None, position_mm: None, frame: None }
    }

    #[test]
    fn pixels_that_end_a_file_are_read_only_when_they_are_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = Instance::open(file_of(&sample(true, false), uids::EXPLICIT_VR_LITTLE_ENDIAN)).unwrap();
        let (data_set, pixels) = (wanted.data_set().unwrap(), wanted.pixel_group(two_rows(1)).unwrap().bytes);
        let behind = element(Tag(0xFFFC, 0xFFFC), b"OB", &[0; 0], true, false);
        let odd = element(Tag(0x7FE0, 0x0010), b"OB", &[2, 1, 4, 3, 9], true, false);
        let header = &sample(true, false)[..sample(true, false).len() - 16];
        for (bytes, syntax, head) in [
            (sample(true, false), uids::EXPLICIT_VR_LITTLE_ENDIAN, true),
            (sample(false, false), uids::IMPLICIT_VR_LITTLE_ENDIAN, true),
            (sample(true, true), guard::EXPLICIT_BE, false),
            ([sample(true, false), behind].concat(), uids::EXPLICIT_VR_LITTLE_ENDIAN, false),
            ([header, &odd[..]].concat(), uids::EXPLICIT_VR_LITTLE_ENDIAN, true),
        ] {
            let path = folder.path().join("file");
            std::fs::write(&path, file_of(&bytes, syntax)).unwrap();
            let file = InstanceFile::open(&record(&path)).unwrap();
            assert_eq!(matches!(file.content(), Content::Head(_)), head, "{syntax}");
            assert_eq!(file.instance().unwrap().data_set().unwrap(), data_set);
            let unread = file.unread_pixels(two_rows(1)).unwrap();
            assert_eq!(unread.is_some(), head);
            let whole = file.whole().unwrap();
            assert_eq!(whole, std::fs::read(&path).unwrap());
            let read =
                unread.unwrap_or_else(|| Instance::open(whole).unwrap().pixel_group(two_rows(1)).unwrap().into_owned());
            assert_eq!(read.bytes[8..], pixels[8..], "{syntax}");
        }
    }

    #[test]
    fn a_short_file_has_no_pixels_to_read_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let whole = file_of(&sample(true, false), uids::EXPLICIT_VR_LITTLE_ENDIAN);
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(matches!(opened(&path).content(), Content::Whole(_)));
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(opened(&path).unread_pixels(two_rows(2)).err().unwrap().code, "pixel-length");
    }

    #[test]
    fn a_file_that_changes_is_refused_and_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut bytes = file_of(&sample(true, false), uids::EXPLICIT_VR_LITTLE_ENDIAN);
        std::fs::write(&path, &bytes).unwrap();
        let (scanned, open) = (record(&path), opened(&path));
        assert_eq!(record(&path).digest, scanned.digest);
        // The clock by which the system stamps changes ticks every few milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(50));
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_ne!(record(&path).digest, scanned.digest);
        for code in [
            InstanceFile::open(&scanned).err().unwrap().code,
            open.unread_pixels(two_rows(1)).err().unwrap().code,
            open.whole().err().unwrap().code,
        ] {
            assert_eq!(code, "changed");
        }
    }
}
