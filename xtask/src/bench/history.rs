//! `cargo xtask bench history`: how long a chart over a year of one probe takes, page and API, from a record that the store's own
//! code has filled, rolled up and packed.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::arithmetic::Spread;
use super::machine;
use super::process::{Core, Running, pinned};
use super::programs::{self, Program, provide_mainstay, wait_until_it_listens};
use super::site::{Folder, free_port, local};
use super::wire::Wire;
use crate::run::cargo;

/// Times that each is asked for.
const TIMES: usize = 200;
const PATIENCE: Duration = Duration::from_secs(20);
/// The test that fills the record, and checks what is read from it.
const FILLS: &str = "store::tests::year::a_year_of_one_probe_is_read_complete_and_right";

/// Runs it.
///
/// # Errors
/// When something cannot be started, or an answer is not what it should be.
pub fn run(binary: Option<&str>) -> Result<()> {
    provide_mainstay(binary)?;
    let folder = Folder::new("history")?;
    let data = folder.path().join("data");
    fill(&data)?;
    let port = free_port()?;
    let config = folder.path().join("mainstay.toml");
    // It looks at itself, so that the newest hour has something in it too.
    let text = format!(
        "data = {:?}\n\n[listen]\nadmin = \"127.0.0.1:{port}\"\n\n[monitor.pay]\nurl = \"http://127.0.0.1:{port}/livez\"\n\
         interval = \"10s\"\n",
        data.display().to_string()
    );
    fs::write(&config, text)?;
    let mut command = pinned(Core::Proxy, programs::mainstay());
    let log = folder.path().join("mainstay.log");
    let mut process = Running::start("mainstay", command.arg("run").arg("-c").arg(&config), &log)?;
    wait_until_it_listens(&mut process, port)?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis();
    let from = now - 365 * 86_400_000;
    let asked = [
        ("page of the monitor", "/monitors/pay?range=1y".to_owned(), "1 year"),
        (
            "API: 365 days by the hour",
            format!("/api/v1/monitors/pay/history?step=hour&from={from}&to={now}"),
            "\"p99_ms\"",
        ),
    ];
    let mut rows = String::new();
    for (name, path, holds) in &asked {
        let row = measure(port, name, path, holds).with_context(|| path.clone())?;
        println!("{row}");
        let _ = writeln!(rows, "{row}");
    }
    process.must_run()?;
    let out = document(&rows, size(&data)?)?;
    let path = crate::run::root().join("bench/HISTORY.md");
    fs::write(&path, out).with_context(|| format!("cannot write {}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}

/// A year that ends now, by the store's own code.
fn fill(data: &Path) -> Result<()> {
    fs::create_dir_all(data)?;
    println!("a year of looks is written, rolled up and packed …");
    let status = cargo()
        .args(["test", "--quiet", "-p", "mainstay", "--bin", "mainstay", "--", "--exact", FILLS])
        .env("MAINSTAY_YEAR", data)
        .status()?;
    ensure!(status.success(), "the record could not be filled");
    Ok(())
}

fn measure(port: u16, name: &str, path: &str, holds: &str) -> Result<String> {
    let (mut times, mut bytes) = (Vec::new(), 0);
    for _ in 0..TIMES {
        let begun = Instant::now();
        let mut wire = Wire::connect(local(port), PATIENCE)?;
        wire.send(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
        let body = wire.rest()?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        bytes = body.len();
        let text = String::from_utf8_lossy(&body);
        if !text.contains(holds) {
            bail!("it says something else: {}", text.chars().take(500).collect::<String>());
        }
    }
    let first = times[0];
    let Spread { median, min, max } = Spread::of(&times).context("nothing was measured")?;
    Ok(format!(
        "| {name} | {median:.1} ms | {min:.1} ms | {max:.1} ms | {first:.1} ms | {:.0} kB |",
        bytes as f64 / 1000.0
    ))
}

/// Of all files of the record, in bytes.
fn size(data: &Path) -> Result<u64> {
    let mut sum = 0;
    let files: Vec<PathBuf> = fs::read_dir(data)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    for file in files.iter().filter(|file| file.to_string_lossy().contains("record.db")) {
        sum += fs::metadata(file)?.len();
    }
    Ok(sum)
}

fn document(rows: &str, bytes: u64) -> Result<String> {
    let mut out = String::from("# A chart over a year of one probe\n\n");
    machine::describe(&mut out, &[Program::Mainstay])?;
    let _ = write!(
        out,
        "A year of one monitor with a look each 10 s (3.2 million of them) was written, rolled up and packed by the record's own code; the \
         record is {:.0} MB. Then each is asked for {TIMES} times over HTTP, over a new connection each time, until the last byte is \
         there. Mainstay runs on one processor. Made by `cargo xtask bench history`.\n\n\
         | what | median | least | most | first | size |\n| --- | --- | --- | --- | --- | --- |\n{rows}",
        bytes as f64 / 1e6
    );
    Ok(out)
}
