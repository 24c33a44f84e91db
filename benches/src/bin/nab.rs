//! Anomaly scores on the Numenta Anomaly Benchmark, through psql: `cargo run --release -p juno-benches --bin nab`.
//!
//! The series go into a fresh server as line protocol; one SELECT from `anomalies(…)` for each length of probation gives score and
//! p-value of every point. The score of the whole corpus, and of two halves (every other file; the settings of the kernel were
//! chosen on the first half alone), stand beside a z-score of the last window. Then the alarms outside of labelled windows for
//! budgets of false alarms per series and day: labels miss some true anomalies, so that the share of the budget that is used is
//! an upper bound. What the benchmark publishes of other detectors is printed beside; it tells them the range of each whole file.
//!
//! **Invariant:** the server never sees a label; what it is told of a file is the length of its probation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use juno_benches::machine;
use juno_benches::nab_score::{File, PROFILES, score};
use juno_tests::Server;

/// Lines of one request.
const BODY_LINES: usize = 10_000;
/// Budgets of false alarms per series and day.
const BUDGETS: [f64; 3] = [0.3, 0.1, 0.03];
const DAY_S: f64 = 86_400.0;
/// The scoreboard of the benchmark's README (numenta/NAB v1.1, github.com/numenta/NAB): standard, low FP, low FN. Of HTM it gives a range.
const PUBLISHED: [(&str, [&str; 3]); 13] = [
    ("ARTime", ["74.9", "65.1", "80.4"]),
    ("Numenta HTM", ["69.7–70.5", "61.7–62.6", "74.2–75.2"]),
    ("CAD OSE", ["69.9", "67.0", "73.2"]),
    ("earthgecko Skyline", ["58.2", "46.2", "63.9"]),
    ("KNN CAD", ["58.0", "43.4", "64.8"]),
    ("Relative Entropy", ["54.6", "47.6", "58.8"]),
    ("Random Cut Forest", ["51.7", "38.4", "59.7"]),
    ("Twitter ADVec v1.0.0", ["47.1", "33.6", "53.5"]),
    ("Windowed Gaussian", ["39.6", "20.9", "47.4"]),
    ("Etsy Skyline", ["35.7", "27.1", "44.5"]),
    ("Bayesian Changepoint", ["17.7", "3.2", "32.2"]),
    ("EXPoSE", ["16.4", "3.2", "26.9"]),
    ("Random", ["11.0", "1.2", "19.5"]),
];

/// Anomaly scores on NAB.
#[derive(Parser)]
struct Arguments {
    /// Folder with the series and combined_windows.json.
    #[arg(long, default_value = "../shared/data/anomaly/nab")]
    data: PathBuf,
}

fn main() -> Result<ExitCode> {
    if let Some(code) = juno_tests::as_juno() {
        return Ok(code);
    }
    let files = files(&Arguments::parse().data)?;
    let server = Server::start()?;
    load(&server, &files)?;
    let judged = files.iter().map(|file| judge(&server, file)).collect::<Result<Vec<_>>>()?;
    let points: usize = files.iter().map(|file| file.values.len()).sum();
    println!("NAB, {} series, {points} points, through psql; {}", files.len(), machine::describe());
    println!("| method | part | {} |\n|---|---|---|---|---|", PROFILES.map(|profile| profile.0).join(" | "));
    let own: Vec<Vec<f64>> = judged.iter().map(|rows| rows.iter().map(|row| row.0).collect()).collect();
    let window: Vec<Vec<f64>> = files.iter().map(z_scores).collect();
    for (method, scores) in [("z-score of the last window", window), ("juno anomalies", own)] {
        report(method, &files, &scores);
    }
    for (method, scores) in PUBLISHED {
        println!("| {method}, published | all | {} |", scores.join(" | "));
    }
    alarms(&files, &judged);
    Ok(ExitCode::SUCCESS)
}

/// Score and p-value of a point.
type Judged = Vec<(f64, f64)>;

fn files(folder: &Path) -> Result<Vec<File>> {
    let text = std::fs::read_to_string(folder.join("combined_windows.json"))?;
    let mut windows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut name = String::new();
    // The file holds names of series and times alone: every second part between quotes is one.
    for part in text.split('"').skip(1).step_by(2) {
        match part.ends_with(".csv") {
            true => windows.insert(part.to_owned(), Vec::new()).map_or((), drop),
            false => windows.get_mut(&name).context("a time before the first name")?.push(part.to_owned()),
        }
        if part.ends_with(".csv") {
            part.clone_into(&mut name);
        }
    }
    windows.into_iter().map(|(name, times)| file(folder, name, &times)).collect()
}

fn file(folder: &Path, name: String, windows: &[String]) -> Result<File> {
    let text = std::fs::read_to_string(folder.join(&name)).with_context(|| name.clone())?;
    let (mut times, mut values) = (Vec::new(), Vec::new());
    for line in text.lines().skip(1) {
        let (time, value) = line.split_once(',').context("a line has a time and a value")?;
        times.push(seconds(time)?);
        values.push(value.trim().parse()?);
    }
    let place = |time: &String| -> Result<usize> {
        let time = seconds(time)?;
        times.iter().position(|known| *known == time).with_context(|| format!("no point of {name} at {time}"))
    };
    let windows = windows.chunks(2).map(|pair| Ok((place(&pair[0])?, place(&pair[1])?))).collect::<Result<Vec<_>>>()?;
    Ok(File { name: name.clone(), times: times.clone(), values, windows })
}

/// Seconds since 1970 of a time like `2014-04-10 07:15:00.000000`.
fn seconds(time: &str) -> Result<i64> {
    let whole = time.split('.').next().unwrap_or(time);
    let parts = whole.split(['-', ' ', ':']).map(str::parse::<i64>).collect::<std::result::Result<Vec<_>, _>>()?;
    let [year, month, day, hour, minute, second] = parts[..] else { anyhow::bail!("'{time}' is no time") };
    // Days since 1970 in the Gregorian calendar, years counted from March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 719_469;
    Ok(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn load(server: &Server, files: &[File]) -> Result<()> {
    let lines: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let line = |(time, value): (&i64, &f64)| format!("nab,file={} value={value:?} {time}\n", file.name);
            file.times.iter().zip(&file.values).map(line).collect::<Vec<_>>()
        })
        .collect();
    for body in lines.chunks(BODY_LINES) {
        let answer = ureq::post(server.url("/write?precision=s")).send(body.concat())?;
        ensure!(answer.status() == 204, "a write was answered {}", answer.status());
    }
    Ok(())
}

fn judge(server: &Server, file: &File) -> Result<Judged> {
    let sql = format!(
        "SELECT extract(epoch FROM time)::bigint, score, p_value FROM anomalies((SELECT time, value FROM nab WHERE file = '{}'), \
         'value', warm_up => {})",
        file.name,
        file.probation()
    );
    let mut judged = BTreeMap::new();
    for line in server.psql(&["--csv", "--tuples-only", "--command", &sql])?.lines() {
        let mut fields = line.split(',');
        let mut field = || fields.next().context("a row has three columns");
        judged.insert(field()?.parse::<i64>()?, (field()?.parse::<f64>()?, field()?.parse::<f64>()?));
    }
    let row = |time| judged.get(time).copied().with_context(|| format!("no row of {} at {time}", file.name));
    file.times.iter().map(row).collect()
}

/// How many deviations each value lies from the mean of as many values before it as the probation has.
fn z_scores(file: &File) -> Vec<f64> {
    let points = file.probation();
    let z = |at: usize| {
        let past = &file.values[at.saturating_sub(points)..at];
        if past.len() < 2 {
            return 0.0;
        }
        let mean = past.iter().sum::<f64>() / past.len() as f64;
        let variance = past.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / past.len() as f64;
        let z = (file.values[at] - mean).abs() / (variance.sqrt() + 1e-9 * mean.abs() + f64::MIN_POSITIVE);
        z.min(1e6) / (1.0 + z.min(1e6))
    };
    (0..file.values.len()).map(z).collect()
}

fn report(method: &str, files: &[File], scores: &[Vec<f64>]) {
    let part = |keep: fn(usize) -> bool| {
        let kept = (0..files.len()).filter(|index| keep(*index));
        let (files, scores): (Vec<_>, Vec<_>) = kept.map(|index| (&files[index], scores[index].as_slice())).unzip();
        score(&files, &scores).map(|score| format!("{score:.1}")).join(" | ")
    };
    println!("| {method} | files 1, 3, 5, … | {} |", part(|index| index % 2 == 0));
    println!("| {method} | files 2, 4, 6, … | {} |", part(|index| index % 2 == 1));
    println!("| {method} | all | {} |", part(|_| true));
}

/// False alarms against their budgets.
fn alarms(files: &[File], judged: &[Judged]) {
    println!("| false alarms per series and day | outside of labels | share of the budget |\n|---|---|---|");
    for budget in BUDGETS {
        let (mut alarms, mut days) = (0, 0.0);
        for (file, rows) in files.iter().zip(judged) {
            let mut steps: Vec<i64> = file.times.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let half = steps.len() / 2;
            let step = (*steps.select_nth_unstable(half).1).max(1) as f64;
            let limit = budget * step / DAY_S;
            let calm = (file.probation()..rows.len())
                .filter(|at| !file.windows.iter().any(|(start, end)| (start..=end).contains(&at)));
            for at in calm {
                days += step / DAY_S;
                alarms += usize::from(rows[at].1 <= limit);
            }
        }
        println!("| {budget} | {:.3} | {:.2} |", alarms as f64 / days, alarms as f64 / days / budget);
    }
}
