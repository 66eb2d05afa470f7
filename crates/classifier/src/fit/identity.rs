//! What a run is: everything that must be equal for it to be resumed, and what differs in words.
//!
//! A run is resumed to the bit or not at all, so the machine is part of it: build, adapter, kernel variants and the
//! layout of the weights. Ending a run and keeping its best adapter trains nothing, so it works on any machine
//! that has the model and the rows.

use std::collections::BTreeMap;

use hearth_gemma::Model;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Task;
use crate::error::Difference;
use crate::prompt::PromptSpec;
use crate::recipe::Recipe;

/// Name and value of everything that makes a run what it is.
pub type Identity = BTreeMap<String, String>;

const MODEL: &str = "model";
const WEIGHTS: &str = "weights";
const BUILD: &str = "build";
const ADAPTER: &str = "adapter";
const PROFILE: &str = "profile";
const VARIANTS: &str = "kernel variants";
const CLASSES: &str = "classes";
const DATA: &str = "data";
const PROMPT: &str = "prompt";
const RECIPE: &str = "recipe";

/// What may differ where a run is only ended.
const MACHINE: [&str; 5] = [WEIGHTS, BUILD, ADAPTER, PROFILE, VARIANTS];

/// What an existing run is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Take its next step.
    Resume,
    /// Keep its best adapter without training further.
    End,
}

/// The part of an identity that comes from the machine and the model.
pub fn of_machine(model: &Model) -> Identity {
    let variants = model.variants;
    let entries = [
        (MODEL, model.identity.clone()),
        (WEIGHTS, model.weights.layouts()),
        // shaders and training code: a release that changes only words resumes what came before
        (BUILD, env!("HEARTH_TRAINING_CODE").to_owned()),
        (ADAPTER, model.gpu.adapter().to_string()),
        (PROFILE, format!("{:?}", model.gpu.profile()).to_lowercase()),
        // the size of submissions changes no number
        (VARIANTS, format!("software {}, forced {:?}", variants.software, variants.forced)),
    ];
    entries.map(|(name, value)| (name.to_owned(), value)).into()
}

/// The identity of a run.
pub(super) fn of(model: &Model, task: &Task<'_>, recipe: &Recipe) -> Identity {
    let mut identity = of_machine(model);
    // a recipe is plain numbers and names: it always becomes JSON
    let recipe = serde_json::to_string(recipe).unwrap_or_default();
    for (name, value) in [
        (DATA, data(task)),
        (CLASSES, format!("{:?}", task.class_tokens)),
        (PROMPT, task.prompt.to_owned()),
        (RECIPE, recipe),
    ] {
        identity.insert(name.to_owned(), value);
    }
    identity
}

/// The number of rows, and a sha256 over all prompts and classes.
fn data(task: &Task<'_>) -> String {
    let mut hash = Sha256::new();
    for rows in [task.train, task.validation] {
        hash.update((rows.len() as u64).to_le_bytes());
        for row in rows {
            hash.update((row.ids.len() as u64).to_le_bytes());
            row.ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
            hash.update((row.class as u64).to_le_bytes());
        }
    }
    hash.update(format!("{:?} {:?}", task.positive, task.end_token));
    let hash = hex::encode(hash.finalize());
    format!(
        "{} training rows and {} validation rows, {hash}",
        task.train.len(),
        task.validation.len()
    )
}

/// The recipe that a run was started with.
pub(super) fn recipe_of(identity: &Identity) -> Option<Recipe> {
    serde_json::from_str(identity.get(RECIPE)?).ok()
}

/// Why a run cannot be resumed on this build, device and form of the weights, in words, from its snapshot's header
/// (see [`hearth_gemma::snapshot::identity`]). None where it can be as far as they tell; table, prompt and recipe are
/// not compared.
pub fn not_resumed(header: &[u8], model: &Model) -> Option<String> {
    let was = hearth_gemma::snapshot::identity(header)?;
    let mut found = differences(&was, &of_machine(model));
    found.retain(|d| MACHINE.contains(&d.name.as_str()));
    let words: Vec<String> = found.into_iter().map(|d| d.words).collect();
    (!words.is_empty()).then(|| words.join("; "))
}

/// The differences that matter for the purpose.
pub(super) fn differences_for(was: &Identity, now: &Identity, purpose: Purpose) -> Vec<Difference> {
    let mut found = differences(was, now);
    if purpose == Purpose::End {
        found.retain(|d| !MACHINE.contains(&d.name.as_str()));
    }
    found
}

/// All differences, in words.
pub fn differences(was: &Identity, now: &Identity) -> Vec<Difference> {
    let names: std::collections::BTreeSet<_> = was.keys().chain(now.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        let [old, new] = [was, now].map(|of| of.get(name).map(String::as_str));
        if old == new {
            continue;
        }
        match name.as_str() {
            RECIPE => found.extend(fields(canonical::<Recipe>(old), canonical::<Recipe>(new))),
            PROMPT => {
                found.extend(fields(canonical::<PromptSpec>(old), canonical::<PromptSpec>(new)));
            }
            _ => found.push(Difference { name: name.clone(), words: words(name, old, new) }),
        }
    }
    // the same table gives other rows under another prompt or split, and other tokens for its classes
    let has = |name: &str| found.iter().any(|d| d.name == name);
    let prompt_differs = was.contains_key(PROMPT) && was.get(PROMPT) != now.get(PROMPT);
    let split_differs = has("seed") || has("validation_share");
    found.retain(|d| match d.name.as_str() {
        DATA => !prompt_differs && !split_differs,
        CLASSES => !prompt_differs,
        _ => true,
    });
    found
}

fn words(name: &str, was: Option<&str>, now: Option<&str>) -> String {
    let (old, new) = (was.unwrap_or("unknown"), now.unwrap_or("unknown"));
    match name {
        MODEL => "the model's file is another one".to_owned(),
        WEIGHTS => format!("the weights were held as {old}, now as {new}"),
        BUILD => "this build computes differently: its kernels or its training code have changed since the run began"
            .to_owned(),
        ADAPTER => format!("the GPU was {old}, now it is {new}"),
        PROFILE => format!("the device limits were {old}, now they are {new}"),
        CLASSES => format!("the tokens of the classes were {old}, now they are {new}"),
        DATA => {
            let rows = |text: &str| text.rsplit_once(", ").map(|(rows, _)| rows.to_owned());
            match (rows(old), rows(new)) {
                (Some(old), Some(new)) if old != new => {
                    format!("the table has changed: there were {old}, now there are {new}")
                }
                (_, Some(new)) => format!(
                    "the table has changed: texts, labels or their order are not those of the run ({new})"
                ),
                _ => "the table has changed".to_owned(),
            }
        }
        _ => format!("the {name} were {old}, now they are {new}"),
    }
}

/// The fields of a recipe or prompt, with today's names and with the defaults of those that an older build did not
/// know.
fn canonical<T: DeserializeOwned + Serialize>(json: Option<&str>) -> Value {
    let parsed = json.and_then(|json| serde_json::from_str::<T>(json).ok());
    parsed.and_then(|parsed| serde_json::to_value(parsed).ok()).unwrap_or_default()
}

/// The fields that two objects do not share.
fn fields(was: Value, now: Value) -> Vec<Difference> {
    let (Value::Object(was), Value::Object(now)) = (was, now) else { return Vec::new() };
    let names: std::collections::BTreeSet<_> = was.keys().chain(now.keys()).collect();
    let differing = names.into_iter().filter(|name| was.get(*name) != now.get(*name));
    let difference = |name: &String| {
        let [old, new] = [&was, &now].map(|of| of.get(name).map_or("unknown".to_owned(), shown));
        Difference { name: name.clone(), words: format!("{name} was {old}, now {new}") }
    };
    differing.map(difference).collect()
}

/// A setting's value as text.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Whether a run of `steps_done` steps, begun with `was`, may be resumed with the epochs of `now`, all else being
/// equal: only where no step that was taken would have been another one.
///
/// # Errors
/// In words, why not.
pub(super) fn check_more_epochs(
    was: &Recipe,
    now: &Recipe,
    steps_an_epoch: usize,
    steps_done: usize,
) -> Result<(), String> {
    let [old, new] = [was, now].map(|recipe| steps_an_epoch * recipe.epochs);
    if new < steps_done {
        return Err("and more are done already".to_owned());
    }
    if was.average > 0.0 {
        return Err("and the adapter is averaged over the last part of the run, which another number of epochs moves"
            .to_owned());
    }
    if (0..steps_done).any(|step| was.rate_at(step, old) != now.rate_at(step, new)) {
        return Err(format!(
            "and the learning rate ({} schedule, warm-up {}) follows the length of the run, so that the steps \
             taken so far would have been others; with a constant schedule and no warm-up a run can be resumed \
             for more epochs",
            serde_json::to_value(was.schedule).map_or_else(|_| String::new(), |name| shown(&name)),
            was.warmup
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Decay;

    fn identity(recipe: &Recipe, prompt: &PromptSpec) -> Identity {
        let json = |value: serde_json::Result<String>| value.unwrap();
        Identity::from(
            [
                (MODEL, "aa".to_owned()),
                (WEIGHTS, "q8-g32-f16".to_owned()),
                (BUILD, "0123".to_owned()),
                (ADAPTER, "llvmpipe".to_owned()),
                (DATA, "72 training rows and 18 validation rows, aa".to_owned()),
                (CLASSES, "[3, 4]".to_owned()),
                (PROMPT, json(serde_json::to_string(prompt))),
                (RECIPE, json(serde_json::to_string(recipe))),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        )
    }

    fn with(name: &str, value: &str) -> Identity {
        let mut identity = identity(&Recipe::default(), &PromptSpec::default());
        identity.insert(name.to_owned(), value.to_owned());
        identity
    }

    fn named(was: &Identity, now: &Identity, purpose: Purpose) -> String {
        let all = differences_for(was, now, purpose);
        all.into_iter().map(|d| d.words).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn what_differs_is_said_in_words() {
        let same = identity(&Recipe::default(), &PromptSpec::default());
        let resumed = |now: &Identity| named(&same, now, Purpose::Resume);
        assert_eq!(resumed(&same), "");
        let recipe = Recipe { epochs: 7, rank: 4, ..Recipe::default() };
        assert_eq!(
            resumed(&identity(&recipe, &PromptSpec::default())),
            "epochs was 4, now 7; rank was 8, now 4"
        );
        assert_eq!(
            resumed(&with(WEIGHTS, "f16")),
            "the weights were held as q8-g32-f16, now as f16"
        );
        assert!(resumed(&with(BUILD, "4567")).contains("kernels or its training code"));
        assert_eq!(
            resumed(&with(DATA, "60 training rows and 15 validation rows, bb")),
            "the table has changed: there were 72 training rows and 18 validation rows, \
             now there are 60 training rows and 15 validation rows"
        );
        assert!(
            resumed(&with(DATA, "72 training rows and 18 validation rows, bb"))
                .contains("texts, labels or their order")
        );
        // what another prompt or split makes of the same table is not told twice
        let prompt = PromptSpec { question: "Is it rude".to_owned(), ..PromptSpec::default() };
        let mut now = identity(&Recipe { seed: 9, ..Recipe::default() }, &prompt);
        now.insert(DATA.to_owned(), "72 training rows and 18 validation rows, cc".to_owned());
        now.insert(CLASSES.to_owned(), "[5, 6]".to_owned());
        let text = resumed(&now);
        assert!(
            text.contains("question was Classify") && text.contains("now Is it rude"),
            "{text}"
        );
        assert!(text.contains("seed was 0, now 9"), "{text}");
        assert!(!text.contains("table") && !text.contains("tokens"), "{text}");
    }

    #[test]
    fn to_end_a_run_takes_the_model_and_the_rows_only() {
        let same = identity(&Recipe::default(), &PromptSpec::default());
        let ended = |now: &Identity| named(&same, now, Purpose::End);
        for name in [WEIGHTS, BUILD, ADAPTER, PROFILE, VARIANTS] {
            assert_eq!(ended(&with(name, "other")), "", "{name}");
        }
        assert_eq!(ended(&with(MODEL, "bb")), "the model's file is another one");
        assert!(ended(&with(DATA, "x")).contains("the table has changed"));
    }

    #[test]
    fn a_recipe_of_an_older_build_differs_only_where_it_does() {
        let mut old = identity(&Recipe::default(), &PromptSpec::default());
        old.insert(RECIPE.to_owned(), r#"{"rank":8,"epochs":2}"#.to_owned());
        let now = identity(&Recipe::default(), &PromptSpec::default());
        assert_eq!(named(&old, &now, Purpose::Resume), "epochs was 2, now 4");
    }

    #[test]
    fn a_prompt_of_an_older_build_differs_only_where_it_does() {
        let mut old = identity(&Recipe::default(), &PromptSpec::default());
        old.insert(PROMPT.to_owned(), r#"{"question":"Is it rude"}"#.to_owned());
        let prompt = PromptSpec { question: "Is it rude".to_owned(), ..PromptSpec::default() };
        let now = identity(&Recipe::default(), &prompt);
        assert_eq!(named(&old, &now, Purpose::End), "");
        let other = identity(&Recipe::default(), &PromptSpec::default());
        assert!(named(&old, &other, Purpose::End).starts_with("question was Is it rude, now "));
    }

    #[test]
    fn more_epochs_are_for_schedules_that_do_not_know_the_end() {
        let constant =
            Recipe { schedule: Decay::Constant, warmup: 0.0, epochs: 2, ..Recipe::default() };
        let more = Recipe { epochs: 4, ..constant.clone() };
        check_more_epochs(&constant, &more, 10, 20).unwrap();
        // while every step so far had the same rate under both, it is the same run
        let late = Recipe { warmup: 0.05, ..constant.clone() };
        let later = Recipe { epochs: 4, ..late.clone() };
        assert!(check_more_epochs(&late, &later, 10, 1).is_ok());
        assert!(check_more_epochs(&late, &later, 10, 2).is_err());
        let linear = Recipe { epochs: 2, ..Recipe::default() };
        let longer = Recipe { epochs: 4, ..linear.clone() };
        let why = check_more_epochs(&linear, &longer, 10, 20).unwrap_err();
        assert!(why.contains("linear schedule, warm-up 0.1") && why.contains("constant"), "{why}");
        let averaged = Recipe { average: 0.5, ..constant.clone() };
        let why = check_more_epochs(&averaged, &Recipe { epochs: 4, ..averaged.clone() }, 10, 20);
        assert!(why.unwrap_err().contains("averaged"));
        let fewer = Recipe { epochs: 1, ..constant.clone() };
        assert!(
            check_more_epochs(&constant, &fewer, 10, 20).unwrap_err().contains("more are done")
        );
        assert!(check_more_epochs(&constant, &fewer, 10, 10).is_ok());
    }
}
