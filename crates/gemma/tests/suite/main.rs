//! Compares the engine with references, natively and in the browser. All tests are in one program:
//! each separate program would have to link the whole engine, and in the browser it would be
//! prepared, loaded and compiled again.

mod browser_native;
mod device;
mod ethos_lengths;
mod generation;
mod golden;
#[cfg(not(target_arch = "wasm32"))]
mod iq4;
mod limits;
mod memory;
mod packed;
mod peft;
mod quantized;
mod real;
mod same_driver;
mod table;
mod training;
mod twins;
