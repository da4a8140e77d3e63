//! The config: raw (as written), resolved (as meant, all mistakes at once), and the generated reference.

mod resolve;

pub use resolve::*;
