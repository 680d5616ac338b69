//! Bit for bit what nnU-Net, TotalSegmentator and scipy gave on real crops: the fixtures beside the checkout.

mod files;
mod nnunet;
mod resampling;
mod totalsegmentator;
mod window;
