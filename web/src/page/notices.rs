//! What the page tells beside its screens.

use leptos::prelude::*;

use super::{
    format::sentence,
    state::{App, Notice, NoticeKind},
};
use crate::protocol::Failure;

/// Shows a failure.
pub fn fail(app: App, failure: &Failure) {
    tell(app, NoticeKind::Error, &failure.what, &failure.advice);
}

/// Shows a notice; the same one twice is shown once. Good news go by themselves.
pub fn tell(app: App, kind: NoticeKind, what: &str, advice: &str) {
    if what.is_empty() {
        return;
    }
    let id = app.notices.with_untracked(|all| all.iter().map(|n| n.id).max().unwrap_or(0) + 1);
    app.notices.update(|all| {
        all.retain(|notice| notice.what != sentence(what));
        // errors are written to follow a file's name or a colon; here they stand alone
        let (what, advice) = (sentence(what), sentence(advice));
        all.push(Notice { id, kind, what, advice });
    });
    if kind == NoticeKind::Good {
        let away = std::time::Duration::from_secs(8);
        set_timeout(move || dismiss(app, id), away);
    }
}

/// Takes a notice away.
pub fn dismiss(app: App, id: u64) {
    app.notices.update(|all| all.retain(|notice| notice.id != id));
}
