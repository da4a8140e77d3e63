//! What was seen of monitors and of servers, look by look. While an hour runs it is a journal, a row every few seconds for all of
//! them; when it is over, it is packed into a blob for each. The minutes of monitors that say the same are then removed: they can be
//! read out of it. Those of servers stay, for they count requests as well.

use std::collections::{BTreeMap, HashMap};

use mainstay_model::histogram::Histogram;
use mainstay_model::input::{ProbeAnswer, ProbeFailure, ProbeReport};
use mainstay_model::results::{HourOfLooks, Look, LookVerdict, MinuteKnown, decode_journal, encode_journal};
use mainstay_model::{MonitorId, ServerId, Wall};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::bucket::{self, Bucket};
use super::{MonitorBucket, ServerBucket, Step};

/// Minutes of an hour.
const MINUTES: i64 = 60;

/// Those whose looks are kept, in tables of their own.
pub(super) trait Looked: Bucket {
    /// Where an hour that runs is.
    const JOURNAL: &'static str;
    /// Where it is when it is packed.
    const LOOKS: &'static str;

    /// Packs an hour that is long over.
    fn pack(
        connection: &Connection,
        of: (i64, &Self::Id),
        hour: i64,
        looks: Vec<Look>,
    ) -> rusqlite::Result<()>;
}

impl Looked for MonitorBucket {
    const JOURNAL: &'static str = "monitor_journal";
    const LOOKS: &'static str = "monitor_looks";

    fn pack(
        connection: &Connection,
        of: (i64, &MonitorId),
        hour: i64,
        looks: Vec<Look>,
    ) -> rusqlite::Result<()> {
        pack_with_minutes(connection, of, hour, looks)
    }
}

impl Looked for ServerBucket {
    const JOURNAL: &'static str = "server_journal";
    const LOOKS: &'static str = "server_looks";

    fn pack(
        connection: &Connection,
        (number, _): (i64, &ServerId),
        hour: i64,
        looks: Vec<Look>,
    ) -> rusqlite::Result<()> {
        let mut whole = packed::<Self>(connection, number, hour)?.unwrap_or_default();
        whole.looks.extend(looks);
        put_packed::<Self>(connection, number, hour, &whole)
    }
}

/// What a probe says, as it is kept.
pub fn look_of(report: &ProbeReport, at: Wall) -> Look {
    let (verdict, words) = match &report.result {
        // A status says it all; the phases beside it are others each time, and would be most of what is kept.
        Ok(ProbeAnswer { status: Some(status), .. }) => (LookVerdict::Good, status.to_string().into()),
        Ok(ProbeAnswer { said: Some(said), .. }) => (LookVerdict::Good, said.as_str().into()),
        Ok(_) => (LookVerdict::Good, "".into()),
        Err(ProbeFailure::NotProbed(why)) => (LookVerdict::Unknown, why.as_str().into()),
        Err(failure) => (LookVerdict::Failed, failure.to_string().into()),
    };
    Look { at, took: report.took, verdict, words }
}

/// Writes down what came in, by the hours in which it did.
pub(super) fn put_journal<L: Looked>(connection: &Connection, looks: &[(i64, Look)]) -> rusqlite::Result<()> {
    let mut hours: BTreeMap<i64, Vec<(u64, Look)>> = BTreeMap::new();
    for (number, look) in looks {
        hours.entry(Step::Hour.index(look.at)).or_default().push((number.unsigned_abs(), look.clone()));
    }
    let mut statement =
        connection.prepare_cached(&format!("INSERT INTO {} (hour, data) VALUES (?, ?)", L::JOURNAL))?;
    for (hour, looks) in hours {
        statement.execute(params![hour, encode_journal(&looks, Step::Hour.start(hour))])?;
    }
    Ok(())
}

/// The first hour of which there is a journal.
pub(super) fn first_journal<L: Looked>(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let sql = format!("SELECT min(hour) FROM {}", L::JOURNAL);
    connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))
}

/// It is packed.
pub(super) fn remove_journal<L: Looked>(connection: &Connection, hour: i64) -> rusqlite::Result<()> {
    let sql = format!("DELETE FROM {} WHERE hour = ?", L::JOURNAL);
    connection.prepare_cached(&sql)?.execute([hour])?;
    Ok(())
}

/// What came in of some within an hour that is not packed yet. What is damaged is left out.
pub(super) fn journal<L: Looked>(
    connection: &Connection,
    hour: i64,
    wanted: impl Fn(u64) -> bool,
) -> rusqlite::Result<HashMap<i64, Vec<Look>>> {
    let sql = format!("SELECT data FROM {} WHERE hour = ? ORDER BY id", L::JOURNAL);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([hour])?;
    let mut looks: HashMap<i64, Vec<Look>> = HashMap::new();
    while let Some(row) = rows.next()? {
        let data = row.get_ref(0)?.as_blob()?;
        match decode_journal(data, Step::Hour.start(hour), &wanted) {
            Ok(some) => {
                for (number, look) in some {
                    looks.entry(i64::try_from(number).unwrap_or(i64::MAX)).or_default().push(look);
                }
            }
            Err(error) => tracing::warn!(%error, hour, "left out"),
        }
    }
    Ok(looks)
}

/// The roll-up of an hour: of the minutes that are there, and of those that are packed.
pub(super) fn put_hour(
    connection: &Connection,
    number: i64,
    id: &MonitorId,
    hour: i64,
) -> rusqlite::Result<()> {
    let range = (hour * MINUTES, (hour + 1) * MINUTES);
    let mut all =
        bucket::range::<MonitorBucket>(connection, Step::Minute, (number, id), range, MINUTES as usize)?;
    all.extend(minutes(connection, (number, id), range)?);
    let start = Step::Hour.start(hour);
    let sum = all.into_iter().map(|minute| minute.at(start)).reduce(|mut sum, minute| {
        sum.merge(&minute, Step::Hour.width_ms());
        sum
    });
    sum.map_or(Ok(()), |sum| bucket::put(connection, Step::Hour, number, &sum))
}

/// Packs an hour of a monitor, with what its minutes say.
fn pack_with_minutes(
    connection: &Connection,
    (number, id): (i64, &MonitorId),
    hour: i64,
    looks: Vec<Look>,
) -> rusqlite::Result<()> {
    let range = (hour * MINUTES, (hour + 1) * MINUTES);
    let minutes =
        bucket::range::<MonitorBucket>(connection, Step::Minute, (number, id), range, MINUTES as usize)?;
    let known: u64 = minutes.iter().map(|minute| minute.good + minute.failed).sum();
    let seen = looks.iter().filter(|look| look.verdict != LookVerdict::Unknown).count() as u64;
    let mut whole = packed::<MonitorBucket>(connection, number, hour)?.unwrap_or_default();
    whole.looks.extend(looks);
    // Minutes of which not every look is here stay as they are.
    if known == seen {
        add_minutes(&mut whole, &minutes);
        connection
            .prepare_cached("DELETE FROM monitor_minute WHERE monitor = ? AND at >= ? AND at < ?")?
            .execute(params![number, range.0, range.1])?;
    }
    put_packed::<MonitorBucket>(connection, number, hour, &whole)
}

fn put_packed<L: Looked>(
    connection: &Connection,
    number: i64,
    hour: i64,
    whole: &HourOfLooks,
) -> rusqlite::Result<()> {
    let sql = format!(
        "INSERT OR REPLACE INTO {looks} ({of}, at, data) VALUES (?, ?, ?)",
        looks = L::LOOKS,
        of = L::TABLE
    );
    connection.prepare_cached(&sql)?.execute(params![number, hour, whole.encode(Step::Hour.start(hour))])?;
    Ok(())
}

fn add_minutes(whole: &mut HourOfLooks, minutes: &[MonitorBucket]) {
    let small = |ms: u64| u32::try_from(ms).unwrap_or(u32::MAX);
    let mut known: BTreeMap<u8, MinuteKnown> =
        whole.minutes.iter().map(|known| (known.minute, *known)).collect();
    for minute in minutes {
        let place = Step::Minute.index(minute.start).rem_euclid(MINUTES) as u8;
        let nothing = MinuteKnown { minute: place, observed_ms: 0, down_ms: 0, excused_ms: 0 };
        let sum = known.entry(place).or_insert(nothing);
        let width = small(Step::Minute.width_ms().unsigned_abs());
        sum.observed_ms = sum.observed_ms.saturating_add(small(minute.observed_ms)).min(width);
        sum.down_ms = sum.down_ms.saturating_add(small(minute.down_ms)).min(width);
        sum.excused_ms = sum.excused_ms.saturating_add(small(minute.excused_ms)).min(width);
    }
    whole.minutes = known.into_values().collect();
}

fn packed<L: Looked>(
    connection: &Connection,
    number: i64,
    hour: i64,
) -> rusqlite::Result<Option<HourOfLooks>> {
    let sql = format!("SELECT data FROM {looks} WHERE {of} = ? AND at = ?", looks = L::LOOKS, of = L::TABLE);
    let data: Option<Vec<u8>> =
        connection.prepare_cached(&sql)?.query_row([number, hour], |row| row.get(0)).optional()?;
    Ok(data.and_then(|data| unpacked(&data, hour)))
}

/// One damaged hour costs its own results and nothing else.
fn unpacked(data: &[u8], hour: i64) -> Option<HourOfLooks> {
    HourOfLooks::decode(data, Step::Hour.start(hour))
        .inspect_err(|error| tracing::warn!(%error, hour, "left out"))
        .ok()
}

/// Removes at most `most` packed hours before the hour `before`; how many those were.
pub(super) fn remove_before<L: Looked>(
    connection: &Connection,
    number: i64,
    before: i64,
    most: usize,
) -> rusqlite::Result<usize> {
    let sql = format!(
        "DELETE FROM {looks} WHERE {of} = ?1 AND at IN
         (SELECT at FROM {looks} WHERE {of} = ?1 AND at < ?2 ORDER BY at LIMIT ?3)",
        looks = L::LOOKS,
        of = L::TABLE
    );
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    connection.prepare_cached(&sql)?.execute(params![number, before, most])
}

/// Minutes that are in packed hours, from index `from` up to but not including `to`.
pub(super) fn minutes(
    connection: &Connection,
    (number, id): (i64, &MonitorId),
    (from, to): (i64, i64),
) -> rusqlite::Result<Vec<MonitorBucket>> {
    let mut all = Vec::new();
    for (hour, whole) in hours(connection, number, (from.div_euclid(MINUTES), (to - 1).div_euclid(MINUTES)))?
    {
        let first = hour * MINUTES;
        let mut of_hour: BTreeMap<i64, MonitorBucket> = whole
            .minutes
            .iter()
            .map(|known| {
                let index = first + i64::from(known.minute);
                let bucket = MonitorBucket {
                    monitor: id.clone(),
                    start: Step::Minute.start(index),
                    observed_ms: known.observed_ms.into(),
                    good: 0,
                    failed: 0,
                    down_ms: known.down_ms.into(),
                    excused_ms: known.excused_ms.into(),
                    latency: Histogram::new(),
                };
                (index, bucket)
            })
            .collect();
        for look in &whole.looks {
            let Some(bucket) = of_hour.get_mut(&Step::Minute.index(look.at)) else { continue };
            match look.verdict {
                LookVerdict::Good => {
                    bucket.good += 1;
                    bucket.latency.record(look.took);
                }
                LookVerdict::Failed => bucket.failed += 1,
                LookVerdict::Unknown => {}
            }
        }
        all.extend(of_hour.into_iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, bucket)| bucket));
    }
    Ok(all)
}

/// Looks at one of them from `from` up to but not including `to`, oldest first, at most `most`.
pub(super) fn looks<L: Looked>(
    connection: &Connection,
    number: i64,
    (from, to): (Wall, Wall),
    most: usize,
) -> rusqlite::Result<Vec<Look>> {
    let mut all = Vec::new();
    for hour in known_hours::<L>(connection, number, (from, to))? {
        let looks = of_hour::<L>(connection, number, hour)?;
        all.extend(looks.into_iter().filter(|look| (from..to).contains(&look.at)));
        if all.len() >= most {
            all.truncate(most);
            break;
        }
    }
    Ok(all)
}

/// The last looks at one of them from `from` up to but not including `to`, newest first, at most `most`.
pub(super) fn last_looks<L: Looked>(
    connection: &Connection,
    number: i64,
    (from, to): (Wall, Wall),
    most: usize,
) -> rusqlite::Result<Vec<Look>> {
    let mut all = Vec::new();
    for hour in known_hours::<L>(connection, number, (from, to))?.into_iter().rev() {
        let looks = of_hour::<L>(connection, number, hour)?;
        all.extend(looks.into_iter().rev().filter(|look| (from..to).contains(&look.at)));
        if all.len() >= most {
            all.truncate(most);
            break;
        }
    }
    Ok(all)
}

/// The hours of a time of which there may be looks, oldest first.
fn known_hours<L: Looked>(
    connection: &Connection,
    number: i64,
    (from, to): (Wall, Wall),
) -> rusqlite::Result<Vec<i64>> {
    let (first, last) = (Step::Hour.index(from), Step::Hour.index(Wall(to.0.saturating_sub(1))));
    let mut statement = connection.prepare_cached(&format!(
        "SELECT at FROM {looks} WHERE {of} = ?1 AND at BETWEEN ?2 AND ?3
         UNION SELECT hour FROM {journal} WHERE hour BETWEEN ?2 AND ?3 ORDER BY 1",
        looks = L::LOOKS,
        of = L::TABLE,
        journal = L::JOURNAL
    ))?;
    statement.query_map([number, first, last], |row| row.get(0))?.collect()
}

/// The looks of an hour in the order of their times, packed or not.
fn of_hour<L: Looked>(connection: &Connection, number: i64, hour: i64) -> rusqlite::Result<Vec<Look>> {
    let mut looks = packed::<L>(connection, number, hour)?.map(|whole| whole.looks).unwrap_or_default();
    let own = number.unsigned_abs();
    looks.extend(journal::<L>(connection, hour, |asked| asked == own)?.remove(&number).unwrap_or_default());
    looks.sort_by_key(|look| look.at);
    Ok(looks)
}

/// Packed hours of a monitor, both ends included.
fn hours(
    connection: &Connection,
    number: i64,
    (first, last): (i64, i64),
) -> rusqlite::Result<Vec<(i64, HourOfLooks)>> {
    let mut statement = connection.prepare_cached(
        "SELECT at, data FROM monitor_looks WHERE monitor = ? AND at BETWEEN ? AND ? ORDER BY at",
    )?;
    let rows = statement
        .query_map([number, first, last], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    let mut all = Vec::new();
    for row in rows {
        let (hour, data) = row?;
        all.extend(unpacked(&data, hour).map(|whole| (hour, whole)));
    }
    Ok(all)
}
