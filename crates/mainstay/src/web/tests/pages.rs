//! What the pages say and carry.

use std::sync::Arc;

use mainstay_model::input::{AdminState, Input};
use mainstay_model::monitor::MonitorSnapshot;
use mainstay_model::sample::Phases;
use mainstay_model::snapshot::{LastProbe, Signal, StateChange};
use mainstay_model::{IncidentId, MonitorId, ServiceId, Snapshot};

use super::{Stage, fake};

const PAGES: [&str; 20] = [
    "/",
    "/host",
    "/map",
    "/maintenance",
    "/services/shop",
    "/services/shop?range=30d",
    "/servers/shop/app-1",
    "/servers/shop/app-2?range=24h",
    "/servers/shop/app-2/state?to=draining",
    "/servers/shop/app-2/state?to=maintenance",
    "/incidents",
    "/incidents?before=5",
    "/incidents/7",
    "/incidents/3",
    "/backups",
    "/drills",
    "/monitors",
    "/monitors?state=down&q=check&page=2",
    "/monitors/check-007?range=1y",
    "/no-such-page",
];

#[tokio::test]
async fn every_page_carries_a_strict_policy_and_nothing_inline() {
    let stage = Stage::open();
    for path in PAGES {
        let page = stage.get(path).await;
        let policy = page.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}");
        assert_eq!(page.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(page.header("cache-control"), "no-store", "{path}");
        assert_eq!(page.header("referrer-policy"), "same-origin", "{path}");
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8", "{path}");
        for inline in [" style=\"", "<style", " onclick", " onload", "javascript:", "<script>"] {
            assert!(!page.body.contains(inline), "{path} has {inline}");
        }
        assert_eq!(page.body.matches("<script").count(), 1, "{path}");
        assert_eq!(page.body.matches("<h1").count(), 1, "{path} has one heading");
        assert!(page.body.contains("<html lang=\"en\">") && page.body.contains("<title>"), "{path}");
    }
}

#[tokio::test]
async fn monitors_are_grouped_filtered_and_paged_here() {
    let stage = Stage::open();
    let rows = |body: &str| body.matches("class=\"who\"").count();
    let plain = |body: String| body.replace(['\u{202f}', '\u{a0}'], " ");
    let first = plain(stage.get("/monitors").await.body);
    assert_eq!(rows(&first), 50, "a page of them");
    assert!(first.contains("121 monitors") && first.contains("page 1 of 3"), "{first}");
    assert!(first.contains("own &#60;b&#62;sites&#60;/b&#62;"), "a group is text");
    assert_eq!(rows(&stage.get("/monitors?page=3").await.body), 21);
    assert_eq!(rows(&stage.get("/monitors?page=999").await.body), 21);
    let down = plain(stage.get("/monitors?state=down").await.body);
    assert_eq!(rows(&down), 2);
    assert!(down.contains("2 monitors of 121") && down.contains("connection refused"), "{down}");
    assert_eq!(rows(&stage.get("/monitors?q=CHECK-01").await.body), 10);
    assert_eq!(rows(&stage.get("/monitors?group=own+%3Cb%3Esites%3C%2Fb%3E&state=up").await.body), 39);
    assert_eq!(rows(&stage.get("/monitors?incident=8").await.body), 2);
    assert_eq!(stage.get("/monitors?state=ill").await.status, 400);
    assert_eq!(stage.get("/monitors/nobody").await.status, 404);
    let one = stage.get("/monitors/check-007?range=24h").await.body;
    assert!(one.contains("incident 8") && one.contains("Last looks") && one.contains("1 year"), "{one}");
    let overview = stage.get("/").await.body;
    assert!(overview.contains("/monitors?state=down"), "the overview leads to those that are down");
    let (_, list) = stage.get_json("/api/v1/monitors?limit=100&tag=payments").await;
    assert_eq!((list["found"].as_u64(), list["monitors"].as_array().map(Vec::len)), (Some(61), Some(61)));
    let (_, some) = stage.get_json("/api/v1/monitors?limit=100").await;
    let after = some["next_after"].as_str().unwrap_or_default();
    let (_, rest) = stage.get_json(&format!("/api/v1/monitors?after={after}")).await;
    assert_eq!(rest["monitors"].as_array().map(Vec::len), Some(21));
}

#[tokio::test]
async fn a_server_shows_its_last_looks_and_its_year() {
    let page = Stage::open().get("/servers/shop/app-1?range=1y").await.body;
    assert!(page.contains("Last looks") && page.contains("1 year"), "{page}");
    assert!(page.contains("answered 503, not 200") && page.contains("no file descriptors"), "{page}");
    let broken = Stage::new(fake::snapshot(), true, fake::FakePast { broken: true });
    let page = broken.get("/servers/shop/app-1").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.body.matches("The record cannot be read").count(), 2, "the charts and the looks");
}

/// Ten thousand, nearly each with a group and a tag of its own.
fn ten_thousand() -> Snapshot {
    let few = fake::snapshot();
    let one = |n: usize| {
        let like = &few.monitors[n % few.monitors.len()];
        let mut one = MonitorSnapshot::clone(like);
        one.id = MonitorId::new(format!("target-{n:05}"));
        one.group = Some(format!("customer-{:04}", n / 2).into());
        one.tags = vec![format!("rack-{:04}", n % 3000).into(), "web".into()];
        Arc::new(one)
    };
    Snapshot { monitors: Arc::new((0..10_000).map(one).collect()), ..few }
}

#[tokio::test]
async fn ten_thousand_monitors_are_pages_like_any_other() {
    let stage = Stage::new(ten_thousand(), true, fake::FakePast::default());
    let names = |body: &str| -> Vec<String> {
        body.split("href=\"/monitors/")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().to_owned())
            .collect()
    };
    let mut seen = Vec::new();
    for page in 1..=3 {
        let begun = std::time::Instant::now();
        let shown = stage.get(&format!("/monitors?page={page}")).await.body;
        println!("page {page} of 10,000 monitors: {} bytes after {:?}", shown.len(), begun.elapsed());
        assert!(shown.len() < 100_000, "page {page} has {} bytes", shown.len());
        seen.extend(names(&shown));
    }
    assert_eq!(seen.len(), 150);
    assert_eq!(seen[..2], ["target-00000", "target-00001"]);
    assert_eq!(seen[6..8], ["target-00007", "target-00006"], "what is down stands first in its group");
    let mut sorted = seen.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted, (0..150).map(|n| format!("target-{n:05}")).collect::<Vec<_>>(), "each of them once");
    let last = stage.get("/monitors?page=200").await.body;
    assert!(names(&last).contains(&"target-09999".to_owned()), "{last}");
    let page = stage.get("/monitors?group=customer-4711").await.body;
    assert_eq!(names(&page), ["target-09422", "target-09423"]);
    assert!(page.contains("<option selected>customer-4711</option>"), "the chosen one is offered");
    assert!(page.contains("the most used are offered"), "{page}");
    for query in ["q=TARGET-0999", "tag=rack-2999", "state=down", "q=rack-0001&state=up"] {
        let page = stage.get(&format!("/monitors?{query}")).await;
        assert_eq!(page.status, 200, "{query}");
        assert!(!names(&page.body).is_empty() && page.body.len() < 100_000, "{query}");
    }
}

#[tokio::test]
async fn style_script_and_icon_are_our_own_and_kept_for_long() {
    let stage = Stage::open();
    let page = stage.get("/").await.body;
    let assets: Vec<_> = page.split('"').filter(|text| text.starts_with("/assets/")).collect();
    assert!(assets.len() >= 3);
    for path in assets {
        let asset = stage.get(path).await;
        assert_eq!(asset.status, 200, "{path}");
        assert!(asset.header("cache-control").contains("immutable"));
        assert!(asset.body.len() < 40_000);
        assert_eq!(asset.header("x-content-type-options"), "nosniff");
    }
    for path in ["/assets/mainstay.css", "/assets/..%2f..%2fCargo.toml", "/assets/"] {
        assert_eq!(stage.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn the_overview_tells_how_things_are_in_word_and_shape() {
    let page = Stage::open().get("/").await.body;
    for expected in [
        "shop runs on 2 of 4\u{a0}servers",
        "Nobody noticed: 12\u{a0}requests were saved by a retry",
        "data-state=\"healthy\"><svg class=\"mark healthy\" aria-hidden=\"true\"><use href=\"#healthy\"/></svg>healthy",
        "data-state=\"degraded\"",
        "data-state=\"down\"",
        "data-state=\"unknown\"",
        "app-2 of shop was killed by SIGKILL",
        "app-1 of shop did not answer",
        "Mainstay itself: alerts",
        "smtp.example.com:465 does not answer",
        "connection refused",
        "slow start",
        "backup",
        "draining: 3 requests still under way",
        "visitors get the 503 page",
        "<th scope=\"row\"><a href=\"/servers/shop/app-2\">app-2</a>",
    ] {
        assert!(page.contains(expected), "{expected} is missing");
    }
    for shape in ["healthy", "degraded", "down", "unknown"] {
        assert!(page.contains(&format!("<symbol id=\"{shape}\"")), "{shape} has no shape");
    }
}

#[tokio::test]
async fn an_empty_mainstay_and_a_broken_record_are_told_not_hidden() {
    let stage = Stage::new(Snapshot::default(), true, fake::FakePast::default());
    assert!(stage.get("/").await.body.contains("There are no services yet"));
    let stage = Stage::new(fake::snapshot(), true, fake::FakePast { broken: true });
    let server = stage.get("/servers/shop/app-1").await;
    assert_eq!(server.status, 200, "the page itself does not need the record");
    assert!(server.body.contains("The record cannot be read") && server.body.contains("Why"));
    assert_eq!(stage.get("/incidents/7").await.status, 200);
    let list = stage.get("/incidents").await;
    assert!(list.body.contains("The record cannot be read") && list.body.contains("/incidents/7"));
    assert_eq!(stage.get("/incidents/3").await.status, 503);
}

#[tokio::test]
async fn a_servers_page_says_why_and_shows_its_process_and_its_past() {
    let page = Stage::open().get("/servers/shop/app-2").await.body;
    for expected in [
        "its process was killed by SIGKILL",
        "a restart, then 2 good probes in a row (rise = 2)",
        "probes failed in a row",
        "consecutive-failures = 5",
        "against it",
        "2 of 5",
        "next restart",
        "not running",
        "app-2 listens on 3000",
        "Time to first byte",
        "The same as a table",
        "href=\"/servers/shop/app-2?range=30d\"",
        "unknown</title>",
        "class=\"unknown\">unknown</td>",
        "href=\"/servers/shop/app-2/state?to=maintenance\"",
    ] {
        assert!(page.contains(expected), "{expected} is missing");
    }
    let spent = Stage::open().get("/servers/shop/app-3").await.body;
    assert!(spent.contains("pid 4711") && spent.contains("5 of 5: spent"));
    let unsupervised = Stage::open().get("/servers/shop/app-1").await.body;
    assert!(!unsupervised.contains("Last output"));
}

#[tokio::test]
async fn an_incidents_page_tells_times_visitors_and_every_step() {
    let stage = Stage::open();
    let page = stage.get("/incidents/7").await.body;
    for expected in [
        "after 4\u{202f}ms",
        "not yet",
        "03:13:54.950",
        "+212\u{202f}ms",
        "class=\"observed\"",
        "class=\"decided\"",
        "class=\"acted\"",
        "class=\"person\"",
        "7 times",
        "3\u{a0}entries of the middle left out",
        "Acknowledge",
    ] {
        assert!(page.contains(expected), "{expected} is missing");
    }
    assert!(page.contains("Changed in the hour before") && page.contains("deployed v42"));
    assert!(stage.get("/services/shop").await.body.contains("Changed in the last day"));
    let over = stage.get("/incidents/3").await.body;
    assert!(over.contains("Taken on by <b>Ada</b>") && !over.contains(">Acknowledge<"));
    assert!(over.contains("14\u{a0}requests failed"));
    assert!(
        over.contains("not done") && !over.contains("at quiet\">not yet"),
        "what never happened will not"
    );
}

#[tokio::test]
async fn the_list_of_incidents_has_the_record_and_what_is_fresher() {
    let stage = Stage::open();
    let page = stage.get("/incidents").await.body;
    let at: Vec<_> = (1..=7).map(|id| page.find(&format!("href=\"/incidents/{id}\"")).unwrap()).collect();
    assert!(at.is_sorted_by(|a, b| a > b), "newest first");
    let older = stage.get("/incidents?before=3").await.body;
    assert!(
        older.contains("/incidents/2\"")
            && !older.contains("/incidents/3\"")
            && !older.contains("/incidents/7\"")
    );
}

#[tokio::test]
async fn names_and_lines_from_outside_are_only_ever_text() {
    let evil = "<script>alert(1)</script>\"'&";
    let mut snapshot = fake::snapshot();
    let service = ServiceId::new(evil);
    let mut server = fake::server(&service, evil);
    server.health = mainstay_model::snapshot::Health::Unhealthy;
    server.why.rule = evil.to_owned();
    server.why.would_change = evil.to_owned();
    server.why.signals =
        vec![Signal { name: evil.to_owned(), value: evil.to_owned(), threshold: evil.to_owned(), bad: true }];
    server.why.changes = vec![StateChange { at: fake::NOW, text: evil.to_owned() }];
    server.last_probe = Some(LastProbe {
        at: fake::NOW,
        good: false,
        text: evil.to_owned(),
        took_ms: 1.0,
        phases: Phases::default(),
    });
    let mut shown = fake::service(&service, vec![server]);
    shown.hosts = vec![evil.to_owned()];
    snapshot.services.push(shown);
    snapshot.own_trouble[0].1 = evil.to_owned();
    let incident = Arc::make_mut(&mut snapshot.incidents[0]);
    incident.title = evil.to_owned();
    incident.acknowledged = Some((evil.to_owned(), fake::NOW));
    incident.timeline[0].text = evil.to_owned();
    incident.timeline[0].server = Some(service.server(evil));
    incident.servers = vec![service.server(evil)];
    let stage = Stage::new(snapshot, true, fake::FakePast::default());
    let name = crate::web::words::encode(evil);
    for path in [
        "/".to_owned(),
        format!("/services/{name}"),
        format!("/servers/{name}/{name}"),
        format!("/servers/{name}/{name}/state?to=ready"),
        "/incidents".to_owned(),
        "/incidents/7".to_owned(),
        "/servers/shop/app-2".to_owned(),
    ] {
        let page = stage.get(&path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(!page.body.contains("<script>"), "{path}");
        assert!(page.body.contains("&#60;script&#62;"), "{path} does not show it at all");
    }
    for path in [
        format!("/servers/{name}/x"),
        "/servers/%3Cscript%3E/x".to_owned(),
        "/login?next=%22%3E%3Cscript%3E".to_owned(),
    ] {
        assert!(!stage.get(&path).await.body.contains("<script>"), "{path}");
    }
}

#[tokio::test]
async fn an_incident_shows_what_was_answered_and_runs_none_of_it() {
    let stage = Stage::new(fake::snapshot(), true, fake::FakePast::default());
    let page = stage.get("/incidents/7").await.body;
    let (_, answers) = page.split_once("<h2>What was answered and written</h2>").expect("there is one");
    for expected in [
        "app-2, GET /health: status 503",
        "connect 2.0 ms",
        "set-cookie: (not kept)\n\n&#60;h1&#62;no database",
        "It is longer, or broke off here.",
    ] {
        assert!(answers.contains(expected), "{expected} is not in {answers}");
    }
}

#[tokio::test]
async fn a_page_is_under_100_kb_with_fifty_servers_and_the_longest_timeline() {
    let mut snapshot = fake::snapshot();
    let shop = ServiceId::new("shop");
    let killed = snapshot.services[1].servers[1].clone();
    snapshot.services[1].servers = (0..50)
        .map(|i| {
            if i % 5 == 0 {
                let mut server = killed.clone();
                server.id = shop.server(format!("app-{i}"));
                server
            } else {
                fake::server(&shop, &format!("app-{i}"))
            }
        })
        .collect();
    let incident = Arc::make_mut(&mut snapshot.incidents[0]);
    while incident.timeline.len() < mainstay_model::incident::Incident::TIMELINE_MAX {
        let again = incident.timeline[0].clone();
        incident.timeline.push(again);
    }
    let stage = Stage::new(snapshot, true, fake::FakePast::default());
    assert!(stage.get("/incidents/7").await.body.contains("300\u{a0}entries between"));
    assert_eq!(
        stage.get("/incidents/7?timeline=whole").await.body.matches("<span class=\"sort\">").count(),
        500
    );
    fake::pass_ten_minutes(&stage.app);
    for path in PAGES.iter().chain(&["/servers/shop/app-5?range=24h", "/servers/shop/app-5?range=30d"]) {
        let size = stage.get(path).await.body.len();
        assert!(size < 100 * 1024, "{path} has {size} bytes");
    }
}

#[tokio::test]
async fn a_server_is_drained_by_a_form_after_a_question() {
    let mut stage = Stage::open();
    let question = stage.get("/servers/shop/app-1/state?to=draining").await.body;
    assert!(question.contains("Drain: shop/app-1?") && question.contains("method=\"post\""));
    assert!(!question.contains("last server in rotation"));
    assert!(stage.inputs.try_recv().is_err(), "a question changes nothing");
    let answer = stage.post_form("/servers/shop/app-1/state", "to=draining").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/servers/shop/app-1"));
    let expected = Input::Admin {
        server: ServiceId::new("shop").server("app-1"),
        state: AdminState::Draining,
        by: "dashboard".to_owned(),
    };
    assert_eq!(stage.inputs.try_recv().ok(), Some(expected));
    assert!(
        stage.get("/servers/api/one/state?to=maintenance").await.body.contains("last server in rotation")
    );
    assert_eq!(stage.post_form("/servers/shop/app-1/state", "to=nonsense").await.status, 400);
    assert_eq!(stage.post_form("/servers/shop/nobody/state", "to=ready").await.status, 404);
    assert!(stage.inputs.try_recv().is_err());
}

#[tokio::test]
async fn an_incident_is_acknowledged_by_a_form_once_and_only_while_it_lasts() {
    let mut stage = Stage::open();
    let answer = stage.post_form("/incidents/7/acknowledge", "by=+Grace+").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/incidents/7"));
    let expected = Input::Acknowledge { incident: IncidentId(7), by: "Grace".to_owned() };
    assert_eq!(stage.inputs.try_recv().ok(), Some(expected));
    assert_eq!(stage.post_form("/incidents/6/acknowledge", "by=Grace").await.status, 409);
    assert_eq!(stage.post_form("/incidents/3/acknowledge", "by=Grace").await.status, 409);
    assert_eq!(stage.post_form("/incidents/99/acknowledge", "by=Grace").await.status, 404);
    assert_eq!(
        stage.post_form("/incidents/7/acknowledge", &format!("by={}", "x".repeat(65))).await.status,
        400
    );
    assert_eq!(stage.post_form("/incidents/7/acknowledge", "by=a%0Ab").await.status, 400);
    assert!(stage.inputs.try_recv().is_err());
}

#[tokio::test]
async fn a_refusal_is_a_page_for_people_and_a_problem_for_programs() {
    let stage = Stage::open();
    let page = stage.get("/servers/shop/nobody").await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (404, "text/html; charset=utf-8"));
    assert!(page.body.contains("There is no server `shop/nobody` in the config."));
    let post = stage.post_form("/", "").await;
    assert_eq!((post.status.as_u16(), post.header("allow")), (405, "GET,HEAD"));
}

#[tokio::test]
async fn living_and_ready_are_told_apart() {
    let stage = Stage::open();
    assert_eq!(stage.get("/livez").await.status, 200);
    let not_yet = stage.get("/readyz").await;
    assert_eq!(not_yet.status, 503);
    assert!(not_yet.body.contains("does not serve visitors yet"));
    stage.ready.send(true).unwrap();
    assert_eq!(stage.get("/readyz").await.status, 200);
    stage.stop.send(true).unwrap();
    assert!(stage.get("/readyz").await.body.contains("stopping"));
    assert_eq!(stage.get("/livez").await.status, 200);
    assert_eq!(stage.post_form("/incidents/7/acknowledge", "by=x").await.status, 503);
}

#[tokio::test]
async fn a_tcp_service_has_connections_and_no_requests() {
    let id = ServiceId::new("db");
    let mut server = fake::server(&id, "primary");
    (server.tcp, server.admin) = (true, AdminState::Draining);
    let mut service = fake::service(&id, vec![server]);
    service.tcp = true;
    let snapshot = Snapshot { at: fake::NOW, services: vec![service], ..Snapshot::default() };
    let stage = Stage::new(snapshot, true, fake::FakePast::default());
    for (path, expected) in [
        ("/", "<dt>connections</dt>"),
        ("/", "draining: 3 connections still under way"),
        ("/services/db", "<dt>open now</dt><dd>12</dd>"),
        ("/services/db", "<dt>connections since start</dt>"),
        ("/servers/db/primary", "<dt>open</dt>"),
    ] {
        let page = stage.get(path).await.body;
        assert!(page.contains(expected), "{path} has no {expected}");
        assert!(!page.contains("equests</"), "{path} speaks of requests");
    }
}
