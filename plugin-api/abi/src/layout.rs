//! `gantry.layout/1`: two Rust sides compare the layouts of the structs they were compiled with.
//!
//! A plugin written in Rust answers the extension name [`NAME`] with a pointer to a [`LayoutTable`]; one written in C
//! answers NULL and is held to the header instead. The check is one more net under the version number: it catches a
//! plugin that was built against a locally edited copy of this crate.

use abi_stable::StableAbi;
use abi_stable::abi_stability::abi_checking::check_layout_compatibility;
use abi_stable::library::AbiHeader;
use abi_stable::type_layout::TypeLayout;

use crate::v1;

/// The extension's versioned name.
pub const NAME: &str = "gantry.layout/1";

/// What a Rust plugin hands over: the `abi_stable` version that made the layout, and the layout of its [`v1::Entry`],
/// from which every other struct is reached.
#[repr(C)]
pub struct LayoutTable {
    /// Version of `abi_stable` itself; compared first, because it decides whether `entry` may be read at all.
    pub header: AbiHeader,
    /// Layout of [`v1::Entry`].
    pub entry: &'static TypeLayout,
}

/// This build's table.
pub static TABLE: LayoutTable = LayoutTable { header: AbiHeader::VALUE, entry: <v1::Entry as StableAbi>::LAYOUT };

/// Compares a plugin's table with this build's.
///
/// # Errors
/// The first differences, in words.
pub fn check(theirs: &LayoutTable) -> Result<(), String> {
    let ours = &AbiHeader::VALUE;
    if !theirs.header.is_valid() || !theirs.header.is_compatible(ours) {
        return Err(format!(
            "the plugin describes its layout with abi_stable {}.{}, this host with {}.{}",
            theirs.header.abi_major, theirs.header.abi_minor, ours.abi_major, ours.abi_minor
        ));
    }
    check_layout_compatibility(TABLE.entry, theirs.entry).map_err(|differences| differences.to_string())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_layout_agrees_with_itself() {
        super::check(&super::TABLE).unwrap();
    }
}
