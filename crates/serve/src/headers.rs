//! What is said of every answer, beside what tower-http says of files: the policy that keeps the user's data in the
//! tab, how long a browser may use what it has, and If-Range.

use crate::policy::Policies;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex};

/// Name of the service worker, at the root of the page: it sees what lies beside and below it.
pub const SERVICE_WORKER: &str = "service-worker.js";

const POLICY: HeaderName = header::CONTENT_SECURITY_POLICY;

/// The headers that every file of the page and every model is sent with, but for its policy.
const ALWAYS: [(&str, &str); 4] = [
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
];

/// What is said of a file, by its path below the page: name and value of each header. This is also what
/// `cargo xtask site` writes for other hosts.
pub fn headers_of<'a>(policies: &'a Policies, name: &str) -> Vec<(&'static str, &'a str)> {
    let mut headers = vec![("Content-Security-Policy", policies.for_file(name))];
    headers.extend(ALWAYS);
    headers.push(("Cache-Control", caching(name)));
    headers
}

/// How long a browser may use what it has. The files of the page's workers keep their names from build to build,
/// so they are always asked for. The service worker is asked for by the page when it opens, past any cache, and
/// need not be by the browser's own checks in between.
fn caching(name: &str) -> &'static str {
    if name == SERVICE_WORKER { "max-age=86400" } else { "no-cache" }
}

/// What holds for all answers of a site.
#[derive(Debug)]
pub struct Rules {
    /// None as on a host of plain files.
    pub policies: Option<Policies>,
    /// A line for every request goes here.
    pub log: Option<Mutex<File>>,
}

impl Rules {
    fn note(&self, request: &Request) {
        let Some(Ok(mut log)) = self.log.as_ref().map(Mutex::lock) else { return };
        // a full disk must not end the serving
        let _ = writeln!(log, "{} {}", request.method(), request.uri());
    }
}

/// Notes the request, has it answered, and says of the answer what has to be said.
pub async fn apply(State(rules): State<Arc<Rules>>, mut request: Request, next: Next) -> Response {
    rules.note(&request);
    let path = request.uri().path().to_owned();
    if request.headers().contains_key(header::RANGE) {
        plain_ranges_only(request.headers_mut());
    }
    let mut response = answer(request, next).await;
    let name = path.trim_start_matches('/');
    let (status, headers) = (response.status(), response.headers_mut());
    if !status.is_success() && status != StatusCode::NOT_MODIFIED {
        // shown in a tab of its own it could do nothing either
        headers.insert(POLICY, HeaderValue::from_static("default-src 'none'"));
        return response;
    }
    for (name, value) in ALWAYS {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching(name)));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    // checked when the site was made
    let policy = rules.policies.as_ref().map(|policies| policies.for_file(name));
    if let Some(Ok(policy)) = policy.map(HeaderValue::from_str) {
        headers.insert(POLICY, policy);
    }
    say_encoding(headers);
    response
}

/// A part is a part of the plain file, in bytes; any other unit is to be ignored (RFC 9110, 14.2).
fn plain_ranges_only(headers: &mut HeaderMap) {
    headers.remove(header::ACCEPT_ENCODING);
    if !headers.get(header::RANGE).is_some_and(|range| range.as_bytes().starts_with(b"bytes=")) {
        headers.remove(header::RANGE);
    }
}

/// Answers with If-Range in mind, which tower-http 0.7 does not know: a resumed download of a file that has changed
/// since starts again from the beginning. The same tag as If-Match refuses instead, and the refusal becomes the whole.
async fn answer(mut request: Request, next: Next) -> Response {
    let tag = request.headers_mut().remove(header::IF_RANGE);
    let Some(tag) = tag.filter(|_| request.headers().contains_key(header::RANGE)) else {
        return next.run(request).await;
    };
    let mut whole = Request::new(axum::body::Body::empty());
    *whole.method_mut() = request.method().clone();
    *whole.uri_mut() = request.uri().clone();
    *whole.headers_mut() = request.headers().clone();
    whole.headers_mut().remove(header::RANGE);
    request.headers_mut().insert(header::IF_MATCH, tag);
    let response = next.clone().run(request).await;
    if response.status() == StatusCode::PRECONDITION_FAILED {
        next.run(whole).await
    } else {
        response
    }
}

/// All text here is UTF-8.
fn say_encoding(headers: &mut HeaderMap) {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let text = kind.filter(|kind| kind.starts_with("text/") && !kind.contains("charset"));
    if let Some(Ok(kind)) =
        text.map(|kind| HeaderValue::from_str(&format!("{kind}; charset=utf-8")))
    {
        headers.insert(header::CONTENT_TYPE, kind);
    }
}
