//! The output head: the embedding, or a separate matrix. The tensors decide, whatever `config.json` says.

use super::{Checkpoint, CheckpointError, PIECE};
use crate::source::read_vec;

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

impl Checkpoint {
    /// Whether the file has an output head that is not the embedding.
    pub fn has_own_head(&self) -> bool {
        self.get(HEAD).is_some()
    }

    /// Leaves out a head that is bit-identical to the embedding: some programs write it although it is tied.
    pub(super) async fn settle_head(&mut self) -> Result<(), CheckpointError> {
        if self.head_is_the_embedding().await? {
            self.tensors.remove(HEAD);
        }
        Ok(())
    }

    async fn head_is_the_embedding(&self) -> Result<bool, CheckpointError> {
        let (Some(embedding), Some(head)) = (self.get(EMBEDDING), self.get(HEAD)) else {
            return Ok(false);
        };
        if embedding.shape != head.shape || embedding.stored_as() != head.stored_as() {
            return Ok(false);
        }
        let rows = embedding.rows();
        for (one, other) in embedding.storage.parts().iter().zip(head.storage.parts()) {
            if one.row_bytes != other.row_bytes {
                return Ok(false);
            }
            let (mut done, bytes) = (0, one.row_bytes.saturating_mul(rows));
            while done < bytes {
                let piece = PIECE.min(bytes - done);
                let a = read_vec(&*self.sources[one.source], one.offset + done, piece).await?;
                let b = read_vec(&*self.sources[other.source], other.offset + done, piece).await?;
                if a != b {
                    return Ok(false);
                }
                done += piece;
            }
        }
        Ok(true)
    }
}
