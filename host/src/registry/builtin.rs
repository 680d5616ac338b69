//! The documents of the stages that are part of the host. Their code is in `builtin`.

/// File name and text of each.
pub const MANIFESTS: [(&str, &str); 10] = [
    ("dicom-read.toml", include_str!("../builtin/manifests/dicom-read.toml")),
    ("nifti-read.toml", include_str!("../builtin/manifests/nifti-read.toml")),
    ("labels-read.toml", include_str!("../builtin/manifests/labels-read.toml")),
    ("instance-read.toml", include_str!("../builtin/manifests/instance-read.toml")),
    ("instance-write.toml", include_str!("../builtin/manifests/instance-write.toml")),
    ("dicom-write.toml", include_str!("../builtin/manifests/dicom-write.toml")),
    ("nifti-write.toml", include_str!("../builtin/manifests/nifti-write.toml")),
    ("seg-write.toml", include_str!("../builtin/manifests/seg-write.toml")),
    ("png-write.toml", include_str!("../builtin/manifests/png-write.toml")),
    ("json-write.toml", include_str!("../builtin/manifests/json-write.toml")),
];
