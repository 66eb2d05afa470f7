//! One module per WGSL kernel: how to dispatch it, a slow CPU reference, and the tests that compare the two.
