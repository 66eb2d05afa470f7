//! Completions and manual pages follow the commands.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod command;

use std::collections::BTreeSet;
use std::process::Command;

use command::{folder, refused, run};

/// The commands that `hearth --help` lists.
fn commands() -> BTreeSet<String> {
    let help = run(&["--help"]).out;
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    let names: BTreeSet<String> = names.filter(|name| *name != "help").map(str::to_owned).collect();
    assert!(names.contains("train") && names.contains("merge-predictions"), "{names:?}");
    names
}

#[test]
fn every_shell_completes_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = run(&["completions", shell]);
        assert_eq!(ran.code, Some(0), "{shell}: {}", ran.err);
        for command in commands() {
            assert!(ran.out.contains(&command), "{shell}: {command}");
        }
        // fish names options without their dashes
        assert!(ran.out.contains("question"), "{shell} completes no options");
    }
    refused(&["completions", "cmd.exe"], &["cmd.exe", "possible values", "powershell"]);
}

#[test]
fn bash_takes_its_completions() {
    let script = run(&["completions", "bash"]).out;
    let ask = "COMP_WORDS=(hearth merge-pre); COMP_CWORD=1; _hearth hearth merge-pre hearth; printf '%s ' \"${COMPREPLY[@]}\"";
    let Ok(bash) = Command::new("bash").arg("-c").arg(script + ask).output() else {
        return hearth_testing::skipped("bash is not on this machine");
    };
    assert!(bash.status.success(), "{}", String::from_utf8_lossy(&bash.stderr));
    assert_eq!(String::from_utf8_lossy(&bash.stdout), "merge-predictions ");
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = folder("manual").join("man1");
    assert_eq!(run(&["man", &folder.display().to_string()]).code, Some(0));
    for command in commands() {
        let path = folder.join(format!("hearth-{command}.1"));
        let page = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{command}: {e}"));
        assert!(page.contains(".TH") && page.contains(".SH OPTIONS"), "{command}: {page}");
    }
    let page = std::fs::read_to_string(folder.join("hearth-train.1")).unwrap();
    assert!(page.contains("question"), "{page}");
    // a file in the way
    let file = folder.join("hearth.1").display().to_string();
    refused(&["man", &file], &["cannot write manual pages into", &file]);
}
