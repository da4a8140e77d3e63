//! Backups of real files and databases into real repositories.

use std::fs;
use std::path::{Path, PathBuf};

use mainstay_model::input::BackupTask;
use rusqlite::Connection;
use tempfile::TempDir;

use super::job::Job;
use super::{list, restore, work};
use crate::config::Keep;

/// A shop's folder with a database that is open and written to.
struct Shop {
    home: TempDir,
    database: Connection,
}

impl Shop {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let shop = home.path().join("shop");
        fs::create_dir_all(shop.join("uploads/deep")).unwrap();
        fs::write(shop.join("uploads/a.txt"), "a").unwrap();
        fs::write(shop.join("uploads/deep/b é.bin"), vec![7; 300_000]).unwrap();
        fs::write(shop.join("uploads/left.tmp"), "not wanted").unwrap();
        fs::write(shop.join("zz.txt"), "last").unwrap();
        std::os::unix::fs::symlink("a.txt", shop.join("uploads/link")).unwrap();
        let database = Connection::open(shop.join("shop.db")).unwrap();
        database.pragma_update(None, "journal_mode", "WAL").unwrap();
        database.execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT)").unwrap();
        Self { home, database }
    }

    fn order(&self, what: &str) {
        self.database.execute("INSERT INTO orders (what) VALUES (?)", [what]).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn job(&self, task: BackupTask) -> Job {
        Job {
            name: "nightly".into(),
            task,
            repository: self.path("repository"),
            password: "open sesame".into(),
            folders: vec![self.path("shop")],
            exclude: vec!["*.tmp".into()],
            sqlite: vec![self.path("shop/shop.db")],
            postgres: Vec::new(),
            keep: Keep { last: 2, daily: 0, weekly: 0, monthly: 0 },
            scratch: self.path("data/scratch"),
            marker: self.path("data/nightly.repository"),
        }
    }
}

fn orders(database: &Path) -> Vec<String> {
    let database = Connection::open(database).unwrap();
    let mut statement = database.prepare("SELECT what FROM orders ORDER BY id").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn what_was_backed_up_comes_back_as_it_was() {
    let shop = Shop::new();
    shop.order("tea");
    let done = work(&shop.job(BackupTask::Run)).unwrap();
    assert_eq!(done.files, 4, "{done:?}");
    // Whatever happens afterwards.
    shop.order("coffee");
    fs::remove_dir_all(shop.path("shop/uploads")).unwrap();
    let back = shop.path("back");
    let (snapshot, files) = restore(&shop.job(BackupTask::Run), None, None, &back).unwrap();
    assert_eq!((snapshot.id.get(..8), files), (Some(done.snapshot.as_str()), 4));
    let restored = back.join(shop.path("shop").strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(restored.join("uploads/a.txt")).unwrap(), "a");
    assert_eq!(fs::read(restored.join("uploads/deep/b é.bin")).unwrap(), vec![7; 300_000]);
    assert_eq!(fs::read_link(restored.join("uploads/link")).unwrap(), Path::new("a.txt"));
    assert_eq!(fs::read_to_string(restored.join("zz.txt")).unwrap(), "last");
    assert!(!restored.join("uploads/left.tmp").exists());
    assert!(!restored.join("shop.db-wal").exists(), "a database comes back whole, without its log");
    assert_eq!(orders(&restored.join("shop.db")), ["tea"]);
    assert!(!shop.path("data/scratch").exists());
}

#[test]
fn one_file_or_folder_comes_back_by_its_path() {
    let shop = Shop::new();
    shop.order("tea");
    work(&shop.job(BackupTask::Run)).unwrap();
    let job = shop.job(BackupTask::Run);
    let deep = restore(&job, None, Some(&shop.path("shop/uploads/deep")), &shop.path("deep")).unwrap();
    assert_eq!(deep.1, 1);
    assert!(shop.path("deep/b é.bin").is_file());
    restore(&job, Some(&deep.0.id[..8]), Some(&shop.path("shop/shop.db")), &shop.path("one")).unwrap();
    assert_eq!(orders(&shop.path("one/shop.db")), ["tea"]);
    let error = restore(&job, None, Some(Path::new("/nowhere")), &shop.path("none")).unwrap_err();
    assert!(error.contains("there is no /nowhere in snapshot"), "{error}");
    let error = restore(&job, None, None, &shop.path("deep")).unwrap_err();
    assert!(error.contains("is not empty"), "{error}");
    let error = restore(&job, Some("ffffffff"), None, &shop.path("none")).unwrap_err();
    assert!(error.contains("there is no snapshot ffffffff"), "{error}");
}

#[test]
fn a_trial_compares_every_file_and_opens_the_database() {
    let shop = Shop::new();
    shop.order("tea");
    work(&shop.job(BackupTask::Run)).unwrap();
    let done = work(&shop.job(BackupTask::Verify)).unwrap();
    assert!(done.note.contains("3 of 4 files compared with those in use, 1 database opens"), "{}", done.note);
    assert!(!shop.path("data/scratch").exists());
}

#[test]
fn a_trial_finds_a_repository_that_was_tampered_with() {
    let shop = Shop::new();
    work(&shop.job(BackupTask::Run)).unwrap();
    let mut packs: Vec<PathBuf> = Vec::new();
    for folder in fs::read_dir(shop.path("repository/data")).unwrap() {
        packs.extend(fs::read_dir(folder.unwrap().path()).unwrap().map(|pack| pack.unwrap().path()));
    }
    for pack in &packs {
        let mut bytes = fs::read(pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        bytes[10] ^= 0x55;
        let mut permissions = fs::metadata(pack).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
        fs::set_permissions(pack, permissions).unwrap();
        fs::write(pack, bytes).unwrap();
    }
    assert!(!packs.is_empty());
    work(&shop.job(BackupTask::Verify)).unwrap_err();
}

#[test]
fn a_trial_sees_that_what_came_back_differs() {
    let shop = Shop::new();
    work(&shop.job(BackupTask::Run)).unwrap();
    // The same length and time, other bytes: what a disk does that lies.
    let file = shop.path("shop/zz.txt");
    let written = fs::metadata(&file).unwrap().modified().unwrap();
    fs::write(&file, "LAST").unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(written).unwrap();
    let error = work(&shop.job(BackupTask::Verify)).unwrap_err();
    assert!(error.contains("zz.txt differs from the one that was backed up"), "{error}");
}

#[test]
fn old_snapshots_go_and_those_of_another_backup_stay() {
    let shop = Shop::new();
    let other = Job { name: "other".into(), ..shop.job(BackupTask::Run) };
    work(&other).unwrap();
    for n in 0..4 {
        shop.order(&format!("order {n}"));
        work(&shop.job(BackupTask::Run)).unwrap();
    }
    let kept = list(&shop.job(BackupTask::Run)).unwrap();
    assert_eq!(kept.len(), 2);
    assert!(kept[0].at < kept[1].at);
    assert_eq!(kept[0].paths, [shop.path("shop").display().to_string()]);
    assert_eq!(list(&other).unwrap().len(), 1);
    work(&shop.job(BackupTask::Verify)).unwrap();
    work(&Job { task: BackupTask::Verify, ..other }).unwrap();
}

#[test]
fn a_repository_that_is_gone_is_not_made_anew_until_somebody_wants_that() {
    let shop = Shop::new();
    let job = shop.job(BackupTask::Run);
    work(&job).unwrap();
    fs::remove_dir_all(&job.repository).unwrap();
    fs::create_dir(&job.repository).unwrap();
    let error = work(&job).unwrap_err();
    assert!(
        error.contains("is gone, with all backups in it") && error.contains("nightly.repository"),
        "{error}"
    );
    assert!(fs::read_dir(&job.repository).unwrap().next().is_none(), "nothing was made");
    // Another folder is another repository.
    work(&Job { repository: shop.path("other"), ..job.clone() }).unwrap();
    work(&job).unwrap();
    fs::remove_dir_all(&job.repository).unwrap();
    fs::remove_file(&job.marker).unwrap();
    work(&job).unwrap();
}

#[test]
fn a_damaged_pack_is_an_error_in_words_and_no_panic() {
    let shop = Shop::new();
    let job = shop.job(BackupTask::Run);
    work(&job).unwrap();
    let mut packs = Vec::new();
    for folder in fs::read_dir(job.repository.join("data")).unwrap() {
        packs.extend(fs::read_dir(folder.unwrap().path()).unwrap().map(|file| file.unwrap().path()));
    }
    for pack in packs {
        let mut bytes = fs::read(&pack).unwrap();
        bytes[..8].fill(0);
        fs::set_permissions(&pack, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        fs::write(&pack, bytes).unwrap();
    }
    let error = restore(&job, None, None, &shop.path("back")).unwrap_err();
    assert!(error.contains("repository") && error.len() < 1000, "{error}");
    let error = work(&shop.job(BackupTask::Verify)).unwrap_err();
    assert!(error.contains("repository") && error.len() < 1000, "{error}");
}

#[test]
fn what_cannot_be_done_is_said_in_words() {
    let shop = Shop::new();
    let job = shop.job(BackupTask::Run);
    assert!(list(&job).unwrap_err().contains("there is no repository in"));
    assert!(work(&shop.job(BackupTask::Verify)).unwrap_err().contains("there is no repository in"));
    work(&job).unwrap();
    let error = list(&Job { password: "wrong".into(), ..job.clone() }).unwrap_err();
    assert!(error.ends_with("the password is wrong"), "{error}");
    let error = work(&Job { folders: vec![shop.path("gone")], ..job.clone() }).unwrap_err();
    assert!(error.ends_with("gone is not a folder"), "{error}");
    let error = work(&Job { sqlite: vec![shop.path("gone.db")], ..job.clone() }).unwrap_err();
    assert!(error.contains("gone.db: there is no such file"), "{error}");
    let error = work(&Job { sqlite: vec![shop.path("shop/zz.txt")], ..job.clone() }).unwrap_err();
    assert!(error.contains("not a database"), "{error}");
    let error = work(&Job { repository: shop.path("shop"), ..job.clone() }).unwrap_err();
    assert!(error.contains("neither a repository nor empty"), "{error}");
    let empty = shop.path("empty");
    fs::create_dir(&empty).unwrap();
    let error = work(&Job { folders: vec![empty], sqlite: Vec::new(), ..job }).unwrap_err();
    assert!(error.contains("is empty: there was no file to back up"), "{error}");
}
