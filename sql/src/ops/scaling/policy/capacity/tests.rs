//! Plans of demands that are known by construction.

use super::*;

const HOUR_STEPS: usize = 12;

/// Quantiles of a demand that varies by a tenth.
fn around(q50: f64) -> Quantiles {
    Quantiles { q50, q95: q50 * 1.1, q99: q50 * 1.141_4 }
}

/// A day in steps of five minutes: low at midnight, high at noon.
fn day(low: f64, high: f64) -> Vec<Quantiles> {
    let part = |step: usize| (1.0 - (step as f64 / 288.0 * std::f64::consts::TAU).cos()) / 2.0;
    (0..288).map(|step| around(low + (high - low) * part(step))).collect()
}

fn request(strategy: Strategy, points: Vec<Quantiles>) -> Request {
    Request {
        strategy,
        from_s: 86_400 * 20_000,
        step_s: 300,
        capacity_share: 0.999,
        startup_s: 600,
        cost_per_hour: 0.5,
        bounds: Bounds { min: 1, max: 100, max_step: 0 },
        budget_per_day: None,
        units: 10,
        loads: vec![Load { resource: Resource::Cpu, capacity: 100.0, points }],
        sizes: Vec::new(),
        regions: Vec::new(),
        confidence: 0.95,
        confidence_threshold: 0.9,
    }
}

fn region(name: &str, cost_per_hour: f64, units_max: u32, share: f64) -> Region {
    Region { name: name.into(), cost_per_hour, units_max, share }
}

#[test]
fn a_daily_season_is_carried_for_less_than_a_reactive_autoscaler_costs() {
    let plan = plan(&request(Strategy::Horizontal, day(1_000.0, 3_000.0))).unwrap();
    let Expected { sla, saving_pct, cost, replica_hours, .. } = plan.expected;
    assert!((0.999..1.0).contains(&sla), "{sla}");
    assert!(saving_pct > 15.0 && (cost - replica_hours * 0.5).abs() < 1e-6, "{:?}", plan.expected);
    assert!(plan.warnings.is_empty() && !plan.advisory, "{:?}", plan.warnings);
    assert!(plan.steps.windows(2).all(|pair| pair[0].at_s < pair[1].at_s && pair[0].to == pair[1].from));
    assert_eq!((plan.steps[0].from, plan.binding_dimension), (10.0, Resource::Cpu));
}

#[test]
fn orders_come_a_start_up_before_demand() {
    let mut points = vec![around(500.0); 2 * HOUR_STEPS];
    points[HOUR_STEPS..].fill(around(2_000.0));
    let request = Request { units: 6, ..request(Strategy::Horizontal, points) };
    let plan = plan(&request).unwrap();
    let rise = plan.steps.iter().find(|step| step.to > 15.0).expect("demand rises");
    assert_eq!(rise.at_s, request.from_s + 3_600 - 600);
    assert_eq!(rise.reason, Why::DemandRises);
}

#[test]
fn the_resource_that_asks_for_most_binds_and_storage_never_shrinks() {
    let mut request = request(Strategy::Horizontal, day(1_000.0, 3_000.0));
    let falling = (0..288).map(|step| around(4_000.0 - f64::from(step) * 10.0)).collect();
    request.loads.push(Load { resource: Resource::Storage, capacity: 100.0, points: falling });
    let plan = plan(&request).unwrap();
    assert_eq!(plan.binding_dimension, Resource::Storage);
    assert!(plan.steps.iter().all(|step| step.to >= 40.0 && step.reason != Why::DemandFalls), "{:?}", plan.steps);
}

#[test]
fn bounds_are_kept_and_what_they_cost_is_said() {
    let bounds = Bounds { min: 12, max: 20, max_step: 3 };
    let request = Request { bounds, units: 12, ..request(Strategy::Horizontal, day(1_000.0, 3_000.0)) };
    let plan = plan(&request).unwrap();
    for step in &plan.steps {
        assert!((12.0..=20.0).contains(&step.to) && (step.to - step.from).abs() <= 3.0, "{step:?}");
    }
    assert!(plan.expected.sla < 0.999 && plan.warnings[0].contains("widen bounds"), "{:?}", plan.warnings);
}

#[test]
fn a_budget_cuts_capacity_and_says_so() {
    let free = plan(&request(Strategy::Horizontal, day(1_000.0, 3_000.0))).unwrap();
    let money = free.expected.cost * 0.95;
    let request = Request { budget_per_day: Some(money), ..request(Strategy::Horizontal, day(1_000.0, 3_000.0)) };
    let cut = plan(&request).unwrap();
    assert!(cut.expected.cost <= money && cut.expected.cost > money * 0.93, "{} of {money}", cut.expected.cost);
    assert!(cut.expected.sla < free.expected.sla && cut.warnings[0].contains("the budget is"), "{:?}", cut.warnings);
    let nothing = plan(&Request { budget_per_day: Some(0.0), ..request }).unwrap();
    assert!(nothing.warnings.iter().any(|warning| warning.contains("raise budget_per_day")), "{:?}", nothing.warnings);
}

#[test]
fn a_schedule_repeats_every_day_and_changes_on_the_hour_less_a_start_up() {
    let mut points = day(1_000.0, 3_000.0);
    points.extend(day(1_100.0, 3_300.0));
    let request = request(Strategy::Temporal, points);
    let plan = plan(&request).unwrap();
    let units_at = |at_s: i64| plan.steps.iter().rev().find(|step| step.at_s <= at_s).map_or(10.0, |step| step.to);
    for hour in 1..22 {
        let at_s = request.from_s + hour * 3_600 + 1_800;
        assert_eq!(units_at(at_s), units_at(at_s + 86_400), "hour {hour}");
    }
    assert!(plan.expected.sla >= 0.999 && plan.steps.len() <= 48, "{} steps", plan.steps.len());
    assert!(plan.steps.iter().all(|step| step.reason == Why::Schedule));
}

#[test]
fn sizes_follow_demand_and_the_number_of_units_stays() {
    let sizes = [(1.0, 0.5), (2.0, 0.9), (4.0, 1.7)].map(|(factor, cost_per_hour)| Size { factor, cost_per_hour });
    let plan = plan(&Request { sizes: sizes.to_vec(), ..request(Strategy::Vertical, day(300.0, 3_000.0)) }).unwrap();
    assert!(plan.steps.iter().any(|step| step.to == 4.0) && plan.steps.last().unwrap().to < 4.0, "{:?}", plan.steps);
    assert!(plan.steps.iter().all(|step| step.target == "size") && plan.steps.len() <= 5);
    assert!(plan.expected.sla >= 0.999 && (plan.expected.replica_hours - 240.0).abs() < 1e-9, "{:?}", plan.expected);
}

#[test]
fn load_moves_to_the_cheaper_region_as_far_as_it_has_room() {
    let regions = vec![region("north", 0.5, 100, 1.0), region("south", 0.2, 8, 0.0)];
    let request = Request { regions, ..request(Strategy::Geographic, vec![around(1_400.0); 288]) };
    let moved = plan(&request).unwrap();
    let shares: Vec<&Step> = moved.steps.iter().filter(|step| step.target.starts_with("region:")).collect();
    assert_eq!(shares.len(), 2, "{shares:?}");
    assert!((shares.iter().map(|step| step.to).sum::<f64>() - 1.0).abs() < 1e-9);
    let south = shares.iter().find(|step| step.target == "region:south").unwrap();
    assert!((0.4..0.55).contains(&south.to) && south.from == 0.0, "{south:?}");
    let stay = plan(&Request { strategy: Strategy::Horizontal, ..request }).unwrap();
    assert!(moved.expected.cost < stay.expected.cost * 0.8, "{} {}", moved.expected.cost, stay.expected.cost);
}

#[test]
fn auto_takes_the_cheapest_that_keeps_the_objective() {
    let regions = vec![region("north", 0.5, 100, 1.0), region("south", 0.2, 100, 0.0)];
    let auto = |request: Request| plan(&Request { strategy: Strategy::Auto, ..request }).unwrap().strategy;
    let base = request(Strategy::Auto, day(1_000.0, 3_000.0));
    assert_eq!(auto(base.clone()), Strategy::Horizontal);
    assert_eq!(auto(Request { regions, ..base.clone() }), Strategy::Geographic);
    let sizes = vec![Size { factor: 1.0, cost_per_hour: 0.5 }, Size { factor: 4.0, cost_per_hour: 0.6 }];
    assert_eq!(auto(Request { sizes, ..base }), Strategy::Vertical);
}

#[test]
fn low_confidence_makes_a_plan_advisory_and_every_plan_expires() {
    let request = Request { confidence: 0.6, ..request(Strategy::Horizontal, day(1_000.0, 3_000.0)) };
    let doubtful = plan(&request).unwrap();
    assert!(doubtful.advisory && doubtful.expires_at_s == request.from_s + 3_600);
    let mut short = request.clone();
    short.loads[0].points.truncate(2);
    assert_eq!(plan(&short).unwrap().expires_at_s, request.from_s + 600);
}

#[test]
fn no_demand_needs_the_least_units() {
    let nothing = Quantiles { q50: 0.0, q95: 0.0, q99: 0.0 };
    let plan = plan(&request(Strategy::Horizontal, vec![nothing; 288])).unwrap();
    assert_eq!((plan.steps.len(), plan.steps[0].to, plan.expected.sla), (1, 1.0, 1.0), "{:?}", plan.steps);
}

#[test]
fn requests_that_make_no_sense_are_named() {
    let base = request(Strategy::Horizontal, day(1.0, 2.0));
    let with = |change: &dyn Fn(&mut Request)| {
        let mut request = base.clone();
        change(&mut request);
        plan(&request).unwrap_err().to_string()
    };
    let wrong = [
        (with(&|request| request.loads.clear()), "resource"),
        (with(&|request| request.loads[0].points.clear()), "horizon"),
        (with(&|request| request.loads[0].capacity = 0.0), "capacity"),
        (with(&|request| request.loads[0].points[3].q50 = f64::NAN), "q50"),
        (with(&|request| request.loads[0].points[3].q95 = 0.1), "q95"),
        (with(&|request| request.bounds.min = 200), "bounds"),
        (with(&|request| request.capacity_share = 1.0), "capacity share"),
        (with(&|request| request.budget_per_day = Some(-1.0)), "budget"),
        (with(&|request| request.strategy = Strategy::Vertical), "sizes"),
        (with(&|request| request.strategy = Strategy::Geographic), "regions"),
    ];
    for (message, word) in wrong {
        assert!(message.contains(word) && message.contains("give"), "{word}: {message}");
    }
}
