//! `mainstay report INCIDENT`: what is known of an incident in one piece, as Markdown or JSON, also while Mainstay is down.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use mainstay_model::{IncidentId, Wall};

use super::ask::AskArgs;
use crate::config;
use crate::exit_code::Exit;
use crate::report::Report;
use crate::store::Reader;

/// Options of `mainstay report`.
#[derive(Debug, Args)]
#[command(after_help = "\
It asks the running Mainstay. Where none runs, it reads the record in the data directory of the
config, which it never changes; --data reads one at once.

Examples:
  mainstay report 12
  mainstay report 12 --output post-mortem.md
  mainstay report 12 --json | jq .incident.impact
  mainstay report 12 --data /mnt/backup/mainstay

Exit status: 0 it was written, 1 it was not, or there is no such incident.")]
pub struct ReportArgs {
    /// The incident's number
    #[arg(value_name = "INCIDENT")]
    incident: u64,
    /// Write JSON, as the API's /api/v1/incidents/INCIDENT/report
    #[arg(long)]
    json: bool,
    /// Write it to this file instead of printing it; a file that is there is replaced
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Read the record in this data directory, without asking anybody
    #[arg(long, value_name = "DIR", conflicts_with = "admin")]
    data: Option<PathBuf>,
    #[command(flatten)]
    ask: AskArgs,
}

/// Runs the subcommand.
///
/// # Errors
/// When there is no such incident, or neither a running Mainstay nor the record can be asked.
pub fn run(args: ReportArgs) -> anyhow::Result<Exit> {
    let text = match &args.data {
        Some(data) => from_record(data, &args)?,
        None => match args.ask.report(args.incident, if args.json { "json" } else { "md" }) {
            Ok(answer) => from_answer(answer?, args.json)?,
            Err(not_there) if args.ask.names_admin() => return Err(not_there),
            Err(not_there) => from_config(not_there, &args)?,
        },
    };
    match &args.output {
        None => super::print(&text)?,
        Some(file) => {
            std::fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))?;
            eprintln!("wrote {}", file.display());
        }
    }
    Ok(Exit::Ok)
}

fn from_answer(answer: Vec<u8>, json: bool) -> anyhow::Result<String> {
    if json {
        let value: serde_json::Value =
            serde_json::from_slice(&answer).context("what answered is no Mainstay")?;
        return Ok(format!("{}\n", serde_json::to_string_pretty(&value)?));
    }
    String::from_utf8(answer).context("what answered is no Mainstay")
}

/// Nobody answers: the record is where the config says, if there is one.
fn from_config(not_there: anyhow::Error, args: &ReportArgs) -> anyhow::Result<String> {
    let data = config::data_directory(&args.ask.config()).filter(|data| data.exists());
    let Some(data) = data else {
        return Err(not_there.context("the record cannot be read either: name its directory with --data DIR"));
    };
    let text = from_record(&data, args)?;
    eprintln!("no Mainstay runs; this is what the record in {} holds", data.display());
    Ok(text)
}

fn from_record(data: &Path, args: &ReportArgs) -> anyhow::Result<String> {
    let reader = Reader::of(data)?;
    let id = IncidentId(args.incident);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (incident, evidence) = runtime.block_on(async {
        let Some(incident) = reader.incident(id).await? else {
            let newest = reader.incidents(None, 1).await?;
            match newest.first() {
                Some(newest) => bail!("there is no incident {id}; the newest is {}", newest.id),
                None => bail!("there is no incident {id}; the record has none"),
            }
        };
        let evidence = reader.evidence(&incident).await?;
        anyhow::Ok((incident, evidence))
    })?;
    let now = Wall(jiff::Timestamp::now().as_millisecond());
    let report = Report::new(incident, evidence, now);
    Ok(match args.json {
        true => format!("{}\n", serde_json::to_string_pretty(&report)?),
        false => report.markdown(),
    })
}
