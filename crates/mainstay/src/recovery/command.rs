//! Restarts a server by a program of the user's, on this machine or on another one.

use mainstay_model::effect::ActionOrder;
use mainstay_model::input::LookedInto;
use serde::Serialize;

use super::act::{Act, seconds};
use super::program::{self, Ended};

/// What the program is told, as one line of JSON.
#[derive(Serialize)]
struct Context<'a> {
    service: &'a str,
    server: &'a str,
    reason: &'a str,
    incident: Option<u64>,
    /// The number of the restart in the record.
    action: u64,
}

/// Runs it; exit code 0 is a restart.
pub(super) async fn restart(act: &Act<'_>, argv: &[String], order: &ActionOrder) -> Result<(), String> {
    let context = Context {
        service: order.server.service.as_str(),
        server: &order.server.name,
        reason: &order.reason,
        incident: order.incident.map(|incident| incident.0),
        action: order.id.0,
    };
    let context = program::context(&context).map_err(|error| error.to_string())?;
    let ran = act.run_with(argv, context, act.left()).await?;
    let (program, there) = (argv.first().map_or("", String::as_str), act.there());
    match ran.ended {
        // What it started is its result.
        _ if ran.well && act.spec.over.is_none() => act.shared.left.add(&act.mark()).map_err(|error| {
            format!("it was carried out, but {error}: the next start of Mainstay would end what it started")
        }),
        _ if ran.well => Ok(()),
        Ended::Late(_) => {
            let within = seconds(act.spec.deadline);
            let further = if there.is_empty() { "was killed" } else { "may go on" };
            Err(format!("{program}{there} did not end within {within} (deadline) and {further}"))
        }
        _ => Err(format!("{program}{there}: {}", ran.words())),
    }
}

/// Nobody but the user knows what it does.
pub(super) fn look_into(argv: &[String]) -> LookedInto {
    let program = argv.first().map_or("", String::as_str);
    LookedInto::NotKnown(format!("nobody can be asked what {program} did"))
}
