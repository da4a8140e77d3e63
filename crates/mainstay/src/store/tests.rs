//! The record on real files: killed, full, locked, damaged, restarted.

mod days;
mod pace;
mod publications;
mod results;
mod seconds;
mod year;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mainstay_model::change::{Change, ChangeKind};
use mainstay_model::effect::{ActionKind, ActionOrder, Launch, Notice, NoticeKind, Record};
use mainstay_model::escalation::{Recipient, Way};
use mainstay_model::incident::{
    EntryKind, Incident, IncidentState, Scope, Severity, TimelineEntry, VisitorsSaw,
};
use mainstay_model::input::{AdminState, FailureKind};
use mainstay_model::lead::LeadRecord;
use mainstay_model::substitute::{Made, Stage, Substitute};
use mainstay_model::{ActionId, IncidentId, ServerId, ServiceId, Wall};
use proptest::prelude::*;
use tokio::sync::oneshot;

use super::*;
use crate::alert::Channel;

/// 2026-11-22 08:00:00 UTC.
const EIGHT: i64 = 1_795_334_400_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 3_600_000;
/// No condition that a test waits for takes nearly as long.
const DEADLINE: Duration = Duration::from_secs(60);

fn open(data: &Path) -> (Store, Restored, Vec<Delivery>) {
    Store::open(data, Retention::default()).expect("the record opens")
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn answer(mut receiver: oneshot::Receiver<Result<(), StoreError>>) -> Result<(), StoreError> {
    wait_for("the writer's answer", || match receiver.try_recv() {
        Ok(answer) => Some(answer),
        Err(oneshot::error::TryRecvError::Empty) => None,
        Err(error) => panic!("no answer: {error}"),
    })
}

fn write(store: &Store, changes: Vec<Write>) {
    answer(store.write(changes)).expect("it is written");
}

fn ask<T>(question: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(question)
}

fn shop() -> ServiceId {
    ServiceId::new("shop")
}

fn app(n: u32) -> ServerId {
    shop().server(format!("app-{n}"))
}

fn incident(id: u64) -> Incident {
    Incident {
        id: IncidentId(id),
        scope: Scope::Service(shop()),
        title: "app-2 of shop was killed by SIGKILL".to_owned(),
        state: IncidentState::Open,
        severity: Severity::Degraded,
        servers: vec![app(2)],
        began_at: Wall(EIGHT),
        opened_at: Wall(EIGHT + 1),
        diverted_at: None,
        recovered_at: None,
        resolved_at: None,
        acknowledged: None,
        seen: VisitorsSaw::default(),
        timeline: Vec::new(),
        acted_at: None,
        impact: mainstay_model::impact::Impact::default(),
        curve: mainstay_model::impact::Curve::default(),
        diagnosis: None,
        changes: Vec::new(),
        escalation: Default::default(),
        part_of: None,
        affected: Vec::new(),
        affected_left_out: 0,
        drill: None,
        timeline_left_out: 0,
    }
}

fn resolved(id: u64, at: Wall) -> Incident {
    Incident { state: IncidentState::Resolved, resolved_at: Some(at), ..incident(id) }
}

fn entry(at: i64, text: &str) -> TimelineEntry {
    TimelineEntry {
        at: Wall(EIGHT + at),
        kind: EntryKind::ProcessExited,
        server: Some(app(2)),
        action: None,
        text: text.to_owned(),
        times: 1,
        sample: None,
    }
}

fn change(at: Wall, what: &str) -> Change {
    let what = what.to_owned();
    Change { at, kind: ChangeKind::Told, service: Some(shop()), what, by: "ci".to_owned() }
}

fn delivery(row: i64, incident: u64) -> Delivery {
    let notice = Notice {
        incident: IncidentId(incident),
        kind: NoticeKind::Opened,
        severity: Severity::Degraded,
        title: "app-2 of shop was killed by SIGKILL".to_owned(),
        scope: "shop".to_owned(),
        began_at: Wall(EIGHT),
        at: Wall(EIGHT + 5),
        seen: VisitorsSaw::default(),
        impact: mainstay_model::impact::Impact::default(),
        timeline: vec![entry(0, "was killed")],
        advice: String::new(),
        to: Vec::new(),
        asked: Vec::new(),
        acknowledged_by: None,
        diagnosis: None,
        chain: None,
        affected: Vec::new(),
        last_change: None,
    };
    let to = Recipient { way: Way::Email, address: "ops@example.com".into(), name: "Ops".into() };
    Delivery { row, channel: Channel::Email, to: Some(to), notice, attempts: 0 }
}

fn tried(row: i64, at: Wall, attempts: u32, error: Option<&str>, done: bool) -> Write {
    let error = error.map(str::to_owned);
    Write::OutboxTried { row, at, attempts, error, done, held_back: false, reference: None, spent: 0 }
}

fn intent(id: u64, kind: ActionKind, incident: Option<u64>, at: Wall) -> Write {
    let incident = incident.map(IncidentId);
    let order = ActionOrder {
        id: ActionId(id),
        incident,
        server: app(2),
        kind,
        launch: Launch::own(&app(2)),
        reason: "it was killed".to_owned(),
    };
    Write::Intent { order, at }
}

fn bucket(minute: i64, ok: u64) -> ServerBucket {
    let mut bucket = ServerBucket::empty(app(1), Wall(EIGHT + minute * MINUTE));
    bucket.ok = ok;
    bucket.observed_ms = 50_000;
    bucket.failures = BTreeMap::from([(FailureKind::Refused, ok / 2)]);
    bucket.failures.retain(|_, n| *n > 0);
    for n in 0..ok {
        bucket.latency.record_us(1_000 + n * 37u64);
    }
    bucket
}

fn minute(servers: Vec<ServerBucket>) -> Write {
    Write::Minute { servers, services: Vec::new() }
}

fn history(store: &Store, step: Step) -> Vec<ServerBucket> {
    let reader = store.reader();
    ask(reader.server_history(&app(1), step, Wall(0), Wall(EIGHT * 2))).expect("it can be read")
}

fn count(store: &Store, table: &str) -> i64 {
    let connection =
        schema::open_reader(&store.path, Duration::from_secs(5)).expect("the record can be read");
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("a count")
}

/// Tells the record the time until its housekeeping for that time is done.
fn keep_house(store: &Store, now: Wall, done: impl Fn() -> bool) {
    write(store, vec![Write::Alive(now)]);
    wait_for("the housekeeping", || done().then_some(()));
}

#[test]
fn what_was_written_is_what_the_next_run_is_told() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, first, pending) = open(data.path());
    assert_eq!((first, pending), (Restored::default(), Vec::new()));
    let now = wall_now();
    let row = store.next_outbox_row();
    let sent = store.next_outbox_row();
    write(
        &store,
        vec![
            Write::Record(Record::Incident(resolved(1, Wall(EIGHT)))),
            Write::Record(Record::Incident(incident(2))),
            Write::Record(Record::Entry { incident: IncidentId(2), place: 0, entry: entry(0, "was killed") }),
            Write::Record(Record::Entry { incident: IncidentId(2), place: 1, entry: entry(9, "once") }),
            Write::Record(Record::Entry { incident: IncidentId(2), place: 1, entry: entry(9, "twice") }),
            Write::Record(Record::Admin { server: app(1), state: AdminState::Maintenance }),
            Write::Record(Record::Admin { server: app(3), state: AdminState::Draining }),
            Write::Record(Record::Admin { server: app(3), state: AdminState::Ready }),
            Write::Record(Record::Change(change(Wall(now.0 - 25 * HOUR), "long ago"))),
            Write::Record(Record::Change(change(now, "deployed v42"))),
            intent(1, ActionKind::Start, None, now),
            intent(2, ActionKind::Restart, Some(1), Wall(now.0 - 25 * HOUR)),
            intent(3, ActionKind::Restart, Some(2), now),
            Write::Record(Record::ActionEnded { action: ActionId(1), at: now, error: None }),
            Write::Record(Record::ActionEnded { action: ActionId(2), at: now, error: Some("no".into()) }),
            Write::Outbox { delivery: delivery(row, 2), at: now },
            Write::Outbox { delivery: delivery(sent, 2), at: now },
            tried(row, now, 3, Some("421"), false),
            tried(sent, now, 1, None, true),
            Write::Alive(now),
        ],
    );
    store.close();

    let (store, restored, pending) = open(data.path());
    let timeline = vec![entry(0, "was killed"), entry(9, "twice")];
    assert_eq!(restored.incidents, [Incident { timeline, ..incident(2) }]);
    assert_eq!((restored.last_incident, restored.last_action), (2, 3));
    assert_eq!(restored.admin, BTreeMap::from([(app(1), AdminState::Maintenance)]));
    assert_eq!(restored.restarts, [(app(2), now)]);
    assert_eq!(restored.changes, [change(now, "deployed v42")]);
    assert_eq!(restored.unfinished, [(ActionId(3), app(2))]);
    assert_eq!(restored.last_alive, Some(now));
    assert_eq!(pending, [Delivery { attempts: 3, ..delivery(row, 2) }]);
    assert_eq!(store.next_outbox_row(), sent + 1);
    let heads = ask(store.reader().incidents(None, 10)).expect("it can be read");
    assert_eq!(heads.iter().map(|i| (i.id.0, i.timeline.len())).collect::<Vec<_>>(), [(2, 0), (1, 0)]);
    let older = ask(store.reader().incidents(Some(IncidentId(2)), 10)).expect("it can be read");
    assert_eq!(older.len(), 1);
    let whole = ask(store.reader().incident(IncidentId(2))).expect("it can be read").expect("it is there");
    assert_eq!(whole.timeline.len(), 2);
    assert_eq!(ask(store.reader().incident(IncidentId(7))), Ok(None));
}

#[test]
fn who_takes_the_writes_outlives_a_run_until_nobody_does() {
    let home = tempfile::tempdir().expect("a folder");
    let kept_out = [app(2)].into();
    let lead = LeadRecord { server: app(1), since: Wall(EIGHT), term: 3, kept_out, unclear: Some(app(4)) };
    let (store, restored, _) = open(home.path());
    assert!(restored.leads.is_empty());
    write(&store, vec![Write::Record(Record::Lead { service: shop(), lead: Some(lead.clone()) })]);
    store.close();
    let (store, restored, _) = open(home.path());
    assert_eq!(restored.leads, [(shop(), lead)].into());
    write(&store, vec![Write::Record(Record::Lead { service: shop(), lead: None })]);
    store.close();
    assert!(open(home.path()).1.leads.is_empty());
}

#[test]
fn who_has_taken_whose_place_outlives_a_run_until_it_is_long_over() {
    let home = tempfile::tempdir().expect("a folder");
    let one = Substitute {
        action: ActionId(7),
        server: app(1),
        instead_of: app(1),
        id: shop().server("app-1-r7"),
        template: "app-1".into(),
        supervised: false,
        by: "docker shop:42".to_owned(),
        reason: "it is gone".to_owned(),
        incident: Some(IncidentId(3)),
        at: Wall(EIGHT),
        made: Some(Made { id: "c0ffee".to_owned(), address: "10.0.0.9:80".parse().expect("an address") }),
        stage: Stage::Serving,
        since: Wall(EIGHT + 5),
        served: true,
        error: None,
    };
    let (store, ..) = open(home.path());
    write(&store, vec![Write::Record(Record::Substitute(one.clone()))]);
    store.close();
    let (store, restored, _) = open(home.path());
    assert_eq!((restored.substitutes, restored.last_action), (vec![one.clone()], 7));
    let over = Substitute { stage: Stage::Over, ..one.clone() };
    write(&store, vec![Write::Record(Record::Substitute(over.clone()))]);
    store.close();
    let (store, restored, _) = open(home.path());
    assert_eq!(restored.substitutes, [over], "it counts for the budget");
    let next = Substitute { action: ActionId(8), at: Wall(EIGHT + 86_400_001), ..one };
    write(&store, vec![Write::Record(Record::Substitute(next.clone()))]);
    store.close();
    assert_eq!(open(home.path()).1.substitutes, [next]);
}

#[test]
fn an_unfinished_action_is_looked_into_once() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(data.path());
    write(&store, vec![intent(4, ActionKind::Restart, Some(1), Wall(EIGHT))]);
    store.close();
    let (store, restored, _) = open(data.path());
    assert_eq!(restored.unfinished.len(), 1);
    write(&store, vec![intent(5, ActionKind::Stop, None, Wall(EIGHT + 1))]);
    write(&store, vec![Write::Alive(Wall(EIGHT + 2))]);
    store.close();
    let (_store, restored, _) = open(data.path());
    assert_eq!(restored.unfinished, [(ActionId(5), app(2))], "only that of the last run");
    assert_eq!(restored.last_action, 5);
}

#[test]
fn a_data_directory_is_used_by_one_at_a_time() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(data.path());
    let second = Store::open(data.path(), Retention::default()).map(|_| ());
    assert_eq!(second, Err(StoreError::InUse(data.path().to_owned())));
    let pid = std::fs::read_to_string(data.path().join("lock")).expect("the lock file");
    assert_eq!(pid.trim(), std::process::id().to_string());
    store.close();
    open(data.path()).0.close();
}

#[test]
fn a_record_of_a_newer_version_is_refused_and_left_alone() {
    let data = tempfile::tempdir().expect("a folder");
    let file = data.path().join(FILE);
    let connection = rusqlite::Connection::open(&file).expect("a file");
    connection.pragma_update(None, "user_version", 999).expect("a version");
    drop(connection);
    let error = Store::open(data.path(), Retention::default()).map(|_| ()).expect_err("it is refused");
    assert!(error.to_string().contains("written by a newer Mainstay"), "{error}");
    assert!(file.exists());
}

/// Started by the test below as a process of its own: writes until it is killed, and prints what was acknowledged.
#[test]
#[ignore = "the child of every_acknowledged_write_survives_sigkill"]
fn writer_to_be_killed() {
    let data = PathBuf::from(std::env::var_os("MAINSTAY_TEST_DATA").expect("started by its parent"));
    let (store, ..) = open(&data);
    for n in 1.. {
        let row = store.next_outbox_row();
        write(
            &store,
            vec![
                Write::Record(Record::Incident(incident(n))),
                Write::Record(Record::Entry { incident: IncidentId(n), place: 0, entry: entry(0, "x") }),
                Write::Outbox { delivery: delivery(row, n), at: Wall(EIGHT) },
                minute(vec![bucket(i64::try_from(n).expect("small"), 3)]),
            ],
        );
        println!("acknowledged {n}");
    }
    unreachable!("it is killed");
}

#[test]
fn every_acknowledged_write_survives_sigkill() {
    let data = tempfile::tempdir().expect("a folder");
    let mut child = Command::new(std::env::current_exe().expect("the test's own program"))
        .args(["--exact", "--ignored", "--nocapture", "store::tests::writer_to_be_killed"])
        .env("MAINSTAY_TEST_DATA", data.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the child starts");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut last = 0;
    let acknowledged =
        |line: String| Some(line.rsplit_once("acknowledged ")?.1.parse::<u64>().expect("a number"));
    while last < 60 {
        let line = lines.next().expect("the child writes on").expect("a line");
        last = acknowledged(line).unwrap_or(last);
    }
    child.kill().expect("SIGKILL");
    child.wait().expect("it ended");
    for line in lines {
        last = line.ok().and_then(acknowledged).unwrap_or(last);
    }

    let (store, restored, pending) = open(data.path());
    let ids: Vec<u64> = restored.incidents.iter().map(|i| i.id.0).collect();
    assert!(ids.len() as u64 >= last && ids == (1..=ids.len() as u64).collect::<Vec<_>>(), "{last}: {ids:?}");
    assert!(restored.incidents.iter().all(|i| i.timeline.len() == 1), "each with its entry");
    assert_eq!(pending.iter().map(|d| d.notice.incident.0).collect::<Vec<_>>(), ids, "each with its message");
    assert!(history(&store, Step::Minute).len() as u64 >= last);
}

/// A file system of its own with a size, unmounted afterwards.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let disk = Self(tempfile::tempdir().expect("a folder"));
        disk.mount("size=1m");
        disk
    }

    fn mount(&self, options: &str) {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "mainstay-test"])
            .arg(self.0.path())
            .status()
            .expect("mount(8) is there");
        assert!(status.success(), "this test mounts a small tmpfs: run it as root, with the right to mount");
    }

    fn fill(&self) {
        let file = self.0.path().join("filler");
        let error = std::io::copy(
            &mut std::io::repeat(7),
            &mut std::fs::OpenOptions::new().create(true).append(true).open(file).expect("a file"),
        )
        .expect_err("the disk ends");
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_a_trouble_that_loses_nothing_and_ends_when_there_is_room() {
    let disk = SmallDisk::new();
    let (store, ..) = open(disk.0.path());
    let trouble = store.trouble();
    assert_eq!(*trouble.borrow(), None);
    disk.fill();
    let mut n = 0;
    let refused = loop {
        n += 1;
        let title = "x".repeat(10_000);
        let change = Write::Record(Record::Incident(Incident { title, ..incident(n) }));
        if let Err(error) = answer(store.write(vec![change])) {
            break error;
        }
        assert!(n < 3_000, "the disk is never full");
    };
    assert!(refused.to_string().contains("the disk is full"), "{refused}");
    let told = wait_for("the trouble", || trouble.borrow().clone());
    assert!(told.contains("free some space"), "{told}");
    drop(store.write(vec![Write::Record(Record::Incident(incident(n + 1)))]));

    std::fs::remove_file(disk.0.path().join("filler")).expect("it is there");
    disk.mount("remount,size=32m");
    wait_for("the trouble's end", || trouble.borrow().is_none().then_some(()));
    let kept = ask(store.reader().incidents(None, 5_000)).expect("it can be read");
    assert_eq!(kept.len() as u64, n + 1, "also what was refused at first");
    store.close();
}

#[test]
fn a_disk_that_a_drill_has_seem_full_loses_nothing_and_keeps_nobody_from_closing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(folder.path());
    let (trouble, full) = (store.trouble(), store.seems_full());
    full.store(true, std::sync::atomic::Ordering::Relaxed);
    let write = |n| answer(store.write(vec![Write::Record(Record::Incident(incident(n)))]));
    let refused = write(1).expect_err("the disk seems full");
    assert!(refused.to_string().contains("the disk is full"), "{refused}");
    assert!(trouble.borrow().is_some());
    full.store(false, std::sync::atomic::Ordering::Relaxed);
    wait_for("the trouble's end", || trouble.borrow().is_none().then_some(()));
    write(2).expect("there is room");
    full.store(true, std::sync::atomic::Ordering::Relaxed);
    write(3).expect_err("the disk seems full");
    store.close();
    let (store, ..) = open(folder.path());
    let kept = ask(store.reader().incidents(None, 10)).expect("it can be read");
    assert_eq!(kept.len(), 3, "also what was refused at first, and what was there when it was closed");
}

#[test]
fn a_record_opens_and_takes_a_little_on_a_disk_that_is_already_full() {
    let disk = SmallDisk::new();
    let (store, ..) = open(disk.0.path());
    write(&store, vec![Write::Record(Record::Incident(incident(1)))]);
    store.close();
    disk.fill();
    let (store, restored, _) = open(disk.0.path());
    assert_eq!(restored.incidents.len(), 1);
    write(&store, vec![Write::Record(Record::Incident(resolved(1, Wall(EIGHT))))]);
    store.close();
    assert_eq!(open(disk.0.path()).1.incidents, []);
}

#[test]
fn a_lock_of_another_program_is_a_trouble_and_blocks_neither_callers_nor_readers() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(data.path());
    write(&store, vec![Write::Record(Record::Incident(incident(1)))]);
    let other = rusqlite::Connection::open(data.path().join(FILE)).expect("the file opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock is free");
    let refused = answer(store.write(vec![Write::Record(Record::Incident(incident(2)))]));
    let refused = refused.expect_err("it is locked");
    assert!(refused.to_string().contains("another program holds a lock"), "{refused}");
    wait_for("the trouble", || store.trouble().borrow().clone());
    let heads = ask(store.reader().incidents(None, 10)).expect("a reader needs no lock");
    assert_eq!(heads.len(), 1);
    other.execute_batch("ROLLBACK").expect("the lock is given back");
    wait_for("the trouble's end", || store.trouble().borrow().is_none().then_some(()));
    assert_eq!(ask(store.reader().incidents(None, 10)).expect("it can be read").len(), 2);
}

#[test]
fn a_lock_that_is_given_back_while_the_record_is_closed_loses_nothing() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, _, _) = open(data.path());
    let other = rusqlite::Connection::open(data.path().join(FILE)).expect("the file opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock is free");
    answer(store.write(vec![Write::Record(Record::Incident(incident(1)))])).expect_err("it is locked");
    let closing = std::thread::spawn(move || store.close());
    std::thread::sleep(Duration::from_millis(100));
    other.execute_batch("ROLLBACK").expect("the lock is given back");
    closing.join().expect("it closes");
    assert_eq!(open(data.path()).1.incidents.len(), 1);
}

#[test]
fn a_removed_data_directory_is_a_trouble_and_a_new_record_is_begun_when_it_is_back() {
    let parent = tempfile::tempdir().expect("a folder");
    let data = parent.path().join("data");
    let (store, _, _) = open(&data);
    write(&store, vec![Write::Record(Record::Incident(incident(1)))]);
    std::fs::remove_dir_all(&data).expect("it can be removed");
    let refused = answer(store.write(vec![Write::Record(Record::Incident(incident(2)))]));
    let refused = refused.expect_err("nobody would ever read it");
    assert!(refused.to_string().contains("check that the data directory is there"), "{refused}");
    wait_for("the trouble", || store.trouble().borrow().clone());
    std::fs::create_dir(&data).expect("it can be made");
    write(&store, vec![Write::Record(Record::Incident(incident(3)))]);
    let told = store.trouble().borrow().clone().expect("it is still told");
    assert!(told.contains("a new record was begun"), "{told}");
    let heads = ask(store.reader().incidents(None, 10)).expect("it can be read");
    assert_eq!(heads.len(), 2, "also what could not be written before");
}

#[test]
fn a_file_that_is_no_database_is_moved_aside_and_a_new_record_begun() {
    let data = tempfile::tempdir().expect("a folder");
    std::fs::write(data.path().join(FILE), "not a database ".repeat(1000)).expect("a file");
    let (store, restored, _) = open(data.path());
    assert_eq!(restored, Restored::default());
    let told = store.trouble().borrow().clone().expect("a person is told");
    let aside = std::fs::read_dir(data.path())
        .expect("a folder")
        .filter_map(|file| file.ok()?.file_name().into_string().ok())
        .find(|name| name.starts_with("record.db.damaged-"))
        .expect("the damaged file is kept");
    assert!(told.contains(&aside), "{told}");
    write(&store, vec![Write::Record(Record::Incident(incident(1)))]);
    store.close();
    assert_eq!(open(data.path()).1.incidents.len(), 1);
}

/// Overwrites the first page of each of these tables and indexes.
fn damage_pages(file: &Path, names: &[&str]) {
    let connection = rusqlite::Connection::open(file).expect("the file opens");
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a checkpoint");
    let page = |name: &&str| -> usize {
        let sql = "SELECT rootpage FROM sqlite_master WHERE name = ?";
        connection.query_row(sql, [name], |row| row.get::<_, u32>(0)).expect("a page") as usize
    };
    let pages: Vec<usize> = names.iter().map(page).collect();
    drop(connection);
    let mut bytes = std::fs::read(file).expect("the file");
    for page in pages {
        bytes[(page - 1) * 4096..page * 4096].fill(0xee);
    }
    std::fs::write(file, bytes).expect("the damage is done");
}

#[test]
fn a_record_found_damaged_at_the_start_is_begun_anew_with_the_numbers_that_can_still_be_read() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(data.path());
    write(&store, vec![Write::Record(Record::Incident(incident(41)))]);
    store.close();
    damage_pages(&data.path().join(FILE), &["outbox", "outbox_pending"]);

    let (store, restored, _) = open(data.path());
    assert_eq!(restored.incidents, [], "the damaged file is aside");
    assert_eq!(restored.last_incident, 41, "no number is used twice");
    assert!(store.trouble().borrow().as_ref().is_some_and(|told| told.contains("damaged")));
}

#[test]
fn damage_met_while_writing_is_a_trouble_and_the_next_start_mends_it() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(data.path());
    write(&store, vec![Write::Record(Record::Incident(resolved(3, Wall(EIGHT))))]);
    store.close();
    damage_pages(&data.path().join(FILE), &["timeline"]);

    let (store, restored, _) = open(data.path());
    assert_eq!(restored.last_incident, 3, "the start does not read that page");
    let new = Record::Entry { incident: IncidentId(3), place: 0, entry: entry(0, "x") };
    let refused = answer(store.write(vec![Write::Record(new.clone())])).expect_err("it is damaged");
    assert!(refused.to_string().contains("restart Mainstay"), "{refused}");
    wait_for("the trouble", || store.trouble().borrow().clone());
    store.close();

    let (store, restored, _) = open(data.path());
    assert_eq!((restored.last_incident, restored.incidents.len()), (3, 0));
    write(&store, vec![Write::Record(new)]);
}

#[test]
fn a_suspected_file_is_checked_whole_at_the_next_start_and_kept_when_it_is_sound() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(data.path());
    write(&store, vec![Write::Record(Record::Incident(incident(1)))]);
    store.close();
    damage::suspect(&data.path().join(FILE));
    let (store, restored, _) = open(data.path());
    assert_eq!(restored.incidents.len(), 1);
    assert_eq!(*store.trouble().borrow(), None);
    assert!(!data.path().join("record.db.suspect").exists());
}

#[test]
fn a_query_of_a_record_that_is_not_there_is_an_error() {
    let reader = Reader::new(PathBuf::from("/nonexistent/record.db"));
    let error = ask(reader.incidents(None, 1)).expect_err("there is none");
    assert!(error.to_string().starts_with("/nonexistent/record.db: "), "{error}");
}

#[test]
fn a_flush_replaces_the_minute_of_its_own_run_and_adds_to_that_of_an_earlier_one() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(data.path());
    write(&store, vec![minute(vec![bucket(0, 2)])]);
    write(&store, vec![minute(vec![bucket(0, 5)])]);
    assert_eq!(history(&store, Step::Minute), [bucket(0, 5)]);
    store.close();

    let (store, ..) = open(data.path());
    for ok in [1, 3] {
        write(&store, vec![minute(vec![bucket(0, ok)])]);
    }
    let stored = history(&store, Step::Minute);
    assert_eq!((stored.len(), stored[0].ok, stored[0].latency.count()), (1, 8, 8));
    assert_eq!(stored[0].observed_ms, 60_000, "a minute has no more");
}

#[test]
fn a_clock_set_back_adds_to_what_was_seen_the_first_time() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(data.path());
    for (at, ok) in [(0, 4), (1, 1), (90, 1)] {
        write(&store, vec![minute(vec![bucket(at, ok)])]);
    }
    keep_house(&store, Wall(EIGHT + 2 * HOUR), || history(&store, Step::Hour).len() == 2);
    for ok in [1, 2] {
        write(&store, vec![minute(vec![bucket(0, ok)])]);
    }
    assert_eq!(history(&store, Step::Minute)[0].ok, 6);
    let hours: Vec<u64> = history(&store, Step::Hour).iter().map(|hour| hour.ok).collect();
    assert_eq!(hours, [7, 1], "and the hour that was rolled up before shows it");
}

#[test]
fn minutes_hours_and_incidents_are_kept_as_long_as_the_config_says() {
    let data = tempfile::tempdir().expect("a folder");
    let hours = |n: u64| Duration::from_secs(n * 3600);
    let retention =
        Retention { minutes: hours(2), hours: hours(5), incidents: hours(24), ..Retention::default() };
    let (store, ..) = Store::open(data.path(), retention).expect("it opens");
    let old = Wall(EIGHT - 25 * HOUR);
    write(
        &store,
        vec![
            minute((-480..60i64).map(|at| bucket(at, 1)).collect()),
            Write::Record(Record::Incident(resolved(1, old))),
            Write::Record(Record::Entry { incident: IncidentId(1), place: 0, entry: entry(0, "x") }),
            Write::Record(Record::Incident(resolved(2, Wall(EIGHT)))),
            Write::Record(Record::Incident(Incident { began_at: old, opened_at: old, ..incident(3) })),
            intent(1, ActionKind::Restart, Some(1), old),
            Write::Record(Record::ActionEnded { action: ActionId(1), at: old, error: None }),
            Write::Outbox { delivery: delivery(1, 1), at: old },
            tried(1, old, 1, None, true),
            Write::Outbox { delivery: delivery(2, 3), at: old },
        ],
    );
    keep_house(&store, Wall(EIGHT + HOUR), || count(&store, "action") == 0 && count(&store, "outbox") == 1);
    let minutes = history(&store, Step::Minute);
    assert_eq!((minutes[0].start, minutes.len()), (Wall(EIGHT - HOUR), 120));
    let hours = history(&store, Step::Hour);
    assert_eq!((hours[0].start, hours.len()), (Wall(EIGHT - 4 * HOUR), 5));
    assert!(hours.iter().all(|hour| hour.ok == 60 && hour.observed_ms == 3_000_000));
    let left = ask(store.reader().incidents(None, 10)).expect("it can be read");
    assert_eq!(left.iter().map(|i| i.id.0).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(count(&store, "timeline"), 0);
    store.close();
    let (_store, restored, pending) = open(data.path());
    assert_eq!((restored.last_incident, restored.last_action), (3, 1), "numbers go on");
    assert_eq!(pending.len(), 1, "a message that waits is kept");
}

#[test]
fn a_changed_retention_is_gone_by_in_the_next_hour() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(data.path());
    write(&store, vec![minute(vec![bucket(-200, 1), bucket(0, 1)])]);
    keep_house(&store, Wall(EIGHT), || count(&store, "server_hour") == 1);
    assert_eq!(history(&store, Step::Minute).len(), 2);
    store.apply(Retention { minutes: Duration::from_secs(7200), ..Retention::default() });
    keep_house(&store, Wall(EIGHT + HOUR), || history(&store, Step::Minute).len() == 1);
    assert_eq!(history(&store, Step::Hour).len(), 2);
}

#[test]
fn hours_that_were_missed_are_rolled_up_at_the_next_start() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(data.path());
    write(&store, vec![minute(vec![bucket(0, 1), bucket(59, 2), bucket(60, 4)])]);
    store.close();
    let (store, ..) = open(data.path());
    keep_house(&store, Wall(EIGHT + 30 * HOUR), || count(&store, "server_hour") == 2);
    let hours: Vec<u64> = history(&store, Step::Hour).iter().map(|hour| hour.ok).collect();
    assert_eq!(hours, [3, 4]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn an_hour_is_the_sum_of_its_minutes_rolled_up_or_not(seen in prop::collection::btree_map(0i64..240, 1u64..40, 1..60), rolled in 0i64..5) {
        let data = tempfile::tempdir().expect("a folder");
        let (store, ..) = open(data.path());
        let buckets: Vec<ServerBucket> = seen.iter().map(|(&at, &ok)| bucket(at, ok)).collect();
        write(&store, vec![minute(buckets.clone())]);
        let over = buckets.iter().map(|b| b.start.0 / HOUR).filter(|&h| h < EIGHT / HOUR + rolled);
        let over = over.collect::<std::collections::BTreeSet<_>>().len() as i64;
        keep_house(&store, Wall(EIGHT + rolled * HOUR), || count(&store, "server_hour") == over);

        let mut sums: BTreeMap<i64, ServerBucket> = BTreeMap::new();
        for minute in buckets {
            let hour = minute.start.0 / HOUR;
            match sums.get_mut(&hour) {
                Some(sum) => {
                    sum.ok += minute.ok;
                    sum.observed_ms += minute.observed_ms;
                    for (kind, n) in minute.failures {
                        *sum.failures.entry(kind).or_default() += n;
                    }
                    sum.latency.merge(&minute.latency);
                }
                None => {
                    sums.insert(hour, ServerBucket { start: Wall(hour * HOUR), ..minute });
                }
            }
        }
        let stored = history(&store, Step::Hour);
        prop_assert_eq!(stored, sums.into_values().collect::<Vec<_>>());
    }
}

#[test]
fn what_became_of_messages_is_read_back_and_counts_against_the_budget_of_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let (store, ..) = open(folder.path());
    let now = super::wall_now();
    let before = |minutes: i64| Wall(now.0 - minutes * MINUTE);
    let ada = Recipient { way: Way::Sms, address: "+491701234567".into(), name: "Ada".into() };
    let sms = |row| {
        let delivery = Delivery { channel: Channel::Sms, to: Some(ada.clone()), ..delivery(row, 7) };
        Write::Outbox { delivery, at: now }
    };
    let sent = |row, at, spent, reference: Option<&str>| {
        let reference = reference.map(str::to_owned);
        Write::OutboxTried {
            row,
            at,
            attempts: 1,
            error: None,
            done: true,
            held_back: false,
            reference,
            spent,
        }
    };
    let held = |row, at| Write::OutboxTried {
        row,
        at,
        attempts: 1,
        error: Some("held back".into()),
        done: true,
        held_back: true,
        reference: None,
        spent: 0,
    };
    write(&store, (1..=7).map(sms).collect());
    write(
        &store,
        vec![
            sent(1, before(70), 1, None),
            held(2, before(50)),
            sent(3, before(40), 2, Some("SM3")),
            sent(4, before(10), 1, Some("SM4")),
            sent(5, before(9), 1, Some("SM5")),
            held(6, before(5)),
            Write::OutboxReceipt { row: 4, at: now, error: None },
            Write::Outbox { delivery: delivery(8, 7), at: now },
            tried(8, now, 1, Some("554 spam"), true),
        ],
    );
    use MessageState::{Accepted, Delivered, Failed, HeldBack, Waiting};
    let states = |store: &Store| -> Vec<MessageState> {
        ask(store.reader().messages(IncidentId(7))).unwrap().iter().map(|message| message.state).collect()
    };
    let all = [Accepted, HeldBack, Accepted, Delivered, Accepted, HeldBack, Waiting, Failed];
    assert_eq!(states(&store), all);
    write(&store, vec![Write::OutboxReceipt { row: 5, at: now, error: Some("unreachable".into()) }]);
    assert_eq!(states(&store)[4], Failed);
    assert!(ask(store.reader().messages(IncidentId(8))).unwrap().is_empty());
    store.close();

    let (store, _, pending) = open(folder.path());
    assert_eq!(pending.iter().map(|delivery| delivery.row).collect::<Vec<_>>(), [7]);
    let remembered = store.remembered();
    let ages: Vec<u64> = remembered.sent.iter().map(|(_, ago)| ago.as_secs() / 60).collect();
    assert_eq!(ages, [40, 40, 10, 9], "those of the last hour, one each time it may have been sent");
    assert_eq!(remembered.held_back, ["+491701234567"], "the other was told of by a later one");
    assert_eq!(remembered.awaited, [], "SM3 is too old, of the others the end is known");
    assert_eq!(store.remembered(), crate::alert::Remembered::default(), "told once");
}
