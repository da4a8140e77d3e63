//! Rules that every file of Rust is held to.

use super::Complaint;
use super::source::Source;

/// A file longer than this is several files. (600 is the aim; what reads well at 700 stays.)
const LINES_MAX: usize = 1000;

/// Where `unsafe` is allowed, with the reason.
const UNSAFE: &[(&str, &str)] = &[
    ("crates/mainstay/src/recovery/process.rs", "between fork and exec a child asks to die with its parent"),
    ("crates/mainstay/src/handover.rs", "descriptors arrive from another process as numbers"),
    ("crates/mainstay/src/recovery/held.rs", "a process that is not a child is waited for by its descriptor"),
    (
        "crates/mainstay/src/shutdown.rs",
        "tokio is promised that the descriptor of the config's watch stays open",
    ),
    ("crates/mainstay/src/recovery/backup/worker.rs", "a process lowers its own priority"),
];

/// Words that name no server here, each with what to say instead. A word is found inside names too: `UpstreamPool`.
const WRONG_WORDS: &[(&str, &str)] =
    &[("backend", "server"), ("upstream", "server"), ("node", "server, or Mainstay for a running Mainstay")];

/// Folders in which such a word means something else, with what.
const THEIR_WORDS: &[(&str, &str, &str)] = &[
    ("crates/mainstay/src/config/", "node", "one of the tree that a file of TOML is read into"),
    ("crates/mainstay/src/host/", "node", "node_exporter and the names of what it tells"),
    ("crates/mainstay/src/recovery/backup/", "node", "a file or folder in a snapshot, as rustic calls it"),
    ("crates/mainstay/src/recovery/backup/", "backend", "where a repository is kept, as rustic calls it"),
    ("xtask/src/bench/", "node", "a part of what Vigil watches, in its config"),
    ("xtask/src/test/", "node", "node_exporter, a package that the tests need"),
    ("crates/mainstay-proxy/src/", "node", "RFC 7239 calls so what stands in a Forwarded header"),
];

/// Where items without a user are allowed, with the reason.
const UNUSED: &[(&str, &str)] = &[
    ("crates/mainstay/src/web/api/schema.rs", "shapes that are described and never made"),
    ("crates/mainstay/src/web/api/release_schema.rs", "shapes that are described and never made"),
    ("crates/mainstay/src/web/api/monitor_schema.rs", "shapes that are described and never made"),
];

/// Checks one file.
pub fn check(source: &Source, complaints: &mut Vec<Complaint>) {
    opens_with_why(source, complaints);
    is_not_too_long(source, complaints);
    is_finished(source, complaints);
    is_safe(source, complaints);
    says_server(source, complaints);
}

fn opens_with_why(source: &Source, complaints: &mut Vec<Complaint>) {
    if !source.text.starts_with("//! ") {
        complaints.push(Complaint::new(source, 1, "a file opens with a `//!` that says why it exists"));
    }
}

fn is_not_too_long(source: &Source, complaints: &mut Vec<Complaint>) {
    let lines = source.text.lines().count();
    if lines > LINES_MAX {
        let reason = format!(
            "{lines} lines are more than one reason to exist; split it (at most {LINES_MAX}, aim for 600)"
        );
        complaints.push(Complaint::new(source, lines, reason));
    }
}

/// Nothing unfinished, ignored or dead.
fn is_finished(source: &Source, complaints: &mut Vec<Complaint>) {
    for (at, token) in source.tokens.iter().enumerate() {
        let reason = match token.text.as_str() {
            "todo" | "unimplemented" | "dbg" if source.stands(at + 1, &["!"]) => "finish it, or leave it out",
            "ignore" if at >= 2 && source.stands(at - 2, &["#", "["]) && !is_child(source, token.line) => {
                "a test that does not run tells nothing; mend it or delete it"
            }
            "dead_code" if !UNUSED.iter().any(|(path, _)| *path == source.path) && is_excused(source, at) => {
                "what is not used is deleted"
            }
            _ => continue,
        };
        complaints.push(Complaint::new(source, token.line, format!("`{}`: {reason}", token.text)));
    }
    for comment in &source.comments {
        for (offset, line) in comment.text.lines().enumerate() {
            let words =
                line.split(|c: char| !c.is_alphanumeric()).filter(|w| matches!(*w, "TODO" | "FIXME" | "XXX"));
            let reasoned = line.contains("TODO(") && !line.contains("TODO()");
            if words.count() > usize::from(reasoned) {
                let reason = "write `TODO(why it waits): what`, or do it now";
                complaints.push(Complaint::new(source, comment.line + offset, reason));
            }
        }
    }
}

/// Whether an ignored test is no test but the other process of one, which runs it by its name.
fn is_child(source: &Source, line: usize) -> bool {
    let text = source.text.lines().nth(line - 1).unwrap_or_default();
    let parent = text.split("\"the child of ").nth(1).and_then(|rest| rest.split('"').next());
    parent.is_some_and(|name| source.tokens.windows(2).any(|two| two[0].text == "fn" && two[1].text == name))
}

/// Whether a lint's name stands in `allow(…)` or `expect(…)`.
fn is_excused(source: &Source, at: usize) -> bool {
    let before = source.tokens[..at].iter().rev().map(|token| token.text.as_str());
    let mut words = before.skip_while(|text| !matches!(*text, "(" | "["));
    words.next() == Some("(") && matches!(words.next(), Some("allow" | "expect"))
}

fn is_safe(source: &Source, complaints: &mut Vec<Complaint>) {
    if UNSAFE.iter().any(|(path, _)| *path == source.path) {
        return;
    }
    for token in source.tokens.iter().filter(|token| token.text == "unsafe") {
        let reason = "`unsafe` only in the files that tests/tidy/rules.rs lists, each with its reason";
        complaints.push(Complaint::new(source, token.line, reason));
    }
}

/// One thing has one name: what serves is a server.
fn says_server(source: &Source, complaints: &mut Vec<Complaint>) {
    if !source.path.contains("/src/") || source.is_for_tests() {
        return;
    }
    for (number, line) in source.text.lines().enumerate() {
        for word in words(line) {
            let singular = word.strip_suffix('s').unwrap_or(&word);
            let Some((wrong, right)) = WRONG_WORDS.iter().find(|(wrong, _)| *wrong == singular) else {
                continue;
            };
            if !THEIR_WORDS
                .iter()
                .any(|(folder, theirs, _)| source.path.starts_with(folder) && theirs == wrong)
            {
                complaints.push(Complaint::new(
                    source,
                    number + 1,
                    format!("`{word}`: say {right} (docs/lexicon.md)"),
                ));
            }
        }
    }
}

/// The words of a line in lower case, those inside names apart: `HttpServer_v2` gives `http`, `server`, `v`.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in line.chars() {
        if !c.is_alphabetic() || (c.is_uppercase() && !before.is_uppercase()) {
            words.push(String::new());
        }
        if let (true, Some(word)) = (c.is_alphabetic(), words.last_mut()) {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The complaints about a file that is otherwise in order.
    fn complaints(path: &str, body: &str) -> Vec<String> {
        let mut found = Vec::new();
        check(&Source::new(path, format!("//! Why.\n{body}")), &mut found);
        found.iter().map(ToString::to_string).collect()
    }

    fn one(path: &str, body: &str, start: &str) {
        let found = complaints(path, body);
        assert_eq!(found.len(), 1, "{body:?}: {found:?}");
        assert!(found[0].starts_with(start), "{found:?} does not start with {start:?}");
    }

    const SRC: &str = "crates/x/src/y.rs";

    #[test]
    fn a_file_in_order_has_no_complaint() {
        let body =
            "/// Docs.\nfn f(unsafe_: u8, server: &str) -> &str { todo(server) } // TODO(waits for x): y\n";
        assert_eq!(complaints(SRC, body), Vec::<String>::new());
    }

    #[test]
    fn a_file_without_its_reason_is_named() {
        for text in ["", "use x;", "/// Item", "//!\n", "// why"] {
            let mut found = Vec::new();
            opens_with_why(&Source::new(SRC, text), &mut found);
            assert_eq!(found.len(), 1, "{text:?}");
        }
    }

    #[test]
    fn a_file_that_is_too_long_is_named() {
        assert!(complaints(SRC, &"\n".repeat(LINES_MAX - 1)).is_empty());
        assert_eq!(complaints(SRC, &"\n".repeat(LINES_MAX)).len(), 1);
    }

    #[test]
    fn what_is_unfinished_ignored_or_dead_is_named() {
        one(SRC, "fn f() { todo!() }", "crates/x/src/y.rs:2: `todo`");
        one(SRC, "fn f() { unimplemented!() }", "crates/x/src/y.rs:2: `unimplemented`");
        one(SRC, "\nfn f() { dbg!(1) }", "crates/x/src/y.rs:3: `dbg`");
        one(SRC, "#[test]\n#[ignore = \"slow\"]\nfn f() {}", "crates/x/src/y.rs:3: `ignore`");
        one(SRC, "#[allow(dead_code)]\nfn f() {}", "crates/x/src/y.rs:2: `dead_code`");
        one(SRC, "#![expect(dead_code)]", "crates/x/src/y.rs:2: `dead_code`");
        one(SRC, "#[allow(unused, dead_code)]\nfn f() {}", "crates/x/src/y.rs:2: `dead_code`");
        one(SRC, "#[ignore = \"the child of g\"]\nfn f() {}", "crates/x/src/y.rs:2: `ignore`");
        assert!(complaints(SRC, "#[ignore = \"the child of g\"]\nfn f() {}\nfn g() {}").is_empty());
        assert!(complaints(SRC, "#![warn(dead_code)]").is_empty());
        assert!(complaints(SRC, "const A: &str = \"todo!()\";").is_empty());
    }

    #[test]
    fn a_task_without_its_reason_is_named() {
        one(SRC, "// TODO: later", "crates/x/src/y.rs:2: write `TODO(why");
        one(SRC, "// TODO() x", "crates/x/src/y.rs:2:");
        one(SRC, "/* a\n FIXME */", "crates/x/src/y.rs:3:");
    }

    #[test]
    fn unsafe_code_is_named_but_where_it_is_allowed() {
        one(SRC, "fn f() { unsafe { g() } }", "crates/x/src/y.rs:2: `unsafe`");
        assert!(complaints(UNSAFE[0].0, "fn f() { unsafe { g() } }").is_empty());
        assert!(complaints(SRC, "#![deny(unsafe_code)] // unsafe").is_empty());
    }

    #[test]
    fn a_server_under_another_name_is_named() {
        one(SRC, "struct UpstreamPool;", "crates/x/src/y.rs:2: `upstream`: say server");
        one(SRC, "let all_backends = 1;", "crates/x/src/y.rs:2: `backends`");
        one(SRC, "// This node is down.", "crates/x/src/y.rs:2: `node`");
        one(SRC, "const A: &str = \"no backend\";", "crates/x/src/y.rs:2: `backend`");
        assert!(
            complaints("crates/x/tests/y.rs", "// upstream").is_empty(),
            "tests may speak of other programs"
        );
        assert!(
            complaints(SRC, "// nodes of a tree").len() == 1
                && complaints(SRC, "let denoted = 1;").is_empty()
        );
    }

    #[test]
    fn names_are_taken_apart_into_words() {
        assert_eq!(words("HttpServer_v2 aB SMTP x"), ["http", "server", "v", "a", "b", "smtp", "x"]);
    }
}
