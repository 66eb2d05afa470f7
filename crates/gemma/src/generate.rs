//! Generates text token by token: prefill in pieces, then one token per pass over cached keys.

use hearth_gpu::{Commands, Slice};
use hearth_rng::Rng;

use crate::{
    KvCache, Lora, Model, ModelError, Packed, Pass, Row,
    workspace::{Sizes, Workspace},
};

/// Prompt tokens per pass: enough to keep a GPU busy, few enough that a prefill can be stopped.
pub const PREFILL: usize = 128;

pub(crate) const NOT_FINITE: ModelError = ModelError::Empty(
    "logits are not finite numbers: the model file is damaged, or the GPU driver computes wrongly",
);

/// How the next token is chosen from its logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divisor of logits; 0 picks the largest (greedy).
    pub temperature: f32,
    /// Only this many of the most likely tokens; 0: all.
    pub top_k: usize,
    /// Only the most likely tokens that together reach this probability, after `top_k`; 1: all.
    pub top_p: f32,
    /// Seed of the draws. The same seed gives the same text.
    pub seed: u64,
}

impl Sampling {
    /// Always the most likely token.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 }
    }

    /// Checks ranges.
    ///
    /// # Errors
    /// A description of what is out of range.
    pub fn check(&self) -> Result<(), ModelError> {
        let fault = if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            format!("temperature {} is not 0 (greedy) or a positive number", self.temperature)
        } else if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            format!("top-p {} is not above 0 and at most 1", self.top_p)
        } else {
            return Ok(());
        };
        Err(ModelError::Options(fault))
    }
}

/// A [`Sampling`] and the state of its generator.
pub struct Sampler {
    sampling: Sampling,
    rng: Rng,
}

impl Sampler {
    /// Starts a generator from the seed.
    ///
    /// # Errors
    /// As [`Sampling::check`].
    pub fn new(sampling: Sampling) -> Result<Self, ModelError> {
        sampling.check()?;
        Ok(Self { sampling, rng: Rng::new(sampling.seed) })
    }

    /// Chooses a token; `logits` is `(V)`. Of equal logits, the first counts as the larger. The
    /// order of the filters is that of `transformers`: temperature, top-k, top-p.
    ///
    /// # Errors
    /// Logits that are not finite.
    pub fn pick(&mut self, logits: &[f32]) -> Result<u32, ModelError> {
        if logits.is_empty() || logits.iter().any(|l| !l.is_finite()) {
            return Err(NOT_FINITE);
        }
        let Sampling { temperature, top_k, top_p, .. } = self.sampling;
        let largest =
            (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
        if temperature == 0.0 {
            return Ok(largest as u32);
        }
        let weight =
            |i: usize| (f64::from(logits[i] - logits[largest]) / f64::from(temperature)).exp();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        if (1..logits.len()).contains(&top_k) {
            keep_largest(&mut order, logits, top_k);
        }
        if top_p < 1.0 {
            let wanted = f64::from(top_p) * order.iter().map(|&i| weight(i)).sum::<f64>();
            keep_mass(&mut order, logits, weight, wanted);
        }
        let total: f64 = order.iter().map(|&i| weight(i)).sum();
        let mut left = self.rng.uniform() * total;
        for &i in &order {
            left -= weight(i);
            if left < 0.0 {
                return Ok(i as u32);
            }
        }
        // Rounding may leave a remainder after the last token.
        Ok(order.last().map_or(largest, |&i| i) as u32)
    }
}

/// Keeps the `count` tokens with the largest logits, in descending order.
fn keep_largest(order: &mut Vec<usize>, logits: &[f32], count: usize) {
    let descending = |&a: &usize, &b: &usize| logits[b].total_cmp(&logits[a]).then(a.cmp(&b));
    if count < order.len() {
        order.select_nth_unstable_by(count - 1, descending);
        order.truncate(count);
    }
    order.sort_unstable_by(descending);
}

/// Keeps the smallest number of most likely tokens whose weights reach `wanted`. A few are nearly
/// always enough, so the whole vocabulary is usually not sorted.
fn keep_mass(order: &mut Vec<usize>, logits: &[f32], weight: impl Fn(usize) -> f64, wanted: f64) {
    let mut count = 512;
    loop {
        let mut front = order.clone();
        keep_largest(&mut front, logits, count);
        let mut mass = 0.0;
        let enough = front.iter().position(|&i| {
            mass += weight(i);
            mass >= wanted
        });
        if enough.is_some() || count >= order.len() {
            front.truncate(enough.map_or(front.len(), |last| last + 1));
            *order = front;
            return;
        }
        count *= 8;
    }
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The model ended the text with this token.
    Token(u32),
    /// The requested number of tokens was reached.
    Length,
    /// The callback returned `false`.
    Stopped,
}

/// Device memory of one text. The model and the adapter are passed to every call.
pub struct Generator {
    cache: KvCache,
    ws: Workspace,
    logits: Slice,
}

impl Generator {
    /// Allocates memory for a text of `capacity` tokens, including the prompt.
    ///
    /// # Errors
    /// More tokens than the model's longest text, or out of device memory.
    pub fn new(model: &Model, lora: Option<&Lora>, capacity: usize) -> Result<Self, ModelError> {
        if capacity > model.max_positions() {
            return Err(ModelError::TooLong { tokens: capacity, max: model.max_positions() });
        }
        let lora = lora.map(|l| l.layout.config.clone());
        let sizes = Sizes { tokens: PREFILL.min(capacity.max(1)), chosen: 1, lora, training: None };
        Ok(Self {
            cache: KvCache::new(&model.gpu, &model.config, capacity.max(1))?,
            ws: Workspace::new(&model.gpu, &model.config, sizes)?,
            logits: model.gpu.buffer("logits", 4 * model.config.vocab as u64)?.all(),
        })
    }

    /// Number of tokens whose keys are cached.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether no token has been read yet.
    pub fn is_empty(&self) -> bool {
        self.cache.is_empty()
    }

    /// Discards the text.
    pub fn clear(&mut self) {
        self.cache.truncate(0);
    }

    /// Reads tokens after those already cached and returns the logits, `(V)`, of the next token.
    ///
    /// # Errors
    /// No tokens, ids beyond the vocabulary, a text that is too long, or a device error.
    pub async fn read(
        &mut self,
        model: &Model,
        lora: Option<&Lora>,
        ids: &[u32],
    ) -> Result<Vec<f32>, ModelError> {
        if ids.is_empty() {
            return Err(ModelError::Empty("a prompt needs at least one token: begin with <bos>"));
        }
        let Self { cache, ws, logits } = self;
        prefill(model, lora, ws, cache, ids).await?;
        let (head, vocab) = (model.weights.output_head()?, model.config.vocab as u32);
        let mut c = Commands::new();
        model.logits(&mut c, ws, head, 0..vocab, logits, vocab);
        model.gpu.run(&c).await?;
        Ok(model.gpu.read::<f32>(&*logits).await?)
    }

    /// Continues a prompt until the model ends the text or `max_tokens` are generated. `on_token`
    /// receives every token when it is chosen (except the end token) and returns `false` to stop.
    ///
    /// # Errors
    /// As [`Generator::read`], and settings out of range.
    pub async fn generate(
        &mut self,
        model: &Model,
        lora: Option<&Lora>,
        prompt: &[u32],
        max_tokens: usize,
        sampling: Sampling,
        mut on_token: impl FnMut(u32) -> bool,
    ) -> Result<End, ModelError> {
        let mut sampler = Sampler::new(sampling)?;
        let mut logits = self.read(model, lora, prompt).await?;
        for made in 1..=max_tokens {
            let token = sampler.pick(&logits)?;
            if model.config.eos.contains(&token) {
                return Ok(End::Token(token));
            }
            if !on_token(token) {
                return Ok(End::Stopped);
            }
            if made < max_tokens {
                logits = self.read(model, lora, &[token]).await?;
            }
        }
        Ok(End::Length)
    }
}

/// Adds the keys of `ids` to the cache, one piece at a time; the hidden state of the last token is
/// in `ws.hidden`. On failure, the cache is as it was before.
pub(crate) async fn prefill(
    model: &Model,
    lora: Option<&Lora>,
    ws: &mut Workspace,
    cache: &mut KvCache,
    ids: &[u32],
) -> Result<(), ModelError> {
    let before = cache.len();
    let mut all = Ok(());
    for piece in ids.chunks(ws.sizes.tokens) {
        all = read_piece(model, lora, ws, cache, piece).await;
        if all.is_err() {
            cache.truncate(before);
            break;
        }
    }
    all
}

async fn read_piece(
    model: &Model,
    lora: Option<&Lora>,
    ws: &mut Workspace,
    cache: &mut KvCache,
    piece: &[u32],
) -> Result<(), ModelError> {
    let packed = Packed::after_cache(&[Row { tokens: piece, id: 0 }], cache.len())?;
    packed.check(model.config.vocab, model.max_positions())?;
    let last = packed.len() as u32 - 1;
    model.set_batch(ws, packed, Some(vec![last])).await?;
    let mut c = Commands::new();
    model.forward(&mut c, ws, Pass { lora, dropout: None }, Some(cache))?;
    Ok(model.gpu.run(&c).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(temperature: f32, top_k: usize, top_p: f32) -> Sampler {
        Sampler::new(Sampling { temperature, top_k, top_p, seed: 3 }).unwrap()
    }

    /// The frequency of each token in 20,000 draws.
    fn frequencies(mut sampler: Sampler, logits: &[f32]) -> Vec<f64> {
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            counts[sampler.pick(logits).unwrap() as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn assert_near(found: &[f64], wanted: &[f64]) {
        // 20,000 draws: three standard deviations are at most 0.011.
        let near =
            found.iter().zip(wanted).all(|(f, w)| (f - w).abs() < 0.011 && (*w > 0.0 || *f == 0.0));
        assert!(near, "{found:?} instead of {wanted:?}");
    }

    #[test]
    fn greedy_takes_the_first_largest() {
        let mut greedy = Sampler::new(Sampling::greedy()).unwrap();
        assert_eq!(greedy.pick(&[-3.0, 2.0, 2.0, -1.0]).unwrap(), 1);
        assert_eq!(greedy.pick(&[-3.0]).unwrap(), 0);
    }

    #[test]
    fn draws_follow_the_probabilities_and_the_filters() {
        let logits: Vec<f32> = [0.1f32, 0.4, 0.2, 0.3].iter().map(|p| p.ln()).collect();
        assert_near(&frequencies(sampler(1.0, 0, 1.0), &logits), &[0.1, 0.4, 0.2, 0.3]);
        // Temperature 1/2 squares probabilities.
        let squares = [0.01, 0.16, 0.04, 0.09].map(|s| s / 0.3);
        assert_near(&frequencies(sampler(0.5, 0, 1.0), &logits), &squares);
        let two = [0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0];
        assert_near(&frequencies(sampler(1.0, 2, 1.0), &logits), &two);
        // 0.4 and 0.3 reach 0.65; 0.4 alone reaches 0.39.
        assert_near(&frequencies(sampler(1.0, 0, 0.65), &logits), &two);
        assert_near(&frequencies(sampler(1.0, 0, 0.39), &logits), &[0.0, 1.0, 0.0, 0.0]);
        // Top-p applies to what top-k left: 0.4/0.7 = 0.571 is enough for 0.57.
        assert_near(&frequencies(sampler(1.0, 2, 0.57), &logits), &[0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn top_p_reaches_beyond_the_first_guess() {
        // 5,000 equal tokens: half of the mass needs 2,500 of them, the first ones.
        let mut flat = sampler(1.0, 0, 0.5);
        let picks: Vec<u32> = (0..2000).map(|_| flat.pick(&[0.25; 5000]).unwrap()).collect();
        assert!(picks.iter().all(|&i| i < 2500) && picks.iter().any(|&i| i > 2400));
    }

    #[test]
    fn a_seed_gives_the_same_tokens() {
        let draw = |seed| {
            let mut s =
                Sampler::new(Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed }).unwrap();
            (0..20).map(|_| s.pick(&[0.0; 100]).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
    }

    #[test]
    fn bad_settings_and_bad_logits_are_errors() {
        for (temperature, top_p) in
            [(-1.0, 1.0), (f32::NAN, 1.0), (1.0, 0.0), (1.0, 1.1), (1.0, f32::NAN)]
        {
            let bad = Sampling { temperature, top_p, ..Sampling::greedy() };
            assert!(Sampler::new(bad).is_err(), "{bad:?}");
        }
        assert!(sampler(1.0, 0, 1.0).pick(&[0.0, f32::NAN]).is_err());
        assert!(sampler(1.0, 0, 1.0).pick(&[]).is_err());
    }
}
