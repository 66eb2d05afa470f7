//! `cargo xtask test`: from a fresh clone to every test passed, the browser's included.

use crate::steps::{Count, Steps};
use crate::{cargo, model, root, serve, tools};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::process::{Command, ExitCode};

const WASM: [&str; 2] = ["--target", "wasm32-unknown-unknown"];
const WEB: &str = "hearth-web";

#[derive(clap::Args)]
pub struct Options {
    /// Fetch the real Gemma 3 270M (253 MB) and run the tests that take minutes too
    #[arg(long)]
    real: bool,
    /// Only what runs natively
    #[arg(long, conflicts_with = "browser_only")]
    native_only: bool,
    /// Only what runs in the browser
    #[arg(long)]
    browser_only: bool,
    /// Only this package, with or without the leading `hearth-`; may be repeated
    #[arg(short, long = "package", value_name = "PACKAGE")]
    packages: Vec<String>,
}

/// A package of the workspace.
struct Package {
    name: String,
    has_library: bool,
    /// It has tests that run in the browser: it depends on wasm-bindgen-test for them.
    tests_in_browser: bool,
}

pub fn test(options: &Options) -> Result<ExitCode> {
    let packages = selected(workspace()?, &options.packages)?;
    let mut steps = Steps::default();
    if options.real {
        steps.attempt("the real model", || model::fetch().map(|_| Count::default()));
    }
    steps.run("format", cargo().args(["fmt", "--all", "--check"]));
    if !options.browser_only {
        native(&mut steps, &packages, options.real);
    }
    if !options.native_only {
        in_browser(&mut steps, &packages);
        if packages.iter().any(|package| package.name == WEB) {
            page(&mut steps, options.real);
        }
    }
    match hearth_testing::real_model() {
        _ if options.browser_only => {}
        Some(model) if options.real => println!("\nThe real model: {}", model.display()),
        Some(model) => println!(
            "\nThe real model, everyday checks only (--real runs them all): {}",
            model.display()
        ),
        None => println!(
            "\nThe real model is not on this machine, so its checks did not run: \
             `cargo xtask test --real` fetches it"
        ),
    }
    Ok(steps.finish())
}

fn native(steps: &mut Steps, packages: &[Package], real: bool) {
    let native = packages.iter().filter(|package| package.name != WEB);
    let all = flags(native.clone());
    let libraries = flags(native.filter(|package| package.has_library));
    if all.is_empty() {
        return;
    }
    let ready = steps
        .attempt("a GPU for native tests", || tools::for_native_tests().map(|()| Count::default()));
    steps.run("clippy", cargo().args(["clippy", "--all-targets"]).args(&all).args(DENY_WARNINGS));
    if !ready {
        return;
    }
    let tests = |arguments: &[&str], packages: &[String]| {
        let mut cargo = cargo();
        cargo.args(arguments).args(packages).env("HEARTH_REAL", if real { "1" } else { "0" });
        cargo
    };
    let nextest = cargo().args(["nextest", "--version"]).output();
    let runner: &[&str] = if nextest.is_ok_and(|output| output.status.success()) {
        &["nextest", "run", "--no-fail-fast", "--no-tests=pass"]
    } else {
        &["test", "--all-targets", "--no-fail-fast"]
    };
    steps.run("native tests", &mut tests(runner, &all));
    if !libraries.is_empty() {
        let runner = ["test", "--doc", "--no-fail-fast"];
        steps.run("documentation tests", &mut tests(&runner, &libraries));
    }
}

fn in_browser(steps: &mut Steps, packages: &[Package]) {
    // the two front ends beside the page are native programs
    let compiled = flags(packages.iter().filter(|p| p.has_library && p.name != "xtask"));
    let tested = flags(packages.iter().filter(|package| package.tests_in_browser));
    if compiled.is_empty() {
        return;
    }
    let mut path = None;
    let ready = steps.attempt("the browser and its tools", || {
        path = Some(tools::for_browser_tests()?);
        Ok(Count::default())
    });
    let Some(path) = path.filter(|_| ready) else { return };
    let cargo = || {
        let mut cargo = cargo();
        cargo.env("PATH", &path);
        cargo
    };
    // in the page's profile, whose macros and build scripts the page's build uses again
    steps.run(
        "clippy for wasm32",
        cargo()
            .args(["clippy", "--profile", "wasm"])
            .args(WASM)
            .args(&compiled)
            .args(DENY_WARNINGS),
    );
    if !tested.is_empty() {
        let runner = ["test", "--tests", "--no-fail-fast"];
        steps.run("tests in the browser", cargo().args(runner).args(WASM).args(&tested));
    }
}

/// Builds the page as it is released and walks through it in headless Chromium.
fn page(steps: &mut Steps, real: bool) {
    let requests = std::env::temp_dir().join(format!("hearth-requests-{}", std::process::id()));
    let mut addresses = Vec::new();
    let ready = steps.attempt("the page, built and served", || {
        let page = serve::build(&tools::for_page()?)?;
        // a second one shows what it is that keeps requests in
        for without_policy in [false, true] {
            let mut models = vec![serve::Offer::fixture()?];
            if real {
                models.push(serve::Offer::real()?);
            }
            let plan = serve::Plan {
                models,
                // where the tests' own hub of models is
                weight_hosts: vec!["http://localhost:*".to_owned()],
                without_policy,
                log: (!without_policy).then(|| requests.clone()),
            };
            addresses.push(serve::start(&page, plan, "127.0.0.1", 0)?);
        }
        Ok(Count::default())
    });
    if ready {
        let mut node = Command::new("node");
        node.args(["--test", "--test-reporter=tap"])
            .args(end_to_end_tests())
            .current_dir(root().join("web/e2e"))
            .env("HEARTH_URL", &addresses[0])
            .env("HEARTH_URL_WITHOUT_POLICY", &addresses[1])
            .env("HEARTH_REQUESTS", &requests)
            .env("HEARTH_REAL", if real { "1" } else { "0" })
            .envs(hearth_testing::real_model().map(|model| ("HEARTH_MODEL", model)))
            .env("CHROMIUM", tools::browser().unwrap_or_default());
        steps.run("the page in the browser", &mut node);
        // gone or not, the tests have been run
        let _ = std::fs::remove_file(&requests);
    }
}

/// Named one by one: what `node --test` finds by itself differs between its versions.
fn end_to_end_tests() -> Vec<String> {
    let folder = std::fs::read_dir(root().join("web/e2e")).into_iter().flatten();
    let mut tests: Vec<String> = folder
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".test.mjs"))
        .collect();
    tests.sort();
    tests
}

const DENY_WARNINGS: [&str; 3] = ["--", "-D", "warnings"];

fn flags<'a>(packages: impl Iterator<Item = &'a Package>) -> Vec<String> {
    packages.flat_map(|package| ["--package".to_owned(), package.name.clone()]).collect()
}

fn workspace() -> Result<Vec<Package>> {
    let output = cargo().args(["metadata", "--no-deps", "--format-version=1"]).output()?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    Ok(packages.iter().map(package).collect())
}

fn package(metadata: &Value) -> Package {
    let list = |name: &str| metadata[name].as_array().into_iter().flatten();
    Package {
        name: metadata["name"].as_str().unwrap_or_default().to_owned(),
        has_library: list("targets").any(|target| target["kind"][0] == "lib"),
        tests_in_browser: list("dependencies").any(|dependency| {
            dependency["name"] == "wasm-bindgen-test" && dependency["kind"] == "dev"
        }),
    }
}

/// The packages that the wishes name; all of them without a wish.
fn selected(packages: Vec<Package>, wishes: &[String]) -> Result<Vec<Package>> {
    let means = |wish: &str, package: &Package| {
        package.name == wish || package.name.strip_prefix("hearth-") == Some(wish)
    };
    if let Some(wish) = wishes.iter().find(|wish| !packages.iter().any(|p| means(wish, p))) {
        let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
        bail!("no package '{wish}'; there are {}", names.join(", "));
    }
    let wished = |package: &Package| wishes.is_empty() || wishes.iter().any(|w| means(w, package));
    Ok(packages.into_iter().filter(wished).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_selected_by_either_name() {
        let all = || workspace().unwrap();
        let names = |wishes: &[&str]| -> Vec<String> {
            let wishes: Vec<String> = wishes.iter().map(|wish| (*wish).to_owned()).collect();
            selected(all(), &wishes).unwrap().into_iter().map(|package| package.name).collect()
        };
        assert_eq!(names(&["kernels"]), ["hearth-kernels"]);
        assert_eq!(names(&["hearth-kernels", "xtask"]).len(), 2);
        assert_eq!(names(&[]).len(), all().len());
        assert!(selected(all(), &["kernel".to_owned()]).is_err());
    }

    #[test]
    fn the_kernels_are_tested_in_the_browser() {
        let tested = |name: &str| {
            workspace()
                .unwrap()
                .iter()
                .any(|package| package.name == name && package.tests_in_browser)
        };
        assert!(tested("hearth-kernels") && tested("hearth-testing"));
        assert!(!tested("xtask"));
    }
}
