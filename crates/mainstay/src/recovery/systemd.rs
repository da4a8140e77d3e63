//! Restarts a unit of systemd, by `systemctl`.

use std::time::Duration;

use mainstay_model::Wall;
use mainstay_model::input::{Exit, LookedInto};

use super::act::{Act, CAPTURE_TAKES, LAST_LINES, Ran, SETTLES, age_of, seconds, short, words};
use super::program::Ended;
use crate::systemd_unit::{PROPERTIES, Unit};

/// `systemctl restart` ends with this where the unit is not known.
const NOT_INSTALLED: i32 = 5;
/// And with this where the user may not.
const NOT_ALLOWED: i32 = 4;

/// Restarts the unit, after a look at how it is and at what it wrote last.
pub(super) async fn restart(act: &Act<'_>, unit: &str, systemctl: &[String]) -> Result<(), String> {
    let shown = act.run(&with(systemctl, &["show", PROPERTIES, "--", unit]), CAPTURE_TAKES).await?;
    if shown.well {
        let is = Unit::of(shown.lines.iter().map(String::as_str));
        if is.get("LoadState") == "not-found" {
            return Err(not_there(act, unit));
        }
        let lines = last_lines(act, unit).await;
        act.captured(state(unit, &is), lines).await;
    }
    let ran = act.run(&with(systemctl, &["restart", "--", unit]), act.left()).await?;
    if ran.well { Ok(()) } else { Err(flaw(act, unit, &ran)) }
}

/// Whether a restart that was begun then was carried out; `None`: it may be under way.
pub(super) async fn look_into(
    act: &Act<'_>,
    unit: &str,
    systemctl: &[String],
    begun_at: Wall,
) -> Result<Option<LookedInto>, String> {
    let property = "--property=LoadState,ActiveState,SubState,ActiveEnterTimestampMonotonic";
    let shown = act.run(&with(systemctl, &["show", property, "--", unit]), CAPTURE_TAKES).await?;
    // By its own clock since it was booted: the clocks of two machines differ.
    let uptime = act.run(&words(&["cat", "/proc/uptime"]), CAPTURE_TAKES).await?;
    let begun = age_of(begun_at);
    if !shown.well || !uptime.well {
        return Err(format!("systemd cannot be asked{}: {}", act.there(), shown.words()));
    }
    let is = Unit::of(shown.lines.iter().map(String::as_str));
    if is.get("LoadState") == "not-found" {
        return Ok(Some(LookedInto::NotDone(not_there(act, unit))));
    }
    let up = uptime.lines.first().and_then(|line| line.split(' ').next()?.parse::<f64>().ok());
    let entered = is.get("ActiveEnterTimestampMonotonic").parse::<u64>().ok().filter(|at| *at > 0);
    let active = match (up, entered) {
        (Some(up), Some(at)) if up.is_finite() && up >= 0.0 => {
            Some(Duration::from_secs_f64(up).saturating_sub(Duration::from_micros(at)))
        }
        _ => None,
    };
    Ok(match (is.get("ActiveState"), active) {
        ("active", Some(age)) if age <= begun => {
            Some(LookedInto::Done(format!("its unit {unit} has been active for {}", seconds(age))))
        }
        ("activating" | "deactivating" | "reloading" | "refreshing", _) => None,
        _ if begun < SETTLES => None,
        ("active", Some(age)) => {
            let age = seconds(age);
            Some(LookedInto::NotDone(format!("its unit {unit} has been active for {age}, since before")))
        }
        (state, _) => Some(LookedInto::NotDone(format!("its unit {unit} is {}", short(state)))),
    })
}

fn with(systemctl: &[String], further: &[&str]) -> Vec<String> {
    systemctl.iter().cloned().chain(words(further)).collect()
}

/// What the unit wrote last, as far as its journal can be read.
async fn last_lines(act: &Act<'_>, unit: &str) -> Vec<String> {
    let (unit, lines) = (format!("--unit={unit}"), format!("--lines={LAST_LINES}"));
    let argv = words(&["journalctl", &unit, &lines, "--no-pager", "--quiet", "--output=cat"]);
    match act.run(&argv, CAPTURE_TAKES).await {
        Ok(ran) if ran.well => ran.lines,
        // It is worth having and not needed.
        Ok(_) | Err(_) => Vec::new(),
    }
}

/// How the unit is, or ended.
fn state(unit: &str, is: &Unit<'_>) -> String {
    let (active, sub) = (is.get("ActiveState"), is.get("SubState"));
    match active {
        "failed" => format!("its unit {unit} has failed: {}", is.ending()),
        "inactive" => format!("its unit {unit} is stopped: {}", is.ending()),
        "activating" if sub.starts_with("auto-restart") => {
            format!("its unit {unit} keeps ending and is started again: {}", is.ending())
        }
        "" => format!("systemd did not say how its unit {unit} is"),
        _ => format!("its unit {unit} is {} ({})", short(active), short(sub)),
    }
}

fn not_there(act: &Act<'_>, unit: &str) -> String {
    let (there, key) = (act.there(), act.key());
    format!(
        "there is no unit {unit}{there}: systemctl list-unit-files shows which there are; check {key}.systemd"
    )
}

/// Why `systemctl restart` failed, and what to do about it.
fn flaw(act: &Act<'_>, unit: &str, ran: &Ran) -> String {
    let there = act.there();
    let denied = [
        "Access denied",
        "Interactive authentication required",
        "a password is required",
        "not in the sudoers",
    ];
    match ran.ended {
        Ended::Late(_) => {
            let within = seconds(act.spec.deadline);
            format!(
                "systemctl restart {unit} did not end within {within} (deadline); systemd may go on with it{there}"
            )
        }
        Ended::Exit(Exit::Code(NOT_INSTALLED)) if ran.says("not found") => not_there(act, unit),
        _ if ran.says("not been booted with systemd") || ran.says("Failed to connect to bus") => {
            format!("systemd does not run{there}: {}", ran.words())
        }
        Ended::Exit(Exit::Code(NOT_ALLOWED)) | Ended::Exit(Exit::Code(_))
            if denied.iter().any(|words| ran.says(words)) =>
        {
            format!(
                "its user may not restart {unit}{there}: allow it by a rule of polkit, or by sudo and {}.systemctl = \
                 [\"sudo\", \"-n\", \"systemctl\"] ({})",
                act.key(),
                short(ran.last_line().unwrap_or_default())
            )
        }
        _ if ran.says("repeated too quickly") || ran.says("start-limit") => {
            format!(
                "systemd starts {unit}{there} no more, for it was started too often: systemctl reset-failed {unit}"
            )
        }
        _ => format!("systemctl restart {unit}{there}: {}", ran.words()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_unit_ended_is_told_and_want_of_memory_is_told_apart() {
        let told = |text: &str| state("shop.service", &Unit::of(text.split(' ')));
        assert_eq!(
            told("ActiveState=failed Result=oom-kill"),
            "its unit shop.service has failed: it was killed for want of memory"
        );
        assert_eq!(
            told("ActiveState=failed Result=signal ExecMainCode=2 ExecMainStatus=9"),
            "its unit shop.service has failed: it was killed by SIGKILL"
        );
        assert_eq!(
            told("ActiveState=inactive Result=success ExecMainStatus=0"),
            "its unit shop.service is stopped: it exited with status 0"
        );
        assert_eq!(told("ActiveState=active SubState=running"), "its unit shop.service is active (running)");
    }
}
