//! Backups end to end: made by the running program, read by restic itself, restored, and told of when they fail. With a real
//! PostgreSQL, and with Mainstay killed in the middle.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::harness::config::Config;
use crate::harness::home::Home;
use crate::harness::mainstay::{Mainstay, once};
use crate::harness::postgres::Postgres;
use crate::harness::shop::Shop;
use crate::harness::{process, run, until};

const PASSWORD: &str = "open sesame";

/// A shop's data: a folder, and in it a database that is in use.
struct Data {
    folder: PathBuf,
    database: Connection,
}

impl Data {
    fn new(home: &Home) -> Self {
        let folder = home.path().join("shop");
        fs::create_dir_all(folder.join("uploads")).expect("a folder");
        fs::write(folder.join("uploads/a.txt"), "a").expect("a file");
        fs::write(home.path().join("password"), PASSWORD).expect("a file");
        let database = Connection::open(folder.join("shop.db")).expect("a database");
        database.pragma_update(None, "journal_mode", "WAL").expect("a log");
        database
            .execute_batch("CREATE TABLE orders (what TEXT); INSERT INTO orders VALUES ('tea')")
            .expect("a table");
        Self { folder, database }
    }
}

fn config(home: &Home, shop: &Shop<'_>, more: &str) -> Config {
    let table = format!(
        "[backup.nightly]\nrepository = {:?}\npassword = {{ file = \"password\" }}\nfolders = [\"shop\"]\n\
         sqlite = [\"shop/shop.db\"]\n{more}",
        home.path().join("repository")
    );
    Config::new().external("app-1", shop.address).table(&table)
}

/// The subcommand's answer as JSON, one item a backup.
async fn backup(home: &Home, mainstay: &Mainstay, what: &str) -> Value {
    let admin = mainstay.api().address().to_string();
    let output =
        once(home, &["backup", what, "nightly", "-c", "mainstay.toml", "--admin", &admin, "--json"]).await;
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn restic(home: &Home, arguments: &[&str]) -> String {
    let output = Command::new("restic")
        .args(["--no-cache", "-r"])
        .arg(home.path().join("repository"))
        .args(arguments)
        .env("RESTIC_PASSWORD", PASSWORD)
        .output()
        .expect("Debian's restic is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "restic {arguments:?}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

fn orders(path: &Path) -> Vec<String> {
    let database = Connection::open(path).expect("a database");
    let mut statement = database.prepare("SELECT what FROM orders").expect("a table");
    statement.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("a row")).collect()
}

#[test]
fn a_backup_is_made_verified_read_by_restic_and_restored() {
    run(async {
        let home = Home::new();
        let data = Data::new(&home);
        let shop = Shop::start(&home, "app-1").await;
        let mainstay = Mainstay::start(&home, &config(&home, &shop, "")).await;

        let made = &backup(&home, &mainstay, "run").await[0];
        assert_eq!((made["ok"].as_bool(), made["files"].as_u64()), (Some(true), Some(2)), "{made}");
        let verified = &backup(&home, &mainstay, "verify").await[0];
        assert_eq!(verified["ok"], true, "{verified}");
        let note = verified["note"].as_str().unwrap_or_default();
        assert!(note.contains("1 of 2 files compared") && note.contains("1 database opens"), "{note}");

        let snapshots: Value = serde_json::from_str(&restic(&home, &["snapshots", "--json"])).expect("JSON");
        assert_eq!(snapshots[0]["short_id"], made["snapshot"]);
        assert_eq!(snapshots[0]["tags"], json!(["nightly"]));
        restic(&home, &["check", "--read-data"]);
        let target = home.path().join("by-restic");
        restic(&home, &["restore", "latest", "--target", target.to_str().expect("UTF-8")]);
        let back = target.join(data.folder.strip_prefix("/").expect("absolute"));
        assert_eq!(fs::read_to_string(back.join("uploads/a.txt")).expect("a file"), "a");
        assert_eq!(orders(&back.join("shop.db")), ["tea"]);

        // What restic writes can be restored as well.
        data.database.execute_batch("INSERT INTO orders VALUES ('coffee')").expect("a row");
        mainstay.stop().await;
        fs::write(data.folder.join("uploads/b.txt"), "b").expect("a file");
        let uploads = data.folder.join("uploads");
        restic(&home, &["backup", "--tag", "nightly", uploads.to_str().expect("UTF-8")]);
        let output = once(&home, &["backup", "restore", "nightly", "back", "-c", "mainstay.toml"]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let b = home.path().join("back").join(uploads.strip_prefix("/").expect("absolute")).join("b.txt");
        assert_eq!(fs::read_to_string(b).expect("restored"), "b");
    });
}

#[test]
fn a_broken_repository_does_not_keep_the_others_from_being_listed() {
    run(async {
        let home = Home::new();
        let _data = Data::new(&home);
        let shop = Shop::start(&home, "app-1").await;
        // The broken one comes first by its name.
        let more = format!(
            "[backup.archive]\nrepository = {:?}\npassword = {{ file = \"password\" }}\nfolders = [\"shop\"]\n",
            home.path().join("archive")
        );
        home.write_config(&config(&home, &shop, &more).text(&home));
        let made = once(&home, &["backup", "run", "--here", "-c", "mainstay.toml"]).await;
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fs::write(home.path().join("archive/config"), "not a restic config").expect("a file");

        let listed = once(&home, &["backup", "list", "-c", "mainstay.toml"]).await;
        let said = String::from_utf8_lossy(&listed.stdout);
        assert_eq!(listed.status.code(), Some(1), "{said}");
        assert!(said.contains("\n  nightly  "), "{said}");
        assert!(said.contains("\n✗ archive cannot be listed: "), "{said}");

        let listed = once(&home, &["backup", "list", "-c", "mainstay.toml", "--json"]).await;
        assert_eq!(listed.status.code(), Some(1));
        let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
        let (broken, good) = (&listed[0], &listed[1]);
        assert_eq!((&broken["backup"], &broken["snapshot"]), (&json!("archive"), &Value::Null));
        assert!(broken["error"].as_str().is_some_and(|error| !error.is_empty()), "{broken}");
        assert_eq!((&good["backup"], &good["error"]), (&json!("nightly"), &Value::Null));
        assert_eq!(good["files"], 2, "{good}");
    });
}

#[test]
fn a_backup_that_mainstay_did_not_survive_ends_with_it_and_is_made_again() {
    run(async {
        let home = Home::new();
        let data = Data::new(&home);
        let shop = Shop::start(&home, "app-1").await;
        let mainstay = Mainstay::start(&home, &config(&home, &shop, "")).await;
        let made = &backup(&home, &mainstay, "run").await[0];
        assert_eq!(made["ok"], true, "{made}");

        // The next one waits for the database, which somebody holds.
        data.database.pragma_update(None, "journal_mode", "DELETE").expect("no log");
        data.database.execute_batch("BEGIN EXCLUSIVE").expect("a lock");
        mainstay.api().post("/api/v1/backups/nightly/run", &json!({})).await;
        let worker = until("the backup's process runs", async || worker_of(mainstay.pid())).await;
        mainstay.kill().await;
        until("the backup's process ends with Mainstay", async || (!process::runs(worker)).then_some(()))
            .await;
        data.database.execute_batch("COMMIT").expect("no lock");

        let mainstay = Mainstay::again(&home).await;
        let status = mainstay.api().status().await;
        let known = &status["backups"][0]["last_good_run"]["outcome"]["result"]["Ok"]["snapshot"];
        assert_eq!(*known, made["snapshot"], "{status}");
        let again = &backup(&home, &mainstay, "run").await[0];
        assert_eq!(again["ok"], true, "{again}");
        restic(&home, &["check"]);
        mainstay.stop().await;
    });
}

/// The process that does the work of a Mainstay.
fn worker_of(parent: u32) -> Option<u32> {
    process::all().into_iter().find(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let ppid = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        ppid == Some(parent) && command.ends_with(b"backup-worker\0")
    })
}

#[test]
fn a_backup_that_fails_twice_or_cannot_be_restored_is_an_incident() {
    run(async {
        let home = Home::new();
        let data = Data::new(&home);
        let shop = Shop::start(&home, "app-1").await;
        let mainstay = Mainstay::start(&home, &config(&home, &shop, "verify-every = \"0s\"")).await;
        let hidden = home.path().join("hidden");
        fs::rename(&data.folder, &hidden).expect("the folder goes");
        for _ in 0..2 {
            let failed = &backup(&home, &mainstay, "run").await[0];
            assert_eq!(failed["ok"], false, "{failed}");
            assert!(failed["error"].as_str().unwrap_or_default().contains("is not a folder"), "{failed}");
        }
        let id = mainstay.api().first_incident().await;
        let incident = mainstay.api().incident(id).await;
        let title = incident["title"].as_str().unwrap_or_default();
        assert!(title.starts_with("backup nightly fails: ") && title.contains("is not a folder"), "{title}");

        fs::rename(&hidden, &data.folder).expect("the folder is back");
        assert_eq!(backup(&home, &mainstay, "run").await[0]["ok"], true);
        mainstay.api().resolved(id).await;

        // The repository's data is gone, as after a disk that was swapped.
        fs::remove_dir_all(home.path().join("repository/data")).expect("the data goes");
        let verified = &backup(&home, &mainstay, "verify").await[0];
        assert_eq!(verified["ok"], false, "{verified}");
        until("an incident says that it cannot be restored", async || {
            let incidents = mainstay.api().incidents().await;
            let of = |i: &Value| i["title"].as_str().is_some_and(|t| t.contains("could not be restored"));
            incidents.iter().any(of).then_some(())
        })
        .await;
        mainstay.stop().await;
    });
}

#[test]
fn a_postgresql_database_is_dumped_and_the_dump_restored() {
    run(async {
        let home = Home::new();
        let _data = Data::new(&home);
        let postgres = Postgres::start(&home).await;
        assert!(postgres.query("CREATE TABLE orders (what text)"));
        assert!(postgres.query("INSERT INTO orders VALUES ('tea')"));
        let shop = Shop::start(&home, "app-1").await;
        let url = format!(
            "postgres = [\"postgresql://postgres:secret@127.0.0.1:{}/postgres\"]",
            postgres.address().port()
        );
        let mainstay = Mainstay::start(&home, &config(&home, &shop, &url)).await;
        let made = &backup(&home, &mainstay, "run").await[0];
        assert_eq!((made["ok"].as_bool(), made["files"].as_u64()), (Some(true), Some(3)), "{made}");
        let verified = &backup(&home, &mainstay, "verify").await[0];
        assert!(verified["note"].as_str().unwrap_or_default().contains("2 databases open"), "{verified}");

        let output = once(
            &home,
            &[
                "backup",
                "restore",
                "nightly",
                "dump",
                "--path",
                "/postgresql/127.0.0.1/postgres.dump",
                "-c",
                "mainstay.toml",
            ],
        )
        .await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(postgres.query("DROP TABLE orders"));
        let restored = Command::new("pg_restore")
            .args([
                "-h",
                "127.0.0.1",
                "-U",
                "postgres",
                "-d",
                "postgres",
                "-p",
                &postgres.address().port().to_string(),
            ])
            .arg(home.path().join("dump/postgres.dump"))
            .status()
            .expect("pg_restore runs");
        assert!(restored.success());
        assert!(postgres.query("SELECT 1 / count(*) FROM orders WHERE what = 'tea'"));

        drop(postgres);
        let failed = &backup(&home, &mainstay, "run").await[0];
        let error = failed["error"].as_str().unwrap_or_default();
        assert!(error.contains("pg_dump failed") && !error.contains("secret"), "{failed}");
        mainstay.stop().await;
    });
}
