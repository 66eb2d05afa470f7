//! Everything that is kept, deleted at once.

use hearth_classifier::prompt::PromptSpec;
use leptos::{prelude::*, task::spawn_local};

use super::{ask, ask_loader, refused_while_training, restart_engine, tell};
use crate::{
    page::{
        offline,
        state::{App, ModelStage, NoticeKind, Training, first_choices},
    },
    protocol::{FromEngine, FromLoader, ToEngine, ToLoader},
};

/// Deletes tables, runs and classifiers, in storage and in this tab; with `everything` the models and the page's own
/// files too.
pub fn erase(app: App, everything: bool) {
    if refused_while_training(app, "Your data can be deleted") {
        return;
    }
    forget(app, everything);
    // its memory goes with it; it opens a new storage for runs before it answers
    restart_engine(app);
    ask(app, ToEngine::DeleteRuns, &[], move |message, _| {
        let FromEngine::Runs { runs } = message else { return };
        app.runs.set(runs);
        if !everything {
            return erased(app);
        }
        ask_loader(app, ToLoader::DeleteAll, &[], move |message, _| {
            if let FromLoader::Kept { .. } = message {
                spawn_local(async move {
                    if offline::forget(app).await {
                        erased(app);
                    } else {
                        let what = "The browser still keeps this page's own files.";
                        tell(app, NoticeKind::Error, what, "Clear them in the browser's settings.");
                    }
                });
            }
        });
    });
}

/// What the page itself knows.
fn forget(app: App, everything: bool) {
    app.recovery.update_value(|kept| {
        kept.data = None;
        if everything {
            kept.model = None;
        }
    });
    if everything {
        app.stage.set(ModelStage::None);
    }
    app.notices.set(Vec::new());
    app.choices.set(first_choices());
    app.unread.set(None);
    app.report_error.set(None);
    app.spec.set(PromptSpec::default());
    app.plan.set(None);
    app.training.set(Training::default());
    app.shown.set(None);
    app.classifier.set(None);
    app.to_classify.set(None);
}

fn erased(app: App) {
    tell(app, NoticeKind::Good, "Deleted. Nothing of yours is kept here.", "");
}
