//! The figures of a run.
//!
//! **Invariant:** counts what is there; a fault that was not noticed has no time and is no success.

use juno_sql::healing::track_record::wilson_lower;

use juno_tests::chaos::{KINDS, LATER_KINDS, Outcome, Quiet};

/// The value below which a share of the numbers lies; NaN where there are none.
fn quantile(numbers: impl Iterator<Item = f64>, share: f64) -> f64 {
    let mut sorted: Vec<f64> = numbers.map(|number| if number.is_nan() { f64::INFINITY } else { number }).collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((share * last as f64).ceil() as usize).copied().unwrap_or(f64::NAN)
}

fn line(name: &str, outcomes: &[&Outcome]) {
    let healed = outcomes.iter().filter(|outcome| outcome.is_healed).count() as u64;
    let count = outcomes.len() as u64;
    let right = outcomes.iter().filter(|outcome| outcome.is_right).count();
    let times = |of: fn(&Outcome) -> f64| {
        let all = || outcomes.iter().map(|outcome| of(outcome));
        format!("{:5.2} {:5.2}", quantile(all(), 0.5), quantile(all(), 0.95))
    };
    println!(
        "{name:<16} {count:>4} {healed:>6} {:>6.3} {right:>6} {:>7} | {} | {} | {}",
        wilson_lower(healed, count),
        outcomes.iter().map(|outcome| outcome.strayed).sum::<usize>(),
        times(|outcome| outcome.detection_s),
        times(|outcome| outcome.diagnosis_s),
        times(|outcome| outcome.healed_s),
    );
}

/// Prints what became of all faults.
pub(crate) fn print(outcomes: &[Outcome], quiet: &Quiet) {
    println!(
        "{:<16} {:>4} {:>6} {:>6} {:>6} {:>7} | detection   | diagnosis   | healed and verified",
        "fault", "n", "healed", "lower", "right", "strayed"
    );
    println!("{:<50} | p50   p95 s | p50   p95 s | p50   p95 s", "");
    for kind in KINDS.into_iter().chain(LATER_KINDS) {
        let own: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.kind == kind).collect();
        if !own.is_empty() {
            line(kind, &own);
        }
    }
    let all: Vec<&Outcome> = outcomes.iter().collect();
    line("all", &all);
    let single: Vec<&&Outcome> =
        all.iter().filter(|outcome| outcome.kind != "two_at_once" && outcome.orders > 0).collect();
    let off = |outcome: &Outcome| (outcome.probability - if outcome.is_right { 1.0 } else { 0.0 }).powi(2);
    let brier = single.iter().map(|outcome| off(outcome)).sum::<f64>() / single.len().max(1) as f64;
    println!("first cause of single faults: Brier score {brier:.4} over {}", single.len());
    println!("quiet: {:.2} fleet-hours, {} incidents, {} orders", quiet.hours, quiet.incidents, quiet.orders);
}
