//! The bytes of a policy, version 1. All numbers are little-endian; `list` is a u32 count and the items.
//!
//! ```text
//! magic    8 bytes "JUNOPLCY"
//! version  u32, 1
//! length   u64, bytes of the body
//! body     schema     u32, CRC-32 of the names of the features, joined by commas
//!          features   u32, then a mean f64 and a deviation f64 of each
//!          algorithm  u8: 0 ppo, 1 a2c, 2 linucb, 3 thompson, 4 es
//!          goal       u8: 0 resource_utilization, 1 response_time, 2 cost, 3 reliability, 4 balanced
//!          weights    performance f64, cost f64, reliability f64
//!          violation  f64, the most allowed; price f64, of a violation
//!          rungs      three lists f64: k, hold in seconds, guard
//!          members    list of: weight f64, widths list u32, parameters list f64
//! crc      u32, CRC-32 of all before
//! ```
//!
//! **Invariant:** bytes that are not a whole, undamaged policy of these features are an error, never a panic and never a large
//! allocation; equal policies have equal bytes.

use juno_kernels::dense_network::Network;

use super::action::{ActionSpace, KNOBS};
use super::refusal::{Refusal, Result};
use super::reward::{Goal, Objective, Weights};
use super::state::{FEATURES, Scaler, schema_hash};
use super::{Algorithm, Member, Policy};

const MAGIC: &[u8; 8] = b"JUNOPLCY";
const VERSION: u32 = 1;
/// Magic, version and length.
const HEAD_BYTES: usize = 20;

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
        body.0.push(place(Algorithm::ALL.iter().position(|other| *other == self.algorithm)));
        body.0.push(place(Goal::ALL.iter().position(|other| *other == self.objective.goal)));
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
        let mut out = Writer(MAGIC.to_vec());
        out.u32(VERSION);
        out.0.extend((body.0.len() as u64).to_le_bytes());
        out.0.extend(body.0);
        let crc = crc32fast::hash(&out.0);
        out.u32(crc);
        out.0
    }

    /// The policy of these bytes.
    ///
    /// # Errors
    /// [`Refusal::Artefact`] when they are cut, damaged, of another version, of other features or no policy at all.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let damaged = |text: &str| Err(Refusal::Artefact(text.to_owned()));
        if bytes.len() < HEAD_BYTES + 4 || &bytes[..8] != MAGIC {
            return damaged("the artefact is no policy: it does not begin with JUNOPLCY");
        }
        let (rest, crc) = bytes.split_at(bytes.len() - 4);
        if crc != crc32fast::hash(rest).to_le_bytes() {
            return damaged("the artefact's checksum does not fit its bytes: it is cut or damaged");
        }
        let mut input = Input(&rest[8..]);
        let version = input.u32()?;
        if version != VERSION {
            return damaged(&format!("the artefact is of version {version}; this juno reads version {VERSION}"));
        }
        if u64::from_le_bytes(input.take()?) != input.0.len() as u64 {
            return damaged("the artefact's length does not fit its bytes");
        }
        if input.u32()? != schema_hash() || input.u32()? as usize != FEATURES {
            return damaged("the policy was trained on other features than this juno has: train it again");
        }
        let policy = read(&mut input)?;
        if input.0.is_empty() { Ok(policy) } else { damaged("the artefact has bytes behind its end") }
    }
}

fn read(input: &mut Input) -> Result<Policy> {
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

/// The checksum holds, but the parts contradict each other.
fn senseless() -> Refusal {
    Refusal::Artefact("the artefact's parts do not fit together: it was not written by juno".to_owned())
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    fn f64(&mut self, value: f64) {
        self.0.extend(value.to_le_bytes());
    }

    fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.u32(items.len() as u32);
        items.iter().for_each(|item| each(self, item));
    }
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some((first, rest)) = self.0.split_first_chunk::<N>() else { return Err(senseless()) };
        self.0 = rest;
        Ok(*first)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.take::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn f64(&mut self) -> Result<f64> {
        Ok(f64::from_le_bytes(self.take()?))
    }

    fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = self.u32()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(each(self)?);
        }
        Ok(items)
    }
}
