//! Stage `hu-window`: clips Hounsfield units to a window and scales them to [-1, 1].

pub mod window;
