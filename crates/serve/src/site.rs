//! What is served: the page, and the models with a list of them.

use crate::ServeError;
use crate::headers::{Rules, apply};
use crate::memory::{EmbeddedFile, Memory};
use crate::offer::{Offer, distinct, index};
use crate::policy::{Policies, is_origin};
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tower_http::services::fs::Backend;
use tower_http::services::{ServeDir, ServeFile};

/// Bytes of a model that are read at a time: a few of these are in memory for every connection.
const CHUNK: usize = 128 * 1024;

/// The page to serve.
#[derive(Debug, Clone)]
pub enum Page {
    /// A folder with a built page.
    Folder(PathBuf),
    /// A page in this program.
    Embedded {
        /// Its files.
        files: &'static [EmbeddedFile],
        /// When it was built, in seconds since 1970.
        built: u64,
    },
}

/// What to serve beside the page, and how strictly.
#[derive(Debug, Default)]
pub struct Plan {
    /// Models that the page can load.
    pub models: Vec<Offer>,
    /// Origins that the loader may fetch weights from, beside the usual ones.
    pub weight_hosts: Vec<String>,
    /// Send no policy, as a host of plain files.
    pub without_policy: bool,
    /// A line for every request goes into this file.
    pub log: Option<PathBuf>,
}

/// The service of a page and a plan.
pub(crate) fn router(page: &Page, plan: Plan) -> Result<Router, ServeError> {
    let models = distinct(plan.models);
    let list = Memory::of("models/index.json", index(&models)?);
    let models = get(send_model).with_state(Arc::new(models));
    let router = Router::new()
        .route_service("/models/index.json", folder(ServeDir::with_backend("", list)))
        .route("/models/{key}/{file}", models);
    let (router, html) = match page {
        Page::Folder(path) => {
            let no_page = |source| ServeError::NoPage { folder: path.clone(), source };
            let html = fs::read_to_string(path.join("index.html")).map_err(no_page)?;
            (router.fallback_service(folder(ServeDir::new(path))), html)
        }
        Page::Embedded { files, built } => {
            let memory = Memory::embedded(files, *built);
            let no_page = |source| ServeError::NoPage { folder: PathBuf::new(), source };
            let html = memory.read("index.html").map_err(no_page)?;
            let html = String::from_utf8_lossy(&html).into_owned();
            (router.fallback_service(folder(ServeDir::with_backend("", memory))), html)
        }
    };
    for host in &plan.weight_hosts {
        if !is_origin(host) {
            return Err(ServeError::WeightHost(host.clone()));
        }
    }
    let log = plan.log.map(|file| {
        let created = File::create(&file);
        created.map(Mutex::new).map_err(|source| ServeError::Log { file, source })
    });
    let rules = Rules {
        policies: (!plan.without_policy).then(|| Policies::of(&html, &plan.weight_hosts)),
        log: log.transpose()?,
    };
    Ok(router.layer(from_fn_with_state(Arc::new(rules), apply)))
}

/// Files with their packed forms beside them, and nothing instead of what there is not.
fn folder<F, B: Backend>(files: ServeDir<F, B>) -> ServeDir<F, B> {
    files
        .redirect_to_trailing_slash(false)
        .ignore_multi_range_requests(true)
        .precompressed_br()
        .precompressed_gzip()
}

async fn send_model(
    State(models): State<Arc<Vec<Offer>>>,
    Path((key, name)): Path<(String, String)>,
    request: Request,
) -> Response {
    let model = models.iter().find(|model| model.key == key);
    let file = model.and_then(|model| model.files.iter().find(|file| file.name() == name));
    let Some(file) = file else { return StatusCode::NOT_FOUND.into_response() };
    let mut file =
        ServeFile::new(&file.path).with_buf_chunk_size(CHUNK).ignore_multi_range_requests(true);
    match file.try_call(request).await {
        Ok(response) => response.into_response(),
        // it was there when the server started
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}
