//! Routes and headers as written.

use super::RawTimeouts;
use crate::config::read::{Named, OneOrMany, Size, Span, Text, Whole, table};

table! {
    /// A part of a service's requests that is treated in its own way. Of all routes and services the most specific one that
    /// fits takes a request: by host, then by path, then by header and method (docs/routing.md).
    RawRoute {
        /// Only on these hosts, which may be others than the service's. By default the service's.
        hosts: OneOrMany<Text>,
        /// `/api` is that path and everything below it. By default the service's `paths`.
        path: OneOrMany<Text>,
        /// This path alone: `/` is the start page and nothing else.
        exact: OneOrMany<Text>,
        /// Only these methods: `["GET", "HEAD"]`.
        methods: OneOrMany<Text>,
        /// Only with all of these headers: each name with its whole value, or with `"*"` for any value.
        header: Named<Text>,
        /// Another service answers, by its deadlines and limits.
        service: Text,
        /// In place of the service's deadlines, key by key.
        timeouts: RawTimeouts,
        /// In place of the service's limits.
        limits: RawRouteLimits,
        /// `high`, `normal` or `low`, in place of the service's `priority`. Only with `limits.concurrent` of the service.
        #[schemars(extend("enum" = ["high", "normal", "low"]))]
        priority: Text,
        /// What takes the place of the route's path in what the server gets: with `/`, `/api/items` becomes `/items`.
        rewrite: Text,
        /// Mainstay answers itself and sends the visitor there: `"https://www.example.com{uri}"`, `"/new{rest}"`.
        redirect: Text,
        /// 301, 302, 303, 307 or 308. Browsers keep 301 and 308 for good.
        #[schemars(extend("default" = 307))]
        redirect_status: Whole,
        /// In place of the service's `redirect-https`.
        redirect_https: bool,
        /// Changes of requests' headers, after the service's.
        request_headers: RawHeaders,
        /// Changes of answers' headers, after the service's.
        response_headers: RawHeaders,
    }
}

table! {
    /// Visitors keep to the server that answered them first, by a cookie that Mainstay gives them.
    RawSticky {
        /// The cookie's name: `"shop-server"`. Needed.
        cookie: Text,
        /// Under which path browsers send it back.
        #[schemars(extend("default" = "/"))]
        path: Text,
        /// How long browsers keep it, from when it is given. By default until they are closed.
        max_age: Span,
        /// A server that is drained keeps the visitors that it has for so long.
        #[schemars(extend("default" = "1h"))]
        drain: Span,
    }
}

table! {
    /// What a route takes on.
    RawRouteLimits {
        /// A larger request body is refused with 413.
        body_max: Size,
    }
}

table! {
    /// Changes of headers. In values, `{host}`, `{scheme}`, `{method}`, `{path}`, `{query}`, `{uri}`, `{rest}`, `{visitor}`,
    /// `{request-id}` and `{service}` are filled in.
    RawHeaders {
        /// Written in place of what there is: `{ Strict-Transport-Security = "max-age=31536000" }`.
        set: Named<Text>,
        /// Written beside what there is.
        add: Named<OneOrMany<Text>>,
        /// Names that are taken away.
        remove: OneOrMany<Text>,
    }
}
