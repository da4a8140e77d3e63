//! Logging in and out.

use askama::Template;
use axum::extract::{Extension, Form, FromRequest, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::{Part, render as html, respond};
use crate::web::App;
use crate::web::guard::{COOKIE, Visitor};
use crate::web::listener::ClientAddress;
use crate::web::problem::Problem;
use crate::web::session::AGE_MAX;

/// `?next=/incidents/3`
#[derive(Debug, Deserialize)]
pub(in crate::web) struct Next {
    #[serde(default)]
    next: String,
}

#[derive(Debug, Deserialize)]
pub(in crate::web) struct Given {
    password: String,
    #[serde(default)]
    next: String,
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPart<'a> {
    next: &'a str,
    wrong: Option<&'a str>,
}

/// The form.
pub(in crate::web) async fn form(
    State(app): State<App>,
    next: Result<Query<Next>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Next { next }) = next?;
    if is_open(&app) {
        return Ok(Redirect::to(own_address(&next)).into_response());
    }
    Ok(page(&app, StatusCode::OK, &next, None))
}

/// Begins a session, or shows the form again.
pub(in crate::web) async fn log_in(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    if is_open(&app) {
        return Ok(Redirect::to("/").into_response());
    }
    let from = request.extensions().get::<ClientAddress>().map(|from| from.0.ip());
    let Form(Given { password, next }) = Form::from_request(request, &app).await?;
    let access = app.context.access.borrow().clone();
    match app.guard.log_in(&access, from, &password) {
        Ok(session) => {
            let cookie = format!(
                "{COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}",
                AGE_MAX.as_secs()
            );
            Ok(with_cookie(Redirect::to(own_address(&next)).into_response(), &cookie))
        }
        Err(problem) if problem.status == StatusCode::UNAUTHORIZED => {
            Ok(page(&app, problem.status, &next, Some(&problem.detail)))
        }
        Err(problem) => Err(problem),
    }
}

/// Ends the session.
pub(in crate::web) async fn log_out(
    State(app): State<App>,
    Extension(visitor): Extension<Visitor>,
) -> Response {
    app.guard.log_out(visitor);
    let cookie = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    with_cookie(Redirect::to("/login").into_response(), &cookie)
}

/// Nobody needs to log in.
fn is_open(app: &App) -> bool {
    let access = app.context.access.borrow();
    access.token.is_none() && access.password.is_none()
}

fn page(app: &App, status: StatusCode, next: &str, wrong: Option<&str>) -> Response {
    let part = Part { id: "login", html: html(&LoginPart { next: own_address(next), wrong }) };
    respond(app, status, "Log in · Mainstay", "", &[part])
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    let value =
        HeaderValue::from_str(cookie).expect("hexadecimal digits and our own words are a header's value");
    response.headers_mut().insert(header::SET_COOKIE, value);
    response
}

/// An address on this site; the overview instead of any other.
fn own_address(next: &str) -> &str {
    let is_path = next.starts_with('/') && !next[1..].starts_with(['/', '\\']);
    if is_path && next.bytes().all(|byte| byte.is_ascii_graphic()) { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::own_address;

    #[test]
    fn a_login_leads_only_to_our_own_pages() {
        assert_eq!(own_address("/incidents/3?x=1"), "/incidents/3?x=1");
        for foreign in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/\n/evil",
            "/\t/evil.example",
        ] {
            assert_eq!(own_address(foreign), "/", "{foreign}");
        }
    }
}
