//! Backups: when each is made and tried out, and when a person has to hear that one is missing.
//!
//! One at a time, whatever their number, because each loads the disks that the servers need. A run that failed is tried
//! again after a minute, then ever later; two in a row are an incident, and so is a backup without a good run for
//! `late-after`, and one that could not be restored. What was never seen is no success: after a restart only what the
//! record holds counts, and a run that was under way begins anew.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::effect::{BackupOrder, Effect, Record};
use crate::id::BackupId;
use crate::incident::{Incident, Scope};
use crate::incidents::Own;
use crate::input::{BackupOutcome, BackupRecord, BackupTask};
use crate::open::Open;
use crate::out::Out;
use crate::policy::BackupPolicy;
use crate::snapshot::BackupSnapshot;
use crate::time::{Mono, Now, Wall};
use crate::words::utc;

/// A new backup begins so long after Mainstay heard of it: a config that was just saved is often saved again.
const FIRST_AFTER: Duration = Duration::from_secs(60);
/// From a first failure to the next try.
const RETRY_BASE: Duration = Duration::from_secs(60);
/// The longest wait for another try; half of `every` if that is less.
const RETRY_MAX: Duration = Duration::from_secs(3600);
/// Failures in a row that people are told of: one may be a disk that was busy.
const FAILURES_TOLD: u32 = 2;
/// What has no outcome so long after its deadline will have none.
const OUTCOME_MARGIN: Duration = Duration::from_secs(120);
const DAY_MS: i64 = 86_400_000;

/// All backups.
#[derive(Debug, Default)]
pub(crate) struct Backups {
    pub(crate) jobs: BTreeMap<BackupId, Job>,
    pub(crate) running: Option<Running>,
    /// What an earlier run left, until the first policy says which backups there are.
    restored: Vec<BackupRecord>,
}

/// The one that is under way.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    backup: BackupId,
    task: BackupTask,
    began: Now,
    give_up: Mono,
}

/// One backup.
#[derive(Debug)]
pub(crate) struct Job {
    policy: BackupPolicy,
    known_since: Now,
    last_run: Option<Kept>,
    last_good_run: Option<Kept>,
    last_verify: Option<Kept>,
    /// Runs, and trials, that failed since the last good one.
    failed: u32,
    verify_failed: u32,
    /// When one that failed is tried again.
    retry_at: Option<Mono>,
    verify_retry_at: Option<Mono>,
    asked: Option<BackupTask>,
    pub(crate) own: Own,
}

/// What became of one run or trial.
#[derive(Debug, Clone)]
struct Kept {
    record: BackupRecord,
    /// How both clocks stood when it began, or when this Mainstay learned of it.
    known: Now,
}

impl Kept {
    /// When it began, on the wall clock as it is set now.
    fn began(&self, now: Now) -> Wall {
        as_set_now(self.record.began_at, self.known, now)
    }

    /// So long after it began: by the clock as it was set then or as it is set now, whichever comes first. A clock that was
    /// set back keeps no backup from being made, and a machine that slept makes it when it wakes.
    fn after(&self, when: impl Fn(Wall) -> Wall, now: Now) -> Mono {
        mono_of(when(self.record.began_at).min(when(self.began(now))), now)
    }
}

impl Backups {
    /// What an earlier run left.
    pub(crate) fn on_restored(&mut self, records: Vec<BackupRecord>) {
        self.restored = records;
    }

    /// An incident that an earlier run left open.
    pub(crate) fn restore_incident(
        &mut self,
        id: &BackupId,
        incident: Incident,
        last_alive: Option<Wall>,
        out: &mut Out,
    ) {
        match self.jobs.get_mut(id) {
            Some(job) if job.own.incident.is_none() => job.own.restore(incident, last_alive, out),
            Some(_) => Open::restored(incident, None, out).resolve(
                "over: another incident goes on for it".to_owned(),
                None,
                out,
            ),
            None => {
                Open::restored(incident, None, out).resolve(
                    format!("backup {id} left the config"),
                    None,
                    out,
                );
            }
        }
    }

    /// The first config, or a changed one.
    pub(crate) fn on_policy(&mut self, policies: BTreeMap<BackupId, BackupPolicy>, out: &mut Out) {
        let gone: Vec<BackupId> =
            self.jobs.keys().filter(|id| !policies.contains_key(*id)).cloned().collect();
        for id in gone {
            let open = self.jobs.remove(&id).and_then(|job| job.own.incident);
            if let Some(open) = open {
                open.resolve(format!("backup {id} left the config"), None, out);
            }
        }
        let restored = std::mem::take(&mut self.restored);
        for (id, policy) in policies {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.policy = policy;
                continue;
            }
            let mut job = Job::new(policy, out.now);
            let mine = restored.iter().filter(|record| record.outcome.backup == id);
            mine.for_each(|record| job.remember(record.clone(), out.now));
            // One that failed in an earlier run is tried again soon in this one.
            let soon = Some(out.now.mono + RETRY_BASE);
            job.retry_at = soon.filter(|_| job.failed > 0);
            job.verify_retry_at = soon.filter(|_| job.verify_failed > 0);
            self.jobs.insert(id, job);
        }
    }

    /// A person wants one now. What is asked for while it runs already is done by that run.
    pub(crate) fn on_ask(&mut self, id: &BackupId, task: BackupTask) {
        let runs = self.running.as_ref().is_some_and(|r| r.backup == *id && r.task == task);
        if let Some(job) = self.jobs.get_mut(id).filter(|_| !runs) {
            job.asked = Some(task);
        }
    }

    /// One has ended. An outcome that nobody waits for (any longer) is of no use: it was counted as a failure.
    pub(crate) fn on_outcome(&mut self, outcome: BackupOutcome, out: &mut Out) {
        let expected =
            self.running.take_if(|running| running.backup == outcome.backup && running.task == outcome.task);
        if let Some(running) = expected {
            self.ended(&running, outcome, out);
        }
    }

    fn ended(&mut self, running: &Running, outcome: BackupOutcome, out: &mut Out) {
        let Some(job) = self.jobs.get_mut(&running.backup) else { return };
        let record = BackupRecord { began_at: running.began.wall, ended_at: out.now.wall, outcome };
        job.remember(record.clone(), running.began);
        job.plan_retry(&record, out.now.mono);
        out.record(Record::Backup(record));
    }

    /// Does what is due.
    pub(crate) fn tend(&mut self, out: &mut Out) {
        if let Some(running) = self.running.take_if(|running| out.now.mono >= running.give_up) {
            let outcome = BackupOutcome {
                backup: running.backup.clone(),
                task: running.task,
                took: out.now.mono - running.began.mono,
                result: Err("it had no outcome in time".to_owned()),
            };
            self.ended(&running, outcome, out);
        }
        for (id, job) in &mut self.jobs {
            let trouble = job.trouble(out.now);
            job.own.on_trouble(Scope::Backup(id.clone()), trouble.as_deref(), out);
            job.own.tend(out);
        }
        if self.running.is_none() {
            self.begin_next(out);
        }
    }

    /// Begins the one that has been due for longest.
    fn begin_next(&mut self, out: &mut Out) {
        let now = out.now;
        let due = self.jobs.iter().filter_map(|(id, job)| {
            let (at, task) = job.next(now)?;
            (at <= now.mono).then_some((at, task, id))
        });
        let Some((_, task, id)) = due.min_by_key(|(at, ..)| *at) else { return };
        let backup = id.clone();
        let Some(job) = self.jobs.get_mut(&backup) else { return };
        job.asked.take_if(|asked| *asked == task);
        let deadline = job.policy.deadline;
        let give_up = now.mono + deadline + OUTCOME_MARGIN;
        self.running = Some(Running { backup: backup.clone(), task, began: now, give_up });
        out.effect(Effect::Backup(BackupOrder { backup, task, deadline }));
    }

    /// When something here is next due.
    pub(crate) fn next_due(&self, now: Now) -> Option<Mono> {
        let give_up = self.running.as_ref().map(|running| running.give_up);
        let jobs = self.jobs.values().flat_map(|job| {
            let begin = self.running.is_none().then(|| job.next(now).map(|(at, _)| at)).flatten();
            [begin, job.late_due(now), job.own.next_due()]
        });
        jobs.flatten().chain(give_up).min()
    }

    pub(crate) fn present(&self, now: Now) -> Vec<BackupSnapshot> {
        let present = |(id, job): (&BackupId, &Job)| BackupSnapshot {
            id: id.clone(),
            running: self.running.as_ref().filter(|r| r.backup == *id).map(|r| (r.task, r.began.wall)),
            last_run: job.last_run.as_ref().map(|kept| kept.record.clone()),
            last_good_run: job.last_good_run.as_ref().map(|kept| kept.record.clone()),
            last_verify: job.last_verify.as_ref().map(|kept| kept.record.clone()),
            next_run_at: job.wall_of(job.run_due(now), now),
            next_verify_at: job.verify_due(now).map(|at| job.wall_of(at, now)),
            trouble: job.own.trouble.clone(),
        };
        self.jobs.iter().map(present).collect()
    }
}

impl Job {
    fn new(policy: BackupPolicy, now: Now) -> Self {
        Self {
            policy,
            known_since: now,
            last_run: None,
            last_good_run: None,
            last_verify: None,
            failed: 0,
            verify_failed: 0,
            retry_at: None,
            verify_retry_at: None,
            asked: None,
            own: Own::default(),
        }
    }

    fn remember(&mut self, record: BackupRecord, known: Now) {
        let good = record.outcome.result.is_ok();
        let kept = Kept { record, known };
        match kept.record.outcome.task {
            BackupTask::Run => {
                self.failed = if good { 0 } else { self.failed.saturating_add(1) };
                if good {
                    self.last_good_run = Some(kept.clone());
                }
                self.last_run = Some(kept);
            }
            BackupTask::Verify => {
                self.verify_failed = if good { 0 } else { self.verify_failed.saturating_add(1) };
                self.last_verify = Some(kept);
            }
        }
    }

    fn plan_retry(&mut self, record: &BackupRecord, now: Mono) {
        let (failed, retry_at) = match record.outcome.task {
            BackupTask::Run => (self.failed, &mut self.retry_at),
            BackupTask::Verify => (self.verify_failed, &mut self.verify_retry_at),
        };
        let longest = RETRY_MAX.min(self.policy.every / 2);
        let wait = RETRY_BASE.saturating_mul(1 << failed.saturating_sub(1).min(10)).min(longest);
        *retry_at = (failed > 0).then(|| now + wait);
    }

    /// What is to be done next, and when.
    fn next(&self, now: Now) -> Option<(Mono, BackupTask)> {
        if let Some(task) = self.asked {
            return Some((now.mono, task));
        }
        let run = (self.run_due(now), BackupTask::Run);
        let verify = self.verify_due(now).map(|at| (at, BackupTask::Verify));
        verify.into_iter().chain([run]).min_by_key(|(at, _)| *at)
    }

    fn run_due(&self, now: Now) -> Mono {
        if let Some(retry_at) = self.retry_at {
            return retry_at;
        }
        let Some(last) = &self.last_run else { return self.known_since.mono + FIRST_AFTER };
        let every = millis(self.policy.every);
        let due = |began: Wall| match self.policy.at {
            None => Wall(began.0.saturating_add(every)),
            Some(at) => {
                // The day's time that follows the last run, and as many days on as lie between two.
                let since_slot = (began.0 - millis(at)).rem_euclid(DAY_MS);
                Wall(began.0 - since_slot + every.max(DAY_MS))
            }
        };
        last.after(due, now)
    }

    fn verify_due(&self, now: Now) -> Option<Mono> {
        let every = self.policy.verify_every?;
        self.last_good_run.as_ref()?;
        if let Some(retry_at) = self.verify_retry_at {
            return Some(retry_at);
        }
        Some(match &self.last_verify {
            // The first backup is tried out at once: a backup that cannot be restored is found out on the first day.
            None => now.mono,
            Some(last) => last.after(|began| Wall(began.0.saturating_add(millis(every))), now),
        })
    }

    /// What is wrong with it, for a person.
    fn trouble(&self, now: Now) -> Option<String> {
        if let Some((record, Err(error))) =
            self.last_verify.as_ref().map(|r| (&r.record, &r.record.outcome.result))
        {
            return Some(format!("could not be restored (tried {}): {error}", utc(record.began_at)));
        }
        if self.failed >= FAILURES_TOLD
            && let Some(Err(error)) = self.last_run.as_ref().map(|r| &r.record.outcome.result)
        {
            return Some(format!("fails: {error}"));
        }
        self.is_late(now).then(|| match &self.last_good_run {
            Some(good) => format!("is late: the last good one is of {}", utc(good.record.began_at)),
            None => "is late: there was never a good one".to_owned(),
        })
    }

    /// Whoever sets the clock makes no backup old: what has passed is what the monotonic clock says.
    fn good_since(&self, now: Now) -> Wall {
        let known = self.known_since;
        self.last_good_run.as_ref().map_or(as_set_now(known.wall, known, now), |good| good.began(now))
    }

    fn is_late(&self, now: Now) -> bool {
        now.wall.ms_since(self.good_since(now)) > millis(self.policy.late_after)
    }

    fn late_due(&self, now: Now) -> Option<Mono> {
        let late =
            Wall(self.good_since(now).0.saturating_add(millis(self.policy.late_after)).saturating_add(1));
        (!self.is_late(now)).then(|| mono_of(late, now))
    }

    fn wall_of(&self, at: Mono, now: Now) -> Wall {
        Wall(now.wall.0.saturating_add(millis(at - now.mono)))
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// A moment that was written down when both clocks stood like this, on the wall clock as it is set now.
fn as_set_now(at: Wall, known: Now, now: Now) -> Wall {
    let set_by = now.wall.ms_since(known.wall) - millis(now.mono.since(known.mono));
    Wall(at.0.saturating_add(set_by))
}

/// The moment on the monotonic clock; what is past is now.
fn mono_of(at: Wall, now: Now) -> Mono {
    now.mono + Duration::from_millis(u64::try_from(at.ms_since(now.wall)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::IncidentState;
    use crate::input::{BackupDone, Input};
    use crate::testing::{Bench, policy, start};

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(86_400);

    fn id(name: &str) -> BackupId {
        BackupId::new(name)
    }

    fn bench(policies: &[(&str, BackupPolicy)]) -> Bench {
        let mut all = policy(1, false);
        all.services.clear();
        all.backups = policies.iter().map(|(name, p)| (id(name), p.clone())).collect();
        Bench::fresh(all)
    }

    fn orders(bench: &mut Bench) -> Vec<(String, BackupTask)> {
        let taken = std::mem::take(&mut bench.effects);
        let orders = taken.into_iter().filter_map(|(_, effect)| match effect {
            Effect::Backup(order) => Some((order.backup.to_string(), order.task)),
            _ => None,
        });
        orders.collect()
    }

    fn ends(bench: &mut Bench, name: &str, task: BackupTask, result: Result<(), &str>) {
        let done = BackupDone {
            snapshot: "1a2b3c4d".into(),
            data_at: bench.now.wall,
            files: 2,
            bytes: 20,
            note: String::new(),
        };
        let result = result.map(|()| done).map_err(str::to_owned);
        let took = Duration::from_secs(3);
        bench.tell(Input::Backup(BackupOutcome { backup: id(name), task, took, result }));
    }

    #[test]
    fn the_first_one_is_made_after_a_minute_and_tried_out_at_once() {
        let mut bench = bench(&[("nightly", BackupPolicy::default())]);
        bench.advance(MINUTE - Duration::from_millis(1));
        assert!(orders(&mut bench).is_empty());
        bench.advance(Duration::from_millis(1));
        assert_eq!(orders(&mut bench), [("nightly".to_owned(), BackupTask::Run)]);
        ends(&mut bench, "nightly", BackupTask::Run, Ok(()));
        assert_eq!(orders(&mut bench), [("nightly".to_owned(), BackupTask::Verify)]);
        ends(&mut bench, "nightly", BackupTask::Verify, Ok(()));
        bench.advance(DAY - Duration::from_secs(1));
        assert!(orders(&mut bench).is_empty());
        bench.advance(Duration::from_secs(1));
        assert_eq!(orders(&mut bench), [("nightly".to_owned(), BackupTask::Run)]);
        assert!(bench.incidents().is_empty());
    }

    #[test]
    fn one_with_a_time_of_the_day_keeps_to_it() {
        let at = 3 * HOUR + 15 * MINUTE;
        let mut bench = bench(&[(
            "nightly",
            BackupPolicy { at: Some(at), verify_every: None, ..BackupPolicy::default() },
        )]);
        bench.advance(MINUTE);
        ends(&mut bench, "nightly", BackupTask::Run, Ok(()));
        for _ in 0..3 {
            orders(&mut bench);
            let next = bench.model.snapshot(bench.now).backups[0].next_run_at;
            assert_eq!(next.0.rem_euclid(DAY_MS), millis(at), "{next:?}");
            assert!(next.ms_since(bench.now.wall) <= DAY_MS && next > bench.now.wall);
            bench.advance(Duration::from_millis(next.ms_since(bench.now.wall) as u64));
            assert_eq!(orders(&mut bench).len(), 1);
            bench.advance(HOUR);
            ends(&mut bench, "nightly", BackupTask::Run, Ok(()));
        }
    }

    #[test]
    fn never_two_at_once() {
        let once = BackupPolicy { verify_every: None, ..BackupPolicy::default() };
        let mut bench = bench(&[("a", once.clone()), ("b", once)]);
        bench.advance(MINUTE);
        assert_eq!(orders(&mut bench), [("a".to_owned(), BackupTask::Run)]);
        bench.advance(HOUR);
        assert!(orders(&mut bench).is_empty());
        ends(&mut bench, "a", BackupTask::Run, Ok(()));
        assert_eq!(orders(&mut bench), [("b".to_owned(), BackupTask::Run)]);
    }

    #[test]
    fn one_failure_is_tried_again_and_two_are_an_incident_until_one_is_good() {
        let mut bench = bench(&[("nightly", BackupPolicy::default())]);
        bench.advance(MINUTE);
        ends(&mut bench, "nightly", BackupTask::Run, Err("the disk is full"));
        assert!(bench.incidents().is_empty());
        orders(&mut bench);
        bench.advance(MINUTE);
        assert_eq!(orders(&mut bench).len(), 1);
        ends(&mut bench, "nightly", BackupTask::Run, Err("the disk is full"));
        assert_eq!(bench.incidents()[0].title, "backup nightly fails: the disk is full");
        bench.advance(2 * MINUTE);
        ends(&mut bench, "nightly", BackupTask::Run, Ok(()));
        bench.advance(MINUTE);
        assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
        assert_eq!(bench.incidents().len(), 1);
    }

    #[test]
    fn one_that_cannot_be_restored_is_an_incident_at_once() {
        let mut bench = bench(&[("nightly", BackupPolicy::default())]);
        bench.advance(MINUTE);
        ends(&mut bench, "nightly", BackupTask::Run, Ok(()));
        ends(&mut bench, "nightly", BackupTask::Verify, Err("shop.db differs"));
        let title = bench.incidents()[0].title.clone();
        assert!(title.starts_with("backup nightly could not be restored"), "{title}");
        assert!(title.ends_with("shop.db differs"), "{title}");
        orders(&mut bench);
        bench.advance(MINUTE);
        assert_eq!(orders(&mut bench), [("nightly".to_owned(), BackupTask::Verify)]);
        ends(&mut bench, "nightly", BackupTask::Verify, Ok(()));
        bench.advance(MINUTE);
        assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
    }

    #[test]
    fn one_that_never_ends_is_given_up_and_the_lateness_is_told() {
        let mut bench = bench(&[("nightly", BackupPolicy::default())]);
        bench.advance(MINUTE);
        bench.advance(BackupPolicy::default().deadline + OUTCOME_MARGIN);
        let snapshot = bench.model.snapshot(bench.now);
        let last = snapshot.backups[0].last_run.as_ref().unwrap();
        assert_eq!(last.outcome.result.as_ref().unwrap_err(), "it had no outcome in time");
        for _ in 0..5 {
            bench.advance(BackupPolicy::default().deadline + OUTCOME_MARGIN + HOUR);
        }
        assert_eq!(bench.incidents().len(), 1);
        assert!(bench.incidents()[0].title.contains("backup nightly"), "{}", bench.incidents()[0].title);
    }

    #[test]
    fn what_an_earlier_run_made_is_not_made_again_and_what_is_missing_is_late() {
        let mut bench = Bench::empty(policy(0, false));
        bench.policy.services.clear();
        bench.policy.backups = [(id("nightly"), BackupPolicy::default())].into();
        let began_at = Wall(start().wall.0 - millis(40 * HOUR));
        let done = BackupDone {
            snapshot: "1a2b3c4d".into(),
            data_at: began_at,
            files: 2,
            bytes: 20,
            note: String::new(),
        };
        let outcome =
            |task| BackupOutcome { backup: id("nightly"), task, took: MINUTE, result: Ok(done.clone()) };
        let record = |task| BackupRecord { began_at, ended_at: began_at, outcome: outcome(task) };
        let backups = vec![record(BackupTask::Run), record(BackupTask::Verify)];
        bench.tell(Input::Restored(crate::input::Restored { backups, ..Default::default() }));
        bench.tell(Input::Policy(bench.policy.clone()));
        assert!(bench.incidents()[0].title.contains("is late"), "{}", bench.incidents()[0].title);
        assert_eq!(orders(&mut bench), [("nightly".to_owned(), BackupTask::Run)]);
        ends(&mut bench, "nightly", BackupTask::Run, Ok(()));
        bench.advance(MINUTE);
        assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
        assert!(orders(&mut bench).is_empty(), "the trial of two days ago still counts");
    }

    #[test]
    fn one_that_failed_before_a_restart_is_tried_again_soon_after_it() {
        let mut bench = Bench::empty(policy(0, false));
        bench.policy.services.clear();
        bench.policy.backups = [(id("nightly"), BackupPolicy::default())].into();
        let began_at = Wall(start().wall.0 - 1000);
        let result = Err("the disk is full".to_owned());
        let outcome = BackupOutcome { backup: id("nightly"), task: BackupTask::Run, took: MINUTE, result };
        let backups = vec![BackupRecord { began_at, ended_at: began_at, outcome }];
        bench.tell(Input::Restored(crate::input::Restored { backups, ..Default::default() }));
        bench.tell(Input::Policy(bench.policy.clone()));
        assert!(orders(&mut bench).is_empty());
        bench.advance(MINUTE);
        assert_eq!(orders(&mut bench), [("nightly".to_owned(), BackupTask::Run)]);
    }

    #[test]
    fn a_clock_that_is_set_makes_no_backup_late_and_keeps_none_from_being_made() {
        let at = BackupPolicy { at: Some(3 * HOUR), ..BackupPolicy::default() };
        for policy in [BackupPolicy::default(), at] {
            for hours in [-48, 48] {
                let mut bench = bench(&[("nightly", policy.clone())]);
                bench.advance(MINUTE);
                ends(&mut bench, "nightly", BackupTask::Run, Ok(()));
                ends(&mut bench, "nightly", BackupTask::Verify, Ok(()));
                bench.now.wall.0 += hours * 3_600_000;
                for _ in 0..30 {
                    bench.advance(HOUR);
                    if orders(&mut bench).iter().any(|(_, task)| *task == BackupTask::Run) {
                        ends(&mut bench, "nightly", BackupTask::Run, Ok(()));
                    }
                }
                assert!(bench.incidents().is_empty(), "{hours} h: {}", bench.incidents()[0].title);
                let last = bench.model.snapshot(bench.now).backups[0].last_good_run.clone().unwrap();
                let age = bench.now.wall.ms_since(last.began_at);
                assert!((0..=DAY_MS).contains(&age), "{hours} h: one was made since, not {age} ms ago");
                bench.advance(2 * DAY);
                assert_eq!(bench.incidents().len(), 1, "one that is not made is late all the same");
            }
        }
    }

    #[test]
    fn a_person_need_not_wait() {
        let mut bench = bench(&[("nightly", BackupPolicy::default())]);
        bench.tell(Input::AskBackup { backup: id("nightly"), task: BackupTask::Run });
        assert_eq!(orders(&mut bench).len(), 1);
        bench.tell(Input::AskBackup { backup: id("nightly"), task: BackupTask::Run });
        bench.tell(Input::AskBackup { backup: id("nobody's"), task: BackupTask::Run });
        ends(&mut bench, "nightly", BackupTask::Run, Ok(()));
        assert_eq!(orders(&mut bench), [("nightly".to_owned(), BackupTask::Verify)]);
    }

    #[test]
    fn an_incident_ends_with_the_backup_that_left_the_config() {
        let mut bench = bench(&[("nightly", BackupPolicy::default())]);
        bench.advance(2 * DAY);
        assert_eq!(bench.incidents().len(), 1);
        bench.policy.backups.clear();
        bench.tell(Input::Policy(bench.policy.clone()));
        assert_eq!(bench.incidents()[0].state, IncidentState::Resolved);
    }
}
