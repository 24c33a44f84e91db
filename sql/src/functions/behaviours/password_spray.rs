//! `password_spray`: one source that tries many accounts, few times each.
//!
//! `SELECT * FROM password_spray((SELECT time, src_ip, actor_user, status_id FROM security_events WHERE class_uid = 3002))`. Accounts are counted per source
//! and `window` (default 1 hour) if they failed at most `tries_max` (default 5) times and did not log on; from `accounts_min`
//! (default 5) on they are told. The method is the kernel `password_spray`.
//!
//! **Invariant:** which host was tried does not matter.

use juno_kernels::behaviours::password_spray::{Params, PasswordSpray};
use juno_kernels::behaviours::run as stream;
use juno_kernels::{Device, Error};

use super::brute_force::{LOGON, logons};
use super::events::Events;
use super::told::{Told, evidence, number};
use super::{Behaviour, Constant, Unit, whole};

pub(super) const BEHAVIOUR: Behaviour = Behaviour {
    name: "password_spray",
    columns: &LOGON,
    either: &[],
    constants: &[
        Constant { name: "window", unit: Unit::Span, default: 3_600.0 },
        Constant { name: "accounts_min", unit: Unit::Whole, default: 5.0 },
        Constant { name: "tries_max", unit: Unit::Whole, default: 5.0 },
    ],
    entities: &["source"],
    run,
};

fn run(device: &Device, events: &Events, constants: &[f64]) -> Result<Vec<Told>, Error> {
    let (accounts_min, tries_max) = (whole(constants[1]), whole(constants[2]));
    let params = Params { window_s: constants[0], accounts_min, tries_max };
    let found = stream(device, PasswordSpray::new(params)?, &logons(events))?;
    let told = found.into_iter().map(|found| Told {
        entities: vec![events.text(found.source).map(str::to_owned)],
        span: found.span,
        score: found.score,
        p_value: Some(found.p_value),
        technique: "T1110.003",
        evidence: evidence([
            ("accounts", number(found.accounts)),
            ("failures", number(found.failures)),
            ("succeeded", number(found.succeeded)),
            ("expected_accounts", number(found.expected)),
        ]),
    });
    Ok(told.collect())
}
