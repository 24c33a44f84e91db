//! What labels of analysts teach: the p-value up to which a behaviour is told.
//!
//! **Invariant:** labels only make a behaviour quieter, and never quieter than a hundredth of what is set; the same labels give the
//! same limit.

use std::collections::BTreeMap;

use crate::Result;
use crate::session::{Session, rfc3339};

/// How long a label counts: 30 days.
const KEPT_US: i64 = 30 * 86_400_000_000;

/// With fewer labels nothing is learned.
const LABELS_MIN: usize = 10;
/// At most so many of those told may be false.
const FALSE_SHARE_MAX: f64 = 0.5;
/// The share of the limit that is set which always remains.
const LEAST: f64 = 0.01;

/// The limit of each behaviour whose alerts people labelled lately; `set` is that of all others.
pub(super) async fn limits(own: &Session, set: f64, now_us: i64) -> Result<BTreeMap<String, f64>> {
    let labelled = "SELECT threat_type, CAST(indicators ->> 'p_value' AS DOUBLE PRECISION) AS p_value, \
                    coalesce(false_positive, false) AS is_false FROM threat_events \
                    WHERE detected_at > $1 AND (false_positive OR resolved_at IS NOT NULL)";
    let mut all: BTreeMap<String, Vec<(f64, bool)>> = BTreeMap::new();
    for row in own.objects(labelled, &[rfc3339(now_us - KEPT_US).into()]).await? {
        if let (Some(name), Some(p_value)) = (row["threat_type"].as_str(), row["p_value"].as_f64()) {
            all.entry(name.to_owned()).or_default().push((p_value, row["is_false"] == true));
        }
    }
    Ok(all.into_iter().map(|(name, labels)| (name, limit(set, &labels))).collect())
}

/// The limit where one is set and alerts of the behaviour were labelled: the p-value of each, and whether it was false. It is the
/// largest p-value up to which no more than half of the labelled alerts were false.
fn limit(set: f64, labels: &[(f64, bool)]) -> f64 {
    let mut within: Vec<(f64, bool)> = labels.iter().copied().filter(|(p_value, _)| *p_value <= set).collect();
    if within.len() < LABELS_MIN {
        return set;
    }
    within.sort_by(|a, b| a.0.total_cmp(&b.0));
    let share = |told: &[(f64, bool)]| told.iter().filter(|(_, is_false)| *is_false).count() as f64 / told.len() as f64;
    if share(&within) <= FALSE_SHARE_MAX {
        return set;
    }
    // Equal p-values are told together or not at all.
    let ends = (1..within.len()).rev().filter(|end| within[*end].0 > within[end - 1].0);
    let kept = ends.map(|end| &within[..end]).find(|told| share(told) <= FALSE_SHARE_MAX);
    kept.and_then(<[_]>::last).map_or(0.0, |(p_value, _)| *p_value).max(set * LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::actuator::fake::World;

    #[test]
    fn a_behaviour_that_is_mostly_wrong_is_told_at_smaller_p_values() {
        let all = |from: u32, to: u32, is_false| (from..to).map(move |n| (f64::from(n) / 1_000.0, is_false));
        let labels: Vec<(f64, bool)> = all(1, 5, false).chain(all(5, 20, true)).collect();
        assert_eq!(limit(0.02, &labels), 0.008, "four right and four wrong ones");
        assert_eq!(limit(0.02, &labels[..9]), 0.02, "nine labels say nothing");
        let right: Vec<(f64, bool)> = all(1, 20, false).collect();
        assert_eq!(limit(0.02, &right), 0.02);
        let wrong: Vec<(f64, bool)> = all(1, 20, true).collect();
        assert_eq!(limit(0.02, &wrong), 0.02 * 0.01, "strong evidence is always told");
        let same = [(0.01, true); 12];
        assert_eq!(limit(0.02, &same), 0.02 * 0.01);
        assert_eq!(limit(0.005, &labels), 0.005, "alerts beyond what is set do not count");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn labels_of_the_last_month_count_by_behaviour() {
        let world = World::open().await;
        for n in 0..24 {
            let (name, days) = if n < 12 { ("brute_force", 1) } else { ("beaconing", 60) };
            let row = format!(
                "INSERT INTO threat_events (id, detected_at, threat_type, severity, indicators, confidence_score, false_positive) \
                 VALUES ('00000000-0000-7000-8000-{n:012}', now() - INTERVAL '{days} days', '{name}', 'medium', \
                 '{{\"p_value\": 0.01}}', 0.9, true)"
            );
            world.own.query(&row).await.expect("a threat");
        }
        let now_us = world.own.db().system().clock().now_us();
        let found = limits(&world.own, 0.02, now_us).await.expect("limits");
        assert_eq!(found, [("brute_force".to_owned(), 0.02 * 0.01)].into());
    }
}
