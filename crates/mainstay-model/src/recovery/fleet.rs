//! How many of all servers that Mainstay can restart were restarted while they may have run, lately: a fault of Mainstay's own judgement, or of what all of
//! them share, must not take the whole fleet down one service at a time.
//!
//! Within [`SPAN`] not more than a third of all those are restarted without a person; one always may be, and with
//! fewer than [`SMALL`] there is no limit. Counted are servers, not restarts, and only those whose process ran: who starts what is
//! dead takes nothing away from anybody.

use std::collections::VecDeque;
use std::time::Duration;

use crate::id::ServerId;
use crate::model::Model;
use crate::time::Mono;

/// Restarts are counted for so long.
pub(crate) const SPAN: Duration = Duration::from_secs(3600);
/// With fewer servers a third of them says nothing.
const SMALL: usize = 4;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    /// All that Mainstay can restart.
    pub(crate) servers: usize,
    /// Who was restarted, and when last; oldest first, each once.
    restarted: VecDeque<(Mono, ServerId)>,
}

impl Fleet {
    /// How many were restarted, if this one may not be too.
    pub(crate) fn is_spent_for(&self, server: &ServerId, now: Mono) -> Option<usize> {
        if self.servers < SMALL {
            return None;
        }
        let mut lately = self.restarted.iter().filter(|(at, _)| now.since(*at) < SPAN);
        let count = lately.clone().count();
        let known = lately.any(|(_, id)| id == server);
        (!known && count >= (self.servers / 3).max(1)).then_some(count)
    }

    /// A server that runs is restarted.
    pub(crate) fn restarts(&mut self, server: &ServerId, now: Mono) {
        self.restarted.retain(|(at, id)| id != server && now.since(*at) < SPAN);
        self.restarted.push_back((now, server.clone()));
    }

    /// When there is room for another one.
    pub(crate) fn room_at(&self, now: Mono) -> Option<Mono> {
        self.restarted.iter().map(|(at, _)| *at + SPAN).find(|at| *at > now)
    }
}

impl Model {
    /// Servers come and go.
    pub(crate) fn count_the_fleet(&mut self) {
        let servers = self.services.values().flat_map(|service| service.servers.values());
        self.out.fleet.servers = servers.filter(|server| server.is_restartable()).count();
    }
}
