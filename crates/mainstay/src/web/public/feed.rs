//! The Atom feed (RFC 4287): an entry an incident, which is updated as it goes on.

use std::fmt::Write as _;

use jiff::tz::TimeZone;

use super::badge::escape;
use super::page::{incident_address, state_words};
use super::view::{IncidentView, View};
use super::zone;
use crate::web::words;

/// More entries are no news.
const ENTRIES_MAX: usize = 50;

/// The feed as it stands.
pub(super) fn write(view: &View) -> String {
    let incidents = &view.incidents[..view.incidents.len().min(ENTRIES_MAX)];
    let base = view.url.as_deref().unwrap_or("");
    // Without any incident the feed has not changed since the day began.
    let midnight = || zone::midnights(view.at, &view.zone).iter().nth_back(1).copied().unwrap_or(view.at);
    let updated = incidents.iter().map(IncidentView::updated).max().unwrap_or_else(midnight);
    let id = match &view.url {
        Some(url) => escape(url),
        None => format!("urn:mainstay:status:{}", words::encode(&view.title)),
    };
    let title = escape(&view.title);
    let mut feed = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<feed xmlns=\"http://www.w3.org/2005/Atom\" xml:lang=\"en\">\n\
         <id>{id}</id>\n<title>{title}</title>\n<updated>{}</updated>\n<author><name>{title}</name></author>\n\
         <link rel=\"self\" type=\"application/atom+xml\" href=\"{base}feed.atom\"/>\n\
         <link rel=\"alternate\" type=\"text/html\" href=\"{}\"/>\n",
        words::rfc3339(updated),
        if base.is_empty() { "index.html" } else { base },
        base = escape(base),
    );
    for incident in incidents {
        entry(&mut feed, incident, &escape(base), &view.zone);
    }
    feed.push_str("</feed>\n");
    feed
}

fn entry(feed: &mut String, incident: &IncidentView, base: &str, zone: &TimeZone) {
    let IncidentView { id, title, component, began, ended, .. } = incident;
    let mut text = format!("<p>{}. Began {}", escape(&component.1), zone::moment(*began, zone));
    match ended {
        Some(ended) => {
            let _ = write!(text, "; over {}", zone::moment(*ended, zone));
        }
        None => text.push_str("; not over yet"),
    }
    text.push_str(".</p>");
    for update in incident.updates.iter().rev() {
        let body = escape(&update.text).replace('\n', "<br/>");
        let _ = write!(
            text,
            "<p><strong>{}</strong>, {}: {body}</p>",
            state_words(update.state),
            zone::moment(update.at, zone)
        );
    }
    // The number alone begins anew with a new record; the moment tells the two apart.
    let _ = write!(
        feed,
        "<entry>\n<id>urn:mainstay:incident:{id}-{}</id>\n<title>{}</title>\n<published>{}</published>\n<updated>{}</updated>\n\
         <link rel=\"alternate\" type=\"text/html\" href=\"{base}{}\"/>\n<category term=\"{}\"/>\n\
         <content type=\"html\">{}</content>\n</entry>\n",
        began.0,
        escape(title),
        words::rfc3339(*began),
        words::rfc3339(incident.updated()),
        incident_address(incident, zone),
        incident.state.as_str(),
        escape(&text),
    );
}
