//! Who may come in, and from which pages a change may be asked for.

use axum::body::Body;
use axum::http::{Request, header};
use mainstay_model::Input;

use super::{Answer, Stage, fake, get, post};
use crate::config::{AdminAccess, Secret};

const DRAIN: &str = "/api/v1/servers/shop/app-1/state";
/// Everything that shows or changes something.
const CLOSED: [&str; 8] = [
    "/",
    "/servers/shop/app-1",
    "/servers/shop/app-1/state?to=draining",
    "/incidents/7",
    "/events?page=/",
    "/metrics",
    "/api/v1/status",
    "/no-such-page",
];
const PUBLIC: [&str; 4] = ["/livez", "/readyz", "/login", "/assets/x"];

async fn log_in(stage: &Stage, password: &str) -> Answer {
    stage.post_form("/login", &format!("password={password}&next=%2Fincidents%2F7")).await
}

/// What the browser holds after a good login.
async fn cookie(stage: &Stage) -> String {
    let answer = log_in(stage, "correct+horse").await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    answer.header("set-cookie").split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn without_token_and_password_loopback_needs_nothing() {
    let stage = Stage::open();
    for path in CLOSED.iter().filter(|path| !path.starts_with("/events") && !path.starts_with("/no-such")) {
        assert_eq!(stage.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn without_token_and_password_any_other_address_lets_nobody_in() {
    let stage = Stage::new(fake::snapshot(), false, fake::FakePast::default());
    for path in CLOSED {
        let answer = stage.send(get(path).body(Body::empty()).unwrap()).await;
        answer.assert_problem(403, "no-credentials");
    }
    assert_eq!(stage.get("/livez").await.status, 200);
}

#[tokio::test]
async fn with_credentials_everything_but_the_public_needs_them() {
    let stage = Stage::guarded();
    for path in CLOSED {
        let answer = stage.send(get(path).body(Body::empty()).unwrap()).await;
        answer.assert_problem(401, "unauthorized");
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    }
    for path in PUBLIC {
        assert_ne!(stage.get(path).await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn a_bearer_token_lets_a_program_in_and_a_wrong_one_does_not() {
    let stage = Stage::guarded();
    let with =
        |token: &str| get("/api/v1/status").header("authorization", token).body(Body::empty()).unwrap();
    assert_eq!(stage.send(with("Bearer t0ken")).await.status, 200);
    assert_eq!(stage.send(with("bearer t0ken")).await.status, 200);
    for wrong in ["Bearer t0ke", "Bearer correct horse", "Bearer", "Basic t0ken"] {
        stage.send(with(wrong)).await.assert_problem(401, "unauthorized");
    }
}

#[tokio::test]
async fn a_person_logs_in_with_the_password_and_out_again() {
    let stage = Stage::guarded();
    let asked = stage.get("/incidents/7").await;
    assert_eq!((asked.status.as_u16(), asked.header("location")), (303, "/login?next=%2Fincidents%2F7"));
    let form = stage.get("/login?next=%2Fincidents%2F7").await;
    assert!(form.body.contains("name=\"next\" value=\"/incidents/7\""));

    let answer = log_in(&stage, "correct+horse").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/incidents/7"));
    let set = answer.header("set-cookie").to_owned();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(set.contains(attribute), "{set}");
    }
    let held = set.split(';').next().unwrap().to_owned();
    let page = |path: &str| get(path).header("cookie", format!("a=b; {held}")).body(Body::empty()).unwrap();
    let overview = stage.send(page("/")).await;
    assert_eq!(overview.status, 200);
    assert!(overview.body.contains("action=\"/logout\""));

    let out = post("/logout").header("cookie", &held).header("sec-fetch-site", "same-origin");
    let out = stage.send(out.body(Body::empty()).unwrap()).await;
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    stage.send(page("/api/v1/status")).await.assert_problem(401, "unauthorized");
}

#[tokio::test]
async fn a_made_up_session_lets_nobody_in() {
    let stage = Stage::guarded();
    let _ = cookie(&stage).await;
    for held in ["mainstay_session=", "mainstay_session=00", "mainstay_session=t0ken", "mainstay_session"] {
        let request = get("/api/v1/status").header("cookie", held).body(Body::empty()).unwrap();
        stage.send(request).await.assert_problem(401, "unauthorized");
    }
}

#[tokio::test]
async fn a_changed_password_ends_every_session() {
    let stage = Stage::guarded();
    let held = cookie(&stage).await;
    let page = || get("/api/v1/status").header("cookie", &held).body(Body::empty()).unwrap();
    assert_eq!(stage.send(page()).await.status, 200);
    stage
        .access
        .send(AdminAccess { token: None, password: Some(Secret::new("another".to_owned())) })
        .unwrap();
    assert_eq!(stage.send(page()).await.status, 401);
}

#[tokio::test]
async fn wrong_passwords_are_answered_alike_and_then_refused_for_a_while() {
    let stage = Stage::guarded();
    for _ in 0..5 {
        let answer = log_in(&stage, "wrong").await;
        assert_eq!(answer.status, 401);
        assert!(answer.body.contains("That is not the password."));
        assert_eq!(answer.header("set-cookie"), "");
    }
    let answer = log_in(&stage, "correct+horse").await;
    assert_eq!(answer.status, 429, "even the right one has to wait");
    assert_ne!(answer.header("retry-after"), "");
    let token = get("/api/v1/status").header("authorization", "Bearer t0ken").body(Body::empty()).unwrap();
    stage.send(token).await.assert_problem(429, "too-many-attempts");
}

#[tokio::test]
async fn a_link_in_a_mail_opens_the_page_by_way_of_our_own_site() {
    let stage = Stage::guarded();
    let request =
        get("/incidents/7?x=%22%3E").header("accept", "text/html").header("sec-fetch-site", "cross-site");
    let answer = stage.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("content=\"0; url=/incidents/7?x=%22%3E\""), "{}", answer.body);
    assert!(!answer.body.contains("SIGKILL"), "nothing is shown before the login");
}

#[tokio::test]
async fn a_foreign_host_name_is_refused_so_that_rebinding_is_of_no_use() {
    let stage = Stage::open();
    for host in
        ["evil.example", "evil.example:9900", "127.0.0.1.evil.example", "10.0.0.1", "localhost.evil.example"]
    {
        for path in ["/", "/api/v1/status", "/metrics"] {
            let request = Request::get(path).header(header::HOST, host).body(Body::empty()).unwrap();
            stage.send(request).await.assert_problem(421, "foreign-host");
        }
        let order =
            Request::post(DRAIN).header(header::HOST, host).header("content-type", "application/json");
        let order = order.body(Body::from(r#"{"state":"draining"}"#)).unwrap();
        stage.send(order).await.assert_problem(421, "foreign-host");
    }
    let absolute =
        Request::get("http://evil.example/").header(header::HOST, "localhost").body(Body::empty()).unwrap();
    stage.send(absolute).await.assert_problem(421, "foreign-host");
    stage.send(Request::get("/").body(Body::empty()).unwrap()).await.assert_problem(421, "foreign-host");
    for host in ["localhost", "127.0.0.1:9900", "[::1]:9900"] {
        let request = Request::get("/").header(header::HOST, host).body(Body::empty()).unwrap();
        assert_eq!(stage.send(request).await.status, 200, "{host}");
    }
}

#[tokio::test]
async fn with_credentials_any_host_name_will_do() {
    let stage = Stage::guarded();
    let request = Request::get("/api/v1/status")
        .header(header::HOST, "ops.example.com")
        .header("authorization", "Bearer t0ken");
    assert_eq!(stage.send(request.body(Body::empty()).unwrap()).await.status, 200);
}

/// A change, with these headers.
fn change(headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = post(DRAIN).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(r#"{"state":"draining"}"#)).unwrap()
}

#[tokio::test]
async fn a_change_is_taken_from_our_own_pages_and_from_programs_only() {
    let mut stage = Stage::open();
    let taken: [&[(&str, &str)]; 6] = [
        &[],
        &[("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "none")],
        &[("origin", "http://localhost:9900")],
        &[("sec-fetch-site", "same-origin"), ("origin", "null")],
        &[("sec-fetch-site", "same-origin"), ("origin", "http://localhost:9900")],
    ];
    for headers in taken {
        assert_eq!(stage.send(change(headers)).await.status, 200, "{headers:?}");
        assert!(matches!(stage.inputs.try_recv(), Ok(Input::Admin { .. })));
    }
    let refused: [&[(&str, &str)]; 7] = [
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "cross-site"), ("origin", "http://localhost:9900")],
        &[("origin", "http://evil.example")],
        &[("origin", "null")],
        &[("origin", "http://localhost:9901")],
        &[("origin", "http://localhost:9900.evil.example")],
    ];
    for headers in refused {
        stage.send(change(headers)).await.assert_problem(403, "cross-site");
        assert!(stage.inputs.try_recv().is_err(), "{headers:?} changed something");
    }
}

#[tokio::test]
async fn a_session_alone_does_not_make_a_change_without_a_browsers_word() {
    let mut stage = Stage::guarded();
    let held = cookie(&stage).await;
    stage.send(change(&[("cookie", &held)])).await.assert_problem(403, "cross-site");
    stage
        .send(change(&[("cookie", &held), ("sec-fetch-site", "cross-site")]))
        .await
        .assert_problem(403, "cross-site");
    assert_eq!(stage.send(change(&[("cookie", &held), ("sec-fetch-site", "same-origin")])).await.status, 200);
    assert_eq!(stage.send(change(&[("authorization", "Bearer t0ken")])).await.status, 200);
    stage.send(change(&[])).await.assert_problem(401, "unauthorized");
    assert!(stage.inputs.try_recv().is_ok() && stage.inputs.try_recv().is_ok());
    assert!(stage.inputs.try_recv().is_err());
}

#[tokio::test]
async fn forms_of_foreign_pages_log_nobody_in_and_change_nothing() {
    let mut stage = Stage::open();
    for path in ["/servers/shop/app-1/state", "/incidents/7/acknowledge", "/logout"] {
        let request = post(path)
            .header("origin", "https://evil.example")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from("to=draining&by=x"))
            .unwrap();
        stage.send(request).await.assert_problem(403, "cross-site");
    }
    let stage_with_password = Stage::guarded();
    let request = post("/login")
        .header("sec-fetch-site", "cross-site")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from("password=correct+horse"))
        .unwrap();
    stage_with_password.send(request).await.assert_problem(403, "cross-site");
    assert!(stage.inputs.try_recv().is_err());
}
