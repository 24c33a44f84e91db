//! Tests of the ensemble: what it forecasts, what it does with hostile series, what it depends on.

use proptest::prelude::*;

use super::{AUTO_POINTS_MAX, Model, forecast};
#[cfg(feature = "cuda")]
use crate::seasonal_ar::history::HISTORY_POINTS_MAX;
use crate::seasonal_ar::{Forecast, Params};
use crate::twin::{noise, series_of_all_kinds, twin_test, wave};
use crate::{Device, Series};

const PARAMS: Params = Params { horizon: 48, levels: &[0.95] };

fn forecast_of(values: &[f64], horizon: usize, model: Model) -> Forecast {
    let params = Params { horizon, ..PARAMS };
    forecast(&Device::cpu(), &Series::new(values, &[0, values.len()]).unwrap(), &params, model).unwrap()
}

fn weekly(t: usize) -> f64 {
    let weekend = if t / 24 % 7 >= 5 { 0.6 } else { 1.0 };
    weekend * (100.0 + 40.0 * wave(t, 24)) + 0.01 * t as f64
}

/// The mean magnitude of the error against `truth`, relative to its mean magnitude.
fn error(mean: &[f64], truth: impl Fn(usize) -> f64) -> f64 {
    let sums = mean.iter().enumerate().fold((0.0, 0.0), |sums, (step, forecast)| {
        let actual = truth(step);
        (sums.0 + (forecast - actual).abs(), sums.1 + actual.abs())
    });
    sums.0 / sums.1
}

/// The lower and the upper ends of an interval, by step.
type Ends<'a> = (&'a [f64], &'a [f64]);

#[test]
fn every_kind_of_series_gets_a_row_and_only_nothing_known_is_nan() {
    let (values, offsets) = series_of_all_kinds();
    let series = Series::new(&values, &offsets).unwrap();
    let result = forecast(&Device::cpu(), &series, &PARAMS, Model::Full).unwrap();
    assert_eq!((result.mean.len(), result.seasons.len()), (series.len() * 48, series.len()));
    for i in 0..series.len() {
        let known = series.get(i).iter().any(|v| v.is_finite());
        for at in i * 48..(i + 1) * 48 {
            let (lower, mean, upper) = (result.lower[at], result.mean[at], result.upper[at]);
            let missing = lower.is_nan() && mean.is_nan() && upper.is_nan();
            let sound = if known { lower <= mean && mean <= upper } else { missing };
            assert!(sound, "series {i}: {lower} {mean} {upper}");
        }
    }
}

#[test]
fn days_weeks_and_trend_go_on() {
    let values: Vec<f64> = (0..24 * 35).map(|t| weekly(t) + 2.0 * noise(t)).collect();
    for (sign, horizon) in [(1.0, 48), (1.0, 168), (-1.0, 48)] {
        let signed: Vec<f64> = values.iter().map(|v| v * sign).collect();
        let result = forecast_of(&signed, horizon, Model::Full);
        let error = error(&result.mean, |step| sign * weekly(24 * 35 + step));
        assert!(error < 0.02, "relative error {error}");
    }
}

#[test]
fn a_mixture_of_kinds_is_forecast_better_than_by_the_lean_model() {
    let length = 24 * 30;
    let value = |series: usize, t: usize| {
        let drift = (t as f64 / 200.0 + series as f64).sin();
        let bump = if (t + series) % 168 < 30 { 1.5 } else { 0.0 };
        10.0 + drift + bump + 2.0 * wave(t + series, 24) + 0.5 * noise(series * 10_000 + t)
    };
    let total = |model: Model| -> f64 {
        let one = |series: usize| {
            let values: Vec<f64> = (0..length).map(|t| value(series, t)).collect();
            error(&forecast_of(&values, 48, model).mean, |step| value(series, length + step))
        };
        (0..20).map(one).sum()
    };
    let (full, lean) = (total(Model::Full), total(Model::Lean));
    assert!(full < lean, "{full} against {lean}");
}

#[test]
fn a_forecast_does_not_depend_on_the_batch_or_the_threads() {
    let (values, offsets) = series_of_all_kinds();
    let series = Series::new(&values, &offsets).unwrap();
    let together = forecast(&Device::cpu_with_threads(2), &series, &PARAMS, Model::Full).unwrap();
    let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    for i in 0..series.len() {
        let alone = forecast_of(series.get(i), 48, Model::Full).mean;
        assert_eq!(bits(&alone), bits(&together.mean[i * 48..(i + 1) * 48]), "series {i}");
    }
}

#[test]
fn several_levels_are_what_each_is_alone_and_nested() {
    const LEVELS: [f64; 3] = [0.5, 0.95, 0.8];
    let (values, offsets) = series_of_all_kinds();
    let series = Series::new(&values, &offsets).unwrap();
    let of = |levels: &[f64], model| forecast(&Device::cpu(), &series, &Params { horizon: 48, levels }, model).unwrap();
    let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    for model in [Model::Full, Model::Lean, Model::Ar, Model::Naive] {
        let together = of(&LEVELS, model);
        let (lower, upper) = (together.lower.chunks(48), together.upper.chunks(48));
        let ends: Vec<Ends> = lower.zip(upper).collect();
        assert_eq!(ends.len(), series.len() * LEVELS.len());
        for (place, level) in LEVELS.into_iter().enumerate() {
            let alone = of(&[level], model);
            assert_eq!(bits(&together.mean), bits(&alone.mean), "{model:?}");
            for i in 0..series.len() {
                let (lower, upper) = ends[i * LEVELS.len() + place];
                let own = i * 48..(i + 1) * 48;
                assert_eq!(bits(lower), bits(&alone.lower[own.clone()]), "{model:?} at {level}, series {i}");
                assert_eq!(bits(upper), bits(&alone.upper[own]), "{model:?} at {level}, series {i}");
            }
        }
        for [half, most, more] in ends.as_chunks::<3>().0 {
            let known = (0..48).filter(|step| !half.0[*step].is_nan());
            let nested = |(narrow, wide): (&Ends, &Ends), step: usize| {
                wide.0[step] <= narrow.0[step] && narrow.1[step] <= wide.1[step]
            };
            assert!(
                known.into_iter().all(|step| nested((half, more), step) && nested((more, most), step)),
                "{model:?}"
            );
        }
    }
}

#[test]
fn models_of_one_member_forecast_too() {
    let values: Vec<f64> = (0..24 * 35).map(|t| weekly(t) + 2.0 * noise(t)).collect();
    let naive = forecast_of(&values, 30, Model::Naive);
    let repeated = |step: usize| values[values.len() - 24 + step % 24];
    assert!(naive.mean.iter().enumerate().all(|(step, v)| (v - repeated(step)).abs() < 1e-9));
    let ar = forecast_of(&values, 30, Model::Ar);
    assert!(error(&ar.mean, |step| weekly(24 * 35 + step)) < 0.02);
    assert!(ar.lower.iter().zip(&ar.upper).all(|(lower, upper)| lower < upper));
    assert_eq!(forecast_of(&[1.0, 2.0, 3.0], 2, Model::Ar).mean, [3.0, 3.0]);
}

#[test]
fn auto_is_the_full_ensemble_for_small_batches_and_the_lean_model_for_large_ones() {
    let values: Vec<f64> = (0..AUTO_POINTS_MAX + 200).map(|t| weekly(t) + 2.0 * noise(t)).collect();
    let head = &values[..400];
    assert_eq!(forecast_of(head, 5, Model::Auto).mean, forecast_of(head, 5, Model::Full).mean);
    assert_eq!(forecast_of(&values, 5, Model::Auto).mean, forecast_of(&values, 5, Model::Lean).mean);
}

/// Series of all kinds that call for different members: of seasons within odd ones, without a season, of rare demand, of
/// huge and tiny values, of every short length, and as long as histories are.
#[cfg(feature = "cuda")]
fn series_for_all_members() -> (Vec<f64>, Vec<usize>) {
    let (mut values, mut offsets) = series_of_all_kinds();
    let mut push = |length: usize, value: &dyn Fn(usize) -> f64| {
        values.extend((0..length).map(value));
        offsets.push(values.len());
    };
    push(900, &|t| weekly(t) + 2.0 * noise(t));
    push(560, &|t| -1e300 * (weekly(t) + 2.0 * noise(t)));
    push(400, &|t| 1e-300 * (3.0 + wave(t, 7) + f64::from(u8::from(t / 7 % 5 == 0)) + 0.2 * noise(t)));
    push(500, &|t| 2.0 + wave(t, 9) + 0.7 * wave(t, 63) + 0.1 * noise(t));
    push(420, &|t| 10.0 + wave(t, 13) + if t % 65 < 13 { 2.0 } else { 0.0 } + 0.1 * noise(t));
    push(300, &|t| if noise(t) > 0.7 { 10.0 + noise(t + 9_000) } else { 0.0 });
    push(350, &|t| 5.0 * wave(t, 24).max(0.0));
    push(333, &|t| noise(t) + 0.05 * t as f64);
    push(200, &|t| if t % 2 == 0 { 1.0 } else { 3.0 + 0.01 * noise(t) });
    push(800, &|t| (60.0 * wave(t, 24)).exp());
    (1..=50).for_each(|length| push(length, &|t| 4.0 + wave(t, 8) + 0.1 * noise(t + length)));
    push(HISTORY_POINTS_MAX, &|t| weekly(t / 4) + 3.0 * noise(t));
    (values, offsets)
}

#[cfg(feature = "cuda")]
#[test]
fn the_cuda_source_run_on_the_host_agrees_with_the_cpu_twin() {
    use super::frame::Frame;
    use super::tasks::{Job, Task, Tasks};
    use super::{cpu, cuda};
    use crate::seasonal_ar::Prepared;
    use crate::seasonal_ar::normal::LANES;
    use crate::seasonal_ar::plan::Plan;
    use crate::twin::run_on_host;
    let (values, offsets) = series_for_all_members();
    let series = Series::new(&values, &offsets).unwrap();
    let params = Params { horizon: 30, ..PARAMS };
    let prepared: Vec<Prepared> = (0..series.len()).map(|i| Prepared::new(series.get(i), &params)).collect();
    let plans: Vec<&Plan> = prepared.iter().filter_map(Prepared::plan).collect();
    let mut tasks: Vec<Tasks> = plans.iter().map(|plan| Tasks::of(plan, 30)).collect();
    // One series is left to the host.
    tasks[1].tasks.fill(None);
    let all = || tasks.iter().flat_map(|one| &one.tasks);
    let is = |test: &dyn Fn(&Task) -> bool| assert!(all().flatten().any(test));
    is(&|task| task.job == Job::Absolute && task.lags.len() > 31);
    is(&|task| task.job == Job::Plain && task.lags.len() < 7);
    is(&|task| task.job == Job::Profile && task.outer == 0);
    is(&|task| task.job == Job::Profile && task.outer % 2 == 1);
    is(&|task| task.job == Job::Smoothing && task.seasons == 1);
    is(&|task| task.job == Job::Smoothing && task.outer % 2 == 1);
    assert!(all().any(Option::is_none) && all().flatten().any(|task| task.decay > 0.0));
    assert!(tasks.iter().any(|one| one.median_counts) && tasks.iter().any(|one| !one.are_for_device()));
    let batch = cuda::Batch::new(&tasks, 30);
    let Some(results) = run_on_host("seasonal_ensemble", 2, cuda::KERNEL.threads, &batch.arguments(2)) else { return };
    let taken: Vec<bool> = tasks.iter().map(Tasks::are_for_device).collect();
    let modelled = cuda::take_apart(&plans, &taken, &results[cuda::MEAN], &results[cuda::ROLLED], 30);
    let mut fitted = results[cuda::FITTED].chunks_exact(30 * LANES);
    let (mut work, mut worst) = (cpu::Work::default(), std::collections::BTreeMap::new());
    for (i, plan) in plans.iter().enumerate().filter(|(i, _)| taken[*i]) {
        let mut compare = |what: String, own: &[f64], expected: &[f64]| {
            let differences = own.iter().zip(expected).map(|(a, b)| (a - b).abs());
            let most = differences.fold(0.0, |most: f64, v| if v.is_nan() { v } else { most.max(v) });
            assert!(own.len() == expected.len() && most < 1e-5, "plan {i}: {what} differs by up to {most}");
            let of_all = worst.entry(what).or_insert(0.0);
            *of_all = most.max(*of_all);
        };
        let members = cpu::fitted(&mut work, &Frame::new(plan, 30));
        assert_eq!(members.len(), tasks[i].tasks.len());
        for (member, task) in members.iter().zip(&tasks[i].tasks) {
            assert_eq!(member.is_some(), task.is_some(), "plan {i}");
            let (Some(member), Some(task)) = (member, task) else { continue };
            compare(format!("{:?}", task.job), fitted.next().unwrap(), member.as_flattened());
        }
        let (own, expected) = (modelled[i].as_ref().unwrap(), cpu::model(&mut work, plan, 30));
        compare("mean".to_owned(), &own.mean, &expected.mean);
        compare("rolled".to_owned(), &own.rolled, &expected.rolled);
    }
    assert!(fitted.next().is_none());
    eprintln!("largest differences: {worst:?}");
    assert_eq!(worst.len(), 7 + 2, "a kind of member is not among them: {worst:?}");
}

twin_test! {
    fn the_twins_agree(device) {
        let (values, offsets) = series_of_all_kinds();
        let series = Series::new(&values, &offsets).unwrap();
        let own = forecast(device, &series, &PARAMS, Model::Full).unwrap();
        let reference = forecast(&Device::cpu(), &series, &PARAMS, Model::Full).unwrap();
        assert_eq!(own.seasons, reference.seasons);
        for i in 0..series.len() {
            let top = series.get(i).iter().filter(|v| v.is_finite()).fold(0.0, |top: f64, v| top.max(v.abs()));
            for at in i * 48..(i + 1) * 48 {
                let (a, b) = (own.mean[at], reference.mean[at]);
                assert!((a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-5 * top, "series {i}: {a} and {b}");
            }
        }
    }
}

#[cfg(feature = "cuda")]
#[test]
fn nvrtc_compiles_the_source() {
    crate::twin::assert_compiles(super::cuda::KERNEL.source);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_series_is_ever_an_error(
        values in prop::collection::vec(prop::num::f64::ANY, 0..300),
        horizon in 1usize..100,
    ) {
        let result = forecast_of(&values, horizon, Model::Full);
        let known = values.iter().any(|v| v.is_finite());
        for ((mean, lower), upper) in result.mean.iter().zip(&result.lower).zip(&result.upper) {
            let sound = if known { mean.is_finite() && lower <= mean && mean <= upper } else { mean.is_nan() };
            prop_assert!(sound, "{lower} {mean} {upper}");
        }
    }

    #[test]
    fn seasonal_series_of_any_length_and_season_are_forecast(
        season in 2usize..60, length in 24usize..700, horizon in 1usize..80, seed in 0usize..1_000,
    ) {
        let values: Vec<f64> = (0..length).map(|t| 5.0 + 3.0 * wave(t, season) + 0.2 * noise(seed + t)).collect();
        let result = forecast_of(&values, horizon, Model::Full);
        prop_assert!(result.mean.iter().all(|v| v.is_finite() && v.abs() < 20.0));
    }
}
