//! Health documents: answers in which a server lists its parts and how each is. The part that fails is the cause that a person
//! wants to read: `db is DOWN: connection refused` instead of `status 503`.
//!
//! Read are health+json (draft-inadarei-api-health-check), Spring Boot's actuator, ASP.NET's health checks, and the lines of
//! Kubernetes' `/readyz?verbose`. They differ in the names of keys and not in what they mean.

use serde_json::{Map, Value};

use super::wire::shortened;

/// Parts within parts are followed so deep.
const DEPTH_MAX: u32 = 4;
/// So many failing parts are named.
const NAMED_MAX: usize = 3;

/// What a document says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All is well, or the document does not say.
    Well,
    /// It works, but somebody should look: which part, for a person.
    Warns(String),
    /// It does not work: which part, for a person.
    Fails(String),
}

/// The type says that it is a health document and no other JSON.
pub(super) fn is_of_type(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/health+json" || kind.starts_with("application/vnd.spring-boot.actuator")
}

/// Reads a document; anything else says nothing.
pub(super) fn read(body: &[u8]) -> Verdict {
    match serde_json::from_slice(body) {
        Ok(Value::Object(document)) => of_json(&document),
        Ok(_) => Verdict::Well,
        Err(_) => of_lines(&String::from_utf8_lossy(body)),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    Well,
    Warns,
    Fails,
}

fn grade(status: &str) -> Grade {
    match status.to_ascii_lowercase().as_str() {
        "fail" | "failed" | "failing" | "error" | "down" | "out_of_service" | "unhealthy" | "critical" => {
            Grade::Fails
        }
        "warn" | "warning" | "degraded" => Grade::Warns,
        _ => Grade::Well,
    }
}

fn status_of(part: &Map<String, Value>) -> Option<&str> {
    ["status", "Status", "health"].iter().find_map(|key| part.get(*key)?.as_str())
}

fn of_json(document: &Map<String, Value>) -> Verdict {
    let Some(status) = status_of(document) else { return Verdict::Well };
    let worst = grade(status);
    if worst == Grade::Well {
        return Verdict::Well;
    }
    let mut parts = Vec::new();
    gather("", document, worst, 0, &mut parts);
    let words = match parts.is_empty() {
        false => parts.join("; "),
        true => match reason(document) {
            Some(reason) => format!("its health is {}: {reason}", short(status)),
            None => format!("its health is {}", short(status)),
        },
    };
    if worst == Grade::Fails { Verdict::Fails(words) } else { Verdict::Warns(words) }
}

/// The parts that are as bad as the whole; of a part that has parts of its own, those.
fn gather(above: &str, part: &Map<String, Value>, worst: Grade, depth: u32, found: &mut Vec<String>) {
    if depth == DEPTH_MAX {
        return;
    }
    let tables = ["checks", "components", "entries", "results", "details"];
    let tables = tables.iter().filter_map(|key| part.get(*key)?.as_object());
    for (name, value) in tables.flatten() {
        let name = if above.is_empty() { short(name) } else { format!("{above}/{}", short(name)) };
        let single = std::slice::from_ref(value);
        for inner in value.as_array().map_or(single, Vec::as_slice).iter().filter_map(Value::as_object) {
            let Some(status) = status_of(inner).filter(|status| grade(status) >= worst) else { continue };
            let before = found.len();
            gather(&name, inner, worst, depth + 1, found);
            if found.len() == before && found.len() < NAMED_MAX {
                let reason = reason(inner).map_or(String::new(), |reason| format!(": {reason}"));
                found.push(format!("{name} is {}{reason}", short(status)));
            }
        }
    }
}

/// Why a part is as it is, if it says.
fn reason(part: &Map<String, Value>) -> Option<String> {
    let keys = ["output", "error", "description", "message", "exception"];
    let own = keys.iter().find_map(|key| part.get(*key)?.as_str());
    let detail = || {
        let details = part.get("details").or_else(|| part.get("data"))?.as_object()?;
        keys.iter().find_map(|key| details.get(*key)?.as_str())
    };
    own.or_else(detail).map(str::trim).filter(|text| !text.is_empty()).map(short)
}

/// Kubernetes' way: `[-]etcd failed: reason withheld`.
fn of_lines(text: &str) -> Verdict {
    let failed: Vec<String> =
        text.lines().filter_map(|line| line.trim().strip_prefix("[-]")).take(NAMED_MAX).map(short).collect();
    if failed.is_empty() { Verdict::Well } else { Verdict::Fails(failed.join("; ")) }
}

/// One line of it, as long as a person reads.
fn short(text: &str) -> String {
    const LONGEST: usize = 120;
    let line = text.trim().lines().next().unwrap_or_default();
    let clean = |text: &str| text.replace(|c: char| c.is_control(), " ");
    clean(&shortened(line, LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_that_fails_is_named_with_its_reason() {
        for (body, wanted) in [
            (
                r#"{"status":"fail","checks":{"cache":[{"status":"pass"}],"db:connections":[{"status":"fail","output":"too many\nof them"}]}}"#,
                Verdict::Fails("db:connections is fail: too many".to_owned()),
            ),
            (
                r#"{"status":"DOWN","components":{"ping":{"status":"UP"},"db":{"status":"DOWN","details":{"error":"refused"}}}}"#,
                Verdict::Fails("db is DOWN: refused".to_owned()),
            ),
            (
                r#"{"status":"DOWN","components":{"all":{"status":"DOWN","components":{"b":{"status":"DOWN"}}}}}"#,
                Verdict::Fails("all/b is DOWN".to_owned()),
            ),
            (
                r#"{"status":"Unhealthy","results":{"queue":{"status":"Unhealthy","description":"full"}}}"#,
                Verdict::Fails("queue is Unhealthy: full".to_owned()),
            ),
            (
                r#"{"status":"warn","checks":{"disk":{"status":"warn","output":"90 %"}}}"#,
                Verdict::Warns("disk is warn: 90 %".to_owned()),
            ),
            (r#"{"status":"error","message":"no"}"#, Verdict::Fails("its health is error: no".to_owned())),
            ("[+]ping ok\n[-]etcd failed: withheld\n", Verdict::Fails("etcd failed: withheld".to_owned())),
        ] {
            assert_eq!(read(body.as_bytes()), wanted, "{body}");
        }
    }

    #[test]
    fn what_is_well_or_no_document_says_nothing() {
        for body in [
            r#"{"status":"pass"}"#,
            r#"{"status":"UP","components":{"x":{"status":"DOWN"}}}"#,
            r#"{"stat":"DOWN"}"#,
            r#"["fail"]"#,
            "fail",
            "",
            "\u{0}",
        ] {
            assert_eq!(read(body.as_bytes()), Verdict::Well, "{body}");
        }
        let deep = "{\"status\":\"DOWN\",\"components\":{\"a\":".repeat(100);
        assert_eq!(read(deep.as_bytes()), Verdict::Well, "not whole");
    }

    #[test]
    fn a_document_is_known_by_its_type() {
        assert!(is_of_type("application/health+json; charset=utf-8"));
        assert!(is_of_type("application/vnd.spring-boot.actuator.v3+json"));
        assert!(!is_of_type("application/json"));
    }
}
