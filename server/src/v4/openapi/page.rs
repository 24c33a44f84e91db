//! The page `/docs`: every endpoint with what it takes, without a script and without anything from elsewhere.
//!
//! **Invariant:** what is written into the page is escaped.

use std::fmt::Write as _;

use juno_sql::{Form, Parameter};

use crate::v4::table::{ENDPOINTS, Endpoint, Shape};

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>juno REST v4</title>\
    <meta name=viewport content=\"width=device-width\"><style>body{font:16px/1.5 system-ui;max-width:70em;margin:2em auto;padding:0 1em}\
    code{background:#8882;padding:.1em .3em}table{border-collapse:collapse}td,th{padding:.2em .8em;border:1px solid #8886;text-align:left;\
    vertical-align:top}h2{margin-top:2em}</style><h1>juno REST v4</h1><p>The same as <a href=/openapi.json>OpenAPI 3.1</a>. \
    Every GET is a SELECT on a view and every POST a CALL, which psql can do as well. Errors are problems (RFC 9457) with a page each, \
    such as <a href=/problems/unknown-field>/problems/unknown-field</a>.</p>";

/// The whole page.
pub(super) fn html() -> String {
    let mut out = String::from(HEAD);
    for row in ENDPOINTS {
        endpoint(row, &mut out);
    }
    out.push_str("</html>\n");
    out
}

fn endpoint(row: &Endpoint, out: &mut String) {
    let (method, path, sql, role) = (row.method, escaped(row.path), escaped(row.sql), row.role);
    let does = row.operation().map_or("", |operation| operation.does);
    write!(out, "<h2><code>{method} {path}</code></h2><p>{} <code>{sql}</code>, role {role}.</p>", escaped(does))
        .expect("a String takes every write");
    if let Some(operation) = row.operation() {
        parameters(&operation.body(), out);
        answers(&operation.answers, out);
    }
    if let Shape::Steps(steps) = row.shape {
        let names: Vec<String> = steps.filters.iter().map(|filter| format!("<code>{}</code>", filter.name)).collect();
        write!(
            out,
            "<p>Steps with <code>from</code>, <code>to</code>, <code>step</code>; filters: {}.</p>",
            names.join(", ")
        )
        .expect("a String takes every write");
    }
    if let Shape::List { filters, .. } | Shape::History { filters, .. } = row.shape {
        let names: Vec<String> = filters.iter().map(|filter| format!("<code>{}</code>", filter.name)).collect();
        write!(out, "<p>Pages with <code>limit</code>, <code>cursor</code>, <code>order</code>, <code>from</code>, <code>to</code>, \
                     <code>count</code>; filters: {}.</p>", if names.is_empty() { "none".into() } else { names.join(", ") })
            .expect("a String takes every write");
    }
    if let Shape::History { .. } = row.shape {
        out.push_str("<p>With <code>summary=true</code> totals in the place of a page.</p>");
    }
}

fn parameters(parameters: &[Parameter], out: &mut String) {
    if parameters.is_empty() {
        return;
    }
    out.push_str("<table><tr><th>member<th>takes<th>default<th>");
    for parameter in parameters {
        let default = match (parameter.default, parameter.required) {
            (Some(default), _) => escaped(default),
            (None, true) => "required".into(),
            (None, false) => String::new(),
        };
        let (name, does) = (parameter.name, escaped(parameter.does));
        write!(out, "<tr><td><code>{name}</code><td>{}<td>{default}<td>{does}", escaped(&parameter.kind.wanted()))
            .expect("a String takes every write");
    }
    out.push_str("</table>");
}

/// The members that an operation answers with, where it answers one object.
fn answers(form: &Form, out: &mut String) {
    match form {
        Form::Object(members) => {
            let names: Vec<String> = members.iter().map(|member| format!("<code>{}</code>", member.name)).collect();
            write!(out, "<p>Answers {}.</p>", names.join(", ")).expect("a String takes every write");
        }
        Form::Row(view) => {
            write!(out, "<p>Answers a row of <code>{view}</code>.</p>").expect("a String takes every write");
        }
        Form::Either(forms) => forms.iter().for_each(|form| answers(form, out)),
        _ => {}
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_on_the_page() {
        let page = html();
        for row in ENDPOINTS {
            assert!(page.contains(&format!("<code>{} {}</code>", row.method, row.path)), "{}", row.path);
        }
        assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("https://"));
    }
}
