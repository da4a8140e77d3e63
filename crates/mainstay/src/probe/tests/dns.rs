//! The DNS probe, against a real Knot DNS and against servers that answer what they should not.

use std::str::FromStr as _;

use hickory_proto::rr::{Name, RecordType};
use tokio::net::UdpSocket;

use super::peers::Knot;
use super::*;
use crate::config::probe::DnsProbe;

fn asks(name: &str, kind: RecordType) -> DnsProbe {
    DnsProbe {
        name: Name::from_str(name).unwrap(),
        kind,
        resolver: None,
        all: Vec::new(),
        any: Vec::new(),
        only: false,
        authoritative: false,
    }
}

async fn told(address: SocketAddr, probe: DnsProbe) -> String {
    words(&probe_by(address, ProbeSpec::Dns(probe), None).await)
}

#[tokio::test]
async fn a_real_server_is_asked_for_every_kind_of_record_and_its_refusals_are_told_apart() {
    let text = format!("\"{}\" ", "x".repeat(250)).repeat(12);
    let knot = Knot::start(&format!(
        "www A 192.0.2.1\nwww A 192.0.2.2\nwww AAAA 2001:DB8::0:1\nalias CNAME www\n@ MX 10 Mail\nlong TXT {text}\n\
         _sip._tcp SRV 1 2 5060 www\nnote TXT \"v=spf1 -all\"\n"
    ))
    .await;
    let at = knot.address;
    let listed = |all: &[&str], any: &[&str], only| DnsProbe {
        all: all.iter().map(|record| DnsProbe::usual(RecordType::A, record)).collect(),
        any: any.iter().map(|record| DnsProbe::usual(RecordType::A, record)).collect(),
        only,
        ..asks("www.example.com.", RecordType::A)
    };
    for (probe, wanted) in [
        (listed(&["192.0.2.2"], &[], false), "good: A 192.0.2.1, 192.0.2.2"),
        (listed(&[], &["192.0.2.9", "192.0.2.2"], false), "good: A 192.0.2.1, 192.0.2.2"),
        (listed(&["192.0.2.1", "192.0.2.2"], &[], true), "good: A 192.0.2.1, 192.0.2.2"),
        (
            listed(&["192.0.2.3"], &[], false),
            "answered www.example.com A with 192.0.2.1, 192.0.2.2, and not with 192.0.2.3",
        ),
        (
            listed(&[], &["192.0.2.8", "192.0.2.9"], false),
            "answered www.example.com A with 192.0.2.1, 192.0.2.2, and with none of 192.0.2.8, 192.0.2.9",
        ),
        (
            listed(&["192.0.2.1"], &[], true),
            "answered www.example.com A with 192.0.2.2, which should not be there",
        ),
    ] {
        assert_eq!(told(at, probe).await, wanted);
    }
    for (name, kind, wanted) in [
        ("www.example.com.", RecordType::AAAA, "good: AAAA 2001:db8::1"),
        ("alias.example.com.", RecordType::A, "good: A 192.0.2.1, 192.0.2.2"),
        ("alias.example.com.", RecordType::CNAME, "good: CNAME www.example.com"),
        ("example.com.", RecordType::MX, "good: MX 10 mail.example.com"),
        ("_sip._tcp.example.com.", RecordType::SRV, "good: SRV 1 2 5060 www.example.com"),
        ("note.example.com.", RecordType::TXT, "good: TXT v=spf1 -all"),
        ("example.com.", RecordType::NS, "good: NS ns1.example.com"),
        ("example.com.", RecordType::SOA, "good: SOA ns1.example.com host.example.com 1 3600 900 1209600 60"),
        (
            "none.example.com.",
            RecordType::A,
            "says that there is no such name (NXDOMAIN): none.example.com A",
        ),
        ("www.example.com.", RecordType::MX, "knows the name and has no MX for it: www.example.com MX"),
        (
            "alias.example.com.",
            RecordType::MX,
            "has no MX for alias.example.com., an alias of www.example.com.",
        ),
        ("www.broken.test.", RecordType::A, "could not find out www.broken.test A (SERVFAIL)"),
    ] {
        assert_eq!(told(at, asks(name, kind)).await, wanted);
    }
    let elsewhere = told(at, asks("www.example.org.", RecordType::A)).await;
    assert!(elsewhere.starts_with("refuses the question for www.example.org A (REFUSED)"), "{elsewhere}");
    // Too long for a datagram: asked for again by TCP.
    let long = told(at, asks("long.example.com.", RecordType::TXT)).await;
    assert!(long.starts_with("good: TXT xxxx"), "{long}");
    let own = DnsProbe { authoritative: true, ..asks("www.example.com.", RecordType::A) };
    assert!(told(at, own).await.starts_with("good"));
    // Whoever is looked at, the resolver that was chosen is asked.
    let chosen = DnsProbe { resolver: Some(at), ..asks("www.example.com.", RecordType::A) };
    assert!(told("192.0.2.1:80".parse().unwrap(), chosen).await.starts_with("good"));

    knot.signal(libc::SIGSTOP);
    let silent = told(at, asks("www.example.com.", RecordType::A)).await;
    assert_eq!(silent, "did not answer a question for www.example.com A in time");
    knot.signal(libc::SIGCONT);
}

#[tokio::test]
async fn strangers_and_garbage_are_looked_past_and_nobody_there_is_a_refusal() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let answering = tokio::spawn(async move {
        let mut random = fastrand::Rng::with_seed(3);
        let mut buffer = [0; 512];
        let (n, from) = socket.recv_from(&mut buffer).await.unwrap();
        for length in 0..90 {
            let garbage: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
            let _ = socket.send_to(&garbage, from).await;
        }
        // The question itself, with another number and as an answer from memory.
        let mut other = buffer[..n].to_vec();
        other[0] ^= 1;
        other[2] |= 0x80;
        let _ = socket.send_to(&other, from).await;
        other[0] ^= 1;
        let _ = socket.send_to(&other, from).await;
    });
    let probe = DnsProbe { authoritative: true, ..asks("www.example.com.", RecordType::A) };
    assert_eq!(
        told(address, probe).await,
        "answered www.example.com A from memory, and not as a server of the zone"
    );
    answering.await.unwrap();
    let nobody = probe_by(address, ProbeSpec::Dns(asks("www.example.com.", RecordType::A)), None).await;
    assert_eq!(nobody, Err(ProbeFailure::Refused));
}
