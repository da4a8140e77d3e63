//! The configs of the worlds: services and servers of every kind.

use std::time::Duration;

use mainstay_model::monitor::OutOf;
use mainstay_model::needs::Needed;
use mainstay_model::policy::{
    BackupPolicy, DeployPolicy, HealthPolicy, Policy, ProbeKind, RecoveryPolicy, RestartPolicy, Role,
    ScalePolicy, ServerPolicy, ServicePolicy, SwitchPolicy, TrafficPolicy, Value,
};
use mainstay_model::rung::{Level, Levels};
use mainstay_model::{BackupId, ServiceId};

use super::fronts::random_front;
use super::jobs::add_random;
use super::monitors::random_monitors;
use super::{Dice, SECOND, people};

/// Restarts that each server may have within [`RECOVERY_WINDOW`].
pub const RECOVERY_BUDGET: u32 = 4;
/// Nanoseconds.
pub const RECOVERY_WINDOW: u64 = 40 * SECOND;

/// Some services.
pub fn random_policy(dice: &mut Dice) -> Policy {
    let mut policy = Policy { people: true, on_call: people::random(dice), ..Policy::default() };
    for n in 0..dice.range(1, 4) {
        let supervised = dice.chance(50);
        let mixed = dice.chance(20);
        let mut service = ServicePolicy {
            health: HealthPolicy {
                probe: if dice.chance(25) {
                    ProbeKind::Tcp
                } else {
                    ProbeKind::Http { path: "/healthz".into(), host: None }
                },
                interval: Duration::from_millis([500, 1000, 2000][dice.range(0, 3) as usize]),
                timeout: Duration::from_millis([300, 800, 2500][dice.range(0, 3) as usize]),
                rise: dice.range(1, 4) as u32,
                fall: dice.range(1, 4) as u32,
                fail: Some(OutOf::default()),
                reprobe: Duration::from_millis(100),
                ask: dice.chance(80).then(|| "/".to_owned()),
            },
            traffic: TrafficPolicy {
                eject_base: Duration::from_secs(dice.range(1, 10)),
                eject_max: Duration::from_secs(30),
                ..TrafficPolicy::default()
            },
            slow_start: Duration::from_secs([0, 2, 10][dice.range(0, 3) as usize]),
            panic_threshold: [0.0, 0.5, 0.5, 1.0][dice.range(0, 4) as usize],
            recovery: RecoveryPolicy {
                budget: RECOVERY_BUDGET,
                budget_window: Duration::from_nanos(RECOVERY_WINDOW),
                delay_base: Duration::from_millis(500),
                delay_max: Duration::from_secs(8),
                reset_after: Duration::from_secs(20),
                start_grace: Duration::from_secs(5),
                helped_within: Duration::from_secs(10),
                levels: Levels::default(),
            },
            resolve_after: Duration::from_secs(dice.range(0, 12)),
            value: Some(Value { per_hour: 1200.0, currency: "EUR".to_owned() }),
            on_call: people::random_groups(dice),
            ..ServicePolicy::default()
        };
        let deployable = dice.chance(60);
        for s in 0..dice.range(1, 6) {
            let mut server = random_server(dice, s > 0);
            server.supervised = if mixed { dice.chance(50) } else { supervised };
            server.releasable = deployable && server.supervised;
            if !server.supervised && dice.chance(60) {
                let by = "its own means".to_owned();
                server.restart = Some(RestartPolicy { by, deadline: Duration::from_secs(10) });
            }
            service.servers.insert(format!("s{s}").into(), server);
        }
        service.front = random_front(dice, n);
        if dice.chance(40) {
            let after = Duration::from_secs(dice.range(0, 6));
            let automatic = dice.chance(60);
            service.recovery.levels.switch = if automatic { Level::Automatic } else { Level::Ask };
            service.switch = Some(SwitchPolicy {
                after,
                deadline: Duration::from_secs(5),
                fence: dice.chance(60),
                can_go_back: dice.chance(50),
                ..SwitchPolicy::default()
            });
        }
        if service.servers.values().any(|s| s.releasable) {
            service.deploy = Some(DeployPolicy {
                first: "good-0".to_owned(),
                share: [0.05, 0.2, 0.5][dice.range(0, 3) as usize],
                min_requests: 20,
                min_time: Duration::from_secs(dice.range(1, 6)),
                deadline: Duration::from_secs(40),
                watch: Duration::from_secs([0, 30, 3600][dice.range(0, 3) as usize]),
                warm: Duration::from_secs([0, 5, 60][dice.range(0, 3) as usize]),
                ask: if dice.chance(50) { vec!["/".to_owned()] } else { Vec::new() },
                keep: 3,
            });
        }
        if let Some(first) = service.servers.get("s0").filter(|s| s.supervised)
            && first.role == Role::Primary
            && dice.chance(40)
        {
            let min = dice.range(1, 3) as u32;
            service.scale = Some(ScalePolicy {
                template: "s0".into(),
                min,
                max: min + dice.range(0, 4) as u32,
                concurrency: 10,
                in_after: Duration::from_secs(dice.range(3, 20)),
            });
        }
        policy.services.insert(ServiceId::new(format!("service-{n}")), service);
    }
    for n in 0..dice.range(0, 3) {
        let backup = BackupPolicy {
            every: Duration::from_secs(dice.range(10, 40)),
            late_after: Duration::from_secs(dice.range(130, 200)),
            verify_every: dice.chance(70).then(|| Duration::from_secs(dice.range(10, 60))),
            deadline: Duration::from_secs(5),
            ..BackupPolicy::default()
        };
        policy.backups.insert(BackupId::new(format!("backup-{n}")), backup);
    }
    policy.monitors = random_monitors(dice);
    add_random(&mut policy, dice);
    random_needs(&mut policy, dice);
    policy
}

/// In some worlds services and monitors need the first service, and that needs what a monitor watches.
fn random_needs(policy: &mut Policy, dice: &mut Dice) {
    if !dice.chance(20) {
        return;
    }
    let first = ServiceId::new("service-0");
    for service in policy.services.values_mut().skip(1) {
        if dice.chance(70) {
            service.needs = vec![Needed::Service(first.clone())];
        }
    }
    let mut monitors: Vec<_> = policy.monitors.values_mut().collect();
    for monitor in monitors.iter_mut().skip(1) {
        if dice.chance(40) {
            monitor.needs = vec![Needed::Service(first.clone())];
        }
    }
    let watched = policy.monitors.keys().next().cloned();
    if let (Some(service), Some(monitor)) = (policy.services.get_mut(&first), watched)
        && dice.chance(50)
    {
        service.needs = vec![Needed::Monitor(monitor)];
    }
}

/// A server of one.
pub fn random_server(dice: &mut Dice, may_be_backup: bool) -> ServerPolicy {
    let role = if may_be_backup && dice.chance(20) { Role::Backup } else { Role::Primary };
    let weight = dice.range(1, 4) as u32;
    ServerPolicy { role, weight, supervised: dice.chance(50), ..ServerPolicy::default() }
}
