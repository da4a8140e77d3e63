//! The folder and the ports of a measurement, and configs made from the templates in `bench/`.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{answer, root};

/// Values for a template's `@name@`.
pub type Values = BTreeMap<String, String>;

/// A folder for one run, removed when this is dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes a folder of this process.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("mainstay-bench-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in a folder for temporary files harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A port of the loopback that is free now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// An address on the loopback.
pub fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// The text of a file under `bench/`.
///
/// # Errors
/// When it cannot be read.
pub fn template(name: &str) -> Result<String> {
    let path = root().join("bench").join(name);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// A template with its values in their places.
///
/// # Errors
/// When one is missing.
pub fn fill(template: &str, values: &Values) -> Result<String> {
    let mut text = String::with_capacity(template.len());
    let mut parts = template.split('@');
    text.push_str(parts.next().unwrap_or_default());
    while let Some(name) = parts.next() {
        let Some(value) = values.get(name) else { bail!("a template wants `@{name}@`, which has no value") };
        text.push_str(value);
        text.push_str(parts.next().with_context(|| format!("`@{name}` is not closed"))?);
    }
    Ok(text)
}

/// A config without the lines whose feature (`#? NAME` at their end) is not among `features`.
pub fn with_features(template: &str, features: &[&str]) -> String {
    let kept = template.lines().filter_map(|line| match line.rsplit_once("#? ") {
        Some((line, name)) => features.contains(&name.trim()).then_some(line.trim_end()),
        None => Some(line),
    });
    kept.flat_map(|line| [line, "\n"]).collect()
}

/// The features that a template's lines name, in their order.
pub fn features_of(template: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for name in template.lines().filter_map(|line| Some(line.rsplit_once("#? ")?.1.trim())) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A self-signed certificate with an ECDSA key, as most sites have: the paths of certificate, key, and both in one file.
///
/// # Errors
/// When openssl fails.
pub fn certificate(folder: &Path) -> Result<Values> {
    let path = |name: &str| folder.join(name).display().to_string();
    let (certificate, key, both) = (path("certificate.pem"), path("key.pem"), path("both.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]);
    openssl.args(["-days", "30", "-subj", "/CN=www.bench.example"]);
    openssl.args(["-addext", "subjectAltName=DNS:www.bench.example,DNS:app.bench.example,IP:127.0.0.1"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    answer(openssl.args(["-keyout", &key, "-out", &certificate]))?;
    std::fs::write(&both, std::fs::read_to_string(&certificate)? + &std::fs::read_to_string(&key)?)?;
    let names = ["certificate", "key", "certificate_and_key"];
    Ok(names.into_iter().map(str::to_owned).zip([certificate, key, both]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_gets_every_value_or_says_which_is_missing() {
        let values: Values = [("port".to_owned(), "80".to_owned())].into();
        assert_eq!(fill("a @port@ b @port@\n", &values).unwrap(), "a 80 b 80\n");
        assert!(fill("@host@", &values).unwrap_err().to_string().contains("@host@"));
        assert!(fill("mail@", &values).is_err());
    }

    #[test]
    fn lines_of_a_feature_that_is_not_there_are_left_out() {
        let template = "a\nb #? tls\nc #? log\nd #? tls\n";
        assert_eq!(features_of(template), ["tls", "log"]);
        assert_eq!(with_features(template, &["log"]), "a\nc\n");
        assert_eq!(with_features(template, &["tls", "log"]), "a\nb\nc\nd\n");
    }

    #[test]
    fn every_template_is_filled_by_the_names_that_the_bench_gives() {
        let names = "dir http https tcp admin one two three app small certificate key certificate_and_key";
        let values: Values = names.split(' ').map(|name| (name.to_owned(), String::new())).collect();
        for folder in ["proxy", "failover"] {
            for entry in std::fs::read_dir(root().join("bench").join(folder)).unwrap() {
                let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
                fill(&text, &values).unwrap();
            }
        }
    }
}
