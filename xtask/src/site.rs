//! `cargo xtask site`: the page as a folder for any static host, or for a stick.
//!
//! Every address in it is relative, so it works under any path. `docs/serve.md` says what hosts make of it.

use crate::{model, page, tools};
use anyhow::{Context, Result, bail, ensure};
use hearth_serve::policy::Policies;
use hearth_serve::{Offer, headers_of, index};
use std::fs;
use std::path::{Path, PathBuf};

/// Where Netlify, Cloudflare Pages and others look for the headers of files.
const HEADERS: &str = "_headers";
/// Keeps GitHub Pages from leaving out files whose names begin with `_`.
const NO_JEKYLL: &str = ".nojekyll";

#[derive(clap::Args)]
pub struct Options {
    /// The folder to write; it must not be there yet, or be empty, or hold an earlier site
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Put a model of one file (.gguf) beside the page, for its visitors to load; may be repeated
    #[arg(long = "with-model", value_name = "FILE")]
    models: Vec<PathBuf>,
    /// Put the page under this path of the host instead of at its root
    #[arg(long, default_value = "/", value_name = "PATH")]
    base: String,
    /// Take the page as it was built last (`trunk build --release`), without building it again
    #[arg(long)]
    built: bool,
}

pub fn site(options: &Options) -> Result<()> {
    let base = base_of(&options.base)?;
    let models: Result<Vec<Offer>> = options.models.iter().map(|path| offer(path)).collect();
    let models = models?;
    let page = if options.built { page::dist() } else { page::build(&tools::for_page()?)? };
    write(&page, &options.out, &base, &models)?;
    println!("{} holds the page; serve it with any static file server", options.out.display());
    Ok(())
}

/// A path of a host as folders: empty, or `a/b/`.
fn base_of(path: &str) -> Result<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let plain = |part: &str| {
        part != "."
            && part != ".."
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-~".contains(c))
    };
    ensure!(
        parts.iter().copied().all(plain),
        "--base {path}: a path has ASCII letters, digits, '.', '_', '-' and '~' between its slashes"
    );
    Ok(parts.iter().map(|part| format!("{part}/")).collect())
}

/// A model to put beside the page.
fn offer(path: &Path) -> Result<Offer> {
    if !path.is_file() {
        bail!("--with-model {}: there is no such file", path.display());
    }
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Offer::file(&name, path, Some(model::sha256(path)?)))
}

/// Writes a built page, models and what hosts want to know into a folder; the page under `base`.
pub fn write(page: &Path, out: &Path, base: &str, models: &[Offer]) -> Result<()> {
    let html = fs::read_to_string(page.join("index.html"))
        .with_context(|| format!("{}: there is no built page", page.display()))?;
    clear(out)?;
    let inside = out.join(base);
    let mut names = page::files(page)?;
    // hosts pack by themselves
    names.retain(|name| !name.ends_with(".gz") && !name.ends_with(".br"));
    for name in &names {
        copy(&page.join(name), &inside.join(name))?;
    }
    for model in models {
        for file in &model.files {
            copy(&file.path, &inside.join("models").join(&model.key).join(file.name()))?;
        }
    }
    // a list of none keeps the page from asking for what is not there
    create(&inside.join("models/index.json"), &index(models)?)?;
    create(&out.join(NO_JEKYLL), b"")?;
    create(&out.join(HEADERS), headers(&html, base, &names).as_bytes())
}

/// Makes the folder, or empties it where it holds an earlier site.
fn clear(out: &Path) -> Result<()> {
    let words = || format!("cannot write the folder {}", out.display());
    if out.exists() {
        let empty = fs::read_dir(out).with_context(words)?.next().is_none();
        let ours = out.join(NO_JEKYLL).is_file() && out.join(HEADERS).is_file();
        ensure!(
            empty || ours,
            "--out {}: the folder holds other files; name a new one",
            out.display()
        );
        fs::remove_dir_all(out).with_context(words)?;
    }
    fs::create_dir_all(out).with_context(words)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let words = || format!("cannot copy {} to {}", from.display(), to.display());
    fs::create_dir_all(to.parent().unwrap_or(to)).with_context(words)?;
    fs::copy(from, to).map(|_| ()).with_context(words)
}

fn create(path: &Path, bytes: &[u8]) -> Result<()> {
    let words = || format!("cannot write {}", path.display());
    fs::create_dir_all(path.parent().unwrap_or(path)).with_context(words)?;
    fs::write(path, bytes).with_context(words)
}

/// The headers of every file, as the server sends them. Each file has a rule of its own: of two rules that fit, hosts
/// send both policies, and a browser allows what both allow, so the loader could reach no weight host.
fn headers(html: &str, base: &str, names: &[String]) -> String {
    let policies = Policies::of(html, &[]);
    let rule = |path: &str, name: &str| {
        let lines = headers_of(&policies, name);
        let lines: String =
            lines.iter().map(|(header, value)| format!("  {header}: {value}\n")).collect();
        format!("/{base}{path}\n{lines}")
    };
    // the page is asked for by its folder, too
    let page = rule("", "index.html");
    page + &names.iter().map(|name| rule(name, name)).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page as the build leaves it, and a folder for the site.
    fn page(test: &str) -> (PathBuf, PathBuf) {
        let folder =
            std::env::temp_dir().join(format!("hearth-site-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let page = folder.join("page");
        fs::create_dir_all(page.join("samples")).unwrap();
        for name in [
            "index.html",
            "app-1.js",
            "app-1.js.gz",
            "loader.js",
            "service-worker.js",
            "samples/a.csv",
        ] {
            fs::write(page.join(name), format!("<script>{name}</script>")).unwrap();
        }
        (page, folder.join("site"))
    }

    #[test]
    fn a_site_has_the_page_its_models_and_a_rule_for_every_file() {
        let (page, out) = page("whole");
        let model = page.with_file_name("my model.gguf");
        fs::write(&model, "GGUF").unwrap();
        let models = [offer(&model).unwrap()];
        // twice: an earlier site is replaced
        write(&page, &out, "", &models).unwrap();
        write(&page, &out, "a/b/", &models).unwrap();
        let expected = [
            ".nojekyll",
            "_headers",
            "a/b/app-1.js",
            "a/b/index.html",
            "a/b/loader.js",
            "a/b/models/index.json",
            "a/b/models/my-model/my model.gguf",
            "a/b/samples/a.csv",
            "a/b/service-worker.js",
        ];
        assert_eq!(page::files(&out).unwrap(), expected);
        let list = fs::read_to_string(out.join("a/b/models/index.json")).unwrap();
        assert!(list.contains("\"./models/my-model/my%20model.gguf\""), "{list}");
        let headers = fs::read_to_string(out.join("_headers")).unwrap();
        let rules: Vec<&str> = headers.lines().filter(|line| line.starts_with('/')).collect();
        let paths =
            ["", "app-1.js", "index.html", "loader.js", "samples/a.csv", "service-worker.js"];
        assert_eq!(rules, paths.map(|path| format!("/a/b/{path}")));
        let of = |path: &str| {
            let (_, rest) = headers.split_once(&format!("/a/b/{path}\n")).unwrap();
            rest.split("\n/").next().unwrap().to_owned()
        };
        assert!(of("").contains("  Content-Security-Policy: default-src 'none'; script-src"));
        assert!(of("").contains("connect-src 'self';") && of("").contains("'sha256-"));
        assert!(of("loader.js").contains("https://huggingface.co"));
        assert!(of("app-1.js").contains("  Cross-Origin-Opener-Policy: same-origin\n"));
        assert!(of("service-worker.js").contains("  Cache-Control: max-age=86400"));
        // hosts drop longer lines
        assert!(headers.lines().all(|line| line.len() < 2000));
        fs::remove_dir_all(page.parent().unwrap()).unwrap();
    }

    #[test]
    fn other_files_are_not_overwritten() {
        let (page, out) = page("other");
        fs::create_dir_all(&out).unwrap();
        write(&page, &out, "", &[]).unwrap();
        assert_eq!(fs::read(out.join("models/index.json")).unwrap(), b"[]");
        let other = page.clone();
        let error = write(&page, &other, "", &[]).unwrap_err().to_string();
        assert!(error.contains("holds other files"), "{error}");
        assert!(other.join("app-1.js").is_file());
        let error = write(&out.join("nowhere"), &out, "", &[]).unwrap_err().to_string();
        assert!(error.contains("there is no built page") && out.join("index.html").is_file());
        assert!(offer(Path::new("gone.gguf")).unwrap_err().to_string().contains("gone.gguf"));
        fs::remove_dir_all(page.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_base_is_a_plain_path() {
        for (path, folders) in [("/", ""), ("", ""), ("/hearth", "hearth/"), ("a/b/", "a/b/")] {
            assert_eq!(base_of(path).unwrap(), folders);
        }
        for path in ["/../x", "/a b", "https://example.org/hearth", "/*"] {
            assert!(base_of(path).is_err(), "{path}");
        }
    }
}
