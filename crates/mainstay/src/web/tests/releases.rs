//! Releases, instances and the switch on a service's page, and the orders about them.

use mainstay_model::release::{
    DeployPhase, DeploymentSnapshot, Figures, Release, ReleaseOrder, ReleaseState, ReleasesSnapshot, Step,
};
use mainstay_model::scale::ScaleSnapshot;
use mainstay_model::snapshot::{Snapshot, StateChange};
use mainstay_model::substitute::{Made, Stage as Progress, Substitute};
use mainstay_model::switch::{SwitchEnd, SwitchRun, SwitchSnapshot};
use mainstay_model::{ActionId, IncidentId, Input, Wall};

use super::fake::{self, NOW};
use super::{Answer, Stage};

/// Release 4 is on trial beside release 3; 2 was worse.
pub(in crate::web) fn releases() -> ReleasesSnapshot {
    let figures = |requests, failed, p50_ms| Figures {
        requests,
        asked: 0,
        failed,
        slow: failed,
        p50_ms: Some(p50_ms),
        p99_ms: Some(p50_ms * 9.0),
    };
    ReleasesSnapshot {
        releases: vec![
            release(4, ReleaseState::Trial, "on trial with 20% of the requests"),
            release(3, ReleaseState::Current, "not worse: new: 0 of 214 failed, old: 1 of 850 failed"),
            release(2, ReleaseState::RolledBack, "new: 31 of 88 failed, old: 0 of 371 failed"),
            release(1, ReleaseState::Former, "release 3 took over"),
        ],
        deployment: Some(DeploymentSnapshot {
            release: 4,
            from: 3,
            back: false,
            phase: DeployPhase::Trial,
            since: Wall(NOW.0 - 41_000),
            text: "62 of 200 requests (min-requests): new: 1 of 62 failed, old: 0 of 240 failed".to_owned(),
            share: 0.2,
            new: figures(62, 1, 4.4),
            old: figures(240, 0, 4.1),
            harm: 0.13,
            beside: Some("app-1@new".to_owned()),
        }),
    }
}

fn release(number: u64, state: ReleaseState, why: &str) -> Release {
    let at = Wall(NOW.0 - 3_600_000 * (5 - number as i64));
    Release {
        number,
        path: format!("/srv/shop/<{number}>"),
        at,
        by: "Ada".to_owned(),
        state,
        why: why.to_owned(),
        current_since: (state == ReleaseState::Current).then_some(at),
        watched_until: None,
        warm_until: None,
        steps: vec![Step { at, text: "handed in by Ada".to_owned() }],
    }
}

/// Three instances.
pub(in crate::web) fn scale() -> ScaleSnapshot {
    ScaleSnapshot {
        template: "app-1".to_owned(),
        instances: 3,
        min: 1,
        max: 5,
        concurrency: 50,
        under_way: Some(117.25),
        text: "3 instances: 117 requests under way, 50 to an instance".to_owned(),
        changes: vec![StateChange {
            at: Wall(NOW.0 - 90_000),
            text: "3 instances: 121 requests under way, 50 to an instance".to_owned(),
        }],
    }
}

/// It failed, and a person is asked.
pub(in crate::web) fn switch() -> SwitchSnapshot {
    SwitchSnapshot {
        automatic: false,
        fence: true,
        can_go_back: true,
        wanted: true,
        switched: false,
        last: Some(SwitchRun {
            switched: true,
            helped: None,
            from: None,
            to: None,
            action: ActionId(9),
            fence: None,
            back: false,
            incident: Some(IncidentId(6)),
            by: "Ada".to_owned(),
            reason: "a person wants it".to_owned(),
            at: Wall(NOW.0 - 60_000),
            end: Some(SwitchEnd {
                at: Wall(NOW.0 - 58_000),
                error: Some("exited with status 7".to_owned()),
                output: vec!["promoting <the standby>".to_owned()],
            }),
        }),
    }
}

/// A shop as it was made up, but for what is done to it.
fn stage(change: impl FnOnce(&mut ReleasesSnapshot, &mut SwitchSnapshot)) -> Stage {
    let mut snapshot = fake::healthy();
    let (mut releases, mut switch) = (releases(), switch());
    change(&mut releases, &mut switch);
    let shop = &mut snapshot.services[0];
    (shop.releases, shop.scale, shop.switch) = (Some(releases), Some(scale()), Some(switch));
    Stage::new(snapshot, true, fake::FakePast::default())
}

/// Nothing is under way.
fn at_rest(releases: &mut ReleasesSnapshot) {
    releases.deployment = None;
    releases.releases[0].state = ReleaseState::Failed;
    "no good probe within 30s (start-grace)".clone_into(&mut releases.releases[0].why);
}

fn order(stage: &mut Stage) -> (ReleaseOrder, String) {
    match stage.inputs.try_recv() {
        Ok(Input::Release { service, order, by }) if service.to_string() == "shop" => (order, by),
        other => panic!("no order about a release but {other:?}"),
    }
}

fn leads_to_the_page(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/services/shop"));
}

#[tokio::test]
async fn the_page_compares_the_release_on_trial_with_the_current_one() {
    let page = stage(|_, _| {}).get("/services/shop").await.body;
    for text in [
        "Release 4 is on trial with 20 % of the requests",
        "62 of 200 requests (min-requests)",
        "4, on trial",
        "3, current",
        "rolled back",
        "31 of 88 failed",
        "/srv/shop/&#60;2&#62;",
        "Promote now",
        "Take it back",
        "3 <small>of 1 to 5</small>",
        "121 requests under way, 50 to an instance",
        "Every primary is down: decide whether to switch",
        "failed: exited with status 7",
        "promoting &#60;the standby&#62;",
    ] {
        assert!(page.contains(text), "no {text:?} in {page}");
    }
    assert!(!page.contains("action=\"/services/shop/deploy\""), "one at a time");
}

#[tokio::test]
async fn the_page_says_who_has_taken_whose_place_and_what_went_wrong() {
    let mut snapshot = fake::healthy();
    let shop = &mut snapshot.services[0];
    let one = Substitute {
        action: ActionId(7),
        server: shop.id.server("app-1"),
        instead_of: shop.id.server("app-1"),
        id: shop.id.server("app-1-r7"),
        template: "app-1".into(),
        supervised: false,
        by: "docker shop:42".to_owned(),
        reason: "its restarts are spent".to_owned(),
        incident: Some(IncidentId(6)),
        at: Wall(NOW.0 - 60_000),
        made: Some(Made { id: "c0ffee".to_owned(), address: "10.0.0.9:80".parse().unwrap() }),
        stage: Progress::Serving,
        since: Wall(NOW.0 - 50_000),
        served: true,
        error: None,
    };
    let error = Some("app-1-r3 could not be made: no image <shop>".to_owned());
    shop.substitutes = vec![one.clone(), Substitute { stage: Progress::Over, error, ..one }];
    let stage = Stage::new(snapshot, true, fake::FakePast::default());
    let page = stage.get("/services/shop").await.body;
    for text in [
        "Replaced servers",
        "app-1-r7",
        "serves in its place",
        "c0ffee at 10.0.0.9:80",
        "its restarts are spent",
        "no image &#60;shop&#62;",
    ] {
        assert!(page.contains(text), "no {text:?} in {page}");
    }
}

#[tokio::test]
async fn at_rest_the_page_takes_a_release_and_goes_back_to_the_one_before() {
    let page = stage(|releases, _| at_rest(releases)).get("/services/shop").await.body;
    assert!(page.contains("action=\"/services/shop/deploy\"") && page.contains("Go back to release 1"));
    assert!(!page.contains("Promote now") && !page.contains("on trial with"), "{page}");
    let first = |releases: &mut ReleasesSnapshot, _: &mut SwitchSnapshot| {
        at_rest(releases);
        releases.releases.retain(|r| r.state != ReleaseState::Former);
    };
    assert!(!stage(first).get("/services/shop").await.body.contains("Go back to release"));
}

#[tokio::test]
async fn a_service_without_any_of_it_shows_none_of_it() {
    let page = Stage::new(fake::healthy(), true, fake::FakePast::default()).get("/services/shop").await.body;
    for label in ["Releases", "Instances", "Switch"] {
        assert!(!page.contains(&format!("aria-label=\"{label}\"")), "{label}");
    }
}

#[tokio::test]
async fn forms_give_the_orders_and_lead_back_to_the_page() {
    let mut waiting = stage(|releases, _| at_rest(releases));
    leads_to_the_page(&waiting.post_form("/services/shop/deploy", "path=%2Fsrv%2Fshop%2F5").await);
    let deploy = ReleaseOrder::Deploy { path: "/srv/shop/5".to_owned(), force: false };
    assert_eq!(order(&mut waiting), (deploy, "dashboard".to_owned()));
    leads_to_the_page(&waiting.post_form("/services/shop/rollback", "").await);
    assert_eq!(order(&mut waiting).0, ReleaseOrder::RollBack);
    let mut trying = stage(|_, _| {});
    leads_to_the_page(&trying.post_form("/services/shop/promote", "").await);
    assert_eq!(order(&mut trying).0, ReleaseOrder::Promote);
    leads_to_the_page(&trying.post_form("/services/shop/switch", "back=true").await);
    let Ok(Input::Switch { back, by, .. }) = trying.inputs.try_recv() else { panic!("no switch") };
    assert_eq!((back, by.as_str()), (true, "dashboard"));
    leads_to_the_page(&trying.post_form("/services/shop/switch", "back=false&fenced=true").await);
    assert!(matches!(trying.inputs.try_recv(), Ok(Input::Switch { back: false, fenced: true, .. })));
}

#[tokio::test]
async fn programs_give_the_orders_and_get_how_things_stand() {
    let mut waiting = stage(|releases, _| at_rest(releases));
    let body = r#"{"path":"/srv/shop/5","force":true,"by":"ci"}"#;
    let answer = waiting.post_json("/api/v1/services/shop/deploy", body).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["releases"][0]["number"]), (200, &4.into()));
    let deploy = ReleaseOrder::Deploy { path: "/srv/shop/5".to_owned(), force: true };
    assert_eq!(order(&mut waiting), (deploy, "ci".to_owned()));
    assert_eq!(waiting.post_json("/api/v1/services/shop/rollback", "{}").await.status, 200);
    assert_eq!(order(&mut waiting), (ReleaseOrder::RollBack, "api".to_owned()));
    let mut trying = stage(|_, _| {});
    assert_eq!(trying.post_json("/api/v1/services/shop/promote", r#"{"by":"ci"}"#).await.status, 200);
    assert_eq!(order(&mut trying), (ReleaseOrder::Promote, "ci".to_owned()));
    let answer = trying.post_json("/api/v1/services/shop/switch", "{}").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["wanted"]), (200, &true.into()));
    assert!(matches!(trying.inputs.try_recv(), Ok(Input::Switch { back: false, fenced: false, .. })));
}

#[tokio::test]
async fn what_is_not_possible_is_refused_by_name_and_changes_nothing() {
    const DEPLOY: &str = "/api/v1/services/shop/deploy";
    let mut trying = stage(|_, switch| {
        switch.can_go_back = false;
    });
    let busy = trying.post_json(DEPLOY, r#"{"path":"/srv/shop/5"}"#).await;
    busy.assert_problem(409, "deploy-under-way");
    let back = trying.post_json("/api/v1/services/shop/switch", r#"{"back":true}"#).await;
    back.assert_problem(409, "no-way-back");
    for (path, body) in [
        (DEPLOY, "{}"),
        (DEPLOY, r#"{"path":"/srv/shop/5","now":true}"#),
        (DEPLOY, r#"{"path":"/srv/shop/5","by":"a\nb"}"#),
        ("/api/v1/services/shop/switch", r#"{"back":"yes"}"#),
    ] {
        trying.post_json(path, body).await.assert_problem(400, "bad-request");
    }
    assert!(trying.inputs.try_recv().is_err());
    let mut waiting = stage(|releases, switch| {
        at_rest(releases);
        releases.releases.retain(|r| r.state != ReleaseState::Former);
        switch.last.as_mut().expect("a run").end = None;
    });
    for (path, body, status, name) in [
        (DEPLOY, r#"{"path":"/elsewhere"}"#, 400, "not-a-release"),
        (DEPLOY, r#"{"path":"/srv/shop/<3>"}"#, 409, "release-is-current"),
        ("/api/v1/services/shop/rollback", "{}", 409, "nothing-before"),
        ("/api/v1/services/shop/promote", "{}", 409, "no-trial"),
        ("/api/v1/services/shop/switch", "{}", 409, "switch-running"),
        ("/api/v1/services/none/deploy", r#"{"path":"/srv/shop/5"}"#, 404, "not-found"),
    ] {
        waiting.post_json(path, body).await.assert_problem(status, name);
    }
    assert!(waiting.inputs.try_recv().is_err());
    let none = Stage::new(fake::healthy(), true, fake::FakePast::default());
    none.post_json(DEPLOY, r#"{"path":"/srv/5"}"#).await.assert_problem(409, "not-deployable");
    none.post_json("/api/v1/services/shop/switch", "{}").await.assert_problem(409, "no-switch");
}

#[tokio::test]
async fn during_an_incident_only_force_deploys() {
    let mut snapshot: Snapshot = fake::snapshot();
    let shop = snapshot.services.iter_mut().find(|s| s.id.to_string() == "shop").expect("the shop");
    at_rest(shop.releases.as_mut().expect("releases"));
    let mut stage = Stage::new(snapshot, true, fake::FakePast::default());
    let answer = stage.post_json("/api/v1/services/shop/deploy", r#"{"path":"/srv/shop/5"}"#).await;
    answer.assert_problem(409, "incident-open");
    assert!(stage.inputs.try_recv().is_err());
    let body = r#"{"path":"/srv/shop/5","force":true}"#;
    assert_eq!(stage.post_json("/api/v1/services/shop/deploy", body).await.status, 200);
    assert!(matches!(order(&mut stage).0, ReleaseOrder::Deploy { force: true, .. }));
}
