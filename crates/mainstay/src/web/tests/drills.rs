//! The page of drills: results by service and fault, what is under way, and buttons.

use std::sync::Arc;

use mainstay_model::drill::{Drill, DrillState, Fault, Measured};
use mainstay_model::{IncidentId, Input, ServiceId, Snapshot, Wall};

use super::Stage;
use super::fake::{self, NOW};

const DAY: i64 = 86_400_000;

fn drill(id: u64, fault: Fault, state: DrillState, days_ago: i64) -> Drill {
    let shop = ServiceId::new("shop");
    let at = Wall(NOW.0 - days_ago * DAY);
    Drill {
        id,
        server: Some(shop.server("app-1")),
        service: shop,
        fault,
        by: "ada".to_owned(),
        lasts_ms: 30_000,
        alert: false,
        ticket: 0,
        at,
        state,
        why: String::new(),
        began_at: Some(at),
        undone_at: None,
        over_at: None,
        incident: Some(IncidentId(7)),
        measured: Measured {
            notice_ms: Some(5 * id),
            divert_ms: Some(7 * id),
            alert_ms: None,
            act_ms: None,
            recover_ms: Some(2000 + 100 * id),
            requests: 1500,
            failed: 3,
            saved: 12,
            done: vec!["taken out".to_owned()],
        },
    }
}

/// Two kills and an old hang, one refused, and one under way, the newest first.
pub(in crate::web) fn drilled() -> Snapshot {
    let mut snapshot = fake::snapshot();
    let refused = Drill {
        server: None,
        why: "incident 7 <b> is open".to_owned(),
        ..drill(4, Fault::Slow, DrillState::Refused, 1)
    };
    let stopped =
        Drill { why: "ada stopped it".to_owned(), ..drill(5, Fault::Errors, DrillState::Stopped, 0) };
    let all = [
        drill(6, Fault::Refuse, DrillState::UnderWay, 0),
        stopped,
        refused,
        drill(3, Fault::Kill, DrillState::Recovered, 2),
        drill(2, Fault::Kill, DrillState::Recovered, 9),
        drill(1, Fault::Hang, DrillState::Recovered, 31),
    ];
    snapshot.drills = Arc::new(all.into_iter().map(Arc::new).collect());
    snapshot
}

#[tokio::test]
async fn the_last_result_of_each_fault_is_shown_with_how_it_was_before_and_what_is_too_old() {
    let stage = Stage::new(drilled(), true, fake::FakePast::default());
    let page = stage.get("/drills").await.body;
    let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("no {text} in {page}"));
    assert!(place("a server is killed") < place("a server hangs"));
    assert_eq!(page.matches("older than 30 days</span>").count(), 1);
    assert!(place("a server hangs") < place("older than 30 days</span>"));
    assert!(page.contains("aria-label=\"recovered in the last 2 runs\""), "{page}");
    assert_eq!(
        page.matches("class=\"spark\"").count(),
        3,
        "noticed, diverted and recovered of the kill alone"
    );
    assert!(page.contains("stopped: ada stopped it") && page.contains("3 of 1"), "{page}");
    assert!(page.contains("slow, because incident 7 &#60;b&#62; is open."), "{page}");
    assert!(
        page.contains("Not tried yet: refuse, black-hole, reset, slow, certificate, disk-full, dns."),
        "{page}"
    );
    assert!(page.contains("Never drilled: "), "{page}");
    assert!(page.contains("Drill 6: a server refuses connections") && page.contains("/drills/6/stop"));
}

#[tokio::test]
async fn without_drills_the_page_says_how_to_make_one() {
    let page = Stage::open().get("/drills").await.body;
    assert!(page.contains("There was no drill yet") && page.contains("Begin a drill"), "{page}");
    assert!(!page.contains("Never drilled") && !page.contains("/stop\""), "{page}");
}

#[tokio::test]
async fn the_form_begins_one_and_a_button_stops_it() {
    let mut stage = Stage::new(drilled(), true, fake::FakePast::default());
    // The fakes judge nothing, so there is no drill to lead to.
    stage.post_form("/drills", "service=shop&fault=hang&lasts=10s&server=app-2").await;
    let Ok(Input::Drill(order)) = stage.inputs.try_recv() else { panic!("no order") };
    assert_eq!(
        (order.fault, order.server.as_deref(), order.lasts.as_secs()),
        (Fault::Hang, Some("app-2"), 10)
    );
    assert_eq!((order.by.as_str(), order.alert, order.stateful), ("dashboard", false, false));
    assert_eq!(stage.post_form("/drills/6/stop", "").await.status, 303);
    assert_eq!(stage.inputs.try_recv().ok(), Some(Input::StopDrill { by: "dashboard".to_owned() }));
    assert_eq!(stage.post_form("/drills/3/stop", "").await.status, 303);
    assert!(stage.inputs.try_recv().is_err(), "it is over");
    assert_eq!(stage.post_form("/drills/9/stop", "").await.status, 404);
}
