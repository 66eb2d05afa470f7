//! The model card of an adapter: `README.md` beside `adapter_config.json`, in Markdown with the front matter that model
//! hubs read (huggingface.co/docs/hub/model-cards). It says what was trained, on what data, how, and how good it was.
//!
//! No row of the data is in it. Names of classes and columns, the question and the figures are.

use std::fmt::Write;

use crate::{
    bundle::Classifier,
    metrics::{Evaluation, Figure},
    report::DataSummary,
};

/// Gemma's terms, which go with everything that is derived from its weights.
const TERMS: &str = "https://ai.google.dev/gemma/terms";
const PROHIBITED: &str = "https://ai.google.dev/gemma/prohibited_use_policy";

/// Takes a figure out of an evaluation.
type Take = fn(&Evaluation) -> &Figure;

/// The figures of the card: name for people, field of [`Evaluation`], and its value.
const FIGURES: [(&str, &str, Take); 8] = [
    ("F1", "f1", |e| &e.f1),
    ("ROC-AUC", "roc_auc", |e| &e.roc_auc),
    ("average precision", "average_precision", |e| &e.average_precision),
    ("accuracy", "accuracy", |e| &e.accuracy),
    ("balanced accuracy", "balanced_accuracy", |e| &e.balanced_accuracy),
    ("log loss", "log_loss", |e| &e.log_loss),
    ("Brier score", "brier", |e| &e.brier),
    ("calibration error", "calibration_error", |e| &e.calibration_error),
];

/// The text of the card. `data` is known where the classifier was just trained; `base_model` is the base model's name
/// on a hub, or empty.
pub fn model_card(kept: &Classifier, data: Option<&DataSummary>, base_model: &str) -> String {
    let mut out = front_matter(kept, data, base_model);
    let name = if kept.name.is_empty() { "classifier" } else { &kept.name };
    let classes: Vec<String> = kept.classes.iter().map(|class| code(class)).collect();
    add(&mut out, format_args!("\n# {}\n\n", plain(name)));
    add(
        &mut out,
        format_args!(
            "A text classifier: a LoRA adapter for {}, trained with Hearth. \
             It chooses among {}.\n",
            code(if base_model.is_empty() { &kept.base.name } else { base_model }),
            classes.join(", ")
        ),
    );
    add_use(&mut out, kept);
    add_data(&mut out, kept, data);
    add_recipe(&mut out, kept);
    add_figures(&mut out, kept);
    add(
        &mut out,
        format_args!(
            "\n## Terms\n\nThis adapter is derived from Gemma. Its use is subject to the [Gemma Terms of Use]({TERMS}) and \
             the [Prohibited Use Policy]({PROHIBITED}); whoever passes it on passes these terms on with it.\n"
        ),
    );
    out
}

/// Writing into a string cannot fail.
fn add(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

/// A string of YAML: JSON's are.
fn yaml(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Code in Markdown, on one line and with a fence that the text does not contain.
fn code(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let space = if longest > 0 || text.trim().is_empty() { " " } else { "" };
    format!("{fence}{space}{text}{space}{fence}")
}

/// The same in a cell of a table.
fn cell(text: &str) -> String {
    code(text).replace('|', "\\|")
}

/// Text without Markdown of its own.
fn plain(text: &str) -> String {
    let kept = |c: char| if c.is_alphanumeric() || " -_.".contains(c) { c } else { ' ' };
    let text: String = text.chars().map(kept).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn front_matter(kept: &Classifier, data: Option<&DataSummary>, base_model: &str) -> String {
    let mut out = "---\n".to_owned();
    if base_model.is_empty() {
        out += "# base_model: the name of the base model on the hub\n";
    } else {
        add(&mut out, format_args!("base_model: {}\n", yaml(base_model)));
    }
    out += "library_name: peft\nlicense: gemma\npipeline_tag: text-classification\n";
    out += "tags:\n- text-classification\n- lora\n- gemma\n- hearth\n";
    let Some(evaluation) = &kept.evaluation else { return out + "---\n" };
    let known: Vec<_> = FIGURES
        .iter()
        .filter_map(|(name, field, figure)| Some((name, field, figure(evaluation).value?)))
        .collect();
    if !known.is_empty() {
        let dataset = data.map_or("the user's own table", |data| &data.file);
        add(
            &mut out,
            format_args!(
                "model-index:\n- name: {}\n  results:\n  - task:\n      type: text-classification\n    dataset:\n      \
                 name: {}\n      type: private\n    metrics:\n",
                yaml(&kept.name),
                yaml(dataset)
            ),
        );
        for (name, field, value) in known {
            add(
                &mut out,
                format_args!("    - type: {field}\n      name: {name}\n      value: {value:.4}\n"),
            );
        }
    }
    out + "---\n"
}

fn add_use(out: &mut String, kept: &Classifier) {
    add(
        out,
        format_args!(
            "\n## Use\n\nThe base model reads a prompt, and the probabilities of the classes are the softmax of the logits of \
             their tokens at the prompt's last position, divided by the temperature {}. The prompt asks {}, with {} \
             between its parts{}.\n",
            kept.temperature,
            code(&kept.prompt.question),
            code(&kept.prompt.separator),
            if kept.prompt.chat { ", within the chat template" } else { "" }
        ),
    );
    *out += "\n| class | answer word | token |\n| --- | --- | --- |\n";
    for (class, token) in kept.classes.iter().zip(&kept.class_tokens) {
        let word = kept.prompt.words.iter().find(|word| word.class == *class);
        let word = word.map_or(class.as_str(), |word| &word.word);
        add(out, format_args!("| {} | {} | {token} |\n", cell(class), cell(word)));
    }
    if let (2, Some(positive)) = (kept.classes.len(), kept.positive) {
        let class = kept.classes.get(positive).map_or("", String::as_str);
        add(
            out,
            format_args!(
                "\nThe positive class is {}, predicted at a probability of {} and above.\n",
                code(class),
                kept.threshold
            ),
        );
    }
}

fn add_data(out: &mut String, kept: &Classifier, data: Option<&DataSummary>) {
    *out += "\n## Training data\n\n";
    if let Some(data) = data {
        add(out, format_args!("A table, {}: {}.\n", code(&data.file), code(&data.split)));
        *out += "\n| class | training rows | validation rows | test rows |\n| --- | --- | --- | --- |\n";
        for class in &kept.classes {
            let rows = |counts: &[crate::columns::ClassCount]| {
                counts.iter().find(|count| count.class == *class).map_or(0, |count| count.rows)
            };
            let parts = [&data.train, &data.validation, &data.test].map(|counts| rows(counts));
            let [train, validation, test] = parts;
            add(out, format_args!("| {} | {train} | {validation} | {test} |\n", cell(class)));
        }
        if data.duplicates > 0 {
            add(
                out,
                format_args!(
                    "\n{} test rows have the same text as a training row: the figures are too optimistic.\n",
                    data.duplicates
                ),
            );
        }
        return;
    }
    match &kept.origin.seen {
        Some(seen) => {
            let (train, validation) = seen.counts();
            add(
                out,
                format_args!(
                    "A private table: {train} different training texts and {validation} validation texts.\n"
                ),
            );
        }
        None => *out += "A private table; its size was not recorded.\n",
    }
    if let Some(reading) = &kept.origin.reading {
        let names: Vec<String> = reading.columns.iter().map(|column| code(&column.name)).collect();
        add(out, format_args!("The texts were in the columns {}.\n", names.join(", ")));
    }
}

fn add_recipe(out: &mut String, kept: &Classifier) {
    *out += "\n## Recipe\n\n| setting | value |\n| --- | --- |\n";
    // texts and numbers only, so this cannot fail
    if let Ok(serde_json::Value::Object(recipe)) = serde_json::to_value(&kept.recipe) {
        for (setting, value) in recipe {
            add(out, format_args!("| `{setting}` | {} |\n", cell(&value.to_string())));
        }
    }
    if let Some(hash) = &kept.base.sha256 {
        add(
            out,
            format_args!(
                "\nBase model: {} ({}, {} layers), identity `{hash}`.\n",
                code(&kept.base.name),
                kept.base.architecture,
                kept.base.layers
            ),
        );
    }
}

fn add_figures(out: &mut String, kept: &Classifier) {
    *out += "\n## Figures\n\n";
    let Some(evaluation) = &kept.evaluation else {
        *out += "No results: there were no test rows.\n";
        return;
    };
    add(
        out,
        format_args!(
            "On {} test rows, which were not used in training, with 95% confidence intervals from a bootstrap over these \
             rows.\n\n| figure | value | interval |\n| --- | --- | --- |\n",
            evaluation.rows
        ),
    );
    for (name, field, figure) in FIGURES {
        let figure = figure(evaluation);
        let value = match (figure.value, &figure.reason) {
            (Some(value), _) => format!("{value:.3}"),
            (None, Some(reason)) => format!("none: {}", plain(reason)),
            (None, None) => "none".to_owned(),
        };
        let interval = evaluation
            .interval(field)
            .map_or(String::new(), |i| format!("{:.3} to {:.3}", i.low, i.high));
        add(out, format_args!("| {name} | {value} | {interval} |\n"));
    }
    if let Some(threshold) = kept.origin.threshold {
        add(out, format_args!("\nThe threshold was {}.\n", threshold.words()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::BaseModel;
    use crate::prompt::{ClassWord, PromptSpec};
    use crate::recipe::Recipe;

    fn kept() -> Classifier {
        let words = vec![ClassWord { class: "a|b".to_owned(), word: "Yes".to_owned() }];
        Classifier {
            name: "my \"run\"\n# x".to_owned(),
            classes: vec!["a|b".to_owned(), "`c`".to_owned()],
            positive: Some(1),
            class_tokens: vec![7, 9],
            prompt: PromptSpec { words, ..PromptSpec::default() },
            threshold: 0.5,
            temperature: 2.0,
            base: BaseModel {
                name: "m.gguf".to_owned(),
                architecture: "gemma3".to_owned(),
                sha256: None,
                layers: 3,
                hidden: 64,
                vocabulary: 512,
            },
            recipe: Recipe::default(),
            evaluation: None,
            origin: crate::origin::Origin::default(),
        }
    }

    #[test]
    fn a_card_names_terms_recipe_and_classes() {
        let card = model_card(&kept(), None, "google/gemma-3-270m");
        let (front, rest) = card.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
        assert!(front.contains("base_model: \"google/gemma-3-270m\"\nlibrary_name: peft"));
        assert!(front.contains("license: gemma") && !front.contains("model-index"));
        for part in [
            "# my run x\n",
            "| `a\\|b` | `Yes` | 7 |",
            "| `` `c` `` |",
            "| `rank` | `8` |",
            "No results",
            TERMS,
        ] {
            assert!(rest.contains(part), "{part:?} is missing in {rest}");
        }
        assert!(model_card(&kept(), None, "").contains("\n# base_model: "));
    }

    #[test]
    fn figures_come_with_their_intervals() {
        use crate::metrics::{Scored, evaluate};
        let scored = Scored {
            classes: 2,
            truth: &[0, 1, 1, 0],
            probabilities: &[0.9, 0.1, 0.2, 0.8, 0.6, 0.4, 0.7, 0.3],
            positive: Some(1),
            threshold: 0.5,
        };
        let mut evaluation = evaluate(&scored, &kept().classes).unwrap();
        let (figure, low, high) = ("accuracy".to_owned(), 0.25, 0.975);
        evaluation.intervals.push(crate::metrics::Interval { figure, low, high, resamples: 9 });
        let kept = Classifier { evaluation: Some(evaluation), ..kept() };
        let card = model_card(&kept, None, "");
        assert!(card.contains("On 4 test rows"), "{card}");
        assert!(card.contains("| accuracy | 0.750 | 0.250 to 0.975 |"), "{card}");
        assert!(card.contains("    - type: accuracy\n      name: accuracy\n      value: 0.7500\n"));
        assert!(card.contains("- name: \"my \\\"run\\\"\\n# x\""), "{card}");
    }

    #[test]
    fn code_stays_code_whatever_it_holds() {
        assert_eq!(code("a\nb"), "`a b`");
        assert_eq!(code("``"), "``` `` ```");
        assert_eq!(code(""), "`  `");
        assert_eq!(cell("a|b"), "`a\\|b`");
    }
}
