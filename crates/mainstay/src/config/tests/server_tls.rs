//! What a config says of TLS to servers and of what they speak.

use std::path::Path;

use mainstay_model::ServiceId;
use mainstay_model::policy::Protocol;

use super::{Config, Mistakes, environment, parse};
use crate::config::ServerAddress;
use crate::tls::certificate::tests::{authority, written};
use crate::tls::front::Version;

fn read_in(folder: &Path, text: &str) -> Result<Config, Mistakes> {
    parse(text, "mainstay.toml", folder, &environment)
}

#[test]
fn a_server_whose_address_says_so_is_spoken_to_over_tls_by_the_settings_of_its_service() {
    let folder = tempfile::tempdir().unwrap();
    let root = authority("root");
    written(folder.path(), "own", &["mainstay.internal"], &root);
    std::fs::write(folder.path().join("ca.pem"), root.pem()).unwrap();
    let config = read_in(
        folder.path(),
        r#"
        [service.shop]
        server-protocol = "http2"
        server-tls = { ca = "ca.pem", certificate = "own.pem", key = "own.key", min-version = "1.3" }
        [service.shop.server.app-1]
        address = "https://app-1.internal"
        [service.shop.server.app-2]
        address = "https://10.0.0.2:8443"
        [service.shop.server.app-3]
        address = "10.0.0.3:3000"
        "#,
    )
    .unwrap();
    let shop = ServiceId::new("shop");
    let policy = &config.policy.services[&shop];
    assert_eq!(policy.carriage.protocol, Protocol::Http2);
    let secure = |name: &str| policy.servers[name].tls;
    assert_eq!(["app-1", "app-2", "app-3"].map(secure), [true, true, false]);
    let name = ServerAddress::Name("app-1.internal".to_owned(), 443);
    assert_eq!(config.addresses[&shop.server("app-1")], name);
    let tls = &config.server_tls[&shop];
    assert!(tls.http2 && !tls.unverified && tls.authorities.is_some() && tls.certificate.is_some());
    assert_eq!((tls.oldest, tls.names.len()), (Version::Tls13, 1));
    let files: Vec<_> = config.files().iter().map(|f| f.file_name().unwrap().to_owned()).collect();
    assert!(["ca.pem", "own.pem", "own.key"].iter().all(|f| files.contains(&(*f).into())), "{files:?}");
}

#[test]
fn what_is_wrong_with_it_is_said_where_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), authority("root").pem()).unwrap();
    let mistakes = |settings: &str, address: &str| {
        let text =
            format!("[service.shop]\n{settings}\n[service.shop.server.app-1]\naddress = \"{address}\"\n");
        read_in(folder.path(), &text).unwrap_err().to_string()
    };
    for (settings, address, what) in [
        ("server-tls = { ca = \"ca.pem\" }", "10.0.0.1:3000", "none of the servers is spoken to over TLS"),
        ("server-tls = { ca = \"no.pem\" }", "https://10.0.0.1", "cannot be read"),
        ("server-tls = { ca = \"ca.pem\", verify = false }", "https://10.0.0.1", "nobody is asked for it"),
        ("server-tls = { name = \"a b\" }", "https://10.0.0.1", "not a host name"),
        ("server-tls = { key = \"ca.pem\" }", "https://10.0.0.1", "a key without a certificate"),
        ("server-tls = { min-version = \"1.1\" }", "https://10.0.0.1", "unknown value"),
        ("server-protocol = \"h3\"", "https://10.0.0.1", "unknown value"),
        ("", "https://10.0.0.1/shop", "neither path nor user"),
    ] {
        let told = mistakes(settings, address);
        assert!(told.contains(what), "{what}: {told}");
    }
}
