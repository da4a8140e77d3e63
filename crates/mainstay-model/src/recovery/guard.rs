//! What keeps a server from being restarted although it needs it, and how that is said.

use crate::id::ServerId;
use crate::incident::EntryKind;
use crate::out::Out;
use crate::server::Server;
use crate::service::Service;
use crate::time::Mono;

impl Service {
    /// A restart would make it worse. Said once a spell.
    pub(super) fn withhold(&mut self, id: &ServerId, why: &str, out: &mut Out) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.recovery.due = None;
        if std::mem::replace(&mut server.recovery.withheld, true) {
            return;
        }
        server.changed(out.now.wall, format!("not restarted: {why}"));
        if let Some(open) = &mut self.incident {
            let text = format!("{} is not restarted: {why}", id.name);
            open.entry(EntryKind::Withheld, Some(id), None, text, out);
        }
    }

    /// Another server of the service is being recovered, or was started and has yet to answer.
    pub(super) fn is_busy_without(&self, id: &ServerId, now: Mono) -> bool {
        let busy = |s: &Server| s.recovery.pending.is_some() || s.is_starting(&self.policy, now);
        self.servers.iter().any(|(other, s)| other != id && busy(s))
    }
}
