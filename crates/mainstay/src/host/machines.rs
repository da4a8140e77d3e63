//! Other machines: each tells its figures by a `node_exporter`, which is asked now and then. One that does not answer is not
//! known, and nothing more: whether its servers are up, they say themselves.

use std::time::{Duration, Instant};

use mainstay_model::host::HostReport;
use mainstay_model::{Input, MachineId};
use reqwest::{Client, redirect};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::exporter::{self, Reading};
use crate::config::MachineConfig;

/// For an answer, at most; and never longer than until the next question.
const DEADLINE: Duration = Duration::from_secs(5);
/// An answer that is longer is none: a large machine has half of it.
const LONGEST: usize = 8 << 20;

/// Asks one of them again and again, until it is ended.
pub(super) async fn watch(id: MachineId, config: MachineConfig, inputs: mpsc::Sender<Input>) {
    let mut before: Option<(Instant, Reading)> = None;
    let client = client(&config);
    let mut ticks = tokio::time::interval(config.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let report = match &client {
            Ok(client) => ask(client, &config.url, &mut before).await,
            Err(error) => Err(error.clone()),
        };
        if inputs.send(Input::Machine { machine: id.clone(), report }).await.is_err() {
            return;
        }
    }
}

fn client(config: &MachineConfig) -> Result<Client, String> {
    let mut client = Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(DEADLINE.min(config.interval))
        .user_agent(concat!("Mainstay/", env!("CARGO_PKG_VERSION")));
    if config.url.starts_with("http:") {
        // A machine without any certificate authorities can ask a plain address all the same.
        client = client.tls_certs_only([]);
    }
    client.build().map_err(words)
}

async fn ask(
    client: &Client,
    url: &str,
    before: &mut Option<(Instant, Reading)>,
) -> Result<HostReport, String> {
    let mut response = client.get(url).send().await.map_err(words)?;
    if !response.status().is_success() {
        return Err(format!("it answered {}", response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(words)? {
        if body.len() + chunk.len() > LONGEST {
            return Err(format!("its answer is longer than {} MiB", LONGEST >> 20));
        }
        body.extend_from_slice(&chunk);
    }
    let now = Instant::now();
    let reading = exporter::read(&String::from_utf8_lossy(&body));
    let reading = reading.ok_or_else(|| "what answers there is no node_exporter".to_owned())?;
    let report = reading.since(before.as_ref(), now);
    *before = Some((now, reading));
    Ok(report)
}

/// What really went wrong, without the address.
fn words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut deepest: &dyn std::error::Error = &error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    match error.is_timeout() {
        true => "it did not answer in time".to_owned(),
        false => deepest.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers each question with the next of these, and then not at all.
    async fn exporter(answers: Vec<String>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/metrics", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        url
    }

    fn answer(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn figures_come_from_an_exporter_and_whatever_else_answers_is_told_in_words() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = exporter(vec![
            answer("node_load1 1\nnode_load5 2\nnode_load15 3\n"),
            answer("<html>It works</html>"),
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n".to_owned(),
        ])
        .await;
        let (sender, mut inputs) = mpsc::channel(16);
        let config = MachineConfig { url, interval: Duration::from_millis(100) };
        let task = tokio::spawn(watch(MachineId::new("db-1"), config, sender));
        let mut told = Vec::new();
        while told.len() < 5 {
            let input = tokio::time::timeout(Duration::from_secs(30), inputs.recv()).await.unwrap().unwrap();
            let Input::Machine { machine, report } = input else { panic!("{input:?} is of no machine") };
            assert_eq!(machine.as_str(), "db-1");
            told.push(report.map(|report| report.load));
        }
        task.abort();
        assert_eq!(told[0], Ok(Some([1.0, 2.0, 3.0])));
        assert_eq!(told[1], Err("what answers there is no node_exporter".to_owned()));
        assert_eq!(told[2], Err("it answered 503 Service Unavailable".to_owned()));
        assert!(told[3].is_err() && told[4].is_err(), "{told:?}");
    }
}
