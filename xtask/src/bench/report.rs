//! What was measured, as tables: a line on the terminal for a round, `bench/RESULTS.md` for a run.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;

use super::arithmetic::{Spread, lesser};
use super::machine;
use super::programs::{Program, Started};
use super::proxy::{IDLE, Memory, PROGRAMS, Plan, RATE, Results, Sample, Waits};
use crate::run::root;

/// What an idle plain connection may take, in kB.
const IDLE_KB_MAX: f64 = 2.0;

/// The last round of a case.
pub fn round(samples: &BTreeMap<Program, Vec<Sample>>) -> String {
    let one = |(program, samples): (&Program, &Vec<Sample>)| {
        let last = samples.last().copied().unwrap_or_default();
        format!("{} {:.1} µs, {:.0}/s", program.name(), last.cpu(), last.per_second)
    };
    samples.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// The whole document.
///
/// # Errors
/// When a program does not tell its version.
pub fn results(plan: &Plan, results: &Results, started: &[Started]) -> Result<String> {
    let mut out = String::from(
        "# Side by side with HAProxy and nginx\n\nWritten by `cargo xtask bench proxy`; do not edit. How to run and to read it: [README.md](README.md).\n\n",
    );
    machine::describe(&mut out, &PROGRAMS)?;
    let _ = writeln!(
        out,
        "{} rounds of {} s a case. Each proxy runs on one processor with one thread or worker; load and servers run on another.\n",
        plan.rounds, plan.seconds
    );
    cost(&mut out, results);
    shortfalls(&mut out, results);
    waiting(&mut out, results);
    memory(&mut out, &results.memory);
    notes(&mut out, plan, results, started)?;
    Ok(out)
}

fn cost(out: &mut String, results: &Results) {
    if results.cases.is_empty() {
        return;
    }
    out.push_str(
        "## Processor time per request\n\nMicroseconds of the proxy's own process, user and system, median of the rounds. Ratios are paired by round: median (least to \
         greatest).\n\n| case | Mainstay | HAProxy | nginx | to HAProxy | to nginx | to the better |\n| --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (case, samples) in &results.cases {
        let cell = |program| time_cell(&samples[&program]);
        let [mainstay, haproxy, nginx] = PROGRAMS.map(|program| cpu_of(&samples[&program]));
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | **{}** |",
            case.about,
            cell(Program::Mainstay),
            cell(Program::HaProxy),
            cell(Program::Nginx),
            ratio_cell(&mainstay, &haproxy),
            ratio_cell(&mainstay, &nginx),
            ratio_cell(&mainstay, &lesser(&haproxy, &nginx)),
        );
    }
    for case in &results.missing {
        let _ = writeln!(out, "| {} | not yet in Mainstay | | | | | |", case.about);
    }
    out.push_str(
        "\n## Requests a second\n\nWith one processor for the proxy. Where the proxy leaves its processor idle, it is the load's processor that is full, and the figure \
         says less than the one above.\n\n| case | Mainstay | HAProxy | nginx |\n| --- | --- | --- | --- |\n",
    );
    for (case, samples) in &results.cases {
        let [mainstay, haproxy, nginx] = PROGRAMS.map(|program| {
            let all: Vec<f64> = samples[&program].iter().map(|sample| sample.per_second).collect();
            Spread::of(&all).map_or(String::new(), |spread| format!("{:.0}", spread.median))
        });
        let _ = writeln!(out, "| {} | {mainstay} | {haproxy} | {nginx} |", case.about);
    }
    out.push('\n');
}

fn cpu_of(samples: &[Sample]) -> Vec<f64> {
    samples.iter().map(Sample::cpu).collect()
}

fn time_cell(samples: &[Sample]) -> String {
    let median = |value: fn(&Sample) -> f64| {
        Spread::of(&samples.iter().map(value).collect::<Vec<_>>()).map_or(0.0, |spread| spread.median)
    };
    format!("{:.1} ({:.1} / {:.1})", median(Sample::cpu), median(|s| s.user), median(|s| s.system))
}

fn ratio_cell(ours: &[f64], theirs: &[f64]) -> String {
    Spread::of_ratios(ours, theirs)
        .map_or(String::new(), |r| format!("{:.2} ({:.2} to {:.2})", r.median, r.min, r.max))
}

/// Where the aims are not reached, by how much.
fn shortfalls(out: &mut String, results: &Results) {
    let mut lines = Vec::new();
    for (case, samples) in &results.cases {
        let [mainstay, haproxy, nginx] = PROGRAMS.map(|program| cpu_of(&samples[&program]));
        match Spread::of_ratios(&mainstay, &lesser(&haproxy, &nginx)) {
            Some(ratio) if ratio.median > case.target => {
                let target = case.target;
                lines.push(format!(
                    "- {}: {:.2} where at most {target:.2} is the aim. {}",
                    case.about,
                    ratio.median,
                    why(samples, target)
                ));
            }
            _ => {}
        }
    }
    if results.memory.get(&Program::Mainstay).is_some_and(|memory| per_connection(memory) > IDLE_KB_MAX) {
        lines.push(format!("- An idle connection takes more than {IDLE_KB_MAX} kB."));
    }
    if let (Some(ours), Some(theirs)) =
        (p999_of(results, Program::Mainstay), p999_of(results, Program::HaProxy))
        && let Some(ratio) = Spread::of_ratios(&ours, &theirs).filter(|ratio| ratio.median > 1.0)
    {
        let direct: Vec<f64> = results.direct.iter().map(|waits| waits.p999).collect();
        let direct = Spread::of(&direct).map_or(0.0, |spread| spread.median);
        lines.push(format!(
            "- p99.9 at {RATE} requests/s is {:.2} × HAProxy's, in single rounds {:.2} to {:.2}; {direct:.0} µs of it come without \
             any proxy.",
            ratio.median, ratio.min, ratio.max
        ));
    }
    if results.cases.is_empty() && lines.is_empty() {
        return;
    }
    out.push_str("## Where it falls short of its aims\n\n");
    if lines.is_empty() {
        out.push_str("Nowhere in this run.\n");
    }
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
    out.push_str("\n[README.md](README.md) says what was tried and what is left.\n\n");
}

/// What of it is the kernel's, and what the aim would leave for the program.
fn why(samples: &BTreeMap<Program, Vec<Sample>>, target: f64) -> String {
    let median = |program, value: fn(&Sample) -> f64| {
        Spread::of(&samples[&program].iter().map(value).collect::<Vec<_>>())
            .map_or(0.0, |spread| spread.median)
    };
    let cpu = |program| median(program, Sample::cpu);
    let rival = if cpu(Program::HaProxy) < cpu(Program::Nginx) { Program::HaProxy } else { Program::Nginx };
    let (own, kernel) = (median(Program::Mainstay, |s| s.user), median(Program::Mainstay, |s| s.system));
    let left = target * cpu(rival) - kernel;
    format!(
        "The kernel takes {kernel:.1} µs for Mainstay and {:.1} µs for {}; that leaves {left:.1} µs for Mainstay's own code to \
         reach the aim, and it takes {own:.1} µs ({}: {:.1} µs).",
        median(rival, |s| s.system),
        rival.name(),
        rival.name(),
        median(rival, |s| s.user)
    )
}

fn p999_of(results: &Results, program: Program) -> Option<Vec<f64>> {
    Some(results.waits.get(&program)?.iter().map(|waits| waits.p999).collect())
}

fn waiting(out: &mut String, results: &Results) {
    if results.waits.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "## Waiting at {RATE} requests/s\n\n200-byte answers over 64 kept connections, each with a timetable of its own; the time counts from when a request was due, so that \
         no waiting is left out. Microseconds, medians of the rounds. *No proxy* is the same load straight at a server: it is in every line below.\n\n\
         | | p50 | p99 | p99.9 | p99.9 to HAProxy's, paired |\n| --- | --- | --- | --- | --- |"
    );
    let theirs = p999_of(results, Program::HaProxy).unwrap_or_default();
    let mut line = |name: &str, waits: &[Waits]| {
        let median = |value: fn(&Waits) -> f64| {
            Spread::of(&waits.iter().map(value).collect::<Vec<_>>()).map_or(0.0, |spread| spread.median)
        };
        let p999: Vec<f64> = waits.iter().map(|waits| waits.p999).collect();
        let _ = writeln!(
            out,
            "| {name} | {:.0} | {:.0} | {:.0} | {} |",
            median(|w| w.p50),
            median(|w| w.p99),
            median(|w| w.p999),
            ratio_cell(&p999, &theirs)
        );
    };
    line("no proxy", &results.direct);
    for (program, waits) in &results.waits {
        line(program.name(), waits);
    }
    out.push('\n');
}

fn per_connection(memory: &Memory) -> f64 {
    (memory.idle as f64 - memory.empty as f64) / IDLE as f64
}

fn memory(out: &mut String, memory: &BTreeMap<Program, Memory>) {
    if memory.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "## Resident memory\n\nAfter a second of load, all processes of each program together; then with {IDLE} plain connections that have carried one request and wait.\n\n\
         | | without connections, MB | with {IDLE}, MB | kB per idle connection |\n| --- | --- | --- | --- |"
    );
    for (program, memory) in memory {
        let mb = |kb: u64| kb as f64 / 1024.0;
        let _ = writeln!(
            out,
            "| {} | {:.1} | {:.1} | {:.2} |",
            program.name(),
            mb(memory.empty),
            mb(memory.idle),
            per_connection(memory)
        );
    }
    out.push('\n');
}

fn notes(out: &mut String, plan: &Plan, results: &Results, started: &[Started]) -> Result<()> {
    out.push_str("## What was run\n\n");
    if !results.missing_parts.is_empty() {
        let _ = writeln!(
            out,
            "This build of Mainstay does not know these parts of its config, so they are left out: {}.\n",
            results.missing_parts.join(", ")
        );
    }
    out.push_str(
        "The configs are [mainstay.toml](proxy/mainstay.toml), [haproxy.cfg](proxy/haproxy.cfg), [nginx.conf](proxy/nginx.conf), and \
         [servers.conf](proxy/servers.conf) for the servers behind, with ports that the kernel chose. Mainstay probes its servers, keeps its record and its metrics, \
         and writes its access log to a file; HAProxy probes and logs every request to a local syslog socket; nginx writes its access log to a file.\n\n",
    );
    let Some(mainstay) = started.iter().find(|proxy| proxy.program == Program::Mainstay) else {
        return Ok(());
    };
    out.push_str("The load on each proxy, here on Mainstay:\n\n```sh\n");
    for (case, _) in &results.cases {
        let command = case.load.command(mainstay, plan.seconds)?;
        let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
        let words: Vec<String> = words.iter().map(|word| shown(&word.to_string_lossy())).collect();
        let _ = writeln!(out, "{}", words.join(" "));
    }
    out.push_str("```\n");
    Ok(())
}

/// A word of a command as a shell takes it, paths from the repository's root.
fn shown(word: &str) -> String {
    let root = format!("{}/", root().display());
    let word = word.replace(&root, "");
    if word.contains(' ') { format!("'{word}'") } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(cpu: [f64; 3]) -> Vec<Sample> {
        cpu.map(|cpu| Sample { user: cpu / 4.0, system: cpu * 0.75, per_second: 1e6 / cpu }).to_vec()
    }

    #[test]
    fn a_case_that_misses_its_aim_is_named_with_its_ratio() {
        let case = &super::super::cases::CASES[0];
        let all = |ours| {
            BTreeMap::from([
                (Program::Mainstay, samples(ours)),
                (Program::HaProxy, samples([20.0, 20.0, 40.0])),
                (Program::Nginx, samples([30.0, 30.0, 30.0])),
            ])
        };
        let mut results = Results { cases: vec![(case, all([10.0, 10.0, 20.0]))], ..Results::default() };
        let mut out = String::new();
        cost(&mut out, &results);
        assert!(out.contains("| 10.0 (2.5 / 7.5) | 20.0 (5.0 / 15.0) |"), "{out}");
        assert!(out.contains("| 0.50 (0.50 to 0.50) |"), "{out}");
        out.clear();
        shortfalls(&mut out, &results);
        assert!(out.contains("Nowhere"), "{out}");
        results.cases[0].1 = all([19.0, 19.0, 28.5]);
        out.clear();
        shortfalls(&mut out, &results);
        assert!(out.contains(": 0.95 where at most 0.85"), "{out}");
        // Of 17 µs, 14.25 are the kernel's.
        assert!(out.contains("leaves 2.8 µs") && out.contains("it takes 4.8 µs (HAProxy: 5.0 µs)"), "{out}");
    }

    #[test]
    fn memory_is_told_per_idle_connection() {
        let memory = Memory { empty: 20_000, idle: 20_000 + 5 * 1500 };
        assert_eq!(per_connection(&memory), 1.5);
    }

    #[test]
    fn a_word_with_a_space_is_quoted() {
        assert_eq!(shown("Host: a"), "'Host: a'");
        assert_eq!(shown(&format!("{}/target/x", root().display())), "target/x");
    }
}
