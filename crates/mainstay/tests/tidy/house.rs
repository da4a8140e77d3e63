//! Rules about the files that are not Rust: manifests, documents, licences.

use std::path::Path;
use std::process::Command;

use super::Complaint;
use super::source::Source;

/// All that the judge may depend on directly; the whole list is in xtask/src/purity.rs.
const OF_THE_JUDGE: &[&str] = &["serde", "thiserror"];

/// Files that a newcomer looks for.
const DOCUMENTS: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "deny.toml",
    "docs/lexicon.md",
    "docs/config-reference.md",
];

/// Dependencies of a manifest with their lines, and whether a comment says what for.
fn dependencies<'a>(manifest: &'a str, section: &str) -> Vec<(usize, &'a str, bool)> {
    let mut found = Vec::new();
    let (mut inside, mut reasoned) = (false, false);
    for (number, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            (inside, reasoned) = (line == format!("[{section}]"), false);
        } else if line.is_empty() {
            reasoned = false;
        } else if line.starts_with('#') {
            reasoned = true;
        } else if let (true, Some(name)) = (inside, line.split(['.', '=', ' ']).next()) {
            found.push((number + 1, name, reasoned));
        }
    }
    found
}

/// Every direct dependency has a comment above it, alone or with its group; our own crates explain themselves.
pub fn manifest(path: &str, text: &str, complaints: &mut Vec<Complaint>) {
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for (line, name, reasoned) in dependencies(text, section) {
            if !reasoned && !name.starts_with("mainstay") {
                let reason = format!("the dependency `{name}` has no comment that says what it is for");
                complaints.push(Complaint { path: path.into(), line, reason });
            }
            if path == "crates/mainstay-model/Cargo.toml"
                && section == "dependencies"
                && !OF_THE_JUDGE.contains(&name)
            {
                let reason = format!(
                    "the judge may not depend on `{name}`: it knows no clock, socket, file, thread or dice"
                );
                complaints.push(Complaint { path: path.into(), line, reason });
            }
            let sideways = path == "crates/mainstay-proxy/Cargo.toml" && name == "mainstay";
            if sideways {
                let reason = "the data plane knows the judge's types and nothing of the program".into();
                complaints.push(Complaint { path: path.into(), line, reason });
            }
        }
    }
}

/// Tests that docs/complaints.md names, and that nobody wrote, or that have another name by now.
pub fn tests_are_there(root: &Path, sources: &[Source], complaints: &mut Vec<Complaint>) {
    const PAGE: &str = "docs/complaints.md";
    let page = std::fs::read_to_string(root.join(PAGE)).unwrap_or_default();
    let named = named_tests(&page);
    if named.is_empty() {
        complaints.push(Complaint { path: PAGE.into(), line: 1, reason: "it names no tests".into() });
    }
    for (line, name) in named {
        let function = format!("fn {name}(");
        if !sources.iter().any(|source| source.text.contains(&function)) {
            complaints.push(Complaint {
                path: PAGE.into(),
                line,
                reason: format!("there is no test `{name}`"),
            });
        }
    }
}

/// The names in the last column of a table, with their lines.
fn named_tests(page: &str) -> Vec<(usize, &str)> {
    let rows = page.lines().enumerate().filter(|(_, line)| line.starts_with("| "));
    let last = rows.filter_map(|(number, line)| {
        Some((number + 1, line.trim_end_matches([' ', '|']).rsplit(" | ").next()?))
    });
    last.flat_map(|(line, cell)| cell.split('`').skip(1).step_by(2).map(move |name| (line, name))).collect()
}

/// The documents are there and not empty.
pub fn documents(root: &Path, complaints: &mut Vec<Complaint>) {
    for name in DOCUMENTS {
        if std::fs::read_to_string(root.join(name)).is_ok_and(|text| !text.trim().is_empty()) {
            continue;
        }
        complaints.push(Complaint {
            path: (*name).into(),
            line: 1,
            reason: "a newcomer looks for this file".into(),
        });
    }
}

/// The README names every subcommand, and the map of the code every file.
pub fn documents_are_complete(root: &Path, sources: &[Source], complaints: &mut Vec<Complaint>) {
    let help = Command::new(env!("CARGO_BIN_EXE_mainstay")).arg("--help").output().expect("the program runs");
    let commands = subcommands(&String::from_utf8_lossy(&help.stdout));
    assert!(commands.len() >= 2, "`mainstay --help` names its commands: {help:?}");
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap_or_default();
    let commands: Vec<(String, String)> =
        commands.into_iter().map(|name| (name, "is a subcommand".into())).collect();
    complaints.extend(not_mentioned("README.md", &readme, &commands));
    let map = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap_or_default();
    let files = sources.iter().filter(|source| !source.is_for_tests());
    let files = files
        .filter_map(|s| Some((mapped_name(&s.path)?, format!("is {}: {}", s.path, first_sentence(&s.text)))));
    complaints.extend(not_mentioned("ARCHITECTURE.md", &map, &files.collect::<Vec<_>>()));
}

/// The subcommands that `--help` of clap lists.
fn subcommands(help: &str) -> Vec<String> {
    let commands = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let commands = commands.take_while(|line| line.starts_with("  "));
    let names =
        commands.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// How the code map names a source file: `email.rs`, or `alert/` for the file that stands for its folder.
fn mapped_name(path: &str) -> Option<String> {
    let (_, inside) = path.split_once("/src/")?;
    let (folders, file) = inside.rsplit_once('/').unwrap_or(("", inside));
    let folder = folders.rsplit('/').next().unwrap_or_default();
    match file {
        "mod.rs" => Some(format!("{folder}/")),
        _ => Some(file.to_owned()),
    }
}

/// The sentence that a file opens with.
fn first_sentence(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_start_matches("//! ")
}

/// A complaint for each name (with what it is) that a text does not hold as a word of its own.
fn not_mentioned(path: &str, text: &str, names: &[(String, String)]) -> Vec<Complaint> {
    let part_of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let missing = names.iter().filter(|(name, _)| {
        !text.match_indices(name.as_str()).any(|(at, _)| {
            let ends = name.ends_with('/') || !text[at + name.len()..].starts_with(part_of_name);
            ends && !text[..at].ends_with(part_of_name)
        })
    });
    let complaint = |(name, what): &(String, String)| {
        let reason = format!("a reader looks here for `{name}`, which {what}");
        Complaint { path: path.into(), line: 1, reason }
    };
    missing.map(complaint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        manifest(path, text, &mut found);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_dependency_without_its_reason_is_named() {
        let text = "[dependencies]\n# Why.\na = \"1\"\nb = { version = \"1\" }\n\nc.workspace = true\nmainstay-model = { path = \"x\" }\n";
        let found = complaints("crates/x/Cargo.toml", text);
        assert_eq!(
            found,
            ["crates/x/Cargo.toml:6: the dependency `c` has no comment that says what it is for"]
        );
    }

    #[test]
    fn a_dependency_of_the_judge_that_is_not_allowed_is_named() {
        let text = "[dependencies]\n# Why.\nserde = \"1\"\n# Why.\ntokio = \"1\"\n[dev-dependencies]\n# Why.\nproptest = \"1\"\n";
        let found = complaints("crates/mainstay-model/Cargo.toml", text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("`tokio`"), "{found:?}");
        assert!(complaints("crates/other/Cargo.toml", text).is_empty());
    }

    #[test]
    fn a_data_plane_that_depends_on_the_program_is_named() {
        let found = complaints(
            "crates/mainstay-proxy/Cargo.toml",
            "[dependencies]\nmainstay = { path = \"../mainstay\" }\n",
        );
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn a_missing_or_empty_document_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("docs")).expect("a folder");
        for name in DOCUMENTS {
            std::fs::write(folder.path().join(name), "text").expect("a file");
        }
        let mut found = Vec::new();
        documents(folder.path(), &mut found);
        assert!(found.is_empty());
        std::fs::write(folder.path().join("README.md"), " \n").expect("a file");
        std::fs::remove_file(folder.path().join("docs/lexicon.md")).expect("it is there");
        documents(folder.path(), &mut found);
        assert_eq!(
            found.iter().map(|c| c.path.as_str()).collect::<Vec<_>>(),
            ["README.md", "docs/lexicon.md"]
        );
    }

    #[test]
    fn subcommands_are_read_from_the_help() {
        let help = "Says.\n\nUsage: x [COMMAND]\n\nCommands:\n  run           Runs\n                more\n  check-config  Checks\n  help          Print\n\nOptions:\n  -h  x\n";
        assert_eq!(subcommands(help), ["run", "check-config"]);
    }

    #[test]
    fn what_a_document_does_not_mention_is_named() {
        let names = ["run", "why", "alert/"].map(|name| (name.to_owned(), "is something".to_owned()));
        let found = not_mentioned("README.md", "`mainstay run`, whyever, `alert/email.rs`", &names);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].reason.contains("`why`"), "{found:?}");
    }

    #[test]
    fn a_test_that_is_named_and_not_there_is_a_complaint() {
        let page = "# `x`\n\n| a | `b` | held by |\n| --- | --- | --- |\n| it breaks | `mainstay why` | `it_holds`, `it_stands` |\n";
        assert_eq!(named_tests(page), [(5, "it_holds"), (5, "it_stands")]);
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("docs")).expect("a folder");
        std::fs::write(folder.path().join("docs/complaints.md"), page).expect("a file");
        let sources = [Source::new("a.rs".to_owned(), "#[test]\nfn it_holds() {}\n".to_owned())];
        let mut found = Vec::new();
        tests_are_there(folder.path(), &sources, &mut found);
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["docs/complaints.md:5: there is no test `it_stands`"]
        );
    }

    #[test]
    fn the_code_map_names_files_and_folders() {
        assert_eq!(mapped_name("crates/x/src/alert/email.rs").as_deref(), Some("email.rs"));
        assert_eq!(mapped_name("crates/x/src/alert/mod.rs").as_deref(), Some("alert/"));
        assert_eq!(mapped_name("crates/x/src/main.rs").as_deref(), Some("main.rs"));
        assert_eq!(mapped_name("crates/x/tests/a.rs"), None);
    }
}
