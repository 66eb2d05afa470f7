//! `hearth serve`: what it offers, what it says, and what it refuses.
#![allow(clippy::unwrap_used, reason = "tests and what they call")]

#[path = "../build.rs"]
#[allow(dead_code, clippy::print_stdout, reason = "its main is for cargo")]
mod build_script;
mod command;
mod serving;

use std::fs;
use std::process::Command;

use command::{fixture, golden, refused, run};
use serde_json::Value;
use serving::{Serving, folder, get};

#[test]
fn models_of_the_cache_folder_and_named_ones_are_offered() {
    let folder = folder("models");
    fs::create_dir_all(folder.join("hearth")).unwrap();
    let tiny = fixture("../web/fixtures/tiny-gemma3.gguf");
    fs::copy(&tiny, folder.join("hearth/kept model.gguf")).unwrap();
    fs::write(folder.join("hearth/notes.txt"), "no model").unwrap();
    fs::write(folder.join("hearth/broken.gguf"), "no model").unwrap();
    let log = folder.join("requests");
    let twin = format!("{}/model", golden(1));
    let args = ["--model", &tiny, "--model", &twin, "--log", log.to_str().unwrap()];
    let serving = Serving::start(&folder, &args);
    let names: Vec<&str> =
        serving.report["models"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(names, ["tiny-gemma3", "model", "kept model"]);
    assert_eq!(serving.report["fingerprint"], Value::Null);
    let mut stream = serving.connect();
    let (head, list) = get(&mut stream, "/models/index.json", "");
    assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
    let list: Value = serde_json::from_slice(&list).unwrap();
    let mut asked = vec!["/models/index.json".to_owned()];
    for model in list.as_array().unwrap() {
        for file in model["files"].as_array().unwrap() {
            let url = file["url"].as_str().unwrap().trim_start_matches('.').to_owned();
            let (head, body) = get(&mut stream, &url, "");
            assert!(head.starts_with("http/1.1 200 "), "{url}: {head}");
            assert_eq!(file["bytes"].as_u64().unwrap(), body.len() as u64, "{url}");
            asked.push(url);
        }
    }
    // a model of several files has all of them
    let files = |at: usize| -> Vec<&str> {
        list[at]["files"].as_array().unwrap().iter().filter_map(|f| f["name"].as_str()).collect()
    };
    assert_eq!(files(0), ["tiny-gemma3.gguf"]);
    for name in ["model.safetensors", "config.json"] {
        assert!(files(1).contains(&name), "{:?}", files(1));
    }
    let lines: Vec<String> = asked.iter().map(|url| format!("GET {url}")).collect();
    assert_eq!(fs::read_to_string(&log).unwrap().lines().collect::<Vec<_>>(), lines);
    drop(serving);
    let serving = Serving::start(&folder, &["--no-cache"]);
    assert_eq!(serving.report["models"], serde_json::json!([]));
    drop(serving);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_cannot_be_served_is_refused_in_words() {
    let folder = folder("refused");
    let page = serving::page(&folder).display().to_string();
    let serve = |args: &[&str], words: &[&str]| {
        let all = [&["serve", "--no-open", "--no-cache", "--port", "0"], args].concat();
        refused(&all, words);
    };
    serve(&["--page", "no/such/folder"], &["no/such/folder", "there is no built page"]);
    serve(&["--page", &page, "--model", "gone.gguf"], &["gone.gguf", "no such file"]);
    let table = fixture("../web/fixtures/moods.csv");
    serve(&["--page", &page, "--model", &table], &["moods.csv"]);
    let (certificate, key) = (folder.join("a.pem"), folder.join("b.pem"));
    let pem = ["--certificate", certificate.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let lan = ["--page", &page, "--lan", "--host", "127.0.0.1"];
    serve(&[&lan[..], &pem].concat(), &["a.pem", "expected a certificate in PEM form"]);
    serve(&[&["--page", &page], &pem[..]].concat(), &["--lan"]);
    serve(&["--page", &page, "--host", "192.0.2.1"], &["cannot listen on 192.0.2.1"]);
    fs::remove_dir_all(&folder).unwrap();
}

/// What `cargo xtask dist` has the build script do: a build with a page takes too long for a test.
#[test]
fn the_build_puts_in_every_file_once_and_packed_where_it_can() {
    let folder = folder("embedded");
    let page = serving::page(&folder);
    fs::create_dir_all(page.join("samples")).unwrap();
    for name in ["app.js", "app.js.gz", "app.js.br", "samples/a.csv"] {
        fs::write(page.join(name), name).unwrap();
    }
    let text = build_script::embedded(&page).unwrap();
    let names: Vec<&str> =
        text.split("name: \"").skip(1).filter_map(|t| t.split('"').next()).collect();
    assert_eq!(names, ["app.js.gz", "index.html", "samples/a.csv"]);
    assert!(text.contains("include_bytes!(\"") && text.starts_with("Some((&["), "{text}");
    fs::remove_file(page.join("index.html")).unwrap();
    let error = build_script::embedded(&page).unwrap_err().to_string();
    assert!(error.contains("no index.html"), "{error}");
    fs::remove_dir_all(&folder).unwrap();
}

/// Of a program built without the page; `cargo xtask dist` builds one with it.
#[test]
fn a_program_without_the_page_says_what_to_do() {
    if option_env!("HEARTH_PAGE").is_none_or(str::is_empty) {
        refused(&["serve", "--no-open"], &["built without the page", "--page", "cargo xtask dist"]);
    }
}

#[test]
fn the_address_and_a_qr_code_are_printed() {
    let folder = folder("printed");
    let page = serving::page(&folder).display().to_string();
    // a port that is taken
    let serving = Serving::start(&folder, &[]);
    let port = serving.host().split(':').nth(1).unwrap().to_owned();
    let ran = run(&["serve", "--no-open", "--no-cache", "--page", &page, "--port", &port]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    assert!(ran.err.contains(&format!("port {port}")) && ran.err.contains("0 takes any free one"));
    drop(serving);
    let mut hearth = Command::new(env!("CARGO_BIN_EXE_hearth"));
    hearth.args(["serve", "--lan", "--host", "127.0.0.1", "--no-cache", "--port", "0", "--page"]);
    let mut child = hearth.arg(&page).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap());
    while !said.contains("(Ctrl-C ends it)\n") {
        assert!(std::io::BufRead::read_line(&mut lines, &mut said).unwrap() > 0, "{said}");
    }
    assert!(said.contains("fingerprint is ") && said.contains("browsers warn"), "{said}");
    assert!(said.contains("Hearth is at https://127.0.0.1:"), "{said}");
    assert!(said.lines().filter(|line| line.contains('█')).count() > 10, "{said}");
    if cfg!(unix) {
        let process = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &process]).status().unwrap().success());
    } else {
        child.kill().unwrap();
    }
    let code = child.wait().unwrap().code();
    assert!(code == Some(0) || !cfg!(unix), "{code:?}");
    fs::remove_dir_all(&folder).unwrap();
}
