//! What the planner does on demands that are known by construction.

use super::*;

const OPTIONS: Options = Options {
    step_s: 60,
    unit: Unit { capacity: 100.0, startup_s: 90, cost_per_hour: 0.4 },
    bounds: Bounds { min: 2, max: 1_000, max_step: 0 },
    capacity_share: 0.999,
    cooldown_s: 0,
    confidence_threshold: 0.0,
};
const DAY_STEPS: usize = 1_440;

/// Numbers from 0 to 1 that follow from the seed.
fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn observations(step_s: u32, demand: impl IntoIterator<Item = f64>) -> Vec<Observation> {
    let at = |step: usize| 1_000_000 * i64::from(step_s) + (step as i64 + 1) * i64::from(step_s);
    let seen = |(step, demand)| Observation { at_s: at(step), demand, units: None, lost: None };
    demand.into_iter().enumerate().map(seen).collect()
}

/// A daily season around 1,500 requests per second with a few per cent of noise.
fn season(steps: usize, seed: u64) -> Vec<f64> {
    let mut random = noise(seed);
    let day = |step: usize| (step as f64 / DAY_STEPS as f64 * std::f64::consts::TAU).sin();
    (0..steps).map(|step| 1_500.0 * (1.0 + 0.6 * day(step)) * (0.97 + 0.06 * random())).collect()
}

/// Mean units and share of demand within what was ready.
fn served(options: Options, demand: &[f64], from: usize) -> (f64, f64) {
    let decisions =
        Planner::new(options).unwrap().replay(&observations(options.step_s, demand.iter().copied())).unwrap();
    let boot = options.pace().lead_steps;
    let (mut units, mut lost, mut all) = (0.0, 0.0, 0.0);
    for step in from.max(boot + 1)..demand.len() {
        let ready = decisions[step - 1 - boot..step].iter().map(|decision| decision.to).min().unwrap();
        units += f64::from(decisions[step - 1].to);
        lost += (demand[step] - f64::from(ready) * options.unit.capacity).max(0.0);
        all += demand[step];
    }
    (units / (demand.len() - from) as f64, 1.0 - lost / all)
}

#[test]
fn flat_demand_gets_little_more_than_it_needs() {
    let mut random = noise(1);
    let demand: Vec<f64> = (0..2 * DAY_STEPS).map(|_| 1_900.0 + 20.0 * random()).collect();
    let (units, within) = served(OPTIONS, &demand, DAY_STEPS);
    assert!((20.0..=21.0).contains(&units) && within > 0.9995, "{units} units, {within}");
}

#[test]
fn a_daily_season_is_served_within_the_objective_for_little_more_than_it_needs() {
    for startup_s in [90, 600] {
        let options = Options { unit: Unit { startup_s, ..OPTIONS.unit }, ..OPTIONS };
        let (units, within) = served(options, &season(6 * DAY_STEPS, 2), 3 * DAY_STEPS);
        assert!(within >= 0.999 && units < 15.0 * 1.12, "{startup_s} s: {units} units, {within}");
    }
}

#[test]
fn no_demand_keeps_the_least_units_and_never_fails() {
    let history = observations(60, std::iter::repeat_n(0.0, DAY_STEPS));
    let decisions = Planner::new(OPTIONS).unwrap().replay(&history).unwrap();
    assert!(
        decisions.iter().all(|decision| decision.to == 2),
        "{:?}",
        decisions.iter().find(|decision| decision.to != 2)
    );
}

#[test]
fn a_spike_gets_units_at_once_and_loses_them_after_the_hold() {
    let mut demand = vec![1_000.0; DAY_STEPS];
    demand.extend([5_000.0; 40]);
    demand.extend([1_000.0; 400]);
    let decisions = Planner::new(OPTIONS).unwrap().replay(&observations(60, demand)).unwrap();
    assert!(decisions[DAY_STEPS - 1].to <= 12, "{:?}", decisions[DAY_STEPS - 1]);
    assert!(decisions[DAY_STEPS + 1].to >= 50, "two steps of demand are carried: {:?}", decisions[DAY_STEPS + 1]);
    assert!(decisions.iter().all(|decision| decision.to <= 105), "never more than twice what was seen");
    assert!(decisions.last().unwrap().to <= 15, "{:?}", decisions.last());
}

#[test]
fn growth_beyond_anything_seen_is_followed() {
    let demand: Vec<f64> = (0..4 * DAY_STEPS).map(|step| 500.0 * 2f64.powf(step as f64 / DAY_STEPS as f64)).collect();
    let (_, within) = served(OPTIONS, &demand, DAY_STEPS);
    assert!(within >= 0.999, "{within}");
}

#[test]
fn gaps_and_broken_values_are_bridged_and_taught_nothing() {
    let mut history = observations(60, season(6 * DAY_STEPS, 3));
    for (place, demand) in [(7_000, f64::NAN), (7_001, -5.0), (7_002, f64::INFINITY), (7_003, 1e300)] {
        history[place].demand = demand;
    }
    history.drain(8_000..8_060);
    let decisions = Planner::new(OPTIONS).unwrap().replay(&history).unwrap();
    let usual = decisions[6_999].to;
    assert!(decisions[7_000..7_010].iter().all(|decision| decision.to.abs_diff(usual) <= 3), "{usual}");
    let (before, after) = (&decisions[7_999], &decisions[8_000]);
    assert!(f64::from(after.to) * 100.0 >= history[8_000].demand, "{before:?} {after:?}");
    assert!(decisions.iter().all(|decision| decision.to <= 60));
}

#[test]
fn observations_out_of_order_are_refused_and_change_nothing() {
    let mut planner = Planner::new(OPTIONS).unwrap();
    let history = observations(60, season(300, 4));
    planner.replay(&history).unwrap();
    let before = planner.clone();
    for place in [299, 298, 0] {
        let refused = planner.observe(&history[place]);
        assert!(matches!(refused, Err(PolicyError::Unsorted { .. })), "{refused:?}");
    }
    assert_eq!(planner, before);
}

#[test]
fn batch_is_online_also_across_a_written_and_read_state() {
    let history = observations(60, season(3_000, 5));
    let batch = Planner::new(OPTIONS).unwrap().replay(&history).unwrap();
    let mut planner = Planner::new(OPTIONS).unwrap();
    for (step, seen) in history.iter().enumerate() {
        if step % 500 == 499 {
            planner = serde_json::from_str(&serde_json::to_string(&planner).unwrap()).unwrap();
        }
        assert_eq!(planner.observe(seen).unwrap().to, batch[step].to, "step {step}");
    }
}

#[test]
fn memory_does_not_grow_after_a_week() {
    let options = Options { step_s: 300, ..OPTIONS };
    let mut planner = Planner::new(options).unwrap();
    let history = observations(300, season(10 * 2_016, 6));
    let size = |planner: &Planner| serde_json::to_string(planner).unwrap().len();
    planner.replay(&history[..3 * 2_016]).unwrap();
    let early = size(&planner);
    planner.replay(&history[3 * 2_016..]).unwrap();
    assert!(size(&planner) < early * 11 / 10, "{early} {}", size(&planner));
}

#[test]
fn below_the_threshold_the_reactive_guard_decides_until_a_week_has_proven_the_forecast() {
    let options = Options { confidence_threshold: 0.9, ..OPTIONS };
    let demand = season(11 * DAY_STEPS, 7);
    let decisions = Planner::new(options).unwrap().replay(&observations(60, demand.clone())).unwrap();
    let day = DAY_STEPS;
    let advisory = |range: std::ops::Range<usize>| decisions[range].iter().filter(|decision| decision.advisory).count();
    assert_eq!(advisory(0..6 * day), 6 * day, "a week is not over");
    assert_eq!(advisory(8 * day..11 * day), 0, "{:?}", decisions.last());
    let reactive = &decisions[2 * day + 300];
    assert!(f64::from(reactive.to) >= demand[2 * day + 300] / 70.0, "{reactive:?}");
    assert!(reactive.planned < reactive.to, "{reactive:?}");
}

#[test]
fn a_cooldown_holds_reductions_back_and_no_additions() {
    let options = Options { cooldown_s: 900, ..OPTIONS };
    let decisions = Planner::new(options).unwrap().replay(&observations(60, season(2 * DAY_STEPS, 8))).unwrap();
    let reduced: Vec<i64> = decisions.iter().filter(|decision| decision.to < decision.from).map(|d| d.at_s).collect();
    assert!(reduced.len() > 20 && reduced.windows(2).all(|pair| pair[1] - pair[0] >= 900), "{}", reduced.len());
    for decision in &decisions {
        assert!(decision.to >= decision.planned, "an addition waits: {decision:?}");
        assert_eq!(decision.reason == Reason::Held, decision.to > decision.planned, "{decision:?}");
    }
}

#[test]
fn bounds_and_the_largest_change_are_kept_whatever_comes() {
    let mut random = noise(9);
    for round in 0..20 {
        let (min, width, max_step) =
            ((random() * 10.0) as u32, 1 + (random() * 30.0) as u32, 1 + (random() * 5.0) as u32);
        let bounds = Bounds { min, max: min + width, max_step };
        let options = Options { bounds, cooldown_s: (random() * 300.0) as u32, ..OPTIONS };
        let demand: Vec<f64> = (0..600).map(|_| random().powi(8) * 50_000.0).collect();
        let mut history = observations(60, demand);
        history.iter_mut().for_each(|seen| seen.lost = (random() < 0.5).then(|| random() * 1e4));
        for decision in Planner::new(options).unwrap().replay(&history).unwrap().iter().skip(1) {
            let inside = (bounds.min..=bounds.max).contains(&decision.to);
            assert!(
                inside && decision.to.abs_diff(decision.from) <= max_step,
                "round {round}: {bounds:?} {decision:?}"
            );
            let sound = decision.needed.is_finite() && (0.0..=1.0).contains(&decision.q);
            assert!(sound && (0.0..=1.0).contains(&decision.confidence), "round {round}: {decision:?}");
        }
    }
}

#[test]
fn losses_beyond_the_budget_widen_the_margin() {
    let history = observations(60, season(3 * DAY_STEPS, 10));
    let run = |lost: f64| {
        let mut planner = Planner::new(OPTIONS).unwrap();
        let seen = |seen: &Observation| Observation { lost: Some(seen.demand * lost), ..*seen };
        planner.replay(&history.iter().map(seen).collect::<Vec<_>>()).unwrap();
        planner.budget.margin().z
    };
    let (none, some, much) = (run(0.0), run(0.0008), run(0.01));
    assert!(none < some && some < much, "{none} {some} {much}");
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let unit = |capacity, startup_s| Options { unit: Unit { capacity, startup_s, cost_per_hour: 1.0 }, ..OPTIONS };
    let wrong = [
        (Options { step_s: 10, ..OPTIONS }, "step"),
        (unit(0.0, 90), "capacity"),
        (unit(f64::NAN, 90), "capacity"),
        (unit(1.0, 4_000), "start-up"),
        (Options { bounds: Bounds { min: 5, max: 4, max_step: 0 }, ..OPTIONS }, "bounds"),
        (Options { capacity_share: 1.0, ..OPTIONS }, "capacity share"),
        (Options { confidence_threshold: 1.5, ..OPTIONS }, "confidence"),
    ];
    for (options, word) in wrong {
        let refused = Planner::new(options).unwrap_err().to_string();
        assert!(refused.contains(word) && refused.contains("give"), "{refused}");
    }
}
