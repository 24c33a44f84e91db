//! Files, addresses and the device that settings name: whether a server could use them.
//!
//! **Invariant:** reads, and neither opens a database nor reaches another machine.

use std::path::Path;

use juno_sql::engine::system::System;
use juno_sql::kernels::Device;

use crate::access;
use crate::actuator::process::Fleet;
use crate::command::guard_rails;
use crate::config::ServeArgs;
use crate::reach::Reach;
use crate::serve::{Error, closed};
use crate::telemetry::log_filter;

/// What a server could not use, a line each.
pub(crate) fn unusable(args: &ServeArgs, webhook_secret: Option<String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut note = |problem: Option<Error>| found.extend(problem.map(|error| error.to_string()));
    access::unusable(&args.access).into_iter().for_each(|error| note(Some(error)));
    note(closed(args.access.auth, (args.listen.pg_addr, args.listen.http_addr)).err());
    note(args.fleet.as_deref().and_then(|file| Fleet::read(file).err()).map(Error::Fleet));
    note(args.guard_rails.as_deref().and_then(|file| guard_rails(file).err()));
    note(Device::parse(&args.machine.device).err().map(|error| Error::Device(error.to_string())));
    let log = log_filter(&args.machine.log.filter).err();
    note(log.map(|text| Error::Setting { flag: "--log", variable: "JUNO_LOG", text }));
    let (reach, system) = (args.reach.clone().reach(webhook_secret), System::real());
    // A cluster is looked for when juno starts, and need not be there.
    let reach = Reach { kubernetes: None, ..reach };
    note(reach.actuators(&system).err());
    note(reach.escalations(&system).err());
    let directories = [
        ("--feeds-dir", "JUNO_FEEDS_DIR", &args.operations.feeds_dir),
        ("--sigma-rules-dir", "JUNO_SIGMA_RULES_DIR", &args.operations.sigma_rules_dir),
    ];
    for (flag, variable, directory) in directories {
        let text = directory.as_deref().and_then(unreadable);
        note(text.map(|text| Error::Setting { flag, variable, text }));
    }
    // A text of several lines is one problem.
    found.into_iter().map(|problem| problem.lines().collect::<Vec<_>>().join(" ")).collect()
}

fn unreadable(directory: &Path) -> Option<String> {
    let error = std::fs::read_dir(directory).err()?;
    Some(format!("\"{}\": {error}", directory.display()))
}
