//! What `systemctl show` says of a unit, in words. Probes ask it, and restarts do.

use std::collections::BTreeMap;

/// What is asked for.
pub const PROPERTIES: &str =
    "--property=LoadState,ActiveState,SubState,Result,ExecMainCode,ExecMainStatus,NRestarts";

/// What was said of a unit: values by their names.
#[derive(Debug)]
pub struct Unit<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Unit<'a> {
    /// From lines like `ActiveState=failed`.
    pub fn of(lines: impl Iterator<Item = &'a str>) -> Self {
        Self(lines.filter_map(|line| line.split_once('=')).collect())
    }

    /// A value; empty when it was not said.
    pub fn get(&self, name: &str) -> &'a str {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// How it last ended, in words.
    pub fn ending(&self) -> String {
        let get = |name: &str| self.get(name);
        let status = short(get("ExecMainStatus"), 20);
        let signal = || {
            let number = get("ExecMainStatus").parse::<i32>().ok();
            let signal = number.and_then(|number| nix::sys::signal::Signal::try_from(number).ok());
            signal.map_or_else(|| format!("signal {status}"), |signal| signal.to_string())
        };
        // CLD_KILLED and CLD_DUMPED.
        let killed = matches!(get("ExecMainCode"), "2" | "3");
        match get("Result") {
            "exit-code" => format!("it exited with status {status}"),
            "signal" => format!("it was killed by {}", signal()),
            "core-dump" => format!("it crashed by {} and dumped core", signal()),
            "oom-kill" => "it was killed for want of memory".to_owned(),
            "timeout" => "it did not start or stop in time".to_owned(),
            "watchdog" => "it did not tell its watchdog in time that it lives".to_owned(),
            "start-limit-hit" => {
                "it was started too often in a short time (systemctl reset-failed)".to_owned()
            }
            "resources" => "systemd had not what it takes to start it".to_owned(),
            "protocol" => "it did not tell systemd that it was ready".to_owned(),
            "exec-condition" => "its condition for a start did not hold".to_owned(),
            _ if killed => format!("it was killed by {}", signal()),
            "" | "success" => format!("it exited with status {status}"),
            other => short(other, 40),
        }
    }
}

fn short(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}
