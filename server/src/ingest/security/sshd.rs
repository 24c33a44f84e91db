//! OpenSSH's lines of syslog: who logged on, or tried to.
//!
//! `Invalid user …` is left out: a line of the attempt itself follows it.
//!
//! **Invariant:** pure; a line of another program is no event, one that is none of syslog is none at all.

use chrono::{DateTime, Datelike, NaiveDateTime};

use super::{AUTHENTICATION, Event};

/// Equal lines that syslog tells of as one.
const REPEATED_MAX: usize = 1_000;
const DAY_US: i64 = 86_400_000_000;

/// The events of a line; none where the line is none of syslog.
pub(super) fn events(line: &str, now_us: i64) -> Option<Vec<Event>> {
    let (time_us, rest) = stamped(line, now_us)?;
    let (host, rest) = rest.trim_start().split_once(' ')?;
    let (program, message) = rest.split_once(": ")?;
    let program = program.split('[').next().unwrap_or_default();
    if program != "sshd" && program != "sshd-session" {
        return Some(Vec::new());
    }
    let (message, times) = repeated(message);
    let Some((success, user, address, port)) = attempt(message) else { return Some(Vec::new()) };
    let event = Event::new(time_us, "sshd", AUTHENTICATION)
        .number("activity_id", Some(1))
        .status(Some(success))
        .text("actor_user", Some(user))
        .text("device_hostname", Some(host))
        .text("src_ip", Some(address))
        .number("src_port", port)
        .text("app_protocol", Some("ssh"));
    Some(vec![event; times])
}

/// The time of a line, and what follows it: RFC 3339, or `Dec 10 06:55:46` of the last twelve months.
fn stamped(line: &str, now_us: i64) -> Option<(i64, &str)> {
    if let Some((stamp, rest)) = line.split_once(' ')
        && let Ok(at) = DateTime::parse_from_rfc3339(stamp)
    {
        return Some((at.timestamp_micros(), rest));
    }
    let (stamp, rest) = line.split_at_checked(15)?;
    let year = DateTime::from_timestamp_micros(now_us)?.year();
    // A clock may be ahead of this one by a day.
    let of = |year: i32| NaiveDateTime::parse_from_str(&format!("{year} {stamp}"), "%Y %b %e %H:%M:%S").ok();
    let us = |at: NaiveDateTime| at.and_utc().timestamp_micros();
    let recent = of(year).map(us).filter(|us| *us <= now_us.saturating_add(DAY_US));
    recent.or_else(|| (1..=4).find_map(|back| of(year - back)).map(us)).map(|us| (us, rest))
}

/// A message, and how often it came.
fn repeated(message: &str) -> (&str, usize) {
    let Some(rest) = message.strip_prefix("message repeated ") else { return (message, 1) };
    let Some((times, rest)) = rest.split_once(" times: [ ") else { return (message, 1) };
    match times.parse::<usize>() {
        Ok(times) => (rest.trim_end().trim_end_matches(']'), times.min(REPEATED_MAX)),
        Err(_) => (message, 1),
    }
}

/// `Failed password for invalid user ada from 203.0.113.7 port 1 ssh2`: success, user, address, port.
fn attempt(message: &str) -> Option<(bool, &str, &str, Option<i64>)> {
    let (outcome, rest) = message.split_once(' ')?;
    let success = match outcome {
        "Accepted" => true,
        "Failed" => false,
        _ => return None,
    };
    let (_, rest) = rest.split_once(" for ")?;
    let rest = rest.strip_prefix("invalid user ").unwrap_or(rest);
    // A user may be named "x from y": the address is after the last one.
    let (user, origin) = rest.rsplit_once(" from ")?;
    let mut words = origin.split(' ');
    let address = words.next()?;
    let port = words.nth(1).and_then(|port| port.parse().ok());
    Some((success, user, address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2023-11-14.
    const NOW_US: i64 = 1_700_000_000_000_000;

    fn one(line: &str) -> Event {
        let mut all = events(line, NOW_US).expect(line);
        assert_eq!(all.len(), 1, "{line}");
        all.remove(0)
    }

    #[test]
    fn an_attempt_has_its_user_its_address_and_its_outcome() {
        for (message, user, address, status) in [
            ("Failed password for root from 203.0.113.7 port 38926 ssh2", "root", "203.0.113.7", 2),
            ("Failed password for invalid user ada from 2001:db8::1 port 1 ssh2", "ada", "2001:db8::1", 2),
            ("Failed none for invalid user x from y from 203.0.113.7 port 1 ssh2", "x from y", "203.0.113.7", 2),
            ("Accepted publickey for bob from 192.0.2.1 port 22 ssh2: RSA SHA256:abc", "bob", "192.0.2.1", 1),
        ] {
            let event = one(&format!("Nov 10 06:55:46 web1 sshd[24200]: {message}"));
            assert_eq!((event.texts["actor_user"].as_str(), event.texts["src_ip"].as_str()), (user, address));
            assert_eq!((event.numbers["status_id"], event.numbers["class_uid"]), (status, 3002), "{message}");
            assert_eq!(event.texts["device_hostname"], "web1");
        }
    }

    #[test]
    fn what_is_no_attempt_is_no_event_and_what_is_no_syslog_is_none() {
        for line in [
            "Nov 10 06:55:46 web1 sshd[1]: Invalid user ada from 203.0.113.7",
            "Nov 10 06:55:46 web1 sshd[1]: Connection closed by 203.0.113.7 port 1 [preauth]",
            "Nov 10 06:55:46 web1 cron[1]: Failed password for root from 203.0.113.7 port 1 ssh2",
        ] {
            assert_eq!(events(line, NOW_US), Some(vec![]), "{line}");
        }
        assert_eq!((events("hello", NOW_US), events("Nov 99 06:55:46 web1 sshd[1]: x", NOW_US)), (None, None));
    }

    #[test]
    fn a_time_without_a_year_is_the_latest_that_has_been() {
        let year = |stamp: &str| {
            let line = format!("{stamp} web1 sshd[1]: Failed password for root from 203.0.113.7 port 1 ssh2");
            DateTime::from_timestamp_micros(one(&line).time_us).expect("a time").year()
        };
        assert_eq!((year("Nov 14 10:00:00"), year("Nov  1 10:00:00"), year("Dec 24 10:00:00")), (2023, 2023, 2022));
        assert_eq!((year("Feb 29 10:00:00"), year("2021-05-05T10:00:00.5+02:00")), (2020, 2021));
    }

    #[test]
    fn a_line_that_stands_for_several_is_several() {
        let line = "Nov 10 06:55:46 web1 sshd[1]: message repeated 5 times: [ Failed password for root from 203.0.113.7 port 1 ssh2]";
        assert_eq!(events(line, NOW_US).map(|all| all.len()), Some(5));
    }
}
