//! Servers that cannot be brought back, on the bench: what is made for them, when, and what a crash leaves of it.

use super::*;
use crate::effect::NoticeKind;
use crate::freeze::Freeze;
use crate::input::{AdminState, Input, ProbeFailure, Restored};
use crate::policy::Policy;
use crate::rung::Levels;
use crate::testing::{Bench, Supervisor, address, app, policy, shop};

const SECS: fn(u64) -> Duration = Duration::from_secs;

fn replaced_by(mut policy: Policy, by: Provider, level: Level) -> Policy {
    for service in policy.services.values_mut() {
        service.replace = Some(ReplacePolicy { by: by.clone(), ..ReplacePolicy::default() });
        service.recovery.levels = Levels { replace: level, ..Levels::default() };
        service.recovery.budget = 2;
    }
    policy
}

/// Two servers of somebody else's, which a provider replaces.
fn provided(level: Level) -> Policy {
    replaced_by(policy(2, false), Provider::Other("docker shop:42".to_owned()), level)
}

/// Two supervised servers.
fn own(level: Level) -> Policy {
    replaced_by(policy(2, true), Provider::Process(Arc::clone(&app(1).name)), level)
}

/// Supervised servers are up.
fn running(policy: Policy) -> Bench {
    let mut bench = Bench::fresh(policy);
    bench.advance(SECS(5));
    bench.effects.clear();
    bench
}

fn orders(bench: &Bench) -> Vec<ProvideOrder> {
    let order = |(_, effect): &(Mono, Effect)| match effect {
        Effect::Provide(order) => Some(order.clone()),
        _ => None,
    };
    bench.effects.iter().filter_map(order).collect()
}

fn made() -> Made {
    Made { id: "c0ffee".to_owned(), address: address(7000) }
}

fn says(bench: &mut Bench, order: &ProvideOrder, provided: Provided) {
    bench.tell(Input::Provided { service: shop(), action: order.action, provided });
}

fn texts(bench: &Bench) -> String {
    let timeline = &bench.incidents()[0].timeline;
    timeline.iter().map(|entry| entry.text.clone()).collect::<Vec<_>>().join("\n")
}

fn newest(bench: &Bench) -> Substitute {
    bench.model.snapshot(bench.now).services[0].substitutes[0].clone()
}

/// `app-1` is down for so long that a provider is asked.
fn lost(policy: Policy) -> (Bench, ProvideOrder) {
    let mut bench = Bench::settled(policy);
    bench.is_bad(&app(1), ProbeFailure::Refused);
    bench.advance(SECS(55));
    assert!(orders(&bench).is_empty(), "it may come back");
    bench.advance(SECS(10));
    let all = orders(&bench);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!((&all[0].server, &all[0].task), (&app(1), &ProvideTask::Create));
    (bench, all[0].clone())
}

/// And was replaced.
fn replaced(policy: Policy) -> (Bench, ServerId) {
    let (mut bench, order) = lost(policy);
    says(&mut bench, &order, Provided::Made(made()));
    bench.advance(SECS(5));
    assert_eq!(newest(&bench).stage, Stage::Serving);
    (bench, order.instance)
}

#[test]
fn one_that_cannot_be_brought_back_is_replaced_and_the_incident_is_over() {
    let (mut bench, order) = lost(provided(Level::Automatic));
    assert_eq!(&*order.instance.name, "app-1-r1");
    assert_eq!(bench.targets(), ["app-2"]);
    says(&mut bench, &order, Provided::Made(made()));
    bench.advance(SECS(3));
    assert_eq!(bench.targets(), ["app-1-r1", "app-2"]);
    let share = bench.routed().targets[0].share;
    assert!(share < 0.5, "it starts slowly: {share}");
    bench.advance(SECS(300));
    assert!(bench.model.snapshot(bench.now).services[0].felt == crate::snapshot::ServiceState::Healthy);
    let incident = bench.incidents()[0].clone();
    assert!(incident.resolved_at.is_some(), "{incident:#?}");
    let text = texts(&bench);
    for part in [
        "app-1-r1 is made by docker shop:42 in the place of app-1, because Mainstay cannot restart it, and it has been \
         down for 1m",
        "app-1-r1 was made: c0ffee at 127.0.0.1:7000",
        "app-1-r1 is well, and takes the place of app-1",
        "app-1 gets nothing more: app-1-r1 took its place",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!bench.notice_kinds().contains(&NoticeKind::NeedsPerson));
    assert!(bench.server(&app(1)).why.rule.contains("another instance has taken its place"));
    assert_eq!(orders(&bench).len(), 1, "the old one is nobody's to destroy");
}

#[test]
fn each_step_is_written_down_before_it_is_taken() {
    let (bench, order) = lost(provided(Level::Automatic));
    let place = |wanted: &dyn Fn(&Effect) -> bool| bench.effects.iter().position(|(_, e)| wanted(e)).unwrap();
    let intent = place(
        &|e| matches!(e, Effect::Record(Record::Substitute(one)) if one.action == order.action && one.stage == Stage::Making),
    );
    let asked = place(&|e| matches!(e, Effect::Provide(_)));
    assert!(intent < asked);
}

#[test]
fn a_supervised_one_whose_restarts_are_spent_gets_one_more_process_in_its_place() {
    let mut bench = running(own(Level::Automatic));
    assert_eq!(bench.targets(), ["app-1", "app-2"]);
    for _ in 0..3 {
        bench.crash(&app(1));
        bench.advance(SECS(8));
    }
    bench.advance(SECS(5));
    let one = newest(&bench);
    assert_eq!((one.stage, one.supervised), (Stage::Serving, true));
    assert_eq!(bench.targets(), [&*one.id.name, "app-2"]);
    assert!(orders(&bench).is_empty(), "nobody else is asked");
    assert!(one.reason.starts_with("its restarts are spent"), "{}", one.reason);
    let before = bench.orders().len();
    bench.advance(SECS(1200));
    assert_eq!(bench.orders().len(), before, "the old one is left alone");
    assert!(!bench.notice_kinds().contains(&NoticeKind::NeedsPerson));
}

#[test]
fn a_hung_process_that_was_replaced_is_ended_an_hour_later() {
    let mut bench = running(own(Level::Automatic));
    bench.is_bad(&app(1), ProbeFailure::ConnectTimeout);
    bench.advance(SECS(400));
    assert_eq!(newest(&bench).stage, Stage::Serving);
    let stops = |bench: &Bench| {
        let orders = bench.orders().into_iter();
        orders.filter(|(_, o)| o.kind == ActionKind::Stop).map(|(_, o)| o.server).collect::<Vec<_>>()
    };
    assert!(stops(&bench).is_empty());
    bench.advance(SECS(3600));
    assert_eq!(stops(&bench), [app(1)]);
}

#[test]
fn by_default_a_person_is_asked_and_does_it_with_a_word() {
    let mut bench = Bench::settled(provided(Levels::default().replace));
    bench.is_bad(&app(1), ProbeFailure::Refused);
    bench.advance(SECS(120));
    assert!(orders(&bench).is_empty());
    assert!(bench.notice_kinds().contains(&NoticeKind::NeedsPerson));
    let proposal = bench.model.snapshot(bench.now).proposals[0].clone();
    assert_eq!((proposal.rung, proposal.what.as_str()), (Rung::Replace, "replace app-1 by a new instance"));
    bench.tell(Input::Decide { proposal: proposal.number, approved: true, by: "anna".to_owned() });
    bench.advance(SECS(1));
    assert_eq!(orders(&bench).len(), 1);
}

#[test]
fn what_cannot_be_made_calls_a_person_and_is_not_tried_again_without_one() {
    let (mut bench, order) = lost(provided(Level::Automatic));
    says(&mut bench, &order, Provided::Nothing("there is no image shop:42".to_owned()));
    bench.advance(SECS(600));
    assert_eq!(orders(&bench).len(), 1, "once");
    assert!(
        texts(&bench).contains("app-1-r1 could not be made: there is no image shop:42"),
        "{}",
        texts(&bench)
    );
    assert!(bench.notice_kinds().contains(&NoticeKind::NeedsPerson));
    let proposals = bench.model.snapshot(bench.now).proposals;
    assert!(proposals[0].is_asked(), "a person may have it tried again: {proposals:?}");
    assert_eq!(newest(&bench).stage, Stage::Over);
}

#[test]
fn one_that_is_never_well_serves_nobody_and_is_destroyed() {
    let (mut bench, order) = lost(provided(Level::Automatic));
    bench.is_bad(&order.instance, ProbeFailure::Refused);
    says(&mut bench, &order, Provided::Made(made()));
    bench.advance(SECS(59));
    assert_eq!(bench.targets(), ["app-2"]);
    bench.advance(SECS(2));
    let all = orders(&bench);
    assert_eq!(all[1].task, ProvideTask::Destroy("c0ffee".to_owned()), "{all:?}");
    assert!(texts(&bench).contains("it was not well within 1m (healthy-within)"), "{}", texts(&bench));
    assert!(bench.notice_kinds().contains(&NoticeKind::NeedsPerson));
    says(&mut bench, &all[1], Provided::Nothing(String::new()));
    assert_eq!(newest(&bench).stage, Stage::Over);
    bench.advance(SECS(600));
    assert_eq!(orders(&bench).len(), 2);
    assert!(bench.server(&app(1)).note.is_none(), "the old one is an ordinary server");
}

#[test]
fn a_process_that_ends_at_once_is_not_put_in() {
    let mut bench = running(own(Level::Automatic));
    for _ in 0..3 {
        bench.crash(&app(1));
        bench.advance(SECS(8));
        if bench.server(&app(1)).process.unwrap().restarts_in_window == 2 {
            bench.supervisor = Supervisor::Fails;
        }
    }
    bench.advance(SECS(200));
    assert_eq!(newest(&bench).stage, Stage::Over);
    assert!(bench.notice_kinds().contains(&NoticeKind::NeedsPerson));
    assert_eq!(bench.targets(), ["app-2"]);
}

#[test]
fn one_that_came_back_by_itself_meanwhile_is_not_replaced() {
    let (mut bench, order) = lost(provided(Level::Automatic));
    bench.is_good(&app(1));
    bench.is_bad(&order.instance, ProbeFailure::Refused);
    says(&mut bench, &order, Provided::Made(made()));
    bench.advance(SECS(20));
    assert_eq!(orders(&bench)[1].task, ProvideTask::Destroy("c0ffee".to_owned()));
    assert_eq!(bench.targets(), ["app-1", "app-2"]);
}

#[test]
fn a_freeze_and_another_replacement_forbid_it() {
    let mut bench = Bench::settled(provided(Level::Automatic));
    let until = Wall(bench.now.wall.0 + 3_600_000);
    let freeze = Freeze { until, by: "anna".to_owned(), why: String::new() };
    bench.tell(Input::Freeze(Some(freeze)));
    bench.is_bad(&app(1), ProbeFailure::Refused);
    bench.advance(SECS(120));
    assert!(orders(&bench).is_empty());
    assert!(texts(&bench).contains("app-1 is not replaced: "), "{}", texts(&bench));
    bench.tell(Input::Freeze(None));
    bench.advance(SECS(2));
    assert_eq!(orders(&bench).len(), 1, "thawed");
    bench.is_bad(&app(2), ProbeFailure::Refused);
    bench.advance(SECS(60));
    assert_eq!(orders(&bench).len(), 1, "one at a time");
}

#[test]
fn servers_that_all_answer_badly_are_not_replaced() {
    let mut bench = Bench::settled(provided(Level::Automatic));
    (1..=2).for_each(|n| bench.is_bad(&app(n), ProbeFailure::Certificate("it has expired".to_owned())));
    bench.advance(SECS(300));
    assert!(orders(&bench).is_empty(), "{:?}", orders(&bench));
}

#[test]
fn no_more_than_max_stand_in_for_others() {
    let (mut bench, instance) = replaced(provided(Level::Automatic));
    bench.is_bad(&app(2), ProbeFailure::Refused);
    bench.advance(SECS(200));
    assert_eq!(orders(&bench).len(), 1);
    let text = texts(&bench);
    assert!(
        text.contains("app-2 is not replaced: 1 instance takes the place of others already (max = 1)"),
        "{text}"
    );
    assert!(bench.notice_kinds().contains(&NoticeKind::NeedsPerson));
    assert_eq!(bench.targets(), [instance.name.to_string()]);
}

#[test]
fn an_instance_that_fails_is_replaced_too_until_the_budget_is_spent() {
    let (mut bench, first) = replaced(provided(Level::Automatic));
    let mut last = first;
    for n in 2..=3 {
        bench.is_bad(&last, ProbeFailure::Refused);
        bench.advance(SECS(70));
        let all = orders(&bench);
        let creates: Vec<_> = all.iter().filter(|o| o.task == ProvideTask::Create).collect();
        assert_eq!(creates.len(), n, "{all:?}");
        assert_eq!(creates[n - 1].server, app(1), "it is app-1's place");
        let order = creates[n - 1].clone();
        says(
            &mut bench,
            &order,
            Provided::Made(Made { id: format!("c{n}"), address: address(7000 + n as u16) }),
        );
        bench.advance(SECS(20));
        last = order.instance;
        assert_eq!(bench.targets(), [&*last.name, "app-2"]);
    }
    bench.is_bad(&last, ProbeFailure::Refused);
    bench.advance(SECS(300));
    let creates = orders(&bench).into_iter().filter(|o| o.task == ProvideTask::Create).count();
    assert_eq!(creates, 3);
    assert!(texts(&bench).contains("3 replacements in 24h are spent (budget = 3)"), "{}", texts(&bench));
    bench.advance(SECS(3700));
    let destroyed: Vec<_> = orders(&bench).into_iter().filter(|o| o.task != ProvideTask::Create).collect();
    assert_eq!(destroyed.len(), 2, "those that were replaced: {destroyed:?}");
}

#[test]
fn a_person_gets_the_old_one_back_and_the_instance_goes_an_hour_later() {
    let (mut bench, instance) = replaced(provided(Level::Automatic));
    bench.is_good(&app(1));
    bench.advance(SECS(60));
    assert_eq!(bench.targets(), [&*instance.name, "app-2"], "not by itself");
    bench.admin(&app(1), AdminState::Ready);
    bench.advance(SECS(5));
    assert_eq!(bench.targets(), ["app-1", &*instance.name, "app-2"]);
    bench.advance(SECS(60));
    assert_eq!(bench.targets(), ["app-1", "app-2"]);
    assert_eq!(newest(&bench).stage, Stage::Leaving);
    bench.advance(SECS(3500));
    assert_eq!(orders(&bench).len(), 1);
    bench.advance(SECS(120));
    let all = orders(&bench);
    assert_eq!(all[1].task, ProvideTask::Destroy("c0ffee".to_owned()));
    says(&mut bench, &all[1], Provided::NotKnown("it did not end in time".to_owned()));
    let one = newest(&bench);
    assert_eq!(one.stage, Stage::Over);
    assert!(one.error.is_some_and(|error| error.contains("(c0ffee) was destroyed is not known")));
}

/// A later run that is left this.
fn again(policy: Policy, substitutes: Vec<Substitute>, unfinished: &Bench) -> Bench {
    let mut bench = Bench::empty(policy);
    bench.looks = unfinished.looks.clone();
    bench.now.wall = unfinished.now.wall;
    bench.tell(Input::Restored(Restored { substitutes, last_action: 1, ..Restored::default() }));
    bench.tell(Input::Policy(bench.policy.clone()));
    bench.addresses();
    bench.advance(SECS(3));
    bench
}

#[test]
fn after_a_restart_of_mainstay_it_still_serves_and_the_old_one_does_not() {
    let (before, instance) = replaced(provided(Level::Automatic));
    let bench = again(provided(Level::Automatic), vec![newest(&before)], &before);
    assert_eq!(bench.targets(), [&*instance.name, "app-2"]);
    assert!(orders(&bench).is_empty());
    let mut before = running(own(Level::Automatic));
    for _ in 0..4 {
        before.crash(&app(1));
        before.advance(SECS(8));
    }
    let one = newest(&before);
    let mut bench = again(own(Level::Automatic), vec![one.clone()], &before);
    bench.advance(SECS(5));
    assert_eq!(bench.targets(), [&*one.id.name, "app-2"], "its process is started anew");
}

#[test]
fn what_was_being_made_in_a_crash_is_asked_for_and_not_made_twice() {
    for (provided_, serves, person) in [
        (Provided::Made(made()), true, false),
        (Provided::Nothing("it is not there".to_owned()), false, false),
        (Provided::NotKnown("nobody can be asked".to_owned()), false, true),
    ] {
        let (before, _) = lost(provided(Level::Automatic));
        let mut bench = again(provided(Level::Automatic), vec![newest(&before)], &before);
        let all = orders(&bench);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].task, ProvideTask::Find);
        bench.advance(SECS(3));
        says(&mut bench, &all[0], provided_.clone());
        bench.advance(SECS(20));
        assert_eq!(bench.targets().contains(&all[0].instance.name.to_string()), serves, "{provided_:?}");
        assert_eq!(orders(&bench).len(), 1, "{provided_:?}");
        let called = bench.notice_kinds().contains(&NoticeKind::NeedsPerson);
        assert_eq!(called, person, "{provided_:?}");
    }
}

#[test]
fn what_was_being_destroyed_in_a_crash_is_destroyed_only_if_it_is_there() {
    for (found, destroys) in [(Provided::Made(made()), 1), (Provided::Nothing(String::new()), 0)] {
        let (before, _) = replaced(provided(Level::Automatic));
        let one = Substitute { stage: Stage::Destroying, ..newest(&before) };
        let mut bench = again(provided(Level::Automatic), vec![one], &before);
        let find = orders(&bench)[0].clone();
        assert_eq!(find.task, ProvideTask::Find);
        says(&mut bench, &find, found);
        let all = orders(&bench);
        assert_eq!(all.iter().filter(|o| matches!(o.task, ProvideTask::Destroy(_))).count(), destroys);
    }
}

#[test]
fn a_config_without_it_lets_the_instance_go_and_says_what_was_not_destroyed() {
    let (mut bench, _) = replaced(provided(Level::Automatic));
    bench.service_policy().replace = None;
    bench.tell(Input::Policy(bench.policy.clone()));
    bench.advance(SECS(1));
    let one = newest(&bench);
    assert_eq!(one.stage, Stage::Over);
    assert!(one.error.is_some_and(|error| error.contains("c0ffee was not destroyed")));
    assert!(bench.server(&app(1)).note.is_none());
}
