//! Refusals with a name: RFC 9457 for programs, a page for people.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Why a request was refused. Every refusal has a name that a program can go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    /// The last part of the problem's `type`.
    pub(super) name: &'static str,
    /// The same sentence for each problem of this name.
    pub(super) title: &'static str,
    /// What happened this time and what to do about it.
    pub(super) detail: String,
    /// Seconds after which it may be tried again.
    pub(super) retry_after: Option<u32>,
}

/// The form of RFC 9457.
#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        name: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { status, name, title, detail: detail.into(), retry_after: None }
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is nothing here", detail)
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request has a mistake", detail)
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "This address does not take this method",
            "The Allow header names the methods that it takes.",
        )
    }

    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "That is not possible now", detail)
    }

    pub(super) fn stopping() -> Self {
        let mut problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping",
            "Mainstay is stopping",
            "It takes no more orders. Ask again once it runs.",
        );
        problem.retry_after = Some(5);
        problem
    }

    pub(super) fn busy(what: &str) -> Self {
        let mut problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "Too much at once",
            format!("There are too many {what} already. Traffic is not affected."),
        );
        problem.retry_after = Some(2);
        problem
    }

    pub(super) fn record(error: &crate::store::StoreError) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "record-unreadable",
            "The record cannot be read",
            format!("{error}. Traffic is not affected."),
        )
    }

    pub(super) fn too_many_attempts(wait_seconds: u32) -> Self {
        let mut problem = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-attempts",
            "Too many wrong passwords, tokens or links",
            format!("Try again in {wait_seconds} s."),
        );
        problem.retry_after = Some(wait_seconds);
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body {
            r#type: format!("urn:mainstay:problem:{}", self.name),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
        };
        let text = serde_json::to_string(&body).expect("strings and a number are always JSON");
        let mut response = (self.status, text).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"mainstay\""));
        }
        // Left for the layer that shows a page to those who asked for one.
        response.extensions_mut().insert(self);
        response
    }
}

impl From<axum::extract::rejection::JsonRejection> for Problem {
    fn from(rejection: axum::extract::rejection::JsonRejection) -> Self {
        Self::of_rejection(rejection.status(), rejection.body_text())
    }
}

impl From<axum::extract::rejection::QueryRejection> for Problem {
    fn from(rejection: axum::extract::rejection::QueryRejection) -> Self {
        Self::of_rejection(rejection.status(), rejection.body_text())
    }
}

impl From<axum::extract::rejection::FormRejection> for Problem {
    fn from(rejection: axum::extract::rejection::FormRejection) -> Self {
        Self::of_rejection(rejection.status(), rejection.body_text())
    }
}

impl From<axum::extract::rejection::PathRejection> for Problem {
    fn from(rejection: axum::extract::rejection::PathRejection) -> Self {
        Self::not_found(rejection.body_text())
    }
}

impl Problem {
    fn of_rejection(status: StatusCode, detail: String) -> Self {
        match status {
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(
                status,
                "body-too-large",
                "The body is too large",
                format!("At most {} bytes are taken.", super::router::BODY_MAX),
            ),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                Self::new(status, "unsupported-media-type", "The body is of a type that is not taken", detail)
            }
            _ => Self::bad_request(detail),
        }
    }
}
