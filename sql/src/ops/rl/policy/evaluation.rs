//! Off-policy evaluation: what a policy would have earned, from decisions that another one took.
//!
//! With w = π(a|s) / propensity, r the reward, and q the reward that a model of the other folds predicts:
//! dm = mean Σ_a π(a|s)·q(s,a); ips = mean w·r; snips = Σ w·r / Σ w; dr = mean (Σ_a π(a|s)·q(s,a) + w·(r − q(s,a))). The model is fitted in
//! five folds that are contiguous in time. Intervals are percentiles of a moving-block bootstrap, blocks of ∛n
//! decisions, the same resamples for the policy and what it is compared with. The effective sample size is (Σ w)² / Σ w².
//!
//! **Papers.** Horvitz and Thompson 1952 (ips); Swaminathan and Joachims 2015 (snips); Dudík, Langford and Li 2011 (dr);
//! Künsch 1989 (block bootstrap).
//!
//! **Invariant:** decisions without propensities never get here; too little overlap is refused, not reported as a number.

use juno_kernels::SplitMix;

use super::Policy;
use super::action::{ActionSpace, Knobs};
use super::experience::{Decision, Experience};
use super::refusal::{Refusal, Result};
use super::reward::Objective;
use super::state::Scaler;
use super::worth::{TERMS, Worth, row};

/// The least effective sample size.
pub const SAMPLE_SIZE_MIN: f64 = 100.0;
/// Resamples of a bootstrap.
pub const BOOTSTRAP_MAX: usize = 10_000;
const FOLDS: usize = 5;
/// Above this weight of one decision, or below this share of effective decisions, overlap is warned of.
const WEIGHT_WARN: f64 = 50.0;
const SAMPLE_SHARE_WARN: f64 = 0.1;

/// How to estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The direct method: the model alone.
    Dm,
    /// Inverse propensity scores.
    Ips,
    /// The same, normalised by their own sum.
    Snips,
    /// Doubly robust: the model, corrected by weighted residuals.
    Dr,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 4] = [Self::Dm, Self::Ips, Self::Snips, Self::Dr];

    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        ["dm", "ips", "snips", "dr"][self as usize]
    }

    /// The method of this name.
    ///
    /// # Errors
    /// [`Refusal::Parameter`] for any other word.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|method| method.name() == name);
        found.ok_or_else(|| Refusal::Parameter(format!("'{name}' is no method: use one of dm, ips, snips, dr")))
    }
}

/// What a policy is compared with.
#[derive(Clone, Copy, Debug)]
pub enum Against<'a> {
    /// What was logged: the policy in force, with its exploration.
    Logged,
    /// Another policy.
    Policy(&'a Policy),
    /// Fixed knobs.
    Static(Knobs),
}

/// How to evaluate.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// What a reward is.
    pub objective: Objective,
    /// The price of a violation.
    pub price: f64,
    /// Resamples, 100 to [`BOOTSTRAP_MAX`].
    pub bootstrap: usize,
    /// Decides the resamples.
    pub seed: u64,
}

/// An estimated mean reward and its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Where 95 % of the resamples lie.
    pub ci95: [f64; 2],
}

/// Whether the policy is better than what it was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval of the difference is above 0.
    Better,
    /// The whole interval is below 0.
    Worse,
    /// It holds 0.
    Inconclusive,
}

impl Verdict {
    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        ["better", "worse", "inconclusive"][self as usize]
    }
}

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// By every method, in the order of [`Method::ALL`].
    pub estimates: [Estimate; 4],
    /// Of what the policy was compared with: dr, or the mean of what was logged.
    pub baseline: Estimate,
    /// dr less the baseline.
    pub difference: Estimate,
    /// The difference in percent of the baseline's size.
    pub improvement_pct: f64,
    /// The share of resamples in which the policy is better.
    pub p_better: f64,
    /// How many decisions the weighted ones are worth.
    pub effective_decisions: f64,
    /// The largest weight.
    pub weight_max: f64,
    /// From the interval of the difference.
    pub verdict: Verdict,
    /// Why the numbers deserve caution, if they do.
    pub overlap_warning: Option<String>,
}

impl Evaluation {
    /// The estimate of a method.
    #[must_use]
    pub fn estimate(&self, method: Method) -> Estimate {
        self.estimates[method as usize]
    }
}

/// Evaluates a policy on logged decisions.
///
/// # Errors
/// [`Refusal::LowOverlap`] when the decisions are worth fewer than [`SAMPLE_SIZE_MIN`] for the policy or for what it is
/// compared with; [`Refusal::Parameter`] for a number of resamples out of range, a bad objective or other arms.
pub fn evaluate(log: &Experience, policy: &Policy, against: Against, question: &Question) -> Result<Evaluation> {
    question.objective.check()?;
    if !(100..=BOOTSTRAP_MAX).contains(&question.bootstrap) || !question.price.is_finite() {
        let text = format!("{} resamples are out of range: use 100 to {BOOTSTRAP_MAX}", question.bootstrap);
        return Err(Refusal::Parameter(text));
    }
    let space = policy.space();
    let model = Model::fit(log, space, question)?;
    let terms = model.terms(log, |decision| policy.distribution(&decision.state));
    let (effective, weight_max) = overlap(&terms);
    enough(effective, weight_max, "the policy")?;
    let other = match against {
        Against::Logged => terms.iter().map(|term| Term { direct: term.reward, weight: 0.0, ..*term }).collect(),
        Against::Static(knobs) => model.terms(log, |_| space.spread(&knobs)),
        Against::Policy(other) if other.space() != space => {
            return Err(Refusal::Parameter("the policies have different arms and cannot be compared".to_owned()));
        }
        Against::Policy(other) => model.terms(log, |decision| other.distribution(&decision.state)),
    };
    if !matches!(against, Against::Logged) {
        let (effective, weight_max) = overlap(&other);
        enough(effective, weight_max, "what it is compared with")?;
    }
    let sums = (Running::of(&terms), Running::of(&other));
    let whole = (sums.0.between(0, terms.len()), sums.1.between(0, terms.len()));
    let resamples = resamples(&sums, terms.len(), question);
    let estimate = |value: &dyn Fn(&Sums, &Sums) -> f64| {
        let mut drawn: Vec<f64> = resamples.iter().map(|(own, other)| value(own, other)).collect();
        drawn.sort_by(f64::total_cmp);
        let at = |share: f64| drawn[((drawn.len() - 1) as f64 * share).round() as usize];
        let positive = drawn.iter().filter(|x| **x > 0.0).count() as f64 / drawn.len() as f64;
        (Estimate { value: value(&whole.0, &whole.1), ci95: [at(0.025), at(0.975)] }, positive)
    };
    let estimates = Method::ALL.map(|method| estimate(&|own, _| own.value(method)).0);
    let (baseline, _) = estimate(&|_, other| other.value(Method::Dr));
    let (difference, p_better) = estimate(&|own, other| own.value(Method::Dr) - other.value(Method::Dr));
    let verdict = match difference.ci95 {
        [low, _] if low > 0.0 => Verdict::Better,
        [_, high] if high < 0.0 => Verdict::Worse,
        _ => Verdict::Inconclusive,
    };
    Ok(Evaluation {
        estimates,
        baseline,
        difference,
        improvement_pct: 100.0 * difference.value / baseline.value.abs().max(1e-9),
        p_better,
        effective_decisions: effective,
        weight_max,
        verdict,
        overlap_warning: warning(effective, weight_max, terms.len()),
    })
}

/// Refuses weights that leave too few effective decisions.
fn enough(effective: f64, weight_max: f64, what: &str) -> Result<()> {
    if effective >= SAMPLE_SIZE_MIN {
        return Ok(());
    }
    let text = format!(
        "the logged decisions are worth {effective:.0} for {what} (largest weight {weight_max:.1}); {SAMPLE_SIZE_MIN} are \
         needed: log more decisions, or explore nearer to it"
    );
    Err(Refusal::LowOverlap(text))
}

fn warning(effective: f64, weight_max: f64, decisions: usize) -> Option<String> {
    let share = effective / decisions as f64;
    (weight_max > WEIGHT_WARN || share < SAMPLE_SHARE_WARN).then(|| {
        format!("{decisions} decisions are worth {effective:.0}, the largest weight is {weight_max:.1}: read with care")
    })
}

/// What one decision gives to the estimates.
#[derive(Clone, Copy)]
struct Term {
    direct: f64,
    weight: f64,
    reward: f64,
    predicted: f64,
}

/// The effective sample size and the largest weight.
fn overlap(terms: &[Term]) -> (f64, f64) {
    let sum: f64 = terms.iter().map(|term| term.weight).sum();
    let squares: f64 = terms.iter().map(|term| term.weight * term.weight).sum();
    (if squares > 0.0 { sum * sum / squares } else { 0.0 }, terms.iter().map(|term| term.weight).fold(0.0, f64::max))
}

/// Sums over decisions, from which every estimate follows.
#[derive(Clone, Copy, Default)]
struct Sums {
    count: f64,
    direct: f64,
    weight: f64,
    weighted: f64,
    residual: f64,
}

impl Sums {
    fn add(&mut self, other: &Self, sign: f64) {
        self.count += sign * other.count;
        self.direct += sign * other.direct;
        self.weight += sign * other.weight;
        self.weighted += sign * other.weighted;
        self.residual += sign * other.residual;
    }

    fn value(&self, method: Method) -> f64 {
        match method {
            Method::Dm => self.direct / self.count,
            Method::Ips => self.weighted / self.count,
            Method::Snips => self.weighted / self.weight.max(1e-12),
            Method::Dr => (self.direct + self.residual) / self.count,
        }
    }
}

/// Sums over all decisions before each place, so that a block of neighbours takes two of them.
struct Running(Vec<Sums>);

impl Running {
    fn of(terms: &[Term]) -> Self {
        let mut total = Sums::default();
        let mut sums = vec![total];
        for Term { direct, weight, reward, predicted } in terms.iter().copied() {
            let (weighted, residual) = (weight * reward, weight * (reward - predicted));
            total.add(&Sums { count: 1.0, direct, weight, weighted, residual }, 1.0);
            sums.push(total);
        }
        Self(sums)
    }

    fn between(&self, start: usize, end: usize) -> Sums {
        let mut sums = self.0[end];
        sums.add(&self.0[start], -1.0);
        sums
    }
}

/// The reward model of every fold, fitted on the other folds.
struct Model<'a> {
    space: &'a ActionSpace,
    question: &'a Question,
    scaler: Scaler,
    folds: Vec<Vec<f64>>,
}

impl<'a> Model<'a> {
    fn fit(log: &Experience, space: &'a ActionSpace, question: &'a Question) -> Result<Self> {
        let scaler = Scaler::fit(&log.states())?;
        let mut parts: Vec<_> = (0..FOLDS).map(|_| Worth::normal()).collect();
        for (place, decision) in log.decisions().iter().enumerate() {
            Worth::add(&mut parts[fold(place, log.decisions().len())], &scaler, space, decision);
        }
        let folds = (0..FOLDS).map(|left_out| {
            let mut normal = Worth::normal();
            parts.iter().enumerate().filter(|(part, _)| *part != left_out).for_each(|(_, part)| normal.merge(part));
            Worth::solve(&normal).reward(&question.objective, question.price)
        });
        let folds = folds.collect();
        Ok(Self { space, question, scaler, folds })
    }

    fn terms(&self, log: &Experience, distribution: impl Fn(&Decision) -> Vec<f64>) -> Vec<Term> {
        let all = log.decisions();
        let dot = |row: &[f64; TERMS], by: &[f64]| row.iter().zip(by).map(|(x, c)| x * c).sum::<f64>();
        let term = |(place, decision): (usize, &Decision)| {
            let (scaled, by) = (self.scaler.scaled(&decision.state), &self.folds[fold(place, all.len())]);
            let worth = |arm: usize| dot(&row(&scaled, self.space.coordinates(arm)), by);
            let chances = distribution(decision);
            let taken = chances.iter().enumerate().filter(|(_, chance)| **chance > 0.0);
            Term {
                direct: taken.map(|(arm, chance)| chance * worth(arm)).sum(),
                weight: chances[decision.arm] / decision.propensity,
                reward: self.question.objective.reward(&decision.outcome, self.question.price),
                predicted: worth(decision.arm),
            }
        };
        all.iter().enumerate().map(term).collect()
    }
}

/// Which fold a decision is in.
fn fold(place: usize, decisions: usize) -> usize {
    place * FOLDS / decisions
}

/// The sums of every resample, for the policy and for what it is compared with: blocks of neighbours, drawn with repetition.
fn resamples(sums: &(Running, Running), decisions: usize, question: &Question) -> Vec<(Sums, Sums)> {
    let block = (decisions as f64).cbrt().round().max(1.0) as usize;
    let mut random = SplitMix::new(question.seed, 3);
    let mut draw = |_| {
        let (mut own, mut other, mut left) = (Sums::default(), Sums::default(), decisions);
        while left > 0 {
            let start = random.below(decisions - block + 1);
            let end = start + block.min(left);
            own.add(&sums.0.between(start, end), 1.0);
            other.add(&sums.1.between(start, end), 1.0);
            left -= end - start;
        }
        (own, other)
    };
    (0..question.bootstrap).map(&mut draw).collect()
}

#[cfg(test)]
mod tests;
