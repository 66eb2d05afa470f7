#[cfg(not(target_arch = "wasm32"))]
use proptest::prelude::*;

use super::*;
use crate::metrics::{Scored, evaluate};

fn bundle() -> Bundle {
    let classes = vec!["fine <b>".to_string(), "hate \"漢\"".to_string()];
    let probabilities = [0.9, 0.1, 0.3, 0.7, 0.4, 0.6];
    let scored = Scored {
        classes: 2,
        truth: &[0, 1, 0],
        probabilities: &probabilities,
        positive: Some(1),
        threshold: 0.4,
    };
    let base = BaseModel {
        name: "Gemma 3 270M".into(),
        architecture: "gemma3".into(),
        sha256: Some("a5".repeat(32)),
        layers: 18,
        hidden: 640,
        vocabulary: 262_144,
    };
    let classifier = Classifier {
        name: "comments".into(),
        evaluation: Some(evaluate(&scored, &classes).unwrap()),
        classes,
        positive: Some(1),
        class_tokens: vec![1904, 3771],
        prompt: PromptSpec::codelab(),
        threshold: 0.4,
        temperature: 3.1,
        base,
        recipe: Recipe::default(),
        origin: Origin::default(),
    };
    Bundle {
        classifier,
        adapter: (0..=255).cycle().take(3000).collect(),
        adapter_config: "{\"r\": 8}".into(),
    }
}

#[test]
fn a_bundle_survives_the_round_trip() {
    let bytes = bundle().to_bytes().unwrap();
    assert_eq!(Bundle::from_bytes(&bytes).unwrap(), bundle());
    assert_eq!(bundle().to_bytes().unwrap(), bytes, "the same bytes every time");
}

#[test]
fn an_origin_survives_the_round_trip_and_is_told_by_the_version() {
    use crate::origin::{SeenTexts, ThresholdFrom};
    let mut with = bundle();
    with.classifier.origin = Origin {
        reading: None,
        seen: Some(SeenTexts::of(["a soup"].into_iter(), ["a pie"].into_iter())),
        threshold: Some(ThresholdFrom::Test(40)),
    };
    let bytes = with.to_bytes().unwrap();
    assert_eq!(Bundle::from_bytes(&bytes).unwrap(), with);
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("\"hearth-classifier\":\"2 ") && !text.contains("soup"));
    // what earlier programs wrote is read as before, and knows nothing
    let old = bundle().to_bytes().unwrap();
    assert!(String::from_utf8_lossy(&old).contains("\"hearth-classifier\":\"1 "));
    assert!(Bundle::from_bytes(&old).unwrap().classifier.origin.is_empty());
}

#[test]
fn scores_use_temperature_and_threshold() {
    let classifier = bundle().classifier;
    let probabilities = classifier.probabilities(&[3.1, 0.0]);
    let expected = 1.0 / (1.0 + 1f64.exp());
    assert!((probabilities[1] - expected).abs() < 1e-12, "{probabilities:?}");
    assert_eq!((classifier.predict(&[0.6, 0.4]), classifier.predict(&[0.61, 0.39])), (1, 0));
}

#[test]
fn other_files_and_versions() {
    let message = |bytes: &[u8]| Bundle::from_bytes(bytes).unwrap_err().to_string();
    assert!(message(b"").starts_with("not a Hearth classifier"));
    assert!(message(&[0xFF; 64]).starts_with("not a Hearth classifier"));
    let plain =
        safetensors::serialize([("a", TensorView::new(Dtype::U8, vec![1], &[1]).unwrap())], None)
            .unwrap();
    assert!(message(&plain).contains("no hearth-classifier in its metadata"));
    let bytes = bundle().to_bytes().unwrap();
    let newer = String::from_utf8_lossy(&bytes).find("\"hearth-classifier\":\"1 ").unwrap();
    let mut newer_bytes = bytes.clone();
    newer_bytes[newer + 21] = b'3';
    assert_eq!(
        message(&newer_bytes),
        "this classifier has format 3; this program reads formats 1 and 2: update it"
    );
    let mut damaged = bytes;
    *damaged.last_mut().unwrap() ^= 1;
    assert!(message(&damaged).contains("damaged"));
}

#[test]
fn senseless_fields_are_refused_by_name() {
    let message = |change: fn(&mut Classifier)| {
        let mut classifier = bundle().classifier;
        change(&mut classifier);
        classifier.check().unwrap_err().to_string()
    };
    assert!(
        message(|c| c.classes.truncate(1))
            .starts_with("classifier field classes: 1; expected 2 to 1000")
    );
    assert!(message(|c| c.classes[1] = c.classes[0].clone()).contains("distinct names"));
    assert!(message(|c| c.class_tokens = vec![1, 1]).contains("all different"));
    assert!(message(|c| c.class_tokens = vec![1, 262_144]).contains("beyond the vocabulary"));
    assert!(message(|c| c.positive = Some(2)).contains("positive: 2"));
    assert!(message(|c| c.positive = None).contains("as there are two"));
    assert!(message(|c| c.threshold = f64::NAN).contains("threshold: NaN"));
    assert!(message(|c| c.temperature = 0.0).contains("temperature: 0"));
    assert!(message(|c| c.base.sha256 = Some("x".into())).contains("sha256"));
    assert!(message(|c| c.prompt.question = "x".repeat(30_000)).contains("texts: 30000"));
    assert!(message(|c| c.recipe.rank = 0).contains("rank: 0"));
    assert!(
        message(|c| c.evaluation.as_mut().unwrap().confusion[0].clear()).contains("evaluation")
    );
    assert!(message(|c| c.evaluation.as_mut().unwrap().per_class.clear()).contains("evaluation"));
}

#[cfg(not(target_arch = "wasm32"))]
proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..Default::default() })]

    /// Damage is noticed, or touched nothing that is read; it never panics.
    #[test]
    fn damage_is_noticed(places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in any::<prop::sample::Index>(), truncate in prop::bool::weighted(0.1)) {
        use std::sync::LazyLock;
        static WHOLE: LazyLock<(Bundle, Vec<u8>)> = LazyLock::new(|| (bundle(), bundle().to_bytes().unwrap()));
        let (original, mut bytes) = (&WHOLE.0, WHOLE.1.clone());
        // most damage into the header, which is what gets parsed
        for (i, (place, value)) in places.iter().enumerate() {
            let range = if i == 0 { bytes.len() } else { 4000.min(bytes.len()) };
            let at = place.index(range);
            bytes[at] = *value;
        }
        if truncate {
            let keep = cut.index(bytes.len());
            bytes.truncate(keep);
        }
        if let Ok(read) = Bundle::from_bytes(&bytes) {
            prop_assert_eq!(&read, original);
        }
    }
}
