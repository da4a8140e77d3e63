//! Days of a service, cut from its hours when they are read, so that they can be those of any time zone.
//!
//! A zone whose offset is not of whole hours has its midnight within an hour of the record. Such an hour is cut by its minutes while
//! they are kept; later it is divided by time, as if all that it counted had been spread evenly over it.

use mainstay_model::Wall;
use rusqlite::{Connection, Row, params};

use super::{Step, rollup};

/// One service on one day, as far as Mainstay was looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceDay {
    /// Where the day begins.
    pub start: Wall,
    /// Milliseconds in which Mainstay was looking; the rest is unknown.
    pub observed_ms: u64,
    /// Requests that ended.
    pub requests: u64,
    /// Refused or cut short by a fault.
    pub failed: u64,
    /// Answered 5xx by a server.
    pub server_errors: u64,
    /// Refused because there was no room.
    pub shed: u64,
    /// Milliseconds of the observed ones in which it answered nobody, and should have.
    pub down_ms: u64,
    /// Milliseconds of the observed ones in which it was in a maintenance window: neither up nor down.
    pub excused_ms: u64,
    /// Requests of that time.
    pub excused_requests: u64,
    /// Of them, those that went wrong.
    pub excused_bad: u64,
}

/// What is summed up, in the order of [`ServiceDay`].
const COLUMNS: &str =
    "observed_ms, requests, failed, server_errors, shed, down_ms, excused_ms, excused_requests, excused_bad";
/// One value of each column.
type Sums = [u64; 9];

/// Minutes of an hour.
const MINUTES: i64 = 60;

/// The days between these midnights, which are in their order.
pub(super) fn read(
    connection: &Connection,
    name: i64,
    midnights: &[Wall],
) -> rusqlite::Result<Vec<ServiceDay>> {
    let (Some(&first), Some(&last)) = (midnights.first(), midnights.last()) else { return Ok(Vec::new()) };
    let mut days = Days { midnights, sums: vec![None; midnights.len()] };
    let rolled = rollup::rolled_hours(connection)?;
    let end = Step::Hour.index(Wall(last.0.saturating_sub(1))) + 1;
    for (hour, sums) in buckets(connection, Step::Hour, name, (Step::Hour.index(first), end.min(rolled)))? {
        if !days.is_cut(hour) {
            days.add(Step::Hour.start(hour), sums);
            continue;
        }
        let minutes = buckets(connection, Step::Minute, name, (hour * MINUTES, (hour + 1) * MINUTES))?;
        let mut of_minutes = Sums::default();
        minutes.iter().for_each(|(_, sums)| add(&mut of_minutes, *sums));
        // Some of the minutes may have been removed as too old.
        if of_minutes == sums {
            minutes.into_iter().for_each(|(minute, sums)| days.add(Step::Minute.start(minute), sums));
        } else {
            days.divide(hour, sums);
        }
    }
    let from = Step::Minute.index(first).max(rolled * MINUTES);
    let to = Step::Minute.index(Wall(last.0.saturating_sub(1))) + 1;
    for (minute, sums) in buckets(connection, Step::Minute, name, (from, to))? {
        days.add(Step::Minute.start(minute), sums);
    }
    Ok(days.known())
}

/// Days that are being summed up.
struct Days<'a> {
    midnights: &'a [Wall],
    sums: Vec<Option<Sums>>,
}

impl Days<'_> {
    /// A midnight lies within this hour.
    fn is_cut(&self, hour: i64) -> bool {
        let (start, end) = (Step::Hour.start(hour), Step::Hour.start(hour + 1));
        self.midnights.iter().any(|midnight| start < *midnight && *midnight < end)
    }

    /// What was counted from this moment on, up to the next midnight at most. What is of no day is left out.
    fn add(&mut self, at: Wall, sums: Sums) {
        let after = self.midnights.partition_point(|midnight| *midnight <= at);
        if (1..self.midnights.len()).contains(&after) {
            add(self.sums[after - 1].get_or_insert_default(), sums);
        }
    }

    /// Spreads what was counted in an hour evenly over it.
    fn divide(&mut self, hour: i64, sums: Sums) {
        let (start, end) = (Step::Hour.start(hour), Step::Hour.start(hour + 1));
        let within = self.midnights.iter().copied().filter(|midnight| start < *midnight && *midnight < end);
        let cuts: Vec<Wall> = [start].into_iter().chain(within).chain([end]).collect();
        let mut told = Sums::default();
        for pair in cuts.windows(2) {
            // Of all up to here, less what went before: so nothing is lost by rounding.
            let upto = u128::from(pair[1].ms_since(start).unsigned_abs());
            let width = u128::from(Step::Hour.width_ms().unsigned_abs());
            let share = sums.map(|sum| u64::try_from(u128::from(sum) * upto / width).unwrap_or(u64::MAX));
            let mut part = share;
            part.iter_mut().zip(told).for_each(|(part, told)| *part -= told);
            told = share;
            self.add(pair[0], part);
        }
    }

    fn known(&self) -> Vec<ServiceDay> {
        let days = self.midnights.iter().zip(&self.sums);
        days.filter_map(|(start, sums)| {
            let [
                observed_ms,
                requests,
                failed,
                server_errors,
                shed,
                down_ms,
                excused_ms,
                excused_requests,
                excused_bad,
            ] = (*sums)?;
            Some(ServiceDay {
                start: *start,
                observed_ms,
                requests,
                failed,
                server_errors,
                shed,
                down_ms,
                excused_ms,
                excused_requests,
                excused_bad,
            })
        })
        .collect()
    }
}

fn add(sums: &mut Sums, more: Sums) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum = sum.saturating_add(more);
    }
}

/// What was counted in the buckets from index `from` up to but not including `to`.
fn buckets(
    connection: &Connection,
    step: Step,
    name: i64,
    (from, to): (i64, i64),
) -> rusqlite::Result<Vec<(i64, Sums)>> {
    let table = match step {
        Step::Minute => "service_minute",
        Step::Hour => "service_hour",
    };
    let sql =
        format!("SELECT at, {COLUMNS} FROM {table} WHERE service = ? AND at >= ? AND at < ? ORDER BY at");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![name, from, to], |row| Ok((row.get(0)?, sums_of(row)?)))?;
    rows.collect()
}

fn sums_of(row: &Row<'_>) -> rusqlite::Result<Sums> {
    let mut sums = Sums::default();
    for (place, sum) in sums.iter_mut().enumerate() {
        *sum = row.get::<_, i64>(place + 1)?.unsigned_abs();
    }
    Ok(sums)
}
