//! The members of the full ensemble.
//!
//! **Invariant:** a constant list: which members a series gets depends on its length, seasons and sign alone.

use super::frame::Transform::{self, Log, Raw, Sqrt};
use super::lags::Lags;
use super::profile::Shape;

/// One kind of member and the transforms it is fitted under.
pub(super) struct Spec {
    pub(super) transforms: &'static [Transform],
    pub(super) kind: Kind,
}

/// How a member forecasts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Autoregression by ridge regression, or by least absolute deviations; rows fade by e^−decay per main season.
    Ar { lags: Lags, ridge: f64, decay: f64, absolute: bool },
    /// Ridge autoregression on the difference to the main or outer season before.
    Difference { outer: bool, lags: Lags, ridge: f64 },
    /// A faded profile and ridge autoregression on the rest.
    Profile { shape: Shape, lags: Lags, ridge: f64 },
    /// Ridge autoregression with sines and cosines.
    Fourier { lags: Lags, ridge: f64, ridge_waves: f64 },
    /// Nearest windows of so many main seasons.
    Windows { seasons: usize },
    /// Double-seasonal exponential smoothing.
    Smoothing,
}

const fn ar(lags: Lags, ridge: f64) -> Kind {
    Kind::Ar { lags, ridge, decay: 0.0, absolute: false }
}

const fn lad(lags: Lags, decay: f64) -> Kind {
    Kind::Ar { lags, ridge: 1e-3, decay, absolute: true }
}

const EVEN: Shape = Shape { main_fade: 0.9, outer_fade: 0.75, outer_share: 0.5 };
const OUTER: Shape = Shape { main_fade: 0.9, outer_fade: 0.8, outer_share: 0.8 };

/// The one member of the model of that name.
pub(super) const SINGLE: Spec = Spec { transforms: &[Sqrt, Raw], kind: ar(Lags::Week, 5e-4) };

/// All fitted members.
pub(super) const SPECS: &[Spec] = &[
    Spec { transforms: &[Raw, Sqrt], kind: ar(Lags::Week, 5e-4) },
    Spec { transforms: &[Log], kind: ar(Lags::Week, 1e-2) },
    Spec { transforms: &[Log], kind: ar(Lags::TwoWeeks, 3e-3) },
    Spec { transforms: &[Raw], kind: ar(Lags::Dense, 1e-4) },
    Spec { transforms: &[Log], kind: ar(Lags::Dense, 3e-3) },
    Spec { transforms: &[Raw, Log], kind: lad(Lags::Week, 1.0 / 10.4) },
    Spec { transforms: &[Log], kind: lad(Lags::Dense, 0.0) },
    Spec { transforms: &[Log], kind: lad(Lags::TwoWeeks, 0.0) },
    Spec { transforms: &[Raw, Log], kind: Kind::Difference { outer: false, lags: Lags::Week, ridge: 1e-2 } },
    Spec { transforms: &[Log], kind: Kind::Difference { outer: true, lags: Lags::OuterRest, ridge: 1e-2 } },
    Spec { transforms: &[Raw, Log], kind: Kind::Profile { shape: EVEN, lags: Lags::Rest, ridge: 3e-3 } },
    Spec { transforms: &[Raw, Log], kind: Kind::Profile { shape: OUTER, lags: Lags::Small, ridge: 3e-3 } },
    Spec { transforms: &[Raw, Log], kind: Kind::Fourier { lags: Lags::Sparse, ridge: 1e-3, ridge_waves: 1e-3 } },
    Spec { transforms: &[Log], kind: Kind::Windows { seasons: 3 } },
    Spec { transforms: &[Raw], kind: Kind::Windows { seasons: 7 } },
    Spec { transforms: &[Raw, Log], kind: Kind::Smoothing },
];
