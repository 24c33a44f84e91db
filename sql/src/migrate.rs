//! Migrations: the tables that every database has, made by SQL files that are applied once each, in order.
//!
//! **Invariant:** a file that was applied never changes; its checksum is kept and compared.

use arrow::array::{AsArray, Int32Array};
use arrow::datatypes::Int32Type;

use crate::session::Session;
use crate::{Error, Outcome, Result};

/// Number, name and text of each migration.
const MIGRATIONS: &[(i32, &str, &str)] = &[
    (1, "history_tables", include_str!("../../migrations/0001_history_tables.sql")),
    (2, "users", include_str!("../../migrations/0002_users.sql")),
    (3, "models", include_str!("../../migrations/0003_models.sql")),
    (4, "detectors", include_str!("../../migrations/0004_detectors.sql")),
    (5, "operations", include_str!("../../migrations/0005_operations.sql")),
    (6, "scaling", include_str!("../../migrations/0006_scaling.sql")),
    (7, "remediation", include_str!("../../migrations/0007_remediation.sql")),
    (8, "rl", include_str!("../../migrations/0008_rl.sql")),
    (9, "scaling_execute", include_str!("../../migrations/0009_scaling_execute.sql")),
    (10, "threat_responses", include_str!("../../migrations/0010_threat_responses.sql")),
    (11, "escalations", include_str!("../../migrations/0011_escalations.sql")),
    (12, "sigma", include_str!("../../migrations/0012_sigma.sql")),
    (13, "autoscale", include_str!("../../migrations/0013_autoscale.sql")),
    (14, "scaling_knobs", include_str!("../../migrations/0014_scaling_knobs.sql")),
    (15, "optimization_trials", include_str!("../../migrations/0015_optimization_trials.sql")),
    (16, "forecasts", include_str!("../../migrations/0016_forecasts.sql")),
    (17, "model_drift", include_str!("../../migrations/0017_model_drift.sql")),
];

const LEDGER: &str = "CREATE TABLE IF NOT EXISTS juno_migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, \
                      checksum TEXT NOT NULL, applied_at TIMESTAMPTZ NOT NULL)";

/// Applies what is missing.
///
/// # Errors
/// [`Error::Corrupt`] where an applied migration's text changed, and whatever its statements fail with.
pub(crate) async fn migrate(session: &Session) -> Result<()> {
    session.query(LEDGER).await?;
    let applied = session.collect("SELECT version, checksum FROM juno_migrations").await?;
    for &(version, name, text) in MIGRATIONS {
        let checksum = format!("{:08x}", crc32fast::hash(text.as_bytes()));
        let stored = applied.iter().find_map(|batch| {
            let versions: &Int32Array = batch.column(0).as_primitive::<Int32Type>();
            let row = versions.values().iter().position(|stored| *stored == version)?;
            Some(batch.column(1).as_string::<i32>().value(row).to_owned())
        });
        match stored {
            Some(stored) if stored == checksum => continue,
            Some(stored) => {
                let text = format!(
                    "migration {version} ({name}) was applied as {stored} and is now {checksum}: run the juno that made this database"
                );
                return Err(Error::Corrupt(text));
            }
            None => {}
        }
        for statement in session.parse(text)? {
            let prepared = session.prepare(statement, &[]).await?;
            session.execute(&prepared, Vec::new()).await?;
        }
        let row = format!("INSERT INTO juno_migrations VALUES ({version}, '{name}', '{checksum}', now())");
        let Outcome::Done { .. } = session.query(&row).await? else {
            return Err(Error::Internal("an INSERT returned rows".into()));
        };
    }
    Ok(())
}
