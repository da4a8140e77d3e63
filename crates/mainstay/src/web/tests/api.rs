//! The JSON API and its description.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use mainstay_model::input::AdminState;
use mainstay_model::{Input, Snapshot};
use serde_json::{Value, json};

use super::{Stage, fake, get};
use crate::web::api;

#[tokio::test]
async fn the_status_is_the_snapshot_as_it_is() {
    let (status, body) = Stage::open().get_json("/api/v1/status").await;
    assert_eq!(status, 200);
    let read: Snapshot = serde_json::from_value(body).unwrap();
    // Monitors are many and asked for by the page.
    assert_eq!(read, Snapshot { monitors: Arc::default(), ..fake::snapshot() });
}

#[tokio::test]
async fn services_servers_and_incidents_are_resources_of_their_own() {
    let stage = Stage::open();
    let (_, services) = stage.get_json("/api/v1/services").await;
    assert_eq!(services.as_array().map(Vec::len), Some(2));
    assert_eq!(stage.get_json("/api/v1/services/shop").await.1["state"], "degraded");
    assert_eq!(stage.get_json("/api/v1/servers/shop/app-2").await.1["health"], "unhealthy");
    assert_eq!(stage.get_json("/api/v1/incidents/7").await.1["state"], "open");
    assert_eq!(stage.get_json("/api/v1/incidents/3").await.1["state"], "resolved");
    for path in [
        "/api/v1/services/x",
        "/api/v1/servers/shop/x",
        "/api/v1/requests/x",
        "/api/v1/incidents/99",
        "/api/v1/incidents/x",
        "/api/v1/x",
        "/api/v1/services/x/history",
        "/api/v1/",
    ] {
        let answer = stage.get(path).await;
        if path.ends_with("history") {
            // The fake record has a past for every name.
            assert_eq!(answer.status, 200);
        } else {
            answer.assert_problem(404, "not-found");
        }
    }
}

#[tokio::test]
async fn incidents_are_paged() {
    let stage = Stage::open();
    let (_, first) = stage.get_json("/api/v1/incidents?limit=4").await;
    assert_eq!(first["incidents"].as_array().map(Vec::len), Some(4));
    assert_eq!(first["next_before"], 3);
    let (_, rest) = stage.get_json("/api/v1/incidents?limit=4&before=3").await;
    assert_eq!(rest["incidents"][0]["id"], 2);
    assert_eq!(rest.get("next_before"), None);
    for query in ["limit=0", "limit=201", "limit=x", "before=-1", "nonsense=1"] {
        stage.get(&format!("/api/v1/incidents?{query}")).await.assert_problem(400, "bad-request");
    }
}

#[tokio::test]
async fn history_has_percentiles_and_leaves_gaps_out() {
    let stage = Stage::open();
    let (status, history) = stage.get_json("/api/v1/servers/shop/app-1/history?step=minute").await;
    assert_eq!(status, 200);
    let buckets = history["buckets"].as_array().unwrap();
    assert!(buckets.len() < 60, "the gap is absent");
    assert!(
        buckets[0]["latency"]["p99_ms"].as_f64().unwrap()
            >= buckets[0]["latency"]["p50_ms"].as_f64().unwrap()
    );
    assert_eq!(buckets[0]["latency"]["count"], 200);
    let (_, service) = stage
        .get_json("/api/v1/services/shop/history?step=hour&from=2026-11-11T00:00:00Z&to=2026-11-12T00:00:00Z")
        .await;
    assert_eq!(service["buckets"].as_array().map(Vec::len), Some(24));
    let year = "from=2025-11-12T00:00:00Z&to=2026-11-12T00:00:00Z";
    let (_, service) = stage.get_json(&format!("/api/v1/services/shop/history?step=hour&{year}")).await;
    assert_eq!(service["buckets"].as_array().map(Vec::len), Some(8760), "a whole year at once");
    stage.get("/api/v1/servers/shop/app-1/history?step=day").await.assert_problem(400, "bad-request");
    let broken = Stage::new(fake::snapshot(), true, fake::FakePast { broken: true });
    broken.get("/api/v1/servers/shop/app-1/history").await.assert_problem(503, "record-unreadable");
    broken.get("/api/v1/incidents").await.assert_problem(503, "record-unreadable");
}

#[tokio::test]
async fn every_look_at_a_monitor_or_server_is_told_page_by_page() {
    let stage = Stage::open();
    for (address, name, whose) in [
        ("/api/v1/monitors/check-007/results", "monitor", "check-007"),
        ("/api/v1/servers/shop/app-1/results", "server", "shop/app-1"),
    ] {
        let (status, first) = stage.get_json(&format!("{address}?limit=100")).await;
        assert_eq!((status.as_u16(), first[name].as_str()), (200, Some(whose)));
        let results = first["results"].as_array().unwrap();
        assert_eq!(results.len(), 100);
        assert_eq!(results[5]["result"], "failed");
        assert_eq!(results[5]["text"], "connection refused");
        let next = first["next_from"].as_i64().unwrap();
        let (_, rest) = stage.get_json(&format!("{address}?limit=1000&from={next}")).await;
        assert_eq!(rest["results"].as_array().map(Vec::len), Some(260), "an hour, each 10 s");
        assert_eq!(rest.get("next_from"), None);
        for query in ["limit=0", "limit=10001", "from=5&to=5", "from=yesterday", "x=1"] {
            stage.get(&format!("{address}?{query}")).await.assert_problem(400, "bad-request");
        }
        let broken = Stage::new(fake::snapshot(), true, fake::FakePast { broken: true });
        broken.get(address).await.assert_problem(503, "record-unreadable");
    }
    stage.get("/api/v1/servers/shop/x/results?from=1&to=0").await.assert_problem(400, "bad-request");
}

#[tokio::test]
async fn orders_are_inputs_of_the_judge() {
    let mut stage = Stage::open();
    let answer =
        stage.post_json("/api/v1/servers/shop/app-1/state", r#"{"state":"maintenance","by":"ci"}"#).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["id"]), (200, &json!("shop/app-1")));
    let Ok(Input::Admin { state, by, .. }) = stage.inputs.try_recv() else { panic!("no order") };
    assert_eq!((state, by.as_str()), (AdminState::Maintenance, "ci"));
    assert_eq!(stage.post_json("/api/v1/incidents/7/acknowledge", "{}").await.status, 200);
    let Ok(Input::Acknowledge { by, .. }) = stage.inputs.try_recv() else { panic!("no order") };
    assert_eq!(by, "api");
}

#[tokio::test]
async fn what_the_threads_of_a_server_are_at_is_shown_on_request() {
    let stage = Stage::new(fake::healthy(), true, fake::FakePast::default());
    let seen = stage.post_json("/api/v1/servers/shop/app-1/dump", "{}").await;
    assert_eq!(seen.status, 200);
    assert_eq!(seen.json()["lines"][0], "process 7 (shop), 1 thread:");
    stage.post_json("/api/v1/servers/shop/app-2/dump", "{}").await.assert_problem(409, "no-process");
    stage.post_json("/api/v1/servers/shop/none/dump", "{}").await.assert_problem(404, "not-found");
}

#[tokio::test]
async fn a_change_is_told_to_the_judge_and_one_with_a_mistake_is_not() {
    let mut stage = Stage::open();
    let path = "/api/v1/changes";
    assert_eq!(stage.get_json(path).await.1[0]["what"], "deployed v42");
    let long = format!(r#"{{"what":"{}"}}"#, "x".repeat(201));
    for (body, status, name) in [
        ("{}", 400, "bad-request"),
        (r#"{"what":" "}"#, 400, "bad-request"),
        (r#"{"what":"two\nlines"}"#, 400, "bad-request"),
        (r#"{"what":"x","at":1}"#, 400, "bad-request"),
        (r#"{"what":"x","service":"nobody"}"#, 404, "not-found"),
        (r#"{"what":"x","why":"y"}"#, 400, "bad-request"),
        (r#"{"release":"42"}"#, 400, "bad-request"),
        (r#"{"release":" ","service":"shop"}"#, 400, "bad-request"),
        (&long, 400, "bad-request"),
    ] {
        stage.post_json(path, body).await.assert_problem(status, name);
    }
    assert!(stage.inputs.try_recv().is_err());
    let body = r#"{"what":"moved the database","service":"shop","by":"Ada"}"#;
    let answer = stage.post_json(path, body).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["kind"]), (201, &json!("told")));
    let Ok(Input::Changed(change)) = stage.inputs.try_recv() else { panic!("not told") };
    assert_eq!(
        (change.what.as_str(), change.by.as_str(), change.at),
        ("moved the database", "Ada", fake::NOW)
    );
    let announced = stage.post_json(path, r#"{"release":"42","service":"shop","by":"ci"}"#).await;
    assert_eq!(announced.json()["kind"], "announced");
    let Ok(Input::Changed(change)) = stage.inputs.try_recv() else { panic!("not told") };
    assert_eq!(change.what, "release 42");
}

#[tokio::test]
async fn orders_with_mistakes_are_problems_and_change_nothing() {
    let mut stage = Stage::open();
    let state = "/api/v1/servers/shop/app-1/state";
    for (body, status, name) in [
        ("{", 400, "bad-request"),
        ("{}", 400, "bad-request"),
        (r#"{"state":"asleep"}"#, 400, "bad-request"),
        (r#"{"state":"ready","x":1}"#, 400, "bad-request"),
        (r#"{"state":"ready","by":"a\nb"}"#, 400, "bad-request"),
    ] {
        stage.post_json(state, body).await.assert_problem(status, name);
    }
    stage
        .post_json(state, &format!("{{\"state\":\"{}\"}}", "x".repeat(40_000)))
        .await
        .assert_problem(413, "body-too-large");
    let untyped =
        Request::post(state).header("host", "localhost").body(Body::from(r#"{"state":"ready"}"#)).unwrap();
    stage.send(untyped).await.assert_problem(415, "unsupported-media-type");
    stage
        .post_json("/api/v1/servers/shop/x/state", r#"{"state":"ready"}"#)
        .await
        .assert_problem(404, "not-found");
    stage.post_json("/api/v1/incidents/6/acknowledge", "{}").await.assert_problem(409, "conflict");
    let deleted = Request::delete(state).header("host", "localhost").body(Body::empty()).unwrap();
    let answer = stage.send(deleted).await;
    answer.assert_problem(405, "method-not-allowed");
    assert_eq!(answer.header("allow"), "POST");
    assert!(stage.inputs.try_recv().is_err());
    stage.stop.send(true).unwrap();
    stage.post_json(state, r#"{"state":"ready"}"#).await.assert_problem(503, "stopping");
}

#[tokio::test]
async fn too_many_requests_at_once_are_refused_by_name() {
    let stage = Stage::open();
    let all = u32::try_from(crate::web::router::REQUESTS_MAX).unwrap();
    let taken = stage.app.requests.acquire_many(all).await.unwrap();
    let answer = stage.send(get("/api/v1/status").body(Body::empty()).unwrap()).await;
    answer.assert_problem(503, "busy");
    assert_eq!(answer.header("retry-after"), "2");
    drop(taken);
    assert_eq!(stage.get("/api/v1/status").await.status, 200);
}

#[tokio::test]
async fn the_description_has_every_route_with_its_methods_and_no_other() {
    let stage = Stage::open();
    let (_, document) = stage.get_json("/api/v1/openapi.json").await;
    let paths = document["paths"].as_object().unwrap();
    let described: BTreeSet<_> = paths.keys().map(String::as_str).collect();
    let routed: BTreeSet<_> = api::routes().into_iter().map(|(path, _)| path).collect();
    assert_eq!(described, routed);
    for (path, item) in paths {
        let concrete = path.replace("{service}", "shop").replace("{server}", "app-1").replace("{id}", "7");
        let request = Request::patch(concrete).header("host", "localhost").body(Body::empty()).unwrap();
        let answer = stage.send(request).await;
        assert_eq!(answer.status, 405, "{path}");
        let routed: BTreeSet<_> =
            answer.header("allow").split(',').filter(|m| *m != "HEAD").map(str::to_lowercase).collect();
        let described: BTreeSet<_> = item.as_object().unwrap().keys().cloned().collect();
        assert_eq!(described, routed, "{path}");
    }
}

#[tokio::test]
async fn what_is_sent_is_what_is_described() {
    let stage = Stage::open();
    let _ = stage.status.send(Some(std::sync::Arc::new(crate::web::tests::fake::status_config())));
    let (_, document) = stage.get_json("/api/v1/openapi.json").await;
    for (path, concrete) in [
        ("/api/v1/status", "/api/v1/status"),
        ("/api/v1/services", "/api/v1/services"),
        ("/api/v1/services/{service}", "/api/v1/services/shop"),
        ("/api/v1/services/{service}/history", "/api/v1/services/shop/history"),
        ("/api/v1/servers/{service}/{server}", "/api/v1/servers/shop/app-2"),
        ("/api/v1/servers/{service}/{server}/history", "/api/v1/servers/shop/app-2/history"),
        ("/api/v1/requests/{id}", "/api/v1/requests/c0ffee"),
        ("/api/v1/changes", "/api/v1/changes"),
        ("/api/v1/incidents", "/api/v1/incidents?limit=2"),
        ("/api/v1/incidents/{id}", "/api/v1/incidents/6"),
        ("/api/v1/incidents/{id}/report", "/api/v1/incidents/6/report"),
        ("/api/v1/incidents/{id}/public", "/api/v1/incidents/5/public"),
    ] {
        let schema =
            &document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        let (_, body) = stage.get_json(concrete).await;
        check(&document, schema, &body, concrete);
    }
}

/// A value against the parts of JSON Schema that the description uses.
fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        return check(document, document.pointer(&reference[1..]).unwrap(), value, at);
    }
    if let Some(options) = schema["oneOf"].as_array() {
        let option = options.iter().find(|option| (option["type"] == "null") == value.is_null());
        return check(document, option.unwrap_or_else(|| panic!("{at}: {value}")), value, at);
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.clone(),
        Value::Null => return,
        one => vec![one.clone()],
    };
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    assert!(types.contains(&json!(is)), "{at} is {value}, described as {types:?}");
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(allowed.contains(value), "{at} is {value}");
    }
    if let (Value::Array(items), Some(schema)) = (value, schema.get("items")) {
        items.iter().enumerate().for_each(|(i, item)| check(document, schema, item, &format!("{at}/{i}")));
    }
    if let (Value::Object(members), Some(properties)) = (value, schema["properties"].as_object()) {
        for (name, member) in members {
            let schema = properties.get(name).unwrap_or_else(|| panic!("{at}/{name} is not described"));
            check(document, schema, member, &format!("{at}/{name}"));
        }
        for required in schema["required"].as_array().into_iter().flatten() {
            assert!(members.contains_key(required.as_str().unwrap()), "{at} lacks {required}");
        }
    }
}
