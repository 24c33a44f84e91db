//! What clients ask PostgreSQL's catalog in words that only PostgreSQL itself can plan, in words that can be planned.
//!
//! **Invariant:** each text is a client's own, word for word; the answer is the one that PostgreSQL would give of this database.

/// By the client's words: those that say the same here.
const KNOWN: &[(&str, &str)] = &[
    // psql: a relation's options, which no relation has.
    (
        "pg_catalog.array_to_string(c.reloptions || array(select 'toast.' || x from pg_catalog.unnest(tc.reloptions) x), ', ')",
        "''",
    ),
    // psql \d: the default of a column; the library would answer null.
    (
        "(SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true)
   FROM pg_catalog.pg_attrdef d
   WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef)",
        "pg_catalog.pg_get_column_default(a.attrelid, a.attnum)",
    ),
    // psql \dT, JDBC: whether a type is of a table; here none is.
    ("(SELECT c.relkind = 'c' FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid)", "false"),
    ("(SELECT c.relkind = 'c' FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid )", "false"),
    // psql \d of an index: no constraint can be deferred.
    (
        "(NOT i.indimmediate) AND EXISTS (SELECT 1 FROM pg_catalog.pg_constraint WHERE conrelid = i.indrelid AND conindid = i.indexrelid AND contype IN ('p','u','x') AND condeferrable)",
        "false",
    ),
    (
        "(NOT i.indimmediate) AND EXISTS (SELECT 1 FROM pg_catalog.pg_constraint WHERE conrelid = i.indrelid AND conindid = i.indexrelid AND contype IN ('p','u','x') AND condeferred)",
        "false",
    ),
    // psql \dconfig: the value of a setting beside its name.
    ("pg_catalog.current_setting(s.name)", "s.setting"),
    // psql \dd, \dL: the catalog table of an object; nothing has a comment.
    (".tableoid AS tableoid", ".oid AS tableoid"),
    (".tableoid as tableoid", ".oid AS tableoid"),
    ("d.classoid = l.tableoid", "d.classoid = l.oid"),
    // psql \dX: kinds of extended statistics, of which there are none.
    ("'d' = any(es.stxkind)", "false"),
    ("'f' = any(es.stxkind)", "false"),
    ("'m' = any(es.stxkind)", "false"),
    // psql \dy: tags of event triggers, of which there are none.
    ("array(select x from pg_catalog.unnest(evttags) as t(x))", "evttags"),
    // psql \dAp: a function is known by its name in this table.
    ("ON ap.amproc = p.oid", "ON ap.amproc = p.proname"),
    // psql \dO: what only some versions of PostgreSQL's own table have.
    ("c.colliculocale AS", "NULL AS"),
    // psql \dT+: labels of an enum, of which there are none.
    (
        "ARRAY(
          SELECT e.enumlabel
          FROM pg_catalog.pg_enum e
          WHERE e.enumtypid = t.oid
          ORDER BY e.enumsortorder
      )",
        "''",
    ),
    // psql \dp: privileges on columns, which nobody has.
    (
        "ARRAY(
    SELECT attname || E':\\n  ' || pg_catalog.array_to_string(attacl, E'\\n  ')
    FROM pg_catalog.pg_attribute a
    WHERE attrelid = c.oid AND NOT attisdropped AND attacl IS NOT NULL
  )",
        "''",
    ),
    // JDBC: whether a type is an array, and what a key is made of.
    ("'pg_catalog.array_in'::regproc", "'array_in'"),
    ("(information_schema._pg_expandarray(i.indkey)).n", "generate_series(1, cardinality(i.indkey)::bigint)"),
    ("information_schema._pg_expandarray(i.indkey)", "unnest(i.indkey)"),
    ("(result.KEYS).x", "result.KEYS"),
    ("(i.keys).x", "i.keys"),
];

/// The schemas of the search path.
const SCHEMAS: &str = "'public'";

/// Types by number, and those of their elements before them.
const TYPES: &str = "SELECT t.oid, 'pg_catalog' AS ns, t.typname AS name, t.typtype AS kind, NULL::oid AS basetype, \
    t.typelem AS elemtype, t.typdelim AS elemdelim, NULL::oid AS range_subtype, NULL::text[] AS attrtypoids, \
    NULL::text[] AS attrnames, (t.typelem = 0)::int AS depth, NULL::text AS basetype_name, e.typname AS elemtype_name, \
    NULL::text AS range_subtype_name FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_type e ON t.typelem = e.oid \
    WHERE t.oid = any($1) OR t.oid IN (SELECT a.typelem FROM pg_catalog.pg_type a WHERE a.oid = any($1)) \
    ORDER BY depth DESC";

/// Questions with much in them that differs: where they begin, where they end, and the same here.
const SPANS: &[(&str, &str, &str)] = &[
    // psql \dp: policies, which no table has.
    ("pg_catalog.array_to_string(ARRAY(\n    SELECT polname", "WHERE polrelid = c.oid), E'\\n')", "''"),
    // SQLAlchemy: the default of a column, and identities and collations, which no column has.
    (
        "(SELECT pg_catalog.pg_get_expr(pg_catalog.pg_attrdef.adbin",
        "pg_catalog.pg_attrdef.adnum = pg_catalog.pg_attribute.attnum)",
        "pg_catalog.pg_get_column_default(pg_catalog.pg_attribute.attrelid, pg_catalog.pg_attribute.attnum)",
    ),
    (
        "CASE WHEN (pg_catalog.pg_attribute.attidentity != ",
        "ELSE NULL END AS identity_options",
        "NULL AS identity_options",
    ),
    (
        "CASE WHEN (pg_catalog.pg_am.amname IS NOT NULL AND pg_catalog.pg_am.amname != current_setting(",
        "END AS access_method_name",
        "NULL AS access_method_name",
    ),
    ("CASE WHEN (pg_catalog.pg_attribute.attcollation != ", "ELSE NULL END AS collation", "NULL AS collation"),
    // asyncpg: the types of arrays, and of what is in them; no other type is made of types.
    ("WITH RECURSIVE typeinfo_tree(", "depth DESC", TYPES),
    // Grafana: the schemas of the search path.
    ("CASE WHEN trim(s[i]) = '\"$user\"'", "string_to_array(current_setting('search_path'),',') s", SCHEMAS),
];

/// The text of a catalog query in words that can be planned.
pub(crate) fn plannable(sql: &str) -> String {
    let mut text = sql.to_owned();
    for (theirs, ours) in KNOWN {
        if text.contains(theirs) {
            text = text.replace(theirs, ours);
        }
    }
    for (from, to, ours) in SPANS {
        while let Some(start) = text.find(from)
            && let Some(length) = text[start..].find(to)
        {
            // The end may stand in the question too: the last of it that has no further beginning before it counts.
            let next = text[start + from.len()..].find(from).map_or(text.len(), |next| start + from.len() + next);
            // Schemas are a list rather than a query.
            let begin = text[..start].trim_end();
            let begin =
                if *ours == SCHEMAS && begin.ends_with("SELECT") { begin.len() - "SELECT".len() } else { start };
            let end = text[..next].rfind(to).map_or(start + length, |last| last.max(start + length)) + to.len();
            text.replace_range(begin..end, ours);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::plannable;

    #[test]
    fn questions_of_clients_are_asked_in_other_words() {
        let grafana = "a IN (SELECT CASE WHEN trim(s[i]) = '\"$user\"' THEN user ELSE trim(s[i]) END FROM generate_series(1, \
                       array_upper(string_to_array(current_setting('search_path'),','),1)) as i, \
                       string_to_array(current_setting('search_path'),',') s) THEN b";
        assert_eq!(plannable(grafana), "a IN ('public') THEN b");
        let twice = format!("{grafana} AND {grafana}");
        assert_eq!(plannable(&twice), "a IN ('public') THEN b AND a IN ('public') THEN b");
        assert_eq!(plannable("SELECT 1"), "SELECT 1");
    }
}
