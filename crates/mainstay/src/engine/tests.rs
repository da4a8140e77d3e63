//! The engine as a whole with real processes and what it brings together: what a start that fails leaves undone, what a reload may
//! overtake, and probes over TLS.

use std::net::Ipv4Addr;
use std::path::Path;

use mainstay_model::effect::ProbeOrder;
use mainstay_model::input::{ProbeAnswer, ProbeFailure};
use mainstay_model::policy::{ProbeKind, Protocol};
use mainstay_model::{Mono, ServerId, ServiceId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::config;
use crate::tls::certificate::tests::{authority, written};
use crate::tls::certificate::{Authorities, Certificate};
use crate::tls::front::{Front, FrontTls};
use crate::tls::servers::{BackTls, Backs};

/// Far more than a loaded machine needs.
const DEADLINE: Duration = Duration::from_secs(60);

fn config(data: &Path, listen: &str, server: &str) -> Config {
    let text = format!(
        "data = {:?}\ndrain = \"1s\"\n[listen]\nhttp = {listen:?}\nadmin = \"127.0.0.1:0\"\n\
         [service.shop]\nhealth = {{ tcp = true }}\n[service.shop.server.app-1]\n{server}\n",
        data.display().to_string()
    );
    config::parse(&text, "test.toml", data, &|_| None).expect("a good config")
}

async fn until(running: &Running, what: &str, mut holds: impl FnMut(&Snapshot) -> bool) {
    let mut snapshots = running.snapshots();
    let seen = tokio::time::timeout(DEADLINE, snapshots.wait_for(|snapshot| holds(snapshot))).await;
    assert!(seen.is_ok(), "not in time: {what}");
}

#[tokio::test]
async fn no_server_is_started_when_the_address_for_visitors_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let server = "command = [\"/bin/sh\", \"-c\", \"touch started; exec sleep 600\"]";
    let error = start(config(folder.path(), &listen, server), None).await.expect_err("the port is taken");
    assert!(error.to_string().contains("another program listens there"), "{error}");
    // Had it been asked for, it would be carried out by a task of this thread, which gets its turn now.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!folder.path().join("started").exists());
}

#[tokio::test]
async fn a_reload_listens_at_new_addresses_or_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = |listen: &str| config(folder.path(), listen, "address = \"127.0.0.1:9\"");
    let mut running = start(config("127.0.0.1:0"), None).await.unwrap();
    let first = running.http();
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let refused = running.reload(config(&taken.local_addr().unwrap().to_string())).await.unwrap_err();
    assert!(refused.to_string().contains("another program listens there"), "{refused}");
    assert_eq!(running.http(), first);
    running.reload(config("127.0.0.2:0")).await.unwrap();
    let second = running.http();
    assert!(second.len() == 1 && second[0].ip() == Some(Ipv4Addr::new(127, 0, 0, 2).into()), "{second:?}");
    let mut answered = reqwest::get(format!("http://{}/", second[0])).await.unwrap();
    assert_eq!(answered.status(), 503);
    assert!(answered.chunk().await.unwrap().is_some());
    running.stop().await;
}

#[tokio::test]
async fn a_server_that_mainstay_no_longer_starts_keeps_the_address_that_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = elsewhere.local_addr().unwrap();
    let app: ServerId = "shop/app-1".parse().unwrap();
    let started = config(folder.path(), "127.0.0.1:0", "command = [\"/bin/sleep\", \"600\"]");
    let mut running = start(started, None).await.unwrap();
    let pid = |snapshot: &Snapshot| snapshot.server(&app)?.process.as_ref()?.pid;
    until(&running, "it runs", |snapshot| pid(snapshot).is_some()).await;
    let server = format!("address = \"{address}\"");
    running.reload(config(folder.path(), "127.0.0.1:0", &server)).await.unwrap();
    until(&running, "it has ended", |snapshot| pid(snapshot).is_none()).await;
    until(&running, "it is healthy there", |snapshot| {
        snapshot.server(&app).is_some_and(|s| {
            s.address == Some(address.into()) && s.health == mainstay_model::snapshot::Health::Healthy
        })
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn an_answer_to_a_look_up_that_a_reload_overtook_is_not_heeded() {
    let server: ServerId = "shop/app-1".parse().unwrap();
    let addresses = |address| std::collections::BTreeMap::from([(server.clone(), address)]);
    let name = ("app.example.com".to_owned(), 80);
    let answer = names::LookedUp {
        server: server.clone(),
        name: name.clone(),
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
    };
    let fixed = config::ServerAddress::Fixed(SocketAddr::from((Ipv4Addr::LOCALHOST, 2)));
    assert!(!answer.is_wanted(&addresses(fixed)));
    let other = config::ServerAddress::Name("other.example.com".to_owned(), 80);
    assert!(!answer.is_wanted(&addresses(other)));
    assert!(answer.is_wanted(&addresses(config::ServerAddress::Name(name.0, name.1))));
}

#[tokio::test]
async fn a_server_that_speaks_tls_is_probed_over_tls_and_a_certificate_that_is_not_trusted_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let root = authority("root");
    let (chain, key) = written(folder.path(), "app", &["app.internal"], &root);
    std::fs::write(folder.path().join("ca.pem"), root.pem()).unwrap();
    let certificate = Certificate::read(&chain, &key).unwrap();
    let front = FrontTls { certificates: vec![certificate], ..Default::default() };
    let config = Front::default().config(&front).unwrap().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = tokio_rustls::TlsAcceptor::from(config.clone()).accept(stream).await else {
                continue;
            };
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    });
    let report = async |name: &'static str| {
        let tls = BackTls {
            authorities: Some(Authorities::read(&folder.path().join("ca.pem")).unwrap()),
            name: Some(name.try_into().unwrap()),
            ..BackTls::default()
        };
        let (tls, errors) = Backs::default().take(&[(ServiceId::new("shop"), tls)].into());
        assert_eq!(errors, []);
        let (inputs, mut reports) = mpsc::channel(1);
        let prober = Prober::new(inputs);
        prober.apply(tls, Default::default(), Default::default());
        prober.order(
            ProbeOrder {
                target: ServiceId::new("shop").server("app-1").into(),
                address: address.into(),
                kind: ProbeKind::Http { path: "/healthz".into(), host: None },
                tls: true,
                protocol: Protocol::Http1,
                send_proxy: None,
                timeout: DEADLINE,
                due: Mono::default(),
                injection: None,
            },
            tokio::time::Instant::now(),
        );
        match reports.recv().await {
            Some(Input::Probe(report)) => report.result,
            other => panic!("not a report of a probe: {other:?}"),
        }
    };
    assert_eq!(report("app.internal").await, Ok(ProbeAnswer::status(200)));
    let Err(ProbeFailure::Certificate(why)) = report("other.internal").await else { panic!("trusted") };
    assert!(why.contains("another name"), "{why}");
}
