//! The shapes of the API for its description.
//!
//! The judge's types are sent as they are and know nothing of OpenAPI; these describe them. A test sends a full snapshot
//! through the description, so the two cannot drift apart.
#![expect(dead_code, reason = "these shapes are described, never made")]

use super::front_schema::{Affected, Certificate, Front};
use super::machine_schema::{Host, MachineSeconds, OtherMachine};
use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::{ToResponse, ToSchema};

use super::history::Percentiles;
use super::maintenance::{InMaintenance, MaintenanceWindow};
use super::monitor_schema::MonitorCounts;
use super::proposals::Proposal;
use super::release_schema::{Helped, Releases, Scale, Substitute, Switch};

/// The judgement at one moment.
#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    /// When it was taken.
    at: i64,
    /// By name.
    services: Vec<Service>,
    /// Those that are not resolved, newest first, then the last ten that are.
    incidents: Vec<Incident>,
    /// Parts of Mainstay in trouble (`record`, `alerts`, `config`, `dns`), each with what is wrong.
    #[schema(value_type = Vec<Vec<String>>)]
    own_trouble: Vec<(String, String)>,
    /// What clients did that was refused before any server saw it: how often, by the name of the refusal.
    refusals: std::collections::BTreeMap<String, u64>,
    /// What Mainstay would do if it might: what is open, and the last hundred that are over, the newest first.
    proposals: Vec<Proposal>,
    /// What was changed in the last day, the newest first. At most 200.
    changes: Vec<Change>,
    /// The machine that Mainstay runs on; null while nothing is known of it.
    host: Option<Host>,
    /// The config lets it be watched.
    host_watched: bool,
    /// Other machines.
    machines: Vec<OtherMachine>,
    /// By name.
    backups: Vec<Backup>,
    monitor_counts: MonitorCounts,
    /// Those of the config, then those that people opened.
    windows: Vec<MaintenanceWindow>,
    /// Mainstay does nothing on its own but watch, route, shed and tell; null: it is not frozen.
    freeze: Option<super::freeze::Freeze>,
    /// Certificates that visitors are shown.
    certificates: Vec<Certificate>,
}

/// One service.
#[derive(Serialize, ToSchema)]
pub(super) struct Service {
    /// Its name.
    id: String,
    /// Host names that lead here; empty: every host.
    hosts: Vec<String>,
    /// Its connections are passed on unread, each of them counts as a request, and `hosts` are names that TLS asks for.
    tcp: bool,
    state: ServiceState,
    /// The same, whatever maintenance window it is in.
    felt: ServiceState,
    /// The maintenance window that it is in as a whole.
    maintenance: Option<InMaintenance>,
    mode: Mode,
    rates: Rates,
    totals: Totals,
    /// Requests under way, less those that wait for room.
    in_flight: u64,
    /// Requests that wait for room.
    queued: u64,
    /// Null: it takes on everything.
    limits: Option<Limits>,
    /// Null when no command has a place for a release.
    releases: Option<Releases>,
    /// Null when the number of instances is not Mainstay's to decide.
    scale: Option<Scale>,
    /// Servers that were replaced, newest first.
    substitutes: Vec<Substitute>,
    /// Null when there is no `switch` command.
    switch: Option<Switch>,
    /// Who takes the writes; null where servers keep no state.
    lead: Option<Lead>,
    /// By name.
    servers: Vec<Server>,
    /// Where visitors reach it and what DNS says; null unless the config asks for it.
    front: Option<Front>,
    /// Mainstay's own front door as its visitors see it, with `state`, `since` and `last`; absent without `front-check`.
    #[schema(value_type = Option<Object>)]
    door: Option<String>,
    /// What its servers need: `{"service": "shop"}`, `{"monitor": "pay"}` or `{"server": "shop/app-1"}`.
    #[schema(value_type = Vec<Object>)]
    needs: Vec<String>,
}

/// What a server with data says of itself.
#[derive(Serialize, ToSchema)]
struct Data {
    /// `primary` or `replica`.
    #[schema(pattern = "^(primary|replica)$")]
    role: String,
    /// How far its log goes, in bytes: what a primary has written, what a replica has received.
    position: Option<u64>,
    /// A replica receives from its primary just now.
    receives: bool,
    /// The timeline of its log, another one after each promotion.
    timeline: Option<u32>,
}

/// Who takes the writes of a service.
#[derive(Serialize, ToSchema)]
struct Lead {
    /// Null: nobody is known to.
    server: Option<String>,
    since: Option<i64>,
    /// How often it has moved.
    term: u64,
    /// It gets writes now.
    writes: bool,
    /// Who gets nothing until it is a replica.
    kept_out: Vec<String>,
    /// What is wrong; null: nothing.
    trouble: Option<String>,
}

/// The limits of a service, and what they refuse.
#[derive(Serialize, ToSchema)]
struct Limits {
    /// How often one address may ask, as written: `50/s`.
    per_address: Option<String>,
    /// Requests under way at once.
    concurrent: Option<u32>,
    /// With `adaptive`: how many of them are let in now.
    places: Option<u64>,
    /// Requests that wait.
    queue: u32,
    /// Refused with 429 a second, over the last ten.
    limited_per_second: f64,
    /// Refused with 503 a second, over the last ten.
    shed_per_second: f64,
}

/// How a service is for its visitors.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum ServiceState {
    Unknown,
    Healthy,
    Degraded,
    Down,
    Maintenance,
}

/// Which servers carry a service.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    Normal,
    Backup,
    Panic,
    Nobody,
}

/// One server.
#[derive(Serialize, ToSchema)]
pub(super) struct Server {
    /// `service/server`.
    id: String,
    /// IP address and port, or `unix:` and the path of a socket; null when that is not known.
    address: Option<String>,
    role: Role,
    health: Health,
    health_since: i64,
    admin: AdminState,
    /// The maintenance window that it is in, by itself or with its service.
    maintenance: Option<InMaintenance>,
    /// Null when it is ready.
    drain: Option<Drain>,
    in_rotation: bool,
    /// Its part of a full share, 0 to 1.
    share: f64,
    rates: Rates,
    totals: Totals,
    /// It serves connections of a TCP service, not requests.
    tcp: bool,
    in_flight: u64,
    /// Of them, upgraded connections (WebSockets).
    tunnels: u64,
    circuit: Circuit,
    last_probe: Option<LastProbe>,
    /// The release that it was started with.
    release: Option<u64>,
    /// Why it is there although the config does not name it, or is not given what its health allows.
    note: Option<ServerNote>,
    /// What it said of its data when it was last asked; null where servers keep no state.
    data: Option<Data>,
    process: Option<Process>,
    why: Why,
}

/// What the data plane makes of it by itself, before the judge has spoken.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Circuit {
    /// Nothing is against it.
    Closed,
    /// It was left alone long enough: one request finds out.
    HalfOpen,
    /// An attempt failed a moment ago: it gets requests only if there is nobody else.
    Open,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Role {
    Primary,
    Backup,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Health {
    Unknown,
    Healthy,
    Degraded,
    Unhealthy,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum ServerNote {
    OnTrial,
    StandingBy,
    /// It runs the release before.
    Warm,
    StandingIn,
    BeingReplaced,
    Leaving,
    /// Another instance has taken its place.
    Replaced,
    /// It takes the place of another server.
    Substitute,
    /// It was made in the place of another server, and gets nothing.
    SubstituteAside,
    SwitchedAway,
    GivingBack,
    /// Its probes are good, and real requests fail.
    Gray,
    /// Its probes fail, and real requests are answered well.
    CheckWrong,
    /// It takes the writes.
    Lead,
    /// It took the writes, and gets none now.
    NoLonger,
    /// It keeps the same state as the one that takes the writes.
    Standby,
    /// It was a primary beside the lead, and gets nothing until it is a replica.
    KeptOut,
    /// Where reads are served: it takes the writes elsewhere.
    Primary,
}

/// What a person wants of a server.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum AdminState {
    Ready,
    Draining,
    Maintenance,
}

/// When a person drained it or took it out.
#[derive(Serialize, ToSchema)]
struct Drain {
    since: i64,
    /// What is still under way then is ended.
    until: i64,
}

/// Over the last ten seconds.
#[derive(Serialize, ToSchema)]
struct Rates {
    per_second: f64,
    /// 0 to 1; null without any request.
    error_share: Option<f64>,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

/// Since this run began.
#[derive(Serialize, ToSchema)]
struct Totals {
    requests: u64,
    failed: u64,
    server_errors: u64,
    saved: u64,
    /// Well answered, but slow; 0 for a server.
    slow: u64,
    /// Refused with 503 because there was no room; 0 for a server.
    shed: u64,
    /// Refused with 429 because their address had asked too often; 0 for a server.
    limited: u64,
}

#[derive(Serialize, ToSchema)]
pub(super) struct LastProbe {
    at: i64,
    good: bool,
    text: String,
    took_ms: f64,
    /// When each part of it was done.
    phases: Phases,
}

/// When each part of a probe or of an answer was done, counted from its beginning; null: it did not come to that.
#[derive(Serialize, ToSchema)]
struct Phases {
    resolved_ms: Option<f64>,
    connected_ms: Option<f64>,
    secured_ms: Option<f64>,
    first_byte_ms: Option<f64>,
    last_byte_ms: Option<f64>,
}

/// The process of a supervised server.
#[derive(Serialize, ToSchema)]
struct Process {
    /// Null when it does not run.
    pid: Option<u32>,
    since: i64,
    /// `{"code": 1}` or `{"signal": 9}`.
    #[schema(value_type = Option<Object>)]
    last_exit: Option<BTreeMap<String, i32>>,
    restarts_in_window: u32,
    restart_budget: u32,
    next_restart_at: Option<i64>,
}

/// Why a server is what it is.
#[derive(Serialize, ToSchema)]
struct Why {
    rule: String,
    would_change: String,
    signals: Vec<Signal>,
    /// Newest first.
    changes: Vec<StateChange>,
}

#[derive(Serialize, ToSchema)]
struct Signal {
    name: String,
    value: String,
    threshold: String,
    /// It speaks against the server.
    bad: bool,
}

#[derive(Serialize, ToSchema)]
pub(super) struct StateChange {
    at: i64,
    text: String,
}

/// Something that was changed.
#[derive(Serialize, ToSchema)]
pub(super) struct Change {
    at: i64,
    kind: ChangeKind,
    /// Null: it touches everything.
    service: Option<String>,
    /// What was done.
    what: String,
    /// Who did it.
    by: String,
}

/// `told`: by somebody, over this API or by `mainstay change`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ChangeKind {
    Told,
    /// A release that was brought out by other means.
    Announced,
    Config,
    Release,
    Certificate,
    Dns,
}

/// The body that tells of a change.
#[derive(Serialize, ToSchema)]
pub(super) struct TellChange {
    /// What was done, in one line of at most 200 characters. May be absent with `release`.
    what: Option<String>,
    /// The release that was brought out by other means; with `service`. It is watched for an hour.
    release: Option<String>,
    /// Absent: it touches everything.
    service: Option<String>,
    /// Who did it, for the record.
    by: Option<String>,
    /// When, if not now: at most a day ago.
    at: Option<i64>,
}

/// One outage.
#[derive(Serialize, ToSchema)]
pub(super) struct Incident {
    id: u64,
    /// `{"service": "shop"}`, `{"own": "record"}` for a part of Mainstay itself, `{"host": "cpu"}`, `{"host": "memory"}` or
    /// `{"host": {"disk": "/var"}}` for the machine, `{"check": "shop"}` for checks of a service that are wrong.
    #[schema(value_type = Object)]
    scope: BTreeMap<String, String>,
    title: String,
    state: IncidentState,
    severity: Severity,
    /// `service/server`, in the order in which they failed.
    servers: Vec<String>,
    began_at: i64,
    opened_at: i64,
    diverted_at: Option<i64>,
    /// When the first recovery action was begun.
    acted_at: Option<i64>,
    recovered_at: Option<i64>,
    resolved_at: Option<i64>,
    /// Who took it on, and when.
    #[schema(value_type = Option<Vec<Value>>)]
    acknowledged: Option<(String, i64)>,
    seen: VisitorsSaw,
    impact: Impact,
    curve: Curve,
    /// Why it happened, as far as that is known.
    diagnosis: Option<Diagnosis>,
    /// What was changed in the hour before it began, the nearest first.
    changes: Vec<Change>,
    escalation: Escalation,
    /// The incident of what it needs, which it is a part of.
    part_of: Option<u64>,
    /// Absent unless a drill led to it.
    drill: Option<OfDrill>,
    /// What fails because of it.
    affected: Vec<Affected>,
    /// Others that do.
    affected_left_out: u64,
    /// Oldest first; empty in lists.
    timeline: Vec<TimelineEntry>,
    timeline_left_out: u64,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum IncidentState {
    Open,
    Acknowledged,
    Resolved,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Severity {
    Degraded,
    Partial,
    Down,
}

/// An incident that a drill led to.
#[derive(Serialize, ToSchema)]
struct OfDrill {
    /// The drill's number.
    drill: u64,
    /// People are not told of it.
    quiet: bool,
}

#[derive(Serialize, ToSchema)]
struct VisitorsSaw {
    /// The counts are of a TCP service's connections, not of requests.
    connections: bool,
    requests: u64,
    failed: u64,
    server_errors: u64,
    saved: u64,
    /// Well answered, but later than `slow-after`.
    slow: u64,
    /// Refused because there was no room.
    shed: u64,
    /// Refused because their address had asked too often.
    limited: u64,
}

/// Who was hurt by an incident, for how long, and what it cost.
#[derive(Serialize, ToSchema)]
struct Impact {
    /// Different visitors of whom a request failed, was answered 5xx or was shed.
    visitors: u64,
    /// False: `visitors` is an estimate with a standard error of 1.15 %.
    visitors_exact: bool,
    /// Seconds in which at least one request was hurt, or nobody was answered.
    hurt_seconds: u64,
    /// Of them, seconds in which nobody was answered.
    down_seconds: u64,
    /// Each second by the share of its requests that were hurt, added up.
    lost_ms: u64,
    /// Requests that were to be expected and did not come while nobody was answered.
    missing: u64,
    /// Null unless the service has a `value`.
    money: Option<Money>,
}

/// An estimate.
#[derive(Serialize, ToSchema)]
struct Money {
    amount: f64,
    currency: String,
    per_hour: f64,
    /// How the estimate was made, in one sentence.
    how: String,
}

/// What visitors saw over time, from `began_at` on: at most 240 points. Empty in lists.
#[derive(Serialize, ToSchema)]
struct Curve {
    /// The width of a point in milliseconds.
    step_ms: u64,
    /// Null where Mainstay was not looking.
    requests: Vec<Option<u64>>,
    failed: Vec<u64>,
    server_errors: Vec<u64>,
    saved: Vec<u64>,
    slow: Vec<u64>,
    shed: Vec<u64>,
    limited: Vec<u64>,
}

/// Who was told, and who is next.
#[derive(Serialize, ToSchema)]
struct Escalation {
    /// Since when steps count; null while only the first step is told, by mail.
    since: Option<i64>,
    /// In the order in which they were told that it began.
    told: Vec<Telling>,
    /// Null when nobody is next.
    next: Option<NextStep>,
}

#[derive(Serialize, ToSchema)]
struct Telling {
    to: Recipient,
    /// The step: its `after`.
    after_ms: u64,
    at: i64,
}

#[derive(Serialize, ToSchema)]
struct NextStep {
    at: i64,
    to: Vec<Recipient>,
}

/// One person, by one way.
#[derive(Serialize, ToSchema)]
struct Recipient {
    way: Way,
    /// A mail address, or a telephone number.
    address: String,
    name: String,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Way {
    Email,
    Sms,
}

/// A message about an incident.
#[derive(Serialize, ToSchema)]
pub(super) struct IncidentMessage {
    /// Null: the webhook.
    to: Option<Recipient>,
    kind: NoticeKind,
    /// When it was written down to be sent.
    at: i64,
    state: MessageState,
    /// When it was last tried, or its provider said what became of it.
    changed_at: Option<i64>,
    attempts: u32,
    /// Why it was not delivered, or not yet.
    error: Option<String>,
}

/// Why people were told.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum NoticeKind {
    Opened,
    Escalated,
    Worsened,
    NeedsPerson,
    Resolved,
}

/// `accepted`: a mail server, a provider or the webhook has taken it. `delivered`: the provider says that it arrived.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum MessageState {
    Waiting,
    Trying,
    Accepted,
    Delivered,
    Failed,
    HeldBack,
}

#[derive(Serialize, ToSchema)]
struct Diagnosis {
    /// How sure it is: docs/causes.md has the rule.
    confidence: Confidence,
    cause: Cause,
    /// The strongest first.
    evidence: Vec<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Confidence {
    Low,
    Medium,
    High,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Cause {
    Overload,
    Hardware,
    BadUpdate,
    Network,
    Attack,
    Dependency,
    Certificate,
    Dns,
    Crash,
    Unknown,
}

#[derive(Serialize, ToSchema)]
struct TimelineEntry {
    at: i64,
    /// In kebab case: `ejected`, `action-begun`, …
    kind: String,
    server: Option<String>,
    action: Option<u64>,
    text: String,
    /// How often, when alike entries were folded into one.
    times: u32,
    /// What was answered, the first time; left out when nothing was kept.
    sample: Option<Sample>,
}

/// An answer that was not good, or how far it came to one. Values of headers that carry secrets are left out.
#[derive(Serialize, ToSchema)]
struct Sample {
    /// `GET /health`.
    asked: String,
    status: Option<u16>,
    /// `name: value` in lines.
    headers: String,
    /// The first 4 KiB of it.
    body: String,
    /// It is longer, or broke off.
    cut: bool,
    phases: Phases,
}

/// The report of an incident.
#[derive(Serialize, ToSchema)]
pub(super) struct Report {
    /// When it was written.
    at: i64,
    incident: Incident,
    times: Times,
    /// Oldest first.
    actions: Vec<Action>,
    /// Oldest first.
    messages: Vec<Message>,
    machine: MachineSeconds,
}

/// How long each step took, from the first sign on.
#[derive(Serialize, ToSchema)]
struct Times {
    to_notice_ms: u64,
    /// Null: no server was taken out.
    to_divert_ms: Option<u64>,
    /// Null: nothing was done.
    to_act_ms: Option<u64>,
    /// Null: not yet.
    to_recover_ms: Option<u64>,
}

/// An action of recovery.
#[derive(Serialize, ToSchema)]
struct Action {
    id: i64,
    server: String,
    kind: String,
    reason: String,
    begun_at: i64,
    ended_at: Option<i64>,
    error: Option<String>,
    /// Null: not judged, or not yet.
    helped: Option<Helped>,
}

/// A message to people.
#[derive(Serialize, ToSchema)]
struct Message {
    /// `email`, `webhook`, …
    channel: String,
    kind: String,
    queued_at: i64,
    tried_at: Option<i64>,
    attempts: u32,
    error: Option<String>,
    done: bool,
}

/// One backup.
#[derive(Serialize, ToSchema)]
pub(super) struct Backup {
    id: String,
    /// What is being done with it, and since when.
    #[schema(value_type = Option<Vec<Value>>)]
    running: Option<(BackupTask, i64)>,
    last_run: Option<BackupRecord>,
    last_good_run: Option<BackupRecord>,
    last_verify: Option<BackupRecord>,
    next_run_at: i64,
    next_verify_at: Option<i64>,
    /// What is wrong with it; null: nothing.
    trouble: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum BackupTask {
    Run,
    Verify,
}

#[derive(Serialize, ToSchema)]
struct BackupRecord {
    began_at: i64,
    ended_at: i64,
    outcome: BackupOutcome,
}

#[derive(Serialize, ToSchema)]
struct BackupOutcome {
    backup: String,
    task: BackupTask,
    /// Seconds and nanoseconds.
    #[schema(value_type = Object)]
    took: BTreeMap<String, u64>,
    /// `{"Ok": {"snapshot", "data_at", "files", "bytes", "note"}}`, or `{"Err": "why not"}`.
    #[schema(value_type = Object)]
    result: BTreeMap<String, String>,
}

/// One server in one bucket.
#[derive(Serialize, ToSchema)]
pub(super) struct ServerBucket {
    server: String,
    start: i64,
    /// Milliseconds in which Mainstay was looking; the rest is unknown.
    observed_ms: u64,
    ok: u64,
    client_errors: u64,
    server_errors: u64,
    /// Failed attempts by kind.
    failures: BTreeMap<String, u64>,
    latency: Percentiles,
    probes_good: u64,
    probes_failed: u64,
    probe_latency: Percentiles,
}

/// One service in one bucket.
#[derive(Serialize, ToSchema)]
pub(super) struct ServiceBucket {
    service: String,
    start: i64,
    /// Milliseconds in which Mainstay was looking; the rest is unknown.
    observed_ms: u64,
    requests: u64,
    failed: u64,
    server_errors: u64,
    saved: u64,
    /// Well answered, but later than `slow-after`.
    slow: u64,
    /// Refused because there was no room.
    shed: u64,
    /// Refused because their address had asked too often.
    limited: u64,
    /// Milliseconds of the observed ones in which it answered nobody.
    down_ms: u64,
    /// Milliseconds of the observed ones in a maintenance window, which count neither as up nor as down.
    excused_ms: u64,
    /// Requests of that time.
    excused_requests: u64,
    /// Of them, those that went wrong.
    excused_bad: u64,
    latency: Percentiles,
}

/// An order.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeState {
    state: AdminState,
    /// Who, for the record: one line.
    #[schema(required = false, default = "api", max_length = 64, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    by: String,
}

/// An order.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Acknowledge {
    /// Who, for the record: one line.
    #[schema(required = false, default = "api", max_length = 64, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    by: String,
}

/// How an incident stands on the status page.
#[derive(Serialize, ToSchema)]
pub(super) struct Public {
    incident: u64,
    /// The part of the site that it is about, as visitors know it.
    component: String,
    /// The page shows it.
    shown: bool,
    /// A person's choice whether it does; null: it does if visitors are hurt.
    choice: Option<bool>,
    /// What it is called there.
    title: String,
    /// A person's own title; null: Mainstay makes one.
    own_title: Option<String>,
    /// Oldest first.
    updates: Vec<PublicUpdate>,
}

#[derive(Serialize, ToSchema)]
struct PublicUpdate {
    at: i64,
    state: PublicState,
    text: String,
    /// Who wrote it; not told to the public.
    by: String,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum PublicState {
    Investigating,
    Identified,
    Monitoring,
    Resolved,
}

/// An order. What is left out is up to Mainstay again.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangePublic {
    /// One line in place of the title that is made for it.
    #[schema(required = false, max_length = 120)]
    title: Option<String>,
    /// Whether the page shows it.
    #[schema(required = false)]
    shown: Option<bool>,
    /// Who, for the record: one line.
    #[schema(required = false, default = "api", max_length = 64, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    by: String,
}

/// An order.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddUpdate {
    state: PublicState,
    /// Plain text.
    #[schema(min_length = 1, max_length = 2000)]
    text: String,
    /// Who, for the record: one line.
    #[schema(required = false, default = "api", max_length = 64, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    by: String,
}

/// A refusal, in the form of RFC 9457.
#[derive(Serialize, ToSchema)]
pub(super) struct ProblemBody {
    /// `urn:mainstay:problem:` and a name.
    r#type: String,
    title: String,
    status: u16,
    /// What happened this time and what to do about it.
    detail: String,
}

/// A refusal with a name.
#[derive(ToResponse)]
#[response(description = "A refusal with a name", content_type = "application/problem+json")]
pub(super) struct Problem(ProblemBody);
