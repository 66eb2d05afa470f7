use hearth_classifier::{prompt::PromptSpec, recipe::Recipe, table::TableOptions};

use wasm_bindgen_test::wasm_bindgen_test;

use super::*;

fn round_trip(message: ToEngine) -> ToEngine {
    let text = to_text(&Envelope::new(7, message)).unwrap();
    let back: Envelope<ToEngine> = from_text(&text).unwrap();
    assert_eq!((back.id, back.build.as_str()), (7, BUILD));
    back.body
}

#[wasm_bindgen_test(unsupported = test)]
fn requests_survive_the_way() {
    let recipe = Recipe { rate: 0.1 + 0.2, seed: u64::MAX, ..Recipe::default() };
    let all = [
        ToEngine::OpenGpu,
        ToEngine::LoadModel {
            name: "tiny \"q\"\n".into(),
            files: vec![ModelFile {
                name: "a.gguf".into(),
                pieces: Some(PieceHashes { size: PIECE, sha256: vec!["00".into()] }),
            }],
            weights: WeightsAs::Q4,
        },
        ToEngine::OpenData {
            name: "é.csv".into(),
            // none and "some none" mean different things: guess, and no quotes
            options: TableOptions {
                quote: Some(Some(b'"')),
                delimiter: Some(";".into()),
                ..Default::default()
            },
        },
        ToEngine::Train {
            name: String::new(),
            spec: PromptSpec::default(),
            recipe,
            memory: 1 << 53,
            zero_shot: true,
        },
        ToEngine::Cancel { request: u64::MAX },
    ];
    for message in all {
        assert_eq!(round_trip(message.clone()), message);
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn a_number_comes_back_to_the_bit() {
    for value in [0.1 + 0.2, f64::MIN_POSITIVE, 5e-324, 1.0 - f64::EPSILON / 2.0] {
        let message = ToEngine::SetThreshold { threshold: value, classifier: 1 };
        let ToEngine::SetThreshold { threshold, .. } = round_trip(message) else { panic!() };
        assert_eq!(threshold.to_bits(), value.to_bits());
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn no_quotes_is_not_the_same_as_a_guess() {
    let none = TableOptions { quote: Some(None), ..Default::default() };
    let message = ToEngine::ReadAgain { options: none.clone() };
    let ToEngine::ReadAgain { options } = round_trip(message) else { panic!() };
    assert_eq!(options, none);
}

#[wasm_bindgen_test(unsupported = test)]
fn another_build_is_told_before_anything_else() {
    let text = r#"{"build":"0.0.9+abc","id":1,"body":{"NoSuchMessage":[]}}"#;
    let error = from_text::<ToEngine>(text).unwrap_err();
    let expected =
        ProtocolError::OtherBuild { here: BUILD.to_owned(), there: "0.0.9+abc".to_owned() };
    assert_eq!(error, expected);
    assert!(error.to_string().contains("reload the page"));
}

#[wasm_bindgen_test(unsupported = test)]
fn what_is_no_message_is_an_error() {
    let unknown = format!(r#"{{"build":"{BUILD}","id":1,"body":"Fly"}}"#);
    for text in ["", "7", "{}", "null", unknown.as_str()] {
        let error = from_text::<ToEngine>(text).unwrap_err();
        assert!(matches!(error, ProtocolError::NotAMessage(_)), "{text}: {error}");
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn requests_end_once() {
    assert!(!FromEngine::Loading { done: 0, total: 1 }.ends());
    assert!(!FromEngine::Warning { what: String::new() }.ends());
    assert!(FromEngine::Cancelled.ends() && FromEngine::Done.ends());
    assert!(FromEngine::Failed(Failure::new("no", "")).ends());
    assert!(!FromLoader::Ready.ends() && FromLoader::Cancelled.ends());
}
