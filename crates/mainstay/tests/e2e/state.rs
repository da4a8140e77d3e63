//! Databases that keep state behind one address: writes go to the one that is the primary, follow a switchover that people make, move to
//! a replica that Mainstay promotes after the fence, and never go to two, whatever dies in the middle.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::harness::api::Api;
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::mainstay::{Mainstay, once};
use crate::harness::postgres::Postgres;
use crate::harness::shop::Shop;
use crate::harness::{run, until};

/// `a` is the primary, and `b` its replica.
struct Pair<'h> {
    home: &'h Home,
    a: Postgres,
    b: Postgres,
    _shop: Shop<'h>,
}

impl<'h> Pair<'h> {
    async fn start(home: &'h Home) -> Self {
        let a = Postgres::start(home).await;
        let b = a.replica(home).await;
        Self { home, a, b, _shop: Shop::start(home, "app-1").await }
    }

    /// Both behind one address, with these lines more.
    fn config(&self, lines: &str) -> Config {
        let servers = |service: &str| {
            let (a, b) = (self.a.address(), self.b.address());
            format!(
                "[service.{service}.server.a]\naddress = \"{a}\"\n[service.{service}.server.b]\naddress = \"{b}\"\n"
            )
        };
        Config::new().external("app-1", self._shop.address).table(&format!(
            "[service.db]\nlisten = \"tcp://127.0.0.1:0\"\nstate = \"postgres\"\nresolve-after = \"2s\"\n{lines}\n{}",
            servers("db")
        ))
    }

    /// What the fence does, noted in a file; and a promotion by Mainstay after it.
    fn switch(&self, fence: &str) -> String {
        let fence = format!("echo fence {{lead}} >> {}; {fence}", self.fenced().display());
        let fence = json!(["/bin/sh", "-c", fence]);
        format!(
            "{QUICK}\nswitch = {{ fence = {fence}, promote = \"pg_promote\", after = \"1s\", deadline = \"8s\" }}\n\
             recovery = {{ level = {{ switch = \"automatic\" }} }}"
        )
    }

    fn fenced(&self) -> PathBuf {
        self.home.path().join("fenced")
    }

    /// How often the fence was run, and for whom.
    fn fences(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.fenced()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Makes sure that `a` is dead.
    fn kill_a(&self) -> String {
        format!("kill -9 $(head -n 1 {}/postmaster.pid)", self.a.folder().display())
    }

    /// Whoever acknowledges waits for the replica, so that nothing acknowledged is on one of them alone.
    fn acknowledge_together(&self) {
        assert!(self.a.query("CREATE TABLE orders (n int)"));
        assert!(self.a.query("ALTER SYSTEM SET synchronous_standby_names = '*'"));
        assert!(self.a.query("SELECT pg_reload_conf()"));
    }
}

const QUICK: &str =
    "health = { postgres = { user = \"postgres\" }, interval = \"500ms\", rise = 2, fall = 2 }";

async fn is_replica(at: SocketAddr) -> Option<bool> {
    match Postgres::ask(at, "SELECT pg_is_in_recovery()").await.out.trim() {
        "t" => Some(true),
        "f" => Some(false),
        _ => None,
    }
}

async fn count(at: SocketAddr) -> usize {
    Postgres::ask(at, "SELECT count(*) FROM orders").await.out.trim().parse().unwrap_or(0)
}

/// Writes through `at` until it is stopped; what was acknowledged.
async fn writes(at: SocketAddr, mut stop: watch::Receiver<bool>) -> Vec<u32> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if *stop.borrow_and_update() {
            break;
        }
        let done = Postgres::ask(at, &format!("INSERT INTO orders VALUES ({number})")).await;
        if done.status == Some(0) {
            acknowledged.push(number);
        }
    }
    acknowledged
}

async fn db(api: &Api) -> Value {
    let status = api.status().await;
    let services = status["services"].as_array().expect("services");
    services.iter().find(|service| service["id"] == "db").expect("the service").clone()
}

async fn notes(api: &Api) -> (Value, Value) {
    (api.server("db/a").await["note"].clone(), api.server("db/b").await["note"].clone())
}

/// Waits until `a` leads, and `b` is known to receive from it.
async fn settled(api: &Api) {
    until("a leads and b stands by", async || {
        let well = async |id| api.server(id).await["health"] == "healthy";
        let known = notes(api).await == (json!("lead"), json!("standby"));
        let receives = api.server("db/b").await["data"]["receives"] == true;
        (known && receives && well("db/a").await && well("db/b").await).then_some(())
    })
    .await;
}

async fn ended(api: &Api) -> Value {
    until("the switch has ended", async || {
        let last = db(api).await["switch"]["last"].clone();
        (!last["end"].is_null()).then_some(last)
    })
    .await
}

/// What stands in the timeline of the service's last incident.
async fn told(api: &Api) -> String {
    let incidents = api.incidents().await;
    let newest = incidents.iter().filter_map(|incident| incident["id"].as_u64()).max().expect("an incident");
    api.incident(newest).await["timeline"].to_string()
}

#[test]
fn a_primary_is_killed_under_a_writer_and_its_replica_is_fenced_promoted_and_alone_written_to() {
    run(async {
        let home = Home::new();
        let mut pair = Pair::start(&home).await;
        let mainstay = Mainstay::start(&home, &pair.config(&pair.switch(&pair.kill_a()))).await;
        let (at, api) = (mainstay.tcp()[0], mainstay.api());
        settled(&api).await;
        pair.acknowledge_together();
        let (stop, stopped) = watch::channel(false);
        let writer = tokio::spawn(writes(at, stopped));
        until("orders come in", async || (count(pair.a.address()).await > 20).then_some(())).await;
        assert_eq!(is_replica(at).await, Some(false));
        pair.a.kill();
        let last = ended(&api).await;
        assert_eq!(
            (&last["end"]["error"], &last["from"], &last["to"]),
            (&Value::Null, &json!("db/a"), &json!("db/b"))
        );
        assert_eq!(pair.fences(), ["fence a"]);
        let before = count(pair.b.address()).await;
        until("writes follow", async || (count(pair.b.address()).await > before + 5).then_some(())).await;

        // The old one comes back, believes itself to be the primary, and would take writes from anybody.
        pair.a.again().await;
        assert!(pair.a.query("ALTER SYSTEM SET synchronous_standby_names = ''"));
        assert!(pair.a.query("SELECT pg_reload_conf()"));
        let old = count(pair.a.address()).await;
        until("it is kept out", async || {
            (notes(&api).await == (json!("kept-out"), json!("lead"))).then_some(())
        })
        .await;
        let now = count(pair.b.address()).await;
        until("many more are written", async || (count(pair.b.address()).await > now + 30).then_some(()))
            .await;
        let trouble = "two primaries of db: a beside b; writes go to b alone";
        assert_eq!(db(&api).await["lead"]["trouble"], trouble);
        assert!(told(&api).await.contains(trouble));
        let admin = mainstay.admin.to_string();
        let status = once(&home, &["status", "--admin", &admin]).await;
        let status = String::from_utf8_lossy(&status.stdout).into_owned();
        assert!(status.contains(trouble) && status.contains("kept out"), "{status}");

        // It is written down who leads.
        mainstay.kill().await;
        stop.send(true).expect("it is heard");
        let acknowledged = writer.await.expect("no panic");
        let mainstay = Mainstay::again(&home).await;
        let (at, api) = (mainstay.tcp()[0], mainstay.api());
        until("b leads", async || (notes(&api).await == (json!("kept-out"), json!("lead"))).then_some(()))
            .await;
        Postgres::ask(at, "INSERT INTO orders VALUES (-1)").await.good();
        assert_eq!(count(pair.a.address()).await, old, "nobody wrote to both");
        let kept = Postgres::ask(pair.b.address(), "SELECT n FROM orders").await.out;
        let kept: BTreeSet<i64> = kept.lines().filter_map(|n| n.parse().ok()).collect();
        let lost: Vec<_> = acknowledged.iter().filter(|n| !kept.contains(&i64::from(**n))).collect();
        assert!(lost.is_empty() && kept.contains(&-1), "acknowledged and gone: {lost:?}");

        // Made a replica of the new one, it stands by without a further word.
        pair.a.follow(&pair.b).await;
        until("it stands by", async || {
            (notes(&api).await == (json!("standby"), json!("lead"))).then_some(())
        })
        .await;
        let newest = api.incidents().await.iter().filter_map(|incident| incident["id"].as_u64()).max();
        api.resolved(newest.expect("an incident")).await;
        assert_eq!(pair.fences().len(), 1);
    });
}

#[test]
fn a_switchover_that_people_make_moves_writes_and_reads_without_an_incident() {
    run(async {
        let home = Home::new();
        let mut pair = Pair::start(&home).await;
        // A restart on purpose takes a moment, which is no outage here.
        let patient = "health = { postgres = { user = \"postgres\" }, interval = \"300ms\", reprobe = \"300ms\", fall = 100 }";
        let (a, b) = (pair.a.address(), pair.b.address());
        let reads = format!(
            "[service.reads]\nlisten = \"tcp://127.0.0.1:0\"\nstate = {{ kind = \"postgres\", serves = \"reads\" }}\n\
             slow-start = \"0s\"\n{patient}\n\
             [service.reads.server.a]\naddress = \"{a}\"\n[service.reads.server.b]\naddress = \"{b}\"\n"
        );
        let mainstay = Mainstay::start(&home, &pair.config(patient).table(&reads)).await;
        let api = mainstay.api();
        settled(&api).await;
        let (writes_at, reads_at) = (mainstay.tcp()[0], mainstay.tcp()[1]);
        assert_eq!(is_replica(writes_at).await, Some(false));
        until("reads go to the replica", async || (is_replica(reads_at).await == Some(true)).then_some(()))
            .await;
        Postgres::ask(writes_at, "CREATE TABLE orders (n int)").await.good();

        pair.a.stop().await;
        assert!(pair.b.query("SELECT pg_promote()"));
        pair.a.follow(&pair.b).await;
        until("the writes have moved", async || {
            (notes(&api).await == (json!("standby"), json!("lead"))).then_some(())
        })
        .await;
        Postgres::ask(writes_at, "INSERT INTO orders VALUES (1)").await.good();
        assert_eq!(count(pair.b.address()).await, 1);
        until("reads have moved too", async || {
            let there = Postgres::ask(reads_at, "SELECT inet_server_port()").await;
            (there.out.trim() == a.port().to_string()).then_some(())
        })
        .await;
        let of_db =
            api.incidents().await.into_iter().filter(|incident| incident["scope"].to_string().contains("db"));
        assert_eq!(of_db.count(), 0, "{:?}", api.incidents().await);
        assert_eq!(db(&api).await["lead"]["term"], 1);
    });
}

#[test]
fn a_fence_that_fails_promotes_nobody_until_a_person_vouches_for_it() {
    run(async {
        let home = Home::new();
        let pair = Pair::start(&home).await;
        let mainstay = Mainstay::start(&home, &pair.config(&pair.switch("exit 1"))).await;
        let api = mainstay.api();
        settled(&api).await;
        pair.a.kill();
        let last = ended(&api).await;
        assert_eq!(
            last["end"]["error"],
            "nothing was switched, because the fence failed: exited with status 1"
        );
        until("a person is called", async || {
            mainstay.log().iter().any(|line| line.contains("needs-person")).then_some(())
        })
        .await;
        assert_eq!((is_replica(pair.b.address()).await, pair.fences().len()), (Some(true), 1));
        assert_eq!(db(&api).await["lead"]["server"], "db/a");
        let admin = mainstay.admin.to_string();
        let vouched =
            once(&home, &["switch", "db", "--fenced", "--wait", "--by", "ada", "--admin", &admin]).await;
        assert_eq!(String::from_utf8_lossy(&vouched.stdout), "the switch of db succeeded\n", "{vouched:?}");
        assert_eq!((is_replica(mainstay.tcp()[0]).await, pair.fences().len()), (Some(false), 1));
    });
}

#[test]
fn mainstay_killed_while_the_fence_runs_promotes_nobody_and_sessions_were_cut_before() {
    run(async {
        let home = Home::new();
        let pair = Pair::start(&home).await;
        let mainstay = Mainstay::start(&home, &pair.config(&pair.switch("sleep 300"))).await;
        let api = mainstay.api();
        settled(&api).await;
        let session = tokio::spawn(Postgres::ask(mainstay.tcp()[0], "SELECT pg_sleep(300)"));
        until("it is under way", async || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(300)'";
            (Postgres::ask(pair.a.address(), sql).await.out.trim() == "1").then_some(())
        })
        .await;
        // It takes no new connections, and those that it has go on.
        pair.a.signal(libc::SIGSTOP);
        until("the fence runs", async || (pair.fences().len() == 1).then_some(())).await;
        assert_eq!(session.await.expect("no panic").status, Some(2), "nothing more is written there");
        mainstay.kill().await;
        let mainstay = Mainstay::again(&home).await;
        let last = ended(&mainstay.api()).await;
        let why = last["end"]["error"].as_str().expect("it did not succeed");
        assert!(why.contains("Mainstay was restarted while the fence ran; nothing was switched"), "{why}");
        crate::harness::pause(std::time::Duration::from_secs(3)).await;
        assert_eq!((pair.fences().len(), is_replica(pair.b.address()).await), (1, Some(true)), "nor again");
        // Its session would have its time otherwise.
        pair.a.kill();
    });
}

#[test]
fn mainstay_killed_while_it_promotes_asks_the_servers_and_repeats_nothing() {
    for took_effect in [false, true] {
        run(async {
            let home = Home::new();
            let pair = Pair::start(&home).await;
            // The replica stops answering right after the fence: the promotion hangs.
            let fence = format!(
                "{}; kill -STOP $(head -n 1 {}/postmaster.pid)",
                pair.kill_a(),
                pair.b.folder().display()
            );
            let mainstay = Mainstay::start(&home, &pair.config(&pair.switch(&fence))).await;
            let api = mainstay.api();
            settled(&api).await;
            pair.a.kill();
            until("it is being promoted", async || {
                let last = db(&api).await["switch"]["last"].clone();
                (last["to"] == "db/b" && last["end"].is_null()).then_some(())
            })
            .await;
            mainstay.kill().await;
            pair.b.signal(libc::SIGCONT);
            if took_effect {
                assert!(pair.b.query("SELECT pg_promote()"));
            }
            let mainstay = Mainstay::again(&home).await;
            let last = ended(&mainstay.api()).await;
            let lead = db(&mainstay.api()).await["lead"]["server"].clone();
            match took_effect {
                true => assert_eq!((&last["end"]["error"], &lead), (&Value::Null, &json!("db/b"))),
                false => {
                    let why =
                        "Mainstay was restarted while it ran, and it did not take effect; b is a replica";
                    assert_eq!((&last["end"]["error"], &lead), (&json!(why), &json!("db/a")));
                    until("a person is called", async || {
                        mainstay.log().iter().any(|line| line.contains("needs-person")).then_some(())
                    })
                    .await;
                }
            }
            crate::harness::pause(std::time::Duration::from_secs(3)).await;
            assert_eq!(is_replica(pair.b.address()).await, Some(!took_effect));
            assert_eq!(pair.fences().len(), 1);
        });
    }
}
