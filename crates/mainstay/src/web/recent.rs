//! The last ten minutes of every service and server, in memory, for the small charts of the overview.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mainstay_model::Snapshot;
use mainstay_model::snapshot::Rates;

/// Rates are of the last ten seconds, so each sample is of a time of its own.
const EVERY: Duration = Duration::from_secs(10);
/// Ten minutes.
const SAMPLES: usize = 60;

/// Rates of the last ten minutes, by the name of the service or server.
#[derive(Debug, Default)]
pub(super) struct Recent {
    by_name: Mutex<BTreeMap<String, VecDeque<Sample>>>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    per_second: f64,
    error_share: f64,
}

impl Recent {
    /// Takes a sample every ten seconds, until it is dropped.
    pub(super) async fn follow(&self, snapshots: tokio::sync::watch::Receiver<std::sync::Arc<Snapshot>>) {
        let mut interval = tokio::time::interval(EVERY);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            interval.tick().await;
            let snapshot = snapshots.borrow().clone();
            self.sample(&snapshot);
        }
    }

    /// Takes one sample. What is no longer in the config is forgotten.
    pub(super) fn sample(&self, snapshot: &Snapshot) {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *by_name);
        let mut keep = |name: String, rates: &Rates| {
            let mut samples = before.remove(&name).unwrap_or_default();
            if samples.len() >= SAMPLES {
                samples.pop_front();
            }
            let error_share = rates.error_share.unwrap_or(0.0).clamp(0.0, 1.0);
            samples.push_back(Sample { per_second: rates.per_second.max(0.0), error_share });
            by_name.insert(name, samples);
        };
        for service in &snapshot.services {
            keep(service.id.to_string(), &service.rates);
            for server in &service.servers {
                keep(server.id.to_string(), &server.rates);
            }
        }
    }

    /// A small chart: requests a second, and in front of them the part that failed. Empty while nothing is known.
    pub(super) fn spark(&self, name: &str) -> String {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(samples) = by_name.get(name) else { return String::new() };
        let top = samples.iter().map(|sample| sample.per_second).fold(1.0, f64::max);
        let first = SAMPLES - samples.len();
        let mut area = format!("M{first} 20");
        let mut bad = String::new();
        let mut bad_samples = 0;
        for (x, sample) in (first..).zip(samples) {
            let height = (sample.per_second / top * 18.0).round();
            let _ = write!(area, "V{}h1", 20.0 - height);
            if sample.error_share > 0.0 {
                bad_samples += 1;
                let _ = write!(bad, "M{x} 20v-{}h1V20z", (height * sample.error_share).max(4.0).round());
            }
        }
        area.push_str("V20z");
        let bad_words = if bad_samples == 0 { "no errors" } else { "with errors" };
        let mut svg = format!(
            "<svg class=\"spark\" viewBox=\"0 0 {SAMPLES} 20\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-label=\"last 10 minutes: at most {}, {bad_words}\"><path d=\"{area}\"/>",
            super::words::per_second(samples.iter().map(|sample| sample.per_second).fold(0.0, f64::max)),
        );
        if !bad.is_empty() {
            let _ = write!(svg, "<path class=\"bad\" d=\"{bad}\"/>");
        }
        svg.push_str("</svg>");
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fake;
    use super::*;

    #[test]
    fn ten_minutes_are_kept_and_no_more() {
        let recent = Recent::default();
        assert_eq!(recent.spark("shop"), "");
        let snapshot = fake::snapshot();
        for _ in 0..SAMPLES * 2 {
            recent.sample(&snapshot);
        }
        assert!(recent.by_name.lock().unwrap().values().all(|samples| samples.len() == SAMPLES));
        assert!(recent.spark("shop").contains("viewBox=\"0 0 60 20\""));
        assert!(recent.spark("shop/app-2").contains("class=\"bad\""));
        assert!(!recent.spark("shop/app-1").contains("class=\"bad\""));
    }

    #[test]
    fn what_left_the_config_is_forgotten() {
        let recent = Recent::default();
        recent.sample(&fake::snapshot());
        recent.sample(&Snapshot::default());
        assert!(recent.by_name.lock().unwrap().is_empty());
    }
}
