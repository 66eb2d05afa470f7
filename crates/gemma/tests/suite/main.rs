//! The engine against references, natively and in the browser. One program for all of them: each would link the
//! whole engine, and in the browser be prepared, loaded and compiled anew.

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
