//! `mainstay why SERVER`: the rule that decided, what each witness says, and what would change it. `mainstay why REQUEST-ID`:
//! what became of one request, attempt by attempt.

use anyhow::bail;
use clap::Args;
use mainstay_model::chain;
use mainstay_model::incident::{Incident, IncidentState, Scope};
use mainstay_model::policy::Role;
use mainstay_model::request::RequestRecord;
use mainstay_model::snapshot::{ProcessSnapshot, ServerSnapshot};
use mainstay_model::{Snapshot, Wall};

use super::ask::AskArgs;
use super::paint::{
    Cell, Paint, Tone, between, clean, counted, milliseconds, moment, moment_ms, per_second, server_state,
    share, table,
};
use crate::exit_code::Exit;

/// Options of `mainstay why`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mainstay why shop/app-1
  mainstay why app-1                   if only one service has a server of this name
  mainstay why app-1 --json | jq -r .why.rule
  mainstay why 6f1e…                   the X-Request-Id of an answer

Exit status: 0 it answered, 1 it did not, or there is no such server or request.")]
pub struct WhyArgs {
    /// The server, as SERVICE/SERVER; SERVER alone if that is clear. Or a request, by its X-Request-Id
    #[arg(value_name = "SERVER|REQUEST-ID")]
    of: String,
    #[command(flatten)]
    ask: AskArgs,
    /// Print for a program: the API's /api/v1/servers/SERVICE/SERVER or /api/v1/requests/ID
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// When the running Mainstay cannot be asked or has no such server or request.
pub fn run(args: WhyArgs) -> anyhow::Result<Exit> {
    let snapshot = args.ask.snapshot()?;
    let server = match find(&snapshot, &args.of) {
        Ok(server) => server,
        Err(error) => return request(&args, error),
    };
    let text = match args.json {
        true => format!("{}\n", serde_json::to_string_pretty(server)?),
        false => render(server, &snapshot, Paint::for_stdout()),
    };
    super::print(&text)?;
    Ok(Exit::Ok)
}

/// What became of a request. `otherwise`: why it is no server.
fn request(args: &WhyArgs, otherwise: anyhow::Error) -> anyhow::Result<Exit> {
    let could_be_an_id = !args.of.is_empty() && args.of.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    if !could_be_an_id {
        return Err(otherwise);
    }
    let path = format!("/api/v1/requests/{}", escaped(&args.of));
    let body =
        args.ask.get(&path).map_err(|error| anyhow::anyhow!("{otherwise}\n    As a request: {error}"))?;
    let record: RequestRecord = serde_json::from_slice(&body)?;
    let text = match args.json {
        true => format!("{}\n", serde_json::to_string_pretty(&record)?),
        false => tell(&record, Paint::for_stdout()),
    };
    super::print(&text)?;
    Ok(Exit::Ok)
}

/// As a part of a path: an id may hold anything that can be printed.
fn escaped(id: &str) -> String {
    id.bytes().fold(String::new(), |text, byte| match byte {
        b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => {
            text + char::from(b).encode_utf8(&mut [0; 4])
        }
        b => format!("{text}%{b:02X}"),
    })
}

/// A request's way for a person.
fn tell(record: &RequestRecord, paint: Paint) -> String {
    let service = record.service.as_ref().map_or("no service".to_owned(), |id| clean(id.as_str()));
    let line = if record.line.is_empty() { "it could not be read".to_owned() } else { clean(&record.line) };
    let mut out = format!(
        "{}  {service}  {line}\n\n",
        paint.tone(Tone::Heading, &format!("request {}", clean(&record.id))),
    );
    let status = record.status.map(|status| format!(", {status}")).unwrap_or_default();
    let facts = [
        ("came", moment_ms(record.at)),
        ("ended", format!("{}{status}", clean(&record.ending))),
        ("took", milliseconds(Some(record.took_ms))),
    ];
    let fact = |(name, text): (&str, String)| vec![Cell::text(name).tone(Tone::Quiet), Cell::text(text)];
    out.push_str(&table(paint, &facts.map(fact)));
    if record.attempts.is_empty() {
        out.push_str("\nNo server was asked.\n");
        return out;
    }
    let heading = ["", "SERVER", "AFTER", "TOOK", "WHAT CAME OF IT"];
    let mut rows = vec![heading.map(|word| Cell::text(word).tone(Tone::Quiet)).to_vec()];
    for (attempt, number) in record.attempts.iter().zip(1..) {
        let verdict = match attempt.verdict.as_str() {
            "" => String::new(),
            verdict => format!("; {}", clean(verdict)),
        };
        rows.push(vec![
            Cell::text(format!("{number}.")),
            Cell::text(clean(&attempt.server.to_string())),
            Cell::figure(milliseconds(Some(attempt.after_ms))),
            Cell::figure(milliseconds(Some(attempt.took_ms))),
            Cell::text(format!("{}{verdict}", clean(&attempt.outcome))),
        ]);
    }
    out.push('\n');
    out.push_str(&table(paint, &rows));
    out
}

/// The one server that is meant.
fn find<'s>(snapshot: &'s Snapshot, name: &str) -> anyhow::Result<&'s ServerSnapshot> {
    let all = || snapshot.services.iter().flat_map(|service| &service.servers);
    let meant: Vec<&ServerSnapshot> =
        all().filter(|server| server.id.to_string() == name || &*server.id.name == name).collect();
    let names = |servers: &mut dyn Iterator<Item = &ServerSnapshot>| {
        servers.map(|server| clean(&server.id.to_string())).collect::<Vec<_>>().join(", ")
    };
    match meant[..] {
        [server] => Ok(server),
        [] => bail!("there is no server {name}; there are: {}", names(&mut all())),
        _ => bail!("{name} could be several servers; name one of: {}", names(&mut meant.into_iter())),
    }
}

/// The explanation for a person.
fn render(server: &ServerSnapshot, snapshot: &Snapshot, paint: Paint) -> String {
    let now = snapshot.at;
    let (state, tone) = server_state(server);
    let why = &server.why;
    let mut out = format!(
        "{}  {}  since {} ({})\n\n",
        paint.tone(Tone::Heading, &clean(&server.id.to_string())),
        paint.tone(tone, &state),
        moment(server.health_since),
        between(server.health_since, now),
    );
    let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    let mut facts = vec![
        ("because", or(&why.rule, "nothing is known of it yet")),
        ("would change", or(&why.would_change, "–")),
        ("chain", chain::line(&snapshot.chain(&server.id.service))),
        ("rotation", rotation_words(server)),
        ("traffic", traffic_words(server)),
        ("address", server.address.as_ref().map_or_else(|| "not known".to_owned(), ToString::to_string)),
    ];
    facts.extend(
        server
            .last_probe
            .as_ref()
            .map(|probe| ("last probe", format!("{}, {} ago", probe.text, between(probe.at, now)))),
    );
    facts.extend(server.process.as_ref().map(|process| ("process", process_words(process, now))));
    facts.extend(incident_of(server, snapshot).map(|incident| ("incident", incident_words(incident))));
    let rows: Vec<_> = facts
        .into_iter()
        .map(|(name, text)| vec![Cell::text(name).tone(Tone::Quiet), Cell::text(text)])
        .collect();
    out.push_str(&table(paint, &rows));

    if !why.signals.is_empty() {
        let heading = ["SIGNAL", "VALUE", "AGAINST", "VERDICT"];
        let mut rows = vec![heading.map(|word| Cell::text(word).tone(Tone::Quiet)).to_vec()];
        rows.extend(why.signals.iter().map(|signal| {
            let verdict = match signal.bad {
                true => Cell::text("✗ against it").tone(Tone::Bad),
                false => Cell::text("✓ fine").tone(Tone::Good),
            };
            vec![Cell::text(&signal.name), Cell::text(&signal.value), Cell::text(&signal.threshold), verdict]
        }));
        out.push('\n');
        out.push_str(&table(paint, &rows));
    }
    if !why.changes.is_empty() {
        out.push_str(&format!("\n{}\n", paint.tone(Tone::Heading, "last changes (UTC)")));
        let rows: Vec<_> = why
            .changes
            .iter()
            .map(|change| vec![Cell::text(moment_ms(change.at)), Cell::text(&change.text)])
            .collect();
        out.push_str(&table(paint, &rows));
    }
    out
}

/// The incident of its service that is not over, if it has its part in it.
fn incident_of<'s>(server: &ServerSnapshot, snapshot: &'s Snapshot) -> Option<&'s Incident> {
    let scope = Scope::Service(server.id.service.clone());
    let mut open = snapshot.incidents.iter().filter(|incident| incident.state != IncidentState::Resolved);
    let found =
        open.find(|i| i.scope == scope && (i.servers.is_empty() || i.servers.contains(&server.id)))?;
    Some(found)
}

fn incident_words(incident: &Incident) -> String {
    let cause = incident.diagnosis.as_ref().map(|diagnosis| {
        let evidence = diagnosis.evidence.join("; ");
        format!("; cause {}: {evidence}", diagnosis.in_words())
    });
    format!("#{} {}{}", incident.id, incident.title, cause.unwrap_or_default())
}

fn rotation_words(server: &ServerSnapshot) -> String {
    let role = match server.role {
        Role::Primary => "primary",
        Role::Backup => "backup",
    };
    let rotation = match server.in_rotation {
        true => format!("in, with {} of a full share", share(Some(server.share))),
        false => "out".to_owned(),
    };
    format!("{rotation}; {role}; admin state {}", server.admin)
}

fn traffic_words(server: &ServerSnapshot) -> String {
    let rates = &server.rates;
    format!(
        "{}, errors {}, p50 {}, p99 {}, {} under way",
        per_second(rates),
        share(rates.error_share),
        milliseconds(rates.p50_ms),
        milliseconds(rates.p99_ms),
        server.in_flight,
    )
}

fn process_words(process: &ProcessSnapshot, now: Wall) -> String {
    let since = between(process.since, now);
    let mut words = match process.pid {
        Some(pid) => format!("{pid}, runs for {since}"),
        None => format!("does not run for {since}"),
    };
    if let Some(exit) = &process.last_exit {
        words.push_str(&format!("; it last {exit}"));
    }
    let budget = counted(process.restart_budget.into(), "restart");
    words.push_str(&format!("; {} of {budget} used", process.restarts_in_window));
    if let Some(next) = process.next_restart_at {
        words.push_str(&format!("; next restart in {}", between(now, next)));
    }
    words
}

#[cfg(test)]
mod tests {
    use mainstay_model::request::AttemptRecord;

    use super::super::status::tests::sample;
    use super::*;

    #[test]
    fn a_person_reads_the_rule_the_signals_and_what_would_change_it() {
        let snapshot = sample();
        let text = render(find(&snapshot, "shop/app-2").unwrap(), &snapshot, Paint::Plain);
        let expected = "\
shop/app-2  ○ unhealthy, out  since 2026-11-22 08:16:41 UTC (3m 20s)

  because       2 probes in a row failed (fall = 2)
  would change  2 good probes in a row (rise = 2)
  chain         listener ok → shop 1/3 → app-2 connection refused since 08:16:41 → was killed by SIGKILL
  rotation      out; primary; admin state ready
  traffic       0.0/s, errors –, p50 –, p99 –, 0 under way
  address       10.0.0.11:3000
  last probe    connection refused, 1s ago
  process       does not run for 12s; it last was killed by SIGKILL; 2 of 5 restarts used; next restart in 1s
  incident      #12 app-2 of shop was killed by SIGKILL

  SIGNAL                  VALUE  AGAINST              VERDICT
  probes failed in a row  2      fall = 2             ✗ against it
  failed attempts         4%     failure-share = 20%  ✓ fine

last changes (UTC)
  2026-11-22 08:19:49.000  unhealthy: connection refused
";
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn a_request_is_told_attempt_by_attempt() {
        let shop = mainstay_model::ServiceId::new("shop");
        let attempt = |name: &str, after_ms, outcome: &str, verdict: &str| AttemptRecord {
            server: shop.server(name),
            after_ms,
            took_ms: 152.0,
            outcome: outcome.to_owned(),
            verdict: verdict.to_owned(),
        };
        let record = RequestRecord {
            id: "c0ffee".to_owned(),
            service: Some(shop.clone()),
            at: Wall(1_795_335_480_250),
            line: "GET /cart\u{1b}".to_owned(),
            attempts: vec![
                attempt(
                    "app-2",
                    0.0,
                    "it did not answer, nor anybody else",
                    "tried again, because it may be sent twice",
                ),
                attempt("app-1", 152.0, "it answered 200", ""),
            ],
            ending: "answered by app-1".to_owned(),
            status: Some(200),
            took_ms: 304.5,
        };
        let text = tell(&record, Paint::Plain);
        for expected in [
            "request c0ffee  shop  GET /cart",
            "answered by app-1, 200",
            "1.  shop/app-2",
            "it did not answer, nor anybody else; tried again, because it may be sent twice\n",
            "it answered 200\n",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
        assert_eq!(escaped("a/b%é"), "a%2Fb%25%C3%A9");
    }

    #[test]
    fn a_server_is_found_by_its_name_alone_if_that_is_clear() {
        let mut snapshot = sample();
        assert_eq!(&*find(&snapshot, "app-1").unwrap().id.name, "app-1");
        let error = find(&snapshot, "app-9").unwrap_err().to_string();
        assert_eq!(error, "there is no server app-9; there are: shop/app-1, shop/app-2, shop/spare");
        let mut other = snapshot.services[0].clone();
        other.servers.iter_mut().for_each(|server| server.id.service = mainstay_model::ServiceId::new("api"));
        snapshot.services.push(other);
        let error = find(&snapshot, "app-1").unwrap_err().to_string();
        assert_eq!(error, "app-1 could be several servers; name one of: shop/app-1, api/app-1");
        assert!(find(&snapshot, "api/app-1").is_ok());
    }
}
