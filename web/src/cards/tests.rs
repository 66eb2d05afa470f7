use std::collections::BTreeSet;

use wasm_bindgen_test::wasm_bindgen_test;

use super::*;
use crate::protocol::WEIGHT_HOSTS;

#[wasm_bindgen_test(unsupported = test)]
fn every_model_has_a_key_of_its_own_and_the_first_is_verified() {
    let cards = cards();
    let keys: BTreeSet<&str> = cards.iter().map(|card| card.key).collect();
    assert_eq!(keys.len(), cards.len());
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    assert!(keys.iter().all(|key| key.chars().all(plain)), "{keys:?}");
    assert!(cards[0].verified && !cards[0].gated);
}

#[wasm_bindgen_test(unsupported = test)]
fn every_file_comes_from_a_host_of_weights_over_https() {
    for card in cards() {
        let remote = card.remote();
        assert_eq!((remote.key.as_str(), remote.files.is_empty()), (card.key, false));
        for file in remote.files {
            let rest = file.url.strip_prefix("https://").unwrap();
            let (host, path) = rest.split_once('/').unwrap();
            assert!(WEIGHT_HOSTS.contains(&format!("https://{host}").as_str()), "{host}");
            assert!(path.ends_with(&format!("/resolve/main/{}", file.name)), "{path}");
            assert!(!file.name.contains('/'));
            // What is verified is told by size and hash; of the others no size is demanded.
            let known = file.bytes.is_some()
                && file.sha256.is_some_and(|sum| {
                    sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit())
                });
            assert_eq!(known, card.verified, "{}", file.name);
        }
        if card.verified {
            let bytes: u64 = card.files.iter().filter_map(|file| file.bytes).sum();
            assert_eq!(bytes, card.bytes, "{}", card.key);
        }
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn sizes_are_plausible_for_the_weights() {
    for card in cards() {
        let config = card.config().unwrap();
        let layer: usize =
            Projection::ALL.iter().map(|p| p.shape(&config)).map(|(a, b)| a * b).sum();
        let weights = config.vocab * config.hidden + config.layers.len() * layer;
        let bits = card.bytes as f64 * 8.0 / weights as f64;
        let expected = if card.quantization == Quantization::Q4 { 15.9..16.2 } else { 4.5..7.7 };
        assert!(expected.contains(&bits), "{}: {bits} bits a weight", card.key);
    }
}

/// The plans that `hearth bench --step` makes from made-up files of the shape (docs/gemma-2b.md), without the
/// copy of the adapter that averaging would need.
#[wasm_bindgen_test(unsupported = test)]
fn memory_is_what_the_file_itself_would_tell() {
    let total = |key: &str| {
        let card = cards().into_iter().find(|card| card.key == key).unwrap();
        card.training().unwrap().total()
    };
    assert_eq!(total("gemma-2b-it"), 1_613_088_784);
    assert_eq!(total("gemma-2b-it-bf16"), 1_552_377_552);
    for card in cards() {
        let bytes = total(card.key);
        assert!(bytes > 150_000_000 && bytes < 2_500_000_000, "{}: {bytes}", card.key);
    }
    assert!(total("gemma-3-270m-q4-k-m") < total("gemma-3-1b-it"));
}
