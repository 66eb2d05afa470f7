//! The engine from the page's side of the wire, on a tiny model with random weights.

use std::cell::{Cell, RefCell};

use hearth_classifier::{prompt::PromptSpec, recipe::Recipe, table::TableOptions};
use wasm_bindgen_test::wasm_bindgen_test;
use web_sys::Blob;

use super::{
    inbox::{Inbox, Incoming},
    request::turn,
    session,
};
use crate::{
    protocol::{
        DataChoices, Evaluated, FromEngine, InUse, ModelFile, RunRecord, RunState, SplitChoice,
        ToEngine, UNASKED, WeightsAs, Writing,
    },
    storage::read_blob,
    wire::blob,
};

const MODEL: [(&str, &[u8]); 3] = [
    (
        "config.json",
        include_bytes!("../../../crates/gemma/tests/golden/tiny_gemma3/model/config.json"),
    ),
    (
        "model.safetensors",
        include_bytes!("../../../crates/gemma/tests/golden/tiny_gemma3/model/model.safetensors"),
    ),
    ("tokenizer.json", include_bytes!("../../../crates/classifier/tests/fixtures/tokenizer.json")),
];

/// What the engine said.
type Heard = (u64, FromEngine, Vec<Blob>);

thread_local! {
    static HEARD: RefCell<Vec<Heard>> = const { RefCell::new(Vec::new()) };
    static NEXT: Cell<u64> = const { Cell::new(1) };
}

/// Takes the page's place.
pub fn hear(id: u64, message: &FromEngine, blobs: &[Blob]) {
    HEARD.with_borrow_mut(|heard| heard.push((id, message.clone(), blobs.to_vec())));
}

/// A page with an engine of its own.
struct Page {
    inbox: Inbox,
}

impl Page {
    fn open() -> Self {
        let inbox = Inbox::default();
        wasm_bindgen_futures::spawn_local(session::serve(inbox.clone()));
        Self { inbox }
    }

    async fn with_model() -> Self {
        let page = Self::open();
        let files = MODEL.map(|(name, _)| ModelFile { name: name.to_owned(), pieces: None });
        let blobs = MODEL.map(|(_, bytes)| blob(bytes, "").unwrap()).to_vec();
        let body = ToEngine::LoadModel {
            name: "tiny".to_owned(),
            files: files.to_vec(),
            weights: WeightsAs::Exact,
        };
        let answer = page.ask_with(body, blobs).await.0;
        assert!(matches!(&answer, FromEngine::ModelReady(m) if m.family == "gemma3"), "{answer:?}");
        page
    }

    fn post(&self, body: ToEngine, blobs: Vec<Blob>) -> u64 {
        let id = NEXT.replace(NEXT.get() + 1);
        self.inbox.take(Incoming { id, body, blobs });
        id
    }

    /// Waits for a message of a request.
    async fn hear_of(
        &self,
        id: u64,
        wanted: impl Fn(&FromEngine) -> bool,
    ) -> (FromEngine, Vec<Blob>) {
        loop {
            let found = HEARD.with_borrow(|heard| {
                heard.iter().find(|(of, message, _)| *of == id && wanted(message)).cloned()
            });
            if let Some((_, message, blobs)) = found {
                return (message, blobs);
            }
            turn().await.unwrap();
        }
    }

    async fn ask_with(&self, body: ToEngine, blobs: Vec<Blob>) -> (FromEngine, Vec<Blob>) {
        let id = self.post(body, blobs);
        self.hear_of(id, FromEngine::ends).await
    }

    async fn ask(&self, body: ToEngine) -> FromEngine {
        self.ask_with(body, Vec::new()).await.0
    }

    /// Data with awkward quoting, its roles chosen.
    async fn with_data(&self) {
        assert_eq!(self.with_rows(140).await, [28, 28]);
    }

    /// So many rows of such data. Gives the rows of each class in the test part.
    async fn with_rows(&self, rows: usize) -> Vec<usize> {
        let file = blob(csv(rows).as_bytes(), "").unwrap();
        let body =
            ToEngine::OpenData { name: "a.csv".to_owned(), options: TableOptions::default() };
        let (answer, _) = self.ask_with(body, vec![file]).await;
        let FromEngine::Data(data) = answer else { panic!("{answer:?}") };
        assert_eq!((data.rows, data.dialect.delimiter), (rows, Some(";".to_owned())));
        let choices = DataChoices {
            roles: data.roles,
            rule: Default::default(),
            positive: Some("Yes".to_owned()),
            drop_bad: false,
            labels: Default::default(),
            split: SplitChoice::Share(0.4),
            limit: None,
            validation_share: 0.2,
            seed: 3,
            validation_seed: None,
        };
        let answer = self.ask(ToEngine::SetRoles { choices, spec: spec() }).await;
        let FromEngine::Prepared(report) = answer else { panic!("{answer:?}") };
        assert_eq!(report.classes, ["No", "Yes"]);
        assert!(report.tokens.is_some());
        report.test.iter().map(|class| class.rows).collect()
    }

    fn train(&self) -> u64 {
        let body = ToEngine::Train {
            name: "manners".to_owned(),
            spec: spec(),
            recipe: Recipe { rate: 1e-2, epochs: 5, seed: 3, ..Recipe::default() },
            memory: 1 << 30,
            zero_shot: true,
        };
        self.post(body, Vec::new())
    }

    async fn trained(&self, id: u64) -> (RunRecord, Evaluated) {
        match self.hear_of(id, FromEngine::ends).await.0 {
            FromEngine::Trained { run, test: Some(test), .. } => (run, test),
            other => panic!("{other:?}"),
        }
    }

    async fn probabilities(&self, text: &str) -> Vec<f64> {
        match self.ask(ToEngine::Classify { text: text.to_owned() }).await {
            FromEngine::Classified(found) => found.probabilities,
            other => panic!("{other:?}"),
        }
    }
}

fn spec() -> PromptSpec {
    PromptSpec {
        question: "Is this good".to_owned(),
        separator: "\n".into(),
        ..PromptSpec::default()
    }
}

/// Sentences whose one telling word says the class.
fn csv(rows: usize) -> String {
    let words = [["bad", "poor", "sad"], ["good", "nice", "fine"]];
    let fronts = ["the film was so", "this day is", "it was", "the day is so"];
    let backs = ["", " and so is it", " this day"];
    let row = |i: usize| {
        let (class, front, back) = (i % 2, fronts[i / 2 % 4], backs[i / 8 % 3]);
        format!("\" {front} {}{back}\";{}\r\n", words[class][i / 24 % 3], ["No", "Yes"][class])
    };
    "\"text\";label\r\n".to_owned() + &(0..rows).map(row).collect::<String>()
}

async fn bytes(blob: &Blob) -> Vec<u8> {
    read_blob(blob, 0, blob.size() as u64).await.unwrap().to_vec()
}

fn bits(test: &Evaluated) -> Vec<u64> {
    test.rows.iter().flat_map(|r| r.probabilities.iter().map(|p| p.to_bits())).collect()
}

#[wasm_bindgen_test]
async fn from_a_table_to_a_classifier_and_back_from_its_file() {
    let page = Page::with_model().await;
    page.with_data().await;
    let answer = page.ask(ToEngine::FillPrompt { spec: spec(), row: 1 }).await;
    let FromEngine::Prompt(prompt) = answer else { panic!("{answer:?}") };
    assert!(prompt.text.starts_with("Is this good") && prompt.label == "Yes", "{prompt:?}");
    let plan = ToEngine::Plan {
        spec: spec(),
        recipe: Recipe::default(),
        memory: 1 << 30,
        zero_shot: true,
    };
    let answer = page.ask(plan).await;
    let FromEngine::Planned(plan) = answer else { panic!("{answer:?}") };
    assert!(plan.memory.total() > 0 && plan.tokens > 0);
    let time = plan.time;
    assert!(time.training > 0.0 && time.testing > 0.0);
    let half = time.with_rows(plan.rows / 2, plan.rows);
    assert!(half < time.total() && half > time.testing);

    let (run, test) = page.trained(page.train()).await;
    let auc = |e: &hearth_classifier::metrics::Evaluation| e.roc_auc.value.unwrap();
    let (before, after) = (auc(run.zero_shot_test.as_ref().unwrap()), auc(&test.evaluation));
    assert!(after > 0.95 && after > before, "{before} to {after}");
    assert_eq!((run.state, test.rows.len(), run.kept), (RunState::Finished, 56, true));
    assert_eq!(run.history.epochs.len(), 5);

    let own = page.probabilities(" this day is nice").await;
    assert!((own.iter().sum::<f64>() - 1.0).abs() < 1e-9 && own[1] > own[0], "{own:?}");
    let (_, files) = page.ask_with(ToEngine::ExportBundle { name: "m".into() }, vec![]).await;
    let (peft, both) = page.ask_with(ToEngine::ExportPeft { base_model: "x".into() }, vec![]).await;
    assert!(matches!(&peft, FromEngine::File { names, .. } if names.len() == 2) && both.len() == 2);
    let (_, report) = page.ask_with(ToEngine::ExportReport { created: "now".into() }, vec![]).await;
    assert!(bytes(&report[0]).await.starts_with(b"<!DOCTYPE html>"));
    let (_, gguf) = page.ask_with(ToEngine::ExportGguf, vec![]).await;
    assert!(bytes(&gguf[0]).await.starts_with(b"GGUF"));

    // longer than what is scored at once, with a row without text
    let table = csv(600) + "\"\";No\r\n";
    let body = ToEngine::ClassifyFile {
        name: "new.csv".into(),
        options: TableOptions::default(),
        text: None,
        for_spreadsheets: false,
    };
    let (_, csv) = page.ask_with(body, vec![blob(table.as_bytes(), "").unwrap()]).await;
    let written = String::from_utf8(bytes(&csv[0]).await).unwrap();
    assert_eq!(written.matches("\"prediction\"").count(), 1);
    assert_eq!(written.lines().count(), 602);

    let other = Page::with_model().await;
    let (answer, _) = other.ask_with(ToEngine::OpenBundle, files).await;
    assert!(
        matches!(&answer, FromEngine::Classifier(c) if c.classes == ["No", "Yes"]),
        "{answer:?}"
    );
    assert_eq!(other.probabilities(" this day is nice").await, own);
    let answer = other.ask(ToEngine::OpenRun { key: run.key.clone() }).await;
    assert!(matches!(answer, FromEngine::InUse(_)), "{answer:?}");
    assert_eq!(other.probabilities(" this day is nice").await, own);
    let answer = other.ask(ToEngine::DeleteRun { key: run.key.clone() }).await;
    let FromEngine::Runs { runs } = answer else { panic!("{answer:?}") };
    assert!(runs.iter().all(|r| r.key != run.key));
}

#[wasm_bindgen_test]
async fn a_run_goes_on_in_another_tab_to_the_same_bits() {
    let page = Page::with_model().await;
    page.with_data().await;
    let (whole, expected) = page.trained(page.train()).await;

    let id = page.train();
    page.hear_of(id, |m| matches!(m, FromEngine::EpochEnded(e) if e.epoch == 2)).await;
    page.post(ToEngine::Pause, Vec::new());
    let (answer, _) = page.hear_of(id, FromEngine::ends).await;
    let FromEngine::Paused { run } = answer else { panic!("{answer:?}") };

    let tab = Page::with_model().await;
    let id = tab.post(ToEngine::ResumeRun { key: run.key }, Vec::new());
    let (finished, found) = tab.trained(id).await;
    assert_eq!(bits(&found), bits(&expected));
    assert_eq!(finished.history, whole.history);
    assert_eq!(finished.test, whole.test);
    // the finished run's copy of the table is gone; what is open can train again
    let (again, found) = tab.trained(tab.train()).await;
    assert_eq!(bits(&found), bits(&expected));
    for key in [whole.key, finished.key, again.key] {
        tab.ask(ToEngine::DeleteRun { key }).await;
    }
}

#[wasm_bindgen_test]
async fn a_run_can_be_paused_before_its_first_step() {
    let page = Page::with_model().await;
    page.with_data().await;
    let id = page.train();
    let paused = page.ask(ToEngine::Pause).await;
    assert!(matches!(paused, FromEngine::Done), "{paused:?}");
    let (answer, _) = page.hear_of(id, FromEngine::ends).await;
    let FromEngine::Paused { run } = answer else { panic!("{answer:?}") };
    let id = page.post(ToEngine::ResumeRun { key: run.key }, Vec::new());
    let (finished, _) = page.trained(id).await;
    assert!(!finished.history.epochs.is_empty());
    page.ask(ToEngine::DeleteRun { key: finished.key }).await;
}

#[wasm_bindgen_test]
async fn a_run_can_be_stopped_with_its_best_or_given_up() {
    let page = Page::with_model().await;
    page.with_data().await;
    let id = page.train();
    page.hear_of(id, |m| matches!(m, FromEngine::EpochEnded(e) if e.epoch == 2)).await;
    page.post(ToEngine::Stop, Vec::new());
    let (run, _) = page.trained(id).await;
    assert!((2..5).contains(&run.history.epochs.len()), "{:?}", run.history.epochs);
    assert!(run.validation.is_some());
    let told = |m: &FromEngine, words: &str| matches!(m, FromEngine::Warning { what } if what.contains(words));
    page.hear_of(id, |m| told(m, "The adapter after epoch")).await;
    page.ask(ToEngine::DeleteRun { key: run.key }).await;

    // before the first validation: no validation begins only because the run ends
    let id = page.train();
    page.post(ToEngine::Stop, Vec::new());
    let (run, _) = page.trained(id).await;
    assert_eq!((run.history.steps.len(), run.history.epochs.len()), (1, 0));
    assert_eq!(run.validation, None);
    page.hear_of(id, |m| told(m, "The adapter after step 1 is kept")).await;
    page.ask(ToEngine::DeleteRun { key: run.key }).await;

    let id = page.train();
    let (told, _) = page.hear_of(id, |m| matches!(m, FromEngine::Training(_))).await;
    let FromEngine::Training(progress) = told else { panic!() };
    // another tab sees that it trains here, and when it does no more
    let tab = Page::open();
    let state = async || {
        let answer = tab.ask(ToEngine::ListRuns).await;
        let FromEngine::Runs { runs } = answer else { panic!("{answer:?}") };
        runs.iter().find(|run| run.key == progress.key).map(|run| run.state)
    };
    assert_eq!(state().await, Some(RunState::Elsewhere));
    page.ask(ToEngine::Cancel { request: id }).await;
    let (answer, _) = page.hear_of(id, FromEngine::ends).await;
    assert_eq!(answer, FromEngine::Cancelled);
    let answer = page.ask(ToEngine::ListRuns).await;
    let FromEngine::Runs { runs } = answer else { panic!("{answer:?}") };
    assert!(runs.iter().all(|r| r.key != progress.key));
    tab.hear_of(UNASKED, |m| *m == FromEngine::RunsChanged).await;
    assert_eq!(state().await, None);
}

#[wasm_bindgen_test]
async fn the_evaluation_after_training_can_be_skipped() {
    let page = Page::with_model().await;
    page.with_data().await;
    let scoring = |wanted: &'static str| move |m: &FromEngine| matches!(m, FromEngine::Scoring { what, .. } if what == wanted);
    let id = page.train();
    page.hear_of(id, scoring("zero-shot")).await;
    page.post(ToEngine::Stop, Vec::new());
    let (run, test) = page.trained(id).await;
    assert_eq!((run.test, run.zero_shot_test), (Some(test.evaluation), None));
    page.ask(ToEngine::DeleteRun { key: run.key }).await;

    let id = page.train();
    page.hear_of(id, scoring("testing")).await;
    page.post(ToEngine::Stop, Vec::new());
    let (answer, _) = page.hear_of(id, FromEngine::ends).await;
    let FromEngine::Trained { run, test: None, .. } = answer else { panic!("{answer:?}") };
    assert_eq!((run.state, &run.test, &run.zero_shot_test), (RunState::Finished, &None, &None));
    assert_eq!((run.history.epochs.len(), run.validation.is_some()), (5, true));
    let own = page.probabilities(" this day is nice").await;
    let (_, report) = page.ask_with(ToEngine::ExportReport { created: "now".into() }, vec![]).await;
    assert!(bytes(&report[0]).await.starts_with(b"<!DOCTYPE html>"));
    // the run is kept without results, and can be evaluated later
    let other = Page::with_model().await;
    let answer = other.ask(ToEngine::OpenRun { key: run.key.clone() }).await;
    assert!(matches!(&answer, FromEngine::InUse(now) if now.test.is_none()), "{answer:?}");
    assert_eq!(other.probabilities(" this day is nice").await, own);
    other.with_data().await;
    let answer = other.ask(ToEngine::Evaluate).await;
    let FromEngine::Evaluated(InUse { test: Some(test), .. }) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(test.rows.len(), 56);
    other.ask(ToEngine::DeleteRun { key: run.key }).await;
}

#[wasm_bindgen_test]
async fn what_is_wrong_is_told_and_the_engine_goes_on() {
    let page = Page::open();
    let failed = async |body: ToEngine, blobs: Vec<Blob>| match page.ask_with(body, blobs).await.0 {
        FromEngine::Failed(failure) => format!("{} {}", failure.what, failure.advice),
        other => panic!("{other:?}"),
    };
    let file = |bytes: &[u8]| vec![blob(bytes, "").unwrap()];
    let open = || ToEngine::OpenData { name: "x.csv".into(), options: TableOptions::default() };
    assert!(failed(open(), file(b"PK\x03\x04 word/document.xml")).await.contains("save it as CSV"));
    assert!(failed(open(), file(b"\x7fELF\0\0\0\0")).await.contains("binary"));
    assert!(failed(open(), file(b"")).await.contains("empty"));
    assert!(failed(open(), vec![]).await.contains("Choose it again"));
    assert!(failed(ToEngine::Pause, vec![]).await.contains("No run is training"));
    assert!(failed(ToEngine::Evaluate, vec![]).await.contains("No table is loaded"));
    let writing = Writing::default();
    let generate = ToEngine::Generate { prompt: "a".into(), writing };
    assert!(failed(generate, vec![]).await.contains("No model is loaded"));
    let load = |name: &str| ToEngine::LoadModel {
        name: name.into(),
        files: vec![ModelFile { name: name.into(), pieces: None }],
        weights: WeightsAs::Exact,
    };
    assert!(failed(load("cat.gguf"), file(b"not a model at all")).await.contains("cat.gguf"));
    let answer = page.ask(ToEngine::SelfTest).await;
    let FromEngine::SelfTested { rows } = answer else { panic!("{answer:?}") };
    assert!(rows.len() == 3 && rows.iter().all(|r| r.ok), "{rows:?}");
    let page = Page::with_model().await;
    let id = page.post(ToEngine::Generate { prompt: " the day".into(), writing }, Vec::new());
    let (answer, _) = page.hear_of(id, FromEngine::ends).await;
    assert!(matches!(answer, FromEngine::Written { .. }), "{answer:?}");
}

#[wasm_bindgen_test]
async fn a_newer_text_overtakes_those_that_wait() {
    let page = Page::with_model().await;
    page.with_data().await;
    page.ask(ToEngine::ZeroShot { spec: spec() }).await;
    let texts = ["a", " the day", " the day is", " the day is nice"];
    let ids = texts.map(|text| page.post(ToEngine::Classify { text: text.to_owned() }, Vec::new()));
    let mut answered = Vec::new();
    for id in ids {
        let (answer, _) = page.hear_of(id, FromEngine::ends).await;
        let FromEngine::Classified(found) = answer else { panic!("{answer:?}") };
        answered.push(!found.probabilities.is_empty());
    }
    assert_eq!(answered, [false, false, false, true]);
}

#[wasm_bindgen_test]
async fn what_waits_or_prepares_is_cancelled_at_once() {
    let told = |id: u64, wanted: fn(&FromEngine) -> bool| {
        HEARD.with_borrow(|heard| heard.iter().any(|(of, message, _)| *of == id && wanted(message)))
    };
    let page = Page::with_model().await;
    page.with_rows(20_000).await;
    let running = page.post(ToEngine::ZeroShot { spec: spec() }, Vec::new());
    let waiting = page.post(ToEngine::SelfTest, Vec::new());
    page.post(ToEngine::Cancel { request: waiting }, Vec::new());
    assert!(told(waiting, |m| *m == FromEngine::Cancelled));
    // the first rest of the engine is within the tokenizing of 8,000 test rows
    turn().await.unwrap();
    page.post(ToEngine::Cancel { request: running }, Vec::new());
    let (answer, _) = page.hear_of(running, FromEngine::ends).await;
    assert_eq!(answer, FromEngine::Cancelled);
    // it was told that scoring begins, and no row was scored
    assert!(told(running, |m| matches!(m, FromEngine::Scoring { done: 0, .. })));
    assert!(!told(running, |m| matches!(m, FromEngine::Scoring { done: 1.., .. })));
}
