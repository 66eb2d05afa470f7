//! `hearth serve`

use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, io, thread};

use anyhow::{Context, Result, bail};
use clap::Args;
use hearth_formats::checkpoint::Checkpoint;
use hearth_serve::{
    EmbeddedFile, Listen, Offer, OfferedFile, Page, Plan, is_loopback, key_of, lan,
};
use serde::Serialize;

use crate::{Outcome, files::ModelFiles, interrupt, options::Options, output};

/// The page that the build put into the program, and when, in seconds since 1970.
const PAGE: Option<(&[EmbeddedFile], u64)> = include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// How often Ctrl-C is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// Open Hearth in the browser: serve the page and models on this computer, or to a local network.
#[derive(Args)]
pub struct Serve {
    /// A model to offer: a file, or a folder with one; may be repeated
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Do not offer the .gguf files of the cache folder
    #[arg(long)]
    no_cache: bool,
    /// The port to listen on; 0 takes any free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The address to listen on, with --lan also a name of this computer [default: 127.0.0.1, with --lan every address]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    /// Serve the local network, over HTTPS, with a certificate made now: browsers will warn of it
    #[arg(long)]
    lan: bool,
    /// With --lan: a certificate (PEM) that the visitors' browsers know, instead
    #[arg(long, value_name = "FILE", requires = "key", requires = "lan")]
    certificate: Option<PathBuf>,
    /// The key of --certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Do not open the browser
    #[arg(long)]
    no_open: bool,
    /// Serve the built page in this folder instead of the page in this program
    #[arg(long, value_name = "FOLDER")]
    page: Option<PathBuf>,
    /// Write a line for every request into this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

/// Where it is served, for other programs.
#[derive(Serialize)]
struct Report {
    /// The first is the one to open.
    addresses: Vec<String>,
    /// SHA-256 of the certificate, with --lan.
    fingerprint: Option<String>,
    models: Vec<String>,
}

pub async fn run(options: &Options, args: &Serve) -> Result<Outcome> {
    let page = page(args)?;
    let models = models(args).await?;
    let names = models.iter().map(|model| model.name.clone()).collect();
    let plan = Plan { models, log: args.log.clone(), ..Plan::default() };
    let hosts = hosts(args)?;
    let mut listen = Listen::http(&hosts[0], args.port);
    // a name may lead to this computer's own address on every other device, and to a loopback address here
    if args.lan && args.host.as_ref().is_none_or(|host| host.parse::<IpAddr>().is_err()) {
        "0.0.0.0".clone_into(&mut listen.host);
    }
    let mut fingerprint = None;
    if args.lan {
        let tls = certificate(args, &hosts)?;
        fingerprint = Some(tls.fingerprint().to_owned());
        listen.tls = Some(tls);
    }
    let served = hearth_serve::start(&page, plan, listen)?;
    let scheme = if args.lan { "https" } else { "http" };
    let port = served.address().port();
    let address = |host: &String| match host.parse() {
        Ok(IpAddr::V6(host)) => format!("{scheme}://[{host}]:{port}/"),
        _ => format!("{scheme}://{host}:{port}/"),
    };
    let report =
        Report { addresses: hosts.iter().map(address).collect(), fingerprint, models: names };
    if options.json {
        output::json(&report)?
    } else {
        print(args, &report)?
    }
    if !args.no_open && !args.lan {
        open(&report.addresses[0]);
    }
    while !interrupt::asked() {
        thread::park_timeout(LOOK);
    }
    Ok(Outcome::Done)
}

/// The page to serve, or why there is none.
fn page(args: &Serve) -> Result<Page> {
    match (&args.page, PAGE) {
        (Some(folder), _) => Ok(Page::Folder(folder.clone())),
        (None, Some((files, built))) => Ok(Page::Embedded { files, built }),
        (None, None) => bail!(
            "this `hearth` was built without the page: install a released one, build one with \
             `cargo xtask dist` in Hearth's repository, or name the folder of a built page with --page"
        ),
    }
}

/// The names or addresses by which the server is reached, the best first.
fn hosts(args: &Serve) -> Result<Vec<String>> {
    match &args.host {
        Some(host) => {
            if !args.lan && !is_loopback(host) {
                output::note("browsers on other computers offer WebGPU over https only: use --lan");
            }
            Ok(vec![host.clone()])
        }
        None if args.lan => {
            let all =
                lan::addresses().context("--lan: use --host to name this computer's address")?;
            Ok(all.iter().map(ToString::to_string).collect())
        }
        None => Ok(vec!["127.0.0.1".to_owned()]),
    }
}

fn certificate(args: &Serve, hosts: &[String]) -> Result<lan::Tls> {
    if let (Some(certificate), Some(key)) = (&args.certificate, &args.key) {
        return Ok(lan::Tls::of_files(certificate, key)?);
    }
    Ok(lan::Tls::made_for(hosts)?)
}

/// The models that are asked for, and those in the cache folder.
async fn models(args: &Serve) -> Result<Vec<Offer>> {
    let mut models: Vec<Offer> = Vec::new();
    for path in &args.models {
        models.push(offer(path).await?);
    }
    if args.no_cache {
        return Ok(models);
    }
    for path in cached() {
        match offer(&path).await {
            // pieces of one model, or one that was named
            Ok(offer) if models.iter().any(|model| model.files == offer.files) => {}
            Ok(offer) => models.push(offer),
            Err(error) => output::note(&format!("not offered: {}", output::words(&error))),
        }
    }
    Ok(models)
}

/// The model that a path names, if it is one.
async fn offer(path: &Path) -> Result<Offer> {
    let files = ModelFiles::find(path)?;
    Checkpoint::open(files.sources()?).await?;
    let parts = files.parts.into_iter().chain(files.tokenizer);
    let files: Vec<OfferedFile> = parts
        .map(|part| Ok(OfferedFile { path: std::path::absolute(part)?, sha256: None }))
        .collect::<Result<_>>()?;
    // a model of several files is called as its folder is
    let first = &files.first().context("a model has a file")?.path;
    let named =
        if files.len() == 1 { first.file_stem() } else { first.parent().and_then(Path::file_name) };
    let name = named.unwrap_or_default().to_string_lossy().into_owned();
    Ok(Offer { key: key_of(&format!("{name}.")), name, files })
}

/// The .gguf files in Hearth's folder of the user's cache.
fn cached() -> Vec<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(env::home_dir()?.join(".cache")));
    let folder = cache.and_then(|cache| std::fs::read_dir(cache.join("hearth")).ok());
    let mut files: Vec<PathBuf> =
        folder.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.is_file() && path.extension().is_some_and(|end| end == "gguf"));
    files.sort();
    files
}

fn print(args: &Serve, report: &Report) -> Result<()> {
    for model in &report.models {
        output::line(&format!("offers the model {model}"))?;
    }
    if args.lan {
        for address in report.addresses.iter().skip(1) {
            output::line(&format!("also at {address}"))?;
        }
        if let Some(fingerprint) = &report.fingerprint {
            output::line(&format!("the certificate's SHA-256 fingerprint is {fingerprint}"))?;
        }
        if args.certificate.is_none() {
            output::line("browsers warn of this certificate, since no authority has signed it")?;
        }
        output::print(&lan::qr_code(&report.addresses[0], io::stdout().is_terminal())?)?;
    }
    output::line(&format!("Hearth is at {} (Ctrl-C ends it)", report.addresses[0]))
}

/// Opens the browser. The address is printed too, so nothing is lost where there is none.
fn open(address: &str) {
    if let Err(error) = open::that_detached(address) {
        output::note(&format!("cannot open a browser ({error}): open the address yourself"));
    }
}
