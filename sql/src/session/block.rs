//! Whom juno's own doors refuse, and who was seen at them.
//!
//! **Invariant:** what is refused is a row of `juno_blocks` until its time is over, also after a restart; this machine's own
//! addresses are never refused.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use parking_lot::RwLock;

use super::Session;
use super::rfc3339;
use crate::operation::time_us;
use crate::ops::threats::policy::Person;
use crate::role::{Role, User};
use crate::{Error, Result};

/// Users whose last address is remembered; further ones are not.
const SEEN_MAX: usize = 10_000;

/// Characters of a name that are kept of a refused logon.
const USER_CHARS_MAX: usize = 100;

/// The role and the last address of a user.
type Seen = (Option<Role>, Option<IpAddr>);

/// What all sessions share about the doors.
#[derive(Default)]
pub(super) struct Blocks {
    refused: RwLock<Refused>,
    seen: RwLock<BTreeMap<String, Seen>>,
}

/// Until when, in microseconds since 1970.
#[derive(Default)]
struct Refused {
    addresses: HashMap<IpAddr, i64>,
    users: HashMap<String, i64>,
}

/// A logon that a door refused.
#[derive(Debug, Clone)]
pub(crate) struct RefusedLogon {
    pub(crate) id: String,
    pub(crate) at_us: i64,
    pub(crate) address: IpAddr,
    pub(crate) user: String,
    pub(crate) door: &'static str,
}

impl Session {
    /// Notes that a door refused a logon: for those who watch for attacks.
    pub fn refused_logon(&self, address: IpAddr, user: &str, door: &'static str) {
        let system = self.shared.db.system();
        let (id, at_us) = (system.uuid_v7().to_string(), system.clock().now_us());
        let user: String = user.chars().take(USER_CHARS_MAX).collect();
        self.operations().note_refused_logon(RefusedLogon { id, at_us, address: address.to_canonical(), user, door });
    }

    /// Why somebody is refused at a door; None where nobody is. To be asked for every connection and every request, before it is
    /// known who asks, and again with the user.
    pub fn refused_at_door(&self, address: Option<IpAddr>, user: Option<&str>) -> Option<String> {
        let refused = self.shared.blocks.refused.read();
        if refused.addresses.is_empty() && refused.users.is_empty() {
            return None;
        }
        let now_us = self.shared.db.system().clock().now_us();
        let address = address.map(|address| address.to_canonical()).filter(|address| !address.is_loopback());
        let until = |until: Option<&i64>| until.copied().filter(|until| *until > now_us).map(rfc3339);
        if let Some((address, until)) = address.and_then(|at| Some((at, until(refused.addresses.get(&at))?))) {
            return Some(format!("the address {address} is blocked until {until}, in response to a threat"));
        }
        let (user, until) = user.and_then(|user| Some((user, until(refused.users.get(user))?)))?;
        Some(format!("\"{user}\" is refused until {until}, in response to a threat"))
    }

    /// Notes that a user came by a door, and from where.
    pub fn seen_at_door(&self, user: &User, address: Option<IpAddr>) {
        let now = (user.role, address.map(|address| address.to_canonical()));
        if self.shared.blocks.seen.read().get(&user.name) == Some(&now) {
            return;
        }
        let mut seen = self.shared.blocks.seen.write();
        if seen.len() < SEEN_MAX || seen.contains_key(&user.name) {
            seen.insert(user.name.clone(), now);
        }
    }

    /// Everybody who was seen, and every user that there is.
    pub(crate) fn people(&self) -> Vec<Person> {
        let accounts = self.accounts();
        let known = accounts.values().map(|account| {
            let User { name, role } = account.user();
            Person { name, role, address: None }
        });
        let seen = self.shared.blocks.seen.read();
        let seen =
            seen.iter().map(|(name, (role, address))| Person { name: name.clone(), role: *role, address: *address });
        known.chain(seen).collect()
    }

    /// Adds a block, and holds to it from now on.
    pub(crate) async fn block(&self, id: &str, (kind, value): (&str, &str), by: &str, expires_us: i64) -> Result<()> {
        let insert = "INSERT INTO juno_blocks (id, kind, value, created_at, created_by, expires_at) \
                      VALUES ($1, $2, $3, $4, $5, $6)";
        let values = [id.into(), kind.into(), value.into(), self.now().into(), by.into(), rfc3339(expires_us).into()];
        self.changed_rows(insert, &values).await?;
        self.load_blocks().await
    }

    /// Takes a block away.
    pub(crate) async fn unblock(&self, id: &str) -> Result<()> {
        self.changed_rows("DELETE FROM juno_blocks WHERE id = $1", &[id.into()]).await?;
        self.load_blocks().await
    }

    /// Reads the blocks from their table: when the database is opened, and after each change.
    pub(crate) async fn load_blocks(&self) -> Result<()> {
        let mut refused = Refused::default();
        for row in self.objects("SELECT kind, value, expires_at FROM juno_blocks", &[]).await? {
            let text = |name: &str| row.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
            let until_us = time_us(text("expires_at")).unwrap_or_default();
            let odd = || Error::Corrupt(format!("juno_blocks holds the address \"{}\"", text("value")));
            match text("kind") {
                "address" => {
                    let address: IpAddr = text("value").parse().map_err(|_| odd())?;
                    later(refused.addresses.entry(address.to_canonical()).or_default(), until_us);
                }
                _ => later(refused.users.entry(text("value").to_owned()).or_default(), until_us),
            }
        }
        *self.shared.blocks.refused.write() = refused;
        Ok(())
    }
}

fn later(kept: &mut i64, until_us: i64) {
    *kept = until_us.max(*kept);
}
