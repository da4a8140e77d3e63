//! Servers that cannot be brought back and are replaced: by one more process, by programs of the user's that start a real server,
//! and by containers of a real Docker Engine; with Mainstay killed in the middle.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::harness::api::{Api, entries, serves};
use crate::harness::config::Config;
use crate::harness::docker::Engine;
use crate::harness::home::Home;
use crate::harness::mainstay::Mainstay;
use crate::harness::scripted::{Reply, Scripted};
use crate::harness::shop::Shop;
use crate::harness::{free_address, http, pause, process, run, until};

const AUTOMATIC: &str = "recovery = { level = { replace = \"automatic\" }, budget = 1, delay-base = \"100ms\", start-grace = \"2s\" }";

fn script(path: &Path, text: &str) -> String {
    std::fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("a file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    path.to_str().expect("UTF-8").to_owned()
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// The newest replacement of the shop.
async fn newest(api: &Api) -> Option<Value> {
    api.status().await["services"][0]["substitutes"].as_array()?.first().cloned()
}

async fn stage(api: &Api, wanted: &str) -> Value {
    until(wanted, async || newest(api).await.filter(|one| one["stage"] == wanted)).await
}

/// A provider of the test's own: it starts a sample shop at one address, and remembers what it was told.
struct Provider {
    folder: PathBuf,
    address: SocketAddr,
}

impl Provider {
    /// `before`: what `create` does before it tells of the instance.
    fn new(home: &Home, before: &str) -> Self {
        let folder = home.path().join("provider");
        std::fs::create_dir(&folder).expect("a folder");
        let address = free_address();
        let (at, program) = (folder.display(), env!("CARGO_BIN_EXE_mainstay"));
        let made = format!("{{\"id\": \"vm-1\", \"address\": \"{address}\"}}");
        // Whoever makes machines is no child of Mainstay's.
        script(
            &folder.join("create"),
            &format!(
                "cat >> {at}/told\n\
                 env -u MAINSTAY_SUPERVISED setsid {program} sample-shop --port {port} --name new > /dev/null 2>&1 &\n\
                 echo $! > {at}/pid\n{before}\necho here it is\necho '{made}'",
                port = address.port(),
            ),
        );
        script(
            &folder.join("list"),
            &format!("cat >> {at}/told\nif [ -e {at}/pid ]; then echo '{made}'; fi"),
        );
        script(&folder.join("destroy"), &format!("cat >> {at}/told\nkill $(cat {at}/pid) && rm {at}/pid"));
        Self { folder, address }
    }

    fn config(&self, keys: &[&str]) -> String {
        let programs = keys.iter().map(|key| format!("{key} = [{:?}]", self.folder.join(key)));
        let programs = programs.collect::<Vec<_>>().join(", ");
        format!(
            "{AUTOMATIC}\nreplace = {{ command = {{ {programs} }}, after = \"1s\", deadline = \"10m\", destroy-after = \"1s\" }}"
        )
    }

    /// How often it was told to do this.
    fn told(&self, task: &str) -> usize {
        let is = |line: &&String| serde_json::from_str::<Value>(line).expect("JSON")["task"] == task;
        lines(&self.folder.join("told")).iter().filter(is).count()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        if let Some(pid) = lines(&self.folder.join("pid")).first().and_then(|pid| pid.parse().ok()) {
            process::signal(pid, libc::SIGKILL);
        }
    }
}

#[test]
fn a_server_that_is_gone_is_replaced_by_a_program_and_comes_back_by_a_persons_word() {
    run(async {
        let home = Home::new();
        let [mut gone, other] = [Shop::start(&home, "app-1").await, Shop::start(&home, "app-2").await];
        let provider = Provider::new(&home, "");
        let config = Config::new()
            .external("app-1", gone.address)
            .external("app-2", other.address)
            .service_lines(&provider.config(&["create", "destroy", "list"]));
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        gone.kill();
        let one = stage(&api, "serving").await;
        let id = one["id"].as_str().expect("its name").to_owned();
        assert_eq!(one["made"]["id"], "vm-1");
        api.server_until(&id, "serves", serves).await;
        let incident = api.resolved(api.first_incident().await).await;
        let text = incident["timeline"].to_string();
        assert!(text.contains("was made: vm-1 at") && text.contains("takes the place of app-1"), "{text}");
        until("requests reach it", async || {
            let answer = http::get(mainstay.front(), "/stats").await.ok()?;
            (answer.json()["name"] == "new").then_some(())
        })
        .await;
        let old = api.server("shop/app-1").await;
        assert_eq!(old["note"], "replaced", "{old:#}");

        // It is remembered.
        mainstay.kill().await;
        let mainstay = Mainstay::again(&home).await;
        let api = mainstay.api();
        api.server_until(&id, "serves still", serves).await;
        assert_eq!(provider.told("create"), 1);

        // It is not the old one's turn before a person says so.
        gone.up().await;
        pause(Duration::from_secs(3)).await;
        assert!(!serves(&api.server("shop/app-1").await));
        assert_eq!(api.set_admin("shop/app-1", "ready").await.status, 200);
        api.server_until("shop/app-1", "serves again", serves).await;
        stage(&api, "over").await;
        assert_eq!((provider.told("create"), provider.told("destroy")), (1, 1));
        assert!(http::get(provider.address, "/healthz").await.is_err(), "it is gone");
    });
}

#[test]
fn a_mainstay_killed_while_an_instance_is_made_asks_for_it_and_makes_no_second_one() {
    run(async {
        let home = Home::new();
        let [mut gone, other] = [Shop::start(&home, "app-1").await, Shop::start(&home, "app-2").await];
        let provider = Provider::new(&home, "sleep 300");
        let config = Config::new()
            .external("app-1", gone.address)
            .external("app-2", other.address)
            .service_lines(&provider.config(&["create", "destroy", "list"]));
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        gone.kill();
        until("it is being made", async || (provider.folder.join("pid").exists()).then_some(())).await;
        mainstay.kill().await;
        let mainstay = Mainstay::again(&home).await;
        let api = mainstay.api();
        let one = stage(&api, "serving").await;
        api.server_until(one["id"].as_str().expect("its name"), "serves", serves).await;
        assert_eq!((provider.told("create"), provider.told("list")), (1, 1));
    });
}

#[test]
fn an_instance_of_which_nobody_can_tell_is_a_persons_to_find() {
    run(async {
        let home = Home::new();
        let hook = Scripted::start(|_| Reply::Answer(204, Vec::new())).await;
        let [mut gone, other] = [Shop::start(&home, "app-1").await, Shop::start(&home, "app-2").await];
        let provider = Provider::new(&home, "sleep 300");
        let config = Config::new()
            .external("app-1", gone.address)
            .external("app-2", other.address)
            .service_lines(&provider.config(&["create"]))
            .table(&format!("[alert.webhook]\nurl = \"http://{}/hook\"", hook.address));
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        gone.kill();
        until("it is being made", async || (provider.folder.join("pid").exists()).then_some(())).await;
        mainstay.kill().await;
        let mainstay = Mainstay::again(&home).await;
        until("a person is called", async || {
            let called =
                |r: &[u8]| String::from_utf8_lossy(r).contains("was made is not known: nobody can be asked");
            hook.seen().iter().any(|call| called(&call.body)).then_some(())
        })
        .await;
        let one = stage(&mainstay.api(), "over").await;
        assert!(one["error"].as_str().is_some_and(|error| error.contains("is not known")), "{one:#}");
        pause(Duration::from_secs(3)).await;
        assert_eq!(provider.told("create"), 1, "it is not made again");
    });
}

#[test]
fn a_supervised_server_that_does_not_stay_up_gets_one_more_process() {
    run(async {
        let home = Home::new();
        // It starts as long as nobody has spoilt it.
        let spoilt = home.path().join("spoilt");
        let program = env!("CARGO_BIN_EXE_mainstay");
        let text = format!(
            "[ -e {} ] && exit 1; exec {program} sample-shop --port $1 --name app-1",
            spoilt.display()
        );
        let shop = script(&home.path().join("shop"), &text);
        let config = Config::new()
            .command("app-1", &[&shop, "{port}"])
            .supervised("app-2")
            .service_lines(&format!("{AUTOMATIC}\nreplace = {{ process = \"app-2\" }}"));
        let mainstay = Mainstay::start(&home, &config).await;
        let api = mainstay.api();
        api.all_serve().await;
        std::fs::write(&spoilt, "").expect("a file");
        let pid = api.server("shop/app-1").await["process"]["pid"].as_u64().expect("it runs");
        process::signal(u32::try_from(pid).expect("a process id"), libc::SIGKILL);
        let one = stage(&api, "serving").await;
        let id = one["id"].as_str().expect("its name").to_owned();
        api.server_until(&id, "serves", serves).await;
        let incident = api.resolved(api.first_incident().await).await;
        assert_eq!(entries(&incident, "budget-spent").len(), 1, "{incident:#}");
        mainstay.kill().await;
        let mainstay = Mainstay::again(&home).await;
        mainstay.api().server_until(&id, "serves still", serves).await;
        assert!(!serves(&mainstay.api().server("shop/app-1").await));
    });
}

#[test]
fn a_container_takes_the_place_of_a_server_and_is_made_once_however_mainstay_ends() {
    run(async {
        let home = Home::new();
        let engine = Engine::start(&home).await;
        let [mut gone, other] = [Shop::start(&home, "app-1").await, Shop::start(&home, "app-2").await];
        let command = "echo ok > /www/healthz; exec httpd -f -p 127.0.0.1:{port} -h /www";
        let docker = format!(
            "docker = {{ image = \"box:1\", command = [\"sh\", \"-c\", {command:?}], network = \"host\", socket = {:?} }}",
            engine.socket
        );
        let replace =
            format!("{AUTOMATIC}\nreplace = {{ {docker}, after = \"1s\", destroy-after = \"0s\" }}");
        let config = Config::new()
            .external("app-1", gone.address)
            .external("app-2", other.address)
            .service_lines(&replace);
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        // The Engine takes the question, and answers nobody before Mainstay is killed.
        engine.signal(libc::SIGSTOP);
        gone.kill();
        stage(&mainstay.api(), "making").await;
        pause(Duration::from_millis(500)).await;
        mainstay.kill().await;
        engine.signal(libc::SIGCONT);
        let mainstay = Mainstay::again(&home).await;
        let api = mainstay.api();
        let one = stage(&api, "serving").await;
        api.server_until(one["id"].as_str().expect("its name"), "serves", serves).await;
        let of_the_shop = || engine.ids("label=mainstay.server=shop/app-1");
        assert_eq!(of_the_shop().len(), 1, "{:?}", of_the_shop());
        gone.up().await;
        assert_eq!(api.set_admin("shop/app-1", "ready").await.status, 200);
        stage(&api, "over").await;
        assert!(of_the_shop().is_empty(), "{:?}", of_the_shop());
        api.server_until("shop/app-1", "serves again", serves).await;
    });
}
