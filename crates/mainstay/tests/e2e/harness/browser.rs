//! Debian's chromium through its chromedriver, without a window, with a profile of the test's own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};

use super::home::Home;
use super::{PATIENCE, until};

/// A browser with one page.
pub struct Browser {
    client: Client,
    /// Of the driver.
    address: SocketAddr,
    driver: Child,
}

impl Browser {
    pub async fn open(home: &Home) -> Self {
        let (name, value) = home.mark();
        let mut command = Command::new("/usr/bin/chromedriver");
        command.arg("--port=0").env(name, value).env("HOME", home.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = command.spawn().expect("chromedriver (chromium-driver of Debian) is installed");
        let output = driver.stdout.take().expect("it is piped");
        let port = tokio::task::spawn_blocking(move || {
            let mut lines = BufReader::new(output).lines().map_while(Result::ok);
            let port = lines.find_map(|line| {
                Some(line.split_once("successfully on port ")?.1.trim_end_matches('.').to_owned())
            });
            // The driver must be able to write on.
            std::thread::spawn(move || lines.for_each(drop));
            port
        });
        let port = tokio::time::timeout(PATIENCE, port).await.expect("it starts in time").expect("no panic");
        let port: u16 = port.and_then(|p| p.parse().ok()).expect("chromedriver names its port");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let flags = [
            "--headless=new".to_owned(),
            "--no-sandbox".into(),
            "--disable-gpu".into(),
            "--disable-dev-shm-usage".into(),
            "--disable-background-networking".into(),
            "--disable-component-update".into(),
            "--disable-sync".into(),
            "--no-first-run".into(),
            "--window-size=1280,1000".into(),
            format!("--user-data-dir={}", home.path().join("profile").display()),
        ];
        let Value::Object(capabilities) = json!({
            "goog:chromeOptions": { "args": flags },
            "goog:loggingPrefs": { "browser": "ALL" },
        }) else {
            unreachable!("it is an object")
        };
        let connector = hyper_util::client::legacy::connect::HttpConnector::new();
        let mut builder = ClientBuilder::new(connector);
        builder.capabilities(capabilities);
        let connecting = builder.connect(&format!("http://{address}")).await;
        Self { client: connecting.expect("a browser"), address, driver }
    }

    pub async fn go(&self, url: &str) {
        self.client.goto(url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
    }

    /// What a script in the page returns.
    pub async fn ask(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap_or_else(|error| panic!("{error} in {script}"))
    }

    /// Waits until a script returns `true`.
    pub async fn until(&self, what: &str, script: &str) {
        until(what, async || {
            self.client.execute(script, Vec::new()).await.is_ok_and(|v| v == true).then_some(())
        })
        .await;
    }

    /// Opens an address again and again until a script returns `true` there: for pages that do not change by themselves.
    pub async fn until_at(&self, url: &str, what: &str, script: &str) {
        until(what, async || {
            self.go(url).await;
            self.client.execute(script, Vec::new()).await.is_ok_and(|v| v == true).then_some(())
        })
        .await;
    }

    /// Clicks what a selector finds, once it is there.
    pub async fn click(&self, css: &str) {
        until(&format!("`{css}` can be clicked"), async || {
            self.client.find(Locator::Css(css)).await.ok()?.click().await.ok()
        })
        .await;
    }

    /// What the browser's console has to complain of since it was last asked: errors, refused scripts and styles.
    pub async fn complaints(&self) -> Vec<String> {
        // A command of chromium's own, which the WebDriver client does not know.
        let session = self.client.session_id().await.expect("a session").expect("a session");
        let path = format!("/session/{session}/se/log");
        let answer =
            super::http::post(self.address, &path, br#"{"type":"browser"}"#).await.expect("an answer").json();
        let entries = answer["value"].as_array().unwrap_or_else(|| panic!("no log: {answer}"));
        entries.iter().filter(|e| e["level"] == "SEVERE").map(|e| e["message"].to_string()).collect()
    }

    /// Closes the page and the browser.
    pub async fn close(self) {
        self.client.clone().close().await.expect("the browser closes");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

#[test]
fn the_browser_shows_a_page_runs_its_script_and_clicks() {
    use super::scripted::{Reply, Scripted};
    super::run(async {
        let home = Home::new();
        let page = b"<!doctype html><title>t</title><button onclick=\"document.title='clicked'\">b</button>";
        let server = Scripted::start(|_| Reply::Answer(200, page.to_vec())).await;
        let browser = Browser::open(&home).await;
        browser.go(&format!("http://{}/", server.address)).await;
        assert_eq!(browser.ask("return document.title").await, "t");
        browser.click("button").await;
        browser.until("the click arrived", "return document.title === 'clicked'").await;
        assert_eq!(browser.complaints().await, Vec::<String>::new());
        browser.ask("setTimeout(() => { throw new Error('on purpose') }); return true").await;
        super::until("the browser complains", async || browser.complaints().await.pop()).await;
        browser.close().await;
    });
}
