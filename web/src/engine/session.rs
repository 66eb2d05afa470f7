//! One request after the other. The model lies on the stack below the requests that borrow it: to load
//! another, they come back here first, and its memory is free before the next one is read.

use hearth_gpu::Gpu;
use web_sys::Blob;

use super::{
    active::ActiveClassifier,
    data::Data,
    inbox::{Inbox, Incoming},
    model::{self, Loaded},
    plan::{Intended, plan},
    problem::{Problem, first},
    request::{Request, post},
    runs, self_test, stored,
};
use crate::{
    protocol::{FromEngine, ToEngine},
    storage::run_store::RunStore,
};

/// An answer and what rides along.
pub type Reply = (FromEngine, Vec<Blob>);

/// What outlives a model.
pub struct EngineState {
    pub gpu: Option<Gpu>,
    pub data: Option<Data>,
    /// Where runs are kept.
    pub store: RunStore,
    /// Runs that the store would not take.
    pub memory: RunStore,
    /// Why nothing is kept, until it was reported.
    pub nothing_kept: Option<String>,
    /// Tokens a second while training, once known.
    pub speed: Option<f64>,
    /// Classifiers that were in use so far.
    pub classifiers: u64,
}

impl EngineState {
    /// An id for another classifier in use.
    pub fn next_id(&mut self) -> u64 {
        self.classifiers += 1;
        self.classifiers
    }
}

/// Requests on a model, or on none yet.
pub struct Session<'m> {
    pub state: &'m mut EngineState,
    pub model: Option<&'m Loaded>,
    pub active: Option<ActiveClassifier<'m>>,
}

/// Serves until the worker ends.
pub async fn serve(inbox: Inbox) {
    let (store, blocked) = RunStore::open().await;
    let nothing_kept = blocked.map(|why| {
        format!(
            "{why}. Everything works, but closing the tab loses classifiers that are not exported."
        )
    });
    let memory = RunStore::in_memory();
    let mut state = EngineState {
        gpu: None,
        data: None,
        store,
        memory,
        nothing_kept,
        speed: None,
        classifiers: 0,
    };
    let mut model = None;
    loop {
        let session = Session { state: &mut state, model: model.as_ref(), active: None };
        let (request, body, blobs) = session.until_load(&inbox).await;
        drop(model.take());
        match model::load(&mut state, &request, body, blobs).await {
            Ok(loaded) => {
                answer(&request, Ok((FromEngine::ModelReady(loaded.summary.clone()), Vec::new())));
                model = Some(loaded);
            }
            Err(problem) => answer(&request, Err(problem)),
        }
    }
}

fn answer(request: &Request, result: Result<Reply, Problem>) {
    let (message, blobs) = match result {
        Ok(answer) => answer,
        Err(Problem::Cancelled) => (FromEngine::Cancelled, Vec::new()),
        Err(Problem::Failed(failure)) => (FromEngine::Failed(failure), Vec::new()),
    };
    post(request.id, &message, &blobs);
    request.inbox().is_over(request.id);
}

impl<'m> Session<'m> {
    /// Answers requests until one asks for another model, and gives that back.
    async fn until_load(mut self, inbox: &Inbox) -> (Request, ToEngine, Vec<Blob>) {
        loop {
            let Incoming { id, body, blobs } = inbox.next().await;
            let request = Request::new(id, inbox.clone());
            let trains = body.trains();
            if request.is_cancelled() {
                answer(&request, Err(Problem::Cancelled));
            } else if matches!(body, ToEngine::LoadModel { .. }) {
                return (request, body, blobs);
            } else {
                let result = self.handle(&request, body, blobs).await;
                answer(&request, result);
            }
            if trains {
                inbox.training(false);
            }
        }
    }

    async fn handle(
        &mut self,
        request: &Request,
        body: ToEngine,
        blobs: Vec<Blob>,
    ) -> Result<Reply, Problem> {
        let file = || {
            let none = || Problem::new("The file is missing.", "Choose it again.");
            blobs.first().cloned().ok_or_else(none)
        };
        let message = match body {
            ToEngine::OpenGpu => FromEngine::Gpu(model::summary(&model::gpu(self.state).await?)),
            ToEngine::SelfTest => FromEngine::SelfTested {
                rows: self_test::run(&model::gpu(self.state).await?).await?,
            },
            ToEngine::OpenData { name, options } => {
                let data = Data::read(request, name, file()?, options).await?;
                let preview = data.preview(request, false).await?;
                self.state.data = Some(data);
                FromEngine::Data(preview)
            }
            ToEngine::ReadAgain { options } => {
                let old = self.state.data.as_ref().ok_or_else(no_data)?;
                let (name, blob) = (old.name.clone(), old.blob.clone());
                let data = Data::read(request, name, blob, options).await?;
                let preview = data.preview(request, false).await?;
                self.state.data = Some(data);
                FromEngine::Data(preview)
            }
            ToEngine::SetRoles { choices, spec } => {
                let model = self.model;
                let data = self.state.data.as_mut().ok_or_else(no_data)?;
                data.prepare(&choices)?;
                FromEngine::Prepared(
                    data.report(request, model, &spec.without_own_bos(), false).await?,
                )
            }
            ToEngine::FillPrompt { spec, row } => {
                let model = self.loaded()?;
                let data = self.state.data.as_ref().ok_or_else(no_data)?;
                FromEngine::Prompt(data.fill(&model.tokenizer, &spec.without_own_bos(), row)?)
            }
            ToEngine::Plan { spec, recipe, memory, zero_shot } => {
                let (spec, model) = (&spec.without_own_bos(), self.loaded()?);
                let intended = Intended { spec, recipe: &recipe, memory, zero_shot };
                let (prepared, speed) = (self.prepared()?, &mut self.state.speed);
                FromEngine::Planned(plan(request, model, &prepared, speed, &intended).await?)
            }
            ToEngine::ZeroShot { spec } => {
                FromEngine::Evaluated(self.zero_shot(request, &spec.without_own_bos()).await?)
            }
            ToEngine::Train { name, spec, recipe, memory, zero_shot } => {
                spec.notes().into_iter().for_each(|note| request.warn(note));
                let spec = spec.without_own_bos();
                let run = self.new_run(request, name, spec, recipe, memory, zero_shot).await?;
                self.train(request, run, false, false).await?.0
            }
            ToEngine::ResumeRun { key } => {
                let run = self.open_unfinished(request, &key).await?;
                self.train(request, run, true, false).await?.0
            }
            ToEngine::FinishRun { key } => {
                let run = self.open_unfinished(request, &key).await?;
                self.train(request, run, true, true).await?.0
            }
            ToEngine::Evaluate => FromEngine::Evaluated(self.evaluate(request).await?),
            ToEngine::Classify { text } => FromEngine::Classified(self.classify(&text).await?),
            ToEngine::SetThreshold { threshold, classifier } => {
                FromEngine::InUse(self.set_threshold(request, threshold, classifier).await?)
            }
            ToEngine::PreviewFile { name, options } => {
                FromEngine::FilePreview(self.preview_file(request, name, file()?, options).await?)
            }
            ToEngine::Generate { prompt, writing } => {
                self.generate(request, &prompt, writing).await?
            }
            ToEngine::ClassifyFile { name, options, text, for_spreadsheets } => {
                return self
                    .classify_file(request, name, file()?, options, text, for_spreadsheets)
                    .await;
            }
            ToEngine::ExportBundle { name } => return self.export_bundle(&name),
            ToEngine::ExportPeft { base_model } => return self.export_peft(&base_model),
            ToEngine::ExportGguf => return self.export_gguf(),
            ToEngine::ExportReport { created } => return self.export_report(created),
            ToEngine::OpenBundle => FromEngine::Classifier(self.open_bundle(&file()?, None).await?),
            ToEngine::ListRuns => self.list_runs(request).await?,
            ToEngine::OpenRun { key } => FromEngine::InUse(self.open_run(&key).await?),
            ToEngine::DeleteRun { key } => {
                runs::delete(self.state, &key).await?;
                // its classifier stays in use, and is no run of the list any more
                if let Some(using) = &mut self.active
                    && using.run.as_ref().is_some_and(|run| run.record.key == key)
                {
                    using.run = None;
                }
                self.list_runs(request).await?
            }
            ToEngine::DeleteRuns => {
                runs::delete_all(self.state).await?;
                self.list_runs(request).await?
            }
            // the inbox and `until_load` have taken these
            ToEngine::LoadModel { .. }
            | ToEngine::Pause
            | ToEngine::Stop
            | ToEngine::Cancel { .. } => FromEngine::Done,
        };
        Ok((message, Vec::new()))
    }

    async fn list_runs(&self, request: &Request) -> Result<FromEngine, Problem> {
        let runs = runs::list(request, self.state).await?;
        self.tell_stored(request).await?;
        Ok(FromEngine::Runs { runs })
    }

    /// Tells what runs take in storage.
    pub async fn tell_stored(&self, request: &Request) -> Result<(), Problem> {
        request.tell(&FromEngine::Stored(stored::list(self.state, self.model).await?));
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
