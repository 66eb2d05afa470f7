//! Text that the base model writes.

use hearth_formats::tokenizer::{Special, TextStream};
use hearth_gemma::{
    ModelError,
    generate::{Generator, Sampling},
};
use web_time::Instant;

use super::{model::Loaded, problem::Problem, request::Request};
use crate::protocol::{FromEngine, Writing};

/// Lets the base model write on.
pub async fn generate(
    request: &Request,
    loaded: &Loaded,
    prompt: &str,
    writing: Writing,
) -> Result<FromEngine, Problem> {
    let (model, tokenizer) = (&loaded.model, &loaded.tokenizer);
    let Writing { temperature, top_k, top_p, seed, .. } = writing;
    let sampling = Sampling { temperature, top_k, top_p, seed };
    sampling.check()?;
    let prompt = if writing.chat {
        format!("<start_of_turn>user\n{prompt}<end_of_turn>\n<start_of_turn>model\n")
    } else {
        prompt.to_owned()
    };
    if tokenizer.has_own_bos(&prompt, Special::Parse) {
        request.warn("the text already begins with <bos>, so no second one is added");
    }
    let ids = tokenizer.encode_with_bos(&prompt, Special::Parse);
    let max = model.max_positions();
    if ids.len() >= max {
        return Err(ModelError::TooLong { tokens: ids.len(), max }.into());
    }
    let most = writing.max_tokens.min(max - ids.len());
    // the table of the vocabulary: left in the file until someone wants to read text
    model.load_tables(|_| !request.is_cancelled()).await?;
    let mut generator = Generator::new(model, None, ids.len() + most)?;
    let (mut stream, mut tokens, start) = (TextStream::default(), 0, Instant::now());
    let on_token = |token| {
        tokens += 1;
        let text = stream.push(tokenizer, token);
        if !text.is_empty() {
            request.tell(&FromEngine::Wrote { text });
        }
        !request.is_cancelled()
    };
    generator.generate(model, None, &ids, most, sampling, on_token).await?;
    request.check()?;
    let rest = stream.finish();
    if !rest.is_empty() {
        request.tell(&FromEngine::Wrote { text: rest });
    }
    let tokens_per_second = tokens as f64 / start.elapsed().as_secs_f64().max(1e-9);
    Ok(FromEngine::Written { tokens, tokens_per_second })
}
