//! The SQL functions that juno adds to DataFusion's own: one file each, one line each in [`register`].
//!
//! **Invariant:** a function converts, calls one kernel or works out one value, and converts back. It reads no table and
//! changes nothing, so that planning and EXPLAIN are free of effects.

mod anomaly_pvalue;
mod anomaly_score;
mod any_of;
mod arguments;
mod arithmetic;
mod behaviours;
mod calls;
mod catalog;
mod checked;
mod collecting;
mod combined_pvalue;
mod date_part;
mod diagnose;
mod fill;
mod first_last;
mod forecast;
mod gapfill;
pub(crate) mod gather;
mod gen_random_uuid;
mod histogram;
mod interval_multiply;
mod json;
mod launches;
mod ordered_set;
mod over_relations;
mod over_time;
mod pg_advisory_unlock_all;
mod pg_sleep;
mod pg_typeof;
mod points;
mod quote;
mod refusal;
mod single_value;
mod studies;
mod threat_explain;
mod threat_score;
mod time_bucket;
mod time_bucket_gapfill;
mod to_char;
mod version;
mod width_bucket;

use std::sync::Arc;

use datafusion::catalog::MemoryCatalogProviderList;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::functions::math::{ceil, signum};
use datafusion::functions_aggregate::approx_percentile_cont::approx_percentile_cont_udaf;
use datafusion::functions_aggregate::bool_and_or::bool_and_udaf;
use datafusion::functions_aggregate::variance::var_samp_udaf;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use juno_kernels::Device;

use crate::model::Models;
use crate::{cast, multiply};

pub(crate) use catalog::all as catalog_functions;
pub(crate) use gapfill::Planner as GapFillPlanner;
pub(crate) use gen_random_uuid::gen_random_uuid;
pub use launches::kernel_counters;
pub(crate) use pg_typeof::name_of;
pub(crate) use quote::{all as quoting, ident as quoted};
pub(crate) use time_bucket::fixed_bucket;
pub(crate) use version::version;

/// Adds every function, planner and plan rule to a builder that has its default features already.
///
/// ML functions run on `device`. Later additions win over functions of the same name. Tables named in texts are looked up in
/// the builder's list of catalogs, which is made here if there is none yet and must not be replaced afterwards.
pub(crate) fn register(mut builder: SessionStateBuilder, device: &Device) -> SessionStateBuilder {
    builder.scalar_functions().get_or_insert_default().extend(scalars());
    builder.aggregate_functions().get_or_insert_default().extend(aggregates(device));
    let windows = [anomaly_score::window(device), anomaly_pvalue::window(device), fill::interpolate(), fill::locf()];
    builder.window_functions().get_or_insert_default().extend(windows.map(Arc::new));
    let expressions = builder.expr_planners().get_or_insert_default();
    expressions.insert(0, Arc::new(json::Operators));
    expressions.insert(0, Arc::new(arithmetic::Arithmetic));
    expressions.insert(0, Arc::new(calls::Calls));
    let catalogs = Arc::clone(builder.catalog_list().get_or_insert_with(|| Arc::new(MemoryCatalogProviderList::new())));
    let relations = builder.relation_planners().get_or_insert_default();
    relations.insert(0, Arc::new(over_relations::Tables::new(device, Arc::clone(&catalogs))));
    relations.insert(0, Arc::new(forecast::Table::new(device, catalogs)));
    builder
        .with_analyzer_rule(Arc::new(multiply::Rule))
        .with_analyzer_rule(Arc::new(cast::PlannedCasts))
        .with_analyzer_rule(Arc::new(gapfill::Rule))
        .with_query_planner(Arc::new(multiply::Planner))
        .with_physical_optimizer_rule(Arc::new(forecast::Batching::new(device)))
        .with_physical_optimizer_rule(Arc::new(anomaly_score::Batching::new(device)))
}

fn aggregates(device: &Device) -> Vec<Arc<AggregateUDF>> {
    let alias = |function: Arc<AggregateUDF>, name| function.as_ref().clone().with_aliases([name]);
    let own = [
        alias(bool_and_udaf(), "every"),
        alias(var_samp_udaf(), "variance"),
        ordered_set::mode(),
        single_value::single_value(),
        ordered_set::percentile_disc(),
        first_last::first(),
        first_last::last(),
        first_last::max_by(),
        first_last::min_by(),
        studies::aggregate(studies::Study::Anomalies, device),
        studies::aggregate(studies::Study::ChangePoints, device),
        diagnose::aggregate(device),
        combined_pvalue::combined_pvalue(),
        histogram::histogram(),
        alias(approx_percentile_cont_udaf(), "approx_percentile"),
    ];
    own.into_iter().chain(forecast::aggregates(device)).chain(over_time::all()).map(Arc::new).collect()
}

fn scalars() -> Vec<Arc<ScalarUDF>> {
    let alias = |function: Arc<ScalarUDF>, name| function.as_ref().clone().with_aliases([name]);
    let own = [
        alias(ceil(), "ceiling"),
        alias(signum(), "sign"),
        date_part::date_part().with_aliases(["datepart"]),
        gen_random_uuid(&juno_engine::system::System::real()),
        json::get(),
        json::get_text(),
        pg_advisory_unlock_all::pg_advisory_unlock_all(),
        pg_sleep::pg_sleep(),
        pg_typeof::pg_typeof(),
        time_bucket::time_bucket(),
        time_bucket_gapfill::time_bucket_gapfill(),
        to_char::to_char(),
        version(),
        width_bucket::width_bucket(),
    ];
    own.into_iter().chain(quote::all()).chain(json::all()).map(Arc::new).collect()
}

/// Functions that score with models.
pub(crate) fn threat_functions(models: &Arc<Models>, device: &Device) -> [ScalarUDF; 2] {
    [threat_score::threat_score(models, device), threat_explain::threat_explain(models, device)]
}

#[cfg(test)]
mod tests;
