//! Queries of a session: what planning costs, and what the quick ways take.
//!
//! **Invariant:** rows are taken as Arrow; no protocol has a part in it.

use arrow::record_batch::RecordBatch;
use juno_benches::rows;
use juno_sql::Session;
use juno_sql::engine::Options;
use juno_sql::kernels::Device;
use tokio::runtime::Runtime;

use crate::Hot;
use crate::engine::with_part;

pub(crate) fn queries(hot: &mut Hot) {
    let runtime = Runtime::new().expect("threads");
    let db = with_part(Options::default());
    let session = runtime.block_on(Session::open(db, Device::cpu())).expect("an open database");
    let (from, to) = (rows::START_US, rows::START_US + 3_600_000_000);
    let within = format!("time >= to_timestamp_micros({from}) AND time < to_timestamp_micros({to})");
    let point = format!("SELECT time, usage FROM cpu WHERE host = 'host_7' AND {within}");
    let means = "SELECT date_bin(INTERVAL '1 hour', time) AS hour, host, avg(usage) FROM cpu GROUP BY 1, 2";
    let newest = "SELECT DISTINCT ON (host) host, time, usage FROM cpu ORDER BY host, time DESC";
    let plan = |()| {
        let statement = session.parse(&point).expect("SQL").remove(0);
        runtime.block_on(session.prepare(statement, &[])).expect("a plan")
    };
    hot.run("plan a query for one host, one hour", 1, || (), plan);
    let ask = |sql: &str, wanted: usize| {
        let batches = runtime.block_on(session.collect(sql)).expect("an answer");
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), wanted, "{sql}");
    };
    hot.run("query one host, one hour", 1, || (), |()| ask(&point, 360));
    hot.run("query hourly means from block aggregates", 1, || (), |()| ask(means, 400));
    hot.run("query the newest row of each host", 1, || (), |()| ask(newest, 100));
    session.set("juno.aggregates", "off").expect("a setting");
    hot.run("query hourly means from rows", 1, || (), |()| ask(means, 400));
}
