//! Shares of the load by region: the cheapest first, each as far as it has room.
//!
//! **Invariant:** shares of a step add up to 1; they change on the hour at most, so that load does not wander with every ripple.

use super::path::{self, Path};
use super::{Region, Request, Step, Why, tail};

/// Seconds between two changes of shares.
const BLOCK_S: u32 = 3_600;
/// A region's share changes by this much at least.
const SHIFT_MIN: f64 = 0.01;

/// Units by demand, spread over the regions.
pub(super) fn path(request: &Request, margin: f64) -> Path {
    let needed = path::needed(request, margin);
    let room: f64 = request.regions.iter().map(|region| f64::from(region.units_max)).sum();
    let whole: Vec<f64> = needed.iter().map(|(units, _)| units.ceil().min(room)).collect();
    let units = path::ordered(request, &whole);
    let block = (BLOCK_S / request.step_s).max(1) as usize;
    let total: f64 = request.regions.iter().map(|region| region.share).sum();
    let even = 1.0 / request.regions.len() as f64;
    let mut shares: Vec<f64> =
        request.regions.iter().map(|region| if total > 0.0 { region.share / total } else { even }).collect();
    let (mut cost, mut steps) = (Vec::with_capacity(units.len()), Vec::new());
    for (place, blocks) in units.chunks(block).enumerate() {
        let most = blocks.iter().copied().fold(0.0, f64::max);
        let wanted = spread(&request.regions, most);
        let shift = |(now, to): (&f64, &f64)| (now - to).abs() >= SHIFT_MIN;
        if shares.iter().zip(&wanted).any(shift) {
            let at = place * block;
            let step = |((region, from), to): ((&Region, &f64), &f64)| Step {
                at_s: path::at_s(request, at),
                resource: needed[(at + path::lead(request)).min(needed.len() - 1)].1,
                target: format!("region:{}", region.name),
                from: *from,
                to: *to,
                reason: Why::CheaperRegion,
                q: tail::below(margin),
            };
            let moved =
                request.regions.iter().zip(&shares).zip(&wanted).filter(|((_, now), to)| (*now - *to).abs() > 1e-9);
            steps.extend(moved.map(step));
            shares = wanted;
        }
        let hourly: f64 = request.regions.iter().zip(&shares).map(|(region, share)| region.cost_per_hour * share).sum();
        cost.extend(blocks.iter().map(|units| units * hourly));
    }
    steps.extend(path::unit_steps(request, &units, &needed, margin));
    steps.sort_by_key(|step| step.at_s);
    Path { ready: path::ready(request, &units), units, cost, steps }
}

/// Shares that fill the cheapest regions first.
fn spread(regions: &[Region], units: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..regions.len()).collect();
    order.sort_by(|&a, &b| regions[a].cost_per_hour.total_cmp(&regions[b].cost_per_hour).then(a.cmp(&b)));
    let mut shares = vec![0.0; regions.len()];
    let mut left = units;
    for place in order {
        let here = left.min(f64::from(regions[place].units_max));
        shares[place] = here;
        left -= here;
    }
    let placed: f64 = shares.iter().sum();
    if placed <= 0.0 {
        return vec![1.0 / regions.len() as f64; regions.len()];
    }
    shares.iter_mut().for_each(|share| *share /= placed);
    shares
}
