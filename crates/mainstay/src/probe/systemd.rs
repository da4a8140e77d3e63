//! The probe of a unit of systemd: what `systemctl show` says of it. Where systemd cannot be asked, that says nothing about the unit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mainstay_model::input::{ProbeAnswer, ProbeFailure};

use super::Look;
use super::program::{Program, filled};
use super::wire::shortened;
use crate::config::probe::SystemdProbe;
use crate::systemd_unit::{PROPERTIES, Unit};

/// Asks for the state of the unit.
pub(super) async fn probe(
    look: &Look<'_>,
    probe: &SystemdProbe,
    withheld: &BTreeSet<String>,
) -> Result<ProbeAnswer, ProbeFailure> {
    let unit = filled(&probe.unit, look);
    let argv =
        [probe.systemctl.as_str(), "show", PROPERTIES, "--", unit.as_str()].map(str::to_owned).to_vec();
    // Its messages are read by nobody, but its words must be ones that are known here.
    let env = BTreeMap::from([("LC_ALL".to_owned(), "C".to_owned())]);
    let program = Program { argv, dir: Path::new("/"), env, withheld };
    let ended = program.run(look).await.map_err(|failure| match failure {
        ProbeFailure::Silent(why) => ProbeFailure::NotProbed(why),
        other => other,
    })?;
    if ended.code != Some(0) {
        let why = ended.errors.lines().chain(ended.output.lines()).find(|line| !line.trim().is_empty());
        let why = shortened(why.unwrap_or("it wrote nothing").trim(), 160);
        return Err(ProbeFailure::NotProbed(format!("systemd cannot be asked: {why}")));
    }
    judge(&ended.output, &unit)
}

fn judge(output: &str, unit: &str) -> Result<ProbeAnswer, ProbeFailure> {
    let unit_is = Unit::of(output.lines());
    let get = |name: &str| unit_is.get(name);
    let (load, active, sub) = (get("LoadState"), get("ActiveState"), get("SubState"));
    let bad = |what: String| Err(ProbeFailure::Answer(format!("its unit {unit} {what}")));
    let restarts = match get("NRestarts") {
        "" | "0" => String::new(),
        "1" => ", restarted once".to_owned(),
        count => format!(", restarted {} times", shortened(count, 20)),
    };
    match load {
        "not-found" => return bad("is not there (systemctl cat)".to_owned()),
        "masked" => return bad("is masked, so that nobody can start it".to_owned()),
        "bad-setting" | "error" => {
            return bad(format!("cannot be loaded ({load}): systemctl status says why"));
        }
        _ => {}
    }
    match active {
        "active" => Ok(ProbeAnswer::said(format!("active ({sub}){restarts}"))),
        "reloading" | "refreshing" => Ok(ProbeAnswer::said(format!("{active}{restarts}"))),
        "failed" => bad(format!("has failed: {}{restarts}", unit_is.ending())),
        "activating" if sub == "auto-restart" || sub == "auto-restart-queued" => {
            bad(format!("keeps ending and is started again: {}{restarts}", unit_is.ending()))
        }
        "activating" => bad(format!("is starting ({sub}){restarts}")),
        "deactivating" => bad(format!("is stopping ({sub})")),
        "inactive" => bad(match get("Result") {
            "" | "success" => "is stopped (inactive)".to_owned(),
            _ => format!("is stopped: {}", unit_is.ending()),
        }),
        "maintenance" => bad("is under maintenance (systemctl clean)".to_owned()),
        "" => Err(ProbeFailure::NotProbed(format!(
            "systemctl did not say how {unit} is: {:?}",
            shortened(output, 80)
        ))),
        other => bad(format!("is in the state {:?}", shortened(other, 40))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(output: &str) -> String {
        match judge(&output.replace(' ', "\n"), "shop.service") {
            Ok(answer) => format!("good: {}", answer.said.unwrap_or_default()),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn every_state_of_a_unit_is_told_in_words() {
        for (output, wanted) in [
            (
                "LoadState=loaded ActiveState=active SubState=running Result=success NRestarts=3",
                "good: active (running), restarted 3 times",
            ),
            ("LoadState=loaded ActiveState=reloading SubState=reload NRestarts=0", "good: reloading"),
            (
                "LoadState=loaded ActiveState=failed Result=exit-code ExecMainCode=1 ExecMainStatus=203",
                "its unit shop.service has failed: it exited with status 203",
            ),
            (
                "LoadState=loaded ActiveState=failed Result=signal ExecMainCode=2 ExecMainStatus=9 NRestarts=1",
                "its unit shop.service has failed: it was killed by SIGKILL, restarted once",
            ),
            (
                "LoadState=loaded ActiveState=failed Result=oom-kill",
                "its unit shop.service has failed: it was killed for want of memory",
            ),
            (
                "LoadState=loaded ActiveState=activating SubState=auto-restart Result=core-dump ExecMainCode=3 ExecMainStatus=11 NRestarts=7",
                "its unit shop.service keeps ending and is started again: it crashed by SIGSEGV and dumped core, restarted 7 times",
            ),
            (
                "LoadState=loaded ActiveState=activating SubState=start",
                "its unit shop.service is starting (start)",
            ),
            (
                "LoadState=loaded ActiveState=inactive Result=success",
                "its unit shop.service is stopped (inactive)",
            ),
            (
                "LoadState=not-found ActiveState=inactive SubState=dead",
                "its unit shop.service is not there (systemctl cat)",
            ),
            (
                "LoadState=masked ActiveState=inactive",
                "its unit shop.service is masked, so that nobody can start it",
            ),
        ] {
            assert_eq!(told(output), wanted, "{output}");
        }
        assert!(
            told("nonsense").starts_with("could not be probed: systemctl did not say how shop.service is")
        );
    }

    proptest! {
        #[test]
        fn no_output_is_too_strange_to_be_judged(output in "[A-Za-z=\\n0-9-]{0,200}", result in "[a-z-]{0,12}") {
            let _ = judge(&output, "x");
            let _ = judge(&format!("LoadState=loaded\nActiveState=failed\nResult={result}\n{output}"), "x");
        }
    }
}
