//! Maintenance windows: asked for by programs and by the form, shown wherever something is in one.

use mainstay_model::monitor::{MonitorCounts, MonitorSnapshot, MonitorState};
use mainstay_model::snapshot::ServiceState;
use mainstay_model::window::{Covers, InMaintenance, Occurrence, WindowPolicy, WindowSnapshot};
use mainstay_model::{Input, ServiceId, Snapshot, Wall};
use serde_json::json;

use super::Stage;
use super::fake::{self, NOW};

/// The shop is in a window for two hours; another one comes each day.
pub(in crate::web) fn inside() -> Snapshot {
    let mut snapshot = fake::snapshot();
    let window = |id: &str, by: Option<&str>, covers: Covers| WindowSnapshot {
        id: id.into(),
        policy: WindowPolicy {
            covers,
            title: "New <disks>".to_owned(),
            reason: "OPS-42 <b>".to_owned(),
            public: true,
            zone: "Europe/Berlin".to_owned(),
        },
        by: by.map(str::to_owned),
        open: None,
        next: Vec::new(),
    };
    let shop = ServiceId::new("shop");
    let of_shop = Covers { services: [shop.clone()].into(), ..Covers::default() };
    let until = Wall(NOW.0 + 7_200_000);
    let day = |n: i64| Occurrence { from: Wall(NOW.0 + n * 86_400_000), to: Wall(until.0 + n * 86_400_000) };
    let everything = Covers { everything: true, ..Covers::default() };
    let tagged = Covers { tags: ["payments".into()].into(), ..Covers::default() };
    snapshot.windows = vec![
        WindowSnapshot { next: vec![day(1), day(2), day(3)], ..window("nightly", None, everything) },
        WindowSnapshot { open: Some(day(0)), ..window("3", Some("ada"), of_shop) },
        WindowSnapshot { next: vec![day(30)], ..window("4", Some("ada"), tagged) },
    ];
    let inside = InMaintenance { window: "3".into(), until, reason: "OPS-42 <b>".to_owned() };
    for service in snapshot.services.iter_mut().filter(|service| service.id == shop) {
        service.felt = ServiceState::Down;
        service.state = ServiceState::Maintenance;
        service.maintenance = Some(inside.clone());
        service.servers.iter_mut().for_each(|server| server.maintenance = Some(inside.clone()));
    }
    let mut monitors: Vec<_> = snapshot.monitors.iter().cloned().collect();
    let first = MonitorSnapshot {
        state: MonitorState::Maintenance,
        maintenance: Some(inside),
        ..MonitorSnapshot::clone(&monitors[0])
    };
    monitors[0] = first.into();
    snapshot.monitors = monitors.into();
    snapshot.monitor_counts =
        MonitorCounts { up: 117, degraded: 1, down: 2, maintenance: 1, ..MonitorCounts::default() };
    snapshot
}

fn stage() -> Stage {
    Stage::new(inside(), true, fake::FakePast::default())
}

#[tokio::test]
async fn a_window_is_opened_for_what_there_is_and_a_mistake_opens_none() {
    let mut stage = stage();
    let path = "/api/v1/maintenance";
    assert_eq!(stage.get_json(path).await.1[1]["covers"]["services"], json!(["shop"]));
    for (body, status, name) in [
        (r#"{"for":"1h"}"#, 400, "bad-request"),
        (r#"{"targets":[],"for":"1h"}"#, 400, "bad-request"),
        (r#"{"targets":["shop"],"for":"an hour"}"#, 400, "bad-request"),
        (r#"{"targets":["shop"],"for":"32d"}"#, 400, "bad-request"),
        (r#"{"targets":["shop"],"for":"1h","from":5}"#, 400, "bad-request"),
        (r#"{"targets":["shop"],"for":"1h","title":"a\nb"}"#, 400, "bad-request"),
        (r#"{"targets":["nobody"],"for":"1h"}"#, 404, "not-found"),
        (r#"{"targets":["shop"],"for":"1h","why":"x"}"#, 400, "bad-request"),
    ] {
        stage.post_json(path, body).await.assert_problem(status, name);
    }
    assert!(stage.inputs.try_recv().is_err());
    let body = r#"{"targets":["shop","tag:payments"],"for":"90m","reason":"disks","by":"ada"}"#;
    assert_eq!(stage.post_json(path, body).await.status, 201);
    let Ok(Input::OpenWindow(window)) = stage.inputs.try_recv() else { panic!("not opened") };
    assert_eq!((window.by.as_str(), window.policy.covers.words().as_str()), ("ada", "shop, tag:payments"));
    assert_eq!((window.when.from, window.when.to.0 - NOW.0), (NOW, 5_400_000));
    assert_eq!((window.policy.title.as_str(), window.policy.public), ("Planned maintenance", true));
}

#[tokio::test]
async fn a_window_is_ended_by_its_number_and_one_of_the_config_only_while_it_is_open() {
    let mut stage = stage();
    assert_eq!(stage.delete("/api/v1/maintenance/3").await.status, 204);
    let Ok(Input::EndWindow { id }) = stage.inputs.try_recv() else { panic!("not ended") };
    assert_eq!(&*id, "3");
    stage.delete("/api/v1/maintenance/nightly").await.assert_problem(409, "conflict");
    stage.delete("/api/v1/maintenance/7").await.assert_problem(404, "not-found");
}

#[tokio::test]
async fn the_form_opens_a_window_and_a_button_ends_one() {
    let mut stage = stage();
    let form = "targets=shop%2C+shop%2Fapp-1&lasts=30m&reason=disks&title=&public=yes";
    assert_eq!(stage.post_form("/maintenance", form).await.status, 303);
    let Ok(Input::OpenWindow(window)) = stage.inputs.try_recv() else { panic!("not opened") };
    assert_eq!((window.policy.covers.words().as_str(), window.policy.public), ("shop, shop/app-1", true));
    assert_eq!(window.by, "dashboard");
    assert_eq!(stage.post_form("/maintenance", "targets=shop&lasts=30m").await.status, 303);
    let Ok(Input::OpenWindow(window)) = stage.inputs.try_recv() else { panic!("not opened") };
    assert!(!window.policy.public, "the box was not ticked");
    assert_eq!(stage.post_form("/maintenance/3/end", "").await.status, 303);
    assert!(matches!(stage.inputs.try_recv(), Ok(Input::EndWindow { .. })));
}

#[tokio::test]
async fn every_page_says_what_is_in_a_window_and_until_when() {
    let stage = stage();
    let page = stage.get("/maintenance?target=monitor%3Acheck-001").await.body;
    assert!(
        page.contains("Window 3") && page.contains("opened by ada") && page.contains("End now"),
        "{page}"
    );
    assert!(page.contains("Europe/Berlin") && page.contains("value=\"monitor:check-001\""));
    assert!(page.contains("OPS-42 &#60;b&#62;") && !page.contains("OPS-42 <b>"), "{page}");
    for (address, more) in [
        ("/services/shop", "data-state=\"down\""),
        ("/servers/shop/app-1", "OPS-42"),
        ("/monitors/check-000", "data-state=\"maintenance\""),
    ] {
        let page = stage.get(address).await.body;
        assert!(page.contains("In maintenance") && page.contains(more), "{address}: {page}");
    }
    let overview = stage.get("/").await.body;
    assert!(overview.contains("aria-label=\"Maintenance\"") && overview.contains("everything"), "{overview}");
    let other = stage.get("/services/api").await.body;
    assert!(other.contains("/maintenance?target=api") && !other.contains("In maintenance"));
    let metrics = stage.get("/metrics").await.body;
    assert!(metrics.contains("mainstay_service_maintenance{service=\"shop\"} 1"), "{metrics}");
    assert!(metrics.contains("mainstay_maintenance_open{window=\"nightly\"} 0"));
    assert!(!metrics.contains("mainstay_monitor_up{monitor=\"check-000\""));
}
