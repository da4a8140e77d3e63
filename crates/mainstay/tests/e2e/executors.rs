//! Servers that Mainstay does not start itself, and restarts all the same: by the Docker Engine, by systemd, by a program of the
//! user's, here and over ssh. systemd is a stand-in, because the machines of tests do not run it: a `systemctl` and a
//! `journalctl` of the test's own that keep a unit's state in a folder.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::api::{Api, entries, serves};
use crate::harness::config::Config;
use crate::harness::docker::Engine;
use crate::harness::home::Home;
use crate::harness::mainstay::{Mainstay, command};
use crate::harness::scripted::{Reply, Scripted};
use crate::harness::shop::Shop;
use crate::harness::sshd::Sshd;
use crate::harness::{free_address, http, pause, run, until};

/// Beside what a test is about, nothing waits for long.
const QUICK: &str = "recovery = { budget = 2, delay-base = \"100ms\", start-grace = \"10s\" }";

fn shop(address: SocketAddr, restart: &str) -> Config {
    let server = format!("restart = {{ {restart} }}");
    Config::new().external("app-1", address).server_lines(&server).service_lines(QUICK)
}

fn script(path: &Path, text: &str) -> String {
    std::fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("a file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    path.to_str().expect("UTF-8").to_owned()
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn texts(incident: &Value, kind: &str) -> String {
    let texts = entries(incident, kind).into_iter().map(|entry| entry["text"].as_str().unwrap_or_default());
    texts.collect::<Vec<_>>().join("\n")
}

/// The number of the newest incident, when there have been so many.
async fn newest(api: &Api, count: usize) -> u64 {
    until("there is a further incident", async || {
        let all = api.incidents().await;
        let newest = all.iter().filter_map(|incident| incident["id"].as_u64()).max();
        newest.filter(|_| all.len() == count)
    })
    .await
}

/// The text of the first entry of this kind that the newest incident's timeline gets.
async fn told(api: &Api, kind: &str) -> String {
    let id = newest(api, api.incidents().await.len().max(1)).await;
    texts(&api.incident_with(id, kind).await, kind)
}

/// A program that starts the sample shop at this address, and notes each time.
fn bounce(home: &Home, address: SocketAddr, before: &str) -> (String, PathBuf) {
    let (noted, program) = (home.path().join("bounced"), env!("CARGO_BIN_EXE_mainstay"));
    let text = format!(
        "read told; echo \"$* $told\" >> {noted}\n{before}\n\
         setsid {program} sample-shop --port {port} --name app-1 > /dev/null 2>&1 &\n\
         echo bounced",
        noted = noted.display(),
        port = address.port(),
    );
    (script(&home.path().join("bounce"), &text), noted)
}

#[test]
fn a_killed_container_is_started_again_by_its_engine_here_and_over_ssh() {
    run(async {
        let home = Home::new();
        let engine = Engine::start(&home).await;
        let sshd = Sshd::start(&home).await;
        let addresses = [free_address(), free_address()];
        engine.serve("shop-1", addresses[0]);
        engine.serve("shop-2", addresses[1]);
        let socket = engine.socket.display().to_string();
        let config = shop(addresses[0], &format!("docker = \"shop-1\", socket = {socket:?}"))
            .external("app-2", addresses[1])
            .server_lines(&format!(
                "restart = {{ docker = \"shop-2\", socket = {socket:?}, {} }}",
                sshd.over()
            ));
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        for (count, name, server) in [(1, "shop-1", "shop/app-1"), (2, "shop-2", "shop/app-2")] {
            engine.does(&["kill", name]);
            let incident = api.resolved(newest(&api, count).await).await;
            let found = texts(&incident, "found");
            assert!(
                found.contains(&format!("its container {name} has exited with status 137 (SIGKILL)")),
                "{found}"
            );
            let timeline = incident["timeline"].to_string();
            assert!(timeline.contains(&format!("{name} opens")), "its last lines are kept: {timeline}");
            assert_eq!(entries(&incident, "action-done").len(), 1, "{incident:#}");
            api.server_until(server, "serves again", serves).await;
            assert_eq!(http::get(mainstay.front(), "/healthz").await.expect("an answer").status, 200);
        }
    });
}

#[test]
fn a_restart_of_a_container_that_mainstay_did_not_see_the_end_of_is_not_repeated() {
    run(async {
        let home = Home::new();
        let engine = Engine::start(&home).await;
        let address = free_address();
        engine.serve("shop-1", address);
        let socket = engine.socket.display().to_string();
        let config = shop(address, &format!("docker = \"shop-1\", socket = {socket:?}"));
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        let before = engine.started_at("shop-1");
        // It goes on running and is no longer well; it takes ten seconds to end.
        engine.does(&["exec", "shop-1", "/bin/busybox", "rm", "/www/healthz"]);
        told(&mainstay.api(), "found").await;
        pause(Duration::from_secs(1)).await;
        mainstay.kill().await;
        assert_eq!(engine.started_at("shop-1"), before, "it is in the middle");
        let mainstay = Mainstay::again(&home).await;
        let done = told(&mainstay.api(), "action-done").await;
        assert!(
            done.contains("app-1 was restarted all the same: its container shop-1 was started"),
            "{done}"
        );
        let after = engine.started_at("shop-1");
        let incident = mainstay.api().resolved(mainstay.api().first_incident().await).await;
        assert_eq!(entries(&incident, "action-begun").len(), 1, "{incident:#}");
        pause(Duration::from_secs(2)).await;
        assert_eq!(engine.started_at("shop-1"), after, "once");
    });
}

#[test]
fn a_server_on_another_machine_is_restarted_by_a_program_there() {
    run(async {
        let home = Home::new();
        let sshd = Sshd::start(&home).await;
        let mut app = Shop::start(&home, "app-1").await;
        let (program, noted) = bounce(&home, app.address, "");
        let restart =
            format!("command = [{program:?}, \"{{server}} of {{service}}\", \"{{port}}\"], {}", sshd.over());
        let mainstay = Mainstay::start(&home, &shop(app.address, &restart)).await;
        let api = mainstay.api();
        api.all_serve().await;
        app.kill();
        let incident = api.resolved(api.first_incident().await).await;
        let begun = texts(&incident, "action-begun");
        assert!(
            begun.contains(&format!("restart ordered by {program} on 127.0.0.1 (1 of 2 in 10m)")),
            "{begun}"
        );
        assert_eq!(http::get(mainstay.front(), "/").await.expect("an answer").status, 200);
        let noted = lines(&noted);
        assert_eq!(noted.len(), 1, "{noted:?}");
        let (arguments, context) = noted[0].split_once(" {").expect("a line of JSON");
        assert_eq!(arguments, format!("app-1 of shop {}", app.address.port()));
        let context: Value = serde_json::from_str(&format!("{{{context}")).expect("JSON");
        assert_eq!((&context["service"], &context["server"]), (&json!("shop"), &json!("app-1")));
        assert_eq!(context["incident"], incident["id"]);
    });
}

#[test]
fn what_a_program_of_this_machine_started_goes_on_without_mainstay() {
    run(async {
        let home = Home::new();
        let mut app = Shop::start(&home, "app-1").await;
        let (program, _) = bounce(&home, app.address, "");
        let mainstay = Mainstay::start(&home, &shop(app.address, &format!("command = [{program:?}]"))).await;
        mainstay.api().all_serve().await;
        app.kill();
        mainstay.api().resolved(mainstay.api().first_incident().await).await;
        assert!(mainstay.stop().await.success());
        assert_eq!(http::get(app.address, "/healthz").await.expect("an answer").status, 200);
        let mainstay = Mainstay::again(&home).await;
        mainstay.api().all_serve().await;
    });
}

/// One unit, `shop.service`, which the stand-in for systemd keeps in this folder.
struct Unit {
    folder: PathBuf,
}

impl Unit {
    /// `slowly`: a restart takes some seconds, and goes on without whoever asked for it.
    fn new(home: &Home, address: SocketAddr, slowly: bool) -> Self {
        let folder = home.path().join("stand-in");
        std::fs::create_dir(&folder).expect("a folder");
        let at = folder.display();
        let start = format!(
            "rm -f {at}/busy; setsid {program} sample-shop --port {port} --name app-1 > /dev/null 2>&1 & \
             echo $! > {at}/pid; cut -d. -f1 /proc/uptime > {at}/entered",
            program = env!("CARGO_BIN_EXE_mainstay"),
            port = address.port(),
        );
        script(&folder.join("start"), &start);
        // systemd is no child of Mainstay's.
        let pause = if slowly { "sleep 3; " } else { "" };
        let text = format!(
            "echo \"$*\" >> {at}/asked\n\
             for unit; do :; done\n\
             [ \"$unit\" = shop.service ] || {{ [ \"$1\" = show ] && echo LoadState=not-found; exit 5; }}\n\
             if [ \"$1\" = restart ]; then\n\
               [ -e {at}/denied ] && {{ echo 'Failed to restart shop.service: Access denied' >&2; exit 4; }}\n\
               touch {at}/busy\n\
               env -u MAINSTAY_SUPERVISED setsid sh -c '{pause}{at}/start' > /dev/null 2>&1 &\n\
               while [ -e {at}/busy ]; do sleep 0.1; done\n\
               exit 0\n\
             fi\n\
             echo LoadState=loaded\n\
             echo ActiveEnterTimestampMonotonic=$(cat {at}/entered)000000\n\
             if [ -e {at}/busy ]; then echo ActiveState=activating\n\
             elif grep -q ') [RSD] ' /proc/$(cat {at}/pid)/stat; then printf 'ActiveState=active\\nSubState=running\\n'\n\
             else printf 'ActiveState=failed\\nSubState=failed\\nResult=oom-kill\\nExecMainCode=2\\nExecMainStatus=9\\n'; fi"
        );
        script(&folder.join("systemctl"), &text);
        script(
            &folder.join("journalctl"),
            "[ \"$1\" = --unit=shop.service ] && echo 'the last line of the unit'",
        );
        Self { folder }
    }

    async fn start(&self, address: SocketAddr) {
        let mut start = std::process::Command::new(self.folder.join("start"));
        start.env("MAINSTAY_TEST_HOME", self.folder.parent().expect("a home"));
        assert!(start.status().expect("it runs").success());
        until("the unit serves", async || http::get(address, "/healthz").await.ok()).await;
    }

    fn kill(&self) {
        let pid = std::fs::read_to_string(self.folder.join("pid")).expect("a process id");
        crate::harness::process::signal(pid.trim().parse().expect("a process id"), libc::SIGKILL);
    }

    fn restarts(&self) -> usize {
        lines(&self.folder.join("asked")).iter().filter(|line| line.starts_with("restart ")).count()
    }

    /// Runs Mainstay with the stand-in in front of the system's own programs.
    async fn mainstay(&self, home: &Home) -> Mainstay {
        let config = home.config();
        let mut run = command(home, &["run", "-c", config.to_str().expect("UTF-8")]);
        let path = std::env::var("PATH").expect("a PATH");
        run.env("PATH", format!("{}:{path}", self.folder.display()));
        Mainstay::spawn(run).await
    }
}

#[test]
fn a_unit_is_restarted_by_systemd_and_what_it_lacked_is_told() {
    run(async {
        let home = Home::new();
        let address = free_address();
        let unit = Unit::new(&home, address, false);
        unit.start(address).await;
        home.write_config(&shop(address, "systemd = \"{service}.service\"").text(&home));
        let mainstay = unit.mainstay(&home).await;
        let api = mainstay.api();
        api.all_serve().await;
        unit.kill();
        let incident = api.resolved(api.first_incident().await).await;
        let found = texts(&incident, "found");
        assert!(
            found.contains("its unit shop.service has failed: it was killed for want of memory"),
            "{found}"
        );
        assert!(incident["timeline"].to_string().contains("the last line of the unit"), "{incident:#}");
        assert_eq!(unit.restarts(), 1);
        assert_eq!(http::get(mainstay.front(), "/").await.expect("an answer").status, 200);
        std::fs::write(unit.folder.join("denied"), "").expect("a file");
        unit.kill();
        newest(&api, 2).await;
        let failed = told(&api, "action-failed").await;
        assert!(
            failed.contains("its user may not restart shop.service: allow it by a rule of polkit"),
            "{failed}"
        );
    });
}

#[test]
fn a_restart_by_systemd_that_mainstay_did_not_see_the_end_of_is_looked_into() {
    run(async {
        let home = Home::new();
        let address = free_address();
        let unit = Unit::new(&home, address, true);
        unit.start(address).await;
        home.write_config(&shop(address, "systemd = \"shop.service\"").text(&home));
        let mainstay = unit.mainstay(&home).await;
        mainstay.api().all_serve().await;
        unit.kill();
        until("systemd is asked", async || (unit.restarts() == 1).then_some(())).await;
        mainstay.kill().await;
        let mainstay = unit.mainstay(&home).await;
        let done = told(&mainstay.api(), "action-done").await;
        assert!(
            done.contains("app-1 was restarted all the same: its unit shop.service has been active"),
            "{done}"
        );
        mainstay.api().resolved(mainstay.api().first_incident().await).await;
        pause(Duration::from_secs(1)).await;
        assert_eq!(unit.restarts(), 1, "and is not repeated");
    });
}

#[test]
fn a_program_that_was_cut_with_mainstay_is_neither_run_again_nor_forgotten() {
    run(async {
        let home = Home::new();
        let hook = Scripted::start(|_| Reply::Answer(204, Vec::new())).await;
        let mut app = Shop::start(&home, "app-1").await;
        let (program, noted) = bounce(&home, app.address, "sleep 300");
        let config = shop(app.address, &format!("command = [{program:?}], deadline = \"10m\""))
            .table(&format!("[alert.webhook]\nurl = \"http://{}/hook\"", hook.address));
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        app.kill();
        until("it runs", async || (!lines(&noted).is_empty()).then_some(())).await;
        mainstay.kill().await;
        let mainstay = Mainstay::again(&home).await;
        let api = mainstay.api();
        let failed = told(&api, "action-failed").await;
        assert!(
            failed.contains("whether app-1 was restarted is not known: nobody can be asked what"),
            "{failed}"
        );
        until("a person is called", async || {
            let calls = hook.seen();
            let called = |r: &[u8]| String::from_utf8_lossy(r).contains("See whether app-1 was restarted");
            calls.iter().any(|call| called(&call.body)).then_some(())
        })
        .await;
        pause(Duration::from_secs(3)).await;
        assert_eq!(lines(&noted).len(), 1, "it is not run again");
        app.up().await;
        api.server_until("shop/app-1", "serves again", serves).await;
    });
}

#[test]
fn what_stands_in_the_way_is_told_and_in_the_end_a_person_is_called() {
    run(async {
        let home = Home::new();
        let sshd = Sshd::start(&home).await;
        let hook = Scripted::start(|_| Reply::Answer(204, Vec::new())).await;
        let webhook = format!("[alert.webhook]\nurl = \"http://{}/hook\"", hook.address);
        let nothing = "command = [\"/bin/true\"]";
        for (n, (restart, wanted)) in [
            (
                format!("{nothing}, {}", sshd.over_with("client", "known-to-nobody")),
                "the host key of 127.0.0.1 is not known here",
            ),
            (
                format!("{nothing}, {}", sshd.over_with("client", "known-otherwise")),
                "127.0.0.1 shows another host key than the one that is known",
            ),
            (format!("{nothing}, {}", sshd.over_with("stranger", "known")), "127.0.0.1 does not let"),
            (
                "docker = \"shop-1\", socket = \"/nowhere/docker.sock\"".to_owned(),
                "/nowhere/docker.sock does not exist",
            ),
            ("command = [\"/nowhere/bounce\"]".to_owned(), "cannot run /nowhere/bounce"),
            (
                "command = [\"/bin/sh\", \"-c\", \"echo the disk is full; exit 3\"]".to_owned(),
                "exited with status 3; the last line it wrote: the disk is full",
            ),
            (
                "command = [\"/bin/sleep\", \"300\"], deadline = \"1s\"".to_owned(),
                "/bin/sleep did not end within 1 s (deadline) and was killed",
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let home = Home::new();
            let before = hook.seen().len();
            let config = shop(free_address(), &restart).table(&webhook);
            let mainstay = Mainstay::start(&home, &config).await;
            let failed = told(&mainstay.api(), "action-failed").await;
            assert!(failed.contains(wanted), "{restart}: {failed}");
            // What is the same for all of them is seen once.
            if n == 0 {
                told(&mainstay.api(), "budget-spent").await;
                until("a person is called", async || {
                    let calls = hook.seen();
                    let called = |r: &[u8]| String::from_utf8_lossy(r).contains("needs-person");
                    calls[before..].iter().any(|call| called(&call.body)).then_some(())
                })
                .await;
            }
        }
    });
}
