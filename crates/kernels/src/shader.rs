//! The WGSL texts, embedded.

/// Embeds `shaders/NAME.wgsl`.
macro_rules! wgsl {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shaders/", $name, ".wgsl"))
    };
}
pub(crate) use wgsl;

/// Widening of f16 by integer steps.
pub(crate) const HALF: &str = wgsl!("shared/half");
