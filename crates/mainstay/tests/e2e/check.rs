//! `mainstay check` against real faults: dead resolvers and wrong answers, closed ports, dropped packets, pulled cables, broken
//! certificates, each in a small Internet of its own.

use serde_json::Value;
use tokio::net::UdpSocket;

use crate::harness::netns::{Net, OTHER_SITE, Place, REFERENCE, ROUTER, SITE, SITE_V6, WORLD_RESOLVER};
use crate::harness::run;
use crate::harness::site::{Authority, Leaf, Shown, answer, fine, serve};

/// Short enough for a test, long enough for a busy machine: a third of it is for look-ups, a quarter for connections.
const TIMEOUT: [&str; 2] = ["--timeout", "6s"];

fn assert_verdict((status, report): &(i32, Value), verdict: &str, words: &str) {
    let statuses = [
        ("none", 0),
        ("machine", 10),
        ("network", 11),
        ("dns", 12),
        ("path", 13),
        ("server", 14),
        ("application", 15),
    ];
    assert_eq!(report["verdict"], verdict, "{report:#}");
    assert!(statuses.contains(&(verdict, *status)), "status {status} for {verdict}");
    let told = ["headline", "seen", "advice"].map(|key| report[key].as_str().expect("a text"));
    assert!(told.join(" ").contains(words), "no `{words}` in {report:#}");
    assert!(told.iter().all(|text| !text.is_empty()), "{report:#}");
}

fn layer<'a>(report: &'a Value, name: &str) -> &'a Value {
    let layers = report["layers"].as_array().expect("layers");
    layers
        .iter()
        .find(|layer| layer["layer"] == name)
        .unwrap_or_else(|| panic!("no layer {name} in {report:#}"))
}

fn warned(report: &Value, words: &str) -> bool {
    let warnings = report["warnings"].as_array().expect("warnings");
    warnings.iter().any(|warning| warning.as_str().is_some_and(|warning| warning.contains(words)))
}

/// A net with resolvers that lead to the site, and a page there on port 80.
async fn with_site(data: &[&str]) -> Net {
    let net = Net::new();
    net.resolver(Place::Router, ROUTER, data).await;
    net.resolver(Place::World, WORLD_RESOLVER, data).await;
    serve(net.listen(Place::World, &format!("{SITE}:80")).await, None, |_| fine());
    net
}

#[test]
fn a_page_that_works_has_no_fault_and_every_layer_its_time() {
    run(async {
        let net = with_site(&["shop.test. A 198.51.100.10"]).await;
        let seen = net.report(&["http://shop.test/", "--expect", "Welcome"]).await;
        assert_verdict(&seen, "none", "answered with 200");
        let report = &seen.1;
        assert_eq!(report["warnings"], serde_json::json!([]), "{report:#}");
        for name in ["machine", "network", "dns", "addresses", "tcp", "http", "content"] {
            assert_eq!(layer(report, name)["state"], "ok", "{report:#}");
            assert!(layer(report, name)["ms"].is_number());
        }
        assert_eq!(report["resolvers"][0]["role"], "system");
        assert_eq!(report["resolvers"][1]["addresses"][0], SITE);
        assert_eq!(report["http"]["status"], 200);
        let output = net.check(&["http://ada:hunter2@shop.test/"]).await;
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("verdict  nothing is wrong"), "{text}");
        assert!(text.contains("✓  this network") && !text.contains("hunter2"), "{text}");
    });
}

#[test]
fn a_dead_resolver_is_told_from_a_dead_network() {
    run(async {
        let net = with_site(&["shop.test. A 198.51.100.10"]).await;
        net.sh(Place::Router, "iptables -A INPUT -p udp --dport 53 -j DROP");
        let page = ["http://shop.test/", TIMEOUT[0], TIMEOUT[1]];
        let seen = net.report(&page).await;
        assert_verdict(&seen, "dns", "your resolver does not answer; another one does");
        assert_verdict(&seen, "dns", "The page itself answers");
        assert_eq!(layer(&seen.1, "dns")["state"], "failed");
        assert_eq!(seen.1["resolvers"][0]["answer"], "silent");

        // The first one of the machine is dead, its second one works.
        net.set("resolv.conf", &format!("nameserver {ROUTER}\nnameserver {WORLD_RESOLVER}\n"));
        let seen = net.report(&[&page[..], &["--resolver", "none"]].concat()).await;
        assert_verdict(&seen, "dns", "your resolver does not answer; another one does");
        assert_eq!(seen.1["http"]["status"], 200);

        // Nobody listens there at all.
        net.set("resolv.conf", "nameserver 198.51.100.11\n");
        let seen = net.report(&page).await;
        assert_verdict(&seen, "dns", "nothing listens there");

        // Nothing gets through the router any more.
        net.set("resolv.conf", &format!("nameserver {ROUTER}\n"));
        net.sh(Place::Router, "iptables -A FORWARD -j DROP");
        let seen = net.report(&page).await;
        assert_verdict(&seen, "network", "this network has no connection to the Internet");
        assert_eq!(layer(&seen.1, "network")["state"], "failed");
    });
}

#[test]
fn wrong_and_refused_answers_of_the_resolver_are_told_apart() {
    run(async {
        let net = Net::new();
        net.resolver(
            Place::Router,
            ROUTER,
            &["shop.test. A 198.51.100.11", "block.test. A 0.0.0.0", "far.test. A 198.51.100.10"],
        )
        .await;
        let right = [
            "shop.test. A 198.51.100.10",
            "block.test. A 198.51.100.10",
            "new.test. A 198.51.100.10",
            "far.test. A 198.51.100.99",
        ];
        net.resolver(Place::World, WORLD_RESOLVER, &right).await;
        serve(net.listen(Place::World, &format!("{SITE}:80")).await, None, |_| fine());

        let seen = net.report(&["http://shop.test/"]).await;
        assert_verdict(&seen, "dns", "your resolver sends you to the wrong place");
        let seen = net.report(&["http://block.test/"]).await;
        assert_verdict(&seen, "dns", "on purpose");
        let seen = net.report(&["http://new.test/"]).await;
        assert_verdict(&seen, "dns", "your resolver says that there is no new.test; another one knows it");
        let seen = net.report(&["http://nowhere.test/"]).await;
        assert_verdict(&seen, "dns", "there is no nowhere.test");
        assert_verdict(&seen, "dns", "Another resolver says the same");
        // Different answers are usual for large sites; this one answers.
        let seen = net.report(&["http://far.test/"]).await;
        assert_verdict(&seen, "none", "answered with 200");

        net.set("hosts", "198.51.100.11 far.test\n");
        let seen = net.report(&["http://far.test/", "--resolver", ROUTER]).await;
        assert_verdict(&seen, "machine", "/etc/hosts");
    });
}

#[test]
fn a_resolver_that_cannot_find_out_and_one_that_refuses_are_told_apart() {
    run(async {
        let net = Net::new();
        net.resolver(Place::World, WORLD_RESOLVER, &["shop.test. A 198.51.100.10"]).await;
        serve(net.listen(Place::World, &format!("{SITE}:80")).await, None, |_| fine());
        const SERVFAIL: u8 = 2;
        const REFUSED: u8 = 5;
        tokio::spawn(say_no(net.datagrams(Place::Router, &format!("{ROUTER}:53")).await, SERVFAIL));
        tokio::spawn(say_no(net.datagrams(Place::Router, &format!("{ROUTER}:5353")).await, REFUSED));
        let seen = net.report(&["http://shop.test/"]).await;
        assert_verdict(&seen, "dns", "your resolver cannot look up shop.test; another one can");
        assert_eq!(seen.1["resolvers"][0]["answer"], "failed");
        let seen = net.report(&["http://shop.test/", "--resolver", &format!("{ROUTER}:5353")]).await;
        assert_verdict(&seen, "dns", "SERVFAIL");
        assert_eq!(seen.1["resolvers"][1]["answer"], "declined");
    });
}

/// A resolver that answers everything with a code.
async fn say_no(socket: UdpSocket, code: u8) {
    let mut buffer = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        buffer[2] |= 0x80;
        buffer[3] = 0x80 | code;
        // A client that has gone away wants no answer.
        let _ = socket.send_to(&buffer[..length], from).await;
    }
}

#[test]
fn a_closed_port_dropped_packets_and_a_filtered_port_are_told_apart() {
    run(async {
        let net = with_site(&["shop.test. A 198.51.100.10"]).await;
        let closed = net.report(&["http://shop.test:81/", TIMEOUT[0], TIMEOUT[1]]).await;
        assert_verdict(&closed, "server", "nothing listens on port 81");
        assert_eq!(closed.1["addresses"][0]["outcome"], "refused");

        let page = ["http://shop.test/", TIMEOUT[0], TIMEOUT[1]];
        net.sh(Place::World, &format!("iptables -A INPUT -p tcp -d {SITE} --dport 80 -j DROP"));
        let seen = net.report(&page).await;
        assert_verdict(&seen, "server", "lets nobody in on port 80");

        net.sh(Place::World, &format!("iptables -A INPUT -d {SITE} -j DROP"));
        let seen = net.report(&page).await;
        assert_verdict(&seen, "path", "get lost on the way");
        assert_eq!(seen.1["addresses"][0]["outcome"], "timed-out");
        assert_eq!(layer(&seen.1, "network")["state"], "ok");

        net.sh(
            Place::Router,
            &format!("iptables -A FORWARD -d {SITE} -j REJECT --reject-with icmp-host-unreachable"),
        );
        let seen = net.report(&page).await;
        assert_verdict(&seen, "path", "is unreachable");
        assert_eq!(seen.1["addresses"][0]["outcome"], "unreachable");

        net.sh(Place::Router, "iptables -F FORWARD; iptables -A FORWARD -j DROP");
        let seen = net.report(&page).await;
        assert_verdict(&seen, "network", "no connection to the Internet");
    });
}

#[test]
fn a_machine_without_a_way_out_and_one_without_a_cable_know_that_it_is_them() {
    run(async {
        let net = with_site(&["shop.test. A 198.51.100.10"]).await;
        net.sh(Place::Visitor, "ip route del default; ip -6 route del default");
        for page in [format!("http://{SITE}/"), "shop.test".to_owned()] {
            // The resolver is in the own network and still gives the address.
            let seen = net.report(&[page.as_str(), TIMEOUT[0], TIMEOUT[1]]).await;
            assert_verdict(&seen, "machine", "no way out of its own network");
        }
        // A neighbour that is switched off.
        let seen = net.report(&["http://10.61.0.77/", TIMEOUT[0], TIMEOUT[1]]).await;
        assert_verdict(&seen, "server", "10.61.0.77 is not on the network");
        net.sh(Place::Visitor, "ip link set eth0 down");
        let begun = std::time::Instant::now();
        let seen = net.report(&["shop.test"]).await;
        assert_verdict(&seen, "machine", "not connected to any network");
        crate::harness::measured(
            "check: an unplugged machine is told after",
            format!("{:?}", begun.elapsed()),
        );
        net.sh(Place::Visitor, "ip link set lo down");
        let seen = net.report(&["http://localhost:8080/"]).await;
        assert_verdict(&seen, "machine", "ip link set lo up");
    });
}

#[test]
fn dead_addresses_among_living_ones_are_said_and_the_page_is_reached() {
    run(async {
        let data = [
            "two.test. A 198.51.100.10",
            "two.test. A 198.51.100.11",
            "six.test. A 198.51.100.10",
            "six.test. AAAA 2001:db8:2::10",
            "only6.test. AAAA 2001:db8:2::10",
        ];
        let net = with_site(&data).await;
        let seen = net.report(&["http://two.test/"]).await;
        assert_verdict(&seen, "none", "answered with 200");
        assert!(
            warned(&seen.1, "1 of the 2 IPv4 addresses of two.test is dead (198.51.100.11:80 refuses)"),
            "{:#}",
            seen.1
        );

        serve(net.listen(Place::World, &format!("[{SITE_V6}]:80")).await, None, |_| fine());
        let seen = net.report(&["http://six.test/"]).await;
        assert_verdict(&seen, "none", "");
        assert_eq!(seen.1["warnings"], serde_json::json!([]));
        let literal = net.report(&[&format!("http://[{SITE_V6}]:80/")]).await;
        assert_verdict(&literal, "none", "");

        net.sh(Place::World, "ip6tables -A INPUT -p tcp -j DROP");
        let seen = net.report(&["http://six.test/"]).await;
        assert_verdict(&seen, "none", "");
        assert!(warned(&seen.1, "cannot be reached over IPv6"), "{:#}", seen.1);

        net.sh(Place::Visitor, "ip -6 route del default");
        let seen = net.report(&["http://six.test/"]).await;
        assert_eq!(seen.1["warnings"], serde_json::json!([]), "a machine without IPv6 misses nothing");
        let seen = net.report(&["http://only6.test/"]).await;
        assert_verdict(&seen, "network", "this network has no IPv6");
    });
}

#[test]
fn a_host_with_many_addresses_is_reached_by_the_one_that_lives() {
    run(async {
        let mut data: Vec<String> =
            (101..120).map(|last| format!("many.test. A 198.51.100.{last}")).collect();
        data.push(format!("many.test. A {SITE}"));
        let data: Vec<&str> = data.iter().map(String::as_str).collect();
        let net = with_site(&data).await;
        let seen = net.report(&["http://many.test/", TIMEOUT[0], TIMEOUT[1]]).await;
        assert_verdict(&seen, "none", "answered with 200");
        assert!(warned(&seen.1, "19 of the 20 IPv4 addresses of many.test are dead"), "{:#}", seen.1);
        assert_eq!(seen.1["addresses"].as_array().map(Vec::len), Some(20));
    });
}

#[test]
fn every_fault_of_a_certificate_is_named() {
    run(async {
        let net = with_site(&["shop.test. A 198.51.100.10"]).await;
        let (known, unknown) = (Authority::new("Known"), Authority::new("Unknown"));
        let ca = net.home().path().join("ca.pem");
        std::fs::write(&ca, known.pem()).expect("a file");
        let ca = ca.to_str().expect("UTF-8");
        let leaf = |host, days, shown| Leaf { host, days, shown };
        let cases = [
            (443, &known, leaf("shop.test", (-10, 80), Shown::Chain), "none", "answered with 200", None),
            (444, &known, leaf("shop.test", (-90, 5), Shown::Chain), "none", "", None),
            (
                445,
                &known,
                leaf("shop.test", (-90, -2), Shown::Chain),
                "server",
                "has expired",
                Some("expired"),
            ),
            (
                446,
                &known,
                leaf("shop.test", (3, 80), Shown::Chain),
                "server",
                "is not valid yet",
                Some("not-yet-valid"),
            ),
            (
                447,
                &known,
                leaf("mail.test", (-1, 80), Shown::Chain),
                "server",
                "it is made out to mail.test",
                Some("wrong-host"),
            ),
            (
                448,
                &known,
                leaf("shop.test", (-1, 80), Shown::SelfSigned),
                "server",
                "nobody but itself",
                Some("self-signed"),
            ),
            (
                449,
                &unknown,
                leaf("shop.test", (-1, 80), Shown::Chain),
                "server",
                "nobody that is known",
                Some("unknown-authority"),
            ),
            (
                450,
                &known,
                leaf("shop.test", (-1, 80), Shown::Alone),
                "server",
                "without its chain",
                Some("chain-missing"),
            ),
        ];
        for (port, authority, leaf, verdict, words, problem) in cases {
            let listener = net.listen(Place::World, &format!("{SITE}:{port}")).await;
            serve(listener, Some(authority.server(&leaf)), |_| fine());
            let seen = net.report(&[&format!("shop.test:{port}"), "--ca", ca]).await;
            assert_verdict(&seen, verdict, words);
            let problems: Vec<&str> = problem.into_iter().collect();
            assert_eq!(seen.1["certificate"]["problems"], serde_json::json!(problems), "{:#}", seen.1);
            assert_eq!(warned(&seen.1, "it should have been renewed by now"), port == 444, "{:#}", seen.1);
            assert_eq!(
                layer(&seen.1, "tls")["state"],
                if problem.is_some() {
                    "failed"
                } else if port == 444 {
                    "warning"
                } else {
                    "ok"
                }
            );
        }
        // By the server's clock its certificate is valid, so it is this machine's that is wrong.
        let listener = net.listen(Place::World, &format!("{SITE}:451")).await;
        let future = leaf("shop.test", (300, 400), Shown::Chain);
        let date = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(350 * 24);
        let date = date.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n").to_string();
        serve(listener, Some(known.server(&future)), move |_| answer(200, &date, ""));
        let seen = net.report(&["https://shop.test:451/", "--ca", ca]).await;
        assert_verdict(&seen, "machine", "the clock of this machine is wrong");

        let seen = net.report(&["https://shop.test:80/"]).await;
        assert_verdict(&seen, "server", "does not speak HTTPS");
        let seen = net.report(&["http://shop.test:443/"]).await;
        assert_verdict(&seen, "server", "wants https");
    });
}

#[test]
fn a_502_a_slow_answer_and_a_portal_are_told_apart() {
    run(async {
        let net = with_site(&["shop.test. A 198.51.100.10"]).await;
        let listen = async |address: &str| net.listen(Place::World, address).await;
        serve(listen(&format!("{OTHER_SITE}:80")).await, None, |_| answer(502, "", "Bad Gateway"));
        serve(listen(&format!("{SITE}:82")).await, None, |_| {
            let mut acts = vec![crate::harness::site::Act::Wait(std::time::Duration::from_millis(700))];
            acts.extend(fine());
            acts
        });
        let seen = net.report(&[&format!("http://{OTHER_SITE}/")]).await;
        assert_verdict(&seen, "application", "what stands behind it does not (502)");
        let seen = net.report(&["http://shop.test:82/", "--slow", "500ms"]).await;
        assert_verdict(&seen, "application", "answers, but slowly");
        assert!(seen.1["http"]["first_byte_ms"].as_f64() >= Some(700.0), "{:#}", seen.1);
        let seen = net.report(&["http://shop.test:82/", "--slow", "60s"]).await;
        assert_verdict(&seen, "none", "");

        // The router takes every connection to port 80 for itself and sends it to its log-in page, and lets nothing else out.
        serve(net.listen(Place::Router, &format!("{ROUTER}:80")).await, None, |request| {
            match request.contains("login.portal") {
                true => answer(200, "", "Room number?"),
                false => answer(302, &format!("Location: http://{ROUTER}/login.portal\r\n"), ""),
            }
        });
        net.sh(
            Place::Router,
            &format!("iptables -t nat -A PREROUTING -i lan -p tcp -d {SITE} --dport 80 -j DNAT --to {ROUTER}:80; iptables -A FORWARD -j DROP"),
        );
        let seen = net.report(&["http://shop.test/", TIMEOUT[0], TIMEOUT[1]]).await;
        assert_verdict(&seen, "network", "log in first");
    });
}

#[test]
fn nothing_is_asked_of_the_world_that_was_not_wanted() {
    run(async {
        let net = with_site(&["shop.test. A 198.51.100.10"]).await;
        // Counts what leaves for the world's resolver and reference.
        net.sh(
            Place::Router,
            &format!(
                "iptables -A FORWARD -d {WORLD_RESOLVER} -j REJECT; iptables -A FORWARD -d {} -j REJECT",
                REFERENCE.trim_end_matches(":80")
            ),
        );
        let seen = net.report(&["http://shop.test/", "--resolver", "none", "--reference", "none"]).await;
        assert_verdict(&seen, "none", "");
        assert_eq!(seen.1["resolvers"].as_array().map(Vec::len), Some(1));
        net.sh(
            Place::Router,
            "iptables -nvxL FORWARD | awk '$3 == \"REJECT\" && $1 > 0 { bad = 1 } END { exit bad }'",
        );
    });
}
