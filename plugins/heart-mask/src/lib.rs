//! The stages `heart-mask` and `nnunet-segmenter`.
#![forbid(unsafe_code)]
