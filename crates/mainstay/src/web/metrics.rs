//! `/metrics` in OpenMetrics, made from the snapshot at each scrape.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use mainstay_model::Snapshot;
use mainstay_model::host::{HostReport, HostSnapshot, MachineSnapshot};
use mainstay_model::incident::{Incident, IncidentState, Scope};
use mainstay_model::input::Circuit;
use mainstay_model::monitor::{MonitorSnapshot, MonitorState};
use mainstay_model::snapshot::{Health, LastProbe, Rates, ServerSnapshot, ServiceSnapshot, Totals};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::problem::Problem;
use super::{App, UnusualCounts};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics.
pub(super) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let text = encode(
        app.snapshot(),
        Counted {
            queries: (app.context.dns_queries)(),
            access: (app.context.access_lines)(),
            unusual: (app.context.unusual)(),
            late: (app.context.lateness)(),
            pings: app.context.pings.refused().to_vec(),
        },
    )
    .map_err(|_| {
        Problem::new(
            axum::http::StatusCode::INTERNAL_SERVER_ERROR,
            "broken",
            "The metrics could not be written",
            "The log says more. Traffic is not affected.",
        )
    })?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

fn encode(snapshot: Arc<Snapshot>, counted: Counted) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("mainstay");
    registry.register_collector(Box::new(FromSnapshot(snapshot, counted)));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct FromSnapshot(Arc<Snapshot>, Counted);

/// What others than the judge count.
#[derive(Debug, Default)]
struct Counted {
    queries: Queries,
    /// Lines of the access log: written, and left out.
    access: Option<(u64, u64)>,
    unusual: UnusualCounts,
    /// How late probes began: together in seconds, and by bucket.
    late: (f64, Vec<(f64, u64)>),
    /// Pings that were refused, by name.
    pings: Vec<(&'static str, u64)>,
}

/// DNS queries by what they were answered.
type Queries = Vec<(&'static str, u64)>;

/// Labels of a metric, in their order.
type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Collector for FromSnapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut out = Out { encoder };
        out.about_mainstay(&self.0)?;
        out.about_incidents(&self.0)?;
        out.about_the_machine(self.0.host.as_ref())?;
        out.about_machines(&self.0.machines)?;
        out.about_services(&self.0.services)?;
        out.about_unusual(&self.1.unusual)?;
        out.about_monitors(&self.0.monitors)?;
        out.about_heartbeats(&self.0.monitors, &self.1.pings)?;
        out.about_dns(&self.0.services, &self.1.queries)?;
        out.about_lateness(&self.1.late)?;
        out.about_the_access_log(self.1.access)?;
        let servers: Vec<_> = self.0.services.iter().flat_map(|service| &service.servers).collect();
        out.about_servers(&servers)?;
        out.about_probes(&servers)?;
        out.about_processes(&servers)
    }
}

const PHASES: &str = "How long each part of the last probe took, as far as it came";

/// One value for each part of a probe, in seconds.
fn phases<'a>(labels: &Labels<'a>, last: &LastProbe) -> Vec<(Labels<'a>, f64)> {
    let labelled = |(phase, took): (&'static str, Duration)| {
        let with_phase = labels.iter().copied().chain([("phase", phase)]).collect();
        (with_phase, took.as_secs_f64())
    };
    last.phases.parts().map(labelled).collect()
}

struct Out<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Out<'_> {
    fn about_mainstay(&mut self, snapshot: &Snapshot) -> fmt::Result {
        self.encoder
            .encode_descriptor("build", "The running Mainstay", None, MetricType::Info)?
            .encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
        let open = snapshot.incidents.iter().filter(|i| i.state != IncidentState::Resolved).count();
        self.encoder
            .encode_descriptor("incidents_open", "Incidents that are not resolved", None, MetricType::Gauge)?
            .encode_gauge(&(open as u64))?;
        self.encoder
            .encode_descriptor("frozen", "1: nothing is done without a person", None, MetricType::Gauge)?
            .encode_gauge(&u64::from(snapshot.freeze.is_some()))?;
        let trouble = snapshot.own_trouble.iter().map(|(part, _)| (vec![("part", part.as_str())], 1.0));
        self.gauge("own_trouble", "Parts of Mainstay itself that are in trouble", None, trouble)?;
        let windows = snapshot
            .windows
            .iter()
            .map(|window| (vec![("window", &*window.id)], f64::from(u8::from(window.open.is_some()))));
        self.gauge("maintenance_open", "1: the maintenance window is open", None, windows)?;
        let refusals = snapshot.refusals.iter().map(|(name, n)| (vec![("refusal", name.as_str())], *n));
        self.counter("refusals", "What clients did that was refused before any server saw it", refusals)
    }

    /// Of the incidents that are not over: one a service at most, so the labels are bounded.
    fn about_incidents(&mut self, snapshot: &Snapshot) -> fmt::Result {
        let open: Vec<(&str, &Incident)> = snapshot
            .incidents
            .iter()
            .filter(|incident| incident.state != IncidentState::Resolved)
            .filter_map(|incident| match &incident.scope {
                Scope::Service(id) => Some((id.as_str(), &**incident)),
                _ => None,
            })
            .collect();
        let requests = open.iter().flat_map(|(service, incident)| {
            let seen = &incident.seen;
            let outcomes = [
                ("failed", seen.failed),
                ("server_error", seen.server_errors),
                ("shed", seen.shed),
                ("limited", seen.limited),
                ("saved", seen.saved),
                ("slow", seen.slow),
            ];
            outcomes.map(|(outcome, n)| (vec![("service", *service), ("outcome", outcome)], n as f64))
        });
        self.gauge(
            "incident_requests",
            "Requests since the open incident began that did not go as usual",
            None,
            requests,
        )?;
        let each = |value: fn(&Incident) -> f64| {
            open.iter().map(move |(service, incident)| (vec![("service", *service)], value(incident)))
        };
        self.gauge(
            "incident_visitors_hurt",
            "Different visitors hurt since the open incident began",
            None,
            each(|incident| incident.impact.visitors as f64),
        )?;
        self.gauge(
            "incident_hurt",
            "Time in which visitors were hurt since the open incident began",
            Some(&Unit::Seconds),
            each(|incident| incident.impact.hurt_seconds as f64),
        )?;
        let money = open.iter().filter_map(|(service, incident)| {
            let money = incident.impact.money.as_ref()?;
            Some((vec![("service", *service), ("currency", money.currency.as_str())], money.amount))
        });
        self.gauge(
            "incident_cost",
            "Estimated cost of the open incident, by the service's value",
            None,
            money,
        )
    }

    /// Other machines: whether they are heard of, and what an incident of theirs would be about.
    fn about_machines(&mut self, machines: &[MachineSnapshot]) -> fmt::Result {
        if machines.is_empty() {
            return Ok(());
        }
        let known =
            machines.iter().map(|machine| (of_machine(machine), f64::from(u8::from(machine.now.is_some()))));
        self.gauge("machine_known", "Whether figures of it are known", None, known)?;
        let figure = |value: fn(&HostReport) -> Option<f64>| {
            let known = machines.iter().filter_map(|machine| Some((machine, machine.now.as_ref()?)));
            known.filter_map(move |(machine, now)| Some((of_machine(machine), value(&now.figures)?)))
        };
        let busy = figure(|report| report.cpu.map(|cpu| cpu.busy()));
        self.gauge("machine_busy", "Share of all processors' time", Some(&Unit::Ratios), busy)?;
        let memory = figure(|report| report.memory.map(|memory| memory.available as f64));
        self.gauge(
            "machine_memory_available",
            "Memory that programs could still get",
            Some(&Unit::Bytes),
            memory,
        )?;
        let disks = machines.iter().flat_map(|machine| {
            let disks = machine.now.as_ref().map_or(&[][..], |now| now.figures.disks.as_slice());
            disks.iter().map(|disk| {
                let mut labels = of_machine(machine);
                labels.push(("mount", disk.mount.as_str()));
                (labels, disk.available as f64)
            })
        });
        let help = "Space that an ordinary user may still write";
        self.gauge("machine_disk_available", help, Some(&Unit::Bytes), disks)
    }

    /// A figure that is not known is absent.
    fn about_the_machine(&mut self, host: Option<&HostSnapshot>) -> fmt::Result {
        let figures = host.map(|host| &host.figures);
        let one = |value: Option<f64>| value.map(|value| (Labels::new(), value)).into_iter();
        let cpu = figures.and_then(|f| f.cpu).map(|cpu| {
            [("user", cpu.user), ("system", cpu.system), ("iowait", cpu.iowait), ("steal", cpu.steal)]
        });
        let cpu = cpu.into_iter().flatten().map(|(mode, share)| (vec![("mode", mode)], share));
        self.gauge(
            "host_cpu",
            "Share of all processors' time over the last second",
            Some(&Unit::Ratios),
            cpu,
        )?;
        let load = figures.and_then(|f| f.load).map(|load| load[0]);
        self.gauge("host_load", "Load over the last minute", None, one(load))?;
        let memory = figures.and_then(|f| f.memory);
        let bytes = Some(&Unit::Bytes);
        self.gauge("host_memory", "Memory of the machine", bytes, one(memory.map(|m| m.total as f64)))?;
        let available = one(memory.map(|m| m.available as f64));
        self.gauge("host_memory_available", "Memory that programs could still get", bytes, available)?;
        let pressure = figures.map(|f| f.pressure).unwrap_or_default();
        let waits = [("cpu", pressure.cpu), ("memory", pressure.memory), ("io", pressure.io)];
        let waits = waits.into_iter().filter_map(|(what, share)| Some((vec![("resource", what)], share?)));
        let help = "Share of the last ten seconds in which a program waited";
        self.gauge("host_pressure", help, Some(&Unit::Ratios), waits)?;
        let disks = figures.map_or(&[][..], |f| f.disks.as_slice());
        let used = disks.iter().map(|disk| (vec![("mount", disk.mount.as_str())], disk.used as f64));
        self.gauge("host_disk_used", "Space in use", bytes, used)?;
        let left = disks.iter().map(|disk| (vec![("mount", disk.mount.as_str())], disk.available as f64));
        self.gauge("host_disk_available", "Space that an ordinary user may still write", bytes, left)?;
        let errors = figures.map_or(&[][..], |f| f.io_errors.as_slice()).iter().map(|errors| {
            let filesystem = errors.filesystem.as_deref().unwrap_or_default();
            (vec![("device", errors.device.as_str()), ("filesystem", filesystem)], errors.count)
        });
        let help = "Errors that the kernel has counted of a disk, or of the file system on it";
        self.counter("host_io_errors", help, errors)?;
        let network = figures.and_then(|f| f.network);
        let tcp = figures.and_then(|f| f.tcp);
        let counters = [
            (
                "network_error_packets",
                "Packets damaged or not sent, both ways",
                network.map(|n| n.errors_total),
            ),
            ("network_dropped_packets", "Packets thrown away, both ways", network.map(|n| n.dropped_total)),
            ("tcp_sent_segments", "TCP segments sent for the first time", tcp.map(|tcp| tcp.sent_total)),
            ("tcp_retransmitted_segments", "TCP segments sent again", tcp.map(|tcp| tcp.retransmitted_total)),
        ];
        for (name, help, count) in counters {
            let count = count.map(|count| (Labels::new(), count)).into_iter();
            self.counter(&format!("host_{name}"), help, count)?;
        }
        Ok(())
    }

    fn about_services(&mut self, services: &[ServiceSnapshot]) -> fmt::Result {
        let requests = services.iter().flat_map(|service| {
            let Totals { requests, failed, server_errors, saved, shed, limited, .. } = service.totals;
            let ok = requests.saturating_sub(failed + server_errors + saved + shed + limited);
            outcomes(
                vec![("service", service.id.as_str())],
                [
                    ("ok", ok),
                    ("saved", saved),
                    ("server_error", server_errors),
                    ("failed", failed),
                    ("shed", shed),
                    ("limited", limited),
                ],
            )
        });
        self.counter(
            "service_requests",
            "Requests of visitors by how they ended; saved: well answered by a retry",
            requests,
        )?;
        let each = |count: fn(&ServiceSnapshot) -> u64| {
            services.iter().map(move |s| (vec![("service", s.id.as_str())], count(s)))
        };
        self.counter("requests_slow", "Requests well answered, but slowly", each(|s| s.totals.slow))?;
        self.counter(
            "requests_shed",
            "Requests refused with 503 because there was no room",
            each(|s| s.totals.shed),
        )?;
        self.counter(
            "requests_limited",
            "Requests refused with 429 because their address had asked too often",
            each(|s| s.totals.limited),
        )?;
        let gauge = |value: fn(&ServiceSnapshot) -> u64| each(value).map(|(labels, n)| (labels, n as f64));
        self.gauge(
            "service_maintenance",
            "1: it is in a maintenance window as a whole",
            None,
            gauge(|s| u64::from(s.maintenance.is_some())),
        )?;
        self.gauge("service_in_flight", "Requests under way", None, gauge(|s| s.in_flight))?;
        self.gauge("service_queued", "Requests that wait for room", None, gauge(|s| s.queued))?;
        let places = services.iter().filter_map(|s| Some((s, s.limits.as_ref()?.places?)));
        self.gauge(
            "service_places",
            "Requests that may be under way, found out from how long answers take",
            None,
            places.map(|(s, n)| (vec![("service", s.id.as_str())], n as f64)),
        )?;
        let latencies = services.iter().flat_map(|s| latencies(vec![("service", s.id.as_str())], &s.rates));
        self.gauge(
            "service_latency",
            "Time to the first byte over the last ten seconds",
            Some(&Unit::Seconds),
            latencies,
        )
    }

    fn about_unusual(&mut self, counts: &UnusualCounts) -> fmt::Result {
        let retries = counts
            .retries
            .iter()
            .map(|(service, reason, n)| (vec![("service", service.as_str()), ("reason", *reason)], *n));
        self.counter("service_retries", "Second and further attempts by why the one before failed", retries)?;
        let drained = counts
            .drained
            .iter()
            .map(|(service, what, n)| (vec![("service", service.as_str()), ("what", *what)], *n));
        self.counter(
            "service_drained",
            "What was ended unfinished because its server or Mainstay was to go and its time was over",
            drained,
        )?;
        let sessions = || counts.sessions.iter().map(|(service, s)| (service.as_str(), s));
        let open = sessions().map(|(service, s)| (vec![("service", service)], s.open as f64));
        self.gauge(
            "service_sessions_open",
            "Connections that are passed on unread: TCP, WebSocket",
            None,
            open,
        )?;
        let begun = sessions().map(|(service, s)| (vec![("service", service)], s.begun));
        self.counter("service_sessions", "Connections that were passed on unread: TCP, WebSocket", begun)?;
        let bytes = sessions().flat_map(|(service, s)| {
            let of = move |direction, n| (vec![("service", service), ("direction", direction)], n);
            [of("in", s.bytes_in), of("out", s.bytes_out)]
        });
        self.counter("service_session_bytes", "Bytes of connections that are passed on unread", bytes)
    }

    fn about_dns(&mut self, services: &[ServiceSnapshot], queries: &Queries) -> fmt::Result {
        let queries = queries.iter().map(|(code, count)| (vec![("rcode", *code)], *count));
        self.counter("dns_queries", "DNS queries by what they were answered", queries)?;
        let fronts: Vec<(&str, String, bool)> = services
            .iter()
            .filter_map(|service| Some((service.id.as_str(), service.front.as_ref()?)))
            .flat_map(|(id, front)| front.addresses.iter().map(move |a| (id, a.address.to_string(), a.good)))
            .collect();
        let good = fronts.iter().map(|(service, address, good)| {
            (vec![("service", *service), ("address", address.as_str())], f64::from(u8::from(*good)))
        });
        self.gauge("front_address_good", "1: visitors who are led there are served", None, good)
    }

    fn about_lateness(&mut self, (sum, buckets): &(f64, Vec<(f64, u64)>)) -> fmt::Result {
        let help = "From when a probe was to begin to when it began";
        let mut family = self.encoder.encode_descriptor(
            "probe_lateness",
            help,
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        let count = buckets.iter().map(|(_, n)| n).sum();
        family.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
    }

    fn about_the_access_log(&mut self, lines: Option<(u64, u64)>) -> fmt::Result {
        let lines = lines.map(|(written, dropped)| [("written", written), ("dropped", dropped)]);
        let lines = lines.into_iter().flatten().map(|(outcome, n)| (vec![("outcome", outcome)], n));
        self.counter("access_log_lines", "Lines of the access log by what became of them", lines)
    }

    fn about_servers(&mut self, servers: &[&ServerSnapshot]) -> fmt::Result {
        let each = |value: fn(&ServerSnapshot) -> f64| servers.iter().map(move |s| (labels(s), value(s)));
        self.gauge(
            "server_healthy",
            "1: it serves, well or with complaints; 0: it does not, or nothing is known",
            None,
            each(|s| f64::from(u8::from(matches!(s.health, Health::Healthy | Health::Degraded)))),
        )?;
        let states = [Health::Unknown, Health::Healthy, Health::Degraded, Health::Unhealthy];
        let health = servers.iter().flat_map(|s| {
            states.map(|state| {
                let mut labels = labels(s);
                labels.push(("state", state.as_str()));
                (labels, f64::from(u8::from(s.health == state)))
            })
        });
        self.gauge("server_health", "1 for the state that the server is in", None, health)?;
        self.gauge(
            "server_in_rotation",
            "1: it gets requests",
            None,
            each(|s| f64::from(u8::from(s.in_rotation))),
        )?;
        self.gauge(
            "server_share",
            "Its part of a full share, 0 to 1",
            Some(&Unit::Ratios),
            each(|s| s.share),
        )?;
        self.gauge(
            "server_maintenance",
            "1: it is in a maintenance window",
            None,
            each(|s| f64::from(u8::from(s.maintenance.is_some()))),
        )?;
        self.gauge("server_in_flight", "Attempts under way", None, each(|s| s.in_flight as f64))?;
        let circuit = servers.iter().flat_map(|s| {
            [Circuit::Closed, Circuit::HalfOpen, Circuit::Open].map(|state| {
                let labels = labels(s).into_iter().chain([("state", state.as_str())]).collect();
                (labels, f64::from(u8::from(s.circuit == state)))
            })
        });
        self.gauge(
            "server_circuit",
            "1 for the state of the server's circuit in the data plane",
            None,
            circuit,
        )?;
        let attempts = servers.iter().flat_map(|s| {
            let Totals { requests, failed, server_errors, .. } = s.totals;
            let ok = requests.saturating_sub(failed + server_errors);
            outcomes(labels(s), [("ok", ok), ("server_error", server_errors), ("failed", failed)])
        });
        self.counter("server_attempts", "Attempts at the server by how they ended", attempts)?;
        let latencies = servers.iter().flat_map(|s| latencies(labels(s), &s.rates));
        self.gauge(
            "server_latency",
            "Time to the first byte over the last ten seconds",
            Some(&Unit::Seconds),
            latencies,
        )
    }

    fn about_probes(&mut self, servers: &[&ServerSnapshot]) -> fmt::Result {
        let probed: Vec<_> = servers.iter().filter_map(|s| Some((*s, s.last_probe.as_ref()?))).collect();
        let good = probed.iter().map(|(s, probe)| (labels(s), f64::from(u8::from(probe.good))));
        self.gauge("probe_success", "1: the last probe was good", None, good)?;
        let took = probed.iter().map(|(s, probe)| (labels(s), probe.took_ms / 1000.0));
        self.gauge("probe_duration", "How long the last probe took", Some(&Unit::Seconds), took)?;
        let phases = probed.iter().flat_map(|(s, probe)| phases(&labels(s), probe));
        self.gauge("probe_phase_duration", PHASES, Some(&Unit::Seconds), phases)?;
        let at = probed.iter().map(|(s, probe)| (labels(s), probe.at.0 as f64 / 1000.0));
        self.gauge("probe_timestamp", "When the last probe ended, in Unix time", Some(&Unit::Seconds), at)
    }

    fn about_monitors(&mut self, monitors: &[Arc<MonitorSnapshot>]) -> fmt::Result {
        let labels = |m: &'_ MonitorSnapshot| -> Vec<(&'static str, String)> {
            vec![("monitor", m.id.to_string()), ("group", m.group.as_deref().unwrap_or_default().to_owned())]
        };
        let labelled: Vec<_> = monitors.iter().map(|m| (m, labels(m))).collect();
        fn borrowed<'l>(labels: &'l [(&'static str, String)]) -> Labels<'l> {
            labels.iter().map(|(name, value)| (*name, value.as_str())).collect()
        }
        let inside =
            labelled.iter().map(|(m, l)| (borrowed(l), f64::from(u8::from(m.maintenance.is_some()))));
        self.gauge("monitor_maintenance", "1: it is in a maintenance window", None, inside)?;
        let hidden = [MonitorState::Unknown, MonitorState::Maintenance];
        let known = labelled.iter().filter(|(m, _)| !hidden.contains(&m.state));
        let up = known.map(|(m, l)| (borrowed(l), f64::from(u8::from(m.state != MonitorState::Down))));
        self.gauge(
            "monitor_up",
            "1: what is watched is up or degraded; absent: nothing is known, or it is in maintenance",
            None,
            up,
        )?;
        let looked: Vec<_> = labelled.iter().filter_map(|(m, l)| Some((m.last.as_ref()?, l))).collect();
        let good = looked.iter().map(|(last, l)| (borrowed(l), f64::from(u8::from(last.good))));
        self.gauge("monitor_probe_success", "1: the last probe was good", None, good)?;
        let took = looked.iter().map(|(last, l)| (borrowed(l), last.took_ms / 1000.0));
        let seconds = Some(&Unit::Seconds);
        self.gauge("monitor_probe_duration", "How long the last probe took", seconds, took)?;
        let phases = looked.iter().flat_map(|(last, l)| phases(&borrowed(l), last));
        self.gauge("monitor_probe_phase_duration", PHASES, seconds, phases)?;
        let counts = labelled
            .iter()
            .flat_map(|(m, l)| outcomes(borrowed(l), [("good", m.good), ("failed", m.failed)]));
        self.counter("monitor_probes", "Probes by how they went", counts)
    }

    fn about_heartbeats(
        &mut self,
        monitors: &[Arc<MonitorSnapshot>],
        refused: &[(&'static str, u64)],
    ) -> fmt::Result {
        let jobs: Vec<_> = monitors.iter().filter_map(|m| Some((m, m.heartbeat.as_ref()?))).collect();
        if jobs.is_empty() {
            return Ok(());
        }
        let named = |m: &'_ MonitorSnapshot| -> String { m.id.to_string() };
        let names: Vec<String> = jobs.iter().map(|(m, _)| named(m)).collect();
        let all = || names.iter().zip(&jobs).map(|(name, (_, job))| (vec![("monitor", name.as_str())], *job));
        let seconds = Some(&Unit::Seconds);
        let unix = |at: mainstay_model::Wall| at.0 as f64 / 1000.0;
        let last = all().filter_map(|(l, job)| Some((l, unix(job.last_ping?))));
        self.gauge("heartbeat_last_ping_timestamp", "When the job last pinged, in Unix time", seconds, last)?;
        let expected = all().filter_map(|(l, job)| Some((l, unix(job.expected?))));
        self.gauge(
            "heartbeat_expected_timestamp",
            "When its next ping is expected, in Unix time",
            seconds,
            expected,
        )?;
        let took = all().filter_map(|(l, job)| Some((l, *job.durations_ms.last()? as f64 / 1000.0)));
        self.gauge("heartbeat_run_duration", "How long its last run took", seconds, took)?;
        let pings = all().map(|(l, job)| (l, job.pings));
        self.counter("heartbeat_pings", "Pings of the job that were taken", pings)?;
        let refused = refused.iter().map(|(reason, n)| (vec![("reason", *reason)], *n));
        self.counter("heartbeat_refused", "Pings that were refused", refused)
    }

    fn about_processes(&mut self, servers: &[&ServerSnapshot]) -> fmt::Result {
        let supervised: Vec<_> = servers.iter().filter_map(|s| Some((*s, s.process.as_ref()?))).collect();
        let running = supervised.iter().map(|(s, p)| (labels(s), f64::from(u8::from(p.pid.is_some()))));
        self.gauge("process_running", "1: the supervised process runs", None, running)?;
        let left = supervised.iter().map(|(s, process)| {
            (labels(s), f64::from(process.restart_budget.saturating_sub(process.restarts_in_window)))
        });
        self.gauge("process_restarts_left", "Restarts left of the budget", None, left)
    }

    fn gauge<'a>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: impl Iterator<Item = (Labels<'a>, f64)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in values {
            match labels.is_empty() {
                true => family.encode_gauge(&value)?,
                false => family.encode_family(&labels)?.encode_gauge(&value)?,
            }
        }
        Ok(())
    }

    fn counter<'a>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (Labels<'a>, u64)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            match labels.is_empty() {
                true => family.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
                false => family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
            }
        }
        Ok(())
    }
}

fn labels(server: &ServerSnapshot) -> Labels<'_> {
    vec![("service", server.id.service.as_str()), ("server", &server.id.name)]
}

fn outcomes<'a, const N: usize>(
    labels: Labels<'a>,
    counts: [(&'static str, u64); N],
) -> [(Labels<'a>, u64); N] {
    counts.map(|(outcome, count)| {
        let mut labels = labels.clone();
        labels.push(("outcome", outcome));
        (labels, count)
    })
}

fn latencies<'a>(labels: Labels<'a>, rates: &Rates) -> impl Iterator<Item = (Labels<'a>, f64)> {
    let known = [("0.5", rates.p50_ms), ("0.99", rates.p99_ms)];
    known.into_iter().filter_map(move |(quantile, ms)| {
        let mut labels = labels.clone();
        labels.push(("quantile", quantile));
        Some((labels, ms? / 1000.0))
    })
}

fn of_machine(machine: &MachineSnapshot) -> Labels<'_> {
    vec![("machine", machine.id.as_str())]
}

#[cfg(test)]
mod tests {
    use super::super::tests::fake;
    use super::*;

    #[test]
    fn every_metric_has_its_prefix_its_unit_and_an_end() {
        let unusual = UnusualCounts {
            retries: vec![(mainstay_model::ServiceId::new("shop"), "reset", 5)],
            drained: vec![(mainstay_model::ServiceId::new("shop"), "websocket", 2)],
            sessions: vec![(
                mainstay_model::ServiceId::new("db"),
                crate::web::SessionCounts { open: 2, begun: 9, bytes_in: 100, bytes_out: 2000 },
            )],
        };
        let text = encode(
            Arc::new(fake::snapshot()),
            Counted {
                queries: vec![("NXDOMAIN", 3)],
                access: Some((41, 1)),
                unusual,
                late: (0.75, vec![(0.1, 2), (f64::MAX, 1)]),
                pings: Vec::new(),
            },
        )
        .unwrap();
        for expected in [
            "mainstay_build_info{version=\"0.1.0\"} 1",
            "mainstay_incidents_open 1",
            "mainstay_frozen 0",
            "mainstay_incident_requests{service=\"shop\",outcome=\"saved\"} 12.0",
            "mainstay_incident_visitors_hurt{service=\"shop\"} 0.0",
            "mainstay_incident_hurt_seconds{service=\"shop\"} 0.0",
            "mainstay_host_cpu_ratios{mode=\"user\"} 0.31",
            "mainstay_host_load 1.42",
            "mainstay_host_disk_available_bytes{mount=\"/var/lib/mainstay\"} 7516192768.0",
            "mainstay_machine_known{machine=\"db-1\"} 1.0",
            "mainstay_machine_known{machine=\"db-2\"} 0.0",
            "mainstay_machine_busy_ratios{machine=\"db-1\"} 0.39",
            "mainstay_machine_disk_available_bytes{machine=\"db-1\",mount=\"/var/lib/mainstay\"} 7516192768.0",
            "mainstay_host_io_errors_total{device=\"sda1\",filesystem=\"ext4\"} 2",
            "mainstay_host_network_error_packets_total 3",
            "mainstay_host_tcp_retransmitted_segments_total 410",
            "mainstay_own_trouble{part=\"alerts\"} 1.0",
            "mainstay_server_healthy{service=\"shop\",server=\"app-1\"} 1.0",
            "mainstay_server_healthy{service=\"shop\",server=\"app-2\"} 0.0",
            "mainstay_server_health{service=\"shop\",server=\"app-2\",state=\"unhealthy\"} 1.0",
            "mainstay_server_share_ratios{service=\"shop\",server=\"app-3\"} 0.4",
            "mainstay_server_attempts_total{service=\"shop\",server=\"app-2\",outcome=\"failed\"} 12",
            "mainstay_service_requests_total{service=\"shop\",outcome=\"saved\"} 12",
            "mainstay_server_latency_seconds{service=\"shop\",server=\"app-1\",quantile=\"0.99\"} 0.048",
            "mainstay_dns_queries_total{rcode=\"NXDOMAIN\"} 3",
            "mainstay_service_retries_total{service=\"shop\",reason=\"reset\"} 5",
            "mainstay_service_drained_total{service=\"shop\",what=\"websocket\"} 2",
            "mainstay_access_log_lines_total{outcome=\"dropped\"} 1",
            "mainstay_probe_lateness_seconds_bucket{le=\"0.1\"} 2",
            "mainstay_probe_lateness_seconds_count 3",
            "mainstay_front_address_good{service=\"shop\",address=\"198.51.100.10:80\"} 0.0",
            "mainstay_probe_success{service=\"shop\",server=\"app-2\"} 0.0",
            "mainstay_process_restarts_left{service=\"shop\",server=\"app-2\"} 3.0",
        ] {
            assert!(text.lines().any(|line| line == expected), "{expected} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert!(text.lines().filter(|line| !line.starts_with('#')).all(|line| line.starts_with("mainstay_")));
    }

    #[test]
    fn hostile_names_stay_inside_their_labels() {
        let mut snapshot = fake::snapshot();
        snapshot.services[0].id = mainstay_model::ServiceId::new("a\"} 1\nevil 2\\");
        let text = encode(Arc::new(snapshot), Counted::default()).unwrap();
        assert!(!text.lines().any(|line| line.starts_with("evil")), "{text}");
    }
}
