//! Around the screens: name, steps, what the engine is doing, what went wrong, what leaves the tab.

use leptos::{ev, prelude::*};

use super::{
    actions, address,
    data::DataScreen,
    format::{bytes, count},
    model::ModelScreen,
    notices,
    results::ResultsScreen,
    state::{App, Busy, Fetching, Gpu, ModelStage, NoticeKind, Offline, Screen},
    train::TrainScreen,
    using::UsingScreen,
    widgets::Progress,
};
use crate::protocol::WEIGHT_HOSTS;

/// The whole page.
#[component]
pub fn Shell() -> impl IntoView {
    let app = App::here();
    let skip = |event: ev::MouseEvent| {
        // the fragment of the address names the screen
        event.prevent_default();
        address::focus("#screen");
    };
    view! {
        <a class="skip" href="#screen" on:click=skip>
            "Skip to content"
        </a>
        <header class="rail">
            <div class="name">
                <Mark />
                <span class="wordmark">"Hearth"</span>
            </div>
            <Steps />
            <Privacy />
        </header>
        <main id="screen" tabindex="-1" data-test=move || format!("screen-{}", app.screen.get().key())>
            <Notices />
            {move || match app.screen.get() {
                Screen::Model => ModelScreen().into_any(),
                Screen::Data => DataScreen().into_any(),
                Screen::Train => TrainScreen().into_any(),
                Screen::Results => ResultsScreen().into_any(),
                Screen::Using => UsingScreen().into_any(),
            }}
            <BusyLine />
        </main>
    }
}

#[component]
fn Mark() -> impl IntoView {
    view! {
        <svg class="mark" viewBox="0 0 64 64" aria-hidden="true">
            <path class="flame" d="M33 4c3 12 17 17 17 34a18 18 0 0 1-36 0c0-9 5-13 8-20 2 4 4 6 6 7 3-6 5-12 5-21z" />
            <path class="ember" d="M32 34c2 5 9 8 9 14a9 9 0 0 1-18 0c0-6 7-8 9-14z" />
        </svg>
    }
}

/// What a step has to say of itself.
fn standing(app: App, screen: Screen) -> String {
    match screen {
        Screen::Model => app.stage.with(|stage| match stage {
            ModelStage::None => match app.gpu.get() {
                Gpu::None(_) => "no GPU".to_owned(),
                _ => "choose a model".to_owned(),
            },
            ModelStage::Fetching(fetching) if fetching.paused => "paused".to_owned(),
            ModelStage::Fetching(fetching) => match fetching {
                Fetching { bits: Some(_), .. } => "quantizing".to_owned(),
                Fetching { repairing: true, .. } => "repairing".to_owned(),
                Fetching { copying: true, .. } => "copying".to_owned(),
                _ => "downloading".to_owned(),
            },
            ModelStage::Loading { .. } => "loading".to_owned(),
            ModelStage::Ready(model) => model.name.clone(),
        }),
        Screen::Data => app.data.with(|data| {
            data.as_ref().map_or_else(
                || "add a table".to_owned(),
                |data| format!("{} rows", count(data.rows as u64)),
            )
        }),
        Screen::Train => app.training.with(|training| match &training.progress {
            Some(now) if training.request.is_some() => {
                format!("step {} of {}", now.step, now.steps)
            }
            _ if training.request.is_some() => "starting".to_owned(),
            _ => String::new(),
        }),
        Screen::Results => app.shown.with(|shown| {
            let f1 = shown.as_ref().and_then(|shown| shown.test.evaluation.f1.value);
            f1.map_or_else(String::new, |f1| format!("F1 {f1:.2}"))
        }),
        Screen::Using => app.classifier.with(|classifier| {
            classifier.as_ref().map_or_else(String::new, |classifier| classifier.name.clone())
        }),
    }
}

#[component]
fn Steps() -> impl IntoView {
    let app = App::here();
    let step = move |(place, screen): (usize, Screen)| {
        let current = move || app.screen.get() == screen;
        view! {
            <li>
                <button
                    type="button"
                    class="step"
                    data-test=format!("step-{}", screen.key())
                    aria-current=move || current().then_some("step")
                    on:click=move |_| app.screen.set(screen)
                >
                    <span class="place" aria-hidden="true">{place + 1}</span>
                    <span class="title">{screen.title()}</span>
                    <span class="standing quiet">{move || standing(app, screen)}</span>
                </button>
            </li>
        }
    };
    view! {
        <nav aria-label="Steps">
            <ol class="steps">{Screen::ALL.into_iter().enumerate().map(step).collect_view()}</ol>
        </nav>
    }
}

/// What leaves the tab: nothing, and how that can be seen.
#[component]
fn Privacy() -> impl IntoView {
    let app = App::here();
    let traffic = move || app.traffic.get();
    let ready = move || app.stage.with(|stage| matches!(stage, ModelStage::Ready(_)));
    view! {
        <details class="privacy" data-test="privacy">
            <summary>
                <span class="dot" data-state=move || if app.policy.get().is_some() { "good" } else { "waiting" } />
                "Nothing leaves this computer"
            </summary>
            <dl>
                <dt>"Requests since the model was ready"</dt>
                <dd class="number" data-test="requests">
                    {move || {
                        if ready() { traffic().requests.to_string() } else { "no model yet".to_owned() }
                    }}
                </dd>
                <dt>"Requests blocked by the browser"</dt>
                <dd class="number" data-test="blocked">
                    {move || {
                        if ready() { traffic().blocked.to_string() } else { "no model yet".to_owned() }
                    }}
                </dd>
                <dt>"Checks for a new version of this page"</dt>
                <dd data-test="update-checks">
                    "One when the page opens. The browser itself may check again after a day, when the engine restarts, or sooner if this page's server does not allow caching. A check requests one file of the page from its own server; it contains nothing of yours, and browsers do not let a page count it."
                </dd>
                <dt>"Offline"</dt>
                <dd data-test="offline">
                    {move || match app.offline.get() {
                        Offline::Keeping => "Saving the page for offline use…",
                        Offline::Kept => "Works offline: the page is stored in this browser, and stored models need no download.",
                        Offline::Without => "Does not work offline: this browser does not store the page.",
                        Offline::Deleted => "Deleted, until the page is opened again.",
                    }}
                </dd>
                <dt>"Where your texts are"</dt>
                <dd>
                    "In the engine worker, which can reach this page's own server only. At startup it tried to contact another host: "
                    {move || if app.policy.get().is_some() { "blocked. " } else { "no answer yet. " }}
                    <span data-test="copies">{move || copies(app)}</span>
                </dd>
                <dt>"Where models come from"</dt>
                <dd>
                    "This page's server"
                    {WEIGHT_HOSTS.map(|host| format!(", {}", host.trim_start_matches("https://")))}
                    ". The worker that downloads them never sees your texts."
                </dd>
                <dt>"Content Security Policy, as enforced by the browser"</dt>
                <dd>
                    <code>{move || app.policy.get().unwrap_or_else(|| "not known yet".to_owned())}</code>
                </dd>
            </dl>
        </details>
    }
}

/// Which tables are in the browser's storage, and why.
fn copies(app: App) -> String {
    let tables = app.stored_runs.with(|runs| {
        runs.iter().filter_map(|run| run.table.clone()).collect::<Vec<_>>().join(", ")
    });
    if tables.is_empty() {
        "No copy of a table is in this browser's storage. One is kept there while a run is active or can be resumed.".to_owned()
    } else {
        format!("This browser's storage has a copy of {tables} until the run ends or is deleted.")
    }
}

#[component]
fn Notices() -> impl IntoView {
    let app = App::here();
    view! {
        <div class="notices" role="log" aria-live="polite" aria-label="Messages">
            <For each=move || app.notices.get() key=|notice| notice.id let:notice>
                <div
                    class="notice"
                    data-test="notice"
                    data-kind=match notice.kind {
                        NoticeKind::Error => "error",
                        NoticeKind::Warning => "warning",
                        NoticeKind::Good => "good",
                    }
                >
                    <p>
                        <strong>{notice.what.clone()}</strong>
                        " "
                        {notice.advice.clone()}
                    </p>
                    <button
                        type="button"
                        class="quiet-button"
                        aria-label="Dismiss"
                        on:click=move |_| notices::dismiss(app, notice.id)
                    >
                        "×"
                    </button>
                </div>
            </For>
        </div>
    }
}

/// What the engine is busy with, and what waits for that.
#[component]
fn BusyLine() -> impl IntoView {
    let app = App::here();
    // a model that is being copied comes first
    let loading = move || {
        app.stage.with(|stage| matches!(stage, ModelStage::Loading { done, .. } if *done > 0))
    };
    let requests =
        move || app.jobs.with(|jobs| jobs.iter().map(|job| job.request).collect::<Vec<_>>());
    let line = move |request: u64| {
        let of = move |say: fn(&Busy, bool) -> String| {
            Signal::derive(move || {
                app.jobs.with(|jobs| {
                    let place = jobs.iter().position(|job| job.request == request);
                    place.map_or_else(String::new, |place| {
                        say(&jobs[place].busy, place > 0 || loading())
                    })
                })
            })
        };
        let share = Signal::derive(move || {
            app.jobs.with(|jobs| share(&jobs.iter().find(|job| job.request == request)?.busy))
        });
        view! {
            <div class="job" data-test="job">
                <Progress label=of(label) share=share words=of(words) />
                <button type="button" data-test="job-cancel" on:click=move |_| actions::cancel(app, request)>
                    "Cancel"
                </button>
            </div>
        }
    };
    view! {
        <div class="busy" aria-live="off">
            <For each=requests key=|request| *request children=line />
        </div>
    }
}

/// How far a job is, 0 to 1.
fn share(busy: &Busy) -> Option<f64> {
    let (done, of) = match busy {
        Busy::Reading { bytes, total, .. } => (*bytes as f64, *total as f64),
        Busy::Scoring { done, of, .. } => (*done as f64, *of as f64),
        Busy::Writing | Busy::Working(_) => return None,
    };
    (of > 0.0).then(|| done / of)
}

fn label(busy: &Busy, waits: bool) -> String {
    if waits { format!("Waiting: {}", busy.label()) } else { busy.label() }
}

fn words(busy: &Busy, waits: bool) -> String {
    match busy {
        _ if waits => String::new(),
        Busy::Reading { bytes: done, total, rows, .. } => {
            format!("{} of {}, {} rows", bytes(*done), bytes(*total), count(*rows))
        }
        Busy::Scoring { done, of, .. } => format!("{done} of {of}"),
        Busy::Writing | Busy::Working(_) => String::new(),
    }
}
