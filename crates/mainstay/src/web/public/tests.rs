//! The page against fakes: what is told, what is not, and that all forms tell the same.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, header};
use http_body_util::BodyExt as _;
use mainstay_model::incident::{Incident, Severity};
use mainstay_model::publication::Publication;
use mainstay_model::snapshot::ServiceState;
use mainstay_model::{IncidentId, Snapshot, Wall};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt as _;

use super::days::Days;
use super::edition::Edition;
use super::view::{State, Told, View, states};
use super::{server, zone};
use crate::config::StatusConfig;
use crate::web::past::Past;
use crate::web::tests::fake::{self, NOW};
use crate::web::tests::maintenance;

async fn view_of(config: &StatusConfig, snapshot: &Snapshot) -> View {
    let past = fake::FakePast::default();
    let told = past.public_incidents(Wall(0), 100).await.unwrap();
    let mut days = std::collections::BTreeMap::new();
    for component in &config.components {
        let known =
            past.service_days(&component.services[0], &zone::midnights(NOW, &config.zone)).await.unwrap();
        days.insert(component.id.clone(), Days::of(NOW, &config.zone, 1, &known));
    }
    View::of(config, snapshot, Some(&told), days, NOW, false)
}

/// Incident 7 hurts visitors.
fn hurt(mut snapshot: Snapshot) -> Snapshot {
    for incident in &mut snapshot.incidents {
        if incident.id == IncidentId(7) {
            Arc::make_mut(incident).severity = Severity::Partial;
        }
    }
    snapshot.services[1].rates.error_share = Some(0.02);
    snapshot
}

fn text<'a>(edition: &'a Edition, path: &str) -> &'a str {
    std::str::from_utf8(&edition.files[path].body).unwrap()
}

fn services(snapshot: &mut Snapshot, state: ServiceState) {
    snapshot.services.iter_mut().for_each(|service| service.state = state);
}

#[tokio::test]
async fn a_window_is_announced_in_plain_words_and_its_reason_is_not() {
    let snapshot = maintenance::inside();
    let edition = Edition::of(&view_of(&fake::status_config(), &snapshot).await);
    let page = text(&edition, "index.html");
    for words in [
        "Shop is under maintenance, as planned",
        "New &lt;disks&gt;",
        "Under way",
        "Planned",
        "Europe/Berlin",
    ] {
        assert!(
            page.contains(words) || page.contains(&words.replace("&lt;", "&#60;").replace("&gt;", "&#62;")),
            "{words}: {page}"
        );
    }
    assert!(!page.contains("OPS-42") && !page.contains("nightly") && !page.contains("ada"));
    let json: Value = serde_json::from_str(text(&edition, "status.json")).unwrap();
    let windows = json["scheduled_maintenances"].as_array().unwrap();
    let states: Vec<_> = windows.iter().map(|window| window["status"].as_str().unwrap()).collect();
    assert_eq!(states, ["in_progress", "scheduled"]);
    assert_eq!(json["components"][0]["status"], "under_maintenance");
    assert_eq!(json["status"]["indicator"], "maintenance");
    let mut kept = snapshot;
    kept.windows.iter_mut().for_each(|window| window.policy.public = false);
    let edition = Edition::of(&view_of(&fake::status_config(), &kept).await);
    let json: Value = serde_json::from_str(text(&edition, "status.json")).unwrap();
    assert_eq!(json["components"][0]["status"], "major_outage", "what is not told hides nothing");
    assert_eq!(json["scheduled_maintenances"], json!([]));
}

#[tokio::test]
async fn nothing_of_the_inside_is_in_any_file() {
    let snapshot = hurt(fake::snapshot());
    let edition = Edition::of(&view_of(&fake::status_config(), &snapshot).await);
    assert!(edition.files.len() >= 12);
    for (path, file) in &edition.files {
        let text = std::str::from_utf8(&file.body).unwrap();
        for inner in
            ["app-1", "app-2", "app-3", "spare", "10.0.0.", "127.0.0.1", "SIGKILL", "killed", ":3000"]
        {
            assert!(!text.contains(inner), "{path} has {inner}");
        }
        assert!(
            !text.contains(env!("CARGO_PKG_VERSION")) || path.ends_with(".svg"),
            "{path} has the version"
        );
        assert!(!text.contains("<script") && !text.contains("style=") && !text.contains("onclick"), "{path}");
        assert!(text.len() < 100_000, "{path} has {} bytes", text.len());
    }
}

#[tokio::test]
async fn every_link_of_a_page_leads_to_a_file_beside_it() {
    let edition = Edition::of(&view_of(&fake::status_config(), &hurt(fake::snapshot())).await);
    let mut links = 0;
    for (path, _) in edition.files.iter().filter(|(path, _)| path.ends_with(".html")) {
        for part in text(&edition, path).split("href=\"").skip(1) {
            let link = part.split('"').next().unwrap();
            let file = link.split('#').next().unwrap();
            if link.starts_with("mailto:") || file.is_empty() {
                continue;
            }
            assert!(edition.files.contains_key(file), "{path} leads to {link}");
            links += 1;
        }
    }
    assert!(links > 10);
}

#[tokio::test]
async fn the_page_says_in_plain_words_how_things_are() {
    let config = fake::status_config();
    let mut snapshot = fake::snapshot();
    let sentence = async |snapshot: &Snapshot| view_of(&config, snapshot).await.sentence;
    services(&mut snapshot, ServiceState::Healthy);
    assert_eq!(sentence(&snapshot).await, "Everything works");
    services(&mut snapshot, ServiceState::Down);
    assert_eq!(sentence(&snapshot).await, "Nothing is available");
    services(&mut snapshot, ServiceState::Unknown);
    assert_eq!(sentence(&snapshot).await, "We are not sure how things are");
    services(&mut snapshot, ServiceState::Degraded);
    assert_eq!(sentence(&snapshot).await, "Everything works", "a server less hurts nobody");
    let mut snapshot = hurt(snapshot);
    assert_eq!(sentence(&snapshot).await, "Some requests to Shop fail");
    snapshot.services.retain(|service| service.id.as_str() == "api");
    assert_eq!(states(&config, &snapshot, false)[0], State::Unsure, "what is gone is not well");
    services(&mut snapshot, ServiceState::Healthy);
    assert_eq!(states(&config, &snapshot, true), [State::Unsure; 2], "a judge who is gone is not believed");
}

#[tokio::test]
async fn a_component_of_several_services_is_down_only_when_all_are() {
    let mut config = fake::status_config();
    let mut together = config.components.remove(0);
    together.services.push(config.components.remove(0).services[0].clone());
    config.components = vec![together];
    let mut snapshot = fake::snapshot();
    services(&mut snapshot, ServiceState::Down);
    assert_eq!(states(&config, &snapshot, false), [State::Down]);
    snapshot.services[0].state = ServiceState::Healthy;
    assert_eq!(states(&config, &snapshot, false), [State::SomeFail]);
}

fn shown(view: &View) -> Vec<u64> {
    view.incidents.iter().map(|incident| incident.id.0).collect()
}

#[tokio::test]
async fn incidents_that_hurt_visitors_are_told_and_people_have_the_last_word() {
    let config = fake::status_config();
    let mut snapshot = fake::snapshot();
    assert_eq!(shown(&view_of(&config, &snapshot).await), [6, 5, 4, 3, 2, 1], "7 hurts nobody");
    assert_eq!(shown(&view_of(&config, &hurt(snapshot.clone())).await), [7, 6, 5, 4, 3, 2, 1]);
    let told = |shown| Arc::new(Publication { shown: Some(shown), ..fake::told("We are on it.") });
    snapshot.publications = Arc::new([(IncidentId(7), told(true)), (IncidentId(3), told(false))].into());
    let view = view_of(&config, &snapshot).await;
    assert_eq!(shown(&view), [7, 6, 5, 4, 2, 1]);
    assert_eq!(view.incidents[0].updates[0].text, "We are on it.");
    let other = StatusConfig { components: vec![config.components[1].clone()], ..config };
    let nothing = shown(&view_of(&other, &snapshot).await);
    assert!(nothing.is_empty(), "what the page does not show it does not tell");
}

#[tokio::test]
async fn titles_are_made_of_plain_words_unless_people_have_better_ones() {
    let config = fake::status_config();
    let mut snapshot = hurt(fake::snapshot());
    let view = view_of(&config, &snapshot).await;
    assert_eq!(view.incidents[0].title, "Some requests to Shop fail");
    assert_eq!(view.incidents[1].title, "Some requests to Shop failed");
    let told = Publication { title: Some("<i>Lamps</i>".to_owned()), ..fake::told("x ]]> & <b>") };
    snapshot.publications = Arc::new([(IncidentId(7), Arc::new(told))].into());
    let edition = Edition::of(&view_of(&config, &snapshot).await);
    for path in ["index.html", "feed.atom"] {
        assert!(
            !text(&edition, path).contains("<i>Lamps") && !text(&edition, path).contains("& <b>"),
            "{path}"
        );
        assert!(text(&edition, path).contains("Lamps"), "{path}");
    }
    let json: Value = serde_json::from_str(text(&edition, "status.json")).unwrap();
    assert_eq!(json["incidents"][0]["name"], "<i>Lamps</i>");
    assert_eq!(json["incidents"][0]["incident_updates"][0]["body"], "x ]]> & <b>");
}

#[tokio::test]
async fn json_has_the_shape_that_other_status_pages_have() {
    let edition = Edition::of(&view_of(&fake::status_config(), &hurt(fake::snapshot())).await);
    let json: Value = serde_json::from_str(text(&edition, "status.json")).unwrap();
    assert_eq!(json["status"], json!({ "indicator": "major", "description": "Some requests to Shop fail" }));
    assert_eq!(
        (&json["components"][0]["id"], &json["components"][0]["status"]),
        (&json!("shop"), &json!("partial_outage"))
    );
    assert_eq!(json["components"][0]["days"].as_array().unwrap().len(), 90);
    assert_eq!(json["components"][0]["days"][66]["availability"], Value::Null, "nobody was looking");
    assert_eq!(
        (&json["incidents"][0]["impact"], &json["incidents"][0]["status"]),
        (&json!("minor"), &json!("investigating"))
    );
    assert_eq!(json["past_incidents"][0]["status"], "resolved");
    assert_eq!(json["page"]["url"], "https://status.example.com/");
    assert_eq!(text(&edition, "api/v2/summary.json"), text(&edition, "status.json"));
}

#[tokio::test]
async fn days_and_times_are_told_in_the_zone_of_the_config() {
    let utc = Edition::of(&view_of(&fake::status_config(), &hurt(fake::snapshot())).await);
    assert!(text(&utc, "index.html").contains("12 Nov 2026, 03:14 UTC</time>. Times are UTC."));
    assert!(text(&utc, "status.json").contains("\"time_zone\":\"Etc/UTC\""));
    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let config = StatusConfig { zone, ..fake::status_config() };
    let edition = Edition::of(&view_of(&config, &hurt(fake::snapshot())).await);
    let page = text(&edition, "index.html");
    // It is still the day before there.
    let stamp = "11 Nov 2026, 22:14 EST</time>. Days and times are those of America/New_York.";
    assert!(page.contains(stamp) && !page.contains("UTC"), "{page}");
    assert!(page.contains("<title>11 Nov: "), "the bar of today");
    assert!(text(&edition, "feed.atom").contains(" EST"));
    let json: Value = serde_json::from_str(text(&edition, "status.json")).unwrap();
    assert_eq!(json["page"]["time_zone"], "America/New_York");
    let days = json["components"][0]["days"].as_array().unwrap();
    let begins = |day: &Value| (day["date"].as_str().unwrap().to_owned(), day["begins_at"].clone());
    assert_eq!(begins(&days[89]), ("2026-11-11".to_owned(), json!("2026-11-11T05:00:00.000Z")));
    assert_eq!(begins(&days[78]), ("2026-10-31".to_owned(), json!("2026-10-31T04:00:00.000Z")));
}

#[tokio::test]
async fn without_a_record_the_bars_are_unknown_and_the_rest_is_told() {
    let config = fake::status_config();
    let view = View::of(&config, &hurt(fake::snapshot()), None, Default::default(), NOW, false);
    let edition = Edition::of(&view);
    let page = text(&edition, "index.html");
    assert!(page.contains("Some requests to Shop fail") && page.contains("cannot be read at the moment"));
    assert!(
        page.contains("class=\"none\"") && !page.contains("class=\"good\"") && !page.contains("100\u{202f}%")
    );
}

#[tokio::test]
async fn old_incidents_are_turned_back_to_month_by_month() {
    let config = fake::status_config();
    let incident = |id: u64, days: i64| -> Told {
        let mut incident: Incident = fake::resolved_incident(id);
        incident.began_at = Wall(NOW.0 - days * 86_400_000);
        incident.recovered_at = Some(Wall(incident.began_at.0 + 60_000));
        (incident, None)
    };
    let past = [incident(1, 100), incident(2, 40), incident(3, 2)];
    let mut snapshot = fake::healthy();
    snapshot.incidents.clear();
    let edition = Edition::of(&View::of(&config, &snapshot, Some(&past), Default::default(), NOW, false));
    let months: Vec<_> = edition.files.keys().filter(|path| path.starts_with("history")).collect();
    assert_eq!(months, ["history-2026-08.html", "history-2026-10.html", "history-2026-11.html"]);
    let index = text(&edition, "index.html");
    assert!(index.contains("id=\"incident-3\"") && !index.contains("id=\"incident-2\""));
    assert!(index.contains("href=\"history-2026-10.html\">Older incidents"), "{index}");
    let october = text(&edition, "history-2026-10.html");
    assert!(
        october.contains("href=\"history-2026-08.html\"")
            && october.contains("href=\"history-2026-11.html\"")
    );
    assert!(october.contains("id=\"incident-2\"") && october.contains("lasted"));
}

/// The server with one edition.
struct Served {
    router: axum::Router,
    _editions: watch::Sender<Arc<Edition>>,
    _settings: watch::Sender<Option<Arc<StatusConfig>>>,
}

impl Served {
    async fn new() -> Self {
        let config = fake::status_config();
        let edition = Edition::of(&view_of(&config, &fake::snapshot()).await);
        let (_editions, newest) = watch::channel(Arc::new(edition));
        let (_settings, settings) = watch::channel(Some(Arc::new(config)));
        Self { router: server::router(newest, settings), _editions, _settings }
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (axum::http::response::Parts, String) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts, String::from_utf8(body.to_vec()).unwrap())
    }
}

#[tokio::test]
async fn the_page_is_found_at_the_root_and_below_its_path() {
    let served = Served::new().await;
    for path in ["/", "/status/", "/index.html", "/status/index.html", "/?x=1"] {
        let (parts, body) = served.ask("GET", path, &[("accept", "text/html,application/json")]).await;
        assert_eq!(parts.status, 200, "{path}");
        assert!(body.contains("<h1"), "{path}");
    }
    let (parts, _) = served.ask("GET", "/status", &[]).await;
    assert_eq!((parts.status.as_u16(), parts.headers[header::LOCATION].to_str().unwrap()), (302, "/status/"));
    let (parts, body) = served.ask("GET", "/status/", &[("accept", "application/json")]).await;
    assert_eq!(parts.headers[header::CONTENT_TYPE], "application/json");
    assert!(body.starts_with('{'));
    let (parts, body) = served.ask("GET", "/status/badge/shop.svg", &[]).await;
    assert_eq!(parts.headers[header::CONTENT_TYPE], "image/svg+xml");
    assert!(body.contains("Shop"));
    for path in ["/statusx", "/../etc/passwd", "/status/nothing", "/index.html/"] {
        assert_eq!(served.ask("GET", path, &[]).await.0.status, 404, "{path}");
    }
    assert_eq!(served.ask("POST", "/", &[]).await.0.status, 405);
}

#[tokio::test]
async fn answers_are_short_lived_checked_by_their_tag_and_locked_down() {
    let served = Served::new().await;
    let (parts, _) = served.ask("GET", "/", &[]).await;
    let tag = parts.headers[header::ETAG].to_str().unwrap();
    assert_eq!(parts.headers[header::CACHE_CONTROL], "public, max-age=5");
    let policy = parts.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'") && !policy.contains("script") && !policy.contains("unsafe")
    );
    assert!(!parts.headers.contains_key(header::SET_COOKIE) && !parts.headers.contains_key(header::SERVER));
    let (again, body) = served.ask("GET", "/", &[("if-none-match", &format!("\"x\", W/{tag}"))]).await;
    assert_eq!((again.status.as_u16(), body.as_str()), (304, ""));
    let (style, _) = served.ask("GET", &format!("/{}", super::edition::style()), &[]).await;
    assert!(style.headers[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
}

#[tokio::test]
async fn before_the_first_printing_a_visitor_is_asked_to_wait() {
    let (_editions, newest) = watch::channel(Arc::new(Edition::default()));
    let (_settings, settings) = watch::channel(None);
    let request = Request::get("/").body(Body::empty()).unwrap();
    let response = server::router(newest, settings).oneshot(request).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()[header::RETRY_AFTER]),
        (503, &"1".parse().unwrap())
    );
}
