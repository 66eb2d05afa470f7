//! `cargo xtask test`: from a fresh clone to every test passed, the browser's included.

use crate::steps::Steps;
use crate::{cargo, dist, lavapipe, model, npm, page, root, serve, site, tools};
use anyhow::{Context, Result, bail};
use hearth_serve::{Plan, Served};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

const WASM: [&str; 2] = ["--target", "wasm32-unknown-unknown"];
const WEB: &str = "hearth-web";
/// Libraries that no browser runs.
const NATIVE_ONLY: [&str; 2] = ["xtask", "hearth-serve"];
/// Where the page is in the site of the tests.
const SITE_BASE: &str = "some/where/";
/// Browsers at a time: one waits for its GPU process, or compiles, while another computes.
const BROWSERS: usize = 2;
/// The page's tests that run in Firefox too: the shortest way through the page, resuming, what leaves the tab, what
/// is stored, and refusals.
const IN_FIREFOX: [&str; 8] = [
    "privacy.test.mjs",
    "resume.test.mjs",
    "smaller.test.mjs",
    "start.test.mjs",
    "storage.test.mjs",
    "tables.test.mjs",
    "way.test.mjs",
    "wrong_files.test.mjs",
];
/// What starts the native tests' programs, read by tests that start such a program themselves.
const RUNNER: &str = "HEARTH_RUNNER";
/// A folder in which tests that could not run leave a line each (`hearth_testing::skip`).
const SKIPPED: &str = "HEARTH_SKIPPED";

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
    /// Only the page's end-to-end tests
    #[arg(long, conflicts_with_all = ["native_only", "browser_only", "packages"])]
    page_only: bool,
    /// Walk through the page in Firefox too; on Debian it is installed
    #[arg(long)]
    firefox: bool,
    /// Test the page as it was built last (`trunk build --release`), without building it again
    #[arg(long)]
    built: bool,
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
        steps.attempt("the real model", || model::fetch().map(|_| ()));
    }
    let skipped = std::env::temp_dir().join(format!("hearth-skipped-{}", std::process::id()));
    std::fs::create_dir_all(&skipped).context("no folder for temporary files")?;
    if !options.page_only {
        steps.run("format", cargo().args(["fmt", "--all", "--check"]));
        if !options.browser_only {
            native(&mut steps, &packages, options.real, &skipped);
        }
        if !options.native_only {
            in_browser(&mut steps, &packages);
        }
    }
    if !options.native_only && packages.iter().any(|package| package.name == WEB) {
        let mut native = flags(packages.iter().filter(|package| package.name != WEB));
        if native.is_empty() {
            native = ["--package", "hearth-cli"].map(str::to_owned).into();
        }
        page(&mut steps, &native, options);
    }
    let lines = lines_in(&skipped)?;
    std::fs::remove_dir_all(&skipped).context("cannot remove a temporary folder")?;
    if !(options.browser_only || options.page_only) && hearth_testing::find_real_model().is_none() {
        println!("\nThe real model is not on this machine: `cargo xtask test --real` fetches it");
    }
    Ok(steps.finish(&lines))
}

/// The lines that tests left in a folder, each once.
fn lines_in(folder: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder).context("cannot list what was skipped")? {
        let text =
            std::fs::read_to_string(entry?.path()).context("cannot read what was skipped")?;
        lines.extend(text.lines().map(str::to_owned));
    }
    lines.sort();
    lines.dedup();
    Ok(lines)
}

fn native(steps: &mut Steps, packages: &[Package], real: bool, skipped: &Path) {
    let native = packages.iter().filter(|package| package.name != WEB);
    let all = flags(native.clone());
    let libraries = flags(native.clone().filter(|package| package.has_library));
    if all.is_empty() {
        return;
    }
    let mut runner = None;
    let ready = steps.attempt("a GPU for native tests", || {
        runner = lavapipe::runner();
        if runner.is_some() { Ok(()) } else { tools::for_native_tests() }
    });
    steps.run("clippy", cargo().args(["clippy", "--all-targets"]).args(&all).args(DENY_WARNINGS));
    if !ready {
        return;
    }
    let tests = |arguments: &[&str], packages: &[String]| {
        let mut cargo = cargo();
        cargo.args(arguments).args(packages);
        cargo.env("HEARTH_REAL", if real { "1" } else { "0" }).env(SKIPPED, skipped);
        if let Some(runner) = &runner {
            cargo.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", runner).env(RUNNER, runner);
        }
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
        // with the programs too, although they have no such tests: other packages mean other features of the
        // dependencies, which would be built again
        let whole = native.count() + 1 == workspace().map_or(0, |all| all.len());
        let all = ["--workspace", "--exclude", WEB].map(str::to_owned);
        let packages = if whole { &all[..] } else { &libraries };
        steps.run("documentation tests", &mut tests(&runner, packages));
    }
}

fn in_browser(steps: &mut Steps, packages: &[Package]) {
    let in_browser = |name: &str| !NATIVE_ONLY.contains(&name);
    let compiled = flags(packages.iter().filter(|p| p.has_library && in_browser(&p.name)));
    let tested = flags(packages.iter().filter(|package| package.tests_in_browser));
    if compiled.is_empty() {
        return;
    }
    let mut path = None;
    let ready = steps.attempt("the browser and its tools", || {
        path = Some(tools::for_browser_tests()?);
        Ok(())
    });
    let Some(path) = path.filter(|_| ready) else { return };
    let mut clippy = cargo();
    clippy.arg("clippy").args(WASM).args(&compiled).args(DENY_WARNINGS);
    steps.run("clippy for wasm32", clippy.env("PATH", &path));
    if tested.is_empty() {
        return;
    }
    let mut programs = Vec::new();
    let built = steps.attempt("tests for the browser, built", || {
        programs = browser_tests(&tested)?;
        Ok(())
    });
    if built {
        let commands = programs.iter().map(|program| browser_test(program, &path)).collect();
        steps.run_side_by_side("tests in the browser", commands, BROWSERS);
    }
}

/// Builds the tests that run in the browser. Returns their programs, the largest first.
fn browser_tests(packages: &[String]) -> Result<Vec<PathBuf>> {
    let mut build = cargo();
    build.args(["test", "--tests", "--no-run", "--message-format=json-render-diagnostics"]);
    build.args(WASM).args(packages).stderr(Stdio::inherit());
    let output = build.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the tests for the browser do not build: see above");
    }
    let mut programs = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: Value = serde_json::from_str(line)?;
        if message["profile"]["test"] == true
            && let Some(program) = message["executable"].as_str()
        {
            let program = PathBuf::from(program);
            let wasm = std::fs::read(&program).context("cannot read a test program")?;
            if has_browser_tests(&wasm) {
                programs.push(program);
            }
        }
    }
    programs.sort_by_key(|program| {
        std::cmp::Reverse(std::fs::metadata(program).map_or(0, |metadata| metadata.len()))
    });
    Ok(programs)
}

/// Whether a test program has a test for the browser: wasm-bindgen exports each by a name that begins so.
/// The rest are native test programs, compiled along.
fn has_browser_tests(wasm: &[u8]) -> bool {
    const EXPORT: &[u8] = b"__wbgt_";
    wasm.windows(EXPORT.len()).any(|window| window == EXPORT)
}

/// Runs a test program in headless Chromium, in a dedicated worker.
fn browser_test(program: &Path, path: &OsStr) -> Command {
    let mut test = Command::new("wasm-bindgen-test-runner");
    test.arg(program).current_dir(root()).env("PATH", path);
    // as .cargo/config.toml has it for `cargo test`
    test.env("WASM_BINDGEN_USE_DEDICATED_WORKER", "1");
    test.env("WASM_BINDGEN_TEST_WEBDRIVER_JSON", root().join("webdriver.json"));
    test.env("WASM_BINDGEN_TEST_TIMEOUT", "1800");
    test
}

/// Builds the page as it is released and walks through it in headless Chromium, and in Firefox.
fn page(steps: &mut Steps, native_packages: &[String], options: &Options) {
    let requests = std::env::temp_dir().join(format!("hearth-requests-{}", std::process::id()));
    let folder = std::env::temp_dir().join(format!("hearth-site-{}", std::process::id()));
    let package = std::env::temp_dir().join(format!("hearth-npm-{}", std::process::id()));
    let mut archive = PathBuf::new();
    let mut servers: Vec<Served> = Vec::new();
    let ready = steps.attempt("the page, built and served", || {
        tools::for_browser_tests()?;
        let path = tools::for_page()?;
        let page = if options.built { page::dist() } else { page::build(&path)? };
        // one for all tests; one whose requests are counted, for the test that does so alone; and one like a host of
        // plain files
        for (without_policy, log) in [(false, None), (false, Some(&requests)), (true, None)] {
            let mut models = vec![serve::fixture_model()?];
            if options.real {
                models.push(serve::real_model()?);
            }
            let plan = Plan {
                models,
                // where the tests' own hub of models is
                weight_hosts: vec!["http://localhost:*".to_owned()],
                without_policy,
                log: log.cloned(),
            };
            servers.push(serve::start(&page, plan, "127.0.0.1", 0)?);
        }
        // and one that is a folder
        site::write(&page, &folder, SITE_BASE, &[serve::fixture_model()?])?;
        archive = npm::write(&page, &package)?;
        Ok(())
    });
    let addresses: Vec<String> = servers.iter().map(serve::address).collect();
    let mut firefox = None;
    if options.firefox {
        steps.attempt("Firefox", || {
            firefox = Some(tools::for_firefox_tests()?);
            Ok(())
        });
    }
    let native = ready
        && steps.attempt("the command line, for comparison", || {
            // built with the native tests already, as they are built: alone it would have other features
            let mut build = cargo();
            build.args(["test", "--no-run", "--quiet", "--all-targets"]).args(native_packages);
            crate::run(&mut build)
        });
    let tests = |names: &[String]| {
        let mut node = Command::new("node");
        node.args(["--test", "--test-reporter=tap", &format!("--test-concurrency={BROWSERS}")])
            .args(names)
            .current_dir(root().join("web/e2e"))
            .env("HEARTH_URL", &addresses[0])
            .env("HEARTH_URL_COUNTED", &addresses[1])
            .env("HEARTH_URL_WITHOUT_POLICY", &addresses[2])
            .env("HEARTH_REQUESTS", &requests)
            .env("HEARTH_SITE", &folder)
            .env("HEARTH_SITE_BASE", SITE_BASE)
            .env("HEARTH_NPM", &archive)
            .env("HEARTH_REAL", if options.real { "1" } else { "0" })
            .env("HEARTH_BIN", dist::program_of("dev"))
            .envs(hearth_testing::find_real_model().map(|model| ("HEARTH_MODEL", model)))
            .env("CHROMIUM", tools::browser().unwrap_or_default());
        node
    };
    if native {
        steps.run("the page in Chromium", &mut tests(&end_to_end_tests()));
        let both = IN_FIREFOX.map(str::to_owned);
        if let Some(firefox) = firefox {
            steps.run(
                "the page in Firefox",
                tests(&both).env("HEARTH_BROWSER", "firefox").env("FIREFOX", firefox),
            );
        }
    }
    // gone or not, the tests have been run
    let _ = std::fs::remove_file(&requests);
    let _ = std::fs::remove_dir_all(&folder);
    let _ = std::fs::remove_dir_all(&package);
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

    #[test]
    fn tests_that_run_in_firefox_are_there() {
        let there = end_to_end_tests();
        for name in IN_FIREFOX {
            assert!(there.iter().any(|test| test == name), "{name}");
        }
    }

    #[test]
    fn programs_without_tests_for_the_browser_are_not_started() {
        assert!(has_browser_tests(b"\0asm..\x1b__wbgt_hearth::adds"));
        assert!(!has_browser_tests(b"\0asm..__wbg_new __wbindgen_describe"));
    }
}
