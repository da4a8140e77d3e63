//! The writer against real files: in order, whole, opened again, and through a disk that is full.

use std::time::Instant;

use super::*;

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("mainstay-access-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn line(method: &[u8]) -> Line<'_> {
    Line {
        started_ms: 0,
        clock: Clock::default(),
        visitor: "",
        protocol: "",
        method,
        host: b"",
        target: b"",
        status: 0,
        outcome: "",
        reason: "",
        bytes_in: 0,
        bytes_out: 0,
        took: Duration::ZERO,
        first_byte: None,
        service: "",
        server: "",
        attempts: 0,
        failures: b"",
        request_id: b"",
        traceparent: b"",
        user_agent: b"",
        referer: b"",
    }
}

fn format() -> Format {
    Format::parse("{method}").expect("a format")
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Hands over one line, and waits until somebody has taken it.
fn write(log: &AccessLog, text: &str) {
    let mut batch = Batch::default();
    log.add(&line(text.as_bytes()), &mut batch);
    log.hand_over(&mut batch);
}

#[test]
fn lines_are_appended_in_their_order_and_all_are_there_at_the_end() {
    let folder = folder("order");
    let path = folder.join("access.log");
    std::fs::write(&path, "before\n").unwrap();
    let log = AccessLog::open(Destination::File(path.clone()), format()).unwrap();
    let mut batch = Batch::default();
    for n in 0..10_000 {
        log.add(&line(n.to_string().as_bytes()), &mut batch);
    }
    log.hand_over(&mut batch);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(log.close());
    let expected: String = (0..10_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("before\n{expected}"));
    assert_eq!(log.counts(), AccessCounts { written: 10_000, dropped: 0 });
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_file_that_was_rotated_away_is_left_when_somebody_says_so() {
    let folder = folder("rotate");
    let [path, rotated] = ["access.log", "access.log.1"].map(|name| folder.join(name));
    let log = AccessLog::open(Destination::File(path.clone()), format()).unwrap();
    write(&log, "one");
    eventually("the first line", || log.counts().written == 1);
    std::fs::rename(&path, &rotated).unwrap();
    log.reopen();
    eventually("the new file, before any line", || path.exists());
    write(&log, "two");
    eventually("the second line", || log.counts().written == 2);
    assert_eq!(std::fs::read_to_string(&rotated).unwrap(), "one\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_file_that_cannot_be_opened_again_is_told_once_and_nothing_is_lost_meanwhile() {
    let folder = folder("gone");
    let inner = folder.join("logs");
    std::fs::create_dir(&inner).unwrap();
    let path = inner.join("access.log");
    let log = AccessLog::open(Destination::File(path.clone()), format()).unwrap();
    let trouble = log.trouble();
    std::fs::remove_dir_all(&inner).unwrap();
    log.reopen();
    eventually("the trouble", || trouble.borrow().is_some());
    assert!(trouble.borrow().as_ref().is_some_and(|text| text.contains("make its folder again")));
    write(&log, "one");
    write(&log, "two");
    std::fs::create_dir(&inner).unwrap();
    eventually("both lines", || log.counts().written == 2);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    assert_eq!(*trouble.borrow(), None);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_a_full_disk_does_not_take_waits_within_a_bound_and_is_counted_beyond() {
    // Every write to this device fails as on a full disk.
    let log = AccessLog::open(Destination::File("/dev/full".into()), format()).unwrap();
    let trouble = log.trouble();
    write(&log, "one");
    eventually("the trouble", || trouble.borrow().is_some());
    assert!(trouble.borrow().as_ref().is_some_and(|text| text.contains("free some space")));
    let text = vec![b'a'; 8000];
    let mut batch = Batch::default();
    let mut added = 0;
    while log.counts().dropped == 0 {
        log.add(&line(&text), &mut batch);
        added += 1;
        assert!(added < 4000, "more than the bound waits");
    }
    assert!(added * text.len() + BATCH >= BYTES_WAITING_MAX);
    assert!(log.shared.bytes_waiting.load(Ordering::Relaxed) <= BYTES_WAITING_MAX + BATCH);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(log.close());
    assert!(log.trouble().has_changed().is_err(), "it has ended, although the disk is still full");
    assert_eq!(log.counts().written, 0);
}

#[test]
fn a_log_that_nobody_holds_writes_what_waits_and_ends() {
    let folder = folder("dropped");
    let path = folder.join("access.log");
    let log = AccessLog::open(Destination::File(path.clone()), format()).unwrap();
    let trouble = log.trouble();
    write(&log, "last");
    drop(log);
    eventually("the end", || trouble.has_changed().is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "last\n");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_path_that_cannot_be_a_file_is_found_out_before_it_is_opened() {
    assert_eq!(check_path(Path::new("/")), Err("a folder, not a file"));
    assert_eq!(check_path(Path::new("/nowhere/at/all.log")), Err("its folder is not there"));
    assert_eq!(check_path(&std::env::temp_dir().join("not-yet.log")), Ok(()));
}
