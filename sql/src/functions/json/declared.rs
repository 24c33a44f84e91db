//! The JSON functions and operators, one declaration each.
//!
//! **Invariant:** each behaves as PostgreSQL's of the same name, for `json` as for `jsonb`; keys of `json` are not kept in order.

use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;

use super::call::{Declared, Gives, Out, Row};
use crate::functions::refusal::invalid;
use crate::jsonb::Json;

/// As many arguments as a call has.
const ANY: usize = usize::MAX;

/// Functions of both prefixes, `json_` and `jsonb_`; the name is what follows.
const BOTH: &[Declared] = &[
    strict("typeof", (1, 1), Gives::Text, |row| Ok(Some(Out::Text(row.json(0)?.kind().into())))),
    strict("array_length", (1, 1), Gives::Integer, array_length),
    strict("strip_nulls", (1, 1), Gives::Jsonb, |row| Ok(Some(Out::Json(row.json(0)?.into_owned().stripped())))),
    strict("extract_path", (2, ANY), Gives::Jsonb, |row| Ok(row.json(0)?.at(&steps(row)?).cloned().map(Out::Json))),
    strict("extract_path_text", (2, ANY), Gives::Text, |row| {
        Ok(row.json(0)?.at(&steps(row)?).cloned().and_then(Json::into_text).map(Out::Text))
    }),
    strict("array_elements", (1, 1), Gives::Jsonbs, |row| {
        Ok(Some(Out::Texts(elements(row)?.into_iter().map(|item| Some(item.to_string())).collect())))
    }),
    strict("array_elements_text", (1, 1), Gives::Texts, |row| {
        Ok(Some(Out::Texts(elements(row)?.into_iter().map(Json::into_text).collect())))
    }),
    strict("object_keys", (1, 1), Gives::Texts, |row| {
        Ok(Some(Out::Texts(members(row, "object_keys")?.into_iter().map(|(key, _)| Some(key)).collect())))
    }),
    strict("each", (1, 1), Gives::Members, |row| {
        let members = members(row, "each")?.into_iter();
        Ok(Some(Out::Members(members.map(|(key, value)| (key, Some(value.to_string()))).collect())))
    }),
    strict("each_text", (1, 1), Gives::MemberTexts, |row| {
        let members = members(row, "each_text")?.into_iter();
        Ok(Some(Out::Members(members.map(|(key, value)| (key, value.into_text())).collect())))
    }),
];

/// Functions of one name.
const SINGLE: &[Declared] = &[
    strict("jsonb_pretty", (1, 1), Gives::Text, |row| Ok(Some(Out::Text(row.json(0)?.pretty())))),
    strict("jsonb_set", (3, 4), Gives::Jsonb, |row| {
        let create = row.len() < 4 || row.boolean(3)?;
        let (json, path) = (row.json(0)?, row.path(1)?);
        json.check_path(&path, "set", create)?;
        Ok(Some(Out::Json(json.into_owned().with(&path, row.json(2)?.into_owned(), create))))
    }),
    strict("jsonb_contains", (2, 2), Gives::Boolean, |row| {
        Ok(Some(Out::Boolean(row.json(0)?.contains(row.json(1)?.as_ref()))))
    }),
    strict("jsonb_contained", (2, 2), Gives::Boolean, |row| {
        Ok(Some(Out::Boolean(row.json(1)?.contains(row.json(0)?.as_ref()))))
    }),
    strict("jsonb_exists", (2, 2), Gives::Boolean, |row| Ok(Some(Out::Boolean(row.json(0)?.exists(row.text(1)?))))),
    strict("jsonb_exists_any", (2, 2), Gives::Boolean, |row| {
        let json = row.json(0)?;
        Ok(Some(Out::Boolean(row.path(1)?.iter().flatten().any(|key| json.exists(key)))))
    }),
    strict("jsonb_exists_all", (2, 2), Gives::Boolean, |row| {
        let json = row.json(0)?;
        Ok(Some(Out::Boolean(row.path(1)?.iter().flatten().all(|key| json.exists(key)))))
    }),
    strict("jsonb_concat", (2, 2), Gives::Jsonb, |row| {
        Ok(Some(Out::Json(row.json(0)?.into_owned().concat(row.json(1)?.into_owned()))))
    }),
    strict("jsonb_delete", (2, 2), Gives::Jsonb, delete),
    strict("jsonb_delete_path", (2, 2), Gives::Jsonb, |row| {
        let (json, path) = (row.json(0)?, row.path(1)?);
        json.check_path(&path, "delete", false)?;
        Ok(Some(Out::Json(json.into_owned().without_path(&path))))
    }),
    strict("to_jsonb", (1, 1), Gives::Jsonb, |row| Ok(Some(Out::Json(sorted(row.value(0)?))))),
    strict("to_json", (1, 1), Gives::Json, |row| Ok(Some(Out::Json(row.value(0)?)))),
    strict("row_to_json", (1, 1), Gives::Json, |row| Ok(Some(Out::Json(row.value(0)?)))),
    Declared {
        strict: false,
        ..strict("jsonb_build_object", (0, ANY), Gives::Jsonb, |row| {
            Ok(Some(Out::Json(Json::object(pairs(row)?.into_iter().map(|(key, value)| (key, sorted(value)))))))
        })
    },
    Declared {
        strict: false,
        ..strict("json_build_object", (0, ANY), Gives::Json, |row| Ok(Some(Out::Json(Json::Object(pairs(row)?)))))
    },
    Declared {
        strict: false,
        ..strict("jsonb_build_array", (0, ANY), Gives::Jsonb, |row| {
            let items = (0..row.len()).map(|index| Ok(sorted(row.value(index)?)));
            Ok(Some(Out::Json(Json::Array(items.collect::<Result<_>>()?))))
        })
    },
    Declared {
        strict: false,
        ..strict("json_build_array", (0, ANY), Gives::Json, |row| {
            let items = (0..row.len()).map(|index| row.value(index));
            Ok(Some(Out::Json(Json::Array(items.collect::<Result<_>>()?))))
        })
    },
    // The statement layer makes these of the aggregates: their arguments are the collected lists.
    strict("jsonb_agg", (1, 1), Gives::Jsonb, |row| Ok(Some(Out::Json(Json::Array(jsons(row.path(0)?)?))))),
    strict("json_agg", (1, 1), Gives::Json, |row| Ok(Some(Out::Json(Json::Array(jsons(row.path(0)?)?))))),
    strict("jsonb_object_agg", (2, 2), Gives::Jsonb, |row| Ok(Some(Out::Json(Json::object(zipped(row)?))))),
    strict("json_object_agg", (2, 2), Gives::Json, |row| Ok(Some(Out::Json(Json::Object(zipped(row)?))))),
];

/// `#>`, which has no name of its own in SQL.
pub(super) const AT_PATH: Declared =
    strict("#>", (2, 2), Gives::Jsonb, |row| Ok(row.json(0)?.at(&row.path(1)?).cloned().map(Out::Json)));

/// `#>>`, which has no name of its own in SQL.
pub(super) const AT_PATH_TEXT: Declared = strict("#>>", (2, 2), Gives::Text, |row| {
    Ok(row.json(0)?.at(&row.path(1)?).cloned().and_then(Json::into_text).map(Out::Text))
});

const fn strict(
    name: &'static str,
    args: (usize, usize),
    gives: Gives,
    eval: fn(&Row) -> Result<Option<Out>>,
) -> Declared {
    Declared { name, args, gives, strict: true, eval }
}

/// The function of an operator or of another that is declared under this name.
pub(super) fn single(name: &str) -> Option<ScalarUDF> {
    SINGLE.iter().find(|declared| declared.name == name).map(|declared| declared.function())
}

/// All that have a name in SQL.
pub(in crate::functions) fn all() -> Vec<ScalarUDF> {
    let both = BOTH.iter().map(|declared| {
        let jsonb = Declared { name: prefixed("jsonb", declared.name), ..*declared };
        jsonb.function().with_aliases([prefixed("json", declared.name)])
    });
    both.chain(SINGLE.iter().map(|declared| declared.function())).collect()
}

/// A name that lives as long as the process: there are few, and each is made once per database that is opened.
fn prefixed(prefix: &str, name: &str) -> &'static str {
    format!("{prefix}_{name}").leak()
}

fn array_length(row: &Row) -> Result<Option<Out>> {
    match row.json(0)?.as_ref() {
        Json::Array(items) => Ok(Some(Out::Integer(i32::try_from(items.len()).unwrap_or(i32::MAX)))),
        Json::Object(_) => Err(invalid("cannot get array length of a non-array")),
        _ => Err(invalid("cannot get array length of a scalar")),
    }
}

fn steps(row: &Row) -> Result<Vec<Option<String>>> {
    (1..row.len()).map(|index| Ok(Some(row.text(index)?.to_owned()))).collect()
}

fn elements(row: &Row) -> Result<Vec<Json>> {
    match row.json(0)?.into_owned() {
        Json::Array(items) => Ok(items),
        Json::Object(_) => Err(invalid("cannot extract elements from an object")),
        _ => Err(invalid("cannot extract elements from a scalar")),
    }
}

fn members(row: &Row, function: &str) -> Result<Vec<(String, Json)>> {
    match row.json(0)?.into_owned() {
        Json::Object(members) => Ok(members),
        Json::Array(_) => Err(invalid(format!("cannot call jsonb_{function} on an array"))),
        _ => Err(invalid(format!("cannot call jsonb_{function} on a scalar"))),
    }
}

fn delete(row: &Row) -> Result<Option<Out>> {
    let json = row.json(0)?.into_owned();
    let without = if row.is_text(1) {
        json.without_key(row.text(1)?)?
    } else if let Ok(at) = row.integer(1) {
        json.without_index(at)?
    } else {
        let keys = row.path(1)?;
        keys.into_iter().flatten().try_fold(json, |json, key| json.without_key(&key))?
    };
    Ok(Some(Out::Json(without)))
}

/// The arguments as keys and values.
fn pairs(row: &Row) -> Result<Vec<(String, Json)>> {
    if !row.len().is_multiple_of(2) {
        return Err(invalid("argument list must have even number of elements: give a value for each key"));
    }
    (0..row.len()).step_by(2).map(|index| Ok((key(row.value(index)?)?, row.value(index + 1)?))).collect()
}

fn key(value: Json) -> Result<String> {
    match value {
        Json::Null => Err(invalid("null value not allowed for object key")),
        Json::Array(_) | Json::Object(_) => Err(invalid("key value must be scalar, not array, composite, or json")),
        Json::String(text) => Ok(text),
        other => Ok(other.to_string()),
    }
}

/// A list of JSON texts as values; null as null.
fn jsons(texts: Vec<Option<String>>) -> Result<Vec<Json>> {
    texts.into_iter().map(|text| Ok(text.map_or(Ok(Json::Null), |text| Json::parse(&text))?)).collect()
}

fn zipped(row: &Row) -> Result<Vec<(String, Json)>> {
    let (keys, values) = (row.path(0)?, jsons(row.path(1)?)?);
    keys.into_iter()
        .zip(values)
        .map(|(key, value)| Ok((key.ok_or_else(|| invalid("field name must not be null"))?, value)))
        .collect()
}

/// The members of every object in `jsonb`'s order.
fn sorted(value: Json) -> Json {
    match value {
        Json::Object(members) => Json::object(members.into_iter().map(|(key, value)| (key, sorted(value)))),
        Json::Array(items) => Json::Array(items.into_iter().map(sorted).collect()),
        scalar => scalar,
    }
}
