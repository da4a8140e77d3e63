//! The data plane alone in front of given servers, for measuring: `passthrough LISTEN WORKERS SERVER…`. With `ACCESS_LOG` in
//! its environment it writes one there.
//!
//! Prints the address it listens on, and at the end of its input (or on Ctrl-D) drains and prints what it counted.

use std::error::Error;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mainstay_model::ServiceId;
use mainstay_model::carriage::Carriage;
use mainstay_model::policy::Balance;
use mainstay_model::routing::{RoutedService, RoutingMode, RoutingTable, Target};
use mainstay_proxy::access::{AccessLog, Destination, Format};
use mainstay_proxy::{Proxy, Report, Settings};
use tokio::sync::mpsc;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(workers)) = (arguments.next(), arguments.next()) else {
        return Err("usage: passthrough LISTEN WORKERS SERVER…".into());
    };
    let servers = arguments.map(|a| a.parse()).collect::<Result<Vec<SocketAddr>, _>>()?;
    let access_log = std::env::var_os("ACCESS_LOG")
        .map(|path| AccessLog::open(Destination::File(path.into()), Format::JSON))
        .transpose()?;
    let settings = Settings {
        access_log,
        listen: vec![listen.parse::<SocketAddr>()?.into()],
        workers: workers.parse()?,
        ..Settings::default()
    };
    let (sender, mut receiver) = mpsc::channel(1024);
    let proxy = Proxy::start(settings, Arc::new(table(&servers)), sender)?;
    println!("listening {}", proxy.addresses()[0]);
    let counting = std::thread::spawn(move || {
        let (mut requests, mut failed) = (0, 0);
        while let Some(report) = receiver.blocking_recv() {
            match report {
                Report::Failure(failure) => eprintln!("{} {}", failure.server, failure.kind),
                Report::Answered(seen) => eprintln!("{} answered {:?}", seen.server, seen.sample.status),
                Report::Traffic(report) => {
                    requests += report.services.values().map(|s| s.requests).sum::<u64>();
                    failed += report.services.values().map(|s| s.failed).sum::<u64>();
                }
            }
        }
        println!("requests {requests} failed {failed}");
    });
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let cut = runtime.block_on(proxy.drain(Duration::from_secs(5)));
    println!("cut {cut}");
    // The counting ends with the last sender of reports, which the data plane holds.
    drop(proxy);
    counting.join().map_err(|_| "counting failed")?;
    Ok(())
}

fn table(servers: &[SocketAddr]) -> RoutingTable {
    let id = ServiceId::new("bench");
    let target = |(i, &address): (usize, &SocketAddr)| Target {
        id: id.server(format!("s{i}")),
        address: address.into(),
        share: 1.0,
        concurrent: None,
        tls: false,
        injection: None,
    };
    let service = RoutedService {
        id: id.clone(),
        carriage: Arc::new(Carriage { balance: Balance::LeastLatency, ..Carriage::default() }),
        mode: RoutingMode::Normal,
        trial: None,
        targets: servers.iter().enumerate().map(target).collect(),
        last_resort: Vec::new(),
        draining: Vec::new(),
        leaving: Vec::new(),
    };
    RoutingTable { version: 1, services: vec![service] }
}
