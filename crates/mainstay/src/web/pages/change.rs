//! What was changed: in the hour before an incident, and in the last day of a service.

use askama::Template;
use mainstay_model::change::Change;
use mainstay_model::{ServiceId, Snapshot};

use super::render as html;
use crate::web::words;

/// A change in a list.
pub(super) struct ChangeRow {
    pub(super) when: String,
    pub(super) date: String,
    pub(super) kind: &'static str,
    pub(super) what: String,
    pub(super) by: String,
}

impl ChangeRow {
    /// `when` is said in whatever way the list goes by.
    pub(super) fn of(change: &Change, when: String) -> Self {
        let date = words::absolute(change.at);
        let (what, by) = (change.what.clone(), change.by.clone());
        Self { when, date, kind: change.kind.as_str(), what, by }
    }
}

#[derive(Template)]
#[template(path = "service-changes.html")]
struct ChangesPart {
    changes: Vec<ChangeRow>,
    /// One of them was made within the last hour.
    recent: bool,
}

/// Changes shown on the page of a service.
const SHOWN: usize = 20;

/// What was changed that touches a service; empty when nothing was.
pub(super) fn of_service(id: &ServiceId, snapshot: &Snapshot) -> String {
    let mine = |change: &&std::sync::Arc<Change>| change.service.as_ref().is_none_or(|service| service == id);
    let changes: Vec<_> = snapshot.changes.iter().filter(mine).take(SHOWN).collect();
    let recent = changes.first().is_some_and(|c| snapshot.at.ms_since(c.at) < 60 * 60 * 1000);
    let row = |change: &std::sync::Arc<Change>| ChangeRow::of(change, words::clock(change.at));
    html(&ChangesPart { changes: changes.into_iter().map(row).collect(), recent })
}
