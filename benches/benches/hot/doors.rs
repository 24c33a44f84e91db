//! The doors: line protocol on its way in, rows on their way out.
//!
//! **Invariant:** bytes to columns and columns to bytes; no socket, no disk.

use std::fmt::Write;

use juno_benches::rows;
use juno_server::measured::{encode_rows, parse_lines};

use crate::Hot;

const HOSTS: usize = 100;
const TICKS: usize = 100;

pub(crate) fn doors(hot: &mut Hot) {
    let text = lines();
    let items = HOSTS * TICKS;
    hot.run(
        "parse 10,000 lines",
        items,
        || (),
        |()| assert_eq!(parse_lines(text.as_bytes()), items as u64, "all good"),
    );
    let batch = rows::batch(0..HOSTS, 0..TICKS, rows::START_US, 1_000_000).expect("some rows");
    hot.run("encode 10,000 rows as text", items, || (), |()| encode_rows(&batch, false).expect("known types"));
    hot.run("encode 10,000 rows as binary", items, || (), |()| encode_rows(&batch, true).expect("known types"));
}

/// Ten gauges of each host, whole numbers, as Telegraf sends them.
fn lines() -> String {
    let mut text = String::new();
    for tick in 0..TICKS {
        for host in 0..HOSTS {
            write!(text, "cpu,host=host_{host},region=eu-{},os=linux ", host % 9).expect("memory");
            for field in 0..10 {
                let comma = if field == 0 { "" } else { "," };
                let value = rows::value(host, tick, field) as i64;
                write!(text, "{comma}field_{field}={value}i").expect("memory");
            }
            writeln!(text, " {}", (rows::START_US + tick as i64) * 1000).expect("memory");
        }
    }
    text
}
