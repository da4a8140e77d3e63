//! How Mainstay finds out whether it sees anything: the places that it compares with.

use std::net::SocketAddr;

use super::whole::Resolver;
use crate::config::raw::RawObserver;
use crate::config::read::Field;

/// More of them say nothing more.
const CONTROL_MAX: usize = 8;

impl Resolver<'_> {
    /// The control targets; none by default.
    pub(super) fn control(&self, field: &Field<RawObserver>) -> Vec<SocketAddr> {
        let Some(list) = field.get().and_then(|at| at.value.control.get()) else { return Vec::new() };
        let items = &list.value.0.items;
        if items.len() > CONTROL_MAX {
            self.mistakes.value(&list.place, format!("at most {CONTROL_MAX} are asked"), "name fewer");
        }
        let address = |item: &crate::config::read::At<crate::config::read::Text>| {
            let address = item.value.0.parse::<SocketAddr>().ok();
            let far =
                address.filter(|at| at.port() > 0 && !at.ip().is_loopback() && !at.ip().is_unspecified());
            if far.is_none() {
                let what = "not the address of another machine, with a port";
                self.mistakes.value(&item.place, what, "write \"1.1.1.1:443\"");
            }
            far
        };
        items.iter().filter_map(address).collect()
    }
}
