//! What `gantry check` finds, on the DuCoSy chain and on a brain-MR chain whose stages were never built. Each mistake is
//! one finding, in the right place, with both ends named.

mod bench;
mod brain_mr;
mod documents;
mod ducosy;
mod edges;
mod hostile;
mod manifests;
mod models;
mod precision;
mod verbs;
