//! The stages of a policy's life: a candidate, beside the service, on a part of it, on all of it, and out of use.
//!
//! **Invariant:** nothing that is out of use comes back but by a rollback of what replaced it.

use super::refusal::{Refusal, Result};

/// Where a policy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Trained, and nothing more.
    Candidate,
    /// Decides beside the service; nothing is carried out.
    Shadow,
    /// Decides for a part of the service.
    Canary,
    /// Decides for the service.
    Active,
    /// Was replaced or taken back.
    Retired,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 5] = [Self::Candidate, Self::Shadow, Self::Canary, Self::Active, Self::Retired];

    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        ["candidate", "shadow", "canary", "active", "retired"][self as usize]
    }

    /// The stage of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }

    /// Whether a policy may be promoted from here to there, whatever it is worth.
    ///
    /// # Errors
    /// [`Refusal::Parameter`] for a way down, and from what is out of use.
    pub fn may_become(self, to: Self) -> Result<()> {
        let (from, name) = (self.name(), to.name());
        let text = match self {
            Self::Retired => format!("it is {from}: train a new version, or roll back what replaced it"),
            _ if to <= self => format!("it is {from} already and cannot be promoted to {name}: roll it back instead"),
            _ if to == Self::Retired => format!("nothing is promoted to {name}: roll it back instead"),
            _ => return Ok(()),
        };
        Err(Refusal::Parameter(text))
    }

    /// What becomes of a policy that is taken back.
    ///
    /// # Errors
    /// [`Refusal::Parameter`] for one that is not in use.
    pub fn taken_back(self) -> Result<Self> {
        match self {
            Self::Active => Ok(Self::Retired),
            Self::Shadow | Self::Canary => Ok(Self::Candidate),
            Self::Candidate | Self::Retired => {
                Err(Refusal::Parameter(format!("it is {} and not in use: there is nothing to take back", self.name())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promotions_lead_up_and_rollbacks_down() {
        assert!(Stage::Candidate.may_become(Stage::Active).is_ok() && Stage::Shadow.may_become(Stage::Canary).is_ok());
        for (from, to) in [
            (Stage::Active, Stage::Active),
            (Stage::Canary, Stage::Shadow),
            (Stage::Retired, Stage::Active),
            (Stage::Active, Stage::Retired),
        ] {
            assert!(from.may_become(to).is_err(), "{from:?} to {to:?}");
        }
        assert_eq!(Stage::Active.taken_back(), Ok(Stage::Retired));
        assert_eq!(Stage::Canary.taken_back(), Ok(Stage::Candidate));
        assert!(Stage::Retired.taken_back().is_err() && Stage::Candidate.taken_back().is_err());
        for stage in Stage::ALL {
            assert_eq!(Stage::parse(stage.name()), Some(stage));
        }
        assert_eq!(Stage::parse("gone"), None);
    }
}
