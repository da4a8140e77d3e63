//! `mainstay sample-shop` (hidden): one of the demo's shop servers, as a process of its own.

use anyhow::Context;

use super::demo::shop;
use crate::exit_code::Exit;

/// Its flags.
#[derive(Debug, clap::Args)]
pub struct SampleShopArgs {
    /// The port on 127.0.0.1 to listen on; 0: one that the kernel chooses
    #[arg(long, env = "PORT")]
    port: u16,
    /// The name it shows on its page
    #[arg(long, default_value = "shop")]
    name: String,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When the port cannot be listened on.
pub fn run(args: SampleShopArgs) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime
        .block_on(shop::serve(args.port, args.name))
        .with_context(|| format!("the sample shop cannot serve on 127.0.0.1:{}", args.port))?;
    Ok(Exit::Ok)
}
