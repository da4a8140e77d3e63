//! What a config says of TLS with visitors.

use std::path::Path;

use super::{Config, Mistakes, SMALLEST, environment, parse};
use crate::tls::certificate::tests::{authority, written};
use crate::tls::front::Version;

fn read_in(folder: &Path, text: &str) -> Result<Config, Mistakes> {
    parse(&format!("{SMALLEST}{text}"), "mainstay.toml", folder, &environment)
}

/// A folder with `shop.pem` and its key, `other.pem` and its key, and the authority in `ca.pem`.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = authority("root");
    written(folder.path(), "shop", &["shop.example"], &root);
    let (chain, key) = written(folder.path(), "other", &["*.other.example"], &root);
    let both = std::fs::read_to_string(chain).unwrap() + &std::fs::read_to_string(key).unwrap();
    std::fs::write(folder.path().join("both.pem"), both).unwrap();
    std::fs::write(folder.path().join("ca.pem"), root.pem()).unwrap();
    folder
}

#[test]
fn certificates_are_read_beside_the_config_and_their_files_are_followed() {
    let folder = folder();
    let config = read_in(
        folder.path(),
        r#"
        [listen]
        https = ["0.0.0.0:443", "[::1]:8443"]
        [tls]
        min-version = "1.3"
        client-ca = "ca.pem"
        client-auth = "optional"
        warn-before = "7d"
        [[tls.certificate]]
        chain = "shop.pem"
        key = "shop.key"
        [[tls.certificate]]
        chain = "both.pem"
        "#,
    )
    .unwrap();
    assert_eq!((config.http.len(), config.https.len()), (0, 2), "nobody asked for the clear");
    let names: Vec<_> = config.tls.certificates.iter().flat_map(|c| &c.names).collect();
    assert_eq!(names, ["shop.example", "*.other.example"]);
    assert_eq!(config.tls.oldest, Version::Tls13);
    assert!(config.tls.clients.as_ref().is_some_and(|clients| !clients.required));
    assert_eq!(config.tls.warn_before.as_secs(), 7 * 86_400);
    let files = config.files();
    let files: Vec<_> = files.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    assert_eq!(files, ["both.pem", "ca.pem", "shop.key", "shop.pem"]);
}

#[test]
fn what_is_wrong_with_tls_is_said_with_its_place() {
    let folder = folder();
    for (text, told) in [
        (
            "[listen]\nhttps = \"0.0.0.0:443\"\n[tls]\ncertificate = { chain = \"shop.pem\", key = \"other.key\" }",
            "other.key: : this key does not belong to the certificate in",
        ),
        (
            "[listen]\nhttps = \"0.0.0.0:443\"\n[tls]\ncertificate = { chain = \"none.pem\", key = \"shop.key\" }",
            "none.pem: : cannot be read: No such file",
        ),
        (
            "[tls]\ncertificate = { chain = \"both.pem\" }",
            "mainstay.toml: tls: nobody can reach Mainstay over TLS",
        ),
        (
            "[listen]\nhttps = \"0.0.0.0:443\"\n[tls]\ncertificate = {}",
            "mainstay.toml: tls.certificate: chain is missing",
        ),
        (
            "[listen]\nhttps = \"0.0.0.0:443\"\n[tls]\nclient-auth = \"required\"\ncertificate = { chain = \"both.pem\" }",
            "mainstay.toml: tls.client-auth: nobody's certificates would be accepted",
        ),
        (
            "[listen]\nhttps = \"127.0.0.1:9900\"\n[tls]\ncertificate = { chain = \"both.pem\" }",
            "mainstay.toml: listen.https: 127.0.0.1:9900 is taken by listen.admin already",
        ),
    ] {
        let mistakes = read_in(folder.path(), text).unwrap_err();
        let all: Vec<String> =
            mistakes.iter().map(|m| format!("{}: {}: {}", m.file, m.key, m.what)).collect();
        assert!(all.len() == 1 && all[0].contains(told), "{all:?}");
    }
}
