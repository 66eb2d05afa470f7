//! How the training comes along.

use hearth_classifier::{
    history::{Epoch, History, Step},
    recipe::CHOOSING_ROWS,
};
use leptos::prelude::*;

use super::curve;
use crate::{
    page::{
        actions,
        format::{bytes, count, duration, figure, of, percent},
        state::{App, Training},
        widgets::{Progress, Stat},
    },
    protocol::TrainProgress,
};

/// Steps whose mean is shown: one alone jumps about.
const MEAN: usize = 20;

/// A figure of the running training.
fn of_progress(app: App, of: fn(&TrainProgress) -> String) -> Signal<String> {
    Signal::derive(move || {
        app.training.with(|now| now.progress.as_ref().map_or_else(|| "–".to_owned(), of))
    })
}

/// A mean over the last steps.
fn of_steps(app: App, of: fn(&Step) -> f64, say: fn(f64) -> String) -> Signal<String> {
    Signal::derive(move || {
        app.training.with(|now| {
            let last = &now.steps[now.steps.len().saturating_sub(MEAN)..];
            let sum: f64 = last.iter().map(of).sum();
            if last.is_empty() { "–".to_owned() } else { say(sum / last.len() as f64) }
        })
    })
}

/// The training under way.
#[component]
pub fn Live() -> impl IntoView {
    let app = App::here();
    let rows_a_second = of_progress(app, |now| {
        let rate = now.rows_per_second;
        if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
    });
    let left =
        of_progress(app, |now| now.seconds_left.map_or_else(|| "soon told".to_owned(), duration));
    let saved = of_progress(app, |now| {
        let saved = now.padded_tokens.saturating_sub(now.tokens);
        if now.padded_tokens == 0 {
            "–".to_owned()
        } else {
            percent(saved as f64 / now.padded_tokens as f64)
        }
    });
    let step = of_progress(app, |now| count(now.step as u64));
    let steps = of_progress(app, |now| format!("of {}", count(now.steps as u64)));
    let memory = of_progress(app, |now| format!("{} of GPU memory", bytes(now.gpu_bytes)));
    let name = |name: &str| Signal::stored(name.to_owned());
    view! {
        <p class="lead">
            {move || {
                if app.space.with(|space| space.is_some_and(|space| space.available)) {
                    "Look elsewhere meanwhile, or close the tab: the run is saved every half minute and can be resumed. For that, a copy of the table is kept in this browser's storage until the run ends or is deleted."
                } else {
                    "Leave this tab open: this browser keeps nothing, so the run would end with it."
                }
            }}
        </p>
        <Way />
        <div class="actions">
            <Buttons />
        </div>
        <dl class="stats">
            <Stat name=name("Step") value=step note=steps test="step" />
            <Stat name=name("Time left") value=left note=name("") test="time-left" />
            <Stat name=name("Rows a second") value=rows_a_second note=memory test="rate" />
            <Stat
                name=name("Loss")
                value=of_steps(app, |step| step.loss, |loss| format!("{loss:.3}"))
                note=name("how surprised it is; falls")
                test="loss"
            />
            <Stat
                name=name("Right answers")
                value=of_steps(app, |step| step.accuracy, percent)
                note=name("on the last rows learned")
                test="accuracy"
            />
            <Stat
                name=name("Work saved")
                value=saved
                note=name("tokens not computed twice")
                test="saved"
            />
        </dl>
        <curve::Curve />
        <EpochTable />
    }
}

/// What it is doing, in words.
fn doing(now: &Training) -> String {
    if let Some((what, _, _)) = &now.scoring {
        return match what.as_str() {
            "zero-shot" => "Measuring the untrained model, to compare".to_owned(),
            "testing" => "Trained. Measuring on the rows put aside".to_owned(),
            other => format!("Measuring ({other})"),
        };
    }
    match &now.progress {
        None => "Getting ready: the rows are cut into tokens, the processor's programs are made"
            .to_owned(),
        Some(at) if at.validating.is_some() => {
            format!("Epoch {} of {}: trying it on the rows to choose by", at.epoch, at.epochs)
        }
        Some(at) => format!("Epoch {} of {}", at.epoch, at.epochs),
    }
}

fn share(now: &Training) -> Option<(usize, usize)> {
    if let Some((_, done, of)) = now.scoring {
        return Some((done, of));
    }
    let at = now.progress.as_ref()?;
    Some(at.validating.unwrap_or((at.step, at.steps)))
}

/// The bar.
#[component]
fn Way() -> impl IntoView {
    let app = App::here();
    let label = Signal::derive(move || app.training.with(doing));
    let part = Signal::derive(move || {
        app.training.with(|now| {
            share(now).filter(|(_, of)| *of > 0).map(|(done, of)| done as f64 / of as f64)
        })
    });
    let words = Signal::derive(move || {
        app.training.with(|now| {
            let Some((done, of)) = share(now) else { return String::new() };
            let steps = now.scoring.is_none()
                && now.progress.as_ref().is_some_and(|at| at.validating.is_none());
            let what = if steps { "steps" } else { "rows" };
            format!("{} of {} {what}", count(done as u64), count(of as u64))
        })
    });
    view! { <Progress label=label share=part words=words /> }
}

/// Pause and stop.
#[component]
fn Buttons() -> impl IntoView {
    let app = App::here();
    let asked = Memo::new(move |_| app.training.with(|now| now.asked));
    // while rows are scored there is nothing to pause
    let learning = Memo::new(move |_| app.training.with(|now| now.scoring.is_none()));
    let off = move || asked.get().is_some() || !learning.get();
    view! {
        <button type="button" data-test="pause" disabled=off on:click=move |_| actions::pause(app)>
            "Pause"
        </button>
        <button type="button" data-test="stop" disabled=off on:click=move |_| actions::stop(app)>
            {move || if chooses_epoch(app) { "Stop and keep the best epoch" } else { "Stop and keep the last epoch" }}
        </button>
        <span class="quiet" role="status" data-test="asked">
            {move || asked.get().unwrap_or_default()}
        </span>
    }
}

/// The epochs with the best one so far, where the validation rows choose it; otherwise the last one is kept.
fn with_best(epochs: &[Epoch], chooses: bool) -> History {
    let mut history = History::default();
    for epoch in epochs {
        history.end_epoch(*epoch);
    }
    if !chooses {
        history.best_epoch = None;
    }
    history
}

/// Validation rows of the training.
fn validation_rows(app: App) -> usize {
    app.report.with(|report| {
        report.as_ref().map_or(0, |report| report.validation.iter().map(|count| count.rows).sum())
    })
}

/// Whether the validation rows choose the epoch that is kept.
fn chooses_epoch(app: App) -> bool {
    app.recipe.with(|recipe| recipe.chooses_epoch(validation_rows(app)))
}

/// Which epoch is kept, in words.
fn kept(app: App) -> String {
    let rows = validation_rows(app);
    if chooses_epoch(app) {
        "The epoch that does best on the validation rows is kept.".to_owned()
    } else if !app.recipe.with(|recipe| recipe.best_epoch) {
        "The last epoch is kept, as set.".to_owned()
    } else if rows == 0 {
        "The last epoch is kept: there are no validation rows to choose one by.".to_owned()
    } else {
        format!(
            "The last epoch is kept: {} {} too few to choose one by; {CHOOSING_ROWS} are needed.",
            of(rows, "validation row", "validation rows"),
            if rows == 1 { "is" } else { "are" }
        )
    }
}

/// Figures of each epoch.
#[component]
fn EpochTable() -> impl IntoView {
    let app = App::here();
    let history = Memo::new(move |_| {
        let chooses = chooses_epoch(app);
        app.training.with(|now| with_best(&now.epochs, chooses))
    });
    let row = |best: Option<usize>| {
        move |epoch: Epoch| {
            let best = best == Some(epoch.epoch) && epoch.validation_loss.is_some();
            view! {
                <tr>
                    <th scope="row">
                        {epoch.epoch} {best.then(|| view! { <span class="role">"best so far"</span> })}
                    </th>
                    <td class="number">{figure(Some(epoch.train_loss))}</td>
                    <td class="number">{figure(epoch.validation_loss)}</td>
                    <td class="number">{figure(epoch.validation_f1)}</td>
                    <td class="number">{figure(epoch.validation_auc)}</td>
                </tr>
            }
        }
    };
    let news = move || {
        history.with(|history| {
            history.epochs.last().map(|epoch| match epoch.validation_auc {
                Some(auc) => format!("Epoch {} is done; AUC {auc:.3}.", epoch.epoch),
                None => format!("Epoch {} is done.", epoch.epoch),
            })
        })
    };
    view! {
        <section aria-labelledby="epochs-title">
            <h2 id="epochs-title">"Epoch by epoch"</h2>
            <p class="hint">
                "F1 and AUC on rows that it does not learn from: 1 is perfect; an AUC of 0.5 is guessing."
            </p>
            <p class="hint" data-test="epoch-kept">{move || kept(app)}</p>
            <p class="unseen" aria-live="polite">{news}</p>
            <div class="table" role="region" tabindex="0" aria-label="Figures of each epoch">
                <table data-test="epochs-table">
                    <thead>
                        <tr>
                            <th scope="col">"Epoch"</th>
                            <th scope="col" class="number">"Loss, learned rows"</th>
                            <th scope="col" class="number">"Loss, other rows"</th>
                            <th scope="col" class="number">"F1"</th>
                            <th scope="col" class="number">"AUC"</th>
                        </tr>
                    </thead>
                    <tbody>
                        {move || {
                            let History { epochs, best_epoch, .. } = history.get();
                            if epochs.is_empty() {
                                view! {
                                    <tr>
                                        <td colspan="5" class="quiet">"The first one is under way."</td>
                                    </tr>
                                }
                                    .into_any()
                            } else {
                                epochs.into_iter().map(row(best_epoch)).collect_view().into_any()
                            }
                        }}
                    </tbody>
                </table>
            </div>
        </section>
    }
}
