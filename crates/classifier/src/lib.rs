//! From a CSV to a trained, measured text classifier. No GPU type appears here.

pub mod table;
