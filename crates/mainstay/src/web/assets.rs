//! The stylesheet, the script and the icon: embedded in the binary, under names that change with their content.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::problem::Problem;

struct Asset {
    name: String,
    content_type: &'static str,
    content: &'static str,
}

static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("mainstay", "css", "text/css; charset=utf-8", include_str!("../../assets/mainstay.css"))
});
static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("mainstay", "js", "text/javascript; charset=utf-8", include_str!("../../assets/mainstay.js"))
});
static ICON: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("mainstay", "svg", "image/svg+xml", include_str!("../../assets/mainstay.svg"))
});

impl Asset {
    fn new(stem: &str, extension: &str, content_type: &'static str, content: &'static str) -> Self {
        let hash = Sha256::digest(content.as_bytes());
        let hash: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Self { name: format!("{stem}-{hash}.{extension}"), content_type, content }
    }
}

/// The path of the stylesheet.
pub(super) fn style() -> String {
    format!("/assets/{}", STYLE.name)
}

/// The path of the script.
pub(super) fn script() -> String {
    format!("/assets/{}", SCRIPT.name)
}

/// The path of the icon.
pub(super) fn icon() -> String {
    format!("/assets/{}", ICON.name)
}

/// Serves one of them.
pub(super) async fn serve(Path(name): Path<String>) -> Response {
    let Some(asset) = [&STYLE, &SCRIPT, &ICON].into_iter().find(|asset| asset.name == name) else {
        return Problem::not_found("There is no such file.").into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
    ];
    (headers, asset.content).into_response()
}
