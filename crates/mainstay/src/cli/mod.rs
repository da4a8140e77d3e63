//! The command line: one file a subcommand.

mod demo;
mod sample_shop;

use std::process::ExitCode;

/// Parses the command line and runs the subcommand.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
