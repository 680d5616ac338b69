//! [`Facts`]: everything that is embedded as data, read once a process.

use crate::classes::Classes;
use crate::iod_types::IodTypes;
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
}

impl Facts {
    /// The facts.
    ///
    /// # Errors
    /// A malformed file (a fault of the build, caught by its tests).
    pub fn embedded() -> Result<&'static Self, String> {
        static FACTS: OnceLock<Result<Facts, String>> = OnceLock::new();
        let read =
            || Ok(Facts { table: Table::embedded()?, types: IodTypes::embedded()?, classes: Classes::embedded()? });
        FACTS.get_or_init(read).as_ref().map_err(Clone::clone)
    }
}
