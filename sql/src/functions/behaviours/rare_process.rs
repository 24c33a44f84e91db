//! `rare_process`: a parent that starts what it hardly ever starts, on this host and anywhere.
//!
//! `SELECT * FROM rare_process((SELECT time, actor_process, actor_parent, device_hostname FROM security_events WHERE class_uid = 1007))`. Told are combinations of host,
//! parent and process that were among the rarest share `p_max` (default 0.01) when they came first. The method is the kernel
//! `rare_process`.
//!
//! **Invariant:** processes are told apart by their text: paths and versions in it make them others.

use juno_kernels::behaviours::rare_process::{Launch, Params, RareProcess};
use juno_kernels::behaviours::run as stream;
use juno_kernels::{Device, Error};

use super::events::Events;
use super::told::{Told, evidence, number};
use super::{Behaviour, Constant, Kind, TIME, Unit, needed, optional};

/// What runs the commands and scripts of others.
const INTERPRETERS: [&str; 15] = [
    "bash",
    "cmd",
    "cscript",
    "dash",
    "mshta",
    "node",
    "osascript",
    "perl",
    "php",
    "powershell",
    "pwsh",
    "python",
    "sh",
    "wscript",
    "zsh",
];

pub(super) const BEHAVIOUR: Behaviour = Behaviour {
    name: "rare_process",
    columns: &[
        TIME,
        needed("process", Kind::Text, &["actor_process", "process", "process_name"]),
        optional("parent", Kind::Text, &["actor_parent", "parent", "parent_process"]),
        optional("host", Kind::Text, &["device_hostname", "host", "hostname"]),
    ],
    either: &[],
    constants: &[Constant { name: "p_max", unit: Unit::Number, default: 0.01 }],
    entities: &["host", "parent", "process"],
    run,
};

fn run(device: &Device, events: &Events, constants: &[f64]) -> Result<Vec<Told>, Error> {
    let (hosts, parents, processes) = (events.ids("host"), events.ids("parent"), events.ids("process"));
    let launch = |row: usize| {
        let (host, parent, process) = (hosts[row], parents[row], processes[row]);
        Launch { time: events.time(row), host, parent, process }
    };
    let launches: Vec<Launch> = (0..events.len()).map(launch).collect();
    let found = stream(device, RareProcess::new(Params { p_max: constants[0] })?, &launches)?;
    let told = found.into_iter().map(|found| {
        let Launch { time, host, parent, process } = found.launch;
        Told {
            entities: [host, parent, process].map(|id| events.text(id).map(str::to_owned)).to_vec(),
            span: (time, found.last),
            score: found.score,
            p_value: Some(found.p_value),
            technique: technique(events.text(process).unwrap_or_default()),
            evidence: evidence([
                ("count", number(found.count)),
                ("process_seen_before", number(found.process_seen)),
                ("pair_seen_before", number(found.pair_seen)),
                ("parent_launches_before", number(found.parent_seen)),
                ("probability", number(found.probability)),
            ]),
        }
    });
    Ok(told.collect())
}

/// T1059, Command and Scripting Interpreter, or T1204, User Execution.
fn technique(process: &str) -> &'static str {
    let file = process.rsplit(['/', '\\']).next().unwrap_or_default().to_ascii_lowercase();
    let name = file.trim_end_matches(".exe").trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    if INTERPRETERS.contains(&name) { "T1059" } else { "T1204" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_are_known_by_the_name_of_their_file() {
        assert_eq!(technique(r"C:\Windows\System32\CMD.EXE"), "T1059");
        assert_eq!(technique("/usr/bin/python3.11"), "T1059");
        assert_eq!(technique("/usr/bin/ls"), "T1204");
    }
}
