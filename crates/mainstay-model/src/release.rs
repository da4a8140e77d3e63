//! Releases of a service that Mainstay runs itself: which there are, which serves, and what is being done about one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::freeze::Freeze;
use crate::time::Wall;

/// One deployed version of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Counts up from 1 for each service.
    pub number: u64,
    /// What `{release}` stands for in the commands of its servers.
    pub path: String,
    /// When it was handed in.
    pub at: Wall,
    /// Who did: `api`, a user's name, `the config`.
    pub by: String,
    /// What has become of it.
    pub state: ReleaseState,
    /// Why, in a sentence without a full stop; empty when there is nothing to say.
    pub why: String,
    /// When it last became the current one.
    pub current_since: Option<Wall>,
    /// Until then an incident of the service is answered by going back first.
    pub watched_until: Option<Wall>,
    /// Until then one instance of it is kept warm, now that another one serves.
    #[serde(default)]
    pub warm_until: Option<Wall>,
    /// What was done, oldest first, at most [`Release::STEPS_MAX`].
    pub steps: Vec<Step>,
}

impl Release {
    /// A release that was tried again and again keeps the last of its steps.
    pub const STEPS_MAX: usize = 40;
}

/// One thing that was done about a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub at: Wall,
    /// What, in a sentence without a full stop.
    pub text: String,
}

/// What has become of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseState {
    /// Its first instance is being started; it gets no traffic.
    Starting,
    /// A share of the traffic goes to it and is compared with the current release's.
    Trial,
    /// It passed; the servers are replaced one after the other.
    Promoting,
    /// It is being gone back to.
    Returning,
    /// It serves.
    Current,
    /// It served until another one took over.
    Former,
    /// It was worse, undecided, or not wanted, and was taken back.
    RolledBack,
    /// It never came up, so nothing was ever routed to it.
    Failed,
}

impl ReleaseState {
    /// The word used in the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            ReleaseState::Starting => "starting",
            ReleaseState::Trial => "trial",
            ReleaseState::Promoting => "promoting",
            ReleaseState::Returning => "returning",
            ReleaseState::Current => "current",
            ReleaseState::Former => "former",
            ReleaseState::RolledBack => "rolled-back",
            ReleaseState::Failed => "failed",
        }
    }

    /// Something is being done about it.
    pub fn is_under_way(self) -> bool {
        matches!(
            self,
            ReleaseState::Starting | ReleaseState::Trial | ReleaseState::Promoting | ReleaseState::Returning
        )
    }
}

/// What a person wants done about the releases of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseOrder {
    /// Try this release and promote it if it is not worse.
    Deploy {
        /// What `{release}` stands for; checked to be there.
        path: String,
        /// Also during an incident.
        force: bool,
    },
    /// End a deploy under way, or go back to the release before the current one.
    RollBack,
    /// Do not wait for more evidence: promote the release on trial now.
    Promote,
}

/// Why an order about releases is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No command of the service says where the release belongs.
    #[error(
        "no command of this service has {{release}} in it, so Mainstay cannot put a release there; \
             write [service.NAME.deploy] and command = [\"{{release}}/bin/shop\", …]"
    )]
    NotDeployable,
    /// Only one at a time.
    #[error("release {0} is {1}; wait until that is over, or end it with roll-back")]
    UnderWay(u64, &'static str),
    /// It serves already.
    #[error("this is the current release ({0}) already")]
    IsCurrent(u64),
    /// A deploy now would hide what is wrong.
    #[error("incident {0} is open: mend it first, or say force")]
    Incident(u64),
    /// Nobody would judge it.
    #[error("Mainstay is {0}; thaw it first, or say force")]
    Frozen(String),
    /// Nothing to go back to.
    #[error("there is no earlier release that served and was not rolled back")]
    NothingBefore,
    /// Nothing to promote.
    #[error("no release is on trial")]
    NoTrial,
}

impl Refusal {
    /// A short name for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Refusal::NotDeployable => "not-deployable",
            Refusal::UnderWay(..) => "deploy-under-way",
            Refusal::IsCurrent(_) => "release-is-current",
            Refusal::Incident(_) => "incident-open",
            Refusal::Frozen(_) => "frozen",
            Refusal::NothingBefore => "nothing-before",
            Refusal::NoTrial => "no-trial",
        }
    }
}

/// The releases of one service, for people and programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleasesSnapshot {
    /// Newest first.
    pub releases: Vec<Release>,
    /// What is under way.
    pub deployment: Option<DeploymentSnapshot>,
}

impl ReleasesSnapshot {
    /// The release that serves.
    pub fn current(&self) -> Option<&Release> {
        self.releases.iter().find(|r| r.state == ReleaseState::Current)
    }

    /// What a roll-back would go back to.
    pub fn previous(&self) -> Option<&Release> {
        previous(self.releases.iter())
    }

    /// Whether an order would be carried out now. `incident`: the service's open one; `frozen`: the switch is on.
    ///
    /// # Errors
    /// Why not, by name.
    pub fn may(
        &self,
        order: &ReleaseOrder,
        incident: Option<u64>,
        frozen: Option<&Freeze>,
    ) -> Result<(), Refusal> {
        let under_way = self.deployment.as_ref().map(|d| (d.release, d.phase));
        refusal(order, self.releases.iter(), under_way, incident, frozen).map_or(Ok(()), Err)
    }
}

/// A deploy or a roll-back under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeploymentSnapshot {
    /// The release that is to serve, or that is being taken away again.
    pub release: u64,
    /// The current one.
    pub from: u64,
    /// It goes back rather than forward.
    pub back: bool,
    /// How far it has come.
    pub phase: DeployPhase,
    /// Since when.
    pub since: Wall,
    /// How things stand, in a sentence without a full stop.
    pub text: String,
    /// The share (0 to 1) of the traffic that the trial gets.
    pub share: f64,
    /// The release on trial.
    pub new: Figures,
    /// The current one in the same time.
    pub old: Figures,
    /// How far the evidence of harm has come: at 1 the release is rolled back.
    pub harm: f64,
    /// The instance that was started beside the servers.
    pub beside: Option<String>,
}

/// How far a deployment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeployPhase {
    /// An instance is being started beside the servers.
    Starting,
    /// It gets a share of the traffic, and is compared.
    Trial,
    /// Servers are replaced one after the other.
    Replacing,
    /// The instance beside the servers gets nothing new, and is stopped when its last request is answered.
    Withdrawing,
}

impl DeployPhase {
    /// The word used in the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            DeployPhase::Starting => "starting",
            DeployPhase::Trial => "on trial",
            DeployPhase::Replacing => "replacing",
            DeployPhase::Withdrawing => "withdrawing",
        }
    }
}

impl fmt::Display for DeployPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one release did in a trial.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Attempts that ended.
    pub requests: u64,
    /// Of them those that Mainstay made itself, because no visitor asked.
    #[serde(default)]
    pub asked: u64,
    /// Of them failed or answered 5xx.
    pub failed: u64,
    /// Of the answers, slower than one and a half times the current release's 95th percentile.
    pub slow: u64,
    /// Median time to the answer's first byte, milliseconds.
    pub p50_ms: Option<f64>,
    /// 99th percentile of it, milliseconds.
    pub p99_ms: Option<f64>,
}

/// The release that served last before the current one.
pub(crate) fn previous<'a>(releases: impl Iterator<Item = &'a Release>) -> Option<&'a Release> {
    releases.filter(|r| r.state == ReleaseState::Former).max_by_key(|r| (r.current_since, r.number))
}

/// Why an order cannot be carried out.
pub(crate) fn refusal<'a>(
    order: &ReleaseOrder,
    releases: impl Iterator<Item = &'a Release> + Clone,
    under_way: Option<(u64, DeployPhase)>,
    incident: Option<u64>,
    frozen: Option<&Freeze>,
) -> Option<Refusal> {
    let busy = under_way.map(|(number, phase)| Refusal::UnderWay(number, phase.as_str()));
    match order {
        ReleaseOrder::Deploy { path, force } => {
            let is_current = |r: &&Release| r.state == ReleaseState::Current && r.path == *path;
            let current = releases.clone().find(is_current).map(|r| Refusal::IsCurrent(r.number));
            let frozen = frozen.map(|freeze| Refusal::Frozen(freeze.to_string()));
            let unwise = frozen.or(incident.map(Refusal::Incident));
            busy.or(current).or(unwise.filter(|_| !force))
        }
        ReleaseOrder::RollBack => match under_way {
            // A deploy under way is ended by it.
            Some((number, DeployPhase::Starting | DeployPhase::Trial | DeployPhase::Replacing))
                if releases.clone().any(|r| {
                    r.number == number
                        && matches!(
                            r.state,
                            ReleaseState::Starting | ReleaseState::Trial | ReleaseState::Promoting
                        )
                }) =>
            {
                None
            }
            Some(_) => busy,
            None if previous(releases).is_none() => Some(Refusal::NothingBefore),
            None => None,
        },
        ReleaseOrder::Promote => match under_way {
            Some((_, DeployPhase::Trial)) => None,
            Some(_) => busy,
            None => Some(Refusal::NoTrial),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(number: u64, state: ReleaseState) -> Release {
        Release {
            number,
            path: format!("/srv/{number}"),
            at: Wall(0),
            by: "somebody".into(),
            state,
            why: String::new(),
            current_since: Some(Wall(number as i64)),
            watched_until: None,
            warm_until: None,
            steps: Vec::new(),
        }
    }

    fn deploy(path: &str, force: bool) -> ReleaseOrder {
        ReleaseOrder::Deploy { path: path.into(), force }
    }

    #[test]
    fn each_refusal_has_its_name() {
        let known = [release(1, ReleaseState::RolledBack), release(2, ReleaseState::Current)];
        let refused = |order: &ReleaseOrder, under_way, incident| {
            refusal(order, known.iter(), under_way, incident, None).map(|r| r.name())
        };
        assert_eq!(refused(&deploy("/srv/3", false), None, None), None);
        assert_eq!(refused(&deploy("/srv/2", false), None, None), Some("release-is-current"));
        assert_eq!(refused(&deploy("/srv/1", false), None, Some(7)), Some("incident-open"));
        assert_eq!(refused(&deploy("/srv/1", true), None, Some(7)), None, "a person may try it again");
        let under_way = Some((3, DeployPhase::Withdrawing));
        assert_eq!(refused(&deploy("/srv/1", true), under_way, None), Some("deploy-under-way"));
        assert_eq!(refused(&ReleaseOrder::RollBack, None, None), Some("nothing-before"));
        assert_eq!(refused(&ReleaseOrder::Promote, None, None), Some("no-trial"));
    }

    #[test]
    fn the_release_before_is_the_one_that_served_last() {
        let mut known = [
            release(1, ReleaseState::Former),
            release(2, ReleaseState::Former),
            release(3, ReleaseState::Current),
        ];
        assert_eq!(previous(known.iter()).map(|r| r.number), Some(2));
        known[0].current_since = Some(Wall(99));
        assert_eq!(previous(known.iter()).map(|r| r.number), Some(1));
    }
}
