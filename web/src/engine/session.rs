//! One request after the other. The model lies on the stack below the requests that borrow it: to load
//! another, they come back here first, and its memory is free before the next one is read.

use hearth_gpu::Gpu;
use web_sys::Blob;

use super::{
    ask::{Ask, say},
    data::Data,
    inbox::{Inbox, Request},
    model::{self, Loaded},
    problem::{Problem, first},
    runs, self_test, stored,
    using::Using,
};
use crate::{
    protocol::{FromEngine, ToEngine},
    storage::shelf::Shelf,
};

/// An answer and what rides along.
pub type Answer = (FromEngine, Vec<Blob>);

/// What outlives a model.
pub struct Base {
    pub gpu: Option<Gpu>,
    pub data: Option<Data>,
    /// Where runs are kept.
    pub shelf: Shelf,
    /// Runs that the shelf would not take.
    pub memory: Shelf,
    /// Why nothing is kept, until it was told.
    pub nothing_kept: Option<String>,
    /// Tokens a second while training, once known.
    pub speed: Option<f64>,
    /// Classifiers that were in use so far.
    pub classifiers: u64,
}

impl Base {
    /// An id for another classifier in use.
    pub fn next_id(&mut self) -> u64 {
        self.classifiers += 1;
        self.classifiers
    }
}

/// Requests on a model, or on none yet.
pub struct Session<'m> {
    pub base: &'m mut Base,
    pub model: Option<&'m Loaded>,
    pub using: Option<Using<'m>>,
}

/// Serves until the worker ends.
pub async fn serve(inbox: Inbox) {
    let (shelf, blocked) = Shelf::open().await;
    let nothing_kept = blocked.map(|why| {
        format!(
            "{why}. Everything works, but closing the tab loses classifiers that are not exported."
        )
    });
    let memory = Shelf::in_memory();
    let mut base =
        Base { gpu: None, data: None, shelf, memory, nothing_kept, speed: None, classifiers: 0 };
    let mut model = None;
    loop {
        let session = Session { base: &mut base, model: model.as_ref(), using: None };
        let (ask, body, blobs) = session.until_load(&inbox).await;
        drop(model.take());
        match model::load(&mut base, &ask, body, blobs).await {
            Ok(loaded) => {
                answer(&ask, Ok((FromEngine::ModelReady(loaded.summary.clone()), Vec::new())));
                model = Some(loaded);
            }
            Err(problem) => answer(&ask, Err(problem)),
        }
    }
}

fn answer(ask: &Ask, result: Result<Answer, Problem>) {
    let (message, blobs) = match result {
        Ok(answer) => answer,
        Err(Problem::Cancelled) => (FromEngine::Cancelled, Vec::new()),
        Err(Problem::Failed(failure)) => (FromEngine::Failed(failure), Vec::new()),
    };
    say(ask.id, &message, &blobs);
    ask.inbox().is_over(ask.id);
}

impl<'m> Session<'m> {
    /// Answers requests until one asks for another model, and gives that back.
    async fn until_load(mut self, inbox: &Inbox) -> (Ask, ToEngine, Vec<Blob>) {
        loop {
            let Request { id, body, blobs } = inbox.next().await;
            let ask = Ask::new(id, inbox.clone());
            let trains = body.trains();
            if ask.is_cancelled() {
                answer(&ask, Err(Problem::Cancelled));
            } else if matches!(body, ToEngine::LoadModel { .. }) {
                return (ask, body, blobs);
            } else {
                let result = self.handle(&ask, body, blobs).await;
                answer(&ask, result);
            }
            if trains {
                inbox.training(false);
            }
        }
    }

    async fn handle(
        &mut self,
        ask: &Ask,
        body: ToEngine,
        blobs: Vec<Blob>,
    ) -> Result<Answer, Problem> {
        let file = || {
            let none = || Problem::new("The file is missing.", "Choose it again.");
            blobs.first().cloned().ok_or_else(none)
        };
        let message = match body {
            ToEngine::OpenGpu => FromEngine::Gpu(model::summary(&model::gpu(self.base).await?)),
            ToEngine::SelfTest => FromEngine::SelfTested {
                rows: self_test::run(&model::gpu(self.base).await?).await?,
            },
            ToEngine::OpenData { name, options } => {
                let data = Data::read(ask, name, file()?, options).await?;
                let preview = data.preview(ask, false).await?;
                self.base.data = Some(data);
                FromEngine::Data(preview)
            }
            ToEngine::ReadAgain { options } => {
                let old = self.base.data.as_ref().ok_or_else(no_data)?;
                let (name, blob) = (old.name.clone(), old.blob.clone());
                let data = Data::read(ask, name, blob, options).await?;
                let preview = data.preview(ask, false).await?;
                self.base.data = Some(data);
                FromEngine::Data(preview)
            }
            ToEngine::SetRoles { choices, spec } => {
                let model = self.model;
                let data = self.base.data.as_mut().ok_or_else(no_data)?;
                data.prepare(&choices)?;
                FromEngine::Prepared(data.report(ask, model, &spec.without_own_bos(), false).await?)
            }
            ToEngine::FillPrompt { spec, row } => {
                let model = self.loaded()?;
                let data = self.base.data.as_ref().ok_or_else(no_data)?;
                FromEngine::Prompt(data.fill(&model.tokenizer, &spec.without_own_bos(), row)?)
            }
            ToEngine::Plan { spec, recipe, memory, zero_shot } => {
                let spec = spec.without_own_bos();
                FromEngine::Planned(self.plan(ask, &spec, &recipe, memory, zero_shot).await?)
            }
            ToEngine::ZeroShot { spec } => {
                FromEngine::Evaluated(self.zero_shot(ask, &spec.without_own_bos()).await?)
            }
            ToEngine::Train { name, spec, recipe, memory, zero_shot } => {
                spec.notes().into_iter().for_each(|note| ask.warn(note));
                let spec = spec.without_own_bos();
                let run = self.new_run(ask, name, spec, recipe, memory, zero_shot).await?;
                self.train(ask, run, false, false).await?.0
            }
            ToEngine::ResumeRun { key } => {
                let run = self.open_unfinished(ask, &key).await?;
                self.train(ask, run, true, false).await?.0
            }
            ToEngine::FinishRun { key } => {
                let run = self.open_unfinished(ask, &key).await?;
                self.train(ask, run, true, true).await?.0
            }
            ToEngine::Evaluate => FromEngine::Evaluated(self.evaluate(ask).await?),
            ToEngine::Classify { text } => FromEngine::Classified(self.classify(&text).await?),
            ToEngine::SetThreshold { threshold, classifier } => {
                FromEngine::InUse(self.set_threshold(ask, threshold, classifier).await?)
            }
            ToEngine::PreviewFile { name, options } => {
                FromEngine::FilePreview(self.preview_file(ask, name, file()?, options).await?)
            }
            ToEngine::Generate { prompt, writing } => self.generate(ask, &prompt, writing).await?,
            ToEngine::ClassifyFile { name, options, text, for_spreadsheets } => {
                return self
                    .classify_file(ask, name, file()?, options, text, for_spreadsheets)
                    .await;
            }
            ToEngine::ExportBundle { name } => return self.export_bundle(&name),
            ToEngine::ExportPeft { base_model } => return self.export_peft(&base_model),
            ToEngine::ExportGguf => return self.export_gguf(),
            ToEngine::ExportReport { created } => return self.export_report(created),
            ToEngine::OpenBundle => FromEngine::Classifier(self.open_bundle(&file()?, None).await?),
            ToEngine::ListRuns => self.list_runs(ask).await?,
            ToEngine::OpenRun { key } => FromEngine::InUse(self.open_run(&key).await?),
            ToEngine::DeleteRun { key } => {
                runs::delete(self.base, &key).await?;
                // its classifier stays in use, and is no run of the list any more
                if let Some(using) = &mut self.using
                    && using.run.as_ref().is_some_and(|run| run.record.key == key)
                {
                    using.run = None;
                }
                self.list_runs(ask).await?
            }
            ToEngine::DeleteRuns => {
                runs::delete_all(self.base).await?;
                self.list_runs(ask).await?
            }
            // the inbox and `until_load` have taken these
            ToEngine::LoadModel { .. }
            | ToEngine::Pause
            | ToEngine::Stop
            | ToEngine::Cancel { .. } => FromEngine::Done,
        };
        Ok((message, Vec::new()))
    }

    async fn list_runs(&self, ask: &Ask) -> Result<FromEngine, Problem> {
        let runs = runs::list(ask, self.base).await?;
        self.tell_stored(ask).await?;
        Ok(FromEngine::Runs { runs })
    }

    /// Tells what runs take in storage.
    pub async fn tell_stored(&self, ask: &Ask) -> Result<(), Problem> {
        ask.tell(&FromEngine::Stored(stored::list(self.base, self.model).await?));
        Ok(())
    }

    /// The model.
    pub fn loaded(&self) -> Result<&'m Loaded, Problem> {
        self.model.ok_or_else(|| first("No model is loaded.", "Load a model under Model first."))
    }
}

/// There is no table.
pub fn no_data() -> Problem {
    first("No table is loaded.", "Load a table under Data first.")
}
