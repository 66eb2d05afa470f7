//! From a CSV to a trained, measured text classifier. No GPU type appears here.

pub mod bootstrap;
pub mod bundle;
pub mod calibration;
pub mod card;
pub mod columns;
pub mod curves;
pub mod error;
pub mod estimator;
pub mod fit;
pub mod history;
pub mod measure;
pub mod metrics;
pub mod origin;
pub mod plots;
pub mod predictions;
pub mod prepare;
pub mod prompt;
pub mod recipe;
pub mod report;
pub mod scoring;
pub mod split;
pub mod table;
