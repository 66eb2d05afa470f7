use super::*;
use crate::source::MemorySource;
use pollster::block_on;

fn adapter() -> Adapter {
    let pair = |inputs: usize, outputs: usize| LoraPair {
        inputs,
        outputs,
        a: (0..2 * inputs).map(|i| i as f32 * 0.1).collect(),
        b: (0..outputs * 2).map(|i| -(i as f32)).collect(),
    };
    Adapter {
        rank: 2,
        alpha: 16.0,
        rslora: false,
        dropout: 0.25,
        base: Base { name: "google/gemma-3-270m".to_owned(), ..Base::text() },
        targets: ["q_proj".to_owned(), "down_proj".to_owned()].into(),
        tensors: [
            ("model.layers.0.self_attn.q_proj".to_owned(), pair(4, 6)),
            ("model.layers.11.mlp.down_proj".to_owned(), pair(8, 4)),
        ]
        .into(),
    }
}

fn read(config: &str, weights: &[u8]) -> Result<Adapter, PeftError> {
    let config = MemorySource::new(CONFIG_FILE, config.as_bytes());
    let weights = MemorySource::new(WEIGHTS_FILE, weights);
    block_on(Adapter::read(&config, &weights))
}

#[test]
fn what_is_written_is_read_back() {
    for (rslora, alpha, scaling) in
        [(false, 16.0, 8.0), (true, 16.0, 11.313708), (false, 0.5, 0.25)]
    {
        let adapter = Adapter { rslora, alpha, ..adapter() };
        let read = read(&adapter.config_json(), &adapter.to_safetensors().unwrap()).unwrap();
        assert_eq!(read, adapter);
        assert_eq!(read.scaling(), scaling);
    }
    let weights = adapter().to_safetensors().unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&weights).unwrap();
    let name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";
    assert_eq!(tensors.tensor(name).unwrap().shape(), [6, 2]);
    // An integer stays an integer: PEFT's lora_alpha is an int.
    assert!(adapter().config_json().contains("\"lora_alpha\": 16,"));
}

#[test]
fn settings_that_are_not_plain_lora_are_refused() {
    let weights = adapter().to_safetensors().unwrap();
    let good: serde_json::Value = serde_json::from_str(&adapter().config_json()).unwrap();
    for (key, value) in [
        ("peft_type", serde_json::json!("IA3")),
        ("use_dora", true.into()),
        ("bias", "all".into()),
        ("rank_pattern", serde_json::json!({"q_proj": 4})),
        ("modules_to_save", serde_json::json!(["lm_head"])),
        ("r", 0.into()),
        ("r", serde_json::json!(1u64 << 60)),
        ("r", "8".into()),
        ("lora_alpha", "much".into()),
        ("lora_alpha", serde_json::json!(1e300)),
        ("lora_dropout", 1.into()),
        ("use_rslora", 1.into()),
        ("init_lora_weights", "pissa".into()),
        ("init_lora_weights", "PiSSA_niter_16".into()),
        ("init_lora_weights", "olora".into()),
        ("init_lora_weights", "corda".into()),
        ("init_lora_weights", "loftq".into()),
        ("init_lora_weights", 3.into()),
    ] {
        let mut config = good.clone();
        config[key] = value;
        let error = read(&config.to_string(), &weights).unwrap_err();
        assert!(
            matches!(&error, PeftError::Setting { key: found, .. } if *found == key),
            "{key}: {error}"
        );
    }
    assert!(matches!(read("{", &weights), Err(PeftError::Json { .. })));
    assert!(read("[]", &weights).is_err());
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let config = adapter().config_json();
    let f32s = |shape: &[usize], value: f32| {
        let count: usize = shape.iter().product();
        (safetensors::Dtype::F32, shape.to_vec(), value.to_le_bytes().repeat(count))
    };
    let a = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    let b = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";
    let integers = (safetensors::Dtype::I32, vec![2, 4], vec![0; 32]);
    for (tensors, words) in [
        (vec![(a, f32s(&[2, 4], 0.0))], "no lora_B"),
        (vec![(b, f32s(&[4, 2], 0.0))], "no lora_A"),
        (vec![(a, f32s(&[3, 4], 0.0)), (b, f32s(&[4, 2], 0.0))], "[3, 4], expected [2, in]"),
        (vec![(a, f32s(&[2, 4], 0.0)), (b, f32s(&[8], 0.0))], "expected [out, 2]"),
        (vec![(a, f32s(&[2, 4], 0.0)), (b, f32s(&[4, 2], f32::NAN))], "NaN in row 0"),
        (vec![(a, integers), (b, f32s(&[4, 2], 0.0))], "type I32"),
        (vec![("base_model.model.lm_head.lora_A.weight", f32s(&[2, 4], 0.0))], "is not a lora_A"),
        (
            vec![("model.layers.0.self_attn.q_proj.lora_A.weight", f32s(&[2, 4], 0.0))],
            "is not a lora_A",
        ),
        (vec![], "no matrices"),
    ] {
        let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
            (*name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        let weights = serialize(views, None).unwrap();
        let error = read(&config, &weights).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let mut wrong = adapter();
    wrong.rank = 3;
    assert!(matches!(wrong.to_safetensors(), Err(PeftError::Shape { .. })));
}

#[test]
fn a_start_that_changes_the_model_is_refused_in_words_and_others_are_read() {
    let weights = adapter().to_safetensors().unwrap();
    let good: serde_json::Value = serde_json::from_str(&adapter().config_json()).unwrap();
    let with = |start: serde_json::Value| {
        let mut config = good.clone();
        config["init_lora_weights"] = start;
        read(&config.to_string(), &weights)
    };
    for start in
        [true.into(), false.into(), serde_json::Value::Null, "gaussian".into(), "eva".into()]
    {
        assert_eq!(with(start).unwrap(), adapter());
    }
    let text = with("pissa_niter_4".into()).unwrap_err().to_string();
    assert!(text.contains("'init_lora_weights' is \"pissa_niter_4\""), "{text}");
    assert!(text.contains("own weights") && text.contains("path_initial_model"), "{text}");
}

#[test]
fn the_names_are_those_of_the_model_that_was_loaded() {
    let base = Base {
        class: "Gemma3ForConditionalGeneration".to_owned(),
        prefix: "model.language_model.".to_owned(),
        ..Base::default()
    };
    let adapter = Adapter { base, ..adapter() };
    let bytes = adapter.to_safetensors().unwrap();
    let names = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let wanted = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight";
    assert!(names.names().contains(&wanted), "{:?}", names.names());
    let config = adapter.config_json();
    for words in [
        "\"base_model_class\": \"Gemma3ForConditionalGeneration\"",
        "\"parent_library\": \"transformers.models.gemma3.modeling_gemma3\"",
        "\"base_model_name_or_path\": null",
    ] {
        assert!(config.contains(words), "{config}");
    }
    assert_eq!(read(&config, &bytes).unwrap(), adapter);
}

#[test]
fn what_is_no_adapter_of_projections_is_said() {
    let config = adapter().config_json();
    for (part, words) in [
        ("lora_magnitude_vector.weight", "DoRA's"),
        ("lora_embedding_A.weight", "a trained embedding"),
        ("modules_to_save.weight", "a layer that was trained along"),
    ] {
        let name = format!("base_model.model.model.layers.0.self_attn.q_proj.{part}");
        let bytes = serialize(
            [(name, TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]).unwrap())],
            None,
        );
        let error = read(&config, &bytes.unwrap()).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("is not a lora_A"), "{error}");
    }
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
    for error in [read(&config, lfs), read(std::str::from_utf8(lfs).unwrap(), lfs)] {
        assert!(error.unwrap_err().to_string().contains("a git-lfs pointer"));
    }
}

#[test]
fn listed_targets_and_tensors_belong_together() {
    let weights = adapter().to_safetensors().unwrap();
    let good: serde_json::Value = serde_json::from_str(&adapter().config_json()).unwrap();
    let with = |targets: serde_json::Value| {
        let mut config = good.clone();
        config["target_modules"] = targets;
        read(&config.to_string(), &weights).map_err(|error| error.to_string())
    };
    for fine in [
        serde_json::json!("all-linear"),
        serde_json::json!(["model.layers.0.self_attn.q_proj", "down_proj"]),
        serde_json::Value::Null,
    ] {
        assert!(with(fine).is_ok());
    }
    let error = with(serde_json::json!(["q_proj", "down_proj", "k_proj"])).unwrap_err();
    assert!(error.contains("'k_proj' is listed, but no tensor adapts it"), "{error}");
    let error = with(serde_json::json!(["q_proj"])).unwrap_err();
    assert!(error.contains("'down_proj' is adapted by tensors, but not listed"), "{error}");
}
