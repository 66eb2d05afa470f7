//! Control tokens that a file types as text, and texts that begin with their own `<bos>`.

// Clippy recognizes only the marked test functions, not what they call.
#![allow(clippy::unwrap_used)]

use hearth_formats::gguf::header::Header;
use hearth_formats::source::MemorySource;
use hearth_formats::tokenizer::{Special, Tokenizer};
use pollster::block_on;
use serde_json::{Value, json};

const TINY_JSON: &str = include_str!("fixtures/tokenizer/tiny.json");
const TINY_GGUF: &[u8] = include_bytes!("fixtures/tokenizer/tiny.gguf");
/// A chat that contains every marker.
const CHAT: &str = "<bos><start_of_turn>user\nab<end_of_turn>\n<start_of_turn>model\n<eos>";

/// The tokenizer in the GGUF with some tokens changed to another type: 1 is normal, 4 user-defined.
fn retyped(tokens: &[&str], kind: i32) -> Tokenizer {
    let tokenizer = from_gguf(TINY_GGUF);
    let mut bytes = TINY_GGUF.to_vec();
    let key = b"tokenizer.ggml.token_type";
    let start = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    // After the key: array, i32, length as u64.
    for token in tokens {
        let at = start + 16 + 4 * tokenizer.id_of(token).unwrap() as usize;
        bytes[at..at + 4].copy_from_slice(&kind.to_le_bytes());
    }
    from_gguf(&bytes)
}

fn from_gguf(bytes: &[u8]) -> Tokenizer {
    let header = block_on(Header::read(&MemorySource::new("m.gguf", bytes.to_vec()))).unwrap();
    Tokenizer::from_gguf(&header).unwrap()
}

#[test]
fn markers_are_control_tokens_whatever_their_type_says() {
    let good = from_gguf(TINY_GGUF);
    assert_eq!(good.notes(), Vec::<String>::new());
    let [parsed, as_text] =
        [Special::Parse, Special::AsText].map(|special| good.encode(CHAT, special));
    assert!(as_text.len() > parsed.len() + 20);
    for tokens in
        [&["<start_of_turn>", "<end_of_turn>"][..], &["<bos>", "<eos>"], &["<end_of_turn>"]]
    {
        for kind in [1, 4] {
            let other = retyped(tokens, kind);
            assert_eq!(other.encode(CHAT, Special::Parse), parsed, "{tokens:?} {kind}");
            assert_eq!(other.encode(CHAT, Special::AsText), as_text, "{tokens:?} {kind}");
            for token in tokens {
                assert!(other.is_control(other.id_of(token).unwrap()));
                assert!(other.notes()[0].contains(token), "{:?}", other.notes());
            }
            assert!(
                other.notes()[0].contains("not marked as control token"),
                "{:?}",
                other.notes()
            );
        }
    }
}

#[test]
fn markers_that_tokenizer_json_does_not_list_are_control_tokens() {
    let good = Tokenizer::from_json(TINY_JSON.as_bytes()).unwrap();
    assert_eq!(good.notes(), Vec::<String>::new());
    let mut root: Value = serde_json::from_str(TINY_JSON).unwrap();
    let added = root["added_tokens"].as_array_mut().unwrap();
    added.retain(|token| token["content"] != "<end_of_turn>");
    for token in added {
        if token["content"] == "<eos>" {
            token["special"] = json!(false);
        }
    }
    // A token that is not listed has to be a piece.
    let id = good.id_of("<end_of_turn>").unwrap();
    root["model"]["vocab"]["<end_of_turn>"] = json!(id);
    let other = Tokenizer::from_json(root.to_string().as_bytes()).unwrap();
    for special in [Special::Parse, Special::AsText] {
        assert_eq!(other.encode(CHAT, special), good.encode(CHAT, special));
    }
    assert!(
        other.notes()[0].contains("<eos>, <end_of_turn> are not marked"),
        "{:?}",
        other.notes()
    );
}

#[test]
fn a_bos_of_the_text_is_not_doubled() {
    let json = Tokenizer::from_json(TINY_JSON.as_bytes()).unwrap();
    for tokenizer in [json, from_gguf(TINY_GGUF)] {
        let plain = tokenizer.encode_with_bos("a b", Special::Parse);
        assert_eq!(plain[0], tokenizer.bos());
        assert_eq!(tokenizer.encode_with_bos("<bos>a b", Special::Parse), plain);
        assert!(tokenizer.has_own_bos("<bos>a b", Special::Parse));
        assert!(!tokenizer.has_own_bos("a<bos>b", Special::Parse));
        // As text it is five characters, and the token precedes them.
        let as_text = tokenizer.encode_with_bos("<bos>a b", Special::AsText);
        assert!(as_text.len() > plain.len() && as_text[1] != tokenizer.bos());
        assert!(!tokenizer.has_own_bos("<bos>a b", Special::AsText));
        // Two of them were written by the user: both stay.
        assert_eq!(
            tokenizer.encode_with_bos("<bos><bos>a b", Special::Parse).len(),
            plain.len() + 1
        );
    }
}
