//! Routes as visitors and servers see them: who answers, with what changed, and what cannot be slipped past.

use std::sync::Arc;
use std::time::Duration;

use mainstay_model::ServiceId;
use mainstay_model::policy::Timeouts;
use mainstay_model::route::{
    Condition, Handling, HeaderChanges, HeaderLine, HeaderRule, PathRule, Redirect, Route,
};
use mainstay_model::routing::RoutingTable;
use mainstay_model::stencil::Stencil;

use crate::support::{Gate, Origin, PATIENCE, Rig, Then, carriage, get, ok, table};

/// The table of `shop` and of `blog`, which no host leads to.
fn two_services(shop: &Origin, blog: &Origin) -> RoutingTable {
    let mut both = table(&[shop.address]);
    let mut other = table(&[blog.address]).services.remove(0);
    other.id = ServiceId::new("blog");
    other.targets[0].id = other.id.server("a");
    Arc::make_mut(&mut other.carriage).unlisted = true;
    both.services.push(other);
    both
}

fn at(path: &str) -> Condition {
    Condition { paths: vec![PathRule::below(path)], ..Condition::default() }
}

fn route(when: Condition, handling: Handling) -> Route {
    Route { when, service: None, handling: Arc::new(handling) }
}

fn stencil(text: &str) -> Stencil {
    Stencil::parse(text).unwrap()
}

fn line(name: &str, value: &str) -> HeaderLine {
    HeaderLine { name: name.to_owned(), value: stencil(value), secure_only: false }
}

#[test]
fn a_path_a_method_or_a_header_leads_to_another_service() {
    let (shop, blog) = (Origin::of("shop"), Origin::of("blog"));
    let mut both = two_services(&shop, &blog);
    let to_blog = |when| Route { service: Some(ServiceId::new("blog")), ..route(when, Handling::default()) };
    let header = HeaderRule { name: "x-beta".into(), value: Some("yes".into()) };
    carriage(&mut both).routes = vec![
        to_blog(at("/blog")),
        to_blog(Condition { methods: vec!["PUT".into()], ..at("/items") }),
        to_blog(Condition { headers: vec![header], ..Condition::default() }),
    ];
    let rig = Rig::new(both);
    let ask = |request: &str| rig.ask(request).text();
    assert_eq!(ask(&get("/")), "shop");
    assert_eq!(ask(&get("/blog/1?x=/")), "blog");
    assert_eq!(ask(&get("/blogs")), "shop");
    assert_eq!(ask(&get("/items/1")), "shop");
    assert_eq!(ask("PUT /items/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"), "blog");
    assert_eq!(ask("GET / HTTP/1.1\r\nHost: a\r\nX-Beta: yes\r\n\r\n"), "blog");
    assert_eq!(ask("GET / HTTP/1.1\r\nHost: a\r\nX-Beta: yes, no\r\n\r\n"), "shop");
    let (_, told) = rig.finish(PATIENCE);
    let requests = |id: &str| told.traffic.services[&ServiceId::new(id)].requests;
    assert_eq!((requests("shop"), requests("blog")), (4, 3));
}

#[test]
fn nobody_slips_past_a_route_and_no_server_sees_who_tries() {
    let (shop, blog) = (Origin::of("shop"), Origin::of("blog"));
    let mut both = two_services(&shop, &blog);
    carriage(&mut both).routes =
        vec![Route { service: Some(ServiceId::new("blog")), ..route(at("/admin"), Handling::default()) }];
    let rig = Rig::new(both);
    for path in [
        "/x/../admin",
        "/./admin",
        "/%2e%2e/admin",
        "//admin",
        "/%61dmin",
        "/x%2f..%2fadmin",
        "/admin%2f",
        "/admin;x",
        "/..;/admin",
        "/\\admin",
        "/admin%00",
        "http://a/../admin",
    ] {
        let answer = rig.get(path);
        assert_eq!(answer.status, 400, "{path}");
        assert_eq!(answer.header("connection"), Some("close"), "{path}");
    }
    assert_eq!((shop.count(), blog.count()), (0, 0));
    assert_eq!(rig.get("/admin/a%2Fb").text(), "blog");
    assert_eq!(rig.get("/group%2Fproject").text(), "shop");
    assert_eq!(shop.seen()[0].path(), "/group%2Fproject", "what is passed on is passed on as it came");
}

#[test]
fn a_known_host_without_the_path_and_an_unknown_host_are_told_apart() {
    let shop = Origin::of("shop");
    let mut one = table(&[shop.address]);
    carriage(&mut one).hosts = vec!["shop.example.com".into()];
    carriage(&mut one).paths = vec!["/api".into()];
    let rig = Rig::new(one);
    let ask = |host: &str, path: &str| {
        rig.ask(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n\r\n"))
    };
    assert_eq!(ask("shop.example.com", "/api/x").text(), "shop");
    let lost = ask("shop.example.com", "/x");
    assert_eq!(lost.status, 404);
    assert!(lost.text().contains("\"no-such-path\""), "{}", lost.text());
    let lost = ask("other.example.com", "/api");
    assert!(lost.status == 404 && lost.text().contains("\"no-such-site\""), "{}", lost.text());
}

#[test]
fn a_route_rewrites_the_path_and_changes_headers_both_ways() {
    let origin = Origin::start(|_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nServer: secret/1.0\r\nX-Powered-By: y\r\nContent-Length: 2\r\n\r\nok");
        Then::Continue
    });
    let mut one = table(&[origin.address]);
    let handling = Handling {
        rewrite: Some(String::new()),
        request_headers: HeaderChanges {
            remove: vec!["x-tenant".into(), "x-forwarded-host".into()],
            add: vec![
                line("X-Tenant", "{host}"),
                line("X-Real-Ip", "{visitor}"),
                line("X-Id", "{request-id}"),
            ],
        },
        response_headers: HeaderChanges {
            remove: vec!["server".into(), "x-powered-by".into()],
            add: vec![
                line("X-Served-By", "{service}"),
                HeaderLine { secure_only: true, ..line("Strict-Transport-Security", "max-age=60") },
            ],
        },
        ..Handling::default()
    };
    carriage(&mut one).routes = vec![route(at("/api"), handling)];
    let rig = Rig::new(one);
    let answer = rig.ask(
        "GET /api/items?x=1 HTTP/1.1\r\nHost: a:80\r\nX-Tenant: forged\r\nX_Tenant: forged\r\nX-Request-Id: mine\r\n\r\n",
    );
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.header("x-served-by"), Some("shop"));
    assert_eq!((answer.header("server"), answer.header("x-powered-by")), (None, None));
    assert_eq!(answer.header("strict-transport-security"), None, "not in the clear");
    let seen = &origin.seen()[0];
    assert_eq!(seen.path(), "/items?x=1");
    assert_eq!(seen.all("x-tenant"), ["a"]);
    assert!(seen.all("x_tenant").is_empty() && seen.all("x-forwarded-host").is_empty());
    assert_eq!((seen.all("x-real-ip"), seen.all("x-id")), (vec!["127.0.0.1"], vec!["mine"]));
    assert_eq!(rig.get("/other").header("server"), Some("secret/1.0"), "other requests are left alone");
    assert_eq!(origin.seen()[1].path(), "/other");
}

#[test]
fn a_redirect_is_mainstays_own_answer_and_keeps_the_connection() {
    let origin = Origin::of("shop");
    let mut one = table(&[origin.address]);
    let redirect = |status, to| Handling {
        redirect: Some(Redirect { status, to: stencil(to) }),
        response_headers: HeaderChanges { remove: Vec::new(), add: vec![line("X-Why", "moved")] },
        ..Handling::default()
    };
    carriage(&mut one).routes = vec![
        route(at("/old"), redirect(301, "https://new.example.com/archive{rest}")),
        route(at("/same"), redirect(307, "{uri}")),
        route(at("/clear"), Handling { redirect_https: true, ..Handling::default() }),
    ];
    let rig = Rig::new(one);
    let mut wire = rig.connect();
    for (path, status, to) in [
        ("/old/x?y=1", 301, "https://new.example.com/archive/x?y=1"),
        ("/old", 301, "https://new.example.com/archive"),
        ("/clear/a?b", 308, "https://a/clear/a?b"),
    ] {
        wire.send(get(path));
        let answer = wire.answer().unwrap();
        assert_eq!((answer.status, answer.header("location")), (status, Some(to)), "{path}");
        assert_eq!(answer.body, b"");
        assert_eq!(answer.header("x-why").is_some(), path.starts_with("/old"));
    }
    assert_eq!(rig.ask("HEAD /old HTTP/1.1\r\nHost: a\r\n\r\n").status, 301);
    let post = rig.ask("POST /same HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab");
    assert_eq!((post.status, post.header("connection")), (307, Some("close")));
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().requests, told.service().failed), (5, 0));
    assert_eq!(origin.count(), 0);
}

#[test]
fn only_a_proxy_that_is_trusted_is_believed_that_the_visitor_came_by_https() {
    let origin = Origin::of("shop");
    let mut one = table(&[origin.address]);
    carriage(&mut one).handling = Arc::new(Handling { redirect_https: true, ..Handling::default() });
    let ask = |rig: &Rig| rig.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n").status;
    let rig = Rig::new(one.clone());
    assert_eq!(ask(&rig), 308);
    let limits = Arc::make_mut(&mut carriage(&mut one).limits);
    limits.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    rig.publish(one);
    assert_eq!(ask(&rig), 200);
    assert_eq!(rig.get("/").status, 308);
}

#[test]
fn a_route_has_deadlines_and_limits_of_its_own() {
    let gate = Gate::default();
    let origin = Origin::start({
        let gate = gate.clone();
        move |seen, wire| {
            if seen.path().starts_with("/slow") {
                gate.wait();
            }
            wire.send(ok("shop"));
            Then::Continue
        }
    });
    let mut one = table(&[origin.address]);
    carriage(&mut one).retry.max_tries = 1;
    let short = Timeouts { request: Duration::from_millis(100), ..Timeouts::default() };
    carriage(&mut one).routes = vec![
        route(at("/slow"), Handling { timeouts: Some(short), ..Handling::default() }),
        route(at("/upload"), Handling { body_max: Some(4), ..Handling::default() }),
    ];
    let rig = Rig::new(one);
    assert_eq!(rig.get("/slow").status, 504);
    gate.open();
    let post = |path: &str| {
        rig.ask(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345")).status
    };
    assert_eq!((post("/upload"), post("/other")), (413, 200));
    let chunked =
        "POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n";
    assert_eq!(rig.ask(chunked).status, 413);
}

#[test]
fn a_page_of_mainstays_own_has_the_routes_headers_but_keeps_its_own() {
    let mut one = table(&[]);
    let handling = Handling {
        response_headers: HeaderChanges {
            remove: vec!["cache-control".into()],
            add: vec![line("X-Frame-Options", "DENY"), line("Cache-Control", "public, max-age=3600")],
        },
        ..Handling::default()
    };
    carriage(&mut one).handling = Arc::new(handling);
    let rig = Rig::new(one);
    let answer = rig.get("/");
    assert_eq!((answer.status, answer.header("x-frame-options")), (503, Some("DENY")));
    let caching: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "Cache-Control").collect();
    assert_eq!(caching.len(), 1);
    assert_eq!(answer.header("cache-control"), Some("no-store"), "nobody keeps a page of failure");
}
