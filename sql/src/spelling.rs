//! What PostgreSQL's users write one way and DataFusion's planner takes another, changed in the parsed statement.
//!
//! `x::jsonb`, `x::json` and `x::uuid` become calls of functions that check the text; `locf(x)` and `interpolate(x)` without
//! OVER become window functions, of which the gap-filling rule makes the window.
//!
//! **Invariant:** looks at one expression at a time and at no catalog.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, Expr, Value, VisitMut, VisitorMut, WindowSpec, WindowType};

use crate::cast;

/// Changes every expression of a statement that is spelt differently.
pub(crate) fn adapt(statement: &mut ast::Statement) {
    let _ = VisitMut::visit(statement, &mut Spelling);
}

struct Spelling;

impl VisitorMut for Spelling {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Cast { expr: inner, data_type, .. } => {
                if let Some(function) = cast::function_for(data_type)
                    && !matches!(&**inner, Expr::Value(value) if matches!(value.value, Value::Placeholder(_)))
                {
                    let inner = std::mem::replace(&mut **inner, Expr::value(Value::Null));
                    *expr = cast::call(function, inner);
                }
            }
            Expr::Function(call) if call.over.is_none() && fills(&call.name) => {
                call.over = Some(WindowType::WindowSpec(WindowSpec {
                    window_name: None,
                    partition_by: Vec::new(),
                    order_by: Vec::new(),
                    window_frame: None,
                }));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn fills(name: &ast::ObjectName) -> bool {
    let [part] = name.0.as_slice() else { return false };
    part.as_ident().is_some_and(|ident| {
        ident.value.eq_ignore_ascii_case("locf") || ident.value.eq_ignore_ascii_case("interpolate")
    })
}
