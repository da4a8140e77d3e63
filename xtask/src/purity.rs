//! The judge knows no clock, socket or dice: proven by the list of what it is built from. What its code may call is
//! held by crates/mainstay-model/clippy.toml.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::run::{answer, cargo};

/// Everything that `mainstay-model` may be built from, as cargo names it.
const ALLOWED: &[&str] = &[
    "mainstay-model",
    // Inputs and snapshots are stored and shown.
    "serde",
    "serde_core",
    "serde_derive",
    // Errors with an audience.
    "thiserror",
    "thiserror-impl",
    // Compile-time parts of the derives.
    "proc-macro2",
    "quote",
    "syn",
    "unicode-ident",
];

/// Compares what cargo says with the list; both must be the same.
pub fn check() -> Result<String> {
    let arguments = ["tree", "--locked", "-p", "mainstay-model", "-e", "normal", "--target", "all"];
    let tree = answer(cargo().args(arguments).args(["--prefix", "none", "--format", "{p}"]))?;
    let found = names(&tree);
    let problems = compare(&found, &ALLOWED.iter().copied().collect());
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(format!("mainstay-model is built from {} crates, all of them allowed\n", found.len()))
}

/// The crates' names in `cargo tree --prefix none --format {p}`.
fn names(tree: &str) -> BTreeSet<&str> {
    tree.lines().filter_map(|line| line.split_whitespace().next()).collect()
}

fn compare(found: &BTreeSet<&str>, allowed: &BTreeSet<&str>) -> Vec<String> {
    let added = found.difference(allowed).map(|name| {
        format!(
            "mainstay-model now depends on `{name}`: the judge must stay without a clock, socket, file, thread or dice; \
             if {name} has none of them, allow it in xtask/src/purity.rs with its reason"
        )
    });
    let gone = allowed
        .difference(found)
        .map(|name| format!("`{name}` is allowed in xtask/src/purity.rs but no longer used: take it out"));
    added.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str =
        "mainstay-model v0.1.0 (/x)\nserde v1.0.0\nserde_derive v1.0.0 (proc-macro)\nserde v1.0.0 (*)\n";

    #[test]
    fn the_tree_of_cargo_becomes_a_set_of_names() {
        assert_eq!(names(TREE), BTreeSet::from(["mainstay-model", "serde", "serde_derive"]));
    }

    #[test]
    fn a_crate_that_is_not_allowed_is_named() {
        let allowed = BTreeSet::from(["mainstay-model", "serde"]);
        let problems = compare(&names(TREE), &allowed);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("`serde_derive`"), "{problems:?}");
    }

    #[test]
    fn a_crate_that_is_allowed_but_gone_is_named() {
        let allowed = BTreeSet::from(["mainstay-model", "serde", "serde_derive", "rand"]);
        let problems = compare(&names(TREE), &allowed);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("`rand`"), "{problems:?}");
    }
}
