//! The map: what depends on what, live. Names and listeners lead to services, services to servers, servers to hosts; whatever needs
//! something else is tied to it. Drawn as SVG here, with a list of the same for narrow screens and for who does not see.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use askama::Template;
use mainstay_model::monitor::{MonitorSnapshot, MonitorState};
use mainstay_model::needs::Needed;
use mainstay_model::snapshot::{ServerSnapshot, ServiceSnapshot};
use mainstay_model::{Endpoint, Snapshot};

use super::look::Look;
use super::{Part, Rendered, monitor_address, render as html, server_address, service_address};

/// Columns: names, services and monitors, servers, hosts.
const COLUMNS: [&str; 4] = ["visitors come by", "services and monitors", "servers", "hosts"];
const WIDTH: usize = 224;
const GAP: usize = 56;
const ROW: usize = 52;
const HEIGHT: usize = 40;
const HEAD: usize = 28;
/// Servers of one service that are drawn; the rest is on its page.
const SERVERS_MAX: usize = 12;
/// Monitors that are drawn: those that are needed, or need something.
const MONITORS_MAX: usize = 60;
/// Letters of a name that fit.
const LETTERS: usize = 21;

/// The map as it is now.
pub(super) fn render(snapshot: &Snapshot) -> Rendered {
    let map = Map::of(snapshot);
    let part = MapPart { none: map.boxes.is_empty(), drawing: map.draw(), tree: tree(snapshot) };
    Rendered { title: "Map · Mainstay".to_owned(), parts: vec![Part { id: "map", html: html(&part) }] }
}

#[derive(Template)]
#[template(path = "map.html")]
struct MapPart {
    none: bool,
    drawing: String,
    tree: Vec<Branch>,
}

/// A service, or a monitor that takes part, with what it rests on.
struct Branch {
    address: String,
    name: String,
    look: Look,
    word: &'static str,
    by: String,
    needs: Vec<String>,
    servers: Vec<(String, String, Look, &'static str, String)>,
}

/// One thing on the map.
struct Box {
    column: usize,
    row: usize,
    name: String,
    word: String,
    look: Look,
    address: Option<String>,
}

#[derive(Default)]
struct Map {
    boxes: Vec<Box>,
    /// From what depends to what it depends on, by their places; whether that was written as `needs`, and whether it is broken.
    ties: Vec<(usize, usize, bool, bool)>,
}

impl Map {
    fn of(snapshot: &Snapshot) -> Self {
        let mut map = Self::default();
        let mut places: BTreeMap<Needed, usize> = BTreeMap::new();
        let mut hosts: BTreeMap<String, (usize, Vec<usize>)> = BTreeMap::new();
        let mut row = 0;
        for service in &snapshot.services {
            let place = map.service(service, row);
            places.insert(Needed::Service(service.id.clone()), place);
            // Of many those that are not well are drawn before the others.
            let mut servers: Vec<&ServerSnapshot> = service.servers.iter().collect();
            let left_out = match servers.len() > SERVERS_MAX {
                true => servers.len() - (SERVERS_MAX - 1),
                false => 0,
            };
            if left_out > 0 {
                servers.sort_by_key(|server| Look::of_health(server.health) == Look::Healthy);
                servers.truncate(SERVERS_MAX - 1);
                let (name, row) = (format!("and {left_out} more"), row + SERVERS_MAX - 1);
                map.add(2, row, &name, String::new(), Look::Unknown, Some(service_address(&service.id)));
            }
            for (n, server) in servers.into_iter().enumerate() {
                let look = Look::of_health(server.health);
                let own = map.add(
                    2,
                    row + n,
                    &server.id.name,
                    look.class().to_owned(),
                    look,
                    Some(server_address(&server.id)),
                );
                map.ties.push((place, own, false, look == Look::Down));
                places.insert(Needed::Server(server.id.clone()), own);
                hosts.entry(host(server)).or_insert((row + n, Vec::new())).1.push(own);
            }
            row += service.servers.len().clamp(1, SERVERS_MAX);
        }
        let (monitors, left_out) = taking_part(snapshot);
        for monitor in monitors {
            let look = look_of(monitor);
            let word = monitor.state.as_str().to_owned();
            let place = map.add(1, row, monitor.id.as_str(), word, look, Some(monitor_address(&monitor.id)));
            places.insert(Needed::Monitor(monitor.id.clone()), place);
            row += 1;
        }
        if left_out > 0 {
            let (name, all) = (format!("and {left_out} more"), Some("/monitors".to_owned()));
            map.add(1, row, &name, String::new(), Look::Unknown, all);
        }
        map.hosts(hosts);
        map.needs(snapshot, &places);
        map
    }

    fn add(
        &mut self,
        column: usize,
        row: usize,
        name: &str,
        word: String,
        look: Look,
        address: Option<String>,
    ) -> usize {
        self.boxes.push(Box { column, row, name: name.to_owned(), word, look, address });
        self.boxes.len() - 1
    }

    /// The service, and how visitors come to it.
    fn service(&mut self, service: &ServiceSnapshot, row: usize) -> usize {
        let look = Look::of_service(service.state);
        let serve = service.servers.iter().filter(|server| server.in_rotation).count();
        let word = format!("{}, {serve} of {} serve", look.class(), service.servers.len());
        let place = self.add(1, row, service.id.as_str(), word, look, Some(service_address(&service.id)));
        let (by, front) = (front_words(service), front_look(service));
        let door = self.add(0, row, &by, front.1.to_owned(), front.0, None);
        self.ties.push((door, place, false, front.0 == Look::Down));
        place
    }

    /// Each host once, beside the first of its servers; never two in one place.
    fn hosts(&mut self, hosts: BTreeMap<String, (usize, Vec<usize>)>) {
        let mut all: Vec<_> = hosts.into_iter().collect();
        all.sort_by_key(|(_, (row, _))| *row);
        let mut free = 0;
        for (name, (row, servers)) in all {
            let down = servers.iter().filter(|place| self.boxes[**place].look == Look::Down).count();
            let look = match down {
                0 => Look::Healthy,
                n if n == servers.len() => Look::Down,
                _ => Look::Degraded,
            };
            let word = format!("{} of {} servers well", servers.len() - down, servers.len());
            let row = row.max(free);
            free = row + 1;
            let place = self.add(3, row, &name, word, look, None);
            self.ties.extend(servers.iter().map(|server| (*server, place, false, false)));
        }
    }

    fn needs(&mut self, snapshot: &Snapshot, places: &BTreeMap<Needed, usize>) {
        let services = snapshot.services.iter().map(|s| (Needed::Service(s.id.clone()), &s.needs));
        let monitors = snapshot.monitors.iter().map(|m| (Needed::Monitor(m.id.clone()), &m.needs));
        for (what, needs) in services.chain(monitors) {
            for need in needs {
                let ends = places.get(&what).zip(places.get(need));
                if let Some((from, to)) = ends {
                    self.ties.push((*from, *to, true, self.boxes[*to].look == Look::Down));
                }
            }
        }
    }

    fn draw(&self) -> String {
        let rows = self.boxes.iter().map(|one| one.row + 1).max().unwrap_or(0);
        let (width, height) = (COLUMNS.len() * (WIDTH + GAP) - GAP, HEAD + rows * ROW);
        let mut svg = format!(
            "<svg class=\"map\" viewBox=\"-2 0 {} {height}\" width=\"{}\" height=\"{height}\" role=\"group\" \
             aria-label=\"What depends on what\">",
            width + 4,
            width + 4
        );
        for (n, column) in COLUMNS.iter().enumerate() {
            let _ = write!(svg, "<text class=\"head\" x=\"{}\" y=\"14\">{column}</text>", n * (WIDTH + GAP));
        }
        for (from, to, written, broken) in &self.ties {
            self.tie(&mut svg, (*from, *to), *written, *broken);
        }
        for one in &self.boxes {
            one.draw(&mut svg);
        }
        svg.push_str("</svg>");
        svg
    }

    /// A line; what is needed within one column is tied by a bow on its left.
    fn tie(&self, svg: &mut String, (from, to): (usize, usize), written: bool, broken: bool) {
        let (a, b) = (&self.boxes[from], &self.boxes[to]);
        let class = match (written, broken) {
            (true, true) => "needs broken",
            (true, false) => "needs",
            (false, true) => "broken",
            (false, false) => "way",
        };
        let (ay, by) = (a.middle(), b.middle());
        let path = if a.column == b.column {
            let (x, out) = (a.left(), a.left().saturating_sub(GAP / 2));
            format!("M{x} {ay}C{out} {ay} {out} {by} {x} {by}")
        } else if a.column < b.column {
            let (x, y) = (a.left() + WIDTH, b.left());
            let middle = x + (y - x) / 2;
            format!("M{x} {ay}C{middle} {ay} {middle} {by} {y} {by}")
        } else {
            let (x, y) = (a.left(), b.left() + WIDTH);
            let middle = y + (x - y) / 2;
            format!("M{x} {ay}C{middle} {ay} {middle} {by} {y} {by}")
        };
        let _ = write!(
            svg,
            "<path class=\"{class}\" d=\"{path}\"><title>{} {} {}</title></path>",
            escape(&a.name),
            if written { "needs" } else { "leads to" },
            escape(&b.name)
        );
    }
}

impl Box {
    fn left(&self) -> usize {
        self.column * (WIDTH + GAP)
    }

    fn top(&self) -> usize {
        HEAD + self.row * ROW
    }

    fn middle(&self) -> usize {
        self.top() + HEIGHT / 2
    }

    fn draw(&self, svg: &mut String) {
        let (x, y, class) = (self.left(), self.top(), self.look.class());
        if let Some(address) = &self.address {
            let _ = write!(svg, "<a href=\"{}\">", escape(address));
        }
        let _ = write!(
            svg,
            "<g class=\"box {class}\"><title>{name}: {word}</title><rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\"/>\
             <use href=\"#{class}\" class=\"mark {class}\" x=\"{}\" y=\"{}\" width=\"12\" height=\"12\"/>\
             <text class=\"name\" x=\"{}\" y=\"{}\">{}</text><text class=\"word\" x=\"{}\" y=\"{}\">{word}</text></g>",
            x + 10,
            y + 8,
            x + 28,
            y + 18,
            escape(&cut(&self.name)),
            x + 28,
            y + 33,
            name = escape(&self.name),
            word = escape(&self.word),
        );
        if self.address.is_some() {
            svg.push_str("</a>");
        }
    }
}

/// The same as a list.
fn tree(snapshot: &Snapshot) -> Vec<Branch> {
    let needs = |needs: &[Needed]| needs.iter().map(ToString::to_string).collect();
    let services = snapshot.services.iter().map(|service| {
        let look = Look::of_service(service.state);
        let server = |server: &ServerSnapshot| {
            let look = Look::of_health(server.health);
            (server_address(&server.id), server.id.name.to_string(), look, look.class(), host(server))
        };
        Branch {
            address: service_address(&service.id),
            name: service.id.to_string(),
            look,
            word: look.class(),
            by: front_words(service),
            needs: needs(&service.needs),
            servers: service.servers.iter().map(server).collect(),
        }
    });
    let monitors = taking_part(snapshot).0.into_iter().map(|monitor| Branch {
        address: monitor_address(&monitor.id),
        name: monitor.id.to_string(),
        look: look_of(monitor),
        word: monitor.state.as_str(),
        by: monitor.target.to_string(),
        needs: needs(&monitor.needs),
        servers: Vec::new(),
    });
    services.chain(monitors).collect()
}

/// Monitors that something needs, or that need something; of many those that are not up before the others, and how many are left out.
fn taking_part(snapshot: &Snapshot) -> (Vec<&MonitorSnapshot>, usize) {
    let services = snapshot.services.iter().flat_map(|service| &service.needs);
    let monitors = snapshot.monitors.iter().flat_map(|monitor| &monitor.needs);
    let needed: std::collections::BTreeSet<&Needed> = services.chain(monitors).collect();
    let is_needed = |monitor: &MonitorSnapshot| {
        needed.iter().any(|need| matches!(need, Needed::Monitor(id) if *id == monitor.id))
    };
    let mut all: Vec<&MonitorSnapshot> = Vec::new();
    if needed.is_empty() {
        return (all, 0);
    }
    all.extend(snapshot.monitors.iter().map(Arc::as_ref).filter(|m| !m.needs.is_empty() || is_needed(m)));
    let left_out = all.len().saturating_sub(MONITORS_MAX);
    if left_out > 0 {
        all.sort_by_key(|monitor| monitor.state == MonitorState::Up);
        all.truncate(MONITORS_MAX);
    }
    (all, left_out)
}

fn look_of(monitor: &MonitorSnapshot) -> Look {
    match monitor.state {
        MonitorState::Up => Look::Healthy,
        MonitorState::Down => Look::Down,
        MonitorState::Degraded => Look::Degraded,
        MonitorState::Maintenance => Look::Maintenance,
        MonitorState::Unknown => Look::Unknown,
    }
}

/// By which names visitors come.
fn front_words(service: &ServiceSnapshot) -> String {
    match service.hosts.as_slice() {
        [] if service.tcp => "TCP connections".to_owned(),
        [] => "every host".to_owned(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

/// Whether DNS and front addresses lead visitors in.
fn front_look(service: &ServiceSnapshot) -> (Look, &'static str) {
    let Some(front) = &service.front else { return (Look::Healthy, "listener ok") };
    let good = front.addresses.iter().filter(|address| address.good).count();
    match (front.dns.iter().any(|says| says.stale), good, front.addresses.len()) {
        (true, ..) => (Look::Down, "DNS leads to a dead address"),
        (_, good, all) if good == all => (Look::Healthy, "DNS and listener ok"),
        (_, 0, _) => (Look::Down, "no front address answers"),
        _ => (Look::Degraded, "a front address is lost"),
    }
}

/// On which machine a server is, as far as its address says.
fn host(server: &ServerSnapshot) -> String {
    match &server.address {
        Some(Endpoint::Tcp(address)) if !address.ip().is_loopback() => address.ip().to_string(),
        Some(_) => "this machine".to_owned(),
        None => "not known".to_owned(),
    }
}

fn cut(name: &str) -> String {
    match name.char_indices().nth(LETTERS) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use mainstay_model::snapshot::Health;

    use super::*;
    use crate::web::tests::fake;

    #[test]
    fn every_service_and_server_is_on_the_map_and_leads_to_its_page() {
        let mut snapshot = fake::snapshot();
        let monitor = snapshot.monitors[0].id.clone();
        snapshot.services[0].needs = vec![Needed::Monitor(monitor.clone())];
        let drawing = Map::of(&snapshot).draw();
        for service in &snapshot.services {
            assert!(drawing.contains(&format!("<a href=\"{}\">", service_address(&service.id))), "{drawing}");
            for server in &service.servers {
                assert!(drawing.contains(&format!("<a href=\"{}\">", server_address(&server.id))));
            }
        }
        assert!(drawing.contains(&format!("<a href=\"{}\">", monitor_address(&monitor))));
        assert!(drawing.contains("class=\"needs"));
        let branches = tree(&snapshot);
        assert_eq!(branches.len(), snapshot.services.len() + 1);
        assert_eq!(branches[0].needs, [monitor.to_string()]);
    }

    #[test]
    fn of_many_servers_those_that_are_not_well_are_drawn_and_the_others_counted() {
        let mut snapshot = fake::snapshot();
        let service = &mut snapshot.services[0];
        let well = ServerSnapshot { health: Health::Healthy, ..service.servers[0].clone() };
        let ill = ServerSnapshot { health: Health::Unhealthy, ..well.clone() };
        let named = |of: &ServerSnapshot, n: usize| {
            let id = of.id.service.server(format!("copy-{n}"));
            ServerSnapshot { id, ..of.clone() }
        };
        service.servers = (0..14).map(|n| named(&well, n)).chain([named(&ill, 14)]).collect();
        let drawing = Map::of(&snapshot).draw();
        assert!(drawing.contains("copy-14") && drawing.contains("and 4 more"), "{drawing}");
        assert!(!drawing.contains("copy-13"), "{drawing}");
    }

    #[test]
    fn names_cannot_break_out_of_the_drawing() {
        let mut snapshot = fake::snapshot();
        snapshot.services[0].hosts = vec!["<script>alert('1')</script>\"".to_owned()];
        assert!(!Map::of(&snapshot).draw().contains("<script"));
    }
}
