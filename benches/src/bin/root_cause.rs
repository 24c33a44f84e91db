//! Root causes on RCD's Sock Shop and on PetShop, through psql: `cargo run --release -p juno-benches --bin root_cause`.
//!
//! The metrics go into a fresh server as line protocol; one SELECT from `diagnose(…)` for each incident. Sock Shop: 50 cases, no
//! graph and no symptom; the constants of the kernel were chosen on repetitions 1 and 2. PetShop: the 52 issues that have metrics
//! without an issue, its call graph, the symptom it names; constants from its training issues. The baseline beside is the mean
//! shift over deviation plus 1 % of the mean.
//!
//! **Invariant:** the server never sees which cause is right.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use juno_benches::machine;
use juno_tests::Server;

/// Lines of one request.
const BODY_LINES: usize = 10_000;
/// A rank that is none.
const NOT_RANKED: usize = 99;

/// Root causes on RCD and PetShop.
#[derive(Parser)]
struct Arguments {
    /// Folder with rcd_sockshop and petshop.
    #[arg(long, default_value = "../shared/data/diagnosis")]
    data: PathBuf,
}

fn main() -> Result<ExitCode> {
    if let Some(code) = juno_tests::as_juno() {
        return Ok(code);
    }
    let data = Arguments::parse().data;
    println!("Root causes, through psql; {}", machine::describe());
    sock_shop(&data.join("rcd_sockshop/sock-shop-data"))?;
    petshop(&data.join("petshop/dataset"))?;
    Ok(ExitCode::SUCCESS)
}

/// A metric of an incident: service, name, values before and during it; equal places are equal times.
struct Metric {
    service: String,
    name: String,
    before: Vec<f64>,
    during: Vec<f64>,
}

/// What is asked of an incident beside its metrics.
#[derive(Default)]
struct Asked<'a> {
    calls: Option<&'a str>,
    symptom: Option<(&'a str, &'a str)>,
}

/// Causes as (service, metric), most probable first.
type Causes = Vec<(String, String)>;

/// Loads an incident as a table of its own and asks for its causes.
fn diagnose(server: &Server, table: &str, metrics: &[Metric], asked: &Asked) -> Result<Causes> {
    let since = metrics.iter().map(|metric| metric.before.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for metric in metrics {
        let before = metric.before.iter().enumerate();
        let during = metric.during.iter().enumerate().map(|(place, value)| (since + place, value));
        for (place, value) in before.chain(during).filter(|(_, value)| value.is_finite()) {
            let (service, name) = (escaped(&metric.service), escaped(&metric.name));
            lines.push(format!("{table},service={service},metric={name} value={value:?} {}\n", 60 * place));
        }
    }
    write(server, &lines)?;
    let mut sql = format!(
        "SELECT service, metric FROM diagnose('{table}', 'value', service => 'service', metric => 'metric', since => \
         to_timestamp({})",
        60 * since
    );
    if let Some(calls) = asked.calls {
        write!(sql, ", calls => '{calls}'")?;
    }
    if let Some((service, metric)) = asked.symptom {
        write!(sql, ", symptom_service => '{service}', symptom_metric => '{metric}'")?;
    }
    sql.push_str(") ORDER BY rank");
    let rows = server.psql(&["--no-align", "--field-separator", "\t", "--tuples-only", "--command", &sql])?;
    let row = |line: &str| line.split_once('\t').map(|(service, metric)| (service.to_owned(), metric.to_owned()));
    Ok(rows.lines().filter_map(row).collect())
}

fn escaped(text: &str) -> String {
    text.replace(' ', "\\ ").replace(',', "\\,").replace('=', "\\=")
}

fn write(server: &Server, lines: &[String]) -> Result<()> {
    for body in lines.chunks(BODY_LINES) {
        let answer = ureq::post(server.url("/write?precision=s")).send(body.concat())?;
        ensure!(answer.status() == 204, "a write was answered {}", answer.status());
    }
    Ok(())
}

/// Metrics by how many deviations their mean shifted.
fn by_shift(metrics: &[Metric]) -> Causes {
    let known = |values: &[f64]| values.iter().copied().filter(|value| value.is_finite()).collect::<Vec<_>>();
    let mut shifts: Vec<(f64, (String, String))> = Vec::new();
    for metric in metrics {
        let (before, during) = (known(&metric.before), known(&metric.during));
        if before.len() < 4 || during.is_empty() {
            continue;
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let center = mean(&before);
        let variance = before.iter().map(|value| (value - center).powi(2)).sum::<f64>() / before.len() as f64;
        let shift = (mean(&during) - center).abs() / (variance.sqrt() + 0.01 * center.abs() + 1e-12);
        shifts.push((shift, (metric.service.clone(), metric.name.clone())));
    }
    shifts.sort_by(|a, b| b.0.total_cmp(&a.0));
    shifts.into_iter().map(|(_, cause)| cause).collect()
}

/// The rank of the service of a cause, each service counted once, and that of the metric.
fn ranks(causes: &Causes, service: &str, metric: &str) -> (usize, usize) {
    let mut services: Vec<&String> = Vec::new();
    for (service, _) in causes {
        if !services.contains(&service) {
            services.push(service);
        }
    }
    let of = |place: Option<usize>| place.map_or(NOT_RANKED, |place| place + 1);
    let metric = causes.iter().position(|(s, m)| s == service && m == metric);
    (of(services.iter().position(|known| *known == service)), of(metric))
}

fn share(ranks: &[usize], within: usize) -> f64 {
    ranks.iter().filter(|rank| **rank <= within).count() as f64 / ranks.len().max(1) as f64
}

/// The mean of the shares within 1 to 5.
fn average_5(ranks: &[usize]) -> f64 {
    (1..=5).map(|within| share(ranks, within)).sum::<f64>() / 5.0
}

fn sock_shop(folder: &Path) -> Result<()> {
    let server = Server::start()?;
    // For each method and part the ranks of services and of metrics.
    let mut found: BTreeMap<(&str, &str), [Vec<usize>; 2]> = BTreeMap::new();
    for fault in sorted(folder)? {
        let name = fault.file_name().context("a folder has a name")?.to_string_lossy().into_owned();
        let (service, metric) = name.rsplit_once('-').context("service-fault")?;
        for case in sorted(&fault)? {
            let repetition = case.file_name().context("a folder has a name")?.to_string_lossy().into_owned();
            let metrics = case_of(&case)?;
            let table = format!("rcd_{}_{repetition}", name.replace('-', "_"));
            let juno = diagnose(&server, &table, &metrics, &Asked::default())?;
            let part =
                if ["1", "2"].contains(&repetition.as_str()) { "repetitions 1, 2" } else { "repetitions 3 to 5" };
            for (method, causes) in [("mean shift", by_shift(&metrics)), ("juno diagnose", juno)] {
                let (of_service, of_metric) = ranks(&causes, service, metric);
                for part in [part, "all"] {
                    let [services, metrics] = found.entry((method, part)).or_default();
                    services.push(of_service);
                    metrics.push(of_metric);
                }
            }
        }
    }
    println!(
        "| RCD Sock Shop | part | cases | service AC@1 | Avg@5 | metric AC@1 | Avg@5 |\n|---|---|---|---|---|---|---|"
    );
    for ((method, part), [services, metrics]) in found {
        println!(
            "| {method} | {part} | {} | {:.2} | {:.3} | {:.2} | {:.3} |",
            services.len(),
            share(&services, 1),
            average_5(&services),
            share(&metrics, 1),
            average_5(&metrics)
        );
    }
    Ok(())
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.is_dir());
    paths.sort();
    Ok(paths)
}

/// The columns of a CSV file with so many header lines: their headers, top down, and their values.
fn columns(path: &Path, headers: usize) -> Result<Vec<(Vec<String>, Vec<f64>)>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    let width = rows.first().map_or(0, Vec::len);
    let column = |index: usize| {
        let cell = |row: &Vec<&str>| row.get(index).copied().unwrap_or_default().trim().to_owned();
        let header = rows[..headers].iter().map(cell).collect();
        let number = |row: &Vec<&str>| cell(row).parse().unwrap_or(f64::NAN);
        (header, rows[headers..].iter().map(number).collect())
    };
    Ok((1..width).map(column).collect())
}

fn case_of(folder: &Path) -> Result<Vec<Metric>> {
    let during: BTreeMap<String, Vec<f64>> = columns(&folder.join("anomalous.csv"), 1)?
        .into_iter()
        .map(|(mut name, values)| (name.remove(0), values))
        .collect();
    let metric = |(mut header, before): (Vec<String>, Vec<f64>)| {
        let name = header.remove(0);
        let (service, metric) = name.split_once('_')?;
        let during = during.get(&name)?.clone();
        Some(Metric { service: service.to_owned(), name: metric.to_owned(), before, during })
    };
    Ok(columns(&folder.join("normal.csv"), 1)?.into_iter().filter_map(metric).collect())
}

/// The text of a field of a flat JSON object.
fn field<'a>(json: &'a str, object: &str, name: &str) -> Result<&'a str> {
    let of = json.split(&format!("\"{object}\"")).nth(1).context("no such object")?;
    let of = of.split(&format!("\"{name}\": \"")).nth(1).context("no such field")?;
    of.split('"').next().context("a text ends")
}

fn petshop(folder: &Path) -> Result<()> {
    let server = Server::start()?;
    let mut found: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for traffic in ["low_traffic", "high_traffic"] {
        let folder = folder.join(traffic);
        let calls = format!("{traffic}_calls");
        load_calls(&server, &calls, &folder.join("graph.csv"))?;
        let normal: BTreeMap<Vec<String>, Vec<f64>> =
            columns(&folder.join("noissue/metrics.csv"), 3)?.into_iter().collect();
        for part in ["train", "test"] {
            for (number, issue) in sorted(&folder.join(part))?.into_iter().enumerate() {
                let target = std::fs::read_to_string(issue.join("target.json"))?;
                let symptom = (field(&target, "target", "node")?, field(&target, "target", "metric")?);
                let (statistic, right) = (field(&target, "target", "agg")?, field(&target, "root_cause", "node")?);
                let kept = |header: &[String]| header[1] == symptom.1 && header[2] == statistic;
                let metrics: Vec<Metric> = columns(&issue.join("metrics.csv"), 3)?
                    .into_iter()
                    .filter(|(header, _)| kept(header))
                    .filter_map(|(header, during)| {
                        let before = normal.get(&header)?.clone();
                        Some(Metric { service: header[0].clone(), name: header[1].clone(), before, during })
                    })
                    .collect();
                let asked = Asked { calls: Some(&calls), symptom: Some(symptom) };
                let juno = diagnose(&server, &format!("petshop_{traffic}_{part}_{number}"), &metrics, &asked)?;
                let mut shift = by_shift(&metrics);
                shift.retain(|(service, _)| service != symptom.0);
                for (method, causes) in [("mean shift, no graph", shift), ("juno diagnose", juno)] {
                    let (rank, _) = ranks(&causes, right, symptom.1);
                    for part in [part, "all"] {
                        found.entry((method, part)).or_default().push(rank);
                    }
                }
            }
        }
    }
    println!("| PetShop | part | issues | top 1 | top 3 | Avg@5 |\n|---|---|---|---|---|---|");
    for ((method, part), ranks) in found {
        let (one, three, five) = (share(&ranks, 1), share(&ranks, 3), average_5(&ranks));
        println!("| {method} | {part} | {} | {one:.2} | {three:.2} | {five:.2} |", ranks.len());
    }
    Ok(())
}

/// The call graph, a matrix with callers down and callees across, as a table.
fn load_calls(server: &Server, table: &str, path: &Path) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut lines = text.lines();
    let callees: Vec<&str> = lines.next().context("a header")?.split(',').skip(1).collect();
    let mut rows = Vec::new();
    for line in lines {
        let mut cells = line.split(',');
        let caller = cells.next().context("a caller")?;
        let called = cells.zip(&callees).filter(|(cell, _)| cell.parse::<f64>().is_ok_and(|weight| weight > 0.0));
        rows.extend(called.map(|(_, callee)| format!("('{caller}', '{callee}')")));
    }
    let create = format!("CREATE TABLE {table} (caller TEXT, callee TEXT, PRIMARY KEY (caller, callee))");
    let insert = format!("INSERT INTO {table} VALUES {}", rows.join(", "));
    server.psql(&["--command", &create, "--command", &insert])?;
    Ok(())
}
