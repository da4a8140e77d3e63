//! The shapes of releases and scaling for the API's description. See `schema`.
#![expect(dead_code, reason = "these shapes are described, never made")]

use serde::Serialize;
use utoipa::ToSchema;

use super::schema::StateChange;

/// The releases of a service.
#[derive(Serialize, ToSchema)]
pub(super) struct Releases {
    /// Newest first.
    releases: Vec<Release>,
    /// What is under way.
    deployment: Option<Deployment>,
}

/// How many instances there are, and why.
#[derive(Serialize, ToSchema)]
pub(super) struct Scale {
    /// The server that they are instances of.
    template: String,
    instances: u32,
    min: u32,
    max: u32,
    /// Requests under way that one is meant for.
    concurrency: u32,
    /// The mean of the last seconds; null when it is not known.
    under_way: Option<f64>,
    text: String,
    /// Newest first.
    changes: Vec<StateChange>,
}

/// A server that was replaced by a new instance.
#[derive(Serialize, ToSchema)]
pub(super) struct Substitute {
    /// The number of the replacement among all actions.
    action: u64,
    /// The server of the config whose place it takes.
    server: String,
    /// Who was taken out for it: that server, or an earlier instance.
    instead_of: String,
    /// The instance's own name.
    id: String,
    /// The server whose command it runs.
    template: String,
    /// Mainstay runs it itself.
    supervised: bool,
    /// By what it was made: `docker shop:42`.
    by: String,
    reason: String,
    incident: Option<u64>,
    /// When it was begun.
    at: i64,
    /// What the provider made: its `id` there, and its `address`.
    #[schema(value_type = Option<Object>)]
    made: Option<String>,
    /// `making`, `starting`, `serving`, `yielding`, `leaving`, `destroying`, `over`.
    stage: String,
    /// Since when.
    since: i64,
    /// It was in rotation.
    served: bool,
    /// What went wrong with it.
    error: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Release {
    /// Counts up from 1.
    number: u64,
    /// What `{release}` stands for.
    path: String,
    at: i64,
    by: String,
    state: ReleaseState,
    /// Why its state is what it is.
    why: String,
    current_since: Option<i64>,
    /// Until then an incident is answered by going back first.
    watched_until: Option<i64>,
    /// Until then one instance of it is kept warm.
    warm_until: Option<i64>,
    /// Oldest first.
    steps: Vec<Step>,
}

#[derive(Serialize, ToSchema)]
struct Step {
    at: i64,
    text: String,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum ReleaseState {
    Starting,
    Trial,
    Promoting,
    Returning,
    Current,
    Former,
    RolledBack,
    Failed,
}

/// A deploy or a roll-back under way.
#[derive(Serialize, ToSchema)]
struct Deployment {
    release: u64,
    from: u64,
    /// It goes back rather than forward.
    back: bool,
    phase: DeployPhase,
    since: i64,
    /// How things stand.
    text: String,
    /// The share (0 to 1) of the requests that the trial gets.
    share: f64,
    new: Figures,
    old: Figures,
    /// How far the evidence of harm has come: at 1 the release is rolled back.
    harm: f64,
    /// The instance beside the servers.
    beside: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum DeployPhase {
    Starting,
    Trial,
    Replacing,
    Withdrawing,
}

/// What one release did in a trial.
#[derive(Serialize, ToSchema)]
struct Figures {
    requests: u64,
    /// Of them those that Mainstay made itself.
    asked: u64,
    failed: u64,
    slow: u64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

/// An order.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Deploy {
    /// An absolute path on the machine of Mainstay.
    path: String,
    /// Also while an incident of the service is open.
    #[schema(required = false, default = false)]
    force: bool,
    /// Who, for the record: one line.
    #[schema(required = false, default = "api", max_length = 64, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    by: String,
}

/// How the user's own switch stands.
#[derive(Serialize, ToSchema)]
pub(super) struct Switch {
    /// It is run by itself; otherwise a person is asked.
    automatic: bool,
    /// A fence is run first.
    fence: bool,
    /// A person may go back: there is a command for it, or the service is switched.
    can_go_back: bool,
    /// Every primary is down for so long that it would help.
    wanted: bool,
    /// The last run went there, and none has gone back since.
    switched: bool,
    last: Option<SwitchRun>,
}

#[derive(Serialize, ToSchema)]
struct SwitchRun {
    action: u64,
    /// What was run before it; null: nothing.
    fence: Option<FenceRun>,
    back: bool,
    incident: Option<u64>,
    by: String,
    reason: String,
    at: i64,
    /// Null while it runs.
    end: Option<SwitchEnd>,
    /// The service is switched, as far as is known: before it while it runs, and after it.
    switched: bool,
    /// Null: not judged, or not yet.
    helped: Option<Helped>,
    /// Where servers keep state: who took the writes before it.
    from: Option<String>,
    /// Who is to take them after it, as soon as that is known.
    to: Option<String>,
}

/// Whether an action helped, by the requests of `helped-within`.
#[derive(Serialize, ToSchema)]
pub(super) struct Helped {
    /// `yes`, `no`, `not-known`.
    help: String,
    /// How that shows, in words.
    why: String,
    before: HelpedRequests,
    after: HelpedRequests,
    /// From its beginning to the first good probe or answer; null: there was none, or it was not looked at.
    took_ms: Option<u64>,
}

#[derive(Serialize, ToSchema)]
struct HelpedRequests {
    /// Attempts at the server; at all servers of the service if the action was about no single one.
    attempts: u64,
    /// Of them, failed or answered 5xx.
    bad: u64,
    /// Requests of the service's visitors.
    visitors: u64,
    /// Of them, failed or answered 5xx.
    visitors_bad: u64,
}

/// What sees to it that nothing writes on the old side any more.
#[derive(Serialize, ToSchema)]
struct FenceRun {
    action: u64,
    /// Null while it runs.
    end: Option<SwitchEnd>,
}

#[derive(Serialize, ToSchema)]
struct SwitchEnd {
    at: i64,
    /// Why it failed, if it did.
    error: Option<String>,
    /// The last lines that it wrote, at most 20.
    output: Vec<String>,
}

/// An order.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RunSwitch {
    /// The way back.
    #[schema(required = false, default = false)]
    back: bool,
    /// Whoever orders it vouches that nothing writes on the old side: the fence is left out.
    #[schema(required = false, default = false)]
    fenced: bool,
    /// Who, for the record: one line.
    #[schema(required = false, default = "api", max_length = 64, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    by: String,
}
