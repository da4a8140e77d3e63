//! `/probe` beside Debian's `blackbox_exporter`: whoever scraped that one goes on by changing an address.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;

use tokio::net::TcpListener;

use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::http;
use crate::harness::mainstay::Mainstay;
use crate::harness::program::Program;
use crate::harness::site::{answer, fine, serve};
use crate::harness::{free_address, run};

/// Metrics with their labels, but without those of Go.
async fn told(at: SocketAddr, target: &str, module: &str) -> BTreeMap<String, f64> {
    let answer = http::get(at, &format!("/probe?target={target}&module={module}")).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = answer.text();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.to_owned(), value.parse().expect("a figure")))
        .collect()
}

#[test]
fn prometheus_is_told_what_blackbox_exporter_would_tell() {
    run(async {
        let home = Home::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let site = listener.local_addr().expect("an address");
        serve(listener, None, |request| match request.starts_with("GET /broken ") {
            true => answer(503, "", "the database is away"),
            false => fine(),
        });
        let config = Config::new().external("app-1", site).table(
            "[module.says_fine]\nprobe = { http = { expect = \"Welcome\" } }\ntimeout = \"2s\"\n\
             [module.says_otherwise]\nprobe = { http = { expect = \"otherwise\" } }",
        );
        let mainstay = Mainstay::start(&home, &config).await;
        let address = free_address();
        let mut command = Command::new("/usr/bin/prometheus-blackbox-exporter");
        command.arg("--config.file=/etc/prometheus/blackbox.yml");
        command.arg(format!("--web.listen-address={address}"));
        let exporter = Program::start(&home, address, command).await;
        let nobody = free_address();
        for (target, module) in [
            (format!("http://{site}/"), "http_2xx"),
            (format!("http://{site}/broken"), "http_2xx"),
            (site.to_string(), "http_2xx"),
            (format!("http://{nobody}/"), "http_2xx"),
            (site.to_string(), "tcp_connect"),
            (nobody.to_string(), "tcp_connect"),
        ] {
            let (mine, theirs) =
                (told(mainstay.admin, &target, module).await, told(exporter.address, &target, module).await);
            for name in mine.keys() {
                assert!(theirs.contains_key(name), "{name} is not theirs: {theirs:?}");
            }
            for name in [
                "probe_success",
                "probe_http_status_code",
                "probe_http_ssl",
                "probe_http_version",
                "probe_ip_protocol",
            ] {
                assert_eq!(mine.get(name), theirs.get(name), "{name} of {target} by {module}");
            }
        }
        let of = async |module: &str| told(mainstay.admin, &format!("http://{site}/"), module).await["probe_success"];
        assert_eq!(
            (of("says_fine").await, of("says_otherwise").await),
            (1.0, 0.0),
            "modules of its own config"
        );
        for wrong in ["module=http_2xx", "target=a&module=nothing", "target=ftp://a/&module=http_2xx"] {
            let refused = http::get(mainstay.admin, &format!("/probe?{wrong}")).await.expect("an answer");
            assert_eq!(refused.status, 400, "{}", refused.text());
        }
        mainstay.stop().await;
    });
}
