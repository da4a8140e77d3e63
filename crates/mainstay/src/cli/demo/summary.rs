//! What came of one fault: its times by the record, and what visitors saw by their own count.

use std::fmt::Write as _;

use mainstay_model::Wall;
use mainstay_model::drill;
use mainstay_model::incident::Incident;
use serde::Serialize;

use super::fault::Fault;
use super::load::LoadSnapshot;
use crate::cli::paint::counted;
use crate::cli::table::table as aligned;
use crate::web::demo::DemoResult;

/// What those who came saw of it.
#[derive(Debug, Default)]
pub struct Saw {
    /// Visitors, by their own count.
    pub visitors: LoadSnapshot,
    /// Requests of theirs that were well answered only because Mainstay tried again.
    pub saved: u64,
    /// Attackers.
    pub attackers: LoadSnapshot,
}

/// What Mainstay did beside what stands in the incident.
#[derive(Debug, Default)]
pub struct Done {
    /// When a release was taken back, and its share given to the servers.
    pub rolled_back: Option<Wall>,
    /// The most instances that it wanted; 0: it changed nothing.
    pub most_instances: u32,
}

/// The result of one fault. Times are milliseconds since the fault; `null` where there was none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// What went wrong.
    pub fault: Fault,
    /// Requests that visitors sent.
    pub requests: u64,
    /// Of them not well answered, less those that were refused with an honest 503 or 429.
    pub failed: u64,
    /// Of them refused with 503 and a time to come again: no room, or nobody there.
    pub shed: u64,
    /// Of them refused because their address asked too often.
    pub limited: u64,
    /// Of them well answered only because they were tried again.
    pub saved: u64,
    /// Of them well answered, after more than a second.
    pub slow: u64,
    /// The longest that a visitor waited.
    pub slowest_ms: u64,
    /// Requests of attackers.
    pub attacks: u64,
    /// Of them refused.
    pub attacks_refused: u64,
    /// To the first sign in the record.
    pub notice_ms: Option<i64>,
    /// To the server being out of rotation, or the release without its share.
    pub divert_ms: Option<i64>,
    /// To every server serving at its full share again.
    pub recover_ms: Option<i64>,
    /// The incident's number.
    pub incident: Option<u64>,
    /// Its cause, as far as Mainstay knows it.
    pub cause: Option<&'static str>,
    /// What Mainstay did, in words.
    pub done: Vec<String>,
    /// It came to its end in time.
    pub over: bool,
}

impl Summary {
    /// What the record says of the incident, and those who came of their requests.
    pub fn of(
        fault: Fault,
        at: Wall,
        incident: Option<&Incident>,
        saw: &Saw,
        done: &Done,
        over: bool,
    ) -> Self {
        let since = |then: Wall| then.ms_since(at).max(0);
        Self {
            fault,
            requests: saw.visitors.sent,
            failed: saw.visitors.hard_failed(),
            shed: saw.visitors.shed,
            limited: saw.visitors.limited,
            saved: saw.saved,
            slow: saw.visitors.slow,
            slowest_ms: u64::try_from(saw.visitors.slowest().as_millis()).unwrap_or(u64::MAX),
            attacks: saw.attackers.sent,
            attacks_refused: saw.attackers.limited,
            notice_ms: incident.map(|i| match fault {
                // Their first sign is found looking back: that it is no passing burst is known seconds later.
                Fault::Overload | Fault::Attack => since(i.opened_at),
                _ => since(i.began_at),
            }),
            divert_ms: incident.and_then(|i| i.diverted_at).or(done.rolled_back).map(since),
            recover_ms: incident.and_then(|i| i.recovered_at).map(since),
            incident: incident.map(|i| i.id.0),
            cause: incident.and_then(|i| i.diagnosis.as_ref()).map(|d| d.cause.as_str()),
            done: what_was_done(fault, incident, saw, done),
            over,
        }
    }

    /// It was noticed and came to its end, and where no visitor needed to be hurt none was.
    pub fn is_good(&self) -> bool {
        let told = self.over && self.requests > 0 && self.incident.is_some();
        let unhurt = self.failed == 0 && self.shed == 0 && self.limited == 0;
        told && (unhurt && self.recover_ms.is_some() || self.fault != Fault::Kill)
    }

    /// The summary for a person.
    pub fn for_a_person(&self) -> String {
        let mut text = format!(
            "  requests sent    {}\n  failed           {}\n  saved by a retry {}\n",
            self.requests, self.failed, self.saved
        );
        if self.shed > 0 {
            let _ = writeln!(text, "  come again (503) {}", self.shed);
        }
        if self.limited > 0 {
            let _ = writeln!(text, "  too often (429)  {}", self.limited);
        }
        if self.attacks > 0 {
            let _ = writeln!(
                text,
                "  attackers' own   {}, of them refused {}",
                self.attacks, self.attacks_refused
            );
        }
        let _ = write!(
            text,
            "  time to notice   {}\n  time to divert   {}\n  time to recover  {}\n  slowest answer   {} ms\n",
            ms(self.notice_ms),
            ms(self.divert_ms),
            ms(self.recover_ms),
            self.slowest_ms,
        );
        if !self.over {
            text.push_str("  It was not over in time.\n");
        }
        text
    }

    /// The same as a row of the dashboard's table.
    pub fn for_the_page(&self) -> DemoResult {
        DemoResult {
            title: self.fault.title().to_owned(),
            noticed: ms(self.notice_ms),
            diverted: ms(self.divert_ms),
            recovered: ms(self.recover_ms),
            visitors: self.what_visitors_saw(),
            done: self.done.join(", "),
            incident: self.incident,
        }
    }

    fn what_visitors_saw(&self) -> String {
        let mut words = vec![format!("{} of {} failed", self.failed, self.requests)];
        let counts = [
            (self.shed, "asked to come again (503)"),
            (self.limited, "refused as too many"),
            (self.saved, "saved by a retry"),
            (self.slow, "slower than 1 s"),
        ];
        words.extend(counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")));
        words.push(format!("slowest {} ms", self.slowest_ms));
        words.join(", ")
    }
}

/// All of them as a table that reads well as text and as Markdown.
pub fn table(summaries: &[Summary]) -> String {
    let head = ["fault", "noticed", "diverted", "recovered", "what visitors saw", "what Mainstay did"];
    let rows: Vec<Vec<String>> = summaries
        .iter()
        .map(|summary| {
            let row = summary.for_the_page();
            vec![row.title, row.noticed, row.diverted, row.recovered, row.visitors, row.done]
        })
        .collect();
    aligned(&head, &rows)
}

fn ms(value: Option<i64>) -> String {
    value.map_or("–".to_owned(), |ms| format!("{ms} ms"))
}

fn what_was_done(fault: Fault, incident: Option<&Incident>, saw: &Saw, done: &Done) -> Vec<String> {
    let mut words: Vec<String> = incident.map(drill::what_was_done).unwrap_or_default();
    let mut say = |is: bool, what: String| {
        if is {
            words.push(what);
        }
    };
    say(done.rolled_back.is_some(), "rolled back".to_owned());
    // With all servers dead, 503 is no shedding.
    say(fault == Fault::Overload && saw.visitors.shed > 0, "shed".to_owned());
    say(done.most_instances > 0, format!("scaled to {} instances", done.most_instances));
    let (refused, all) = (saw.attackers.limited, saw.attackers.sent);
    say(refused > 0, format!("{refused} of {} of the attackers refused", counted(all, "request")));
    words
}

#[cfg(test)]
mod tests {
    use super::super::story::testing::incident;
    use super::*;

    const AT: Wall = Wall(1000);

    fn saw(sent: u64, failed: u64, shed: u64) -> Saw {
        let visitors = LoadSnapshot { sent, ok: sent - failed, failed, shed, ..LoadSnapshot::default() };
        Saw { visitors, saved: 1, attackers: LoadSnapshot::default() }
    }

    fn summary(fault: Fault, incident: &Incident, saw: &Saw) -> Summary {
        Summary::of(fault, AT, Some(incident), saw, &Done::default(), true)
    }

    #[test]
    fn a_server_that_did_not_come_back_is_not_a_good_end() {
        let summary = summary(Fault::Kill, &incident(1003), &saw(100, 0, 0));
        assert_eq!((summary.notice_ms, summary.divert_ms, summary.recover_ms), (Some(3), Some(5), None));
        assert!(!summary.is_good());
    }

    #[test]
    fn a_failed_request_is_not_a_good_end_of_a_kill() {
        let mut incident = incident(1003);
        incident.recovered_at = Some(Wall(3000));
        assert!(summary(Fault::Kill, &incident, &saw(100, 0, 0)).is_good());
        assert!(!summary(Fault::Kill, &incident, &saw(100, 1, 0)).is_good());
        assert!(!summary(Fault::Kill, &incident, &saw(100, 1, 1)).is_good());
        assert!(summary(Fault::Overload, &incident, &saw(100, 1, 1)).is_good());
    }

    #[test]
    fn what_was_not_noticed_or_did_not_end_is_not_a_good_end() {
        let unnoticed = Summary::of(Fault::Attack, AT, None, &saw(100, 0, 0), &Done::default(), true);
        assert!(!unnoticed.is_good());
        let endless =
            Summary::of(Fault::Attack, AT, Some(&incident(1003)), &saw(100, 0, 0), &Done::default(), false);
        assert!(!endless.is_good());
        assert!(endless.for_a_person().contains("not over in time"));
    }

    #[test]
    fn the_table_has_a_line_for_each_and_all_are_as_long() {
        let rows = [
            summary(Fault::Kill, &incident(1003), &saw(100, 0, 0)),
            summary(Fault::Overload, &incident(1003), &saw(100, 7, 4)),
        ];
        let table = table(&rows);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{table}");
        assert!(
            lines[3].contains("3 of 100 failed, 4 asked to come again (503), 1 saved by a retry"),
            "{table}"
        );
        assert!(lines[3].ends_with("| shed              |"), "{table}");
    }
}
