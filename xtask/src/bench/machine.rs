//! On what it was measured: processor, kernel, and the versions of the programs.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::Result;

use super::programs::Program;
use crate::run::answer;

/// Adds a list of them.
///
/// # Errors
/// When a program does not tell.
pub fn describe(out: &mut String, programs: &[Program]) -> Result<()> {
    let date = answer(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]))?;
    let kernel = answer(Command::new("uname").args(["-srm"]))?;
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let _ = writeln!(out, "- {}", date.trim());
    let _ = writeln!(out, "- {}, {}; {}", processors(&cpu), gigabytes(&memory), kernel.trim());
    for program in programs {
        let _ = writeln!(out, "- {}: {}", program.name(), program.version()?);
    }
    out.push('\n');
    Ok(())
}

fn processors(cpuinfo: &str) -> String {
    let values = |key: &str| -> Vec<String> {
        let lines = cpuinfo.lines().filter(|line| line.split(':').next().is_some_and(|k| k.trim() == key));
        lines.filter_map(|line| Some(line.split_once(':')?.1.trim().to_owned())).collect()
    };
    let model = values("model name").into_iter().find(|name| name.contains(' '));
    let count = values("processor").len();
    let hypervisor = values("flags").first().is_some_and(|flags| flags.contains("hypervisor"));
    let kind = if hypervisor { "virtual processors" } else { "processors" };
    format!("{count} {kind}{}", model.map_or(String::new(), |model| format!(" ({model})")))
}

fn gigabytes(meminfo: &str) -> String {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let kb = line.split_whitespace().next().and_then(|kb| kb.parse::<f64>().ok()).unwrap_or_default();
    format!("{:.0} GB of memory", kb / 1024.0 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_told_by_what_the_kernel_says() {
        let cpuinfo =
            "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nflags\t\t: fpu hypervisor\nprocessor\t: 1\n";
        assert_eq!(processors(cpuinfo), "2 virtual processors (Some CPU @ 3 GHz)");
        assert_eq!(processors("processor\t: 0\nmodel name\t: 1\n"), "1 processors");
        assert_eq!(gigabytes("MemTotal:       16777216 kB\n"), "16 GB of memory");
    }
}
