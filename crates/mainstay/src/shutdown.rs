//! Signals: SIGTERM and SIGINT drain within a deadline, a second one ends at once, SIGHUP reloads.
