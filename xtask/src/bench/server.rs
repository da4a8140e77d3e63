//! The servers behind the proxies where nginx cannot play them: they take bodies, echo WebSockets, fail on command, and
//! tell which orders they carried out. One thread a connection; a process of their own, so that they can be killed.

use std::io::{self, BufRead, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::wire::{Message, UPGRADE_ANSWER, Wire, echo_of};

/// What a thread that serves one connection needs.
const STACK: usize = 256 * 1024;

/// How it behaves, changed while it runs.
#[derive(Debug, Default)]
struct Manner {
    /// How long each answer takes.
    delay_ms: AtomicU64,
    /// Of a hundred answers, so many are 500.
    errors: AtomicU64,
    answered: AtomicU64,
}

/// Serves at an address until its standard input ends. Each line there is a command: `errors PERCENT` or `delay MS`.
///
/// It says `listening ADDRESS` first, and `did ID` when it carries out the order of that `X-Id`.
///
/// # Errors
/// When it cannot listen, or does not know a command.
pub fn serve(address: &str) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    let manner = Arc::new(Manner::default());
    println!("listening {}", listener.local_addr()?);
    let accepting = Arc::clone(&manner);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let manner = Arc::clone(&accepting);
            let serving = move || {
                // A connection that breaks is the other side's affair.
                let _ = connection(stream, &manner);
            };
            if let Err(error) = std::thread::Builder::new().stack_size(STACK).spawn(serving) {
                eprintln!("no thread for a connection: {error}");
            }
        }
    });
    for line in io::stdin().lock().lines() {
        obey(&line?, &manner)?;
    }
    Ok(())
}

fn obey(line: &str, manner: &Manner) -> Result<()> {
    let Some((word, number)) = line.split_once(' ') else { bail!("`{line}` is no command") };
    let number = number.parse().with_context(|| format!("`{line}` has no number"))?;
    match word {
        "errors" => manner.errors.store(number, Ordering::Relaxed),
        "delay" => manner.delay_ms.store(number, Ordering::Relaxed),
        _ => bail!("`{word}` is no command"),
    }
    Ok(())
}

fn connection(stream: TcpStream, manner: &Manner) -> io::Result<()> {
    let mut wire = Wire::of(stream)?;
    while let Some(request) = wire.message()? {
        if request.header("upgrade").is_some() {
            return echo(&mut wire);
        }
        if request.head.starts_with("POST ")
            && let Some(id) = request.header("x-id")
        {
            // One write, so that lines of threads do not mix; it reaches the parent even if this process is killed next.
            io::stdout().lock().write_all(format!("did {id}\n").as_bytes())?;
            io::stdout().lock().flush()?;
        }
        std::thread::sleep(Duration::from_millis(manner.delay_ms.load(Ordering::Relaxed)));
        wire.send(answer(manner, &request).as_bytes())?;
        if request.closes() {
            break;
        }
    }
    Ok(())
}

fn answer(manner: &Manner, request: &Message) -> String {
    let number = manner.answered.fetch_add(1, Ordering::Relaxed);
    let status = if scattered(number) < manner.errors.load(Ordering::Relaxed) {
        "500 Internal Server Error"
    } else {
        "200 OK"
    };
    let body = if request.head.starts_with("GET /healthz ") { String::new() } else { "x".repeat(200) };
    format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// 0 to 99, the same for each run and without a pattern (the mixer of SplitMix64).
fn scattered(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % 100
}

fn echo(wire: &mut Wire) -> io::Result<()> {
    wire.send(UPGRADE_ANSWER)?;
    loop {
        let frame = echo_of(wire)?;
        wire.send(&frame)?;
    }
}

/// Reads what a server said first: where it listens.
///
/// # Errors
/// When it says anything else.
pub fn address_of(line: &str) -> Result<SocketAddr> {
    let address =
        line.trim().strip_prefix("listening ").with_context(|| format!("a server said `{line}`"))?;
    Ok(address.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_as_many_answers_fail_as_were_ordered() {
        let manner = Manner::default();
        obey("errors 30", &manner).unwrap();
        let request = Message { head: "GET / HTTP/1.1\r\n".into(), body: Vec::new() };
        let failed = (0..1000).filter(|_| answer(&manner, &request).contains(" 500 ")).count();
        assert!((250..350).contains(&failed), "{failed}");
        assert!(obey("dance 1", &manner).is_err());
        assert!(obey("errors", &manner).is_err());
    }

    #[test]
    fn a_server_says_where_it_listens() {
        assert_eq!(address_of("listening 127.0.0.1:80\n").unwrap().port(), 80);
        assert!(address_of("panicked").is_err());
    }
}
