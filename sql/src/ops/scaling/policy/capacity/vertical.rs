//! Larger or smaller units, as many as there are.
//!
//! **Invariant:** the number of units stays; a size is left for a smaller one only if an hour passes without need of it, since
//! every unit starts anew for it.

use super::path::{self, Path};
use super::{Request, Size, Step, Why, tail};

/// Seconds without need before units shrink.
const HOLD_S: u32 = 3_600;

/// The cheapest size that carries what the next start-up and hour need; the largest where none does.
pub(super) fn path(request: &Request, margin: f64) -> Path {
    let needed = path::needed(request, margin);
    let units = f64::from(request.units.clamp(request.bounds.min.max(1), request.bounds.max));
    let lead = path::lead(request);
    let ahead = lead + HOLD_S.div_ceil(request.step_s) as usize;
    let largest =
        request.sizes.iter().copied().max_by(|a, b| a.factor.total_cmp(&b.factor)).expect("checked: one size");
    let size_for = |factor: f64| {
        let carrying = request.sizes.iter().copied().filter(|size| size.factor >= factor);
        carrying.min_by(|a, b| a.cost_per_hour.total_cmp(&b.cost_per_hour)).unwrap_or(largest)
    };
    let most = |from: usize, steps: usize| {
        needed[from..(from + steps + 1).min(needed.len())].iter().map(|(need, _)| need / units).fold(0.0, f64::max)
    };
    let mut now = request.sizes[0];
    let sizes: Vec<Size> = (0..needed.len())
        .map(|place| {
            let (soon, later) = (most(place, lead), most(place, ahead));
            if soon > now.factor || size_for(later).cost_per_hour < now.cost_per_hour {
                now = size_for(later.max(soon));
            }
            now
        })
        .collect();
    let factors: Vec<f64> = sizes.iter().map(|size| size.factor).collect();
    let steps = path::changes(request.sizes[0].factor, &factors, |place, from, to| Step {
        at_s: path::at_s(request, place),
        resource: needed[(place + lead).min(needed.len() - 1)].1,
        target: "size".into(),
        from,
        to,
        reason: if to > from { Why::DemandRises } else { Why::DemandFalls },
        q: tail::below(margin),
    });
    let before = request.sizes[0].factor;
    let least = |place: usize| {
        let first = if place < lead { before } else { f64::INFINITY };
        factors[place.saturating_sub(lead)..=place].iter().copied().fold(first, f64::min) * units
    };
    Path {
        units: vec![units; needed.len()],
        ready: (0..needed.len()).map(least).collect(),
        cost: sizes.iter().map(|size| size.cost_per_hour * units).collect(),
        steps,
    }
}
