//! The key of sticky sessions: from the data directory, so that visitors find their servers again after a restart.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::Config;
use crate::key_file;

/// The file in the data directory.
const FILE: &str = "sticky.key";
/// A disk that takes longer must not hold up the start.
const PATIENCE: Duration = Duration::from_secs(5);

/// The key, if a service needs it. Without it visitors are served by any server and are given no cookie.
pub(super) async fn key(config: &Config) -> Option<[u8; key_file::KEY_BYTES]> {
    if !config.policy.services.values().any(|service| service.carriage.sticky.is_some()) {
        return None;
    }
    let file: PathBuf = config.data.join(FILE);
    let read =
        tokio::task::spawn_blocking(move || key_file::read_or_make(&file, "visitors are given new cookies"));
    let trouble = match tokio::time::timeout(PATIENCE, read).await {
        Ok(Ok(Ok(key))) => return Some(key),
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the disk takes too long".to_owned(),
    };
    tracing::error!(trouble, "the key of sticky sessions cannot be used; visitors keep to no server");
    None
}
