//! From a CSV to a trained, measured text classifier. No GPU type appears here.

pub mod columns;
pub mod rng;
pub mod split;
pub mod table;
