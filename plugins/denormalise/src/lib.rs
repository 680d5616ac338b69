//! Stage `denormalise`: leads a normalised image back to physical units by its own map.

pub mod inverse;
