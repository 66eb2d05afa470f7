//! How the training comes along.

use hearth_classifier::{
    history::{Epoch, History, Step},
    recipe::{CHOOSING_ROWS, Recipe},
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
        of_progress(app, |now| now.seconds_left.map_or_else(|| "estimating…".to_owned(), duration));
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
                    "You can use other tabs meanwhile. The run is saved every half minute and can be resumed, even after you close this tab. For that, a copy of the table is kept in this browser's storage until the run ends or is deleted."
                } else {
                    "Leave this tab open: this browser stores no files for this page, so closing the tab would lose the run."
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
            <Stat name=name("Rows per second") value=rows_a_second note=memory test="rate" />
            <Stat
                name=name("Loss")
                value=of_steps(app, |step| step.loss, |loss| format!("{loss:.3}"))
                note=name("mean of the last 20 steps")
                test="loss"
            />
            <Stat
                name=name("Accuracy")
                value=of_steps(app, |step| step.accuracy, percent)
                note=name("training rows of the last 20 steps")
                test="accuracy"
            />
            <Stat
                name=name("Tokens saved")
                value=saved
                note=name("compared with padded batches")
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
            "zero-shot" => "Evaluating the untrained model, for comparison".to_owned(),
            "testing" => "Trained. Evaluating on the test rows".to_owned(),
            other => format!("Evaluating ({other})"),
        };
    }
    match &now.progress {
        None => "Getting ready: tokenizing the rows, compiling GPU kernels".to_owned(),
        Some(at) if at.validating.is_some() => {
            format!("Epoch {} of {}: evaluating on the validation rows", at.epoch, at.epochs)
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
    let label = Signal::derive(move || {
        let begun = app.training.with(|now| now.progress.is_some() || now.scoring.is_some());
        app.waits().filter(|_| !begun).unwrap_or_else(|| app.training.with(doing))
    });
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
    let off = move || asked.get().is_some();
    let stop = move || {
        app.training.with(|now| match &now.scoring {
            Some((what, _, _)) => skips(what),
            None => stops(chooses_epoch(app), now.epochs.is_empty()),
        })
    };
    view! {
        <button
            type="button"
            data-test="pause"
            disabled=move || off() || !learning.get()
            on:click=move |_| actions::pause(app)
        >
            "Pause"
        </button>
        <button type="button" data-test="stop" disabled=off on:click=move |_| actions::stop(app)>
            {stop}
        </button>
        <span class="quiet" role="status" data-test="asked">
            {move || asked.get().unwrap_or_default()}
        </span>
    }
}

/// What is left out where the evaluation after training is stopped.
fn skips(what: &str) -> &'static str {
    if what == "zero-shot" { "Skip this comparison" } else { "Skip the evaluation" }
}

/// What stopping keeps: what was validated last is the most that is known soon.
fn stops(chooses: bool, first_epoch: bool) -> &'static str {
    match (first_epoch, chooses) {
        (true, _) => "Stop and keep the current state",
        (_, true) => "Stop and keep the best epoch",
        (_, false) => "Stop and keep the last epoch",
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

/// As the recipe says it; no rows choose nothing.
fn chooses(recipe: &Recipe, rows: usize) -> bool {
    rows > 0 && recipe.chooses_epoch(rows)
}

/// Whether the validation rows choose the epoch that is kept.
fn chooses_epoch(app: App) -> bool {
    app.recipe.with(|recipe| chooses(recipe, validation_rows(app)))
}

/// Which epoch is kept, in words, with so many validation rows.
fn kept(recipe: &Recipe, rows: usize) -> String {
    if chooses(recipe, rows) {
        "The epoch that does best on the validation rows is kept.".to_owned()
    } else if !recipe.best_epoch {
        "The last epoch is kept: “Keep the best epoch” is off.".to_owned()
    } else if rows == 0 {
        "The last epoch is kept: there are no validation rows to choose the best one.".to_owned()
    } else {
        format!(
            "The last epoch is kept: {} {} too few to choose the best one; {CHOOSING_ROWS} are needed.",
            of(rows, "validation row", "validation rows"),
            if rows == 1 { "is" } else { "are" }
        )
    }
}

/// What the figures of the epochs are of.
fn about_epochs(rows: usize) -> &'static str {
    if rows == 0 {
        "There are no validation rows, so only the training loss is measured."
    } else {
        "F1 and ROC-AUC on the validation rows: 1 is perfect; a ROC-AUC of 0.5 is chance."
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
                Some(auc) => format!("Epoch {} is done: ROC-AUC {auc:.3}.", epoch.epoch),
                None => format!("Epoch {} is done.", epoch.epoch),
            })
        })
    };
    view! {
        <section aria-labelledby="epochs-title">
            <h2 id="epochs-title">"Epochs"</h2>
            <p class="hint">{move || about_epochs(validation_rows(app))}</p>
            <p class="hint" data-test="epoch-kept">
                {move || app.recipe.with(|recipe| kept(recipe, validation_rows(app)))}
            </p>
            <p class="unseen" aria-live="polite">{news}</p>
            <div class="table" role="region" tabindex="0" aria-label="Figures of each epoch">
                <table data-test="epochs-table">
                    <thead>
                        <tr>
                            <th scope="col">"Epoch"</th>
                            <th scope="col" class="number">"Training loss"</th>
                            <th scope="col" class="number">"Validation loss"</th>
                            <th scope="col" class="number">"F1"</th>
                            <th scope="col" class="number">"ROC-AUC"</th>
                        </tr>
                    </thead>
                    <tbody>
                        {move || {
                            let History { epochs, best_epoch, .. } = history.get();
                            if epochs.is_empty() {
                                view! {
                                    <tr>
                                        <td colspan="5" class="quiet">"No epoch has ended yet."</td>
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

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test]
    fn the_epoch_that_is_said_to_be_kept_is_kept() {
        for share in [0.0, 0.2] {
            for best_epoch in [false, true] {
                for patience in [0, 2] {
                    for rows in [0, 1, CHOOSING_ROWS - 1, CHOOSING_ROWS] {
                        let recipe = Recipe {
                            validation_share: share,
                            best_epoch,
                            patience,
                            ..Recipe::default()
                        };
                        let words = kept(&recipe, rows);
                        let best = words.starts_with("The epoch that does best");
                        assert_eq!(best, chooses(&recipe, rows), "{words}");
                        assert_ne!(best, words.starts_with("The last epoch is kept"), "{words}");
                        assert!(best || recipe.best_epoch != words.contains("is off"), "{words}");
                    }
                }
            }
        }
        assert!(!about_epochs(0).contains("F1") && about_epochs(1).contains("validation rows"));
    }

    #[wasm_bindgen_test]
    fn what_is_under_way_is_what_is_said() {
        let scoring =
            |what: &str| Training { scoring: Some((what.to_owned(), 1, 2)), ..Training::default() };
        assert!(doing(&Training::default()).contains("compiling GPU kernels"));
        assert!(doing(&scoring("zero-shot")).contains("untrained"));
        assert!(doing(&scoring("testing")).contains("test rows"));
    }
}
