//! `mainstay sample-shop` (hidden): one of the demo's shop servers, as a process of its own.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use super::demo::shop::{self, Manner};
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
    /// The share of its requests that it answers with 500, 0 to 1
    #[arg(long, default_value_t = 0.0)]
    fail_share: f64,
    /// What each request takes, milliseconds
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// Requests that it works on at a time; 0: any number
    #[arg(long, default_value_t = 0)]
    workers: usize,
    /// A file that stands for what it needs, a database: while it is not there, requests are answered with 500
    #[arg(long)]
    needs: Option<PathBuf>,
    /// The release that it shows on its page
    #[arg(long)]
    release: Option<String>,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When the port cannot be listened on.
pub fn run(args: SampleShopArgs) -> anyhow::Result<Exit> {
    let manner = Manner {
        fail_share: args.fail_share.clamp(0.0, 1.0),
        delay: Duration::from_millis(args.delay_ms),
        workers: args.workers,
        needs: args.needs,
        release: args.release,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime
        .block_on(shop::serve(args.port, args.name, manner))
        .with_context(|| format!("the sample shop cannot serve on 127.0.0.1:{}", args.port))?;
    Ok(Exit::Ok)
}
