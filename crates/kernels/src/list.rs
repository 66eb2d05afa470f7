//! The list of kernels. `build.rs` generates it from the files in `shaders/`: a kernel's module is
//! declared in `lib.rs`, and nothing else names it.

use hearth_formats::layout::CODES;
use hearth_gpu::Kernel;

include!(concat!(env!("OUT_DIR"), "/list.rs"));

/// Every kernel in all its variants. `tests/shaders.rs` checks each of them without a GPU.
pub fn all() -> Vec<&'static Kernel> {
    MODULES.iter().flat_map(|kernels| kernels()).collect()
}

/// The WGSL of the decoder of every row of [`CODES`]. A row without a file does not compile.
pub(crate) const CODE_DECODERS: [&str; CODES.len()] = {
    let mut found = [""; CODES.len()];
    let mut row = 0;
    while row < CODES.len() {
        found[row] = decoder(CODES[row].name);
        row += 1;
    }
    found
};

/// The text of `shaders/weights/NAME.wgsl`.
const fn decoder(name: &str) -> &'static str {
    let mut file = 0;
    while file < DECODERS.len() {
        if equal(DECODERS[file].0.as_bytes(), name.as_bytes()) {
            return DECODERS[file].1;
        }
        file += 1;
    }
    panic!("a row of formats::layout::CODES has no decoder of its name in shaders/weights")
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}
