//! Runs nnU-Net v2 models as their makers run them, in bounded memory.
#![forbid(unsafe_code)]
