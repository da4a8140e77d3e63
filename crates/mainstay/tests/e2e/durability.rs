//! Mainstay itself dies, or its disk is full: nothing that was known is lost, nothing it started is left over, and
//! traffic does not care.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::api::servers;
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::load::Load;
use crate::harness::mail::MailSink;
use crate::harness::mainstay::{Mainstay, no_orphan_is_left};
use crate::harness::shop::Shop;
use crate::harness::{PATIENCE, http, measured, pause, process, run, until, until_within};
use crate::recovery::pid_of;

/// Kills of Mainstay, each at another moment of an incident.
const ROUNDS: u64 = 6;

/// What the record holds, read past the program: rows of the outbox and numbers of incidents.
fn recorded(home: &Home) -> (BTreeSet<i64>, BTreeSet<i64>) {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let record = rusqlite::Connection::open_with_flags(home.data().join("record.db"), flags)
        .expect("the record opens");
    let numbers = |query: &str| -> BTreeSet<i64> {
        let mut statement = record.prepare(query).expect("the table is there");
        let rows = statement.query_map([], |row| row.get(0)).expect("it can be read");
        rows.collect::<Result<_, _>>().expect("numbers")
    };
    (numbers("SELECT row FROM outbox"), numbers("SELECT id FROM incident"))
}

/// The incidents that the API names.
async fn known(mainstay: &Mainstay) -> BTreeSet<i64> {
    mainstay.api().incidents().await.iter().filter_map(|incident| incident["id"].as_i64()).collect()
}

/// Waits until what is supervised is what the API says, process by process.
async fn supervised_are_the_known_ones(home: &Home, mainstay: &Mainstay) {
    until("the supervised processes are exactly those that Mainstay knows", async || {
        let status = mainstay.api().status().await;
        let known: BTreeSet<u64> = servers(&status).filter_map(|s| s["process"]["pid"].as_u64()).collect();
        let found: BTreeSet<u64> = home.supervised().into_iter().map(u64::from).collect();
        (known == found && known.len() == 2).then_some(())
    })
    .await;
}

#[test]
fn killing_mainstay_during_incidents_loses_nothing_and_leaves_no_orphan() {
    run(async {
        let home = Home::new();
        let mut sink = MailSink::down(&home);
        let config = Config::new()
            .supervised("app-1")
            .supervised("app-2")
            // Many rounds of killing are not the budget's business.
            .service_lines("recovery = { budget = 50 }")
            .mail_to(sink.address);
        let mut mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..ROUNDS {
            let server =
                mainstay.api().server_until("shop/app-1", "runs", |s| s["process"]["pid"].is_u64()).await;
            process::signal(pid_of(&server), libc::SIGKILL);
            // Spread over the moments from the first sign to the closed incident.
            pause(Duration::from_millis(random.u64(0..500 * (round + 1)))).await;
            let seen = known(&mainstay).await;
            mainstay.kill().await;
            let (rows, incidents) = recorded(&home);
            mainstay = Mainstay::again(&home).await;
            supervised_are_the_known_ones(&home, &mainstay).await;
            let (rows_now, incidents_now) = recorded(&home);
            assert!(
                incidents_now.is_superset(&seen),
                "round {round}: {seen:?} was shown, {incidents_now:?} is left"
            );
            assert!(
                incidents_now.is_superset(&incidents),
                "round {round}: {incidents:?} became {incidents_now:?}"
            );
            assert!(rows_now.is_superset(&rows), "round {round}: outbox {rows:?} became {rows_now:?}");
            assert!(known(&mainstay).await.is_superset(&seen), "round {round}");
        }
        mainstay.api().all_serve().await;
        until("every incident is over", async || {
            mainstay.api().incidents().await.iter().all(|i| i["state"] == "resolved").then_some(())
        })
        .await;
        sink.up().await;
        let incidents = known(&mainstay).await.len();
        assert!(incidents > 0);
        until_within(Duration::from_secs(120), "each incident's two messages arrived", async || {
            (sink.messages().len() >= 2 * incidents).then_some(())
        })
        .await;
        pause(Duration::from_secs(2)).await;
        let subjects: Vec<String> =
            sink.messages().iter().map(|m| m.header("message-id").to_owned()).collect();
        assert_eq!(
            subjects.iter().collect::<BTreeSet<_>>().len(),
            subjects.len(),
            "none is sent twice: {subjects:?}"
        );
        assert_eq!(subjects.len(), 2 * incidents);
        assert!(mainstay.stop().await.success());
        no_orphan_is_left(&home).await;
    });
}

#[test]
fn the_time_in_which_mainstay_did_not_run_is_a_gap_in_the_history() {
    run(async {
        let home = Home::new();
        let shop = Shop::start(&home, "app-1").await;
        let begun = std::time::Instant::now();
        let mainstay = Mainstay::start(&home, &Config::new().external("app-1", shop.address)).await;
        mainstay.api().all_serve().await;
        let observed = async |mainstay: &Mainstay| -> u64 {
            let history = mainstay.api().history("shop/app-1").await;
            history.iter().filter_map(|bucket| bucket["observed_ms"].as_u64()).sum()
        };
        until("some seconds are in the record", async || (observed(&mainstay).await >= 3000).then_some(()))
            .await;
        mainstay.kill().await;
        let gap = Duration::from_secs(5);
        pause(gap).await;
        let mainstay = Mainstay::again(&home).await;
        let before = observed(&mainstay).await;
        until("the record goes on", async || (observed(&mainstay).await >= before + 3000).then_some(()))
            .await;
        let looked_on = observed(&mainstay).await;
        let lived = u64::try_from(begun.elapsed().as_millis()).expect("a short time");
        let gap = u64::try_from(gap.as_millis()).expect("a short time");
        assert!(
            looked_on <= lived - gap,
            "{looked_on} ms observed of {lived} ms, of which {gap} ms were a gap"
        );
        let looks = mainstay.api().results("shop/app-1").await;
        assert!(looks.iter().any(|look| look["result"] == "good" && look["text"] == "200"), "{looks:?}");
        let times: Vec<i64> = looks.iter().filter_map(|look| look["at"].as_i64()).collect();
        let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
        assert!(longest >= gap.cast_signed(), "no look stands in the {gap} ms gap: {longest} ms");
    });
}

/// A small file system that is gone when this is dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn mount(at: &Path) -> Self {
        std::fs::create_dir_all(at).expect("a folder");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(at).output();
        let mount = mount.expect("mount(8) is there");
        assert!(
            mount.status.success(),
            "this test mounts a small tmpfs and so must run as root (`sudo -E cargo xtask test e2e`, or in a container \
             with CAP_SYS_ADMIN): {}",
            String::from_utf8_lossy(&mount.stderr)
        );
        Self(at.to_owned())
    }

    /// Writes until nothing more fits. The file's removal makes room again.
    fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let mut file = std::fs::File::create(&filler).expect("a file");
        for size in [65536, 4096, 1] {
            while std::io::Write::write_all(&mut file, &vec![0; size]).is_ok() {}
        }
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Whether the judgement holds an incident of the record, open or resolved as asked.
fn has_own_incident(status: &Value, open: bool) -> bool {
    let incidents = status["incidents"].as_array().into_iter().flatten();
    let mut own = incidents.filter(|i| i["scope"].to_string().contains("record"));
    own.any(|i| (i["state"] != "resolved") == open)
}

/// Traffic over three servers while the record is broken and mended again.
async fn trouble_of_the_record_is_our_own<T>(
    home: &Home,
    break_it: impl FnOnce() -> T,
    mend_it: impl FnOnce(T),
) {
    let shops = Shop::three(home).await;
    let config = shops.iter().fold(Config::new(), |config, shop| config.external(&shop.name, shop.address));
    let mainstay = Mainstay::start(home, &config).await;
    let api = mainstay.api();
    api.all_serve().await;
    let load = Load::start(mainstay.front(), 100, "/");
    load.more(100).await;

    let broken = break_it();
    let status = until_within(Duration::from_secs(90), "the record's trouble is an incident", async || {
        let status = api.status().await;
        has_own_incident(&status, true).then_some(status)
    })
    .await;
    for server in servers(&status) {
        assert_eq!(server["health"], "healthy", "the record says nothing about a server: {server:#}");
    }
    load.more(300).await;
    assert_eq!(http::get(mainstay.front(), "/").await.expect("an answer").status, 200);

    mend_it(broken);
    until_within(Duration::from_secs(90), "the incident is over", async || {
        let status = api.status().await;
        (!has_own_incident(&status, true) && has_own_incident(&status, false)).then_some(())
    })
    .await;
    let run = load.finish().await;
    run.assert_none_failed();
    measured("trouble of the record: slowest of all requests, ms", run.slowest().as_millis());
    until("the incident is in the record", async || (!recorded(home).1.is_empty()).then_some(())).await;
}

#[test]
fn a_full_disk_stops_no_traffic_and_is_an_incident_of_mainstays_own() {
    run(async {
        let home = Home::new();
        let disk = SmallDisk::mount(&home.data());
        let mend = |filler| std::fs::remove_file(filler).expect("the filler can be removed");
        trouble_of_the_record_is_our_own(&home, || disk.fill(), mend).await;
    });
}

#[test]
fn a_locked_database_stops_no_traffic_and_is_an_incident_of_mainstays_own() {
    run(async {
        let home = Home::new();
        trouble_of_the_record_is_our_own(&home, || lock(&home), drop).await;
    });
}

/// Nobody else can write to the record until this is dropped.
fn lock(home: &Home) -> rusqlite::Connection {
    let record = rusqlite::Connection::open(home.data().join("record.db")).expect("it opens");
    record.busy_timeout(PATIENCE).expect("a number");
    record.execute_batch("BEGIN IMMEDIATE").expect("the lock is free at times");
    record
}

#[test]
fn a_switch_that_cannot_be_written_down_is_not_run_and_a_person_is_called() {
    run(async {
        let home = Home::new();
        let mut shop = Shop::start(&home, "app-1").await;
        let ran = home.path().join("switched");
        let lines = format!(
            "switch = {{ command = [\"/usr/bin/touch\", {ran:?}], fence = [\"/bin/true\"], after = \"1s\" }}\nrecovery = {{ level = {{ switch = \"automatic\" }} }}"
        );
        let config = Config::new().external("app-1", shop.address).service_lines(&lines);
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        let locked = lock(&home);
        shop.kill();
        let why = until_within(Duration::from_secs(60), "it is refused", async || {
            let last = api.status().await["services"][0]["switch"]["last"].clone();
            last["end"]["error"].as_str().map(str::to_owned)
        })
        .await;
        assert!(why.contains("not run, because it could not be written down before"), "{why}");
        until("people are told that they are needed", async || {
            let told = |line: &String| line.contains("telling people") && line.contains("needs-person");
            mainstay.log().iter().any(told).then_some(())
        })
        .await;
        drop(locked);
        pause(Duration::from_secs(3)).await;
        assert!(!ran.exists(), "it was run all the same");
    });
}

#[test]
fn a_second_mainstay_on_the_same_data_is_refused() {
    run(async {
        let home = Home::new();
        let config = Config::new().external("app-1", crate::harness::free_address());
        let mut first = Mainstay::start(&home, &config).await;
        let path = home.config();
        let output =
            crate::harness::mainstay::once(&home, &["run", "-c", path.to_str().expect("UTF-8")]).await;
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("in use by another Mainstay"), "{said}");
        assert!(first.runs());
    });
}
