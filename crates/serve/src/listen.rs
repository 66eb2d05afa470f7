//! Listening: every connection is a task, none can hold up another, and none outlives its client for long.

#[cfg(feature = "lan")]
use crate::lan::Tls;
use crate::{Page, Plan, ServeError, site};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::{self, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;

/// Connections at the same time; more wait. A browser opens six, and a process often has 1,024 files.
const CONNECTIONS: usize = 400;
/// Threads that read files: a few are enough for any disk, and each has a stack.
const READERS: usize = 16;
/// How long nothing is accepted after an error, of too many open files, say.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a connection may take for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the next request has come whole, from the start or from the end of the answer before.
    pub request: Duration,
    /// Until the client takes another byte of an answer. The page itself starts again after 20 seconds of silence.
    pub taking: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { request: Duration::from_secs(60), taking: Duration::from_secs(120) }
    }
}

/// Where and how to listen.
#[derive(Debug)]
pub struct Listen {
    /// An address or name of this machine; `0.0.0.0` for all IPv4 addresses.
    pub host: String,
    /// The port; 0 for any free one.
    pub port: u16,
    /// HTTPS with this certificate; HTTP without.
    #[cfg(feature = "lan")]
    pub tls: Option<Tls>,
    /// When connections are ended.
    pub timeouts: Timeouts,
}

/// Whether only this machine reaches this address or name.
pub fn is_loopback(host: &str) -> bool {
    ["127.0.0.1", "localhost", "::1"].contains(&host)
}

impl Listen {
    /// HTTP on this address and port.
    pub fn http(host: &str, port: u16) -> Self {
        Self {
            host: host.to_owned(),
            port,
            #[cfg(feature = "lan")]
            tls: None,
            timeouts: Timeouts::default(),
        }
    }
}

/// A server that runs in the background until this is dropped.
#[derive(Debug)]
pub struct Served {
    address: SocketAddr,
    open: Arc<Semaphore>,
    runtime: Option<Runtime>,
}

impl Served {
    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        CONNECTIONS - self.open.available_permits()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // a thread may be reading a slow disk
            runtime.shutdown_background();
        }
    }
}

/// Serves a page and a plan in the background.
///
/// # Errors
///
/// Where the page, a model or the log cannot be opened, or the address cannot be listened on.
pub fn start(page: &Page, plan: Plan, listen: Listen) -> Result<Served, ServeError> {
    let router = site::router(page, plan)?;
    let (host, port) = (listen.host.clone(), listen.port);
    let failed = |source| ServeError::Listen { host: host.clone(), port, source };
    let listener = net::TcpListener::bind((host.as_str(), port)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let mut builder = Builder::new_multi_thread();
    builder.enable_all().max_blocking_threads(READERS).thread_name("hearth-serve");
    let runtime = builder.build().map_err(ServeError::Threads)?;
    let listener = {
        let _inside = runtime.enter();
        TcpListener::from_std(listener).map_err(failed)?
    };
    let open = Arc::new(Semaphore::new(CONNECTIONS));
    runtime.spawn(accept(listener, router, listen, Arc::clone(&open)));
    Ok(Served { address, open, runtime: Some(runtime) })
}

async fn accept(listener: TcpListener, router: Router, listen: Listen, open: Arc<Semaphore>) {
    let listen = Arc::new(listen);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // never closed
                let Ok(permit) = Arc::clone(&open).acquire_owned().await else { return };
                let (router, listen) = (router.clone(), Arc::clone(&listen));
                tokio::spawn(connection(stream, router, listen, permit));
            }
            // the client went away already, or there are too many open files
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// One connection from its first byte to its last. What goes wrong in it ends it and nothing else.
async fn connection(
    stream: TcpStream,
    router: Router,
    listen: Arc<Listen>,
    _permit: OwnedSemaphorePermit,
) {
    // an answer's last bytes must not wait
    let _ = stream.set_nodelay(true);
    let timeouts = listen.timeouts;
    #[cfg(feature = "lan")]
    if let Some(tls) = &listen.tls {
        let speaks_tls =
            tokio::time::timeout(timeouts.request, crate::lan::speaks_tls(&stream)).await;
        match speaks_tls {
            Ok(true) => {
                let taken = tls.accept(taking(stream, timeouts));
                if let Ok(Ok(stream)) = tokio::time::timeout(timeouts.request, taken).await {
                    speak(stream, router, timeouts).await;
                }
            }
            Ok(false) => speak(taking(stream, timeouts), crate::lan::to_https(), timeouts).await,
            Err(_) => {}
        }
        return;
    }
    speak(taking(stream, timeouts), router, timeouts).await;
}

/// A stream that fails where the client takes nothing for too long.
fn taking(
    stream: TcpStream,
    timeouts: Timeouts,
) -> impl AsyncRead + AsyncWrite + Unpin + Send + 'static {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(timeouts.taking));
    Box::pin(stream)
}

/// HTTP/1.1 until one side ends it.
async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    timeouts: Timeouts,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(timeouts.request);
    let service = TowerToHyperService::new(router);
    // a browser that went away is not an error of ours
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}
