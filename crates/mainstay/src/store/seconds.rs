//! The machine second by second around incidents: rows of some seconds each, packed as the model does it.

use mainstay_model::Wall;
use mainstay_model::host::seconds::{Second, Seconds};
use rusqlite::{Connection, params};

use super::MachineBucket;
use super::bucket;
use super::machine::Machine;

/// A row holds seconds of at most so many milliseconds: what is remembered before an incident asks for it.
const ROW_MS: i64 = 300_000;
/// Rows of one span; there are fewer unless the clock was set back again and again.
const ROWS_MAX: i64 = 1000;

/// Writes down what came in.
pub(super) fn put(connection: &Connection, machine: i64, seconds: Vec<Second>) -> rusqlite::Result<()> {
    // After a trouble that lasted, rows would be long, and one that is too long is not found.
    for part in seconds.chunk_by(|a, b| a.at.0.div_euclid(ROW_MS) == b.at.0.div_euclid(ROW_MS)) {
        let Some(first) = part.iter().map(|second| second.at.0).min() else { continue };
        connection
            .prepare_cached("INSERT INTO machine_seconds (machine, at, data) VALUES (?, ?, ?)")?
            .execute(params![machine, first, Seconds(part.to_vec()).encode()])?;
    }
    Ok(())
}

/// What is there of these spans, oldest first. What is damaged is left out.
pub(super) fn read(connection: &Connection, spans: &[(Wall, Wall)]) -> rusqlite::Result<Seconds> {
    let Some(machine) = bucket::number::<MachineBucket>(connection, &Machine::this())? else {
        return Ok(Seconds::default());
    };
    let mut found = Vec::new();
    let mut statement = connection.prepare_cached(
        "SELECT data FROM machine_seconds WHERE machine = ? AND at > ? AND at <= ? ORDER BY at, id LIMIT ?",
    )?;
    for (from, to) in spans {
        let mut rows = statement.query(params![machine, from.0.saturating_sub(ROW_MS), to.0, ROWS_MAX])?;
        while let Some(row) = rows.next()? {
            match Seconds::decode(row.get_ref(0)?.as_blob()?) {
                Ok(Seconds(seconds)) => {
                    found.extend(seconds.into_iter().filter(|second| (*from..=*to).contains(&second.at)));
                }
                Err(error) => tracing::warn!(%error, "left out"),
            }
        }
    }
    found.sort_by_key(|second| second.at);
    Ok(Seconds(found))
}
