//! `mainstay replay`: what another config would have decided in an incident, or in all the time of which inputs are kept.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use mainstay_model::effect::NoticeKind;
use mainstay_model::incident::{Incident, Severity};
use mainstay_model::input::{ProbeAnswer, ProbeFailure, ProbeReport};
use mainstay_model::replay::{Compared, DecisionKind, Trial};
use mainstay_model::results::{Look, LookVerdict};
use mainstay_model::routing::RoutingMode;
use mainstay_model::switch::SwitchStep;
use mainstay_model::{IncidentId, Input, Now, Policy, ProbeTarget, Wall};
use serde_json::json;

use super::paint::{Cell, Paint, Tone, clean, counted, moment, moment_ms, table};
use crate::config::{self, Config};
use crate::engine;
use crate::exit_code::Exit;
use crate::journal::{self, Segment, segments};
use crate::store::Reader;

/// Before an incident began, and after it was over, so much is looked at.
const AROUND_MS: i64 = 60_000;
/// A judge goes on from so long before, so that it knows what is usual.
const WARM_UP_MS: i64 = 30_000;
/// Looks at a monitor that are taken into account.
const LOOKS_MAX: usize = 20_000;

/// Options of `mainstay replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
It reads what is kept of the time (record.inputs) in the data directory, asks nobody and changes
nothing. Run it as the user that Mainstay runs as.

What servers and visitors did stays as it was: a server that would have been restarted sooner does
not answer sooner here.

Examples:
  mainstay replay --config new.toml 12           what would have been decided in incident 12
  mainstay replay --config new.toml --last 1h    in the last hour
  mainstay replay --config new.toml              in all the time of which there is enough
  mainstay replay --config new.toml 12 --json | jq '.decisions[] | select(.tried == null)'

Exit status: 0 it was tried, 1 it could not be, 2 mistakes in the config.")]
pub struct ReplayArgs {
    /// The incident's number
    #[arg(value_name = "INCIDENT")]
    incident: Option<u64>,
    /// The config to try
    #[arg(short, long, value_name = "PATH")]
    config: PathBuf,
    /// Try it on so much of the time before now
    #[arg(long, value_name = "DURATION", value_parser = config::duration_from_text, conflicts_with = "incident")]
    last: Option<Duration>,
    /// The data directory, instead of what the config says
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print for a program
    #[arg(long)]
    json: bool,
}

/// What is tried, and on which time.
struct Question {
    file: String,
    policy: Policy,
    data: PathBuf,
    incident: Option<Incident>,
    from: Wall,
    to: Wall,
}

/// What it came to.
struct Answer {
    decisions: Vec<Compared>,
    /// From when on there was something to go by.
    from: Wall,
    to: Wall,
    /// Times between that are missing.
    gaps: u64,
}

/// Runs the subcommand.
///
/// # Errors
/// When the config has mistakes, the record or the inputs cannot be read, or nothing is kept of that time.
pub fn run(args: ReplayArgs) -> anyhow::Result<Exit> {
    let file = args.config.display().to_string();
    let mut config = config::load(&args.config)?;
    if let Some(data) = &args.data {
        config.data.clone_from(data);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let question = runtime.block_on(question(&args, file, &config))?;
    let answer = answer(&question, &runtime)?;
    let text = match args.json {
        true => format!("{:#}\n", for_programs(&question, &answer)),
        false => for_people(&question, &answer, Paint::for_stdout()),
    };
    super::print(&text)?;
    Ok(Exit::Ok)
}

async fn question(args: &ReplayArgs, file: String, config: &Config) -> anyhow::Result<Question> {
    let policy = engine::policy_of(config).await;
    let now = Wall(jiff::Timestamp::now().as_millisecond());
    let incident = match args.incident {
        None => None,
        Some(id) => {
            let found = Reader::of(&config.data)?.incident(IncidentId(id)).await?;
            Some(found.with_context(|| format!("there is no incident {id} in {}", config.data.display()))?)
        }
    };
    let (from, to) = match (&incident, args.last) {
        (Some(incident), _) => {
            let over = incident.resolved_at.map_or(now, |at| Wall(at.0.saturating_add(AROUND_MS)));
            (Wall(incident.began_at.0.saturating_sub(AROUND_MS)), over)
        }
        (None, Some(last)) => {
            (Wall(now.0.saturating_sub(i64::try_from(last.as_millis()).unwrap_or(i64::MAX))), now)
        }
        (None, None) => (Wall(0), now),
    };
    Ok(Question { file, policy, data: config.data.clone(), incident, from, to })
}

fn answer(question: &Question, runtime: &tokio::runtime::Runtime) -> anyhow::Result<Answer> {
    let folder = question.data.join(journal::FOLDER);
    let all = segments(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let wanted = wanted(&all, question.from, question.to);
    let Some(first) = wanted.first() else {
        return Err(nothing_kept(&all, &folder));
    };
    let from = Wall(question.from.0.max(first.from.0));
    let mut looks = runtime.block_on(looks(question, first.from))?;
    let mut answer = Answer { decisions: Vec::new(), from, to: from, gaps: 0 };
    let mut trial: Option<(Trial, Now)> = None;
    let mut before = None;
    for segment in wanted {
        let contents =
            segment.open().with_context(|| format!("what is kept from {} on", moment(segment.from)))?;
        let goes_on = contents.after.is_some() && contents.after == before.replace(segment.from);
        if !goes_on && let Some((trial, last)) = trial.take() {
            answer.decisions.extend(trial.end(last));
            answer.gaps += 1;
        }
        let begins = contents.beginning.at;
        let (running, last) = trial.get_or_insert_with(|| {
            (Trial::begin(contents.beginning.clone(), question.policy.clone()), begins)
        });
        for (now, input) in contents {
            if now.wall > question.to {
                break;
            }
            while looks.front().is_some_and(|look| look.at <= now.wall) {
                let Some(look) = looks.pop_front() else { break };
                if look.at >= begins.wall {
                    running.tell(earlier(now, look.at), Input::Probe(look.report));
                }
            }
            running.tell(now, input);
            *last = now;
        }
    }
    if let Some((trial, last)) = trial {
        answer.decisions.extend(trial.end(last));
        answer.to = last.wall;
    }
    if answer.to < from {
        return Err(nothing_kept(&all, &folder));
    }
    answer.decisions.retain(|decision| decision.first() >= from);
    Ok(answer)
}

fn nothing_kept(all: &[Segment], folder: &Path) -> anyhow::Error {
    match all.first() {
        Some(oldest) => anyhow::anyhow!(
            "nothing is kept of that time; what is kept begins at {}. record.inputs says how much is",
            moment(oldest.from)
        ),
        None => anyhow::anyhow!(
            "nothing is kept in {}: record.inputs says how much is, and a Mainstay of this version must have run",
            folder.display()
        ),
    }
}

/// The files that hold the time, and one before where it begins right with a file.
fn wanted(all: &[Segment], from: Wall, to: Wall) -> &[Segment] {
    let warm = Wall(from.0.saturating_sub(WARM_UP_MS));
    let first = all.iter().rposition(|segment| segment.from <= warm).unwrap_or(0);
    let end = all.iter().position(|segment| segment.from > to).unwrap_or(all.len());
    // What ended before that time says nothing of it, but how long a file goes on only its contents tell.
    all.get(first..end.max(first)).unwrap_or_default()
}

fn earlier(now: Now, wall: Wall) -> Now {
    let ago = u64::try_from(now.wall.ms_since(wall)).unwrap_or(0);
    Now { mono: now.mono.before(Duration::from_millis(ago)), wall }
}

/// A look at a monitor, as it is in the record.
struct Seen {
    at: Wall,
    report: ProbeReport,
}

async fn looks(question: &Question, from: Wall) -> anyhow::Result<VecDeque<Seen>> {
    let watched = question.policy.monitors.iter().filter(|(_, policy)| policy.heartbeat.is_none());
    let reader = Reader::of(&question.data)?;
    let mut all = Vec::new();
    for (id, _) in watched {
        for look in reader.results(&ProbeTarget::Monitor(id.clone()), from, question.to, LOOKS_MAX).await? {
            let Look { at, took, verdict, words } = look;
            let result = match verdict {
                LookVerdict::Good => Ok(ProbeAnswer::default()),
                LookVerdict::Failed => Err(ProbeFailure::Answer(words.to_string())),
                LookVerdict::Unknown => Err(ProbeFailure::NotProbed(words.to_string())),
            };
            all.push(Seen { at, report: ProbeReport::new(ProbeTarget::Monitor(id.clone()), took, result) });
        }
    }
    all.sort_by_key(|seen| seen.at);
    Ok(all.into())
}

fn for_programs(question: &Question, answer: &Answer) -> serde_json::Value {
    json!({
        "config": question.file,
        "incident": question.incident.as_ref().map(|incident| incident.id),
        "from": answer.from,
        "to": answer.to,
        "gaps": answer.gaps,
        "decisions": answer.decisions,
    })
}

fn for_people(question: &Question, answer: &Answer, paint: Paint) -> String {
    let about = match &question.incident {
        Some(incident) => format!("incident {}: {}", incident.id, clean(&incident.title)),
        None => "what is kept".to_owned(),
    };
    let mut out = format!("{}\n", paint.tone(Tone::Heading, &about));
    out.push_str(&format!(
        "{} to {}, tried with {}\n",
        moment(answer.from),
        moment(answer.to),
        question.file
    ));
    if answer.gaps > 0 {
        out.push_str(&format!("{} between, of which nothing is kept\n", counted(answer.gaps, "time")));
    }
    out.push('\n');
    let all = &answer.decisions;
    if all.is_empty() {
        out.push_str("Nothing was decided, and nothing would have been.\n");
        return out;
    }
    let one_day = moment(answer.from).get(..10) == moment(answer.to).get(..10);
    let heading = ["IT WAS", "WOULD BE", "WHAT"];
    let mut rows = vec![heading.map(|word| Cell::text(word).tone(Tone::Quiet)).to_vec()];
    for decision in all {
        let (was, would) = times(decision, one_day);
        let tone = match (decision.is_same(), decision.then, decision.tried) {
            (true, ..) => Tone::Quiet,
            (_, None, _) | (_, _, None) => Tone::Warning,
            _ => Tone::Heading,
        };
        let cells = [was, would, sentence(decision)];
        rows.push(cells.map(|text| Cell::text(text).tone(tone)).to_vec());
    }
    out.push_str(&table(paint, &rows));
    if let Some(parting) = parting(all) {
        let what = sentence(parting);
        let what = what.split(':').next().unwrap_or_default();
        out.push_str(&format!(
            "\nFrom {} on the record shows what came of what was done then ({what}). What would have come of the other \
             is not known.\n",
            of_day(parting.first(), one_day)
        ));
    }
    let other = all.iter().filter(|decision| !decision.is_same()).count();
    match other {
        0 => out.push_str("\nNothing would have been decided differently.\n"),
        n => out.push_str(&format!(
            "\n{n} of {} would have been another.\n",
            counted(all.len() as u64, "decision")
        )),
    }
    out
}

/// The first thing that was done to a server or a service and would not have been, or not then.
fn parting(all: &[Compared]) -> Option<&Compared> {
    let acts = |kind| matches!(kind, DecisionKind::Recover(_) | DecisionKind::Switch { .. });
    all.iter().find(|decision| acts(decision.what.kind) && !decision.is_same())
}

/// When it was, and when it would have been.
fn times(decision: &Compared, one_day: bool) -> (String, String) {
    let not = || "not".to_owned();
    let moment_ms = |at| of_day(at, one_day);
    match (decision.then, decision.tried) {
        (Some(then), None) => (moment_ms(then), not()),
        (None, Some(tried)) => (not(), moment_ms(tried)),
        (Some(then), Some(_)) if decision.is_same() => (moment_ms(then), "the same".to_owned()),
        (Some(then), Some(tried)) => {
            let ms = tried.ms_since(then);
            let word = if ms < 0 { "sooner" } else { "later" };
            (moment_ms(then), format!("{:.1} s {word}", ms.abs() as f64 / 1000.0))
        }
        (None, None) => (not(), not()),
    }
}

/// `2026-11-22 08:20:01.123`; of `one_day`, `08:20:01.123`.
fn of_day(at: Wall, one_day: bool) -> String {
    let whole = moment_ms(at);
    whole.get(11..).filter(|_| one_day).map_or(whole.clone(), str::to_owned)
}

fn sentence(decision: &Compared) -> String {
    let what = &decision.what;
    let (about, text) = (clean(&what.about), clean(&what.text));
    match what.kind {
        DecisionKind::Out => format!("{about} gets no more requests"),
        DecisionKind::In => format!("{about} gets requests"),
        DecisionKind::Mode(mode) => match mode {
            RoutingMode::Normal => format!("the primaries of {about} carry it"),
            RoutingMode::Backup => format!("the backups of {about} carry it"),
            RoutingMode::Panic => format!("requests of {about} go to every server, health notwithstanding"),
            RoutingMode::Nobody => format!("{about} has no server to send requests to"),
        },
        DecisionKind::Opened => format!("an incident is opened: {text}"),
        DecisionKind::Worse(Severity::Down) => format!("it becomes worse: {about} answers nobody"),
        DecisionKind::Worse(_) => format!("it becomes worse: visitors of {about} are hurt"),
        DecisionKind::Resolved => format!("the incident of {about} is over"),
        DecisionKind::Told(kind) => {
            let why = match kind {
                NoticeKind::Opened => "that it began",
                NoticeKind::Escalated => "as nobody has taken it on",
                NoticeKind::Worsened => "that it became worse",
                NoticeKind::NeedsPerson => "that a person is needed",
                NoticeKind::Resolved => "that it is over",
            };
            format!("people are told {why}: {text}")
        }
        DecisionKind::Recover(kind) => format!("{} of {about}: {text}", kind.as_str()),
        DecisionKind::Switch(SwitchStep::Fence) => format!("the fence of {about} runs: {text}"),
        DecisionKind::Switch(SwitchStep::There) => format!("the switch command of {about} runs: {text}"),
        DecisionKind::Switch(SwitchStep::Back) => format!("the way back of {about} runs: {text}"),
        DecisionKind::Make => format!("a new instance is made in the place of {about}: {text}"),
        DecisionKind::Destroy => format!("what was made in the place of {about} is destroyed: {text}"),
        DecisionKind::Proposed(_) => format!("it would, and may not, {text}"),
    }
}

#[cfg(test)]
mod tests {
    use mainstay_model::replay::What;

    use super::*;

    fn compared(kind: DecisionKind, then: Option<i64>, tried: Option<i64>) -> Compared {
        let what = What { kind, about: "shop/app-1".to_owned(), text: "it hangs".to_owned() };
        Compared { what, then: then.map(Wall), tried: tried.map(Wall) }
    }

    #[test]
    fn sooner_later_the_same_and_not_at_all_are_told_apart() {
        let would = |then, tried| times(&compared(DecisionKind::Out, then, tried), true).1;
        assert_eq!(would(Some(10_000), Some(10_049)), "the same");
        assert_eq!(would(Some(10_000), Some(11_640)), "1.6 s later");
        assert_eq!(would(Some(10_000), Some(9_600)), "0.4 s sooner");
        assert_eq!(would(Some(10_000), None), "not");
        assert_eq!(would(None, Some(10_000)), "00:00:10.000");
        assert_eq!(times(&compared(DecisionKind::Out, None, Some(10_000)), true).0, "not");
    }

    #[test]
    fn the_files_of_a_time_are_those_from_the_last_one_before_it() {
        let file = |second: i64| Segment {
            from: Wall(second * 1000),
            of_an_incident: false,
            bytes: 1,
            path: PathBuf::new(),
        };
        let all = [file(0), file(600), file(1200), file(1800)];
        let from = |a: i64, b: i64| {
            wanted(&all, Wall(a * 1000), Wall(b * 1000)).iter().map(|s| s.from.0 / 1000).collect::<Vec<_>>()
        };
        assert_eq!(from(700, 1300), [600, 1200]);
        assert_eq!(from(610, 640), [0, 600], "with some time to warm up");
        assert_eq!(from(0, 9000), [0, 600, 1200, 1800]);
        assert_eq!(from(1900, 9000), [1800]);
    }
}
