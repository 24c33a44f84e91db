//! juno-sql: DataFusion over the engine and the kernels; the only crate that knows DataFusion.
//!
//! **Invariant:** no sockets, no HTTP, no PostgreSQL messages; bytes become values in `server`.

mod aggregate;
mod alter;
mod apart;
mod cast;
mod catalog;
mod change;
mod column;
mod computed;
mod copy;
mod cursor;
mod default;
mod definition;
mod detector;
mod error;
mod functions;
mod ingest;
mod interrupt;
mod jsonb;
mod latest;
mod lean;
mod lock;
mod maintenance;
mod memory;
mod migrate;
mod model;
mod multiply;
mod operation;
mod ops;
mod output;
mod parameter;
mod pg_catalog;
mod place;
mod procedure;
mod prune;
mod role;
mod rollup;
mod runs;
mod scan;
mod session;
mod setting;
mod source;
mod spelling;
mod state;
mod statement;
mod table;
mod text;
mod transaction;
mod types;
mod verifier;
mod view;
mod yielding;

pub use copy::{CopyColumns, CopyFormat, CopyHeader, CopyOptions, CopyPlace, CopyRows};
pub use detector::survey::{Survey, Surveyed};
pub use error::{Error, Result};
pub use functions::kernel_counters;
pub use ingest::Incoming;
pub use juno_engine as engine;
pub use juno_kernels as kernels;
pub use memory::{Memory, TEMPORARY_DIR};
pub use operation::{
    Answered, Automation, Component, DRY_RUN, Effect, KEY_CHARS_MAX, Kind, Lasts, Operation, OperationSettings,
    Parameter, Refusal, Refused, Request, Shown, WAIT_S_MAX, check,
};
pub use ops::OPERATIONS;
pub use ops::actuator;
pub use ops::governance::adapt::Adapted;
pub use ops::healing::call::EscalationCall;
pub use ops::healing::incident::{IncidentChange, IncidentOpening};
pub use ops::healing::policy as healing;
pub use ops::healing::{AUTOPILOT, HEALTH};
pub use ops::rl::policy as rl;
pub use ops::scaling::policy as scaling;
pub use ops::scaling::verify::verify_scaling;
pub use ops::threats::expire::{Swept, expire_responses};
pub use ops::threats::feed::{keep_feeds, load_feed};
pub use ops::threats::watch::{Threat, ThreatWatch};
pub use place::place;
pub use role::{Role, User};
pub use session::{Account, Accounts, CopyIn, Moment, Problems, Session};
pub use statement::{Outcome, Prepared, STATEMENT_BYTES_MAX, Statement};
pub use transaction::TransactionStatus;
pub use types::TYPE_KEY;
pub use verifier::Verifier;
