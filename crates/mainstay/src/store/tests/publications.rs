//! What the public is told.

use mainstay_model::publication::{PublicState, PublicUpdate, Publication};

use super::*;

fn told(text: &str) -> Publication {
    let by = "Ada".to_owned();
    let update = PublicUpdate { at: Wall(EIGHT), state: PublicState::Identified, text: text.to_owned(), by };
    Publication { title: Some("No lamps".to_owned()), shown: Some(true), updates: vec![update] }
}

fn publish(id: u64, publication: &Publication) -> Write {
    let (incident, publication) = (IncidentId(id), publication.clone());
    Write::Record(Record::Publication { incident, publication })
}

#[test]
fn what_the_public_is_told_is_told_to_the_next_run_and_goes_with_its_incident() {
    let data = tempfile::tempdir().expect("a folder");
    let retention = Retention { incidents: Duration::from_secs(24 * 3600), ..Retention::default() };
    let (store, ..) = Store::open(data.path(), retention).expect("it opens");
    let old = Wall(EIGHT - 25 * HOUR);
    write(
        &store,
        vec![
            Write::Record(Record::Incident(resolved(1, old))),
            Write::Record(Record::Incident(incident(2))),
            publish(1, &told("old")),
            publish(2, &told("first")),
            publish(2, &told("second")),
        ],
    );
    assert_eq!(count(&store, "publication"), 2);
    keep_house(&store, Wall(EIGHT), || count(&store, "publication") == 1);
    assert_eq!(ask(store.reader().publication(IncidentId(2))).expect("it is read"), Some(told("second")));
    assert_eq!(ask(store.reader().publication(IncidentId(1))).expect("it is read"), None);
    store.close();
    let (_store, restored, _) = open(data.path());
    assert_eq!(restored.publications, [(IncidentId(2), told("second"))].into());
    assert_eq!(restored.publications_left_out, 0);
}

#[test]
fn the_newest_publications_are_restored_and_the_rest_is_named() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(data.path());
    let most = Publication::KEPT_MAX as u64;
    write(&store, (1..=most + 7).map(|id| publish(id, &told("x"))).collect());
    store.close();
    let (_store, restored, _) = open(data.path());
    assert_eq!(restored.publications.len(), Publication::KEPT_MAX);
    assert_eq!(restored.publications.first_key_value().expect("there are some").0, &IncidentId(8));
    assert_eq!(restored.publications_left_out, 7);
}

#[test]
fn incidents_that_may_be_public_are_those_that_hurt_and_those_that_people_wrote_of() {
    let data = tempfile::tempdir().expect("a folder");
    let (store, ..) = open(data.path());
    let hurt = |id| Incident { severity: Severity::Partial, ..resolved(id, Wall(EIGHT + 5)) };
    let before = Incident { began_at: Wall(EIGHT - 1), ..hurt(1) };
    let changes = [before, incident(2), hurt(3), resolved(4, Wall(EIGHT))];
    let mut changes: Vec<Write> =
        changes.into_iter().map(|incident| Write::Record(Record::Incident(incident))).collect();
    changes.push(publish(4, &told("x")));
    write(&store, changes);
    let found = ask(store.reader().public_incidents(Wall(EIGHT), 10)).expect("it is read");
    let found: Vec<_> = found.into_iter().map(|(incident, told)| (incident.id.0, told.is_some())).collect();
    assert_eq!(found, [(4, true), (3, false)]);
}
