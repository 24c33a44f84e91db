//! Loads to simulate with: a trace brought to slots, or one made by a seed.
//!
//! **Invariant:** equal seeds give equal loads; a load is finite and never below 0.

use juno_kernels::SplitMix;

use super::SLOT_S;
use crate::ops::rl::policy::refusal::{Refusal, Result};

/// Slots of a day.
pub(super) const DAY_SLOTS: usize = 5_760;
/// Days of a made load.
const DAYS_MAX: usize = 400;

/// Requests per second in every slot from samples that are `sample_s` apart: straight lines between them, and the noise of
/// counting requests, drawn by the seed.
///
/// # Errors
/// [`Refusal::InsufficientExperience`] for fewer than two samples, [`Refusal::Parameter`] for one that is not finite or negative
/// and for a distance that is not above 0.
pub fn resampled(samples: &[f64], sample_s: f64, seed: u64) -> Result<Vec<f64>> {
    let mut random = SplitMix::new(seed, 1);
    Ok(measured(samples, sample_s)?.into_iter().map(|rate| counted(&mut random, rate)).collect())
}

/// Requests per second in every slot, with straight lines between samples and no noise: a load as it was measured.
///
/// # Errors
/// As for [`resampled`].
pub fn measured(samples: &[f64], sample_s: f64) -> Result<Vec<f64>> {
    checked(samples, sample_s)?;
    let slots = (samples.len() as f64 * sample_s / SLOT_S) as usize;
    Ok((0..slots).map(|slot| between(samples, sample_s, slot)).collect())
}

/// Refuses samples that no load can be made of.
fn checked(samples: &[f64], sample_s: f64) -> Result<()> {
    if samples.len() < 2 {
        return Err(Refusal::InsufficientExperience("a load needs at least two samples".to_owned()));
    }
    if !(1.0..=86_400.0).contains(&sample_s) {
        return Err(Refusal::Parameter(format!("samples {sample_s} s apart are out of range: use 1 to 86400")));
    }
    if let Some(place) = samples.iter().position(|sample| !(sample.is_finite() && *sample >= 0.0)) {
        return Err(Refusal::Parameter(format!("sample {place} of the load is {}: fill gaps first", samples[place])));
    }
    Ok(())
}

/// The value at the middle of a slot, samples being those of the middle of their spans.
fn between(samples: &[f64], sample_s: f64, slot: usize) -> f64 {
    let place = ((slot as f64 + 0.5) * SLOT_S / sample_s - 0.5).clamp(0.0, (samples.len() - 1) as f64);
    let low = place as usize;
    let high = (low + 1).min(samples.len() - 1);
    samples[low] + (samples[high] - samples[low]) * (place - low as f64)
}

/// A rate as it is counted over a slot: the normal approximation of a Poisson count.
fn counted(random: &mut SplitMix, rate: f64) -> f64 {
    (rate + (rate / SLOT_S).sqrt() * random.normal()).max(0.0)
}

/// Days of load with a mean near 200 requests per second: two waves a day, quieter weekends, drift, and crowds that come within
/// minutes, twice a day on average, and go within the hour.
///
/// # Errors
/// [`Refusal::Parameter`] for no day or too many.
pub fn generated(days: usize, seed: u64) -> Result<Vec<f64>> {
    if !(1..=DAYS_MAX).contains(&days) {
        return Err(Refusal::Parameter(format!("{days} days are out of range: use 1 to {DAYS_MAX}")));
    }
    let mut random = SplitMix::new(seed, 2);
    let (mut drift, mut crowd, mut crowd_to) = (0.0f64, 0.0f64, 0.0f64);
    let mut load = Vec::with_capacity(days * DAY_SLOTS);
    for slot in 0..days * DAY_SLOTS {
        let turn = std::f64::consts::TAU * slot as f64 / DAY_SLOTS as f64;
        let wave = 1.0 - 0.5 * turn.cos() + 0.2 * (2.0 * turn + 0.7).sin();
        let week = if slot / DAY_SLOTS % 7 >= 5 { 0.7 } else { 1.0 };
        drift += -drift / 960.0 + 0.006 * random.normal();
        if random.unit() < 2.0 / DAY_SLOTS as f64 {
            crowd_to = 0.2 + 0.6 * random.unit();
        }
        crowd_to *= 1.0 - 1.0 / 120.0;
        crowd += (crowd_to - crowd) / 20.0;
        load.push(counted(&mut random, 200.0 * wave * week * (drift.clamp(-0.5, 0.5) + crowd).exp()));
    }
    Ok(load)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_become_slots_on_straight_lines() {
        let load = resampled(&[1e6, 2e6, 2e6], 60.0, 1).unwrap();
        assert_eq!(load.len(), 12);
        assert!((load[0] / 1e6 - 1.0).abs() < 0.01 && (load[4] / 1e6 - 1.625).abs() < 0.01, "{load:?}");
        assert_eq!(load, resampled(&[1e6, 2e6, 2e6], 60.0, 1).unwrap());
        assert_ne!(load, resampled(&[1e6, 2e6, 2e6], 60.0, 2).unwrap());
    }

    #[test]
    fn a_made_load_follows_its_seed_and_breathes_by_day() {
        let load = generated(3, 5).unwrap();
        assert_eq!(load, generated(3, 5).unwrap());
        assert_ne!(load, generated(3, 6).unwrap());
        let hour = |hour: usize| load[hour * 240..(hour + 1) * 240].iter().sum::<f64>();
        assert!(hour(12) > 1.5 * hour(0));
        assert!(load.iter().all(|x| x.is_finite() && *x >= 0.0));
    }

    #[test]
    fn bad_samples_are_refused_by_their_place() {
        assert!(matches!(resampled(&[1.0], 60.0, 0), Err(Refusal::InsufficientExperience(_))));
        for bad in [f64::NAN, -1.0, f64::INFINITY] {
            let refusal = resampled(&[1.0, bad, 1.0], 60.0, 0).unwrap_err();
            assert!(refusal.to_string().contains("sample 1"), "{refusal}");
        }
        assert!(resampled(&[1.0, 1.0], 0.0, 0).is_err() && generated(0, 0).is_err());
    }
}
