//! The API's description: made from the handlers' annotations, written once.

use std::sync::LazyLock;

use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};

use super::{
    Incidents, Messages, backups, changes, drills, dump, freeze, history, host, machine_schema, maintenance,
    monitor_schema, monitors, proposals, publication, release_schema, releases, remedies, requests, results,
    schema, switch,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Mainstay",
        description = "What Mainstay knows and does. Times are milliseconds since the Unix epoch, UTC. \
            Refusals are problems of RFC 9457, named by the last part of their `type`.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    paths(
        super::document,
        super::status,
        super::services,
        super::service,
        history::of_service,
        releases::deploy,
        releases::promote,
        releases::roll_back,
        switch::switch,
        super::server,
        history::of_server,
        results::of_server,
        super::change_state,
        dump::dump,
        host::now,
        host::history,
        super::incidents,
        super::incident,
        super::messages,
        host::around,
        super::report,
        super::acknowledge,
        publication::public,
        publication::change_public,
        publication::add_update,
        requests::request,
        maintenance::all,
        maintenance::open,
        maintenance::end,
        freeze::now,
        freeze::on,
        freeze::off,
        remedies::all,
        proposals::all,
        proposals::one,
        drills::all,
        drills::one,
        drills::begin,
        drills::stop,
        changes::all,
        changes::tell,
        monitors::all,
        monitors::one,
        monitors::history,
        results::of_monitor,
        backups::all,
        backups::run,
        backups::verify
    ),
    components(
        schemas(
            schema::Status, schema::Service, schema::Server, schema::Incident, schema::ServerBucket, schema::ServiceBucket,
            schema::ChangeState, schema::Change, schema::TellChange, schema::Acknowledge, schema::Public, schema::ChangePublic, schema::AddUpdate, schema::ProblemBody, schema::Backup, release_schema::Deploy, release_schema::Releases, release_schema::RunSwitch, Incidents, Messages, schema::IncidentMessage,
            history::Percentiles, history::ServerHistory, history::ServiceHistory,
            machine_schema::Host, machine_schema::MachineBucket, host::Machine, host::MachineHistory, machine_schema::MachineSeconds, machine_schema::OtherMachine,
            maintenance::MaintenanceWindow, maintenance::InMaintenance, maintenance::Opening,
            freeze::Freeze, freeze::Freezing,
            remedies::Remedy, proposals::Proposal, proposals::Decide,
            drills::Drill, drills::Drills, drills::Drilling,
            requests::Request, requests::Attempt,
            monitor_schema::Monitor, monitor_schema::MonitorCounts, monitor_schema::MonitorBucket, monitors::Monitors, monitors::MonitorHistory, results::MonitorResults, results::ServerResults
        ),
        responses(schema::Problem)
    ),
    tags(
        (name = "status", description = "How things are now"),
        (name = "history", description = "How things were, by minute and by hour"),
        (name = "incidents", description = "What is remembered of outages"),
        (name = "backups", description = "What is backed up, and how that went"),
        (name = "orders", description = "What a person may ask for"),
        (name = "description", description = "This document")
    )
)]
struct Document;

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut document = Document::openapi();
    document.info.version = "1".to_owned();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    if let Some(components) = &mut document.components {
        components.add_security_scheme("token", bearer);
    }
    // Either the token of admin.token, or, on a loopback address without one, nothing.
    document.security =
        Some(vec![SecurityRequirement::new("token", [] as [&str; 0]), SecurityRequirement::default()]);
    document.to_json().expect("a description made of strings is always JSON")
});

/// The document as JSON.
pub(super) fn document() -> &'static str {
    &DOCUMENT
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_document_is_openapi_3_1_and_every_reference_leads_somewhere() {
        let document: Value = serde_json::from_str(document()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        fn check(root: &Value, value: &Value, found: &mut usize) {
            match value {
                Value::Object(map) => {
                    if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                        let pointer = reference.strip_prefix('#').unwrap();
                        assert!(root.pointer(pointer).is_some(), "{reference} leads nowhere");
                        *found += 1;
                    }
                    map.values().for_each(|value| check(root, value, found));
                }
                Value::Array(all) => all.iter().for_each(|value| check(root, value, found)),
                _ => {}
            }
        }
        let mut found = 0;
        check(&document, &document, &mut found);
        assert!(found > 20, "only {found} references");
    }
}
