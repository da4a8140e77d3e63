//! Mainstay is killed in the middle of each kind of action on what it supervises: afterwards exactly one process runs for each
//! server, with the release that the record names, and nothing that was under way is done twice or forgotten.
//!
//! What is done elsewhere is killed where it is tested: systemd, containers and programs in `executors`, a trial in `releases`,
//! switch and fence in `switching`, a promotion in `state`, a proposal in `asking`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::api::{Api, entries, serves};
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::load::Load;
use crate::harness::mainstay::Mainstay;
use crate::harness::{process, run, until, until_within};

/// A gate in front of a program: while it is shut, whoever comes to it waits, so that an action is held in its middle.
struct Gate {
    name: &'static str,
    file: PathBuf,
    came: PathBuf,
}

impl Gate {
    fn open(home: &Home, name: &'static str) -> Self {
        Self {
            name,
            file: home.path().join(format!("{name}.shut")),
            came: home.path().join(format!("{name}.came")),
        }
    }

    /// Lines of a shell script that come to it.
    fn script(&self) -> String {
        let (came, file) = (self.came.display(), self.file.display());
        format!("echo $$ >> {came}\nwhile [ -e {file} ]; do sleep 0.05; done")
    }

    fn shut(&self) {
        std::fs::write(&self.file, "").expect("the gate can be shut");
    }

    fn release(&self) {
        std::fs::remove_file(&self.file).expect("the gate was shut");
    }

    /// How many have come to it up to now.
    fn came(&self) -> usize {
        std::fs::read_to_string(&self.came).map_or(0, |text| text.lines().count())
    }

    async fn comes(&self, count: usize) {
        let what = format!("somebody is held at {} ({count} came before)", self.name);
        until_within(COMES, &what, async || (self.came() > count).then_some(())).await;
    }
}

/// How long it takes at most until somebody comes to a gate: a trial is decided before.
const COMES: Duration = Duration::from_secs(60);

/// Kills Mainstay while somebody is held at the gate, opens it, and starts Mainstay again.
async fn killed_at(gate: &Gate, home: &Home, mainstay: Mainstay) -> Mainstay {
    mainstay.kill().await;
    gate.release();
    let mainstay = Mainstay::again(home).await;
    mainstay.api().all_serve().await;
    mainstay
}

async fn pid(api: &Api, id: &str) -> u32 {
    let server = api.server_until(id, "runs", |server| server["process"]["pid"].is_u64()).await;
    u32::try_from(server["process"]["pid"].as_u64().expect("it runs")).expect("a process id")
}

/// One process for each of them, and no other.
async fn each_runs_once(home: &Home, api: &Api, ids: &[&str]) {
    let mut wanted = Vec::new();
    for id in ids {
        wanted.push(pid(api, id).await);
    }
    wanted.sort_unstable();
    until(&format!("only {wanted:?} run"), async || {
        let mut found = home.supervised();
        found.sort_unstable();
        (found == wanted).then_some(())
    })
    .await;
}

/// The state of each release, oldest first, and what each server runs.
async fn releases(api: &Api) -> (Vec<Value>, Vec<u64>) {
    let service = api.status().await["services"][0].clone();
    let all = service["releases"]["releases"].as_array().cloned().unwrap_or_default();
    let servers = service["servers"].as_array().cloned().unwrap_or_default();
    let mut states: Vec<(u64, Value)> =
        all.iter().map(|r| (r["number"].as_u64().expect("a number"), r["state"].clone())).collect();
    states.sort_by_key(|(number, _)| *number);
    let states = states.into_iter().map(|(_, state)| state).collect();
    (states, servers.iter().map(|server| server["release"].as_u64().expect("a release")).collect())
}

#[test]
fn in_a_restart() {
    run(async {
        let home = Home::new();
        let gate = Gate::open(&home, "start");
        let shop = home.script(
            "r1",
            &format!("{}\nexec {} sample-shop \"$@\"", gate.script(), env!("CARGO_BIN_EXE_mainstay")),
        );
        let program = format!("{shop}/shop");
        let argv = |name| [&*program, "--port", "{port}", "--name", name];
        let config = Config::new().command("app-1", &argv("app-1")).command("app-2", &argv("app-2"));
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        assert_eq!(gate.came(), 2);
        gate.shut();
        process::signal(pid(&mainstay.api(), "shop/app-1").await, libc::SIGKILL);
        gate.comes(2).await;
        let incident = mainstay.api().first_incident().await;
        let mainstay = killed_at(&gate, &home, mainstay).await;
        let api = mainstay.api();
        assert_eq!(gate.came(), 5, "app-1 once more before, and each once after");
        each_runs_once(&home, &api, &["shop/app-1", "shop/app-2"]).await;
        let incident = api.resolved(incident).await;
        // Each that was begun has ended, once.
        let of =
            |kind| -> Vec<Value> { entries(&incident, kind).iter().map(|e| e["action"].clone()).collect() };
        let begun = of("action-begun");
        let done = [of("action-done"), of("action-failed")].concat();
        let ended = |action: &&Value| done.iter().filter(|d| d == action).count() == 1;
        assert!(!begun.is_empty() && begun.iter().all(|action| ended(&action)), "{incident:#}");
    });
}

#[test]
fn in_a_promotion_and_in_a_return_to_the_release_before() {
    run(async {
        let home = Home::new();
        let program = env!("CARGO_BIN_EXE_mainstay");
        let (first, second) = (Gate::open(&home, "r1"), Gate::open(&home, "r2"));
        let paths = [&first, &second].map(|gate| {
            home.script(
                gate.name,
                &format!("{}\nexec {program} sample-shop --release {} \"$@\"", gate.script(), gate.name),
            )
        });
        let config = Config::new()
            .service_lines(&format!(
                "deploy = {{ release = {:?}, min-requests = 100, min-time = \"2s\", warm = \"0s\" }}\nrecovery = {{ start-grace = \"1m\" }}",
                paths[0]
            ))
            .releasable("app-1")
            .releasable("app-2");
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        let load = Load::start(mainstay.front(), 200, "/");
        let answer = api.post("/api/v1/services/shop/deploy", &json!({ "path": paths[1] })).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        until("it is on trial", async || (releases(&api).await.0.get(1)? == "trial").then_some(())).await;
        let came = second.came();
        second.shut();
        second.comes(came).await;
        assert_eq!(releases(&api).await.0, ["current", "promoting"]);
        load.finish().await;
        let mainstay = killed_at(&second, &home, mainstay).await;
        let api = mainstay.api();
        assert_eq!(releases(&api).await, (vec![json!("former"), json!("current")], vec![2, 2]));
        each_runs_once(&home, &api, &["shop/app-1", "shop/app-2"]).await;

        let came = first.came();
        first.shut();
        let answer = api.post("/api/v1/services/shop/rollback", &json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        first.comes(came).await;
        assert_eq!(releases(&api).await.0[0], "returning");
        let mainstay = killed_at(&first, &home, mainstay).await;
        let api = mainstay.api();
        assert_eq!(releases(&api).await, (vec![json!("current"), json!("rolled-back")], vec![1, 1]));
        each_runs_once(&home, &api, &["shop/app-1", "shop/app-2"]).await;
    });
}

#[test]
fn while_an_instance_is_added() {
    run(async {
        let home = Home::new();
        let gate = Gate::open(&home, "start");
        let program = env!("CARGO_BIN_EXE_mainstay");
        let shop = home
            .script("r1", &format!("{}\nexec {program} sample-shop --delay-ms 100 \"$@\"", gate.script()));
        let config = Config::new()
            .service_lines("scale = { min = 1, max = 2, concurrency = 10, in-after = \"10m\" }")
            .command("app", &[&format!("{shop}/shop"), "--port", "{port}", "--name", "app"]);
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        gate.shut();
        let heavy = Load::start(mainstay.front(), 200, "/");
        gate.comes(1).await;
        heavy.finish().await;
        let mainstay = killed_at(&gate, &home, mainstay).await;
        each_runs_once(&home, &mainstay.api(), &["shop/app", "shop/app-2"]).await;
    });
}

#[test]
fn while_a_server_that_left_the_config_is_ended() {
    run(async {
        let home = Home::new();
        let gate = Gate::open(&home, "end");
        let script = format!(
            "trap '{}\nkill $child\nexit 0' TERM\n{} sample-shop \"$@\" &\nchild=$!\nwait $child",
            gate.script(),
            env!("CARGO_BIN_EXE_mainstay")
        );
        let program = format!("{}/shop", home.script("r1", &script));
        let argv = |name| [&*program, "--port", "{port}", "--name", name];
        let one = Config::new().supervised("app-1");
        let two = Config::new().supervised("app-1").command("app-2", &argv("app-2"));
        let mainstay = Mainstay::start(&home, &two).await;
        mainstay.api().all_serve().await;
        gate.shut();
        home.write_config(&one.text(&home));
        mainstay.signal(libc::SIGHUP);
        gate.comes(0).await;
        let mainstay = killed_at(&gate, &home, mainstay).await;
        let api = mainstay.api();
        each_runs_once(&home, &api, &["shop/app-1"]).await;
        assert!(serves(&api.server("shop/app-1").await));
        assert!(api.incidents().await.is_empty());
    });
}
