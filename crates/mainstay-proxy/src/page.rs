//! Answers of Mainstay's own: a small page for a person, a problem (RFC 9457) for a program.

use crate::codec::Refusal;
use crate::codec::header::list;

/// Seconds after which a visitor's browser asks again when no server answers.
const RETRY_AFTER: u32 = 2;

/// What Mainstay says when no server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    /// 503: nobody took the request.
    NoServer,
    /// 502: a server took it and did not answer, or not in HTTP.
    BadGateway,
    /// 504: a server took it and did not answer in time.
    GatewayTimeout,
    /// 503: there is no room for more requests.
    Shed {
        /// Seconds after which to ask again.
        after: u32,
    },
    /// 429: the address has asked too often.
    Limited {
        /// Seconds after which it may ask again.
        after: u32,
        /// The connection is closed.
        close: bool,
    },
    /// 404: no service has this host.
    NoSuchSite,
    /// 404: the host is known, but no service has this path on it.
    NoSuchPath,
    /// The request's own fault.
    Refused(Refusal),
}

struct Words {
    status: u16,
    reason: &'static str,
    kind: &'static str,
    title: &'static str,
    detail: &'static str,
    retry_after: Option<u32>,
    /// A browser asks again by itself.
    refreshes: bool,
}

impl Page {
    /// The status it is answered with.
    pub(crate) fn status(self) -> u16 {
        self.words().status
    }

    /// The word used in logs and in the answer's problem type.
    pub(crate) fn as_str(self) -> &'static str {
        self.words().kind
    }

    /// The status of gRPC that says the same, as far as there is one.
    fn grpc_status(self) -> u8 {
        const DEADLINE_EXCEEDED: u8 = 4;
        const RESOURCE_EXHAUSTED: u8 = 8;
        const UNIMPLEMENTED: u8 = 12;
        const INTERNAL: u8 = 13;
        const UNAVAILABLE: u8 = 14;
        match self {
            Page::NoServer | Page::BadGateway | Page::Shed { .. } => UNAVAILABLE,
            Page::GatewayTimeout => DEADLINE_EXCEEDED,
            Page::Limited { .. } | Page::Refused(Refusal::BodyTooLarge) => RESOURCE_EXHAUSTED,
            Page::NoSuchSite | Page::NoSuchPath => UNIMPLEMENTED,
            Page::Refused(Refusal::BodyTimeout) => DEADLINE_EXCEEDED,
            Page::Refused(_) => INTERNAL,
        }
    }

    fn words(self) -> Words {
        match self {
            Page::NoServer => Words {
                status: 503,
                reason: "Service Unavailable",
                kind: "no-server",
                title: "This site is not available right now",
                detail: "None of its servers is answering. This page tries again by itself.",
                retry_after: Some(RETRY_AFTER),
                refreshes: true,
            },
            Page::BadGateway => Words {
                status: 502,
                reason: "Bad Gateway",
                kind: "no-answer",
                title: "The server did not answer",
                detail: "The server took your request but broke off before it answered. If you were sending or ordering something, check whether it arrived before you try again.",
                retry_after: None,
                refreshes: false,
            },
            Page::GatewayTimeout => Words {
                status: 504,
                reason: "Gateway Timeout",
                kind: "no-answer-in-time",
                title: "The server took too long to answer",
                detail: "The server took your request but did not answer in time. If you were sending or ordering something, check whether it arrived before you try again.",
                retry_after: None,
                refreshes: false,
            },
            Page::Shed { after } => Words {
                status: 503,
                reason: "Service Unavailable",
                kind: "overloaded",
                title: "This site is very busy right now",
                detail: "More people ask than its servers can answer. This page tries again by itself.",
                retry_after: Some(after),
                refreshes: true,
            },
            Page::Limited { after, .. } => Words {
                status: 429,
                reason: "Too Many Requests",
                kind: "too-many-requests",
                title: "Too many requests",
                detail: "Your network has asked more often than this site allows. Wait a moment and try again.",
                retry_after: Some(after),
                refreshes: false,
            },
            Page::NoSuchSite => Words {
                status: 404,
                reason: "Not Found",
                kind: "no-such-site",
                title: "There is no site under this name",
                detail: "This server knows no site of the name that was asked for.",
                retry_after: None,
                refreshes: false,
            },
            Page::NoSuchPath => Words {
                status: 404,
                reason: "Not Found",
                kind: "no-such-path",
                title: "There is nothing under this address",
                detail: "The site is here, but nothing on it has the path that was asked for.",
                retry_after: None,
                refreshes: false,
            },
            Page::Refused(refusal) => Words {
                status: refusal.status(),
                reason: reason(refusal.status()),
                kind: refusal.as_str(),
                title: "The request cannot be understood",
                detail: refusal.detail(),
                retry_after: None,
                refreshes: false,
            },
        }
    }
}

/// For whom an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A person.
    Html,
    /// A program.
    Json,
    /// A client of gRPC, which reads nothing but a status of its own.
    Grpc,
}

impl Form {
    /// The one that a client would rather have.
    pub(crate) fn of(accept: Option<&[u8]>) -> Self {
        if prefers_json(accept) { Form::Json } else { Form::Html }
    }
}

/// Whether a request's body says that it is a call of gRPC. What browsers send (`application/grpc-web`) is not.
pub(crate) fn is_grpc(content_type: &[u8]) -> bool {
    let rest = content_type.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// Adds a whole answer.
pub(crate) fn write(
    page: Page,
    form: Form,
    to_head: bool,
    keep_alive: bool,
    request_id: &[u8],
    out: &mut Vec<u8>,
) {
    let words = page.words();
    let (body, media_type) = match form {
        Form::Html => (html(&words), "text/html; charset=utf-8"),
        Form::Json => (problem(&words), "application/problem+json"),
        Form::Grpc => return write_grpc(page, &words, request_id, out),
    };
    let mut head = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nX-Request-Id: {}\r\n",
        words.status,
        words.reason,
        body.len(),
        request_id.escape_ascii()
    );
    if let Some(seconds) = words.retry_after {
        head.push_str(&format!("Retry-After: {seconds}\r\n"));
    }
    head.push_str(if keep_alive { "Connection: keep-alive\r\n\r\n" } else { "Connection: close\r\n\r\n" });
    out.extend_from_slice(head.as_bytes());
    if !to_head {
        out.extend_from_slice(body.as_bytes());
    }
}

/// Adds an answer that is a head and no more, with the status that a client of gRPC reads.
fn write_grpc(page: Page, words: &Words, request_id: &[u8], out: &mut Vec<u8>) {
    // The titles are plain ASCII, so there is nothing to escape.
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\ngrpc-status: {}\r\ngrpc-message: {} ({})\r\nX-Request-Id: {}\r\n\r\n",
        page.grpc_status(),
        words.title,
        words.kind,
        request_id.escape_ascii()
    );
    out.extend_from_slice(head.as_bytes());
}

/// Adds a whole answer that sends the visitor elsewhere.
pub(crate) fn write_redirect(status: u16, to: &[u8], keep_alive: bool, request_id: &[u8], out: &mut Vec<u8>) {
    let reason = match status {
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        _ => "Permanent Redirect",
    };
    out.extend_from_slice(format!("HTTP/1.1 {status} {reason}\r\nLocation: ").as_bytes());
    out.extend_from_slice(to);
    out.extend_from_slice(b"\r\nContent-Length: 0\r\nX-Request-Id: ");
    out.extend_from_slice(request_id);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(match keep_alive {
        true => &b"Connection: keep-alive\r\n\r\n"[..],
        false => &b"Connection: close\r\n\r\n"[..],
    });
}

/// What a connection over the limit gets, whatever it was going to ask.
pub(crate) const TOO_MANY_CONNECTIONS: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n\
    Content-Length: 97\r\nCache-Control: no-store\r\nRetry-After: 2\r\nConnection: close\r\n\r\n\
    {\"type\":\"about:blank\",\"status\":503,\"code\":\"too-many-connections\",\"title\":\"Too many connections\"}\n";

/// The answer to a connection of an address that holds as many as it may.
pub(crate) const TOO_MANY_OF_ADDRESS: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/problem+json\r\n\
    Content-Length: 124\r\nCache-Control: no-store\r\nRetry-After: 2\r\nConnection: close\r\n\r\n\
    {\"type\":\"about:blank\",\"status\":429,\"code\":\"too-many-connections-of-address\",\"title\":\"Too many connections of your address\"}\n";

/// Whether a client would rather have JSON than HTML. One that takes anything gets HTML.
pub(crate) fn prefers_json(accept: Option<&[u8]>) -> bool {
    let Some(accept) = accept else { return false };
    let html = rank(accept, &[b"text/html", b"application/xhtml+xml"], b"text/*");
    let json = rank(accept, &[b"application/json", b"application/problem+json"], b"application/*");
    json > html || (html.0 == 0 && json.0 == 0)
}

/// How much a client wants one of some media types: in thousandths, then how exactly it named them.
fn rank(accept: &[u8], names: &[&[u8]], family: &[u8]) -> (u32, u32) {
    let mut best = (0, 0);
    for range in list(accept) {
        let mut parts = range.split(|&b| b == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let exactness = match name {
            _ if names.iter().any(|n| n.eq_ignore_ascii_case(name)) => 3,
            _ if name.eq_ignore_ascii_case(family) => 2,
            b"*/*" => 1,
            _ => continue,
        };
        let quality =
            parts.find_map(|p| p.strip_prefix(b"q=").or(p.strip_prefix(b"Q="))).map_or(1000, thousandths);
        // The most exact range decides, not the most generous.
        if exactness > best.1 {
            best = (quality, exactness);
        }
    }
    best
}

fn thousandths(quality: &[u8]) -> u32 {
    let text = std::str::from_utf8(quality).unwrap_or_default();
    let value: f32 = text.parse().unwrap_or(0.0);
    (value.clamp(0.0, 1.0) * 1000.0) as u32
}

fn problem(words: &Words) -> String {
    // Every word is Mainstay's own and has nothing to escape.
    format!(
        "{{\"type\":\"about:blank\",\"status\":{},\"code\":\"{}\",\"title\":\"{}\",\"detail\":\"{}\"}}\n",
        words.status, words.kind, words.title, words.detail
    )
}

fn html(words: &Words) -> String {
    let refresh = match words.retry_after {
        Some(seconds) if words.refreshes => {
            format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">\n")
        }
        _ => String::new(),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"robots\" content=\"noindex\">\n{refresh}<title>{title}</title>\n<style>\n\
         :root {{ color-scheme: light dark; }}\n\
         body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; font: 16px/1.5 system-ui, sans-serif; \
         background: light-dark(#fafafa, #16181d); color: light-dark(#1c1e21, #e4e6eb); }}\n\
         main {{ max-width: 32rem; padding: 24px; }}\n\
         h1 {{ font-size: 24px; line-height: 32px; margin: 0 0 12px; }}\n\
         p {{ margin: 0 0 12px; }}\n\
         small {{ color: light-dark(#5c6066, #9aa0a8); }}\n\
         </style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n<p>{detail}</p>\n<small>{status} · {kind}</small>\n\
         </main>\n</body>\n</html>\n",
        title = words.title,
        detail = words.detail,
        status = words.status,
        kind = words.kind,
    )
}

fn reason(status: u16) -> &'static str {
    match status {
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        505 => "HTTP Version Not Supported",
        _ => "Bad Request",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_gets_html_and_a_program_that_says_so_gets_json() {
        for (accept, json) in [
            (None, false),
            (Some("*/*"), false),
            (Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), false),
            (Some("application/json"), true),
            (Some("application/problem+json, text/html;q=0.5"), true),
            (Some("application/json, text/plain, */*"), true),
            (Some("text/html, application/json"), false),
            (Some("text/html;q=0, */*"), true),
            (Some("application/xml"), true),
            (Some("application/json;q=0, */*"), false),
        ] {
            assert_eq!(prefers_json(accept.map(str::as_bytes)), json, "{accept:?}");
        }
    }

    #[test]
    fn the_page_of_an_unavailable_site_is_whole_and_refreshes_itself() {
        let mut out = Vec::new();
        write(Page::NoServer, Form::Html, false, true, b"id", &mut out);
        let text = String::from_utf8(out).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        for part in [
            "HTTP/1.1 503 ",
            "Retry-After: 2",
            "Cache-Control: no-store",
            &format!("Content-Length: {}", body.len()),
        ] {
            assert!(head.contains(part), "{part} in {head}");
        }
        assert!(body.contains("<meta http-equiv=\"refresh\" content=\"2\">"));
        assert!(!body.contains("<script"));
    }

    #[test]
    fn who_is_shed_or_limited_is_told_when_to_come_back_and_only_who_is_shed_comes_by_itself() {
        for (page, status, after, refreshes) in [
            (Page::Shed { after: 5 }, "503", "5", true),
            (Page::Limited { after: 7, close: false }, "429", "7", false),
        ] {
            let mut out = Vec::new();
            write(page, Form::Html, false, true, b"id", &mut out);
            let text = String::from_utf8(out).expect("text");
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
            assert!(text.contains(&format!("\r\nRetry-After: {after}\r\n")), "{text}");
            assert_eq!(text.contains("http-equiv=\"refresh\""), refreshes, "{text}");
        }
    }

    #[test]
    fn a_client_of_grpc_is_told_by_a_status_of_its_own() {
        for (page, status) in [
            (Page::NoServer, "14"),
            (Page::Shed { after: 1 }, "14"),
            (Page::GatewayTimeout, "4"),
            (Page::Limited { after: 1, close: false }, "8"),
            (Page::NoSuchPath, "12"),
            (Page::Refused(Refusal::InvalidTarget), "13"),
        ] {
            let mut out = Vec::new();
            write(page, Form::Grpc, false, true, b"id", &mut out);
            let text = String::from_utf8(out).expect("text");
            assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("\r\n\r\n"), "{text}");
            assert!(text.contains(&format!("\r\ngrpc-status: {status}\r\n")) && text.is_ascii(), "{text}");
        }
        assert!(is_grpc(b"application/grpc") && is_grpc(b"application/grpc+proto"));
        assert!(!is_grpc(b"application/grpc-web+proto") && !is_grpc(b"application/json"));
    }

    #[test]
    fn no_page_has_a_body_for_head() {
        let mut out = Vec::new();
        write(Page::BadGateway, Form::Json, true, false, b"id", &mut out);
        assert!(out.ends_with(b"\r\n\r\n"));
    }

    #[test]
    fn the_answer_to_too_many_connections_has_the_length_that_it_says() {
        for answer in [TOO_MANY_CONNECTIONS, TOO_MANY_OF_ADDRESS] {
            let text = std::str::from_utf8(answer).expect("text");
            let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
        }
    }
}
