//! How many tokens a batch of the codelab's ETHOS rows takes, packed after one shared instruction,
//! compared with the codelab's rows padded to 128. `--nocapture` prints the figures.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use hearth_gemma::{
    shared_prefix,
    targets::{Example, Loss, pack},
};
use serde::Deserialize;
use wasm_bindgen_test::wasm_bindgen_test;

/// `fixtures/ethos_lengths.json`: lengths only, no text.
#[derive(Deserialize)]
struct Lengths {
    prefix: usize,
    train: Vec<usize>,
    test: Vec<usize>,
}

/// Rows per batch, and the length to which the codelab pads.
const BATCH: usize = 8;
const PADDED: usize = 128;

/// Rows of these lengths: one instruction, then tokens that no other row has at that position.
fn rows(lengths: &[usize], prefix: usize) -> Vec<Example> {
    let row = |(id, &length): (u32, &usize)| {
        let own = (prefix..length).map(|place| 1000 + 10 * place as u32 + id);
        let prompt: Vec<u32> = (0..prefix as u32).chain(own).collect();
        Example::new(Loss::Choice, &prompt, 0, 7, None, 1.0, id)
    };
    (0..).zip(lengths).map(row).collect()
}

/// Mean tokens of a full batch, as the trainer packs it.
fn mean_tokens(lengths: &[usize], prefix: usize) -> f64 {
    let batches: Vec<_> = lengths.chunks_exact(BATCH).map(|batch| rows(batch, prefix)).collect();
    let tokens = |batch: &Vec<Example>| {
        let texts = batch.iter().map(|row| row.tokens.as_slice());
        assert_eq!(shared_prefix(texts), prefix);
        let rows: Vec<&Example> = batch.iter().collect();
        pack(&rows, prefix).unwrap().0.len()
    };
    batches.iter().map(tokens).sum::<usize>() as f64 / batches.len() as f64
}

#[wasm_bindgen_test(unsupported = test)]
fn eight_ethos_rows_take_a_quarter_of_the_padded_tokens() {
    let lengths: Lengths =
        serde_json::from_str(include_str!("../fixtures/ethos_lengths.json")).unwrap();
    assert_eq!((lengths.train.len(), lengths.test.len()), (800, 198));
    let train = mean_tokens(&lengths.train, lengths.prefix);
    let test = mean_tokens(&lengths.test, lengths.prefix);
    println!(
        "tokens a batch of {BATCH} rows: {train:.2} (training rows), {test:.2} (test rows), padded {}",
        BATCH * PADDED
    );
    assert!((train - 273.58).abs() < 0.01, "{train}");
    assert!((test - 242.0).abs() < 0.01, "{test}");
}
