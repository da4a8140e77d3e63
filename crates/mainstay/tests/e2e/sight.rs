//! What one look from one place cannot tell. Mainstay that cannot see: its resolver dies, then its cable is pulled; what it watches
//! elsewhere is unknown then, and nobody is told that it is down. And a machine that is gone, with all that several services have there.

use serde_json::Value;

use crate::harness::http::Connection;
use crate::harness::mainstay::Mainstay;
use crate::harness::netns::{Net, OTHER_SITE, Place, ROUTER, SITE};
use crate::harness::scripted::{Reply, Scripted};
use crate::harness::site::{fine, serve};
use crate::harness::{run, until_within};

/// Certainty takes three looks that come to nothing, each as long as its timeout and five seconds after the last.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(90);

/// Mainstay as the visitor of a small Internet.
struct Observer<'n> {
    net: &'n Net,
    mainstay: Mainstay,
}

impl<'n> Observer<'n> {
    /// Starts it with the config that was written.
    async fn start(net: &'n Net) -> Self {
        let mut command = net.command(Place::Visitor, env!("CARGO_BIN_EXE_mainstay"));
        command.args(["run", "-c"]).arg(net.home().config());
        Self { net, mainstay: Mainstay::spawn(command).await }
    }

    async fn get(&self, path: &str) -> Value {
        let stream = self.net.connect(Place::Visitor, self.mainstay.admin).await;
        let answer = Connection::of(stream).send("GET", path, &[], b"").await;
        answer.expect("the API answers").json()
    }

    async fn are(&self, wanted: &[(&str, &str)]) {
        until_within(PATIENCE, &format!("monitors are {wanted:?}"), async || {
            let mut all = true;
            for (name, state) in wanted {
                all &= self.get(&format!("/api/v1/monitors/{name}")).await["state"] == *state;
            }
            all.then_some(())
        })
        .await;
    }

    async fn services_are(&self, wanted: &str) {
        until_within(PATIENCE, &format!("all services are {wanted}"), async || {
            let status = self.get("/api/v1/status").await;
            let services = status["services"].as_array().expect("a list");
            services.iter().all(|service| service["state"] == wanted).then_some(())
        })
        .await;
    }

    /// Titles of the incidents that are not over.
    async fn open(&self) -> Vec<String> {
        let answer = self.get("/api/v1/incidents").await;
        let all = answer.get("incidents").unwrap_or(&answer).as_array().expect("a list").clone();
        let open = all.iter().filter(|incident| incident["state"] != "resolved");
        open.map(|incident| incident["title"].as_str().expect("a title").to_owned()).collect()
    }

    async fn nothing_is_open(&self) {
        until_within(PATIENCE, "all incidents are over", async || self.open().await.is_empty().then_some(()))
            .await;
    }
}

#[test]
fn a_dead_resolver_and_a_pulled_cable_are_the_observers_and_page_for_no_site() {
    run(async {
        let net = Net::new();
        net.resolver(Place::Router, ROUTER, &["a.test. A 198.51.100.10", "b.test. A 198.51.100.11"]).await;
        for site in [SITE, OTHER_SITE] {
            serve(net.listen(Place::World, &format!("{site}:80")).await, None, |_| fine());
        }
        serve(net.listen(Place::Visitor, "127.0.0.1:8080").await, None, |_| fine());
        let quick = "interval = \"1s\"\ntimeout = \"2s\"\nfail = \"2 of 3\"\n";
        let monitor = |name: &str, host: &str| format!("[monitor.{name}]\nurl = \"http://{host}/\"\n{quick}");
        net.home().write_config(&format!(
            "data = {:?}\nworkers = 1\n[listen]\nhttp = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[host]\nwatch = false\n\
             [service.shop]\n[service.shop.server.app]\naddress = \"127.0.0.1:8080\"\n{}{}{}",
            net.home().data(),
            monitor("a", "a.test"),
            monitor("b", "b.test"),
            monitor("numbered", SITE)
        ));
        let observer = Observer::start(&net).await;
        observer.are(&[("a", "up"), ("b", "up"), ("numbered", "up")]).await;

        net.sh(Place::Router, "iptables -I INPUT -p udp --dport 53 -j DROP");
        observer.are(&[("a", "unknown"), ("b", "unknown")]).await;
        observer.are(&[("numbered", "up")]).await;
        let suspect = format!("this observer is suspect: its resolver {ROUTER} does not answer");
        assert_eq!(observer.open().await, [suspect]);

        // What is known by its address is judged as ever.
        net.sh(
            Place::World,
            &format!("iptables -I INPUT -d {SITE} -p tcp -j REJECT --reject-with tcp-reset"),
        );
        observer.are(&[("numbered", "down")]).await;
        net.sh(Place::World, "iptables -F INPUT");
        net.sh(Place::Router, "iptables -F INPUT");
        observer.are(&[("a", "up"), ("b", "up"), ("numbered", "up")]).await;
        observer.nothing_is_open().await;

        net.sh(Place::Router, "ip link set lan down");
        observer.are(&[("a", "unknown"), ("b", "unknown"), ("numbered", "unknown")]).await;
        let open = observer.open().await;
        assert!(open.len() == 1 && open[0].starts_with("this observer is suspect: "), "{open:?}");
        net.sh(Place::Router, "ip link set lan up");
        observer.are(&[("a", "up"), ("b", "up"), ("numbered", "up")]).await;
        observer.nothing_is_open().await;
    });
}

#[test]
fn a_machine_that_is_gone_is_one_incident_for_all_that_is_on_it_and_one_message() {
    run(async {
        let net = Net::new();
        for place in [(SITE, 80), (SITE, 81), (SITE, 82), (OTHER_SITE, 80)] {
            serve(net.listen(Place::World, &format!("{}:{}", place.0, place.1)).await, None, |_| fine());
        }
        let hook = net.listen(Place::Visitor, "127.0.0.1:9000").await;
        let hook = Scripted::on(hook, |_| Reply::Answer(204, Vec::new()));
        let server = |service: &str, name: &str, at: &str| {
            format!("[service.{service}.server.{name}]\naddress = \"{at}\"\n")
        };
        // Mainstay is on another network than they: only the looks themselves tell. The shop has a server elsewhere, the others have not.
        net.home().write_config(&format!(
            "data = {:?}\nworkers = 1\n[listen]\nhttp = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[host]\nwatch = false\n\
             [alert.webhook]\nurl = \"http://{}/hook\"\n\
             [service.shop]\nhosts = [\"shop.test\"]\n{}{}[service.api]\nhosts = [\"api.test\"]\n{}\
             [service.mail]\nhosts = [\"mail.test\"]\n{}[monitor.printer]\nurl = \"http://{SITE}:82/\"\ninterval = \"2s\"\n",
            net.home().data(),
            hook.address,
            server("shop", "app-1", &format!("{SITE}:80")),
            server("shop", "app-2", &format!("{OTHER_SITE}:80")),
            server("api", "one", &format!("{SITE}:81")),
            server("mail", "one", &format!("{SITE}:82")),
        ));
        let observer = Observer::start(&net).await;
        observer.are(&[("printer", "up")]).await;
        observer.services_are("healthy").await;

        net.sh(Place::World, &format!("iptables -I INPUT -d {SITE} -j DROP"));
        observer.are(&[("printer", "down")]).await;
        let title =
            format!("machine {SITE} is gone: nothing comes back from api/one, mail/one, shop/app-1, printer");
        let root = until_within(PATIENCE, "all that is on it is attached", async || {
            let all = observer.get("/api/v1/incidents").await;
            let all = all["incidents"].as_array().expect("a list").clone();
            let root = all.iter().find(|incident| incident["title"] == *title)?.clone();
            let part =
                |one: &&Value| one["part_of"] == root["id"] && one["diagnosis"]["cause"] == "dependency";
            (all.len() == 5 && all.iter().filter(part).count() == 4).then_some(root)
        })
        .await;
        assert_eq!((&root["severity"], &root["diagnosis"]["cause"]), (&"down".into(), &"network".into()));

        net.sh(Place::World, "iptables -F INPUT");
        observer.are(&[("printer", "up")]).await;
        observer.services_are("healthy").await;
        observer.nothing_is_open().await;
        let told = until_within(PATIENCE, "people are told that it is back", async || {
            let calls = hook.seen().into_iter().map(|call| serde_json::from_slice(&call.body).expect("JSON"));
            let calls: Vec<Value> = calls.collect();
            calls.iter().any(|call| call["type"] == "incident.resolved").then_some(calls)
        })
        .await;
        let told: Vec<_> = told.iter().map(|call| (&call["type"], &call["data"]["incident"])).collect();
        let (opened, resolved) = ("incident.opened".into(), "incident.resolved".into());
        assert_eq!(told, [(&opened, &root["id"]), (&resolved, &root["id"])], "once for all of it");
    });
}
