//! Runs side by side, and the codelab's two plots: F1 and ROC-AUC by training rows, a line for each number of epochs.

use hearth_classifier::{
    history::SweepPoint,
    plots::{self, SweepFigure},
};
use leptos::prelude::*;

use crate::{
    page::{
        actions,
        format::{duration, figure},
        state::App,
        widgets::{Confirmed, Plot},
    },
    protocol::{RunRecord, RunState},
};

pub fn finished(app: App) -> Vec<RunRecord> {
    app.runs
        .with(|runs| runs.iter().filter(|run| run.state == RunState::Finished).cloned().collect())
}

fn point(run: &RunRecord) -> Option<SweepPoint> {
    let test = run.test.as_ref()?;
    Some(SweepPoint {
        rows: run.rows[0],
        epochs: run.recipe.epochs,
        seed: run.recipe.seed,
        f1: test.f1.value,
        auc: test.roc_auc.value,
    })
}

#[component]
pub fn Runs() -> impl IntoView {
    let app = App::here();
    let runs = Memo::new(move |_| finished(app));
    view! {
        {move || {
            let all = runs.get();
            (!all.is_empty())
                .then(|| {
                    view! {
                        <section aria-labelledby="runs-name">
                            <h2 id="runs-name">"Runs"</h2>
                            <Table runs=all.clone() />
                            {(all.len() > 1).then(|| view! { <Plots runs=all /> })}
                        </section>
                    }
                })
        }}
    }
}

#[component]
fn Plots(runs: Vec<RunRecord>) -> impl IntoView {
    let points: Vec<SweepPoint> = runs.iter().filter_map(point).collect();
    let [f1, auc] = [SweepFigure::F1, SweepFigure::Auc]
        .map(|what| plots::sweep(&points, what).unwrap_or_default());
    view! {
        <div class="plots" data-test="sweep-plots">
            <Plot svg=f1 label="F1 of the runs by training rows and epochs" />
            <Plot svg=auc label="ROC-AUC of the runs by training rows and epochs" />
        </div>
        <p class="hint">"Compare only runs on the same table: the plots do not tell tables apart."</p>
    }
}

#[component]
fn Table(runs: Vec<RunRecord>) -> impl IntoView {
    let app = App::here();
    let blocked = Memo::new(move |_| app.is_training() || app.is_busy());
    let line = move |run: RunRecord| {
        let test = run.test.as_ref();
        let figures = [
            run.rows[0].to_string(),
            run.recipe.epochs.to_string(),
            figure(test.and_then(|test| test.f1.value)),
            figure(test.and_then(|test| test.roc_auc.value)),
            duration(run.seconds),
        ];
        let identity = run.model_identity.clone();
        let fits = Memo::new(move |_| app.model().is_some_and(|model| model.identity == identity));
        let (key, gone) = (run.key.clone(), run.key.clone());
        let open_test = format!("open-{key}");
        let use_it = move |_| {
            actions::open_run(app, key.clone());
            app.screen.set(crate::page::state::Screen::Using);
        };
        let delete_test = format!("delete-run-{gone}");
        let delete = Callback::new(move |()| actions::delete_run(app, gone.clone()));
        let open_label = format!("Use {}", run.name);
        view! {
            <tr>
                <th scope="row">
                    {run.name.clone()} <small class="quiet block">{run.model.clone()} " · " {run.data.clone()}</small>
                </th>
                {figures.map(|cell| view! { <td class="number">{cell}</td> }).collect_view()}
                <td class="row-actions">
                    <button
                        type="button"
                        class="quiet-button"
                        data-test=open_test
                        aria-label=open_label
                        disabled=move || blocked.get() || !fits.get()
                        on:click=use_it
                    >
                        "Use"
                    </button>
                    <Confirmed test=delete_test what=run.name.clone() disabled=blocked on_confirm=delete />
                </td>
            </tr>
        }
    };
    let head = ["Training rows", "Epochs", "F1", "ROC-AUC", "Time"];
    view! {
        <div class="table" data-test="runs-table" tabindex="0" role="region" aria-label="Finished runs">
            <table>
                <thead>
                    <tr>
                        <th scope="col">"Run"</th>
                        {head.map(|name| view! { <th scope="col" class="number">{name}</th> }).collect_view()}
                        <td />
                    </tr>
                </thead>
                <tbody>{runs.into_iter().map(line).collect_view()}</tbody>
            </table>
        </div>
    }
}
