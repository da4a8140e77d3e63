//! One printing of the page: every file of it as finished bytes. What is served and what is written to a folder are the same.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::body::Bytes;
use sha2::{Digest, Sha256};

use super::view::View;
use super::{badge, feed, json, page};

/// Every file by its path; links between them are relative, so that it does not matter where they lie.
#[derive(Debug, Default)]
pub(super) struct Edition {
    pub(super) files: BTreeMap<String, File>,
}

/// A finished file.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
    /// As it stands in a header, with its quotes.
    pub(super) etag: String,
    /// Its name changes with its content.
    pub(super) lasting: bool,
}

const HTML: &str = "text/html; charset=utf-8";
const SVG: &str = "image/svg+xml";
const JSON: &str = "application/json";

static STYLE: LazyLock<(String, File)> = LazyLock::new(|| {
    lasting("style", "css", "text/css; charset=utf-8", include_str!("../../../assets/status.css"))
});
static ICON: LazyLock<(String, File)> =
    LazyLock::new(|| lasting("icon", "svg", SVG, include_str!("../../../assets/mainstay.svg")));

/// The path of the stylesheet.
pub(super) fn style() -> &'static str {
    &STYLE.0
}

/// The path of the icon.
pub(super) fn icon() -> &'static str {
    &ICON.0
}

impl Edition {
    /// Prints all of it.
    pub(super) fn of(view: &View) -> Self {
        let mut edition = Self::default();
        for (name, file) in [&*STYLE, &*ICON] {
            edition.files.insert(name.clone(), file.clone());
        }
        edition.add("index.html", HTML, page::index(view));
        for month in view.months() {
            edition.add(&page::month_path(month), HTML, page::month(view, month));
        }
        edition.add("feed.atom", "application/atom+xml; charset=utf-8", feed::write(view));
        let summary = json::summary(view);
        edition.add("status.json", JSON, summary.clone());
        // Where programs that know other status pages look for it.
        edition.add("api/v2/summary.json", JSON, summary);
        edition.add("badge.svg", SVG, badge::svg(&view.title, view.overall));
        edition.add("badge.json", JSON, badge::shields(&view.title, view.overall));
        for component in &view.components {
            let (id, name, state) = (&component.id, &component.name, component.state);
            edition.add(&format!("badge/{id}.svg"), SVG, badge::svg(name, state));
            edition.add(&format!("badge/{id}.json"), JSON, badge::shields(name, state));
        }
        edition
    }

    fn add(&mut self, path: &str, content_type: &'static str, body: String) {
        self.files.insert(path.to_owned(), File::new(content_type, body, false));
    }
}

impl File {
    fn new(content_type: &'static str, body: String, lasting: bool) -> Self {
        let etag = format!("\"{}\"", hash(&body));
        Self { content_type, body: Bytes::from(body), etag, lasting }
    }
}

fn lasting(stem: &str, extension: &str, content_type: &'static str, body: &str) -> (String, File) {
    let name = format!("{stem}-{}.{extension}", &hash(body)[..12]);
    (name, File::new(content_type, body.to_owned(), true))
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(10).map(|byte| format!("{byte:02x}")).collect()
}
