//! Gemma 1, 2 and 3: configuration, weights, forward, backward, LoRA, optimizer, generation, memory plan.

pub mod config;
