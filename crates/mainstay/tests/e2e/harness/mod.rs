//! What every test stands on: the real program, real servers, clients that count exactly, and waiting with a deadline.

pub mod api;
pub mod browser;
pub mod config;
pub mod dns;
pub mod docker;
pub mod home;
pub mod http;
pub mod load;
pub mod mail;
pub mod mainstay;
pub mod netns;
pub mod postgres;
pub mod process;
pub mod program;
pub mod release;
pub mod scripted;
pub mod shop;
pub mod site;
pub mod sms;
pub mod sshd;

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// How long anything may take that is only waited for. Generous, because other tests share the machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long a whole test may take before it counts as hung.
const TEST_MAX: Duration = Duration::from_secs(240);

/// Runs a test's body on a runtime of its own, with a deadline.
pub fn run(body: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        if tokio::time::timeout(TEST_MAX, body).await.is_err() {
            panic!("the test did not end within {TEST_MAX:?}");
        }
    });
    runtime.shutdown_background();
}

/// Asks again and again until there is an answer. Panics with `what` after [`PATIENCE`].
pub async fn until<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, ask).await
}

/// As [`until`], with a deadline of its own.
pub async fn until_within<T>(patience: Duration, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < patience, "waited {patience:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Lets real time pass, where the passing itself is what is tested.
pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Prints a measured value so that it shows in the summary of a passing run.
pub fn measured(what: &str, value: impl std::fmt::Display) {
    println!("measured: {what}: {value}");
}

/// An address on which nothing listens. The kernel hands out such ports in turn, so another test hardly gets it soon.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}
