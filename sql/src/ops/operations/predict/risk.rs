//! How likely it is that a series reaches its capacity, and that a point falls outside of its band.
//!
//! **Formula.** `failure_risk`: the chance that a point is at its capacity or above is read off its conformal quantiles, linear
//! between two of them, 1 up to the 0.1 % quantile and 0 above the 99.9 % one. The largest of these chances over the horizon is
//! told: that the capacity is reached at some point is at least as likely, and hardly more so where errors last. `anomaly_risk`:
//! the share of the backtest's points that fell outside of the band of 90 %, which is what to expect of each point to come.
//!
//! **Invariant:** pure; what no backtest has shown is not told.

use serde_json::{Map, Value, json};

/// Levels whose ends say how a point is spread.
pub(super) const LEVELS: [f64; 7] = [0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.998];
/// The band of a backtest.
const BAND: f64 = 0.9;

/// The quantiles of one point as (share, value), from its rows of each level; values never fall.
pub(super) fn ends(rows: &[Map<String, Value>]) -> Vec<(f64, f64)> {
    let mut ends = Vec::with_capacity(3 * rows.len());
    for row in rows {
        let Some(level) = row["level"].as_f64() else { continue };
        let shares = [(0.5 - level / 2.0, "lower"), (0.5, "forecast"), (0.5 + level / 2.0, "upper")];
        ends.extend(shares.iter().filter_map(|(share, column)| Some((*share, row[*column].as_f64()?))));
    }
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut most = f64::NEG_INFINITY;
    for end in &mut ends {
        most = most.max(end.1);
        end.1 = most;
    }
    ends
}

/// How likely a point is at the capacity or above.
fn chance(ends: &[(f64, f64)], capacity: f64) -> f64 {
    let Some(next) = ends.iter().position(|end| end.1 >= capacity) else { return 0.0 };
    let Some(before) = next.checked_sub(1) else { return 1.0 };
    let ((low, from), (high, to)) = (ends[before], ends[next]);
    1.0 - low - (high - low) * (capacity - from) / (to - from)
}

/// The largest chance over the horizon, and when; null where no point is spread.
pub(super) fn failure(points: &[Map<String, Value>], ends: &[Vec<(f64, f64)>], capacity: f64) -> Value {
    let chances = points.iter().zip(ends).filter(|(_, ends)| !ends.is_empty());
    let mut worst: Option<(f64, &Value)> = None;
    for (chance, at) in chances.map(|(point, ends)| (chance(ends, capacity), &point["t"])) {
        if worst.is_none_or(|(most, _)| chance > most) {
            worst = Some((chance, at));
        }
    }
    worst.map_or(
        Value::Null,
        |(chance, at)| json!({ "probability": chance, "at": if chance > 0.0 { at.clone() } else { Value::Null } }),
    )
}

/// What a backtest says of points outside of their band; null where there was none.
pub(super) fn anomaly(backtest: Option<&Map<String, Value>>) -> Value {
    let inside = backtest.and_then(|row| row.get("coverage90")?.as_f64());
    inside.map_or(Value::Null, |inside| json!({ "probability": 1.0 - inside, "band": BAND, "expected": 1.0 - BAND }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_are_read_off_quantiles() {
        let row = |level: f64, lower: f64, upper: f64| {
            let row = json!({ "level": level, "forecast": 50.0, "lower": lower, "upper": upper });
            row.as_object().unwrap().clone()
        };
        let ends = ends(&[row(0.5, 40.0, 60.0), row(0.8, 30.0, 70.0)]);
        let shares: Vec<f64> = ends.iter().map(|end| (end.0 * 1e3).round() / 1e3).collect();
        assert_eq!(shares, [0.1, 0.25, 0.5, 0.5, 0.75, 0.9]);
        for (capacity, expected) in [(20.0, 1.0), (30.0, 1.0), (50.0, 0.5), (55.0, 0.375), (70.0, 0.1), (70.1, 0.0)] {
            assert!((chance(&ends, capacity) - expected).abs() < 1e-9, "{capacity}: {}", chance(&ends, capacity));
        }
        let point = |t: u32| json!({ "t": t }).as_object().unwrap().clone();
        let calm = vec![(0.1, 0.0), (0.9, 10.0)];
        let told = failure(&[point(0), point(1), point(2)], &[calm.clone(), ends, calm], 60.0);
        assert_eq!((told["probability"].as_f64(), &told["at"]), (Some(0.25), &json!(1)));
        assert_eq!(failure(&[], &[], 1.0), Value::Null);
    }

    #[test]
    fn a_band_is_as_wide_as_the_past_showed() {
        let backtest = json!({ "coverage90": 0.75 });
        let told = anomaly(backtest.as_object());
        assert_eq!((told["probability"].as_f64(), told["band"].as_f64()), (Some(0.25), Some(0.9)));
        assert_eq!(anomaly(None), Value::Null);
        assert_eq!(anomaly(json!({ "coverage90": null }).as_object()), Value::Null);
    }
}
