//! Probes below and beside a protocol: certificates, pings, containers and units.

use super::peers::Engine;
use super::*;
use crate::config::probe::{CertificateProbe, DockerProbe, IcmpProbe, StartTls, SystemdProbe};

const CERTIFICATE: CertificateProbe = CertificateProbe { starttls: None, min: None, warn: None };

/// A server that shows this chain.
async fn shows(chain: Vec<rustls::pki_types::CertificateDer<'static>>, key: &rcgen::KeyPair) -> SocketAddr {
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key.serialize_der().try_into().unwrap())
            .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read(&mut [0; 16]).await;
            }
        }
    })
    .await
}

async fn certificate(address: SocketAddr, probe: CertificateProbe, root: &Root) -> Looked {
    probe_by(address, ProbeSpec::Certificate(probe), Some(root)).await
}

/// A certificate for this name by `root`, good from and to so many days from now.
fn leaf(root: &Root, name: &str, from: i64, to: i64) -> (rcgen::Certificate, rcgen::KeyPair) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = dated(name, from, to);
    (params.signed_by(&key, &root.authority).unwrap(), key)
}

fn dated(name: &str, from: i64, to: i64) -> rcgen::CertificateParams {
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let day = |days: i64| {
        let date = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
        let date = date.saturating_add(jiff::Span::new().days(days));
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    (params.not_before, params.not_after) = (day(from), day(to));
    params
}

#[tokio::test]
async fn a_certificate_is_told_with_whose_it_is_and_how_long_it_is_good() {
    let root = Root::new();
    let (good, key) = leaf(&root, "app.internal", -1, 31);
    let at = shows(vec![good.der().clone()], &key).await;
    let told = certificate(at, CERTIFICATE, &root).await;
    let Ok(answer) = &told else { panic!("{told:?}") };
    let said = answer.said.as_deref().unwrap();
    assert!(
        said.starts_with("certificate for app.internal, issued by ") && said.ends_with("ends in 30d"),
        "{said}"
    );
    assert_eq!(answer.warning, None);
    let days = |days: u64| Some(Duration::from_secs(days * 86_400));
    let warned = certificate(at, CertificateProbe { warn: days(40), ..CERTIFICATE }, &root).await.unwrap();
    assert!(warned.warning.unwrap().ends_with("ends in 30d (warn = 40d)"));
    let short = certificate(at, CertificateProbe { min: days(35), ..CERTIFICATE }, &root).await;
    let Err(ProbeFailure::Certificate(why)) = short else { panic!("{short:?}") };
    assert!(why.ends_with("(min = 35d)"), "{why}");
}

#[tokio::test]
async fn an_expired_a_strange_a_self_signed_and_another_ones_certificate_are_told_apart() {
    let root = Root::new();
    let fails = async |chain, key: &rcgen::KeyPair| {
        let told = certificate(shows(chain, key).await, CERTIFICATE, &root).await;
        let Err(ProbeFailure::Certificate(why)) = told else { panic!("{told:?}") };
        why
    };
    let (old, key) = leaf(&root, "app.internal", -60, -30);
    let why = fails(vec![old.der().clone()], &key).await;
    assert!(
        why.starts_with("shows a certificate that has expired: for app.internal")
            && why.ends_with("ended 30d ago"),
        "{why}"
    );
    let (other, key) = leaf(&root, "other.internal", -1, 30);
    let why = fails(vec![other.der().clone()], &key).await;
    assert!(why.contains("made out to another name") && why.contains(": for other.internal"), "{why}");
    let key = rcgen::KeyPair::generate().unwrap();
    let own = dated("app.internal", -1, 30).self_signed(&key).unwrap();
    let why = fails(vec![own.der().clone()], &key).await;
    assert!(why.contains("no trusted authority") && why.contains(", self-signed, "), "{why}");
    let (strange, key) = leaf(&Root::new(), "app.internal", -1, 30);
    let why = fails(vec![strange.der().clone()], &key).await;
    assert!(why.contains("no trusted authority") && why.contains(", issued by "), "{why}");

    let plain = server(|mut stream| async move {
        let _ = stream.write_all(b"220 mail\r\n").await;
        let _ = stream.read(&mut [0; 512]).await;
    })
    .await;
    assert!(matches!(certificate(plain, CERTIFICATE, &root).await, Err(ProbeFailure::Tls(_))));
    let starttls = CertificateProbe { starttls: Some(StartTls::Smtp), ..CERTIFICATE };
    assert!(matches!(certificate(plain, starttls, &root).await, Err(ProbeFailure::Reset)));
}

#[tokio::test]
async fn what_is_wrong_with_a_chain_is_told_by_which_of_it() {
    type Issuer = rcgen::CertifiedIssuer<'static, rcgen::KeyPair>;
    let root = Root::new();
    let between = |to: i64| -> Issuer {
        let mut params = dated("Between CA", -90, to);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Issuer::signed_by(params, rcgen::KeyPair::generate().unwrap(), &root.authority).unwrap()
    };
    let leaf = |issuer: &Issuer, from: i64, to: i64| {
        let key = rcgen::KeyPair::generate().unwrap();
        (dated("app.internal", from, to).signed_by(&key, issuer).unwrap().der().clone(), key)
    };
    let (soon, gone) = (between(20), between(-5));
    let (of_soon, soon_key) = leaf(&soon, -1, 60);
    let (of_gone, gone_key) = leaf(&gone, -30, 60);
    let (early, early_key) = leaf(&soon, 3, 60);
    for (chain, key, wanted) in [
        (
            vec![of_soon.clone(), soon.der().clone()],
            &soon_key,
            "good: certificate for app.internal, issued by Between CA, its authority's ends in 19d",
        ),
        (
            vec![of_soon],
            &soon_key,
            "shows a certificate that no trusted authority has issued (server-tls.ca): for app.internal, issued by Between CA, \
             ends in 59d; it is shown alone: is the one of its issuer missing in the chain?",
        ),
        (
            vec![of_gone, gone.der().clone()],
            &gone_key,
            "shows a certificate that has expired: for app.internal, issued by Between CA, its authority's ended 5d ago",
        ),
        (
            vec![early, soon.der().clone()],
            &early_key,
            "shows a certificate that is not valid yet: for app.internal, issued by Between CA, begins in 2d",
        ),
    ] {
        assert_eq!(words(&certificate(shows(chain, key).await, CERTIFICATE, &root).await), wanted);
    }
}

fn pings(packets: u32) -> ProbeSpec {
    ProbeSpec::Icmp(IcmpProbe { packets, loss_max: 0.0, slow_after: None })
}

/// Run twice: as the test, and by the test, as a user who may not ping.
#[tokio::test]
async fn this_machine_answers_pings_over_ipv4_and_ipv6_and_who_may_not_ping_says_so() {
    const ROLE: &str = "MAINSTAY_TEST_MAY_NOT_PING";
    let own: SocketAddr = "127.0.0.1:1".parse().unwrap();
    if std::env::var_os(ROLE).is_some() {
        let told = probe_by(own, pings(1), None).await;
        assert!(
            matches!(&told, Err(ProbeFailure::NotProbed(why)) if why.contains("ping_group_range")),
            "{told:?}"
        );
        return;
    }
    let first = probe_by(own, pings(1), None).await;
    if !nix::unistd::geteuid().is_root() && matches!(&first, Err(ProbeFailure::NotProbed(_))) {
        // Somebody who may not ping has shown what there is to show.
        return;
    }
    assert_eq!(words(&first), "good: answered a ping");
    let five = words(&probe_by(own, pings(5), None).await);
    assert!(five.starts_with("good: answered 5 pings, after "), "{five}");
    let v6 = probe_by("[::1]:1".parse().unwrap(), pings(2), None).await;
    // Not every container has IPv6.
    let has_v6 = TcpListener::bind("[::1]:0").await.is_ok();
    assert_eq!(v6.is_ok(), has_v6, "{v6:?}");
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ping_group_range").unwrap();
    let nobody_may = range.split_whitespace().map(|id| id.parse::<u64>().unwrap()).collect::<Vec<_>>();
    if nix::unistd::geteuid().is_root() && nobody_may[0] > nobody_may[1] {
        use std::os::unix::process::CommandExt as _;
        // The program of the tests may lie where nobody else may read.
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let program = folder.path().join("tests");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let name = "probe::tests::machine::this_machine_answers_pings_over_ipv4_and_ipv6_and_who_may_not_ping_says_so";
        let mut command = std::process::Command::new(&program);
        command.args([name, "--exact"]).env(ROLE, "1").current_dir("/").uid(65534).gid(65534);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    }
}

/// A stand-in for the Docker Engine: answers each request with this.
fn engine(path: &std::path::Path, answer: &'static str) {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let n = stream.read(&mut head).await.unwrap_or_default();
            let head = String::from_utf8_lossy(&head[..n]).into_owned();
            let answer = match head.starts_with("GET /containers/shop-app-1/json HTTP/1.1\r\n") {
                true => answer.to_owned(),
                false => "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}".to_owned(),
            };
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
}

#[tokio::test]
async fn the_docker_engine_is_asked_over_its_socket_and_that_it_is_away_says_nothing_of_the_container() {
    let folder = tempfile::tempdir().unwrap();
    let at: SocketAddr = "192.0.2.7:80".parse().unwrap();
    let told = async |container: &str, socket: &str| {
        let socket = folder.path().join(socket).to_str().unwrap().into();
        probe_by(at, ProbeSpec::Docker(DockerProbe { container: container.to_owned(), socket }), None).await
    };
    engine(
        &folder.path().join("engine"),
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n\
         {\"Id\": \"1\", \"State\": {\"Status\": \"exited\", \"OOMKilled\": true, \"ExitCode\": 137, \"Error\": \"\"}, \"RestartCount\": 0}",
    );
    let ended = told("{service}-{server}", "engine").await;
    assert_eq!(words(&ended), "its container shop-app-1 has exited with status 137 (out of memory)");
    let absent = words(&told("web", "engine").await);
    assert_eq!(absent, "has no container web: it is not there (docker ps -a)");
    let away = told("web", "nowhere").await;
    assert!(matches!(&away, Err(ProbeFailure::NotProbed(why)) if why.contains("does not exist")), "{away:?}");
    engine(&folder.path().join("broken"), "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n");
    let broken = told("shop-app-1", "broken").await;
    assert!(matches!(&broken, Err(ProbeFailure::NotProbed(why)) if why.contains("status 500")), "{broken:?}");
}

#[tokio::test]
async fn containers_of_a_real_engine_are_told_by_how_they_are() {
    let engine = Engine::start().await;
    engine.does("run -d --network none --name web box:1 sleep 1000");
    engine.does("run -d --network none --name gone box:1 sh -c :");
    let ill = "run -d --network none --name ill --health-cmd no-database --health-interval 100ms --health-retries 1";
    engine.does(&format!("{ill} box:1 sleep 1000"));
    let told = async |container: &str| {
        let socket = engine.socket.to_str().unwrap().into();
        let spec = DockerProbe { container: container.to_owned(), socket };
        words(&probe_by("192.0.2.7:80".parse().unwrap(), ProbeSpec::Docker(spec), None).await)
    };
    let becomes = async |container: &str, wanted: &str| {
        let begun = std::time::Instant::now();
        loop {
            let told = told(container).await;
            if told.contains(wanted) {
                break;
            }
            assert!(begun.elapsed() < LONG, "{container}: {told}, not {wanted}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert_eq!(told("web").await, "good: running");
    assert!(told("nothing").await.starts_with("has no container nothing"));
    becomes("gone", "its container gone has exited with status 0").await;
    becomes("ill", "its container ill is unhealthy by its own check, ").await;
    engine.does("pause web");
    assert_eq!(told("web").await, "its container web is paused (docker unpause)");
    engine.does("unpause web");
    engine.does("kill web");
    becomes("web", "its container web has exited with status 137 (SIGKILL)").await;
}

#[tokio::test]
async fn systemd_is_asked_by_its_own_program_and_that_it_is_not_there_says_nothing_of_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    // A stand-in for systemctl: the machines of tests do not run systemd.
    let stand_in = |name: &str, script: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let told = async |systemctl: String| {
        let spec = SystemdProbe { unit: "shop@{server}.service".to_owned(), systemctl };
        probe_by("192.0.2.7:80".parse().unwrap(), ProbeSpec::Systemd(spec), None).await
    };
    let failed = stand_in(
        "failed",
        "[ \"$1 $3 $4\" = 'show -- shop@app-1.service' ] || exit 9\n\
         printf 'Result=exit-code\\nNRestarts=5\\nExecMainCode=1\\nExecMainStatus=3\\nLoadState=loaded\\nActiveState=failed\\nSubState=failed\\n'",
    );
    assert_eq!(
        words(&told(failed).await),
        "its unit shop@app-1.service has failed: it exited with status 3, restarted 5 times"
    );
    let away = stand_in(
        "away",
        "echo 'System has not been booted with systemd as init system (PID 1). Cannot operate.' >&2; exit 1",
    );
    let away = told(away).await;
    assert!(
        matches!(&away, Err(ProbeFailure::NotProbed(why)) if why.contains("has not been booted")),
        "{away:?}"
    );
    assert!(matches!(told(stand_in("hangs", "sleep 100")).await, Err(ProbeFailure::NotProbed(_))));
    let none = told(folder.path().join("none").to_str().unwrap().to_owned()).await;
    assert!(matches!(&none, Err(ProbeFailure::NotProbed(why)) if why.contains("cannot run")), "{none:?}");
}
