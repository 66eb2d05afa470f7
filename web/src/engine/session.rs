//! One request after the other. The model lies on the stack below the requests that borrow it: to load
//! another, they come back here first, and its memory is free before the next one is read.

use web_sys::Blob;

use super::{
    active::{ActiveClassifier, in_use},
    data::Data,
    evaluate::{classify, evaluate, zero_shot},
    exports,
    generate::generate,
    inbox::{Inbox, Incoming},
    model::{self, Loaded},
    outbox::{Reply, post},
    plan::{Intended, plan},
    problem::{Problem, first},
    request::Request,
    results::KeptResults,
    runs::{self, KeptRun, Settings},
    self_test,
    state::EngineState,
    stored,
    table_file::{classify_file, preview_file},
    threshold::set_threshold,
    train::train,
};
use crate::protocol::{FromEngine, InUse, ToEngine};

/// Requests on a model, or on none yet.
struct Session<'m> {
    state: &'m mut EngineState,
    model: Option<&'m Loaded>,
    active: Option<ActiveClassifier<'m>>,
}

/// Serves until the worker ends.
pub async fn serve(inbox: Inbox) {
    let mut state = EngineState::open().await;
    let mut model = None;
    loop {
        let session = Session { state: &mut state, model: model.as_ref(), active: None };
        let (request, body, blobs) = session.until_load(&inbox).await;
        drop(model.take());
        match model::load(&mut state.gpu, &request, body, blobs).await {
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
            ToEngine::OpenGpu => {
                FromEngine::Gpu(model::summary(&model::gpu(&mut self.state.gpu).await?))
            }
            ToEngine::SelfTest => FromEngine::SelfTested {
                rows: self_test::run(&model::gpu(&mut self.state.gpu).await?).await?,
            },
            ToEngine::OpenData { name, options } => {
                let data = Data::read(request, name, file()?, options).await?;
                let preview = data.preview(request, false).await?;
                self.state.data = Some(data);
                FromEngine::Data(preview)
            }
            ToEngine::ReadAgain { options } => {
                let old = self.state.data()?;
                let (name, blob) = (old.name.clone(), old.blob.clone());
                let data = Data::read(request, name, blob, options).await?;
                let preview = data.preview(request, false).await?;
                self.state.data = Some(data);
                FromEngine::Data(preview)
            }
            ToEngine::SetRoles { choices, spec } => {
                let model = self.model;
                let data = self.state.data_mut()?;
                data.prepare(&choices)?;
                FromEngine::Prepared(
                    data.report(request, model, &spec.without_own_bos(), false).await?,
                )
            }
            ToEngine::FillPrompt { spec, row } => {
                let model = self.loaded()?;
                let data = self.state.data()?;
                FromEngine::Prompt(data.fill(&model.tokenizer, &spec.without_own_bos(), row)?)
            }
            ToEngine::Plan { spec, recipe, memory, zero_shot } => {
                let (spec, model) = (&spec.without_own_bos(), self.loaded()?);
                let intended = Intended { spec, recipe: &recipe, memory, zero_shot };
                let (prepared, speed) = (self.state.prepared()?, &mut self.state.speed);
                FromEngine::Planned(plan(request, model, &prepared, speed, &intended).await?)
            }
            ToEngine::ZeroShot { spec } => {
                let (spec, model) = (spec.without_own_bos(), self.loaded()?);
                let using = zero_shot(request, self.state, model, &spec).await?;
                FromEngine::Evaluated(self.active.insert(using).with_results())
            }
            ToEngine::Train { name, spec, recipe, memory, zero_shot } => {
                spec.notes().into_iter().for_each(|note| request.warn(note));
                let spec = spec.without_own_bos();
                let (model, settings) =
                    (self.loaded()?, Settings { name, spec, recipe, memory, zero_shot });
                let run = runs::new_run(request, self.state, model, settings).await?;
                self.train(request, run, false, false).await?
            }
            ToEngine::ResumeRun { key } => {
                let model = self.loaded()?;
                let run = runs::open_unfinished(request, self.state, model, &key).await?;
                self.train(request, run, true, false).await?
            }
            ToEngine::FinishRun { key } => {
                let model = self.loaded()?;
                let run = runs::open_unfinished(request, self.state, model, &key).await?;
                self.train(request, run, true, true).await?
            }
            ToEngine::Evaluate => {
                // what is missing is told in this order
                self.state.prepared()?;
                let using = in_use(&mut self.active)?;
                evaluate(request, self.state, using).await?;
                FromEngine::Evaluated(using.with_results())
            }
            ToEngine::Classify { text } => {
                FromEngine::Classified(classify(in_use(&mut self.active)?, &text).await?)
            }
            ToEngine::SetThreshold { threshold, classifier } => {
                let using = in_use(&mut self.active)?;
                let now = set_threshold(request, self.state, using, threshold, classifier).await?;
                FromEngine::InUse(now)
            }
            ToEngine::PreviewFile { name, options } => {
                let using = in_use(&mut self.active)?;
                FromEngine::FilePreview(preview_file(request, using, name, file()?, options).await?)
            }
            ToEngine::Generate { prompt, writing } => {
                generate(request, self.loaded()?, &prompt, writing).await?
            }
            ToEngine::ClassifyFile { name, options, text, for_spreadsheets } => {
                let using = in_use(&mut self.active)?;
                return classify_file(
                    request,
                    using,
                    name,
                    file()?,
                    options,
                    text,
                    for_spreadsheets,
                )
                .await;
            }
            ToEngine::ExportBundle { name } => {
                return exports::export_bundle(in_use(&mut self.active)?, &name);
            }
            ToEngine::ExportPeft { base_model } => {
                return exports::export_peft(in_use(&mut self.active)?, &base_model);
            }
            ToEngine::ExportGguf => {
                let model = self.loaded()?;
                return exports::export_gguf(in_use(&mut self.active)?, model);
            }
            ToEngine::ExportReport { created } => {
                return exports::export_report(in_use(&mut self.active)?, created);
            }
            ToEngine::OpenBundle => {
                let model = self.loaded()?;
                let using = exports::open_bundle(self.state, model, &file()?, None).await?;
                FromEngine::Classifier(self.active.insert(using).summary())
            }
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
        stored::tell(request, self.state, self.model).await?;
        Ok(FromEngine::Runs { runs })
    }

    async fn train(
        &mut self,
        request: &Request,
        run: KeptRun,
        resume: bool,
        finish: bool,
    ) -> Result<FromEngine, Problem> {
        let model = self.loaded()?;
        train(request, self.state, model, &mut self.active, run, resume, finish).await
    }

    /// Takes a finished run's classifier into use.
    async fn open_run(&mut self, key: &str) -> Result<InUse, Problem> {
        let (run, store) = runs::find(self.state, key).await?;
        let none =
            || Problem::new("This run has no classifier yet.", "Resume it and let it finish.");
        let bundle = store.get(key, runs::CLASSIFIER).await?.ok_or_else(none)?;
        let results = KeptResults::read(&store, key).await?;
        let (model, name) = (self.loaded()?, &run.record.name);
        let mut using = exports::open_bundle(self.state, model, &bundle, Some(name)).await?;
        using.run = Some(run);
        if let Some(results) = results {
            (using.own, using.report) = (results.test, Some(results.report));
        }
        Ok(self.active.insert(using).with_results())
    }

    /// The model.
    fn loaded(&self) -> Result<&'m Loaded, Problem> {
        self.model.ok_or_else(|| first("No model is loaded.", "Load a model under Model first."))
    }
}
