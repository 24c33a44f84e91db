//! The body of a policy's artefact, version 1, in the [`Envelope`] with the magic "JUNOPLCY". All numbers are little-endian; `list`
//! is a u32 count and the items.
//!
//! ```text
//! body     schema     u32, CRC-32 of the names of the features, joined by commas
//!          features   u32, then a mean f64 and a deviation f64 of each
//!          algorithm  u8: 0 ppo, 1 a2c, 2 linucb, 3 thompson, 4 es
//!          goal       u8: 0 resource_utilization, 1 response_time, 2 cost, 3 reliability, 4 balanced
//!          weights    performance f64, cost f64, reliability f64
//!          violation  f64, the most allowed; price f64, of a violation
//!          rungs      three lists f64: k, hold in seconds, guard
//!          members    list of: weight f64, widths list u32, parameters list f64
//! ```
//!
//! **Invariant:** bytes that are not a whole, undamaged policy of these features are an error, never a panic and never a large
//! allocation; equal policies have equal bytes.

use juno_kernels::Error;
use juno_kernels::artefact::{Envelope, Input, Writer, senseless};
use juno_kernels::dense_network::Network;

use super::action::{ActionSpace, KNOBS};
use super::refusal::Result;
use super::reward::{Goal, Objective, Weights};
use super::state::{FEATURES, Scaler, schema_hash};
use super::{Algorithm, Member, Policy};

const ENVELOPE: Envelope = Envelope { magic: b"JUNOPLCY", version: 1, what: "policy" };

impl Policy {
    /// The policy as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = Writer::default();
        body.u32(schema_hash());
        body.u32(FEATURES as u32);
        self.scaler.means.iter().zip(&self.scaler.deviations).for_each(|(mean, deviation)| {
            body.f64(*mean);
            body.f64(*deviation);
        });
        let place = |found: Option<usize>| found.map_or(u8::MAX, |place| place as u8);
        body.u8(place(Algorithm::ALL.iter().position(|other| *other == self.algorithm)));
        body.u8(place(Goal::ALL.iter().position(|other| *other == self.objective.goal)));
        let Weights { performance, cost, reliability } = self.objective.weights;
        for number in [performance, cost, reliability, self.objective.violation_max, self.price] {
            body.f64(number);
        }
        for rungs in self.space.rungs() {
            body.list(rungs, |out, rung| out.f64(*rung));
        }
        body.list(&self.members, |out, member| {
            out.f64(member.weight);
            out.list(member.network.widths(), |out, width| out.u32(*width as u32));
            out.list(member.network.parameters(), |out, parameter| out.f64(*parameter));
        });
        ENVELOPE.seal(body)
    }

    /// The policy of these bytes.
    ///
    /// # Errors
    /// [`Refusal::Artefact`](super::refusal::Refusal::Artefact) when they are cut, damaged, of another version, of other features or no policy at all.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Ok(ENVELOPE.open(bytes, read)?)
    }
}

fn read(input: &mut Input) -> juno_kernels::Result<Policy> {
    if input.u32()? != schema_hash() || input.u32()? as usize != FEATURES {
        let text = "the policy was trained on other features than this juno has: train it again";
        return Err(Error::Artefact(text.to_owned()));
    }
    let mut scaler = Scaler { means: [0.0; FEATURES], deviations: [1.0; FEATURES] };
    for feature in 0..FEATURES {
        scaler.means[feature] = input.f64()?;
        scaler.deviations[feature] = input.f64()?;
    }
    let algorithm = *Algorithm::ALL.get(usize::from(input.u8()?)).ok_or_else(senseless)?;
    let goal = *Goal::ALL.get(usize::from(input.u8()?)).ok_or_else(senseless)?;
    let weights = Weights { performance: input.f64()?, cost: input.f64()?, reliability: input.f64()? };
    let objective = Objective { goal, weights, violation_max: input.f64()? };
    let price = input.f64()?;
    let mut rungs: [Vec<f64>; KNOBS] = std::array::from_fn(|_| Vec::new());
    for knob in &mut rungs {
        *knob = input.list(Input::f64)?;
    }
    let space = ActionSpace::new(rungs).map_err(|_| senseless())?;
    let members = input.list(|input| {
        let weight = input.f64()?;
        let widths = input.list(|input| Ok(input.u32()? as usize))?;
        let network = Network::from_parts(&widths, input.list(Input::f64)?).map_err(|_| senseless())?;
        Ok(Member { weight, network })
    })?;
    let policy = Policy { algorithm, objective, price, space, scaler, members };
    if policy.fits() { Ok(policy) } else { Err(senseless()) }
}
