//! What people tell the public of an incident: its title, whether it is shown, and updates as it goes on. The judge keeps
//! them beside the incidents, also beside those that are long over, so that what is written next knows what was written before.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::effect::Record;
use crate::id::IncidentId;
use crate::incident::EntryKind;
use crate::model::Model;
use crate::time::Wall;

/// What is told of one incident, beyond what the incident says by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Publication {
    /// In place of the title that is made for it.
    pub title: Option<String>,
    /// It is shown, or is not; `None`: it is if it hurts visitors.
    pub shown: Option<bool>,
    /// Oldest first, at most [`Publication::UPDATES_MAX`].
    pub updates: Vec<PublicUpdate>,
}

impl Publication {
    /// The longest title, in characters.
    pub const TITLE_MAX: usize = 120;
    /// The longest update, in characters.
    pub const TEXT_MAX: usize = 2000;
    /// Updates of one incident; who needs more has a page of their own.
    pub const UPDATES_MAX: usize = 40;
    /// Incidents whose publications the judge knows, the newest ones. Those of older incidents stay as they are in the record.
    pub const KEPT_MAX: usize = 200;
}

/// One update, by a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicUpdate {
    /// When it was written.
    pub at: Wall,
    /// How far things are.
    pub state: PublicState,
    /// Plain text, perhaps of several lines.
    pub text: String,
    /// Who wrote it; not told to the public.
    pub by: String,
}

/// How far things are, in the words that status pages use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublicState {
    /// Nobody knows yet why.
    Investigating,
    /// It is known why.
    Identified,
    /// It should be mended, and is watched.
    Monitoring,
    /// It is over.
    Resolved,
}

impl PublicState {
    /// All states, in their order.
    pub const ALL: [PublicState; 4] =
        [PublicState::Investigating, PublicState::Identified, PublicState::Monitoring, PublicState::Resolved];

    /// The word used in the API and in forms.
    pub fn as_str(self) -> &'static str {
        match self {
            PublicState::Investigating => "investigating",
            PublicState::Identified => "identified",
            PublicState::Monitoring => "monitoring",
            PublicState::Resolved => "resolved",
        }
    }
}

/// What a person changes of a publication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublicChange {
    /// Something more is told.
    Update {
        /// How far things are.
        state: PublicState,
        /// Plain text.
        text: String,
    },
    /// It is called otherwise, or shown, or shown no more.
    Face {
        /// In place of the title that is made for it.
        title: Option<String>,
        /// It is shown, or is not; `None`: it is if it hurts visitors.
        shown: Option<bool>,
    },
}

impl PublicChange {
    /// It keeps the limits, so that the judge takes it.
    pub fn is_fit(&self) -> bool {
        let fits = |text: &str, most: usize| !text.trim().is_empty() && text.chars().count() <= most;
        match self {
            PublicChange::Update { text, .. } => fits(text, Publication::TEXT_MAX),
            PublicChange::Face { title, .. } => {
                title.as_ref().is_none_or(|t| fits(t, Publication::TITLE_MAX))
            }
        }
    }

    /// What the incident's timeline says of it.
    fn words(&self, before: &Publication, by: &str) -> Option<String> {
        match self {
            PublicChange::Update { state, text } => {
                Some(format!("{by} wrote on the status page: {}: {}", state.as_str(), first_line(text)))
            }
            PublicChange::Face { shown, .. } if *shown != before.shown => Some(match shown {
                Some(true) => format!("{by} published it on the status page"),
                Some(false) => format!("{by} hid it from the status page"),
                None => format!("{by} left it to Mainstay whether the status page shows it"),
            }),
            PublicChange::Face { title: Some(title), .. } if before.title.as_ref() != Some(title) => {
                Some(format!("{by} called it on the status page: {title}"))
            }
            PublicChange::Face { .. } => None,
        }
    }
}

/// Enough of a text for a line of a timeline.
fn first_line(text: &str) -> String {
    const MOST: usize = 120;
    let line = text.trim().lines().next().unwrap_or_default();
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// Publications by incident, shared with every snapshot.
pub type Publications = Arc<BTreeMap<IncidentId, Arc<Publication>>>;

/// The publications that the judge knows.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) all: Publications,
    /// Those of incidents up to this number are not known any more, and cannot be changed.
    forgotten: u64,
}

impl Known {
    /// What an earlier run left.
    pub(crate) fn restored(publications: BTreeMap<IncidentId, Publication>, left_out: u64) -> Self {
        let all = publications.into_iter().map(|(id, publication)| (id, Arc::new(publication))).collect();
        let mut known = Self { all: Arc::new(all), forgotten: left_out };
        while known.all.len() > Publication::KEPT_MAX {
            known.forget_oldest();
        }
        known
    }

    fn forget_oldest(&mut self) {
        if let Some((id, _)) = Arc::make_mut(&mut self.all).pop_first() {
            self.forgotten = self.forgotten.max(id.0);
        }
    }

    /// Makes a place for an incident's publication; `false` when it is too old to have one.
    fn make_room(&mut self, id: IncidentId) -> bool {
        if self.all.contains_key(&id) {
            return true;
        }
        while self.all.len() >= Publication::KEPT_MAX {
            if self.all.first_key_value().is_some_and(|(oldest, _)| id < *oldest) {
                return false;
            }
            self.forget_oldest();
        }
        id.0 > self.forgotten
    }
}

impl Model {
    /// A person tells the public something. What breaks a limit, or is about no incident, is not taken.
    pub(crate) fn on_publish(&mut self, id: IncidentId, change: &PublicChange, by: &str) {
        let known = (1..=self.out.last_incident).contains(&id.0);
        if !known || !change.is_fit() || !self.publications.make_room(id) {
            return;
        }
        let before = self.publications.all.get(&id).map(|p| Publication::clone(p)).unwrap_or_default();
        let mut publication = before.clone();
        match change.clone() {
            PublicChange::Update { .. } if before.updates.len() >= Publication::UPDATES_MAX => return,
            PublicChange::Update { state, text } => {
                let by = by.to_owned();
                publication.updates.push(PublicUpdate { at: self.out.now.wall, state, text, by });
            }
            PublicChange::Face { title, shown } => (publication.title, publication.shown) = (title, shown),
        }
        if publication == before {
            return;
        }
        let words = change.words(&before, by);
        if let Some(words) = words
            && let Some((open, out)) = self.open_incident(id)
        {
            open.entry(EntryKind::Published, None, None, words, out);
        }
        self.out.record(Record::Publication { incident: id, publication: publication.clone() });
        Arc::make_mut(&mut self.publications.all).insert(id, Arc::new(publication));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Input, ProbeFailure, Restored};
    use crate::testing::{Bench, app, policy};

    fn update(text: &str) -> PublicChange {
        PublicChange::Update { state: PublicState::Identified, text: text.to_owned() }
    }

    fn publish(bench: &mut Bench, id: u64, change: PublicChange) {
        bench.tell(Input::Publish { incident: IncidentId(id), change, by: "Ada".to_owned() });
    }

    fn bench() -> Bench {
        let mut bench = Bench::settled(policy(2, false));
        bench.is_bad(&app(1), ProbeFailure::Refused);
        bench.advance(std::time::Duration::from_secs(3));
        assert_eq!(bench.incidents().len(), 1);
        bench
    }

    #[test]
    fn an_update_is_written_down_shown_and_named_in_the_timeline() {
        let mut bench = bench();
        publish(&mut bench, 1, update("a cable was cut\nwe are on our way"));
        let written = bench.records().into_iter().find_map(|record| match record {
            Record::Publication { incident: IncidentId(1), publication } => Some(publication.clone()),
            _ => None,
        });
        let written = written.expect("it is written down");
        assert_eq!(written.updates[0].text, "a cable was cut\nwe are on our way");
        let snapshot = bench.model.snapshot(bench.now);
        assert_eq!(*snapshot.publications[&IncidentId(1)], written);
        let last = snapshot.incidents[0].timeline.last().unwrap().text.clone();
        assert_eq!(last, "Ada wrote on the status page: identified: a cable was cut");
    }

    #[test]
    fn an_incident_is_hidden_and_called_otherwise() {
        let mut bench = bench();
        let face = |shown| PublicChange::Face { title: Some("No lamps".to_owned()), shown };
        publish(&mut bench, 1, face(Some(false)));
        publish(&mut bench, 1, face(Some(false)));
        let snapshot = bench.model.snapshot(bench.now);
        let publication = &snapshot.publications[&IncidentId(1)];
        assert_eq!((publication.title.as_deref(), publication.shown), (Some("No lamps"), Some(false)));
        let told = bench.records().iter().filter(|r| matches!(r, Record::Publication { .. })).count();
        assert_eq!(told, 1, "what changes nothing is not written down");
    }

    #[test]
    fn what_breaks_a_limit_or_is_about_no_incident_is_not_taken() {
        let mut bench = bench();
        publish(&mut bench, 0, update("x"));
        publish(&mut bench, 2, update("x"));
        publish(&mut bench, 1, update("  \n"));
        publish(&mut bench, 1, update(&"x".repeat(Publication::TEXT_MAX + 1)));
        publish(&mut bench, 1, PublicChange::Face { title: Some(String::new()), shown: None });
        assert!(bench.model.snapshot(bench.now).publications.is_empty());
        for n in 0..2 * Publication::UPDATES_MAX {
            publish(&mut bench, 1, update(&format!("{n}")));
        }
        let snapshot = bench.model.snapshot(bench.now);
        assert_eq!(snapshot.publications[&IncidentId(1)].updates.len(), Publication::UPDATES_MAX);
    }

    #[test]
    fn those_of_the_newest_incidents_are_known_and_an_older_one_is_never_overwritten() {
        let mut bench = Bench::empty(policy(1, false));
        let publication = Publication { shown: Some(false), ..Publication::default() };
        let publications = (100..=299).map(|id| (IncidentId(id), publication.clone())).collect();
        bench.tell(Input::Restored(Restored {
            last_incident: 400,
            publications,
            publications_left_out: 50,
            ..Restored::default()
        }));
        let known = |bench: &Bench| bench.model.snapshot(bench.now).publications;
        publish(&mut bench, 50, update("x"));
        publish(&mut bench, 99, update("x"));
        assert_eq!(known(&bench).len(), 200);
        publish(&mut bench, 300, update("x"));
        publish(&mut bench, 100, update("x"));
        let publications = known(&bench);
        assert_eq!((publications.len(), publications.first_key_value().unwrap().0.0), (200, 101));
        assert!(publications.contains_key(&IncidentId(300)));
    }
}
