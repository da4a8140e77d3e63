//! The layout's own rules, as a test: what the compiler does not hold. Each rule is itself tried on made-up input that
//! breaks it, because a rule that cannot fail is none.

#[path = "tidy/house.rs"]
mod house;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use std::fmt;
use std::path::{Path, PathBuf};

use source::Source;

/// Something that breaks a rule.
#[derive(Debug)]
struct Complaint {
    path: String,
    line: usize,
    reason: String,
}

impl Complaint {
    fn new(source: &Source, line: usize, reason: impl Into<String>) -> Self {
        Self { path: source.path.clone(), line, reason: reason.into() }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.reason)
    }
}

/// The workspace's folder.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/mainstay lies in the workspace")
}

/// Every file below a folder whose name ends so, hidden and built ones left out, in order.
fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            files(&path, ending, found);
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

/// The texts of such files with their paths from the workspace's folder.
fn texts(ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    files(root(), ending, &mut found);
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let path = path.strip_prefix(root()).expect("it lies below").to_string_lossy().into_owned();
        (path, text)
    };
    found.into_iter().map(read).collect()
}

fn assert_none(complaints: &[Complaint]) {
    let lines: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} complaints:\n{}\n", lines.len(), lines.join("\n"));
}

#[test]
fn every_file_of_rust_keeps_the_rules() {
    let mut complaints = Vec::new();
    let texts = texts(".rs");
    assert!(texts.len() > 20, "the sources were found: {}", texts.len());
    for (path, text) in texts {
        rules::check(&Source::new(path, text), &mut complaints);
    }
    assert_none(&complaints);
}

#[test]
fn every_module_imports_only_what_it_may() {
    let mut complaints = Vec::new();
    for (path, text) in texts(".rs") {
        imports::check(&Source::new(path, text), &mut complaints);
    }
    assert_none(&complaints);
}

#[test]
fn every_dependency_is_allowed_and_has_its_reason() {
    let mut complaints = Vec::new();
    let manifests = texts("Cargo.toml");
    assert!(manifests.len() >= 5, "the manifests were found: {}", manifests.len());
    for (path, text) in manifests {
        house::manifest(&path, &text, &mut complaints);
    }
    assert_none(&complaints);
}

#[test]
fn the_documents_are_there_and_name_every_subcommand_and_every_file() {
    let mut complaints = Vec::new();
    house::documents(root(), &mut complaints);
    let sources: Vec<Source> = texts(".rs").into_iter().map(|(path, text)| Source::new(path, text)).collect();
    house::documents_are_complete(root(), &sources, &mut complaints);
    house::tests_are_there(root(), &sources, &mut complaints);
    assert_none(&complaints);
}
