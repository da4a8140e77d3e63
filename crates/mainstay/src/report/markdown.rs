//! A report as Markdown (GitHub's, because of its tables). Whatever a server wrote is text in it and nothing else.

use std::fmt::Write as _;

use jiff::Timestamp;
use mainstay_model::Wall;
use mainstay_model::cause::Diagnosis;
use mainstay_model::helped::{Help, Helped};
use mainstay_model::host::seconds::Second;
use mainstay_model::incident::{
    EntryKind, Incident, IncidentState, Scope, Severity, TimelineEntry, VisitorsSaw, Witness,
};
use mainstay_model::words::{bytes, grouped};

use super::Report;
use crate::store::{StoredAction, StoredMessage};

/// Rows of the table of what visitors saw over time, and of that of the machine.
const CURVE_ROWS: usize = 30;

/// The whole report.
pub(super) fn write(report: &Report) -> String {
    let incident = &report.incident;
    let mut out = format!("# Incident {}: {}\n\n", incident.id, inert(&incident.title));
    head(&mut out, incident, report.at);
    cause(&mut out, incident);
    changes(&mut out, incident);
    times(&mut out, report);
    if matches!(incident.scope, Scope::Service(_)) {
        impact(&mut out, incident);
        curve(&mut out, incident);
    }
    timeline(&mut out, incident);
    samples(&mut out, incident);
    machine(&mut out, report);
    evidence(&mut out, incident, &report.actions);
    told(&mut out, incident, &report.messages);
    let version = env!("CARGO_PKG_VERSION");
    let _ =
        write!(out, "---\n\nWritten by Mainstay {version} at {}. All times are UTC.\n", moment(report.at));
    out
}

fn head(out: &mut String, incident: &Incident, now: Wall) {
    let end = incident.resolved_at.unwrap_or(now);
    let lasted = length(end.ms_since(incident.began_at).max(0).unsigned_abs());
    let servers: Vec<String> = incident.servers.iter().map(|id| inert(&id.to_string())).collect();
    let severity = match incident.severity {
        Severity::Degraded => "degraded: redundancy was less, visitors were served",
        Severity::Partial => "partial: some requests failed",
        Severity::Down => "down: nobody was answered",
    };
    let cause = incident.diagnosis.as_ref().map_or_else(|| "not known".to_owned(), Diagnosis::in_words);
    let mut row = |name: &str, value: String| {
        let _ = writeln!(out, "| {name} | {value} |");
    };
    row("", String::new());
    row("---", "---".to_owned());
    row("Where", inert(&incident.scope.to_string()));
    if !servers.is_empty() {
        row("Servers", servers.join(", "));
    }
    row("Severity", severity.to_owned());
    row("Cause", cause);
    row("Began", moment(incident.began_at));
    match incident.state {
        IncidentState::Resolved => row("Over", format!("{}, after {lasted}", moment(end))),
        _ => row("Over", format!("not yet: {} for {lasted}", incident.state.as_str())),
    }
    if let Some((by, at)) = &incident.acknowledged {
        row("Taken on", format!("by {}, {}", inert(by), moment(*at)));
    }
    if let Some(root) = incident.part_of {
        row("Part of", format!("incident {root}"));
    }
    if !incident.affected.is_empty() {
        let names = incident.affected.iter().map(|affected| {
            format!("{} (incident {})", inert(&affected.what.to_string()), affected.incident)
        });
        row("Also affected", names.collect::<Vec<_>>().join(", "));
    }
    out.push('\n');
}

fn cause(out: &mut String, incident: &Incident) {
    let Some(diagnosis) = &incident.diagnosis else { return };
    let _ = write!(out, "## Cause\n\n{}.\n\n", capitalised(&diagnosis.in_words()));
    for evidence in &diagnosis.evidence {
        let _ = writeln!(out, "- {}", inert(evidence));
    }
    if !diagnosis.evidence.is_empty() {
        out.push('\n');
    }
}

fn changes(out: &mut String, incident: &Incident) {
    if incident.changes.is_empty() {
        return;
    }
    out.push_str("## Changes\n\nIn the hour before it began, the nearest first.\n\n");
    for change in &incident.changes {
        let whom = change.service.as_ref().map(|service| format!(" of {service}")).unwrap_or_default();
        let said = format!("{}{whom}, by {}: {}", change.kind.as_str(), change.by, change.what);
        let _ = writeln!(out, "- {}: {}", change.beside(incident.began_at), inert(&said));
    }
    out.push('\n');
}

fn times(out: &mut String, report: &Report) {
    let times = &report.times;
    out.push_str("## Times\n\nFrom the first sign on.\n\n| | after | until |\n| --- | ---: | --- |\n");
    let rows = [
        ("to notice", Some(times.to_notice_ms), "it was clear that this is an incident", ""),
        ("to divert", times.to_divert_ms, "the first server was out of rotation", "no server was taken out"),
        ("to act", times.to_act_ms, "the first recovery action was begun", "nothing was done"),
        ("to recover", times.to_recover_ms, "everything served well again", "not yet"),
    ];
    for (name, ms, until, otherwise) in rows {
        let _ = match ms {
            Some(ms) => writeln!(out, "| {name} | {} | {until} |", length(ms)),
            None => writeln!(out, "| {name} | – | {otherwise} |"),
        };
    }
    out.push('\n');
}

fn impact(out: &mut String, incident: &Incident) {
    let (seen, impact) = (&incident.seen, &incident.impact);
    out.push_str("## Impact\n\nCounted from requests, from the first sign on.\n\n");
    if let Some(money) = &impact.money {
        let _ = writeln!(out, "- **About {}.** {}.", inert(&money.text()), inert(&capitalised(&money.how)));
    }
    let _ = match (impact.visitors, impact.visitors_exact) {
        (0, _) => writeln!(out, "- No visitor was hurt."),
        (n, true) => writeln!(out, "- Different visitors hurt: {}.", grouped(n)),
        (n, false) => writeln!(out, "- Different visitors hurt: about {}.", grouped(n)),
    };
    let _ = writeln!(
        out,
        "- Visitors were hurt during {}, of which nobody was answered during {}.",
        length(impact.hurt_seconds * 1000),
        length(impact.down_seconds * 1000)
    );
    let _ = write!(out, "\n| {} | |\n| --- | ---: |\n", seen.nouns().1);
    for (name, value) in figures(seen) {
        let _ = writeln!(out, "| {name} | {} |", grouped(value));
    }
    if impact.missing > 0 {
        let _ = writeln!(
            out,
            "| to be expected, but did not come while nobody was answered | about {} |",
            grouped(impact.missing)
        );
    }
    out.push('\n');
}

fn figures(seen: &VisitorsSaw) -> [(&'static str, u64); 7] {
    [
        ("ended", seen.requests),
        ("failed: refused or cut short by the fault", seen.failed),
        ("answered 5xx by a server", seen.server_errors),
        ("shed: refused because there was no room", seen.shed),
        ("limited: refused because their address asked too often", seen.limited),
        ("saved by a retry", seen.saved),
        ("well answered, but slow", seen.slow),
    ]
}

fn curve(out: &mut String, incident: &Incident) {
    let curve = incident.curve.at_most(CURVE_ROWS);
    if curve.points.is_empty() {
        return;
    }
    let _ = write!(
        out,
        "### Over time\n\nA row is {}.\n\n| from | requests | failed | 5xx | shed | limited | saved | slow |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        length(curve.step_ms)
    );
    for (i, point) in curve.points.iter().enumerate() {
        let at = Wall(incident.began_at.0.saturating_add_unsigned(curve.step_ms.saturating_mul(i as u64)));
        let _ = match point {
            None => writeln!(out, "| {} | Mainstay was not looking | | | | | | |", clock(at)),
            Some(s) => writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                clock(at),
                grouped(s.requests),
                grouped(s.failed),
                grouped(s.server_errors),
                grouped(s.shed),
                grouped(s.limited),
                grouped(s.saved),
                grouped(s.slow)
            ),
        };
    }
    out.push('\n');
}

fn timeline(out: &mut String, incident: &Incident) {
    out.push_str("## Timeline\n\n| time | after | | what |\n| --- | ---: | --- | --- |\n");
    for entry in &incident.timeline {
        let after = entry.at.ms_since(incident.began_at);
        let sign = if after < 0 { "−" } else { "+" };
        let _ = writeln!(
            out,
            "| {} | {sign}{} | {} | {} |",
            clock(entry.at),
            length(after.unsigned_abs()),
            witness(entry.kind),
            sentence(entry)
        );
    }
    if incident.timeline_left_out > 0 {
        let _ = match incident.timeline_left_out {
            1 => writeln!(out, "\n1 entry of the middle was left out."),
            n => writeln!(out, "\n{} entries of the middle were left out.", grouped(n)),
        };
    }
    out.push('\n');
}

/// What was really answered. Indented, so that nothing in it is Markdown.
fn samples(out: &mut String, incident: &Incident) {
    let kept = incident.timeline.iter().filter_map(|entry| Some((entry, entry.sample.as_deref()?)));
    for (place, (entry, sample)) in kept.enumerate() {
        if place == 0 {
            out.push_str(
                "## What was answered and written\n\nSecrets in headers are left out; those in a body are not.\n\n",
            );
        }
        let from = entry.server.as_ref().map_or(String::new(), |id| format!(", {}", inert(&id.to_string())));
        let _ = write!(out, "{}{from}: {}", clock(entry.at), inert(&sample.words()));
        let phases = sample.phases.words();
        let _ = if phases.is_empty() { writeln!(out, ".\n") } else { writeln!(out, " ({phases}).\n") };
        let parts = [sample.headers.as_str(), sample.body.as_str()];
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            part.lines().for_each(|line| _ = writeln!(out, "    {line}"));
            out.push('\n');
        }
        if sample.cut {
            out.push_str("It is longer, or broke off here.\n\n");
        }
    }
}

fn machine(out: &mut String, report: &Report) {
    let seconds = &report.machine.0;
    if seconds.is_empty() {
        return;
    }
    out.push_str(
        "## The machine around it\n\nMeans of what was read of the machine that Mainstay runs on.\n\n\
         | from | busy | taken by other machines | waiting for a disk | memory | disks | network |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    let share =
        |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{:.0} %", value * 100.0));
    let rate = |a: Option<f64>, b: Option<f64>| {
        let sum = a.zip(b).map(|(a, b)| a + b);
        sum.map_or("–".to_owned(), |sum| format!("{}/s", bytes(sum as u64)))
    };
    for some in seconds.chunks(seconds.len().div_ceil(CURVE_ROWS)) {
        let Some(mean) = Second::mean(some) else { continue };
        let cells = [
            clock(mean.at),
            share(mean.cpu),
            share(mean.cpu_steal),
            share(mean.cpu_iowait),
            share(mean.memory),
            rate(mean.io_read, mean.io_written),
            rate(mean.network_received, mean.network_sent),
        ];
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out.push('\n');
}

fn evidence(out: &mut String, incident: &Incident, actions: &[StoredAction]) {
    let seen: Vec<&TimelineEntry> = incident
        .timeline
        .iter()
        .filter(|e| {
            matches!(e.kind, EntryKind::TrafficFailed | EntryKind::ProbeFailed | EntryKind::ProcessExited)
        })
        .collect();
    if seen.is_empty() && actions.is_empty() {
        return;
    }
    out.push_str("## Evidence\n\n");
    if !seen.is_empty() {
        out.push_str("### What was seen of the servers\n\n");
        for entry in seen {
            let _ = writeln!(out, "- {} {}", clock(entry.at), sentence(entry));
        }
        out.push('\n');
    }
    if !actions.is_empty() {
        out.push_str("### What was done\n\n| begun | action | server | why | took | outcome |\n| --- | --- | --- | --- | ---: | --- |\n");
        for action in actions {
            let took = action
                .ended_at
                .map_or("–".to_owned(), |end| length(end.ms_since(action.begun_at).max(0).unsigned_abs()));
            let outcome = match (&action.error, action.ended_at) {
                (Some(error), _) => format!("failed: {}", inert(error)),
                (None, Some(_)) => action.helped.as_ref().map_or("done".to_owned(), helped),
                (None, None) => "not known yet".to_owned(),
            };
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {took} | {outcome} |",
                clock(action.begun_at),
                inert(&action.kind),
                inert(&action.server),
                inert(&action.reason),
            );
        }
        out.push('\n');
    }
}

/// `done, and it helped: 0 of 118 requests to app-2 went wrong since, 12 of 340 before`
fn helped(helped: &Helped) -> String {
    let why = inert(&helped.why);
    match helped.help {
        Help::Yes => format!("done, and it helped: {why}"),
        Help::No => format!("done, and it did not help: {why}"),
        Help::NotKnown => format!("done; whether it helped is not known: {why}"),
    }
}

fn told(out: &mut String, incident: &Incident, messages: &[StoredMessage]) {
    out.push_str("## Who was told\n\n");
    if messages.is_empty() {
        let notified = incident.timeline.iter().filter(|e| e.kind == EntryKind::Notified);
        let texts: Vec<String> = notified.map(|e| format!("- {} {}", clock(e.at), sentence(e))).collect();
        let _ = match texts.is_empty() {
            true => writeln!(out, "Nobody.\n"),
            false => writeln!(out, "{}\n", texts.join("\n")),
        };
        return;
    }
    out.push_str("| queued | way | that it | outcome |\n| --- | --- | --- | --- |\n");
    for message in messages {
        let at = message.tried_at.map_or("–".to_owned(), moment);
        let tries =
            if message.attempts > 1 { format!(" at try {}", message.attempts) } else { String::new() };
        let outcome = match (&message.error, message.done) {
            (None, true) => format!("accepted {at}{tries}"),
            (Some(error), true) => format!("given up {at}{tries}: {}", inert(error)),
            (Some(error), false) => format!("still tried, last {at}: {}", inert(error)),
            (None, false) => "waits".to_owned(),
        };
        let kind = match message.kind.as_str() {
            "opened" => "began",
            "worsened" => "became worse",
            "needs-person" => "needs a person",
            "resolved" => "is over",
            other => other,
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {outcome} |",
            moment(message.queued_at),
            inert(&message.channel),
            inert(kind)
        );
    }
    out.push('\n');
}

/// What an entry says, with its server when it does not name it itself.
fn sentence(entry: &TimelineEntry) -> String {
    let server = entry.server.as_ref().filter(|server| !entry.text.contains(&*server.name));
    let server = server.map(|server| format!("{}: ", server.name)).unwrap_or_default();
    let times = if entry.times > 1 { format!(" ({} times)", entry.times) } else { String::new() };
    inert(&format!("{server}{}{times}", entry.text))
}

fn witness(kind: EntryKind) -> &'static str {
    match kind.witness() {
        Witness::Observed => "seen",
        Witness::Decided => "decided",
        Witness::Acted => "done",
        Witness::Person => "person",
        Witness::Own => "Mainstay",
    }
}

fn capitalised(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}

/// Text in which nothing is markup, in one line. An underscore within a word is none in GitHub's Markdown.
fn inert(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let characters: Vec<char> = text.chars().collect();
    let part_of_a_word =
        |at: Option<usize>| at.and_then(|at| characters.get(at)).is_some_and(|c| c.is_alphanumeric());
    for (at, &c) in characters.iter().enumerate() {
        match c {
            c if c.is_control() => out.push(' '),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '_' if part_of_a_word(at.checked_sub(1)) && part_of_a_word(Some(at + 1)) => out.push('_'),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    // A web address that a server wrote is no link of ours.
    out.replace("://", "&#58;//")
}

/// `340 ms`, `1.8 s`, `42 s`, `3 min 4 s`, `2 h 5 min`.
fn length(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..10_000 => format!("{:.1} s", ms as f64 / 1000.0),
        10_000..60_000 => format!("{} s", ms / 1000),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms / 1000 % 60),
        _ => format!("{} h {} min", ms / 3_600_000, ms / 60_000 % 60),
    }
}

fn moment(at: Wall) -> String {
    written(at, "%Y-%m-%d %H:%M:%S.%3f")
}

fn clock(at: Wall) -> String {
    written(at, "%H:%M:%S.%3f")
}

fn written(at: Wall, form: &str) -> String {
    match Timestamp::from_millisecond(at.0) {
        Ok(at) => at.strftime(form).to_string(),
        Err(_) => format!("{} ms", at.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BEGAN: i64 = 1_795_335_968_000;

    fn report() -> Report {
        let entry = |ms: i64, kind: &str, text: &str| json!({ "at": BEGAN + ms, "kind": kind, "server": "shop/app-2", "action": null, "text": text, "times": 1 });
        let incident = json!({
            "id": 7, "scope": { "service": "shop" }, "title": "app-2 of shop was killed by SIGKILL",
            "state": "resolved", "severity": "partial", "servers": ["shop/app-2"],
            "began_at": BEGAN, "opened_at": BEGAN + 200, "diverted_at": BEGAN + 200, "acted_at": BEGAN + 210,
            "recovered_at": BEGAN + 9_400, "resolved_at": BEGAN + 19_400, "acknowledged": ["Ada", BEGAN + 5_000],
            "seen": { "requests": 4_020, "failed": 312, "server_errors": 0, "saved": 61 },
            "impact": {
                "visitors": 41, "visitors_exact": true, "hurt_seconds": 126, "down_seconds": 0, "lost_ms": 9_880, "missing": 0,
                "money": { "amount": 3.29, "currency": "EUR", "per_hour": 1200.0, "how": "312 of 4,020 requests were hurt" }
            },
            "curve": {
                "step_ms": 1000, "requests": [4_000, null, 20], "failed": [312, 0, 0], "server_errors": [0, 0, 0],
                "saved": [61, 0, 0], "slow": [0, 0, 0], "shed": [0, 0, 0], "limited": [0, 0, 0]
            },
            "diagnosis": { "cause": "crash", "confidence": "high", "evidence": ["app-2 was killed by SIGKILL"] },
            "timeline": [
                entry(0, "process-exited", "app-2's process was killed; the last line it wrote: | <script>alert(1)</script> *b*"),
                entry(200, "ejected", "out of rotation"),
                json!({
                    "at": BEGAN + 201, "kind": "probe-failed", "server": "shop/app-2", "action": null, "text": "a probe failed", "times": 2,
                    "sample": {
                        "asked": "GET /health", "status": 503, "headers": "server: nginx\nset-cookie: (not kept)\n",
                        "body": "# no *markup*\n```\n", "cut": true, "phases": { "connected_ms": 2.0, "first_byte_ms": 212.0 }
                    }
                }),
            ],
            "timeline_left_out": 0
        });
        let action = json!({
            "id": 3, "server": "shop/app-2", "kind": "restart", "reason": "it was killed", "begun_at": BEGAN + 210,
            "ended_at": BEGAN + 290, "error": null
        });
        let message = json!({
            "channel": "email", "kind": "opened", "queued_at": BEGAN + 700, "tried_at": BEGAN + 750, "attempts": 2,
            "error": null, "done": true
        });
        serde_json::from_value(json!({
            "at": BEGAN + 60_000, "incident": incident, "actions": [action], "messages": [message],
            "machine": {
                "at": [BEGAN - 1_000, BEGAN], "cpu": [0.4, 0.5], "cpu_steal": [0.0, 0.0], "cpu_iowait": [0.01, 0.01],
                "io_read": [0.0, 0.0], "io_written": [1e6, 3e6]
            },
            "times": { "to_notice_ms": 200, "to_divert_ms": 200, "to_act_ms": 210, "to_recover_ms": 9_400 }
        }))
        .unwrap()
    }

    #[test]
    fn a_report_says_what_a_post_mortem_needs() {
        let text = report().markdown();
        for expected in [
            "# Incident 7: app-2 of shop was killed by SIGKILL\n",
            "| Severity | partial: some requests failed |",
            "| Cause | crash, confidence high |",
            "| Began | 2026-11-22 08:26:08.000 |",
            "| Over | 2026-11-22 08:26:27.400, after 19 s |",
            "| Taken on | by Ada, 2026-11-22 08:26:13.000 |",
            "## Cause\n\nCrash, confidence high.\n\n- app-2 was killed by SIGKILL\n",
            "| to notice | 200 ms | it was clear that this is an incident |",
            "| to recover | 9.4 s | everything served well again |",
            "- **About 3.29 EUR.** 312 of 4,020 requests were hurt.",
            "- Different visitors hurt: 41.",
            "- Visitors were hurt during 2 min 6 s, of which nobody was answered during 0 ms.",
            "| failed: refused or cut short by the fault | 312 |",
            "| 08:26:08.000 | 4,000 | 312 | 0 | 0 | 0 | 61 | 0 |",
            "| 08:26:09.000 | Mainstay was not looking | | | | | | |",
            "| 08:26:08.200 | +200 ms | decided | app-2: out of rotation |",
            "| 08:26:08.210 | restart | shop/app-2 | it was killed | 80 ms | done |",
            "| 08:26:07.000 | 40 % | 0 % | 1 % | – | 977 KiB/s | – |",
            "| 2026-11-22 08:26:08.700 | email | began | accepted 2026-11-22 08:26:08.750 at try 2 |",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
    }

    #[test]
    fn what_a_server_wrote_is_no_markup() {
        let text = report().markdown();
        assert!(!text.contains("<script>") && !text.contains("*b*"), "{text}");
        assert!(
            text.contains("the last line it wrote: \\| &lt;script>alert(1)&lt;/script> \\*b\\*"),
            "{text}"
        );
        assert_eq!(inert("a_b _c_ `x`\n[y](http://z)"), "a_b \\_c\\_ \\`x\\` \\[y\\](http&#58;//z)");
    }

    #[test]
    fn what_was_answered_is_shown_as_it_came() {
        let text = report().markdown();
        let expected = "## What was answered and written\n\nSecrets in headers are left out; those in a body are not.\n\n\
            08:26:08.201, shop/app-2: GET /health: status 503 (connect 2.0 ms, first byte 210 ms).\n\n    \
            server: nginx\n    set-cookie: (not kept)\n\n    # no *markup*\n    ```\n\nIt is longer, or broke off here.\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn every_row_of_a_table_has_as_many_cells_as_its_head() {
        let text = report().markdown();
        let cells = |line: &str| line.replace("\\|", "").matches('|').count();
        let mut width = None;
        for line in text.lines() {
            if !line.starts_with('|') {
                width = None;
                continue;
            }
            assert_eq!(cells(line), *width.get_or_insert(cells(line)), "{line}");
        }
    }

    #[test]
    fn an_incident_of_which_little_is_known_has_a_report_too() {
        let mut report = report();
        report.incident.scope = Scope::Own(mainstay_model::input::OwnPart::Record);
        report.incident.timeline.clear();
        (report.actions, report.messages, report.incident.diagnosis) = (Vec::new(), Vec::new(), None);
        report.machine.0.clear();
        let text = report.markdown();
        assert!(
            text.contains("| Cause | not known |") && text.contains("## Who was told\n\nNobody.\n"),
            "{text}"
        );
        assert!(!text.contains("## Impact") && !text.contains("## Evidence"), "{text}");
        assert!(!text.contains("## The machine"), "{text}");
    }

    #[test]
    fn it_reads_back_as_it_was_sent() {
        let sent = serde_json::to_string(&report()).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&sent).unwrap(), report());
    }
}
