//! Mainstay's own log: to standard error, for a person or as JSON.
