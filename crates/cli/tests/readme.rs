//! The commands that the README and docs/serve.md show are commands that there are.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod command;

use command::{fixture, hearth};

/// With `--help` after them the commands run nothing, but an unknown option is still an error.
#[test]
fn the_readmes_hearth_commands_exist() {
    for document in ["README.md", "docs/serve.md"] {
        check_commands(document);
    }
}

fn check_commands(document: &str) {
    let text = std::fs::read_to_string(fixture(&format!("../{document}"))).unwrap();
    let commands = hearth_testing::commands_in(&text);
    let mut found = 0;
    for line in commands.iter().filter_map(|line| line.strip_prefix("hearth ")) {
        found += 1;
        let output = hearth().args(words(line)).arg("--help").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("Usage: hearth "),
            "{document}: `hearth {line}`: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert!(found > 0, "{document} shows no `hearth` command");
}

/// The words of a command line; those in double quotes stay together.
fn words(line: &str) -> Vec<&str> {
    let pieces = line.split('"').enumerate();
    pieces.fold(Vec::new(), |mut words, (n, piece)| {
        if n % 2 == 1 {
            words.push(piece);
        } else {
            words.extend(piece.split_whitespace());
        }
        words
    })
}
