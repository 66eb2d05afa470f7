//! The real Gemma 3 270M through the command line, where the file is on this machine
//! (`cargo xtask test --real` fetches it).
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod command;

use command::run_json;

/// What the reference continues greedily (torch in f32, the weights as the file holds them).
const PROMPT: &str = "The quick brown fox jumps over the lazy dog and";
const GREEDY: [u32; 16] = [
    506, 31770, 4799, 38167, 1024, 506, 3823, 8864, 37423, 236761, 108, 818, 3823, 8864, 37423,
    38167,
];

#[test]
fn greedy_text_equals_the_reference_on_both_profiles_with_little_heap() {
    let Some(model) = hearth_testing::real_model() else { return };
    let model = model.display().to_string();
    for profile in ["default", "full"] {
        let args = [
            "generate",
            "--model",
            &model,
            "--prompt",
            PROMPT,
            "--max-tokens",
            "16",
            "--profile",
            profile,
        ];
        let report = run_json(0, &args);
        let tokens: Vec<u64> =
            report["tokens"].as_array().unwrap().iter().map(|t| t.as_u64().unwrap()).collect();
        assert_eq!(tokens, GREEDY.map(u64::from), "{profile}");
        let expected = " the lazy dog jumps over the quick brown fox.\n\nThe quick brown fox jumps";
        assert_eq!(report["text"], expected);
        let heap = report["heap_peak_bytes"].as_u64().unwrap();
        assert!(heap <= 64 << 20, "{heap}");
        println!("{profile}: ready after {} s, heap {heap} bytes", report["ready_seconds"]);
    }
}
