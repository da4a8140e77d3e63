//! The machine's own troubles, made for real: a disk that fills, a process that burns all processors; and too much
//! traffic, honest or not, which is told from a server's own fault.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;

use crate::durability::SmallDisk;
use crate::harness::api::entries;
use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::http::Connection;
use crate::harness::mail::MailSink;
use crate::harness::mainstay::Mainstay;
use crate::harness::program::Program;
use crate::harness::{measured, pause, process, run, until, until_within};
use crate::recovery::pid_of;

/// The machine that the tests run on is busy with them: only what a test is about may be trouble.
const CALM: &str = "cpu-high = \"100%\"\nmemory-low = \"0%\"\nsustained = \"1h\"\n";

/// The incident, open or not, whose scope has this text.
async fn incident_about(mainstay: &Mainstay, scope: &str) -> Value {
    let found = until_within(Duration::from_secs(90), "there is an incident about it", async || {
        let status = mainstay.api().status().await;
        let all = status["incidents"].as_array()?;
        all.iter().find(|incident| incident["scope"].to_string().contains(scope)).cloned()
    });
    found.await
}

fn evidence(incident: &Value) -> String {
    incident["diagnosis"]["evidence"].to_string()
}

/// Milliseconds of the machine's record in which Mainstay was looking.
async fn observed(mainstay: &Mainstay) -> u64 {
    let history = mainstay.api().get("/api/v1/host/history").await.json();
    let buckets = history["buckets"].as_array().cloned().unwrap_or_default();
    buckets.iter().filter_map(|bucket| bucket["observed_ms"].as_u64()).sum()
}

#[test]
fn a_disk_is_told_of_before_it_is_full_through_a_kill_and_is_over_when_it_is_cleaned() {
    run(async {
        let home = Home::new();
        let small = home.path().join("small");
        let disk = SmallDisk::mount(&small);
        let mut config = Config::new().external("app-1", crate::harness::free_address());
        config.host = format!("{CALM}disk-full = \"97%\"\ndisk-full-within = \"0s\"\ndisks = {small:?}\n");
        let begun = Instant::now();
        let mainstay = Mainstay::start(&home, &config).await;
        until("the figures are in the record", async || (observed(&mainstay).await >= 2000).then_some(()))
            .await;
        let filler = small.join("filler");
        std::fs::write(&filler, vec![1; 8_200_000]).expect("it fits");
        let incident = incident_about(&mainstay, small.to_str().expect("UTF-8")).await;
        assert_eq!(
            (&incident["severity"], &incident["diagnosis"]["cause"]),
            (&"degraded".into(), &"hardware".into())
        );
        assert!(
            incident["title"].as_str().is_some_and(|title| title.contains("is almost full")),
            "{incident:#}"
        );
        std::fs::write(small.join("more"), vec![1; 4096]).expect("it was told of before it was full");

        mainstay.kill().await;
        let gap = Duration::from_secs(4);
        pause(gap).await;
        let mainstay = Mainstay::again(&home).await;
        let id = incident["id"].as_u64().expect("a number");
        let before = observed(&mainstay).await;
        until("the record goes on", async || (observed(&mainstay).await >= before + 2000).then_some(()))
            .await;
        let (seen, lived) = (observed(&mainstay).await, begun.elapsed());
        assert!(
            Duration::from_millis(seen) <= lived - gap,
            "{seen} ms seen of {lived:?} with a gap of {gap:?}"
        );
        assert_ne!(mainstay.api().incident(id).await["state"], "resolved", "the disk is as full as it was");
        drop(filler);
        for file in ["filler", "more"] {
            std::fs::remove_file(small.join(file)).expect("it can be removed");
        }
        let resolved = mainstay.api().resolved(id).await;
        assert!(!entries(&resolved, "own").is_empty(), "{resolved:#}");
        let page = mainstay.api().get("/host").await.text();
        assert!(page.contains(small.to_str().expect("UTF-8")) && page.contains("File systems"), "{page}");
        let metrics = mainstay.api().get("/metrics").await.text();
        assert!(metrics.contains("mainstay_host_disk_used_bytes{mount="), "{metrics}");
        mainstay.stop().await;
        drop(disk);
    });
}

/// An ext4 in a file, of which the kernel can be told to count an error.
struct SickDisk {
    mount: PathBuf,
    /// The kernel's name of it: `loop0`.
    device: String,
}

impl SickDisk {
    fn mount(home: &Home) -> Self {
        let (image, mount) = (home.path().join("sick.img"), home.path().join("sick"));
        std::fs::create_dir_all(&mount).expect("a folder");
        std::fs::File::create(&image).and_then(|file| file.set_len(8 << 20)).expect("a file");
        let (image, at) = (image.to_str().expect("UTF-8"), mount.to_str().expect("UTF-8"));
        Self::ask("mkfs.ext4", &["-q", "-F", image]);
        Self::ask("mount", &["-o", "loop,errors=continue", image, at]);
        let device = Self::ask("findmnt", &["-no", "SOURCE", at]);
        let device = device.trim().strip_prefix("/dev/").expect("a device").to_owned();
        Self { mount, device }
    }

    fn fail(&self) {
        let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", self.device);
        std::fs::write(trigger, "a test").expect("the kernel takes it");
    }

    /// Writes until nothing more fits.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.mount.join("filler")).expect("a file");
        for size in [65536, 4096, 1024] {
            while std::io::Write::write_all(&mut file, &vec![1; size]).is_ok() {}
        }
        let _ = file.sync_all();
    }

    fn ask(program: &str, arguments: &[&str]) -> String {
        let output =
            Command::new(program).args(arguments).output().expect("util-linux and e2fsprogs are there");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "this test mounts a file and so must run as root: {program}: {said}"
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for SickDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mount).status();
    }
}

#[test]
fn an_error_of_a_file_system_is_the_hardwares_and_so_is_what_fails_then() {
    run(async {
        let home = Home::new();
        let disk = SickDisk::mount(&home);
        let name = format!("{} (ext4)", disk.device);
        let mut config = Config::new().supervised("app-1").supervised("app-2");
        config.host = CALM.into();
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        let counted = async || {
            let figures = mainstay.api().get_json("/api/v1/host").await["now"]["figures"].clone();
            let all = figures["io_errors"].as_array().cloned().unwrap_or_default();
            all.iter()
                .find(|errors| errors["device"] == *disk.device)
                .and_then(|errors| errors["count"].as_u64())
        };
        until("its errors are counted", async || (counted().await == Some(0)).then_some(())).await;
        disk.fail();
        let incident = incident_about(&mainstay, &name).await;
        assert_eq!(incident["title"], format!("the disk {name} of this machine reports 1 error"));
        assert_eq!(incident["diagnosis"]["cause"], "hardware", "{incident:#}");
        let page = mainstay.api().get("/host").await.text();
        assert!(page.contains(&format!("{name}: 1")), "{page}");
        let metrics = mainstay.api().get("/metrics").await.text();
        let metric =
            format!("mainstay_host_io_errors_total{{device=\"{}\",filesystem=\"ext4\"}} 1", disk.device);
        assert!(metrics.contains(&metric), "{metrics}");

        process::signal(pid_of(&mainstay.api().server("shop/app-2").await), libc::SIGKILL);
        let of_service = incident_about(&mainstay, "\"service\":\"shop\"").await;
        assert_eq!(of_service["diagnosis"]["cause"], "hardware", "{of_service:#}");
        assert!(evidence(&of_service).contains(&name), "{of_service:#}");
        mainstay.stop().await;
        drop(disk);
    });
}

#[test]
fn another_machine_is_known_by_its_exporter_and_what_fails_on_it_carries_its_trouble() {
    run(async {
        let home = Home::new();
        let disk = SickDisk::mount(&home);
        let address = crate::harness::free_address();
        let mut command = Command::new("/usr/bin/prometheus-node-exporter");
        command.arg(format!("--web.listen-address={address}"));
        let exporter = Program::start(&home, address, command).await;
        let nobody =
            SocketAddr::new(Ipv4Addr::new(127, 0, 0, 9).into(), crate::harness::free_address().port());
        let machine = format!(
            "[machine.db-1]\nnode-exporter = \"http://{address}/metrics\"\naddresses = \"127.0.0.9\"\ninterval = \"1s\"\n"
        );
        let mut config = Config::new().external("app-1", nobody).table(&machine);
        config.host = format!("watch = false\n{CALM}disk-full = \"97%\"\ndisk-full-within = \"0s\"\n");
        let mainstay = Mainstay::start(&home, &config).await;
        let known = async || {
            let machines = mainstay.api().get_json("/api/v1/host").await["machines"].clone();
            machines[0].clone()
        };
        let figures = until("the exporter was read twice", async || {
            let figures = known().await["now"]["figures"].clone();
            figures["cpu"].is_object().then_some(figures)
        })
        .await;
        assert!(figures["memory"]["total"].as_u64().is_some_and(|total| total > 0), "{figures:#}");
        let mount = disk.mount.to_str().expect("UTF-8").to_owned();
        let is_there =
            figures["disks"].as_array().is_some_and(|all| all.iter().any(|d| d["mount"] == *mount));
        assert!(is_there && figures["tcp"].is_object() && figures["network"].is_object(), "{figures:#}");

        disk.fill();
        let incident = incident_about(&mainstay, &mount).await;
        assert_eq!(incident["scope"]["machine"]["machine"], "db-1");
        assert!(
            incident["title"].as_str().is_some_and(|title| title.contains("of db-1 is almost full")),
            "{incident:#}"
        );
        let of_service = until("the failing server carries it", async || {
            let incident = incident_about(&mainstay, "\"service\":\"shop\"").await;
            (incident["diagnosis"]["cause"] == "hardware").then_some(incident)
        })
        .await;
        assert!(evidence(&of_service).contains("app-1 runs on db-1 and fails"), "{of_service:#}");
        let page = mainstay.api().get("/host").await.text();
        assert!(page.contains("<h2>db-1</h2>") && page.contains(&mount), "{page}");
        let metrics = mainstay.api().get("/metrics").await.text();
        assert!(metrics.contains("mainstay_machine_known{machine=\"db-1\"} 1"), "{metrics}");

        let before = mainstay.api().incidents().await.len();
        drop(exporter);
        until("nothing is known any more", async || known().await["now"].is_null().then_some(())).await;
        let status = crate::harness::mainstay::once(
            &home,
            &["status", "--admin", &format!("http://{}", mainstay.api().address())],
        )
        .await;
        let said = String::from_utf8_lossy(&status.stdout).into_owned();
        assert!(said.contains("db-1  not known: "), "{said}");
        assert_eq!(mainstay.api().incidents().await.len(), before, "that is no outage");
        mainstay.stop().await;
        drop(disk);
    });
}

/// When the machine was read around an incident, milliseconds.
async fn machine_around(mainstay: &Mainstay, id: u64) -> Vec<i64> {
    let seconds = mainstay.api().get_json(&format!("/api/v1/incidents/{id}/machine")).await;
    seconds["at"].as_array().into_iter().flatten().filter_map(Value::as_i64).collect()
}

#[test]
fn around_an_incident_the_machine_is_kept_second_by_second_from_before_it_to_after_it() {
    run(async {
        let home = Home::new();
        let mut config = Config::new().supervised("app-1").supervised("app-2");
        config.host = CALM.into();
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        until("some seconds are in the record", async || (observed(&mainstay).await >= 6000).then_some(()))
            .await;
        process::signal(pid_of(&mainstay.api().server("shop/app-2").await), libc::SIGKILL);
        let id = mainstay.api().first_incident().await;
        let resolved = mainstay.api().resolved(id).await;
        let at = |name: &str| resolved[name].as_i64().expect("a time");
        let (opened, over) = (at("opened_at"), at("resolved_at"));
        let seconds = until("the seconds after it came", async || {
            let seconds = machine_around(&mainstay, id).await;
            seconds.last().is_some_and(|last| *last >= over + 2000).then_some(seconds)
        })
        .await;
        assert!(seconds[0] <= opened - 3000, "{seconds:?} begins too late for {opened}");
        let close = seconds.windows(2).filter(|pair| (500..1500).contains(&(pair[1] - pair[0]))).count();
        assert!(close * 10 >= seconds.len() * 8, "{seconds:?} are not one a second");
        let report = mainstay.api().get_json(&format!("/api/v1/incidents/{id}/report")).await;
        let known = |figure: &str| {
            let all = report["machine"][figure].as_array().expect("a list");
            all.iter().filter(|value| value.is_number()).count()
        };
        assert!(known("cpu") * 10 >= seconds.len() * 9 && known("memory") == known("at"), "{report:#}");
        let page = mainstay.api().get(&format!("/incidents/{id}")).await.text();
        assert!(
            page.contains("<h2>The machine around it</h2>") && page.contains("class=\"moment\""),
            "{page}"
        );

        mainstay.kill().await;
        let mainstay = Mainstay::again(&home).await;
        let kept = machine_around(&mainstay, id).await;
        assert_eq!(kept[..seconds.len()], seconds, "it is in the record");
        mainstay.stop().await;
    });
}

/// Processes of one name that burn processors until this is dropped.
struct Burners(Vec<Child>);

impl Burners {
    fn start(at: &Path, name: &str, how_many: usize) -> Self {
        let program = at.join(name);
        std::fs::copy("/usr/bin/yes", &program).expect("yes(1) is there");
        let burner = || Command::new(&program).stdout(Stdio::null()).spawn().expect("it starts");
        Self((0..how_many).map(|_| burner()).collect())
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_busy_machine_is_an_incident_that_names_the_processes_and_says_so_in_a_mail() {
    run(async {
        let home = Home::new();
        let sink = MailSink::start(&home).await;
        let mut config =
            Config::new().external("app-1", crate::harness::free_address()).mail_to(sink.address);
        config.host =
            "cpu-high = \"20%\"\nmemory-low = \"0%\"\nsustained = \"3s\"\ndisk-full = \"100%\"\n".into();
        let mainstay = Mainstay::start(&home, &config).await;
        let burners = Burners::start(home.path(), "test-burner", 6);
        let named = until_within(Duration::from_secs(90), "the incident names the burner", async || {
            let incident = incident_about(&mainstay, "cpu").await;
            evidence(&incident).contains("test-burner").then_some(incident)
        })
        .await;
        assert_eq!(named["diagnosis"]["cause"], "overload");
        assert!(burners.0.iter().any(|child| evidence(&named).contains(&format!("(pid {})", child.id()))));
        let mail = until("the mail came", async || {
            sink.messages().into_iter().find(|mail| mail.header("subject").contains("processor"))
        })
        .await;
        measured("subject", mail.header("subject"));
        drop(burners);
        mainstay.stop().await;
    });
}

/// Visitors from addresses of their own, each of whom asks again and again.
struct Crowd {
    stop: Arc<AtomicBool>,
    turned_away: Arc<AtomicU64>,
    visitors: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// `pause`: between an answer and the next request.
    fn come(front: SocketAddr, addresses: u8, target: &'static str, pause_between: Duration) -> Self {
        let (stop, turned_away) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let visitor = |n: u8| {
            let (stop, turned_away) = (stop.clone(), turned_away.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let socket = TcpSocket::new_v4().expect("a socket");
                    socket.bind((Ipv4Addr::new(127, 0, 7, n), 0).into()).expect("loopback has it");
                    let Ok(stream) = socket.connect(front).await else { continue };
                    let mut connection = Connection::of(stream);
                    while !stop.load(Ordering::Relaxed) {
                        match connection.send("GET", target, &[], b"").await {
                            Ok(answer) if matches!(answer.status, 429 | 503) => {
                                turned_away.fetch_add(1, Ordering::Relaxed);
                            }
                            Ok(_) => {}
                            Err(_) => break,
                        }
                        pause(pause_between).await;
                    }
                }
            })
        };
        let visitors = (1..=addresses).map(visitor).collect();
        Self { stop, turned_away, visitors }
    }

    async fn go(self) {
        self.stop.store(true, Ordering::Relaxed);
        for visitor in self.visitors {
            visitor.await.expect("no visitor panics");
        }
    }
}

#[test]
fn too_much_honest_traffic_is_an_overload_under_which_a_server_that_hangs_is_not_restarted() {
    run(async {
        let home = Home::new();
        let config = Config::new()
            .supervised("app-1")
            .supervised("app-2")
            .service_lines("limits = { concurrent = 6, queue = 2, queue-deadline = \"100ms\" }");
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        let crowd = Crowd::come(mainstay.front(), 24, "/slow?ms=100", Duration::from_millis(20));
        let incident = incident_about(&mainstay, "shop").await;
        let id = incident["id"].as_u64().expect("a number");
        assert!(
            incident["title"].as_str().is_some_and(|t| t.starts_with("shop is overloaded:")),
            "{incident:#}"
        );
        assert_eq!(incident["diagnosis"]["cause"], "overload", "{incident:#}");
        assert!(incident["servers"].as_array().is_some_and(Vec::is_empty), "no server failed");

        let frozen = mainstay.api().server("shop/app-2").await;
        process::signal(pid_of(&frozen), libc::SIGSTOP);
        let withheld = mainstay.api().incident_with(id, "withheld").await;
        let said = entries(&withheld, "withheld")[0]["text"].to_string();
        assert!(said.contains("not restarted: shop is overloaded"), "{said}");
        pause(Duration::from_secs(2)).await;
        assert!(entries(&mainstay.api().incident(id).await, "action-begun").is_empty());
        process::signal(pid_of(&frozen), libc::SIGCONT);
        assert!(crowd.turned_away.load(Ordering::Relaxed) > 0);
        crowd.go().await;
        let resolved = mainstay.api().resolved(id).await;
        assert_eq!(resolved["diagnosis"]["cause"], "overload", "{resolved:#}");
        assert!(resolved["seen"]["shed"].as_u64().is_some_and(|shed| shed > 0));
        assert_eq!(
            pid_of(&mainstay.api().server("shop/app-2").await),
            pid_of(&frozen),
            "it was never restarted"
        );
        mainstay.stop().await;
    });
}

#[test]
fn a_flood_from_one_address_is_an_attack_that_names_it() {
    run(async {
        let home = Home::new();
        let config = Config::new()
            .supervised("app-1")
            .service_lines("limits = { per-address = \"20/s\", burst = 10 }");
        let mainstay = Mainstay::start(&home, &config).await;
        mainstay.api().all_serve().await;
        let flood = Crowd::come(mainstay.front(), 1, "/", Duration::from_millis(2));
        let incident = incident_about(&mainstay, "shop").await;
        assert_eq!(incident["diagnosis"]["cause"], "attack", "{incident:#}");
        assert!(evidence(&incident).contains("127.0.7.1 makes"), "{incident:#}");
        assert!(
            incident["title"].as_str().is_some_and(|t| t.contains("under attack: 127.0.7.1")),
            "{incident:#}"
        );
        let status = crate::harness::mainstay::once(
            &home,
            &["status", "--admin", &format!("http://{}", mainstay.api().address())],
        )
        .await;
        let said = String::from_utf8_lossy(&status.stdout).into_owned();
        assert!(said.contains("cause attack, confidence high: 127.0.7.1"), "{said}");
        flood.go().await;
        let id = incident["id"].as_u64().expect("a number");
        let resolved = mainstay.api().resolved(id).await;
        assert!(entries(&resolved, "action-begun").is_empty(), "{resolved:#}");
        mainstay.stop().await;
    });
}
