//! A training run serialized to bytes: what a bit-identical resume needs, with a checksum.
//!
//! The container is a safetensors file: the flat buffers as f32 tensors, everything else as JSON in
//! the metadata, and a SHA-256 over both. The front end decides where it is stored (two alternating
//! slots, files or OPFS).

use std::collections::{BTreeMap, HashMap};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ModelError;

/// Increased when the meaning of anything in a snapshot changes.
pub const SNAPSHOT_VERSION: u32 = 1;

/// The state of a run at one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// What must be equal for the run to be resumed: the name and value of each property, so that
    /// an error can say which one differs. The code that created the run compares them.
    pub identity: BTreeMap<String, String>,
    /// The run's own bookkeeping: order, counters, history. Opaque here.
    pub state: String,
    /// Flat buffers by name: parameters, moments, best parameters, optimizer state (as bits).
    pub buffers: BTreeMap<String, Vec<f32>>,
}

#[derive(Serialize, Deserialize)]
struct Meta {
    version: u32,
    identity: BTreeMap<String, String>,
    state: String,
}

impl Snapshot {
    /// Serializes to bytes.
    ///
    /// # Errors
    /// If the container cannot be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        let meta = Meta {
            version: SNAPSHOT_VERSION,
            identity: self.identity.clone(),
            state: self.state.clone(),
        };
        let meta = serde_json::to_string(&meta).map_err(|e| fault(&e))?;
        let sum = checksum(&meta, &self.buffers);
        let metadata =
            HashMap::from([("hearth_snapshot".to_owned(), meta), ("sha256".to_owned(), sum)]);
        let views = self
            .buffers
            .iter()
            .map(|(name, data)| {
                let view =
                    TensorView::new(Dtype::F32, vec![data.len()], bytemuck::cast_slice(data));
                Ok((name.as_str(), view.map_err(|e| fault(&e))?))
            })
            .collect::<Result<Vec<_>, ModelError>>()?;
        safetensors::serialize(views, Some(metadata)).map_err(|e| fault(&e))
    }

    /// Deserializes from bytes.
    ///
    /// # Errors
    /// If the bytes are damaged, truncated, or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| fault(&e))?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| fault(&e))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let (Some(text), Some(sum)) = (metadata.get("hearth_snapshot"), metadata.get("sha256"))
        else {
            return Err(fault(&"this is no snapshot of a training run"));
        };
        let meta: Meta = serde_json::from_str(text).map_err(|e| fault(&e))?;
        if meta.version != SNAPSHOT_VERSION {
            return Err(ModelError::Options(format!(
                "the snapshot has version {}, this build reads {SNAPSHOT_VERSION}: finish the run with the build that began it",
                meta.version
            )));
        }
        let mut buffers = BTreeMap::new();
        for (name, view) in file.iter() {
            if view.dtype() != Dtype::F32 {
                return Err(fault(&format!("{name} is not f32")));
            }
            let numbers =
                view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            buffers.insert(name.to_owned(), numbers.collect());
        }
        if checksum(text, &buffers) != *sum {
            return Err(fault(&"its checksum does not match"));
        }
        Ok(Self { identity: meta.identity, state: meta.state, buffers })
    }
}

/// The identity in a snapshot's header, which is the JSON behind the eight bytes that give its length; none where it
/// is no snapshot's.
pub fn identity(header: &[u8]) -> Option<BTreeMap<String, String>> {
    let header: serde_json::Value = serde_json::from_slice(header).ok()?;
    let meta = header.get("__metadata__")?.get("hearth_snapshot")?.as_str()?;
    Some(serde_json::from_str::<Meta>(meta).ok()?.identity)
}

/// The newest intact snapshot of two alternating slots. `order` ranks snapshots by age.
pub fn newest(slots: &[Vec<u8>], order: impl Fn(&Snapshot) -> u64) -> Option<Snapshot> {
    slots.iter().filter_map(|bytes| Snapshot::from_bytes(bytes).ok()).max_by_key(order)
}

fn checksum(meta: &str, buffers: &BTreeMap<String, Vec<f32>>) -> String {
    let mut hash = Sha256::new();
    hash.update(meta);
    for (name, data) in buffers {
        hash.update(name);
        hash.update((data.len() as u64).to_le_bytes());
        hash.update(bytemuck::cast_slice::<f32, u8>(data));
    }
    hex::encode(hash.finalize())
}

fn fault(reason: &dyn std::fmt::Display) -> ModelError {
    ModelError::Options(format!(
        "snapshot: {reason}: it is damaged, use the other slot or start again"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(step: u32) -> Snapshot {
        Snapshot {
            identity: BTreeMap::from([("model".to_owned(), "a".to_owned())]),
            state: step.to_string(),
            // A NaN and a subnormal keep their bits.
            buffers: BTreeMap::from([
                ("m".to_owned(), vec![1.5, f32::from_bits(1)]),
                ("p".to_owned(), vec![step as f32]),
            ]),
        }
    }

    #[test]
    fn a_round_trip_keeps_everything() {
        let one = snapshot(3);
        let bytes = one.to_bytes().unwrap();
        assert_eq!(Snapshot::from_bytes(&bytes).unwrap(), one);
        let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(identity(&bytes[8..end]), Some(one.identity));
        assert_eq!(identity(&bytes[8..end / 2]), None);
    }

    #[test]
    fn damage_anywhere_is_found_and_the_other_slot_is_used() {
        let bytes = snapshot(4).to_bytes().unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(Snapshot::from_bytes(&damaged).is_err(), "byte {at}");
            assert!(Snapshot::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
        }
        let older = snapshot(3).to_bytes().unwrap();
        let age = |s: &Snapshot| s.state.parse().unwrap();
        assert_eq!(newest(&[older.clone(), bytes.clone()], age).unwrap().state, "4");
        assert_eq!(newest(&[older, bytes[..50].to_vec()], age).unwrap().state, "3");
        assert!(newest(&[vec![], vec![1, 2]], age).is_none());
    }
}
