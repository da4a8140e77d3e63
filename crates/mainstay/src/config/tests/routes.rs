//! Routes: what is meant by them, and what is told of those that cannot be told apart or would lead astray.

use mainstay_model::ServiceId;
use mainstay_model::affinity::{HashBy, Sticky};
use mainstay_model::limits::Level;
use mainstay_model::route::{HeaderRule, PathRule};

use super::*;

const SHOP: &str = "[service.shop]\nserver.a.address = \"10.0.0.1:1\"\n";
const BLOG: &str = "[service.blog]\nhosts = []\nserver.a.address = \"10.0.0.1:2\"\n";

fn service(config: &Config, name: &str) -> ServicePolicy {
    config.policy.services[&ServiceId::new(name)].clone()
}

#[test]
fn every_key_of_a_route_arrives_where_it_is_meant() {
    let config = read(
        r#"
        [service.shop]
        hosts = ["shop.example.com", "*.Shop.example.com"]
        paths = ["/shop", "/v1/"]
        redirect-https = true
        limits = { concurrent = 10, body-max = "1MiB" }
        timeouts = { request = "20s" }
        response-headers.set.Strict-Transport-Security = "max-age=31536000"
        server.a.address = "10.0.0.1:1"
        [[service.shop.route]]
        path = ["/api", "/rpc"]
        methods = ["POST", "PUT"]
        header = { X-Beta = "yes", X-Any = "*" }
        timeouts.per-try = "5s"
        limits.body-max = "10MiB"
        priority = "high"
        rewrite = "/v2/"
        redirect-https = false
        request-headers = { set = { X-Tenant = "{host}" }, remove = "X-Internal" }
        response-headers.add.Set-Cookie = ["a=1", "b=2"]
        [[service.shop.route]]
        exact = "/"
        redirect = "/start{query}"
        redirect-status = 302
        [[service.shop.route]]
        hosts = "blog.example.com"
        path = "/"
        service = "blog"
        [service.blog]
        hosts = []
        timeouts.request = "3s"
        server.a.address = "10.0.0.1:2"
        "#,
    )
    .unwrap();
    let carriage = service(&config, "shop").carriage;
    assert_eq!(carriage.hosts, ["shop.example.com", "*.shop.example.com"]);
    assert_eq!(carriage.paths, ["/shop", "/v1/"]);
    assert!(carriage.handling.redirect_https && carriage.handling.response_headers.add[0].secure_only);
    let [api, start, blog] = &carriage.routes[..] else { panic!("three routes") };
    assert_eq!(api.when.hosts, carriage.hosts);
    assert_eq!(api.when.paths, [PathRule::below("/api"), PathRule::below("/rpc")]);
    assert_eq!(api.when.methods, ["POST", "PUT"]);
    let header = |name: &str, value: Option<&str>| HeaderRule {
        name: name.to_owned(),
        value: value.map(str::to_owned),
    };
    let mut headers = api.when.headers.clone();
    headers.sort();
    assert_eq!(headers, [header("x-any", None), header("x-beta", Some("yes"))]);
    let timeouts = api.handling.timeouts.unwrap();
    assert_eq!((timeouts.per_try, timeouts.request), (Duration::from_secs(5), Duration::from_secs(20)));
    assert_eq!((api.handling.body_max, api.handling.level), (Some(10 << 20), Some(Level::High)));
    assert_eq!((api.handling.rewrite.as_deref(), api.handling.redirect_https), (Some("/v2"), false));
    assert_eq!(api.handling.request_headers.remove, ["x-tenant", "x-internal"]);
    let names: Vec<&str> = api.handling.response_headers.add.iter().map(|line| line.name.as_str()).collect();
    assert_eq!(names, ["Strict-Transport-Security", "Set-Cookie", "Set-Cookie"]);
    assert_eq!(start.when.paths, [PathRule::exactly("/")]);
    let redirect = start.handling.redirect.as_ref().unwrap();
    assert_eq!((redirect.status, redirect.to.to_string().as_str()), (302, "/start{query}"));
    assert!(start.handling.redirect_https, "as the service has it");
    assert_eq!(blog.service, Some(ServiceId::new("blog")));
    assert!(service(&config, "blog").carriage.unlisted);
}

#[test]
fn routes_that_cannot_be_told_apart_are_told_with_both_places() {
    let route = |name: &str, rest: &str| format!("[[service.{name}.route]]\n{rest}\n");
    let shop = |rest: &str| format!("{SHOP}{rest}");
    let two = |a: &str, b: &str| told(&shop(&format!("{}{}", route("shop", a), route("shop", b))));
    assert_eq!(
        two("path = \"/api\"", "path = [\"/x\", \"/api/\"]"),
        ["6:15 service.shop.route.path: every host with /api/ leads to service shop already, by line 4"]
    );
    for (a, b) in [
        ("path = \"/api\"", "exact = \"/api\""),
        ("path = \"/api\"", "path = \"/api\"\nmethods = \"GET\""),
        ("path = \"/api\"\nmethods = \"GET\"", "path = \"/api\"\nmethods = \"PUT\""),
        ("path = \"/api\"\nheader.x = \"1\"", "path = \"/api\"\nheader.x = \"2\""),
        // Of one service the first one goes first.
        ("path = \"/api\"\nheader.x = \"1\"", "path = \"/api\"\nheader.y = \"1\""),
        ("path = \"/api\"\nhosts = \"a.example\"", "path = \"/api\"\nhosts = \"*.example\""),
    ] {
        assert_eq!(two(a, b), [""; 0], "{a} beside {b}");
    }
    let other = "[service.blog]\nhosts = \"b.example\"\nserver.a.address = \"10.0.0.1:2\"\n[[service.blog.route]]\nhosts = \"*\"\npath = \"/api\"\nheader.y = \"1\"\n";
    assert_eq!(
        told(&shop(&format!("{other}{}", route("shop", "path = \"/api\"\nheader.x = \"1\"")))),
        [
            "11:8 service.shop.route.path: nothing says whether this or line 8 goes first for every host with /api"
        ]
    );
    assert_eq!(
        told(&shop(
            "[service.b]\npaths = \"/b\"\nserver.a.address = \"10.0.0.1:2\"\n[service.c]\npaths = \"/b\"\nserver.a.address = \"10.0.0.1:3\"\n"
        )),
        ["7:9 service.c.paths: every host with /b leads to service b already, by line 4"]
    );
}

#[test]
fn what_would_lead_astray_is_told() {
    let of_route = [
        ("path = \"api\"", "not a plain path"),
        ("path = \"/api/*\"", "not a plain path"),
        ("path = \"/%61pi\"", "not a plain path"),
        ("path = \"/a//b\"", "not a plain path"),
        ("exact = \"/a/../b\"", "not a plain path"),
        ("rewrite = \"/a?b\"", "not a plain path"),
        ("methods = \"get\"", "not a method"),
        ("hosts = \"shop.*.com\"", "a wildcard stands in front of a whole name"),
        ("service = \"blgo\"", "there is no service blgo"),
        ("priority = \"high\"", "priority says nothing without limits.concurrent"),
        ("redirect-status = 301", "says nothing without redirect"),
        ("redirect = \"/x\"\nredirect-status = 304", "not a redirect"),
        ("redirect = \"/x\"\nrewrite = \"/y\"", "rewrite says nothing where Mainstay redirects"),
        (
            "redirect = \"www.example.com\"",
            "a redirect leads to a path or to an address with http:// or https://",
        ),
        ("redirect = \"//evil.example{uri}\"", "two slashes in front make the rest a host"),
        ("redirect = \"https://{service}/\"", "there is no host in it that can be told beforehand"),
        ("redirect = \"https://{uri}\"", "there is no host in it that can be told beforehand"),
        ("redirect = \"https://a b/\"", "an address has no spaces and no letters outside of ASCII"),
        ("redirect = \"/{hots}\"", "there is no part {hots}"),
        ("request-headers.set.X-A = \"{\"", "a brace that opens or closes nothing"),
        ("request-headers.set.X-A = \"a\\r\\nHost: b\"", "not the value of a header"),
        ("request-headers.set.X-A = \"a\\u0000\"", "not the value of a header"),
        ("request-headers.set.\"X A\" = \"a\"", "not the name of a header"),
        ("request-headers.set.X_A = \"a\"", "not the name of a header"),
        ("request-headers = { set = { A = \"a\" }, remove = \"a\" }", "set or removed here twice"),
    ];
    for (written, what) in of_route {
        let path =
            if written.starts_with("path") || written.starts_with("exact") { "" } else { "path = \"/p\"\n" };
        let text = format!("{SHOP}[[service.shop.route]]\n{path}{written}\n");
        let told = told(&text);
        assert!(told.len() == 1 && told[0].ends_with(what), "{written}: {told:?}");
    }
    for name in ["Host", "content-length", "Transfer-Encoding", "Connection", "TE", "Upgrade"] {
        for way in ["set", "add", "remove"] {
            let change = match way {
                "remove" => format!("remove = [\"{name}\"]"),
                _ => format!("{way} = {{ {name} = \"1\" }}"),
            };
            for direction in ["request", "response"] {
                let told = told(&format!("{SHOP}{direction}-headers = {{ {change} }}\n"));
                assert!(told.len() == 1 && told[0].contains("this header is Mainstay's own"), "{told:?}");
            }
        }
    }
}

#[test]
fn a_service_without_hosts_needs_somebody_who_leads_to_it() {
    assert_eq!(
        told(&format!("{SHOP}{BLOG}")),
        ["4:9 service.blog.hosts: no host leads here, and no route of another service"]
    );
    let led = format!("{SHOP}[[service.shop.route]]\npath = \"/blog\"\nservice = \"blog\"\n{BLOG}");
    assert_eq!(told(&led), [""; 0]);
}

#[test]
fn redirects_lead_where_they_say() {
    for to in [
        "/new{rest}",
        "{uri}",
        "https://{host}{uri}",
        "{scheme}://www.example.com:8443{path}?from={visitor}",
        "http://[2001:db8::1]/",
        "https://www.{host}/",
    ] {
        let text = format!("{SHOP}[[service.shop.route]]\npath = \"/x\"\nredirect = \"{to}\"\n");
        assert_eq!(told(&text), [""; 0], "{to}");
    }
}

#[test]
fn balancers_and_sticky_sessions_are_as_written() {
    let of = |text: &str| {
        service(
            &read(&format!("[service.shop]\n{text}\nserver.a.address = \"10.0.0.1:1\"\n")).unwrap(),
            "shop",
        )
    };
    for (text, balance) in
        [("least-requests", Balance::LeastRequests), ("random", Balance::Random), ("hash", Balance::Hash)]
    {
        assert_eq!(of(&format!("balance = \"{text}\"")).carriage.balance, balance);
    }
    for (text, by) in [
        ("visitor", HashBy::Visitor),
        ("path", HashBy::Path),
        ("header:X-Tenant", HashBy::Header("x-tenant".into())),
        ("cookie:Session", HashBy::Cookie("Session".into())),
        ("query:id", HashBy::Query("id".into())),
    ] {
        assert_eq!(of(&format!("balance = \"hash\"\nhash-by = \"{text}\"")).carriage.hash_by, by);
    }
    let sticky = of("sticky = { cookie = \"srv\" }").carriage.sticky.clone().unwrap();
    assert_eq!((sticky.path.as_str(), sticky.max_age, sticky.drain), ("/", None, Sticky::DRAIN));
    let sticky = of("sticky = { cookie = \"srv\", path = \"/x\", max-age = \"1h\", drain = \"0s\" }");
    let sticky = sticky.carriage.sticky.clone().unwrap();
    assert_eq!((sticky.max_age, sticky.drain), (Some(Duration::from_secs(3600)), Duration::ZERO));
    for (written, what) in [
        ("hash-by = \"path\"", "says nothing without balance = \"hash\""),
        ("balance = \"hash\"\nhash-by = \"ip\"", "not a key of a request"),
        ("balance = \"hash\"\nhash-by = \"query:\"", "not a key of a request"),
        ("balance = \"fastest\"", "unknown value"),
        ("sticky = {}", "cookie is missing"),
        ("sticky = { cookie = \"a b\" }", "not the name of a cookie"),
        ("sticky = { cookie = \"a\", path = \"/;x\" }", "not a path of a cookie"),
        ("sticky = { cookie = \"a\", max-age = \"100ms\" }", "browsers count whole seconds"),
    ] {
        let told = told(&format!("[service.shop]\n{written}\nserver.a.address = \"10.0.0.1:1\"\n"));
        assert!(told.len() == 1 && told[0].ends_with(what), "{written}: {told:?}");
    }
}
