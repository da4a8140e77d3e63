//! Servers that answer with an error of their own: who is asked again, and who gets the error.

use mainstay_model::policy::OnError;

use crate::support::{Origin, PATIENCE, Rig, Then, carriage, get, post, table};

const ERROR: &str = "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops";

fn erring() -> Origin {
    Origin::start(|_, wire| {
        wire.send(ERROR);
        Then::Continue
    })
}

#[test]
fn a_get_that_is_answered_with_an_error_is_asked_once_elsewhere_and_the_server_is_charged_with_it() {
    let (erring, good) = (erring(), Origin::of("good"));
    let rig = Rig::new(table(&[erring.address, good.address]));
    let mut wire = rig.connect();
    for _ in 0..6 {
        wire.send(get("/"));
        let answer = wire.answer().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "good"));
    }
    assert_eq!(erring.connections(), 1, "its connection was not to blame");
    let (_, told) = rig.finish(PATIENCE);
    let (service, a) = (told.service(), told.server("a"));
    assert_eq!((service.saved, service.server_errors, service.failed), (3, 0, 0));
    assert_eq!((a.server_errors, a.failed(), told.failures.len()), (3, 0, 0));
}

#[test]
fn what_may_not_be_done_twice_gets_the_error() {
    let (erring, good) = (erring(), Origin::of("never"));
    let mut keyed = table(&[erring.address, good.address]);
    carriage(&mut keyed).retry.on_5xx = OnError::Idempotent;
    for (table, requests) in [
        (
            table(&[erring.address, good.address]),
            vec![post("order"), "PUT / HTTP/1.1\r\nHost: a\r\n\r\n".into()],
        ),
        (keyed, vec![post("order")]),
    ] {
        for request in requests {
            let rig = Rig::new(table.clone());
            let answer = rig.ask(&request);
            assert_eq!((answer.status, answer.text().as_str()), (500, "oops"), "{request}");
            let (_, told) = rig.finish(PATIENCE);
            assert_eq!((told.service().server_errors, told.service().failed), (1, 0));
        }
    }
    assert_eq!(good.count(), 0);
}

#[test]
fn a_put_is_asked_again_if_the_config_says_so_and_a_get_is_not_if_it_says_that() {
    let (erring, good) = (erring(), Origin::of("good"));
    let mut both = table(&[erring.address, good.address]);
    carriage(&mut both).retry.on_5xx = OnError::Idempotent;
    let put = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    assert_eq!(Rig::new(both.clone()).ask(put).text(), "good");
    assert_eq!(good.seen()[0].body, b"body");
    carriage(&mut both).retry.on_5xx = OnError::Never;
    assert_eq!(Rig::new(both).get("/").status, 500);
}

#[test]
fn an_error_that_all_servers_make_is_passed_on_and_soon_not_asked_twice_for() {
    let (one, two) = (erring(), erring());
    let mut both = table(&[one.address, two.address]);
    carriage(&mut both).retry.budget_min = 1_000_000;
    let rig = Rig::new(both);
    let mut wire = rig.connect();
    for _ in 0..200 {
        wire.send(get("/"));
        assert_eq!(wire.answer().unwrap().text(), "oops");
    }
    let asked = one.count() + two.count();
    assert!((201..260).contains(&asked), "{asked} for 200 requests");
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().server_errors, told.service().failed), (200, 0));
}

#[test]
fn an_error_of_the_only_server_or_over_the_budget_is_passed_on_with_its_body() {
    let (erring, good) = (erring(), Origin::of("never"));
    assert_eq!(Rig::new(table(&[erring.address])).get("/").text(), "oops");
    let mut stingy = table(&[erring.address, good.address]);
    (carriage(&mut stingy).retry.budget, carriage(&mut stingy).retry.budget_min) = (0.0, 0);
    let rig = Rig::new(stingy);
    assert_eq!(rig.get("/").text(), "oops");
    let (_, told) = rig.finish(PATIENCE);
    assert_eq!((told.service().retries_refused, told.service().retries), (1, 0));
}
