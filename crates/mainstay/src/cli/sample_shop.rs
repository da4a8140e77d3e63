//! `mainstay sample-shop` (hidden): one of the demo's shop servers, as a process of its own.

use std::process::ExitCode;

use super::demo::shop;
use crate::exit_code::Exit;

/// Its flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The port on 127.0.0.1 to listen on; 0: one that the kernel chooses
    #[arg(long, env = "PORT")]
    port: u16,
    /// The name it shows on its page
    #[arg(long, default_value = "shop")]
    name: String,
}

/// Serves until SIGTERM or SIGINT.
pub fn run(args: Args) -> ExitCode {
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(shop::serve(args.port, args.name)));
    match served {
        Ok(()) => Exit::Ok.into(),
        Err(error) => {
            eprintln!("the sample shop cannot serve on 127.0.0.1:{}: {error}", args.port);
            Exit::Failed.into()
        }
    }
}
