//! Whether a model suits this machine, before a byte of it is fetched.

use crate::protocol::GpuSummary;

/// What is known of this machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    /// A CPU pretends to be a GPU.
    pub software: bool,
    /// Largest buffer in one binding, in bytes.
    pub max_binding: u64,
    /// Main memory in GiB, as far as the browser tells; it never says more than 8.
    pub memory: Option<f64>,
}

/// How a model suits it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Fits,
    Tight,
    TooLarge,
    Slow,
    VerySlow,
}

impl Machine {
    pub fn of(gpu: &GpuSummary, memory: Option<f64>) -> Self {
        Self { software: gpu.software, max_binding: gpu.max_binding, memory }
    }

    /// Bytes that a model may take here. No browser tells the GPU's memory. Half of the main memory is what
    /// a GPU without one of its own gets; 8 GiB may mean any more, and a GPU that binds only the least that
    /// WebGPU asks for is most often a phone's.
    fn room(&self) -> u64 {
        let room = (self.memory.unwrap_or(8.0) / 2.0 * f64::from(1u32 << 30)) as u64;
        if self.max_binding < 1 << 28 && !self.software { room.min(2 << 30) } else { room }
    }
}

/// About what a file of so many bytes needs while it is trained: its weights, and what a step keeps beside
/// them. Gemma 3 270M takes 0.5 GB, Gemma 2B in 4 bits under 2.5 GB (docs/bench.md, docs/gemma-2b.md).
pub fn need(file: u64) -> u64 {
    file + file * 2 / 5 + file.min(300_000_000)
}

/// How a model that needs so many bytes suits a machine.
pub fn verdict(need: u64, machine: Machine) -> Verdict {
    let room = machine.room();
    match need {
        _ if need > room => Verdict::TooLarge,
        _ if machine.software && need > 1_500_000_000 => Verdict::VerySlow,
        _ if machine.software => Verdict::Slow,
        _ if need > room / 3 * 2 => Verdict::Tight,
        _ => Verdict::Fits,
    }
}

impl Verdict {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Fits => "Fits this device",
            Self::Tight => "Tight: close other programs before training",
            Self::TooLarge => "Probably too large for this device",
            Self::Slow => "Works here, but slowly",
            Self::VerySlow => "Works here, but very slowly: minutes per step",
        }
    }

    /// For the style sheet; the words say the same.
    pub fn state(self) -> &'static str {
        match self {
            Self::Fits => "good",
            Self::Tight | Self::Slow | Self::VerySlow => "warn",
            Self::TooLarge => "bad",
        }
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    const SMALL: u64 = 253_000_000;
    const LARGE: u64 = 1_570_000_000;
    const FLOATS: u64 = 5_010_000_000;

    fn machine(software: bool, max_binding: u64, memory: Option<f64>) -> Machine {
        Machine { software, max_binding, memory }
    }

    #[wasm_bindgen_test]
    fn a_laptop_takes_what_a_phone_cannot() {
        let laptop = machine(false, 1 << 31, Some(8.0));
        assert_eq!(verdict(need(SMALL), laptop), Verdict::Fits);
        assert_eq!(verdict(need(LARGE), laptop), Verdict::Fits);
        assert_eq!(verdict(need(FLOATS), laptop), Verdict::TooLarge);
        let phone = machine(false, 1 << 27, Some(4.0));
        assert_eq!(verdict(need(SMALL), phone), Verdict::Fits);
        assert_eq!(verdict(need(LARGE), phone), Verdict::TooLarge);
        // Firefox and Safari say nothing of the memory
        assert_eq!(verdict(need(LARGE), machine(false, 1 << 30, None)), Verdict::Fits);
    }

    #[wasm_bindgen_test]
    fn little_memory_is_tight_before_it_is_too_little() {
        let room = machine(false, 1 << 31, Some(2.0));
        let words = [500_000_000, 900_000_000, 1_100_000_000].map(|need| verdict(need, room));
        assert_eq!(words, [Verdict::Fits, Verdict::Tight, Verdict::TooLarge]);
    }

    #[wasm_bindgen_test]
    fn a_cpu_is_slow_and_not_called_small() {
        let cpu = machine(true, 1 << 27, Some(8.0));
        assert_eq!(verdict(need(SMALL), cpu), Verdict::Slow);
        assert_eq!(verdict(need(LARGE), cpu), Verdict::VerySlow);
    }
}
