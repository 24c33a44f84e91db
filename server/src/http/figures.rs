//! How operations stand, as metrics.
//!
//! **Invariant:** tells what is known in memory; whatever is not known yet is left out.

use std::sync::atomic::AtomicU64;

use juno_sql::OperationFigures;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

type Labels = Vec<(&'static str, &'static str)>;

/// Adds them to what is told.
pub(super) fn register(figures: OperationFigures, registry: &mut Registry) {
    let numbers = [
        ("open_incidents", "Incidents that are not resolved", figures.open_incidents),
        ("open_threats", "Threats that are neither resolved nor false", figures.open_threats),
        ("pending_approvals", "Approvals that are waited for", Some(figures.pending_approvals)),
        ("running_jobs", "Jobs that are queued or run", Some(figures.running_jobs)),
        ("kill_switch", "1 while the kill switch is engaged", Some(u64::from(figures.kill_switch))),
    ];
    for (name, help, number) in numbers {
        let Some(number) = number else { continue };
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    }
    let actions = Family::<Labels, Counter>::default();
    for (operation, outcome, count) in figures.actions {
        actions.get_or_create(&vec![("operation", operation), ("outcome", outcome)]).inc_by(count);
    }
    registry.register("actions", "Operations on other systems that ended, by what came of them", actions);
    let ages = Family::<Labels, Gauge<f64, AtomicU64>>::default();
    for (component, seconds) in figures.since_run_s {
        ages.get_or_create(&vec![("component", component)]).set(seconds);
    }
    registry.register("component_last_run_age_seconds", "Time since each component ran last", ages);
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;

    #[test]
    fn what_is_known_is_told_and_nothing_else() {
        let figures = OperationFigures {
            open_incidents: Some(3),
            kill_switch: true,
            actions: vec![("scaling_execute", "refused", 2)],
            since_run_s: vec![("rl", 1.5)],
            ..OperationFigures::default()
        };
        let (mut registry, mut told) = (Registry::with_prefix("juno"), String::new());
        register(figures, &mut registry);
        text::encode(&mut told, &registry).unwrap();
        for line in [
            "juno_open_incidents 3",
            "juno_pending_approvals 0",
            "juno_kill_switch 1",
            "juno_actions_total{operation=\"scaling_execute\",outcome=\"refused\"} 2",
            "juno_component_last_run_age_seconds{component=\"rl\"} 1.5",
        ] {
            assert!(told.lines().any(|one| one == line), "{line} is not in\n{told}");
        }
        assert!(!told.contains("juno_open_threats"), "{told}");
    }
}
