//! The ELF section `.gantry.v1`: which ABI a library speaks and which manifest it was built with.
//!
//! It is plain ASCII so that a C author can write it with one macro and a person can read it with `strings`:
//! `gantry-abi=1;manifest-sha256=<64 lower-case hexadecimal digits>`, NUL-terminated. The host reads it from the file,
//! before the dynamic loader runs any constructor.

/// Name of the section.
pub const NAME: &str = ".gantry.v1";
/// Bytes of the section: the text and its NUL.
pub const LEN: usize = 94;

const HEAD: &[u8; 28] = b"gantry-abi=1;manifest-sha256";

/// The section's content for a manifest with this SHA-256 digest.
pub const fn content(manifest_sha256: [u8; 32]) -> [u8; LEN] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut out = [0u8; LEN];
    let mut i = 0;
    while i < HEAD.len() {
        out[i] = HEAD[i];
        i += 1;
    }
    out[i] = b'=';
    let mut k = 0;
    while k < 32 {
        out[i + 1 + 2 * k] = HEX[(manifest_sha256[k] >> 4) as usize];
        out[i + 2 + 2 * k] = HEX[(manifest_sha256[k] & 15) as usize];
        k += 1;
    }
    out
}

/// What a section says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// ABI major version.
    pub abi_major: u32,
    /// SHA-256 of the embedded manifest, 64 lower-case hexadecimal digits.
    pub manifest_sha256: String,
}

/// Reads the section's bytes.
///
/// # Errors
/// A sentence that says what is wrong with them.
pub fn parse(bytes: &[u8]) -> Result<Section, String> {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| format!("section {NAME} is not text"))?;
    let (abi, manifest) = text
        .split_once(';')
        .and_then(|(a, m)| Some((a.strip_prefix("gantry-abi=")?, m.strip_prefix("manifest-sha256=")?)))
        .ok_or_else(|| format!("section {NAME} does not read `gantry-abi=N;manifest-sha256=…`"))?;
    let abi_major = abi.parse().map_err(|_| format!("section {NAME}: `{abi}` is no ABI version"))?;
    if manifest.len() != 64 || !manifest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(format!("section {NAME}: the manifest's digest is not 64 lower-case hexadecimal digits"));
    }
    Ok(Section { abi_major, manifest_sha256: manifest.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let digest: [u8; 32] = std::array::from_fn(|i| (i * 7 + 3) as u8);
        let bytes = content(digest);
        assert_eq!(*bytes.last().unwrap(), 0);
        let section = parse(&bytes).unwrap();
        assert_eq!(section.abi_major, 1);
        assert_eq!(&section.manifest_sha256[..6], "030a11");
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            &b""[..],
            b"gantry-abi=1",
            b"gantry-abi=x;manifest-sha256=00",
            b"\xff\xfe",
            b"gantry-abi=1;manifest-sha256=zz",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
