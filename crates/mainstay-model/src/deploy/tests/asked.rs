//! Trials that no visitor asks: Mainstay asks both releases itself, tells so, and passes nothing that did not answer.

use super::*;
use crate::testing::Look;

fn asking() -> Policy {
    let mut policy = deployable(2);
    let service = policy.services.values_mut().next().unwrap();
    service.deploy.as_mut().unwrap().ask = vec!["/".to_owned(), "/basket".to_owned()];
    policy
}

#[test]
fn where_nobody_asks_mainstay_asks_both_releases_and_says_so() {
    let mut bench = Bench::settled(asking());
    deploy(&mut bench, "/srv/2");
    bench.advance(seconds(10));
    let figures = under_way(&bench).unwrap();
    assert!(figures.new.asked > 10 && figures.new.asked == figures.new.requests, "{figures:?}");
    assert!(figures.old.asked > figures.new.asked, "both servers of the current one: {figures:?}");
    bench.advance(seconds(300));
    let passed = release(&bench, 2);
    assert_eq!(passed.state, ReleaseState::Current);
    let told = passed.steps.iter().find(|step| step.text.starts_with("promoting")).unwrap();
    assert!(told.text.contains("of the new one's requests were Mainstay's own"), "{told:?}");
    let paths = bench.effects.iter().filter_map(|(_, e)| match e {
        crate::Effect::Probe(order) => match &order.kind {
            crate::policy::ProbeKind::Visit { path, .. } => Some(path.as_str()),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(paths.collect::<std::collections::BTreeSet<_>>(), ["/", "/basket"].into());
}

#[test]
fn what_fails_when_mainstay_asks_is_taken_back_and_nobody_was_hurt() {
    let mut bench = Bench::settled(asking());
    bench.visits.insert(beside(), Look::Bad(ProbeFailure::Status(500)));
    deploy(&mut bench, "/srv/2");
    bench.advance(seconds(120));
    let bad = release(&bench, 2);
    assert_eq!(bad.state, ReleaseState::RolledBack, "{bad:?}");
    assert!(bad.why.starts_with("new: "), "{bad:?}");
    assert!(bench.incidents().is_empty() && runs(&bench) == [1, 1]);
}

#[test]
fn visitors_are_left_to_decide_where_there_are_enough() {
    let mut bench = Bench::settled(asking());
    deploy(&mut bench, "/srv/2");
    bench.serve(seconds(60), 40, good);
    assert_eq!(release(&bench, 2).state, ReleaseState::Current);
    assert_eq!(bench.visits_to(&beside()), 0);
}

#[test]
fn what_does_not_answer_tells_nothing_and_never_passes() {
    let mut bench = Bench::settled(asking());
    bench.visits.insert(beside(), Look::Silent);
    deploy(&mut bench, "/srv/2");
    bench.advance(seconds(600));
    assert_eq!(release(&bench, 2).state, ReleaseState::Trial);
    assert_eq!(under_way(&bench).unwrap().text, "it has not had a request yet");
    bench.visits.insert(beside(), Look::Bad(ProbeFailure::NotProbed("no descriptor is left".to_owned())));
    bench.advance(seconds(600));
    assert_eq!(under_way(&bench).unwrap().text, "it has not had a request yet");
}
