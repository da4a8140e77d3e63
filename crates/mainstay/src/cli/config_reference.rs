//! `mainstay config-reference`: docs/config-reference.md as the code says it should be, or a JSON Schema for editors.

use clap::Args;

use crate::config;
use crate::exit_code::Exit;

/// Options of `mainstay config-reference`.
#[derive(Debug, Args)]
pub struct ConfigReferenceArgs {
    /// A JSON Schema instead, for editors that complete TOML by one
    #[arg(long)]
    json_schema: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: ConfigReferenceArgs) -> anyhow::Result<Exit> {
    let text = if args.json_schema { format!("{:#}\n", config::json_schema()) } else { config::reference() };
    super::print(&text)?;
    Ok(Exit::Ok)
}
