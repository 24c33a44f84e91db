//! REST v4: the table of endpoints, and the handlers that every row of it shares.
//!
//! A GET is a SELECT on a view; its query parameters become bound parameters of that SELECT. A POST, PATCH or DELETE is a CALL of an
//! operation; its body becomes the arguments. A GET that must compute is a CALL too, of an operation that changes nothing; its query
//! parameters become the arguments. To add an endpoint, add a row, and a view or an operation.
//!
//! A path may end in `{id}`, or in `{id}:verb`.
//!
//! **Invariant:** what a client sends is never pasted into SQL; a parameter or member that the row does not declare is refused.

mod argument;
mod call;
mod events;
mod filter;
mod item;
mod metrics;
mod openapi;
pub(crate) mod page;
mod range;
mod route;
mod steps;
mod summary;
mod table;

pub(crate) use openapi::{docs, openapi};
pub(crate) use route::routes;
pub use steps::Steps;
pub use table::{ENDPOINTS, Endpoint, Shape};

/// A request's query parameters in order; names may repeat.
type Pairs = Vec<(String, String)>;
