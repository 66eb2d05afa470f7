use hearth_formats::source::MemorySource;
use hearth_testing::gguf::GgufFile;
use pollster::block_on;

use super::*;

/// A Gemma 3 with two layers, of which the second is global.
fn file() -> GgufFile {
    GgufFile::default()
        .text("general.architecture", "gemma3")
        .number("gemma3.embedding_length", 64)
        .number("gemma3.block_count", 2)
        .number("gemma3.feed_forward_length", 128)
        .number("gemma3.context_length", 512)
        .number("gemma3.attention.head_count", 4)
        .number("gemma3.attention.head_count_kv", 1)
        .number("gemma3.attention.key_length", 32)
        .number("gemma3.attention.sliding_window", 8)
        .number("gemma3.attention.sliding_window_pattern", 2)
        .float("gemma3.attention.layer_norm_rms_epsilon", 1e-5)
        .float("gemma3.rope.freq_base", 5e5)
        .texts("tokenizer.ggml.tokens", &["<pad>", "<eos>", "<bos>", "a", "b"])
}

fn read_file(file: &GgufFile) -> Result<(Config, Vec<String>), ConfigError> {
    read(&block_on(Header::read(&MemorySource::new("m.gguf", file.bytes()))).unwrap())
}

fn config(file: &GgufFile) -> Config {
    let (config, notes) = read_file(file).unwrap();
    assert_eq!(notes, Vec::<String>::new());
    config
}

fn refused(file: &GgufFile, words: &str) {
    let error = read_file(file).unwrap_err().to_string();
    assert!(
        error.starts_with("m.gguf: ") && error.contains(words),
        "wanted '{words}', got '{error}'"
    );
}

/// Factors of the layer with a window and of the global one.
fn factors(file: &GgufFile) -> [f64; 2] {
    let layers = config(file).layers;
    [layers[0].rope.factor, layers[1].rope.factor]
}

#[test]
fn rope_is_scaled_by_the_rules_of_llama_cpp() {
    let (kind, factor, old) =
        ("gemma3.rope.scaling.type", "gemma3.rope.scaling.factor", "gemma3.rope.scale_linear");
    for (file, global) in [
        (file(), 1.0),
        (file().text(kind, "linear").float(factor, 4.0), 4.0),
        (file().float(factor, 4.0), 4.0),
        (file().float(old, 4.0), 4.0),
        (file().number(old, 4), 4.0),
        (file().float(old, 4.0).float(factor, 2.0), 2.0),
        (file().float(factor, 0.0), 1.0),
        (file().text(kind, "none").float(factor, 4.0), 1.0),
        (file().text(kind, "linear").float(factor, 0.0), 1.0),
    ] {
        assert_eq!(factors(&file), [1.0, global]);
    }
    refused(
        &file().text(kind, "yarn").float(factor, 4.0),
        "'gemma3.rope.scaling.type': expected 'none' or 'linear'",
    );
    refused(&file().text(kind, "linear"), "'gemma3.rope.scaling.factor' is missing");
    refused(
        &file().float("gemma3.rope.scaling.attn_factor", 0.5),
        "'gemma3.rope.scaling.attn_factor': expected 1",
    );
    refused(
        &file().number("gemma3.rope.dimension_count", 16),
        "'gemma3.rope.dimension_count': expected 32",
    );
    // Gemma 2 has one rotation for all of its layers.
    let second = |key: &str| key.replace("gemma3", "gemma2");
    let gemma2 = GgufFile::default()
        .text("general.architecture", "gemma2")
        .number("gemma2.embedding_length", 64)
        .number("gemma2.block_count", 2)
        .number("gemma2.feed_forward_length", 128)
        .number("gemma2.context_length", 512)
        .number("gemma2.attention.head_count", 4)
        .number("gemma2.attention.key_length", 32)
        .float("gemma2.attention.layer_norm_rms_epsilon", 1e-5)
        .texts("tokenizer.ggml.tokens", &["<pad>", "<eos>", "<bos>"])
        .float(&second(old), 4.0);
    assert_eq!(factors(&gemma2), [4.0, 4.0]);
}

#[test]
fn files_of_ollama_are_read_with_what_they_leave_out() {
    let ollama = file()
        .without("gemma3.attention.layer_norm_rms_epsilon")
        .without("gemma3.rope.freq_base")
        .float("gemma3.rope.global.freq_base", 3e5)
        .float("gemma3.rope.local.freq_base", 2e4)
        .array("tokenizer.ggml.eos_token_ids", 5, 2, &[1, 0, 0, 0, 4, 0, 0, 0]);
    let (config, notes) = read_file(&ollama).unwrap();
    assert_eq!(config.norm_eps, 1e-6);
    assert_eq!([config.layers[0].rope.theta, config.layers[1].rope.theta], [2e4, 3e5]);
    assert_eq!(config.eos, [1, 4]);
    assert!(
        notes.len() == 1 && notes[0].contains("layer_norm_rms_epsilon' is missing: 1e-6"),
        "{notes:?}"
    );
    // From 4B up, the original scales by 8, and Ollama's file does not contain this.
    let (long, notes) =
        read_file(&ollama.clone().number("gemma3.context_length", 131_072)).unwrap();
    assert_eq!(long.layers[1].rope.factor, 8.0);
    assert!(notes.iter().any(|note| note.contains("the factor 8 of the original")), "{notes:?}");
    let plain = file().number("gemma3.context_length", 131_072);
    assert_eq!(factors(&plain), [1.0, 1.0]);
    refused(
        &file().floats("dense.0.weight", &[1, 4], &[0.0; 4]),
        "this is an embedding model (it has a tensor 'dense.0.weight'): it turns a text into a vector",
    );
    refused(
        &file().value("gemma3.attention.causal", 7, [0]),
        "this is an embedding model ('gemma3.attention.causal' is false)",
    );
    refused(
        &file().number("gemma3.pooling_type", 1),
        "take a text model of Gemma 1, 2 or 3 instead",
    );
}

#[test]
fn integers_of_any_width_and_lists_for_every_layer_are_read() {
    let wanted = config(&file());
    let heads = "gemma3.attention.head_count";
    for other in [
        file().value(heads, 0, [4]),
        file().value(heads, 3, 4i16.to_le_bytes()),
        file().value(heads, 10, 4u64.to_le_bytes()),
        file().value(heads, 11, 4i64.to_le_bytes()),
        file().array(heads, 4, 2, &[4, 0, 0, 0, 4, 0, 0, 0]),
        file().array(heads, 5, 2, &[4, 0, 0, 0, 4, 0, 0, 0]),
        file().array(heads, 10, 1, &4u64.to_le_bytes()),
        file()
            .array("gemma3.feed_forward_length", 1, 2, &[0x7f, 0x7f])
            .number("gemma3.feed_forward_length", 128),
        file().value("gemma3.rope.freq_base", 12, 5e5f64.to_le_bytes()),
        file().number("gemma3.rope.freq_base", 500_000),
        file().array("gemma3.attention.sliding_window_pattern", 7, 2, &[1, 0]),
        file().array("gemma3.attention.sliding_window_pattern", 5, 2, &[1, 0, 0, 0, 0, 0, 0, 0]),
        file().array(
            "gemma3.attention.sliding_window_pattern",
            11,
            2,
            &[[1u8, 0, 0, 0, 0, 0, 0, 0], [0; 8]].concat(),
        ),
    ] {
        assert_eq!(config(&other), wanted);
    }
    refused(
        &file().array(heads, 4, 2, &[4, 0, 0, 0, 8, 0, 0, 0]),
        "'gemma3.attention.head_count': expected one whole number, or the same for every layer, found 4 and 8",
    );
    refused(&file().array(heads, 5, 1, &(-4i32).to_le_bytes()), "found -4");
    refused(&file().array(heads, 4, 0, &[]), "found none");
    refused(
        &file().array("gemma3.attention.sliding_window_pattern", 7, 3, &[1, 0, 1]),
        "expected 2 layers",
    );
}

#[test]
fn gemma_3_without_a_window_sees_everything() {
    for other in [
        file().without("gemma3.attention.sliding_window"),
        file().number("gemma3.attention.sliding_window", 0),
    ] {
        let (config, notes) = read_file(&other).unwrap();
        let global = Rope { theta: 5e5, factor: 1.0 };
        assert_eq!(config.layers, [LayerAttention { window: None, rope: global }; 2]);
        assert!(
            notes.len() == 1 && notes[0].contains("every layer sees the whole text"),
            "{notes:?}"
        );
    }
}

#[test]
fn other_architectures_are_called_by_their_names() {
    for (name, words) in [
        ("gemma4", "this is Gemma 4 (general.architecture is 'gemma4'), which is not supported"),
        ("gemma3n", "this is Gemma 3n"),
        (
            "gemma-embedding",
            "this is EmbeddingGemma, an embedding model (general.architecture is 'gemma-embedding'): it turns a text into a vector",
        ),
        ("qwen2", "this is a model of the architecture 'qwen2'"),
    ] {
        refused(&file().text("general.architecture", name), words);
    }
}
