//! The one writer: takes what is queued, commits it in one transaction, keeps it when that fails, and does the housekeeping between.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mainstay_model::effect::Record;
use mainstay_model::input::AdminState;
use mainstay_model::pace::PaceNews;
use mainstay_model::substitute::{BUDGET_SPAN, Stage};
use mainstay_model::{ProbeTarget, ServerId};
use rusqlite::{Connection, ffi, params};
use tokio::sync::watch;

use super::bucket::{self, Bucket};
use super::machine::Machine;
use super::queue::{Batch, Next, Queue};
use super::restore::Left;
use super::rollup::Housekeeping;
use super::{
    MachineBucket, MonitorBucket, ServerBucket, ServiceBucket, Step, StoreError, Write, damage, results,
    schema, seconds, trouble,
};

/// Between two tries of what could not be written.
const RETRY: Duration = Duration::from_secs(1);
/// When the record is closed while another program holds a lock, it is tried for so long and with such a pause. The busy
/// timeout of the last try comes on top, and all of it stays within what closing may take.
const LAST_TRIES: Duration = Duration::from_secs(5);
const LAST_PAUSE: Duration = Duration::from_millis(50);
/// An idle writer looks up so often; it is woken for everything else.
const IDLE: Duration = Duration::from_secs(60);
/// Seven days of every hour are remembered of a server's pace, and a week in which nobody asked for it between.
const PACES_MS: i64 = 14 * 24 * 3_600_000;
/// So long the moving aside of a damaged file stays told as a trouble, so that it becomes an incident that somebody hears of.
const NOTICE: Duration = Duration::from_secs(60);

/// The writer's state, owned by its thread.
pub(super) struct Writer {
    path: PathBuf,
    /// `None` after an error that the connection may not have survived.
    connection: Option<Connection>,
    /// The file that it writes to.
    file: Option<FileId>,
    queue: Arc<Queue>,
    trouble: watch::Sender<Option<String>>,
    /// Until then the trouble that the record was opened with is told.
    notice_until: Option<std::time::Instant>,
    applier: Applier,
    housekeeping: Housekeeping,
    dropped: u64,
    /// A drill has the disk seem full.
    full: Arc<AtomicBool>,
}

impl Writer {
    pub(super) fn new(
        path: PathBuf,
        connection: Connection,
        left: &Left,
        housekeeping: Housekeeping,
        queue: Arc<Queue>,
        trouble: watch::Sender<Option<String>>,
        full: Arc<AtomicBool>,
    ) -> Self {
        let notice_until = trouble.borrow().is_some().then(|| std::time::Instant::now() + NOTICE);
        Self {
            file: FileId::of(&path),
            path,
            connection: Some(connection),
            queue,
            trouble,
            notice_until,
            applier: Applier::new(left),
            housekeeping,
            dropped: 0,
            full,
        }
    }

    /// Writes until the record is closed.
    pub(super) fn run(mut self) {
        loop {
            let busy = self.housekeeping.is_due();
            match self.queue.next(if busy { Duration::ZERO } else { IDLE }) {
                Next::Write(batch) => {
                    if !self.write(batch) && self.queue.pause(RETRY) && !self.last_try() {
                        break;
                    }
                }
                Next::Idle if busy => self.keep_house(),
                Next::Idle => {}
                Next::Stop => break,
            }
        }
        if let Some(connection) = &self.connection {
            schema::checkpoint(connection);
        }
    }

    /// `false`: it was put back into the queue, to be tried again.
    fn write(&mut self, mut batch: Batch) -> bool {
        match self.try_to_write(&batch) {
            Ok(refused) => {
                if let Some(at) = batch.alive {
                    self.housekeeping.clock(at);
                }
                self.is_well(batch.dropped);
                let result = refused.map_or(Ok(()), |reason| Err(self.refusal(reason)));
                batch.answer(&result);
                true
            }
            Err(error) => {
                self.is_in_trouble(&error, batch.dropped);
                batch.dropped = 0;
                let reason = trouble::explain(&error);
                batch.answer(&Err(self.refusal(reason)));
                self.queue.put_back(batch);
                false
            }
        }
    }

    /// Commits the batch; `Some`: it was committed without the changes that were at fault themselves.
    fn try_to_write(&mut self, batch: &Batch) -> rusqlite::Result<Option<String>> {
        if self.full.load(Ordering::Relaxed) {
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None));
        }
        // A file that was removed can be written to for ever, and nobody would ever read it.
        if self.connection.is_some() && FileId::of(&self.path) != self.file {
            self.connection = None;
        }
        if self.connection.is_none() {
            self.reopen()?;
        }
        let Some(connection) = &mut self.connection else { return Ok(None) };
        match self.applier.commit(connection, batch) {
            Ok(()) => Ok(None),
            Err(error) if trouble::is_the_changes_own(&error) => {
                tracing::error!(%error, "the record refuses a change; it is left out");
                self.applier.commit_what_can_be(connection, batch)?;
                Ok(Some(error.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    fn reopen(&mut self) -> rusqlite::Result<()> {
        self.applier.forget_numbers();
        let is_there = FileId::of(&self.path);
        self.connection = Some(schema::open_writer(&self.path)?);
        let before = std::mem::replace(&mut self.file, FileId::of(&self.path));
        if is_there.is_none() || before != self.file {
            let text = "the file was moved or removed while Mainstay was running; a new record was begun";
            tracing::error!(path = %self.path.display(), text);
            self.trouble.send_replace(Some(text.to_owned()));
            self.notice_until = Some(std::time::Instant::now() + NOTICE);
        }
        Ok(())
    }

    /// The record is being closed and the last batch failed: once more, or again and again while another program holds a
    /// lock; then it is lost.
    fn last_try(&mut self) -> bool {
        let Next::Write(mut batch) = self.queue.next(Duration::ZERO) else { return true };
        let give_up = std::time::Instant::now() + LAST_TRIES;
        let mut result = self.try_to_write(&batch);
        while let Err(error) = &result
            && trouble::is_busy(error)
            && std::time::Instant::now() < give_up
        {
            std::thread::sleep(LAST_PAUSE);
            result = self.try_to_write(&batch);
        }
        if let Err(error) = &result {
            tracing::error!(
                %error,
                changes = batch.changes.len(),
                "the record is closed without what could not be written"
            );
            let refusal = self.refusal(trouble::explain(error));
            batch.answer(&Err(refusal));
            return false;
        }
        batch.answer(&Ok(()));
        true
    }

    fn keep_house(&mut self) {
        let Some(connection) = &mut self.connection else {
            self.housekeeping.put_off();
            return;
        };
        match self.housekeeping.step(connection) {
            Ok(()) => {}
            Err(error) => {
                self.housekeeping.put_off();
                self.is_in_trouble(&error, 0);
            }
        }
    }

    fn is_well(&mut self, dropped: u64) {
        self.dropped += dropped;
        if self.notice_until.is_some_and(|until| std::time::Instant::now() < until) {
            return;
        }
        self.notice_until = None;
        let was = self.trouble.send_replace(None);
        if was.is_some() {
            tracing::info!(path = %self.path.display(), dropped = self.dropped, "the record is well again");
            self.dropped = 0;
        }
    }

    fn is_in_trouble(&mut self, error: &rusqlite::Error, dropped: u64) {
        self.dropped += dropped;
        if trouble::is_damage(error) {
            damage::suspect(&self.path);
        }
        if !trouble::is_busy(error) {
            self.connection = None;
        }
        let mut text = trouble::explain(error);
        if self.dropped > 0 {
            text.push_str("; it has lasted so long that the oldest minutes of the charts are lost");
        }
        let text = Some(text);
        let changed = self.trouble.send_if_modified(|said| {
            let changed = *said != text;
            said.clone_from(&text);
            changed
        });
        if changed {
            tracing::error!(path = %self.path.display(), %error, dropped = self.dropped, "the record cannot be written");
        }
        self.notice_until = None;
    }

    fn refusal(&self, reason: String) -> StoreError {
        StoreError::Database { path: self.path.clone(), reason }
    }
}

/// What stays the same as long as a file is the same, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// `None` when there is no file that could be looked at.
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// Turns changes into rows.
struct Applier {
    run: i64,
    /// Actions up to this one are of earlier runs.
    last_action_before: i64,
    looked_into: bool,
    servers: Rows<ServerBucket>,
    services: Rows<ServiceBucket>,
    machine: Rows<MachineBucket>,
    monitors: Rows<MonitorBucket>,
}

impl Applier {
    fn new(left: &Left) -> Self {
        Self {
            run: left.last_run.saturating_add(1),
            last_action_before: integer(left.restored.last_action),
            looked_into: false,
            servers: Rows::default(),
            services: Rows::default(),
            machine: Rows::default(),
            monitors: Rows::default(),
        }
    }

    /// All or nothing.
    fn commit(&mut self, connection: &mut Connection, batch: &Batch) -> rusqlite::Result<()> {
        set_durability(connection, batch)?;
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let mut result = batch.changes.iter().try_for_each(|change| apply(&transaction, change));
        if result.is_ok() {
            result = self.rollups(&transaction, batch);
        }
        match result.and_then(|()| transaction.commit()) {
            Ok(()) => {
                self.looked_into |= batch.alive.is_some();
                Ok(())
            }
            Err(error) => {
                // Numbers given in a transaction that was rolled back are not in the file.
                self.forget_numbers();
                Err(error)
            }
        }
    }

    /// Leaves out each change that is at fault itself.
    fn commit_what_can_be(&mut self, connection: &mut Connection, batch: &Batch) -> rusqlite::Result<()> {
        set_durability(connection, batch)?;
        let mut transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for change in &batch.changes {
            let savepoint = transaction.savepoint()?;
            match apply(&savepoint, change) {
                Ok(()) => savepoint.commit()?,
                Err(error) if trouble::is_the_changes_own(&error) => {
                    tracing::error!(%error, ?change, "left out of the record");
                }
                Err(error) => return Err(error),
            }
        }
        transaction.commit()?;
        let connection: &Connection = connection;
        let transaction = connection.unchecked_transaction()?;
        let result = self.rollups(&transaction, batch);
        match result {
            Ok(()) => transaction.commit(),
            Err(error) if trouble::is_the_changes_own(&error) => {
                self.forget_numbers();
                tracing::error!(%error, "a minute was left out of the record");
                Ok(())
            }
            Err(error) => {
                self.forget_numbers();
                Err(error)
            }
        }
    }

    fn forget_numbers(&mut self) {
        self.servers.numbers.clear();
        self.services.numbers.clear();
        self.machine.numbers.clear();
        self.monitors.numbers.clear();
    }

    fn rollups(&mut self, connection: &Connection, batch: &Batch) -> rusqlite::Result<()> {
        for bucket in batch.servers.values() {
            self.servers.put(connection, bucket)?;
        }
        for bucket in batch.services.values() {
            self.services.put(connection, bucket)?;
        }
        for bucket in batch.machine.values() {
            self.machine.put(connection, bucket)?;
        }
        for bucket in batch.monitors.values() {
            self.monitors.put(connection, bucket)?;
        }
        if !batch.looks.is_empty() {
            let (mut of_monitors, mut of_servers) = (Vec::new(), Vec::new());
            for (target, look) in &batch.looks {
                match target {
                    ProbeTarget::Monitor(id) => {
                        of_monitors.push((self.monitors.number(connection, id)?, look.clone()));
                    }
                    ProbeTarget::Server(id) => {
                        of_servers.push((self.servers.number(connection, id)?, look.clone()));
                    }
                }
            }
            results::put_journal::<MonitorBucket>(connection, &of_monitors)?;
            results::put_journal::<ServerBucket>(connection, &of_servers)?;
        }
        if !batch.seconds.is_empty() {
            let machine = self.machine.number(connection, &Machine::this())?;
            seconds::put(connection, machine, batch.seconds.iter().copied().collect())?;
        }
        for record in batch.heartbeats.values() {
            connection
                .prepare_cached("INSERT OR REPLACE INTO heartbeat (monitor, state) VALUES (?, ?)")?
                .execute(params![record.monitor.as_str(), json(record)?])?;
        }
        let earliest = [
            batch.servers.first_key_value().map(|(key, _)| key.0),
            batch.services.first_key_value().map(|(key, _)| key.0),
            batch.machine.first_key_value().map(|(start, _)| *start),
            batch.monitors.first_key_value().map(|(key, _)| key.0),
        ];
        if let Some(earliest) = earliest.into_iter().flatten().min() {
            // A minute in an hour that was rolled up before (it came late, or the clock was set back): roll it up again.
            connection
                .prepare_cached("UPDATE counter SET value = min(value, ?) WHERE name = 'rolled_hours'")?
                .execute([Step::Hour.index(earliest)])?;
        }
        let Some(alive) = batch.alive else { return Ok(()) };
        connection
            .prepare_cached(
                "INSERT INTO run (id, started_at, last_alive) VALUES (?1, ?2, ?2)
                 ON CONFLICT (id) DO UPDATE SET last_alive = ?2",
            )?
            .execute([self.run, alive.0])?;
        if !self.looked_into {
            connection.execute(
                "UPDATE action SET ended_at = ?1, error = 'Mainstay ended before it did; looked into at the next start'
                 WHERE ended_at IS NULL AND id <= ?2",
                [alive.0, self.last_action_before],
            )?;
        }
        Ok(())
    }
}

/// Roll-ups are worth less than a sync of the disk; everything else is worth one.
fn set_durability(connection: &Connection, batch: &Batch) -> rusqlite::Result<()> {
    let synchronous = if batch.changes.is_empty() { "NORMAL" } else { "FULL" };
    connection.pragma_update(None, "synchronous", synchronous)
}

fn apply(connection: &Connection, change: &Write) -> rusqlite::Result<()> {
    match change {
        Write::Record(record) => apply_record(connection, record),
        Write::Intent { order, at } => {
            let incident = order.incident.map(|id| integer(id.0));
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO action (id, incident, server, kind, reason, begun_at)
                     VALUES (?, ?, ?, ?, ?, ?)",
                )?
                .execute(params![
                    integer(order.id.0),
                    incident,
                    order.server.to_string(),
                    order.kind.as_str(),
                    order.reason,
                    at.0
                ])?;
            highest(connection, "action", integer(order.id.0))
        }
        Write::Outbox { delivery, at } => {
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO outbox (row, incident, channel, kind, queued_at, delivery, attempts, recipient)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                )?
                .execute(params![
                    delivery.row,
                    integer(delivery.notice.incident.0),
                    delivery.channel.as_str(),
                    delivery.notice.kind.as_str(),
                    at.0,
                    json(delivery)?,
                    delivery.attempts,
                    delivery.to.as_ref().map(|to| &to.address)
                ])?;
            highest(connection, "outbox", delivery.row)
        }
        Write::OutboxTried { row, at, attempts, error, done, held_back, reference, spent } => {
            connection
                .prepare_cached(
                    "UPDATE outbox SET tried_at = ?, attempts = ?, error = ?, done = ?, held_back = ?, reference = ?, spent = ?
                     WHERE row = ?",
                )?
                .execute(params![at.0, attempts, error, done, held_back, reference, spent, row])?;
            Ok(())
        }
        Write::OutboxReceipt { row, at, error } => {
            connection
                .prepare_cached("UPDATE outbox SET receipt_at = ?, receipt = ? WHERE row = ?")?
                .execute(params![at.0, error, row])?;
            Ok(())
        }
        // Folded by the queue and written with the batch.
        Write::Minute { .. }
        | Write::Machine(_)
        | Write::Monitors(_)
        | Write::Looks(_)
        | Write::Seconds(_)
        | Write::Alive(_) => Ok(()),
    }
}

fn apply_record(connection: &Connection, record: &Record) -> rusqlite::Result<()> {
    match record {
        Record::Incident(incident) => {
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO incident (id, state, severity, scope, began_at, resolved_at, head)
                     VALUES (?, ?, ?, ?, ?, ?, ?)",
                )?
                .execute(params![
                    integer(incident.id.0),
                    incident.state.as_str(),
                    incident.severity.as_str(),
                    incident.scope.to_string(),
                    incident.began_at.0,
                    incident.resolved_at.map(|at| at.0),
                    json(incident)?
                ])?;
            highest(connection, "incident", integer(incident.id.0))
        }
        Record::Entry { incident, place, entry } => {
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO timeline (incident, place, at, entry) VALUES (?, ?, ?, ?)",
                )?
                .execute(params![integer(incident.0), integer(*place), entry.at.0, json(entry)?])?;
            Ok(())
        }
        Record::Impact { incident, curve, tally } => {
            connection
                .prepare_cached("INSERT OR REPLACE INTO impact (incident, curve, tally) VALUES (?, ?, ?)")?
                .execute(params![integer(incident.0), json(curve)?, json(tally)?])?;
            Ok(())
        }
        Record::Admin { server, state: AdminState::Ready } => {
            connection.prepare_cached("DELETE FROM admin WHERE server = ?")?.execute([server.to_string()])?;
            Ok(())
        }
        Record::Admin { server, state } => {
            connection
                .prepare_cached("INSERT OR REPLACE INTO admin (server, state) VALUES (?, ?)")?
                .execute([server.to_string(), state.as_str().to_owned()])?;
            Ok(())
        }
        Record::Publication { incident, publication } => {
            connection
                .prepare_cached("INSERT OR REPLACE INTO publication (incident, body) VALUES (?, ?)")?
                .execute(params![integer(incident.0), json(publication)?])?;
            Ok(())
        }
        Record::Backup(record) => {
            connection
                .prepare_cached(
                    "INSERT INTO backup (name, task, began_at, good, record) VALUES (?, ?, ?, ?, ?)",
                )?
                .execute(params![
                    record.outcome.backup.as_str(),
                    record.outcome.task.as_str(),
                    record.began_at.0,
                    record.outcome.result.is_ok(),
                    json(record)?
                ])?;
            Ok(())
        }
        // Folded by job while they wait.
        Record::Heartbeat(_) => Ok(()),
        Record::Change(change) => {
            connection
                .prepare_cached("INSERT INTO change (at, change) VALUES (?, ?)")?
                .execute(params![change.at.0, json(change)?])?;
            Ok(())
        }
        Record::Drill(drill) => {
            connection
                .prepare_cached("INSERT OR REPLACE INTO drill (id, at, drill) VALUES (?, ?, ?)")?
                .execute(params![integer(drill.id), drill.at.0, json(drill)?])?;
            Ok(())
        }
        Record::Release { service, release } => {
            connection
                .prepare_cached("INSERT OR REPLACE INTO release (service, number, release) VALUES (?, ?, ?)")?
                .execute(params![service.as_str(), integer(release.number), json(release)?])?;
            Ok(())
        }
        Record::ReleaseForgotten { service, number } => {
            connection
                .prepare_cached("DELETE FROM release WHERE service = ? AND number = ?")?
                .execute(params![service.as_str(), integer(*number)])?;
            Ok(())
        }
        Record::Switch { service, run } => {
            connection
                .prepare_cached("INSERT OR REPLACE INTO switch (service, run) VALUES (?, ?)")?
                .execute(params![service.as_str(), json(run)?])?;
            highest(connection, "action", integer(run.action.0))
        }
        Record::Substitute(one) => {
            let over = one.stage == Stage::Over;
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO substitute (action, at, over, substitute) VALUES (?, ?, ?, ?)",
                )?
                .execute(params![integer(one.action.0), one.at.0, over, json(one)?])?;
            let old = i64::try_from(BUDGET_SPAN.as_millis()).unwrap_or(i64::MAX);
            connection
                .prepare_cached("DELETE FROM substitute WHERE over = 1 AND at < ?")?
                .execute([one.at.0.saturating_sub(old)])?;
            highest(connection, "action", integer(one.action.0))
        }
        Record::Lead { service, lead: Some(lead) } => {
            connection
                .prepare_cached("INSERT OR REPLACE INTO lead (service, lead) VALUES (?, ?)")?
                .execute(params![service.as_str(), json(lead)?])?;
            Ok(())
        }
        Record::Lead { service, lead: None } => {
            connection.prepare_cached("DELETE FROM lead WHERE service = ?")?.execute([service.as_str()])?;
            Ok(())
        }
        Record::Window { number, window } => {
            connection
                .prepare_cached("INSERT OR REPLACE INTO maintenance (number, window) VALUES (?, ?)")?
                .execute(params![integer(*number), json(window)?])?;
            highest(connection, "window", integer(*number))
        }
        Record::WindowOver { number } => {
            connection
                .prepare_cached("DELETE FROM maintenance WHERE number = ?")?
                .execute([integer(*number)])?;
            Ok(())
        }
        Record::WindowEnded { name, at } => {
            connection
                .prepare_cached("INSERT OR REPLACE INTO maintenance_ended (name, at) VALUES (?, ?)")?
                .execute(params![&**name, at.0])?;
            Ok(())
        }
        Record::Pace { server, news } => pace(connection, server, news),
        Record::Instances { service, instances } => {
            connection
                .prepare_cached("INSERT OR REPLACE INTO instances (service, count) VALUES (?, ?)")?
                .execute(params![service.as_str(), instances])?;
            Ok(())
        }
        Record::ActionEnded { action, at, error } => {
            connection
                .prepare_cached("UPDATE action SET ended_at = ?, error = ? WHERE id = ?")?
                .execute(params![at.0, error, integer(action.0)])?;
            Ok(())
        }
        Record::Remedy(remedy) => {
            let failure = json(&(&remedy.fingerprint, remedy.rung))?;
            connection
                .prepare_cached("INSERT OR REPLACE INTO remedy (failure, remedy) VALUES (?, ?)")?
                .execute(params![failure, json(remedy)?])?;
            Ok(())
        }
        Record::Proposal(proposal) => {
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO proposal (number, at, over, proposal) VALUES (?, ?, ?, ?)",
                )?
                .execute(params![
                    integer(proposal.number),
                    proposal.at.0,
                    proposal.end.is_some(),
                    json(proposal)?
                ])?;
            Ok(())
        }
        Record::ActionHelped { action, helped } => {
            connection
                .prepare_cached("UPDATE action SET helped = ? WHERE id = ?")?
                .execute(params![json(helped)?, integer(action.0)])?;
            Ok(())
        }
    }
}

fn pace(connection: &Connection, server: &ServerId, news: &PaceNews) -> rusqlite::Result<()> {
    let server = server.to_string();
    match news {
        PaceNews::Hour(hour) => {
            connection
                .prepare_cached("INSERT OR REPLACE INTO pace (server, at, hour) VALUES (?, ?, ?)")?
                .execute(params![server, hour.at.0, json(hour)?])?;
            let oldest = hour.at.0.saturating_sub(PACES_MS);
            connection.prepare_cached("DELETE FROM pace WHERE at < ?")?.execute([oldest])?;
        }
        PaceNews::Slow(slowed) => {
            connection
                .prepare_cached("INSERT OR REPLACE INTO slowed (server, slowed) VALUES (?, ?)")?
                .execute(params![server, json(slowed)?])?;
        }
        PaceNews::Well => {
            connection.prepare_cached("DELETE FROM slowed WHERE server = ?")?.execute([server])?;
        }
        PaceNews::Forgotten => {
            connection.prepare_cached("DELETE FROM pace WHERE server = ?")?.execute([server])?;
        }
    }
    Ok(())
}

/// Remembers the highest number used, for numbers that must never be used again.
pub(super) fn highest(connection: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO counter (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = max(value, ?2)",
        )?
        .execute(params![name, value])?;
    Ok(())
}

/// Rows of the current minute: what this run counted is added to what an earlier run left there.
#[derive(Debug)]
struct Rows<B: Bucket> {
    numbers: BTreeMap<B::Id, i64>,
    /// What lay in a row before this run first wrote it, by minute: read once, then each flush writes base + bucket.
    bases: BTreeMap<(i64, B::Id), Option<B>>,
}

impl<B: Bucket> Default for Rows<B> {
    fn default() -> Self {
        Self { numbers: BTreeMap::new(), bases: BTreeMap::new() }
    }
}

impl<B: Bucket> Rows<B> {
    fn number(&mut self, connection: &Connection, id: &B::Id) -> rusqlite::Result<i64> {
        if let Some(&number) = self.numbers.get(id) {
            return Ok(number);
        }
        let number = bucket::number_or_new::<B>(connection, id)?;
        self.numbers.insert(id.clone(), number);
        Ok(number)
    }

    fn put(&mut self, connection: &Connection, bucket: &B) -> rusqlite::Result<()> {
        let number = self.number(connection, bucket.id())?;
        let minute = Step::Minute.index(bucket.start());
        self.forget_bases_but_near(minute);
        let key = (minute, bucket.id().clone());
        let base = match self.bases.get(&key) {
            Some(base) => base,
            None => {
                let stored = bucket::range::<B>(
                    connection,
                    Step::Minute,
                    (number, bucket.id()),
                    (minute, minute + 1),
                    1,
                )?;
                self.bases.entry(key).or_insert(stored.into_iter().next())
            }
        };
        match base {
            None => bucket::put(connection, Step::Minute, number, bucket),
            Some(base) => {
                let mut sum = base.clone();
                sum.merge(bucket, Step::Minute.width_ms());
                bucket::put(connection, Step::Minute, number, &sum)
            }
        }
    }

    /// The accumulator flushes the current minute and the one before. A jump back means that the clock was set back:
    /// what this run itself wrote at that time is then a base like any other.
    fn forget_bases_but_near(&mut self, minute: i64) {
        let Some((newest, _)) = self.bases.last_key_value().map(|(key, _)| key.clone()) else { return };
        if minute == newest {
            // What is older went when the first of this minute came.
            return;
        }
        if minute < newest - 1 {
            self.bases.clear();
        } else {
            self.bases.retain(|(at, _), _| *at >= minute - 1);
        }
    }
}

fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}
