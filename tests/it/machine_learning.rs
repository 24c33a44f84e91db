//! Forecasts and anomaly scores as a PostgreSQL client sees them, on generated series and on labelled real ones.
//!
//! **Invariant:** a forecast is judged against values that it did not see, a score against what was planted or labelled.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use juno_tests::{Server, juno};

use crate::client::{Postgres, http};
use crate::{name_program, server, skip};

/// 2026-01-05 00:00 UTC, a Monday.
const START_S: i64 = 1_767_571_200;
const HOUR_S: i64 = 3_600;
const DAY_HOURS: usize = 24;

/// SplitMix64 as noise: about normal, mean 0, standard deviation 1.
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn next(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// An hourly series with a daily season, of a height, width and phase of its own, under noise.
fn daily(series: usize, hours: usize) -> Vec<f64> {
    let mut noise = Noise(series as u64 * 7_919 + 1);
    let (level, width, phase) = (50.0 + 3.0 * series as f64, 5.0 + (series % 7) as f64, (series % DAY_HOURS) as f64);
    let at = |hour: usize| (hour as f64 + phase) / DAY_HOURS as f64 * std::f64::consts::TAU;
    (0..hours).map(|hour| level + width * (at(hour).sin() + 0.4 * (2.0 * at(hour)).cos()) + noise.next()).collect()
}

fn time_s(hour: usize) -> i64 {
    START_S + i64::try_from(hour).expect("few hours") * HOUR_S
}

/// Writes `values` as the series of one host, its first value at `from_hour`.
fn write(server: &Server, table: &str, host: &str, from_hour: usize, values: &[f64]) {
    let lines = values.iter().enumerate().fold(String::new(), |mut lines, (hour, value)| {
        writeln!(lines, "{table},host={host} usage={value} {}", time_s(from_hour + hour)).expect("a string takes all");
        lines
    });
    let answer = http(server, "POST", "/write?precision=s", &[], lines.as_bytes());
    assert_eq!(answer.status, 204, "{}", answer.text());
}

fn numbers(row: &str) -> Vec<f64> {
    row.split('|').map(|field| field.parse().unwrap_or_else(|_| panic!("no numbers: {row}"))).collect()
}

#[test]
fn a_forecast_of_daily_series_beats_the_seasonal_naive_and_its_intervals_hold_what_comes() {
    const SERIES: usize = 12;
    const KNOWN_HOURS: usize = 20 * DAY_HOURS;
    let server = server();
    let series: Vec<Vec<f64>> = (0..SERIES).map(|series| daily(series, KNOWN_HOURS + DAY_HOURS)).collect();
    for (index, values) in series.iter().enumerate() {
        write(&server, "cpu", &format!("h{index:02}"), 0, &values[..KNOWN_HOURS]);
    }
    let rows = Postgres::connect(&server).rows(
        "SELECT extract(epoch FROM time)::bigint AS at, forecast, lower, upper \
         FROM forecast('cpu', 'usage', by => 'host', horizon => '24 hours', level => 0.9) ORDER BY host, time",
    );
    assert_eq!(rows.len(), SERIES * DAY_HOURS);
    let (mut error, mut naive_error, mut held, mut width) = (0.0, 0.0, 0, 0.0);
    for (index, row) in rows.iter().enumerate() {
        let (values, step) = (&series[index / DAY_HOURS], index % DAY_HOURS);
        let [at, forecast, lower, upper] = numbers(row)[..] else { panic!("four columns: {row}") };
        assert_eq!(at, time_s(KNOWN_HOURS + step) as f64, "the step after the last known hour comes first");
        let truth = values[KNOWN_HOURS + step];
        error += (forecast - truth).abs();
        naive_error += (values[KNOWN_HOURS - DAY_HOURS + step] - truth).abs();
        held += usize::from((lower..=upper).contains(&truth));
        width += upper - lower;
    }
    // Noise alone makes the naive's error the larger by the root of two.
    assert!(error < 0.9 * naive_error, "mean error {error} against {naive_error} of the seasonal naive");
    let (share, width) = (held as f64 / rows.len() as f64, width / rows.len() as f64);
    assert!((0.8..=0.99).contains(&share), "intervals for 0.9 hold {share} of what comes");
    assert!((2.0..8.0).contains(&width), "an interval for 0.9 of noise of deviation 1 is 3.3 wide, not {width}");
}

/// The sum of a counter over the nodes of an EXPLAIN ANALYZE that show it.
fn counted(plan: &str, counter: &str) -> usize {
    let counter = format!("{counter}=");
    let counters = plan.split(&counter).skip(1);
    let values: Vec<usize> =
        counters.map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()).map_while(|n| n).collect();
    assert!(!values.is_empty(), "no {counter} in {plan}");
    values.iter().sum()
}

#[test]
fn two_hundred_series_are_at_most_two_launches() {
    const SERIES: usize = 200;
    let server = server();
    for index in 0..SERIES {
        write(&server, "cpu", &format!("h{index}"), 0, &daily(index, 8 * DAY_HOURS));
    }
    let postgres = Postgres::connect(&server);
    for query in [
        "SELECT * FROM forecast('cpu', 'usage', by => 'host', horizon => '12 hours')",
        "SELECT host, forecast(time, usage, '12 hours') FROM cpu GROUP BY host",
        "SELECT time, host, anomaly_score(usage) OVER (PARTITION BY host ORDER BY time) FROM cpu",
    ] {
        let plan = postgres.rows(&format!("EXPLAIN ANALYZE {query}")).join("\n");
        assert_eq!(counted(&plan, " series"), SERIES, "{plan}");
        let launches = counted(&plan, " launches");
        assert!((1..=2).contains(&launches), "{launches} launches: {plan}");
    }
}

#[test]
fn a_spike_scores_highest_and_later_rows_change_no_score() {
    const HOURS: usize = 14 * DAY_HOURS;
    const SPIKE_HOUR: usize = 11 * DAY_HOURS + 5;
    let server = server();
    for index in 0..5 {
        let mut values = daily(index, HOURS);
        // Host 0 has no spike; the others have one each, up or down.
        values[SPIKE_HOUR + index] += [0.0, 25.0, -25.0, 40.0, -40.0][index];
        write(&server, "cpu", &format!("h{index}"), 0, &values);
    }
    let postgres = Postgres::connect(&server);
    let scores = "SELECT host, extract(epoch FROM time)::bigint AS at, \
                  anomaly_score(usage) OVER (PARTITION BY host ORDER BY time) AS score FROM cpu";
    for index in 1..5 {
        let highest =
            format!("SELECT at, score > 0.99 FROM ({scores}) AS s WHERE host = 'h{index}' ORDER BY score DESC LIMIT 1");
        assert_eq!(postgres.value(&highest), format!("{}|t", time_s(SPIKE_HOUR + index)), "host h{index}");
    }
    let early = format!("SELECT * FROM ({scores}) AS s WHERE at < {} ORDER BY host, at", time_s(HOURS));
    let before = postgres.rows(&early);
    assert_eq!(before.len(), 5 * HOURS);
    for index in 0..5 {
        write(&server, "cpu", &format!("h{index}"), HOURS, &[1_000.0, -1_000.0, 60.0, 0.0]);
    }
    postgres.rows("CALL flush()");
    assert_eq!(postgres.rows(&early), before);
}

fn labelled(file: &str, windows: &Path) -> Vec<(String, String)> {
    let windows: serde_json::Value =
        serde_json::from_slice(&std::fs::read(windows).expect("combined_windows.json")).expect("JSON");
    let bounds = |window: &serde_json::Value| {
        let bound = |index: usize| window[index].as_str().expect("a time").to_owned();
        (bound(0), bound(1))
    };
    windows[file].as_array().unwrap_or_else(|| panic!("{file} has no windows")).iter().map(bounds).collect()
}

/// A server whose table `nab` holds a file of the Numenta benchmark, imported by the command.
fn imported(file: &Path) -> Server {
    name_program();
    let mut server = Server::prepare().expect("a directory");
    let (data, file) = (server.data().display().to_string(), file.display().to_string());
    let output = juno(&["import", &file, "--table", "nab", "--data", &data]).output().expect("juno import");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server.run().expect("juno starts");
    server
}

#[test]
fn the_highest_scores_of_labelled_series_fall_into_their_windows() {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../shared/data/anomaly/nab"].iter().collect();
    if !folder.is_dir() {
        return skip(
            "the NAB files are not beside this checkout: scores were not held against labels",
            "JUNO_REQUIRE_SHARED",
        );
    }
    for (file, highest) in [
        ("realKnownCause/machine_temperature_system_failure.csv", 50),
        ("realKnownCause/ec2_request_latency_system_failure.csv", 10),
    ] {
        let windows = labelled(file, &folder.join("combined_windows.json"));
        let inside: Vec<String> =
            windows.iter().map(|(from, to)| format!("timestamp BETWEEN '{from}' AND '{to}'")).collect();
        let server = imported(&folder.join(file));
        let postgres = Postgres::connect(&server);
        let shares = format!(
            "SELECT avg(inside) AS all_rows, avg(inside) FILTER (WHERE place <= {highest}) AS highest FROM (\
               SELECT inside, row_number() OVER (ORDER BY score DESC) AS place FROM (\
                 SELECT CASE WHEN {} THEN 1.0 ELSE 0.0 END AS inside, \
                   anomaly_score(value) OVER (ORDER BY timestamp) AS score FROM nab) AS scored) AS placed",
            inside.join(" OR ")
        );
        let [all_rows, share] = numbers(&postgres.value(&shares))[..] else { panic!("two shares") };
        assert!((0.01..0.2).contains(&all_rows), "{file}: windows hold {all_rows} of all rows");
        assert!(
            share > 3.0 * all_rows,
            "{file}: {share} of the {highest} highest scores fall into windows, chance is {all_rows}"
        );
    }
}
