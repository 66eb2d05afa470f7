//! Keys and values of tokens that were already processed.

use hearth_gpu::{Buffer, Gpu};

use crate::{Config, Lora, ModelError, Packed};

/// Keys and values per layer, `(capacity, G·D)` each: what generation and scoring keep of the
/// preceding tokens.
pub struct KvCache {
    pub(crate) layers: Vec<(Buffer, Buffer)>,
    capacity: usize,
    len: usize,
    adapter: Option<u64>,
}

impl KvCache {
    /// Allocates a cache for `capacity` tokens.
    ///
    /// # Errors
    /// Out of device memory.
    pub fn new(gpu: &Gpu, config: &Config, capacity: usize) -> Result<Self, ModelError> {
        let bytes = Self::bytes(config, capacity) / (2 * config.layers.len().max(1)) as u64;
        let layers = config
            .layers
            .iter()
            .map(|_| Ok((gpu.buffer("keys", bytes)?, gpu.buffer("values", bytes)?)))
            .collect::<Result<_, ModelError>>()?;
        Ok(Self { layers, capacity, len: 0, adapter: None })
    }

    /// Number of cached tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Maximum number of cached tokens.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Discards everything after the first `len` tokens.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Checks that a batch continues the cached tokens, that it fits, and that the cache was filled
    /// with the same adapter.
    pub(crate) fn check(&self, batch: &Packed, lora: Option<&Lora>) -> Result<(), ModelError> {
        let tokens = batch.len();
        if self.len != batch.cached {
            return Err(ModelError::Cache(format!(
                "the batch was packed after {} cached tokens, but the cache holds {}: pack it anew, or \
                 truncate the cache",
                batch.cached, self.len
            )));
        }
        if self.len + tokens > self.capacity {
            return Err(ModelError::Cache(format!(
                "{} tokens and {tokens} more exceed the cache of {}",
                self.len, self.capacity
            )));
        }
        if self.len > 0 && self.adapter != Some(lora.map_or(0, |l| l.id)) {
            return Err(ModelError::Cache(
                "the cached keys belong to another adapter: empty the cache first".to_owned(),
            ));
        }
        Ok(())
    }

    /// Counts `tokens` whose keys were just written.
    pub(crate) fn extend(&mut self, tokens: usize, lora: Option<&Lora>) {
        self.len += tokens;
        self.adapter = Some(lora.map_or(0, |l| l.id));
    }

    /// Bytes on the device.
    pub fn bytes(config: &Config, capacity: usize) -> u64 {
        let sizes = [config.layers.len(), capacity, config.kv_heads * config.head_dim];
        sizes.into_iter().fold(8, |bytes, size| bytes.saturating_mul(size as u64))
    }
}
