//! Members for series without a season: intermittent demand and damped trends.
//!
//! Intermittent (Teunter, Syntetos and Babai 2011): the chance of a value other than zero and the size of such values are
//! smoothed apart, the forecast is their product. Damped trend (Gardner and McKenzie 1985): level and slope are
//! smoothed, and the slope fades from step to step.
//!
//! **Invariant:** a lane's state comes from the values before its end; smoothing constants are fixed.

use super::frame::{Frame, Member};
use crate::seasonal_ar::normal::{LANES, Lanes};

/// A series with at least this share of zeros is intermittent.
const ZEROS_SHARE_MIN: f64 = 0.3;
/// How much of a new value goes into the smoothed chance and size.
const CHANCE: f64 = 0.05;
const SIZE: f64 = 0.1;
/// How much of an error goes into level and slope, for each member, and what is left of the slope after a step.
const TRENDS: [(f64, f64); 2] = [(0.3, 0.05), (0.7, 0.2)];
const DAMPING: f64 = 0.97;

/// The members that the series calls for.
pub(super) fn members(frame: &Frame) -> Vec<Member> {
    let zeros = frame.values.iter().filter(|v| **v == 0.0).count() as f64;
    let intermittent = frame.offset.is_some() && zeros >= ZEROS_SHARE_MIN * frame.values.len() as f64;
    let trends = TRENDS.iter().filter(|_| frame.main == 0).map(|constants| trend(frame, *constants));
    trends.chain(intermittent.then(|| demand(frame))).collect()
}

/// The smoothed chance times the smoothed size.
fn demand(frame: &Frame) -> Member {
    let lanes: Lanes = std::array::from_fn(|w| {
        let known = &frame.values[..frame.ends[w]];
        let sizes = known.iter().filter(|v| **v > 0.0);
        let (count, sum) = sizes.fold((0.0, 0.0), |(count, sum), v| (count + 1.0, sum + v));
        let (mut chance, mut size) = (count / known.len() as f64, if count > 0.0 { sum / count } else { 0.0 });
        for value in known {
            let is = f64::from(u8::from(*value > 0.0));
            chance += CHANCE * (is - chance);
            size += SIZE * is * (value - size);
        }
        chance * size
    });
    vec![lanes; frame.horizon]
}

/// A level and a slope that fades, smoothed once and read at every lane's end.
fn trend(frame: &Frame, (level_gain, slope_gain): (f64, f64)) -> Member {
    let mut steps = vec![[0.0; LANES]; frame.horizon];
    let mut lanes: Vec<usize> = (0..LANES).collect();
    lanes.sort_by_key(|w| frame.ends[*w]);
    let (mut level, mut slope, mut from) = (frame.values[0], 0.0, 1);
    for w in lanes {
        for value in &frame.values[from..frame.ends[w]] {
            let expected = level + DAMPING * slope;
            let error = value - expected;
            slope = DAMPING * slope + slope_gain * error;
            level = expected + level_gain * error;
        }
        from = frame.ends[w];
        let (mut level, mut slope) = (level, slope);
        for step in &mut steps {
            slope *= DAMPING;
            level += slope;
            step[w] = frame.bounded(level, w);
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seasonal_ar::history;
    use crate::seasonal_ar::plan::Plan;
    use crate::twin::noise;

    fn members_of(values: &[f64]) -> Vec<Member> {
        let plan = Plan::new(history::prepare(values).unwrap(), 20);
        members(&Frame::new(&plan, 20))
    }

    #[test]
    fn rare_demand_is_forecast_at_its_mean_rate() {
        let values: Vec<f64> = (0..600).map(|t| if noise(t) > 0.6 { 10.0 + noise(t + 9_000) } else { 0.0 }).collect();
        let (mean, top) = (values.iter().sum::<f64>() / 600.0, values.iter().copied().fold(0.0, f64::max));
        let found = members_of(&values);
        let demand = found.last().unwrap()[7][0] * top;
        assert!(found.len() == 3 && (demand / mean - 1.0).abs() < 0.5, "{demand} against {mean}");
    }

    #[test]
    fn a_trend_goes_on_and_fades() {
        let values: Vec<f64> = (0..200).map(|t| 50.0 + f64::from(t)).collect();
        let found = members_of(&values);
        assert_eq!(found.len(), 2);
        for member in found {
            let (first, last) = (member[0][0] * 249.0, member[19][0] * 249.0);
            assert!(first > 249.0 && last > first && last < 270.0, "{first} then {last}");
        }
    }
}
