//! [`Facts`]: everything that is embedded as data, read once a process.

use crate::classes::Classes;
use crate::content::ContentTable;
use crate::iod_types::IodTypes;
use crate::safe_private::SafePrivate;
use crate::table::Table;
use std::sync::OnceLock;

/// The embedded facts.
#[derive(Debug)]
pub struct Facts {
    /// PS3.15 Table E.1-1.
    pub table: Table,
    /// Types of attributes by IOD.
    pub types: IodTypes,
    /// Which SOP Classes can be cleaned.
    pub classes: Classes,
    /// PS3.15 Table E.3.4-1.
    pub content: ContentTable,
    /// Private attributes that may stay.
    pub safe_private: SafePrivate,
}

impl Facts {
    /// The facts.
    ///
    /// # Errors
    /// A malformed file (a fault of the build, caught by its tests).
    pub fn embedded() -> Result<&'static Self, String> {
        static FACTS: OnceLock<Result<Facts, String>> = OnceLock::new();
        let read = || {
            Ok(Facts {
                table: Table::embedded()?,
                types: IodTypes::embedded()?,
                classes: Classes::embedded()?,
                content: ContentTable::embedded()?,
                safe_private: SafePrivate::embedded()?,
            })
        };
        FACTS.get_or_init(read).as_ref().map_err(Clone::clone)
    }
}
