//! The learning rate over the course of a run.

use serde::{Deserialize, Serialize};

/// How the learning rate decays after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// No decay.
    Constant,
    /// Linearly to zero at the last step.
    Linear,
    /// Along half a cosine to zero (Loshchilov and Hutter 2016, without restarts).
    Cosine,
}

/// Learning rate: a linear warm-up from zero, then a decay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The maximum learning rate.
    pub rate: f64,
    /// Number of warm-up steps.
    pub warmup: u32,
    /// Number of steps of the whole run.
    pub steps: u32,
    /// How the rate decays afterwards.
    pub decay: Decay,
}

impl Schedule {
    /// The schedule of a run of `steps` steps. The rate rises during the first `warmup` of them, a
    /// fraction from 0 to 1.
    pub fn of_run(rate: f64, warmup: f64, decay: Decay, steps: usize) -> Self {
        Self { rate, warmup: (warmup * steps as f64).ceil() as u32, steps: steps as u32, decay }
    }

    /// The rate of a step, counted from 0, as `transformers.get_scheduler` computes it: step 0 of a
    /// warm-up has rate 0.
    pub fn at(&self, step: u32) -> f64 {
        if step < self.warmup {
            return self.rate * f64::from(step) / f64::from(self.warmup);
        }
        let rest = f64::from(self.steps.saturating_sub(self.warmup).max(1));
        let done = (f64::from(step - self.warmup) / rest).min(1.0);
        self.rate
            * match self.decay {
                Decay::Constant => 1.0,
                Decay::Linear => 1.0 - done,
                Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_transformers() {
        let schedule = |decay| Schedule { rate: 1.0, warmup: 2, steps: 6, decay };
        let rates = |decay| (0..7).map(|s| schedule(decay).at(s)).collect::<Vec<_>>();
        assert_eq!(rates(Decay::Constant), [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(rates(Decay::Linear), [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]);
        let cosine = rates(Decay::Cosine);
        assert!((cosine[4] - 0.5).abs() < 1e-12 && cosine[6].abs() < 1e-12);
        let none = Schedule { rate: 1.0, warmup: 0, steps: 0, decay: Decay::Linear };
        assert_eq!((none.at(0), none.at(5)), (1.0, 0.0));
    }
}
