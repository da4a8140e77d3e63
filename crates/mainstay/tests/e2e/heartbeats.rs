//! Jobs that ping: a real shell script with curl that runs, fails and stops; restarts that no job is to blame for; ten thousand pings
//! in a burst; and who has no business there.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::http;
use crate::harness::mail::MailSink;
use crate::harness::mainstay::{Mainstay, once};
use crate::harness::{measured, run, until};

/// A config that serves something, and waits for these jobs.
fn waiting_for(jobs: &str) -> Config {
    Config::new().external("app-1", crate::harness::free_address()).table(jobs)
}

async fn job(mainstay: &Mainstay, name: &str) -> Value {
    mainstay.api().get_json(&format!("/api/v1/monitors/{name}")).await
}

async fn is(mainstay: &Mainstay, name: &str, phase: &str) -> Value {
    until(&format!("{name} is {phase}"), async || {
        let job = job(mainstay, name).await;
        (job["heartbeat"]["phase"] == phase).then_some(job)
    })
    .await
}

/// What the command line says of a job.
async fn heartbeat(home: &Home, mainstay: &Mainstay, arguments: &[&str]) -> String {
    let (config, base) = (home.config(), format!("http://{}", mainstay.api().address()));
    let mut all = vec!["heartbeat", "-c", config.to_str().expect("UTF-8"), "--base", &base];
    all.extend(arguments);
    let output = once(home, &all).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

async fn url(home: &Home, mainstay: &Mainstay, name: &str) -> String {
    heartbeat(home, mainstay, &[name, "--url"]).await.trim().to_owned()
}

#[test]
fn a_shell_script_that_runs_is_on_time_and_missed_when_it_stops_and_told_with_its_log_when_it_fails() {
    run(async {
        let home = Home::new();
        let sink = MailSink::start(&home).await;
        let config = waiting_for(
            "[monitor.backup-job]\nheartbeat = { every = \"1s\", grace = \"2s\" }\n\
             [monitor.nightly]\nheartbeat = { cron = \"30 3 * * *\", zone = \"Europe/Berlin\" }",
        );
        let mainstay = Mainstay::start(&home, &config.mail_to(sink.address)).await;
        assert_eq!(job(&mainstay, "backup-job").await["because"], "waiting for first ping");
        let recipe = heartbeat(&home, &mainstay, &["nightly"]).await;
        assert!(recipe.contains("30 3 * * * /usr/local/bin/job && curl -fsS"), "{recipe}");

        // As cron would, again and again; `work` is the job's own program.
        let url = url(&home, &mainstay, "backup-job").await;
        let (work, script) = (home.path().join("work"), home.path().join("job.sh"));
        let well = "#!/bin/sh\necho copied 3 files\nsleep 0.2\n";
        let ill = "#!/bin/sh\necho the disk is full\nexit 7\n";
        let write = |text: &str| {
            let beside = home.path().join("work.new");
            std::fs::write(&beside, text).expect("a file");
            std::fs::set_permissions(&beside, Permissions::from_mode(0o755)).expect("a mode");
            std::fs::rename(&beside, &work).expect("a file");
        };
        write(well);
        let text = format!(
            "while test -e going; do\ncurl -fsS -m 10 -o /dev/null {url}/start\n{work:?} > job.log 2>&1; code=$?\n\
             curl -fsS -m 10 -o /dev/null --data-binary @job.log {url}/$code\nsleep 0.5\ndone\n"
        );
        std::fs::write(&script, text).expect("a file");
        std::fs::write(home.path().join("going"), "").expect("a file");
        let (mark, value) = home.mark();
        let mut cron = Command::new("sh");
        cron.arg(&script).current_dir(home.path()).env(mark, value);
        let mut cron = cron.spawn().expect("sh");

        let on_time = is(&mainstay, "backup-job", "on-time").await;
        let took = on_time["heartbeat"]["durations_ms"][0].as_u64().expect("a duration");
        assert!(took >= 200, "{on_time}");
        assert_eq!(on_time["heartbeat"]["tail"], "copied 3 files\n");
        write(ill);
        let down = is(&mainstay, "backup-job", "down").await;
        let number = down["incident"].as_u64().expect("an incident");
        let incident = mainstay.api().incident(number).await;
        assert!(
            incident["title"].as_str().expect("a title").starts_with("backup-job failed: exit code 7 after")
        );
        assert_eq!(incident["diagnosis"]["cause"], "crash", "{incident}");
        assert!(incident["timeline"].to_string().contains("the disk is full"), "{incident}");
        write(well);
        is(&mainstay, "backup-job", "on-time").await;
        mainstay.api().resolved(number).await;

        std::fs::remove_file(home.path().join("going")).expect("a file");
        let _ = cron.wait();
        let stopped = Instant::now();
        let missed = is(&mainstay, "backup-job", "down").await;
        measured(
            "a job that stopped, every 1 s with a grace of 2 s: missed after, ms",
            stopped.elapsed().as_millis(),
        );
        let number = missed["incident"].as_u64().expect("an incident");
        let title = mainstay.api().incident(number).await["title"].to_string();
        assert!(
            title.contains("no ping from backup-job since 20") && title.contains("expected by 20"),
            "{title}"
        );
        until("it is told", async || {
            let all = sink.messages();
            all.iter().any(|m| m.header("subject").contains("no ping from backup-job")).then_some(())
        })
        .await;
        let token = url.rsplit('/').next().expect("a token").to_owned();
        assert!(!mainstay.log().iter().any(|line| line.contains(&token)), "a secret is in the log");
        let metrics = mainstay.api().get("/metrics").await.text();
        assert!(metrics.contains("mainstay_heartbeat_pings_total{monitor=\"backup-job\"}"), "{metrics}");
        assert!(!metrics.contains(&token));
    });
}

#[test]
fn a_restart_blames_no_job_and_forgets_none() {
    run(async {
        let home = Home::new();
        let config = waiting_for(
            "[monitor.quick]\nheartbeat = { every = \"2s\", grace = \"1s\" }\n\
             [monitor.daily]\nheartbeat = { every = \"1d\" }\n[monitor.failed]\nheartbeat = { every = \"1d\" }",
        );
        let mainstay = Mainstay::start(&home, &config).await;
        for (name, said) in [("quick", ""), ("daily", "/start"), ("daily", ""), ("failed", "/fail")] {
            let url = url(&home, &mainstay, name).await;
            let path = format!("/ping/{}{said}", url.rsplit('/').next().expect("a token"));
            let answer = http::get(mainstay.api().address(), &path).await.expect("an answer");
            assert_eq!((answer.status, answer.text().as_str()), (200, "OK\n"));
        }
        let number = is(&mainstay, "failed", "down").await["incident"].as_u64().expect("an incident");
        is(&mainstay, "daily", "on-time").await;
        // Whatever was answered survives the death of the process.
        mainstay.kill().await;
        crate::harness::pause(std::time::Duration::from_secs(4)).await;
        let mainstay = Mainstay::again(&home).await;
        let quick = job(&mainstay, "quick").await;
        assert_eq!(
            (quick["heartbeat"]["phase"].as_str(), quick["incident"].as_u64()),
            (Some("unknown"), None),
            "{quick}"
        );
        let daily = job(&mainstay, "daily").await;
        assert_eq!(
            (daily["heartbeat"]["phase"].as_str(), daily["heartbeat"]["pings"].as_u64()),
            (Some("on-time"), Some(2))
        );
        assert_eq!(daily["heartbeat"]["durations_ms"].as_array().map(Vec::len), Some(1), "{daily}");
        let failed = job(&mainstay, "failed").await;
        assert_eq!(
            (failed["state"].as_str(), failed["incident"].as_u64()),
            (Some("down"), Some(number)),
            "{failed}"
        );
        is(&mainstay, "quick", "down").await;
    });
}

/// Pings over one connection, one after the other; how many were answered well.
async fn burst(at: SocketAddr, paths: Vec<String>) -> usize {
    let mut stream = TcpStream::connect(at).await.expect("a connection");
    let mut good = 0;
    let mut answer = vec![0; 4096];
    for path in paths {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it is sent");
        let mut read = 0;
        while !answer[..read].ends_with(b"OK\n") {
            let more = stream.read(&mut answer[read..]).await.expect("an answer");
            assert!(more > 0, "{:?}", String::from_utf8_lossy(&answer[..read]));
            read += more;
        }
        good += usize::from(answer.starts_with(b"HTTP/1.1 200 "));
    }
    good
}

#[test]
fn ten_thousand_pings_in_a_burst_are_all_in_the_record_though_mainstay_is_killed_right_after() {
    const JOBS: usize = 100;
    const CONNECTIONS: usize = 200;
    const EACH: usize = 50;
    run(async {
        let home = Home::new();
        let tables: String =
            (0..JOBS).map(|n| format!("[monitor.job-{n}]\nheartbeat = {{ every = \"1h\" }}\n")).collect();
        let mut config = waiting_for(&tables);
        config.listen = "pings = \"127.0.0.1:0\"\n".into();
        let mainstay = Mainstay::start(&home, &config).await;
        let printed = mainstay.printed();
        let at =
            printed.iter().find_map(|line| line.strip_prefix("pings      http://")).expect("a line `pings`");
        let at: SocketAddr = at.trim_end_matches('/').parse().expect("an address");
        let all: Value = serde_json::from_str(&heartbeat(&home, &mainstay, &["--json"]).await).expect("JSON");
        let paths: Vec<String> = all["heartbeats"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|job| {
                format!("/ping/{}", job["url"].as_str().expect("a URL").rsplit('/').next().expect("a token"))
            })
            .collect();
        let began = Instant::now();
        let bursts: Vec<_> = (0..CONNECTIONS)
            .map(|n| {
                let mine = (0..EACH).map(|k| paths[(n + k * 7) % JOBS].clone()).collect();
                tokio::spawn(burst(at, mine))
            })
            .collect();
        let mut good = 0;
        for burst in bursts {
            good += burst.await.expect("it does not panic");
        }
        measured(
            "10,000 pings over 200 connections, each answered when it is recorded, ms",
            began.elapsed().as_millis(),
        );
        assert_eq!(good, CONNECTIONS * EACH);
        mainstay.kill().await;
        let mainstay = Mainstay::again(&home).await;
        let list = mainstay.api().get_json("/api/v1/monitors?limit=1000").await;
        let counted =
            list["monitors"].as_array().expect("a list").iter().map(|job| job["heartbeat"]["pings"].as_u64());
        assert_eq!(counted.sum::<Option<u64>>(), Some((CONNECTIONS * EACH) as u64));
        let printed = mainstay.printed();
        let at =
            printed.iter().find_map(|line| line.strip_prefix("pings      http://")).expect("a line `pings`");
        let at: SocketAddr = at.trim_end_matches('/').parse().expect("an address");

        // Nobody else has any business there.
        for (path, status) in [
            ("/ping/AAAAAAAAAAAAAAAAAAAAAA".to_owned(), 404),
            ("/ping/".to_owned(), 404),
            ("/".to_owned(), 404),
            ("/api/v1/status".to_owned(), 404),
            (format!("{}/256", paths[0]), 400),
        ] {
            let answer = http::get(at, &path).await.expect("an answer");
            assert_eq!(answer.status, status, "{path}: {}", answer.text());
        }
        let long = vec![b'x'; 400_000];
        assert_eq!(http::post(at, &paths[0], &long).await.expect("an answer").status, 200);
        // Pages and the API show it within a quarter of a second.
        until("the end of its log is shown", async || {
            let shown = job(&mainstay, "job-0").await;
            (shown["heartbeat"]["tail"].as_str()?.len() == 10_000).then_some(())
        })
        .await;
        let metrics = mainstay.api().get("/metrics").await.text();
        assert!(
            metrics.contains("mainstay_heartbeat_refused_total{reason=\"unknown-address\"} "),
            "{metrics}"
        );
    });
}
