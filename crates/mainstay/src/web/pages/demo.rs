//! The part of the demo's overview with its buttons, and what came of them.

use askama::Template;

use super::{Part, render as html};
use crate::web::demo::{Demo, DemoResult};

#[derive(Template)]
#[template(path = "demo.html")]
struct DemoPart {
    faults: Vec<(&'static str, &'static str)>,
    playing: String,
    note: String,
    results: Vec<DemoResult>,
}

/// The part as it is now.
pub(super) fn part(demo: &Demo) -> Part {
    let state = demo.state.borrow().clone();
    let part = DemoPart {
        faults: demo.faults.clone(),
        playing: state.playing,
        note: state.note,
        results: state.results,
    };
    Part { id: "demo", html: html(&part) }
}
