use super::*;
use hearth_formats::gguf::header::Header;
use hearth_formats::source::MemorySource;
use pollster::block_on;
use serde_json::{Value, json};

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../tests/fixtures/configs/", $name))
    };
}

macro_rules! gguf_fixture {
    ($name:literal) => {
        read_gguf($name, include_bytes!(concat!("../../tests/fixtures/configs/", $name)))
    };
}

fn read_gguf(name: &str, bytes: &[u8]) -> Config {
    let source = MemorySource::new(name, bytes.to_vec());
    Config::from_gguf(&block_on(Header::read(&source)).unwrap()).unwrap()
}

const PLAIN: Rope = Rope { theta: 1e4, factor: 1.0 };
const GLOBAL: Rope = Rope { theta: 1e6, factor: 1.0 };

/// The pattern of Gemma 3: every sixth layer is global.
fn gemma3_layers(count: usize, window: u32, global: Rope) -> Vec<LayerAttention> {
    (1..=count)
        .map(|layer| match layer % 6 {
            0 => LayerAttention { window: None, rope: global },
            _ => LayerAttention { window: Some(window), rope: PLAIN },
        })
        .collect()
}

fn gemma_2b() -> Config {
    Config {
        family: Family::Gemma1,
        vocab: 256_000,
        hidden: 2048,
        heads: 8,
        kv_heads: 1,
        head_dim: 256,
        intermediate: 16_384,
        max_positions: 8192,
        norm_eps: 1e-6,
        layers: vec![LayerAttention { window: None, rope: PLAIN }; 18],
        attention_scale: 0.0625,
        attention_softcap: None,
        final_softcap: None,
        bos: 2,
        eos: vec![1],
        tied_head: true,
    }
}

fn gemma_2_2b() -> Config {
    let windowed = LayerAttention { window: Some(4096), rope: PLAIN };
    let global = LayerAttention { window: None, rope: PLAIN };
    Config {
        family: Family::Gemma2,
        hidden: 2304,
        kv_heads: 4,
        intermediate: 9216,
        layers: [windowed, global].repeat(13),
        attention_softcap: Some(50.0),
        final_softcap: Some(30.0),
        ..gemma_2b()
    }
}

fn gemma_3_270m() -> Config {
    Config {
        family: Family::Gemma3,
        vocab: 262_144,
        hidden: 640,
        heads: 4,
        intermediate: 2048,
        max_positions: 32_768,
        layers: gemma3_layers(18, 512, GLOBAL),
        ..gemma_2b()
    }
}

fn gemma_3_4b() -> Config {
    Config {
        vocab: 262_208,
        hidden: 2560,
        heads: 8,
        kv_heads: 4,
        intermediate: 10_240,
        max_positions: 131_072,
        layers: gemma3_layers(34, 1024, Rope { theta: 1e6, factor: 8.0 }),
        eos: vec![1, 106],
        ..gemma_3_270m()
    }
}

#[test]
fn older_forms_of_config_json_are_read() {
    let read = |text| Config::from_json(text).unwrap();
    assert_eq!(read(fixture!("gemma-2b.json")), gemma_2b());
    assert_eq!(read(fixture!("gemma-2-2b.json")), gemma_2_2b());
    assert_eq!(read(fixture!("gemma-3-270m.json")), gemma_3_270m());
    let gemma_3_1b = Config {
        hidden: 1152,
        intermediate: 6912,
        layers: gemma3_layers(26, 512, GLOBAL),
        eos: vec![1, 106],
        ..gemma_3_270m()
    };
    assert_eq!(read(fixture!("gemma-3-1b.json")), gemma_3_1b);
    assert_eq!(read(fixture!("gemma-3-4b.json")), gemma_3_4b());
}

#[test]
fn newer_forms_of_config_json_are_read() {
    let tiny1 = Config::from_json(fixture!("tiny_gemma1.json")).unwrap();
    let expected = Config {
        vocab: 512,
        hidden: 64,
        heads: 4,
        head_dim: 32,
        intermediate: 128,
        max_positions: 512,
        layers: vec![LayerAttention { window: None, rope: PLAIN }; 2],
        attention_scale: 32f64.powf(-0.5) as f32,
        ..gemma_2b()
    };
    assert_eq!(tiny1, expected);
    let tiny2 = Config::from_json(fixture!("tiny_gemma2.json")).unwrap();
    let windowed = LayerAttention { window: Some(8), rope: PLAIN };
    let global = LayerAttention { window: None, rope: PLAIN };
    let expected = Config {
        family: Family::Gemma2,
        kv_heads: 2,
        layers: vec![windowed, global],
        attention_scale: 24f64.powf(-0.5) as f32,
        attention_softcap: Some(5.0),
        final_softcap: Some(3.0),
        ..expected
    };
    assert_eq!(tiny2, expected);
    let tiny3 = Config::from_json(fixture!("tiny_gemma3.json")).unwrap();
    let global = LayerAttention { window: None, rope: GLOBAL };
    let expected = Config {
        family: Family::Gemma3,
        kv_heads: 1,
        layers: vec![windowed, global, windowed],
        attention_softcap: None,
        final_softcap: None,
        ..expected
    };
    assert_eq!(tiny3, expected);
}

#[test]
fn gguf_metadata_is_read() {
    assert_eq!(gguf_fixture!("gemma-2b.gguf"), gemma_2b());
    assert_eq!(gguf_fixture!("gemma-2-2b.gguf"), gemma_2_2b());
    assert_eq!(gguf_fixture!("gemma-3-4b.gguf"), gemma_3_4b());
    let big = gguf_fixture!("gemma-3-27b.gguf");
    assert_eq!((big.head_dim, big.heads, big.hidden), (128, 32, 5376));
    assert_eq!(big.attention_scale, 168f64.powf(-0.5) as f32);
}

/// The real file, if the model is in the user's cache.
#[test]
fn gemma_3_270m_in_gguf_equals_its_config_json() {
    let Some(path) = hearth_testing::real_model() else { return };
    let source = hearth_formats::source::FileSource::open(&path).unwrap();
    let header = block_on(Header::read(&source)).unwrap();
    assert_eq!(Config::from_gguf(&header).unwrap(), gemma_3_270m());
}

#[test]
fn derived_values_follow_the_reference() {
    assert_eq!(gemma_3_270m().embedding_scale(), 25.298_222);
    assert_eq!(gemma_2b().embedding_scale(), 45.254_833);
    for (config, qk_norm, post_norms) in
        [(gemma_2b(), false, false), (gemma_2_2b(), false, true), (gemma_3_270m(), true, true)]
    {
        assert_eq!(config.has_qk_norm(), qk_norm);
        assert_eq!(config.has_post_norms(), post_norms);
    }
}

/// Gemma 3 270M's file with one key changed, or removed if `value` is null.
fn changed(key: &str, value: Value) -> Result<Config, ConfigError> {
    let mut root: Value = serde_json::from_str(fixture!("gemma-3-270m.json")).unwrap();
    root[key] = value;
    Config::from_json(&root.to_string())
}

#[test]
fn what_the_file_leaves_out_is_the_reference_s_default() {
    for key in ["head_dim", "rms_norm_eps", "query_pre_attn_scalar", "layer_types"] {
        assert_eq!(changed(key, Value::Null).unwrap(), gemma_3_270m(), "{key}");
    }
    assert_eq!(changed("vocab_size", Value::Null).unwrap().vocab, 262_208);
    let window = changed("sliding_window", Value::Null).unwrap().layers[0].window;
    assert_eq!(window, Some(4096));
    // Null means no value; a missing key means the default.
    let mut root: Value = serde_json::from_str(fixture!("gemma-2-2b.json")).unwrap();
    root["attn_logit_softcapping"] = Value::Null;
    root.as_object_mut().unwrap().remove("final_logit_softcapping");
    let config = Config::from_json(&root.to_string()).unwrap();
    assert_eq!((config.attention_softcap, config.final_softcap), (None, Some(30.0)));
    assert!(!changed("tie_word_embeddings", json!(false)).unwrap().tied_head);
}

#[test]
fn bad_values_are_refused_in_words() {
    for (key, value, text) in [
        ("hidden_size", Value::Null, "key 'hidden_size' is missing; expected a whole number"),
        (
            "intermediate_size",
            json!("big"),
            "key 'intermediate_size': expected a whole number, found \"big\"",
        ),
        ("num_hidden_layers", json!(0), "key 'num_hidden_layers': expected 1 to 1024, found 0"),
        ("num_hidden_layers", json!(1u64 << 60), "expected 1 to 1024, found 1152921504606846976"),
        (
            "num_hidden_layers",
            json!(17),
            "key 'layer_types': expected 17 layers, as num_hidden_layers says, found 18",
        ),
        ("hidden_size", json!(-1), "key 'hidden_size': expected a whole number, found -1"),
        ("hidden_size", json!(1u64 << 60), "key 'hidden_size': expected 1 to 262144"),
        (
            "num_key_value_heads",
            json!(3),
            "key 'num_key_value_heads': expected a divisor of the 4 query heads, found 3",
        ),
        ("num_key_value_heads", json!(0), "key 'num_key_value_heads': expected 1 to"),
        ("head_dim", json!(254), "key 'head_dim': expected a multiple of 4"),
        ("head_dim", json!(512), "key 'head_dim': expected 1 to 256, found 512"),
        ("num_attention_heads", json!(1 << 20), "key 'num_attention_heads': expected 1 to "),
        ("intermediate_size", json!(1 << 20), "key 'intermediate_size': expected 1 to 262144"),
        ("rms_norm_eps", json!(0), "key 'rms_norm_eps': expected a number above 0, found 0"),
        (
            "query_pre_attn_scalar",
            json!(-4),
            "key 'query_pre_attn_scalar': expected a number above 0",
        ),
        (
            "attn_logit_softcapping",
            json!(-50),
            "key 'attn_logit_softcapping': expected a number above 0",
        ),
        ("rope_theta", json!(0), "key 'rope_parameters': expected a number above 0"),
        ("rope_theta", json!([]), "key 'rope_theta': expected a number, found []"),
        (
            "rope_scaling",
            json!({"rope_type": "yarn"}),
            "key 'rope_type': expected 'default' or 'linear', found yarn",
        ),
        ("rope_scaling", json!({"type": "linear"}), "key 'factor' is missing"),
        ("sliding_window", json!(0), "key 'sliding_window': expected 1 or more, found 0"),
        (
            "layer_types",
            json!(vec!["chunked_attention"; 18]),
            "key 'layer_types': expected 'sliding_attention' or",
        ),
        (
            "model_type",
            json!("gemma3n_text"),
            "this is Gemma 3n (model_type is 'gemma3n_text'), which is not supported; Hearth reads the text models of",
        ),
        ("model_type", json!("gemma3"), "key 'text_config' is missing"),
        (
            "hidden_activation",
            json!("gelu"),
            "key 'hidden_activation': expected 'gelu_pytorch_tanh', found gelu",
        ),
        (
            "use_bidirectional_attention",
            json!(true),
            "this is an embedding model ('use_bidirectional_attention' is true): it turns a text into a vector",
        ),
        (
            "use_bidirectional_attention",
            json!("vision"),
            "key 'use_bidirectional_attention': expected false, found \"vision\"",
        ),
        ("attention_bias", json!(true), "key 'attention_bias': expected false"),
        (
            "bos_token_id",
            json!(262_144),
            "key 'bos_token_id': expected a token id below 262144, found 262144",
        ),
        ("eos_token_id", json!([]), "key 'eos_token_id': expected a token id, found none"),
        ("eos_token_id", json!("x"), "key 'eos_token_id': expected a token id or a list of them"),
    ] {
        let error = changed(key, value).unwrap_err().to_string();
        assert!(
            error.starts_with("config.json: ") && error.contains(text),
            "wanted '{text}', got '{error}'"
        );
    }
    for text in ["", "[]", "{", "{\"model_type\": 1}", "\u{feff}{}"] {
        let error = Config::from_json(text).unwrap_err().to_string();
        assert!(error.starts_with("config.json: "), "{error}");
    }
}

#[test]
fn bad_gguf_metadata_names_file_and_key() {
    let good = include_bytes!("../../tests/fixtures/configs/gemma-3-4b.gguf");
    let replaced = |from: &[u8], to: &[u8]| {
        let at = good.windows(from.len()).position(|window| window == from).unwrap();
        let mut bytes = good.to_vec();
        bytes[at..at + to.len()].copy_from_slice(to);
        let header = block_on(Header::read(&MemorySource::new("m.gguf", bytes))).unwrap();
        Config::from_gguf(&header).unwrap_err().to_string()
    };
    for (from, to, text) in [
        ("gemma3.block_count", "gemma3.block_xxxxx", "key 'gemma3.block_count' is missing"),
        (
            "general.architecture\u{8}\0\0\0\u{6}\0\0\0\0\0\0\0gemma3",
            "general.architecture\u{8}\0\0\0\u{6}\0\0\0\0\0\0\0llama3",
            "this is a model of the architecture 'llama3' (general.architecture is 'llama3'), which is not supported",
        ),
        (
            "linear",
            "linyar",
            "key 'gemma3.rope.scaling.type': expected 'none' or 'linear', found linyar",
        ),
        (
            "gemma3.attention.head_count_kv\u{4}\0\0\0\u{4}",
            "gemma3.attention.head_count_kv\u{4}\0\0\0\u{3}",
            "key 'gemma3.attention.head_count_kv': expected a divisor of the 8 query heads, found 3",
        ),
        (
            "gemma3.attention.value_length\u{4}\0\0\0\0\u{1}",
            "gemma3.attention.value_length\u{4}\0\0\0\0\u{2}",
            "key 'gemma3.attention.value_length': expected 256, found 512",
        ),
        (
            "bos_token_id\u{4}\0\0\0\u{2}\0\0\0",
            "bos_token_id\u{4}\0\0\0\u{2}\0\0\u{1}",
            "key 'tokenizer.ggml.bos_token_id': expected a token id below 262208, found 16777218",
        ),
    ] {
        let error = replaced(from.as_bytes(), to.as_bytes());
        assert!(
            error.starts_with("m.gguf: ") && error.contains(text),
            "wanted '{text}', got '{error}'"
        );
    }
}

#[test]
fn two_factors_that_differ_are_refused() {
    let full = |factor: Value| json!({ "full_attention": { "rope_theta": 1e6, "rope_type": "linear", "factor": factor } });
    let both = |older: Value, newer: Value| {
        let mut config: Value = serde_json::from_str(fixture!("gemma-3-270m.json")).unwrap();
        config["rope_scaling"] = json!({ "rope_type": "linear", "factor": older });
        config["rope_parameters"] = full(newer);
        Config::from_json(&config.to_string())
    };
    let error = both(json!(8.0), json!(2.0)).unwrap_err().to_string();
    assert!(
        error.contains("'rope_scaling': expected the factor 2 of 'rope_parameters'"),
        "{error}"
    );
    assert!(both(json!(8.0), json!(8.0)).is_ok());
}
