//! A monitor whose name has addresses of both kinds: one of them, the other, or both must be well.

use mainstay_model::input::IpFamily;

use super::*;

/// A look at port `port` of `both.test`, which is this machine in both ways, or of `four.test`, which has no IPv6.
async fn over(host: &str, port: u16, over: Over) -> Result<ProbeAnswer, ProbeFailure> {
    let id = MonitorId::new("site".to_owned());
    let order = ProbeOrder {
        target: id.clone().into(),
        address: Whereabouts::Named { host: host.into(), port },
        ..order("127.0.0.1:1".parse::<SocketAddr>().unwrap(), ProbeKind::Tcp, LONG)
    };
    let settings = Settings {
        monitors: Arc::new([(id, Watched { over, ..Watched::default() })].into()),
        names: Names(Arc::new(|host, _| {
            Box::pin(async move {
                let four = "127.0.0.1".parse().unwrap();
                Ok(if &*host == "four.test" { vec![four] } else { vec!["::1".parse().unwrap(), four] })
            })
        })),
        ..Settings::default()
    };
    look(order, &settings).await.result
}

/// Listens on one port over both kinds of addresses.
async fn both() -> (TcpListener, TcpListener) {
    loop {
        let four = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = four.local_addr().unwrap().port();
        // Another program may have this port of the other kind.
        if let Ok(six) = TcpListener::bind(("::1", port)).await {
            return (four, six);
        }
    }
}

#[tokio::test]
async fn one_that_is_dead_over_one_kind_of_addresses_is_told_by_that_kind() {
    let (four, six) = both().await;
    let port = four.local_addr().unwrap().port();
    for kind in [Over::Any, Over::Both, Over::One(IpFamily::V4), Over::One(IpFamily::V6)] {
        assert!(over("both.test", port, kind).await.is_ok(), "{kind:?}");
    }
    drop(six);
    assert!(over("both.test", port, Over::Any).await.is_ok(), "the next address is tried");
    assert!(over("both.test", port, Over::One(IpFamily::V4)).await.is_ok());
    assert_eq!(over("both.test", port, Over::One(IpFamily::V6)).await, Err(ProbeFailure::Refused));
    let dead = over("both.test", port, Over::Both).await.unwrap_err();
    assert_eq!(dead.to_string(), "connection refused, over IPv6 alone");
    drop(four);
    assert_eq!(
        over("both.test", port, Over::Both).await,
        Err(ProbeFailure::Refused),
        "not of one kind alone"
    );
}

#[tokio::test]
async fn a_name_without_an_address_of_the_kind_that_is_asked_for_says_so() {
    let (four, _six) = both().await;
    let port = four.local_addr().unwrap().port();
    let none = "four.test has no IPv6 address in DNS".to_owned();
    assert_eq!(over("four.test", port, Over::One(IpFamily::V6)).await, Err(ProbeFailure::Name(none.clone())));
    let both = over("four.test", port, Over::Both).await;
    assert_eq!(both, Err(ProbeFailure::Over(IpFamily::V6, Box::new(ProbeFailure::Name(none)))));
}
