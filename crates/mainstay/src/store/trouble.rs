//! What a database error means for a person: what is wrong and what to do about it.

use rusqlite::{Error, ErrorCode};

/// One sentence without a full stop: what is wrong, and what to do.
pub(super) fn explain(error: &Error) -> String {
    let Some(code) = error.sqlite_error_code() else { return error.to_string() };
    let remedy = match code {
        ErrorCode::DiskFull => {
            "the disk is full; free some space: what happens meanwhile is kept in memory and written as soon as there is room"
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            "another program holds a lock on the file; end it (a backup, an open sqlite3): what happens meanwhile is kept in memory"
        }
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
            "the file is damaged; restart Mainstay: it then moves the file aside and begins a new one"
        }
        ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied => {
            "the file cannot be written; check that the data directory is there, is mounted writable and belongs to Mainstay's user"
        }
        ErrorCode::SystemIoFailure => {
            "the disk answers with errors; look at the kernel's log and at the disk, then restart Mainstay"
        }
        ErrorCode::OutOfMemory => "there is no memory left for it",
        _ => return error.to_string(),
    };
    format!("{remedy} ({error})")
}

/// The file itself is wrong, so trying again is of no use.
pub(super) fn is_damage(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Another program has the lock: the connection is well.
pub(super) fn is_busy(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// The change itself cannot be written, whatever the state of the disk.
pub(super) fn is_the_changes_own(error: &Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => {
            matches!(code, ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig)
        }
        None => matches!(error, Error::ToSqlConversionFailure(_)),
    }
}
