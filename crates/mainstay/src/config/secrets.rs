//! Secrets: named in the config, read from the environment or a file, never shown.

use std::borrow::Cow;
use std::io::Read as _;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::mistake::Collector;
use super::read::{At, Field, Node, Private, Read, table};
use super::resolve::Secret;

/// Where a secret is to be read from.
#[derive(Debug)]
pub(super) struct SecretRef(Source);

#[derive(Debug)]
enum Source {
    Env(String),
    File(String),
}

/// A longer file is not a secret but a slip.
const LONGEST: u64 = 64 * 1024;

table! {
    /// Where a secret is read from.
    RawSecret {
        /// The name of a variable of the environment.
        env: Private,
        /// A file; a line end at its end is left out.
        file: Private,
    }
}

impl Read for SecretRef {
    const SECRET: bool = true;

    fn read(node: &Node<'_>, mistakes: &Collector<'_>) -> Option<Self> {
        let place = node.place(true);
        if !node.is_table() {
            mistakes.value(
                &place,
                "a secret does not belong in the config",
                "write { env = \"NAME\" } or { file = \"/path\" } and put the secret there",
            );
            return None;
        }
        let secret = RawSecret::read(node, mistakes)?;
        match (secret.env, secret.file) {
            (Field::Here(env), Field::Absent) => Some(SecretRef(Source::Env(env.value.0))),
            (Field::Absent, Field::Here(file)) => Some(SecretRef(Source::File(file.value.0))),
            (Field::Bad, _) | (_, Field::Bad) => None,
            (Field::Absent, Field::Absent) => {
                mistakes.value(
                    &place,
                    "does not say where the secret is",
                    "write { env = \"NAME\" } or { file = \"/path\" }",
                );
                None
            }
            (Field::Here(_), Field::Here(_)) => {
                mistakes.value(&place, "names two places for one secret", "keep either env or file");
                None
            }
        }
    }
}

impl JsonSchema for SecretRef {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "secret".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = RawSecret::json_schema(generator);
        json_schema!({ "title": "secret", "type": "object", "oneOf": [
            { "properties": { "env": table.pointer("/properties/env") }, "required": ["env"] },
            { "properties": { "file": table.pointer("/properties/file") }, "required": ["file"] },
        ] })
    }
}

impl SecretRef {
    /// The variable of the environment that holds it.
    pub(super) fn variable(&self) -> Option<&str> {
        match &self.0 {
            Source::Env(name) => Some(name),
            Source::File(_) => None,
        }
    }
}

/// Reads a secret that was written; `None` when none was, or with a mistake noted.
pub(super) fn fetch(
    field: &Field<SecretRef>,
    base_dir: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    mistakes: &Collector<'_>,
) -> Option<Secret> {
    let At { value: SecretRef(source), place } = field.get()?;
    let secret = match source {
        Source::Env(name) => env(name).ok_or_else(|| match is_usual_variable(name) {
            true => (
                format!("the environment has no variable {name}"),
                format!("set {name}, or use {{ file = … }}"),
            ),
            // Perhaps the secret itself was put there.
            false => (
                "the environment has no variable of this name".to_owned(),
                "set it, or use { file = … }; the secret itself does not belong here".to_owned(),
            ),
        }),
        Source::File(file) => read_file(&base_dir.join(file)).map_err(|what| {
            (what, format!("put the secret alone into {file}, readable by the user that runs Mainstay"))
        }),
    };
    match secret {
        Ok(secret) if secret.is_empty() => {
            mistakes.value(place, "the secret is empty", "put the secret there, or remove this key");
            None
        }
        Ok(secret) => Some(Secret::new(secret)),
        Err((what, remedy)) => {
            mistakes.value(place, what, remedy);
            None
        }
    }
}

fn is_usual_variable(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// A small text file without the line end at its end; the error is for a person.
pub(super) fn read_file(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    // A pipe or a device would wait for ever or never end.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text));
    match read {
        Ok(length) if length as u64 > LONGEST => Err(format!("{} is too long for a secret", path.display())),
        Ok(_) => {
            text.truncate(text.trim_end_matches(['\n', '\r']).len());
            Ok(text)
        }
        Err(error) => Err(cannot(error)),
    }
}
