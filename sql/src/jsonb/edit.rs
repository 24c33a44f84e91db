//! What can be asked of a JSON value and how it is changed: containment, paths, concatenation, removal.
//!
//! **Invariant:** PostgreSQL's rules for `jsonb`; what is not there is none, never an error, unless said.

use super::Json;
use crate::{Error, Result};

impl Json {
    /// Whether `other` is contained, as `@>` has it: members and elements may be more, their order does not matter.
    pub(crate) fn contains(&self, other: &Json) -> bool {
        match (self, other) {
            // An array contains a scalar that is one of its elements, at the top only.
            (Json::Array(items), scalar) if !matches!(scalar, Json::Array(_) | Json::Object(_)) => {
                items.iter().any(|item| same_scalar(item, scalar))
            }
            _ => within(self, other),
        }
    }

    /// Whether a key, or a string element, is there.
    pub(crate) fn exists(&self, key: &str) -> bool {
        match self {
            Json::Object(members) => members.iter().any(|(name, _)| name == key),
            Json::Array(items) => items.iter().any(|item| matches!(item, Json::String(text) if text == key)),
            Json::String(text) => text == key,
            _ => false,
        }
    }

    /// What lies at the end of a path of keys and indices.
    pub(crate) fn at<'a>(&'a self, path: &[Option<String>]) -> Option<&'a Json> {
        path.iter().try_fold(self, |value, step| {
            let step = step.as_deref()?;
            match value {
                Json::Object(members) => members.iter().find(|(key, _)| key == step).map(|(_, value)| value),
                Json::Array(items) => items.get(index(step, items.len())?),
                _ => None,
            }
        })
    }

    /// Both put together: the members of two objects, of which the second's win; else the elements of two arrays, of which a
    /// value that is none counts as one with one element.
    pub(crate) fn concat(self, other: Json) -> Json {
        match (self, other) {
            (Json::Object(a), Json::Object(b)) => Json::object(a.into_iter().chain(b)),
            (a, b) => Json::Array(elements(a).into_iter().chain(elements(b)).collect()),
        }
    }

    /// Without a member, or without the elements that are this string.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a scalar.
    pub(crate) fn without_key(self, key: &str) -> Result<Json> {
        match self {
            Json::Object(mut members) => {
                members.retain(|(name, _)| name != key);
                Ok(Json::Object(members))
            }
            Json::Array(mut items) => {
                items.retain(|item| !matches!(item, Json::String(text) if text == key));
                Ok(Json::Array(items))
            }
            _ => Err(Error::InvalidArgument("cannot delete from scalar".into())),
        }
    }

    /// Without the element at an index, which counts from the end where it is negative.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for what is no array.
    pub(crate) fn without_index(self, at: i64) -> Result<Json> {
        match self {
            Json::Array(mut items) => {
                if let Some(at) = position(at, items.len()) {
                    items.remove(at);
                }
                Ok(Json::Array(items))
            }
            Json::Object(_) => Err(Error::InvalidArgument("cannot delete from object using integer index".into())),
            _ => Err(Error::InvalidArgument("cannot delete from scalar".into())),
        }
    }

    /// Without what lies at the end of a path.
    pub(crate) fn without_path(mut self, path: &[Option<String>]) -> Json {
        let [before @ .., Some(last)] = path else { return self };
        match self.at_mut(before) {
            Some(Json::Object(members)) => members.retain(|(key, _)| key != last),
            Some(Json::Array(items)) => {
                if let Some(at) = index(last, items.len()) {
                    items.remove(at);
                }
            }
            _ => {}
        }
        self
    }

    /// With a value at the end of a path: in place of what is there, and where nothing is there and `create` says so, as a new
    /// member, or as a new first or last element.
    pub(crate) fn with(mut self, path: &[Option<String>], value: Json, create: bool) -> Json {
        let [before @ .., Some(last)] = path else { return self };
        match self.at_mut(before) {
            Some(object @ Json::Object(_)) => {
                let Json::Object(members) = object else { return self };
                match members.iter_mut().find(|(key, _)| key == last) {
                    Some((_, there)) => *there = value,
                    None if create => {
                        let members = std::mem::take(members);
                        *object = Json::object(members.into_iter().chain([(last.clone(), value)]));
                    }
                    None => {}
                }
            }
            Some(Json::Array(items)) => match index(last, items.len()) {
                Some(at) => items[at] = value,
                None if create && last.starts_with('-') => items.insert(0, value),
                None if create && last.parse::<i64>().is_ok() => items.push(value),
                None => {}
            },
            _ => {}
        }
        self
    }

    /// Whether a path can be changed in this value; `adds` where something may be added at its end.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a scalar, [`Error::InvalidText`] where an array meets a step that is no integer.
    pub(crate) fn check_path(&self, path: &[Option<String>], change: &str, adds: bool) -> Result<()> {
        if !matches!(self, Json::Array(_) | Json::Object(_)) {
            return Err(Error::InvalidArgument(format!("cannot {change} path in scalar")));
        }
        for (place, step) in path.iter().enumerate() {
            let is_integer = step.as_ref().is_none_or(|step| step.trim().parse::<i64>().is_ok());
            let meets = matches!(self.at(&path[..place]), Some(Json::Array(items)) if adds || !items.is_empty());
            if meets && !is_integer {
                let step = step.as_deref().unwrap_or_default();
                let place = place + 1;
                return Err(Error::InvalidText(format!(
                    "path element at position {place} is not an integer: \"{step}\""
                )));
            }
        }
        Ok(())
    }

    fn at_mut(&mut self, path: &[Option<String>]) -> Option<&mut Json> {
        path.iter().try_fold(self, |value, step| {
            let step = step.as_deref()?;
            match value {
                Json::Object(members) => members.iter_mut().find(|(key, _)| key == step).map(|(_, value)| value),
                Json::Array(items) => {
                    let at = index(step, items.len())?;
                    items.get_mut(at)
                }
                _ => None,
            }
        })
    }

    /// Without members that are null, at every depth.
    pub(crate) fn stripped(self) -> Json {
        match self {
            Json::Object(members) => {
                let kept = members.into_iter().filter(|(_, value)| *value != Json::Null);
                Json::Object(kept.map(|(key, value)| (key, value.stripped())).collect())
            }
            Json::Array(items) => Json::Array(items.into_iter().map(Json::stripped).collect()),
            scalar => scalar,
        }
    }
}

fn elements(value: Json) -> Vec<Json> {
    match value {
        Json::Array(items) => items,
        other => vec![other],
    }
}

fn within(outer: &Json, inner: &Json) -> bool {
    match (outer, inner) {
        (Json::Object(outer), Json::Object(inner)) => inner.iter().all(|(key, wanted)| {
            outer.iter().find(|(name, _)| name == key).is_some_and(|(_, value)| within(value, wanted))
        }),
        (Json::Array(outer), Json::Array(inner)) => {
            inner.iter().all(|wanted| outer.iter().any(|value| within(value, wanted)))
        }
        (outer, inner) => same_scalar(outer, inner),
    }
}

/// Numbers are the same whatever zeros they end with.
fn same_scalar(a: &Json, b: &Json) -> bool {
    fn plain(digits: &str) -> &str {
        if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
    }
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => plain(a) == plain(b),
        (Json::Array(_) | Json::Object(_), _) => false,
        (a, b) => a == b,
    }
}

/// The place that an index names.
fn index(step: &str, len: usize) -> Option<usize> {
    position(step.trim().parse().ok()?, len)
}

fn position(at: i64, len: usize) -> Option<usize> {
    let at = if at < 0 { i64::try_from(len).ok()?.checked_add(at)? } else { at };
    usize::try_from(at).ok().filter(|at| *at < len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text).expect("valid")
    }

    #[test]
    fn containment_is_by_structure_and_an_array_holds_its_scalars() {
        for (outer, inner, holds) in [
            (r#"{"a": 1, "b": {"c": [1, 2, {"d": 3}]}}"#, r#"{"b": {"c": [{"d": 3.0}]}}"#, true),
            ("[1, 2, 3]", "[3, 1, 1]", true),
            ("[1, [2]]", "[2]", false),
            ("[1, 2]", "2", true),
            (r#"{"a": [1, 2]}"#, r#"{"a": 1}"#, false),
            ("[[1, 2]]", "[1]", false),
            ("{}", "[]", false),
            ("100", "1", false),
        ] {
            assert_eq!(json(outer).contains(&json(inner)), holds, "{outer} @> {inner}");
        }
    }

    #[test]
    fn a_value_is_set_where_its_path_leads() {
        let path = |steps: &[&str]| steps.iter().map(|step| Some((*step).to_owned())).collect::<Vec<_>>();
        let set = |steps: &[&str], create| json(r#"{"a": [1, 2], "b": null}"#).with(&path(steps), json("9"), create);
        assert_eq!(set(&["a", "-1"], false).to_string(), r#"{"a": [1, 9], "b": null}"#);
        assert_eq!(set(&["a", "7"], true).to_string(), r#"{"a": [1, 2, 9], "b": null}"#);
        assert_eq!(set(&["a", "-7"], true).to_string(), r#"{"a": [9, 1, 2], "b": null}"#);
        assert_eq!(set(&["c"], false).to_string(), r#"{"a": [1, 2], "b": null}"#);
        assert_eq!(set(&["c"], true).to_string(), r#"{"a": [1, 2], "b": null, "c": 9}"#);
        assert_eq!(set(&["x", "y"], true).to_string(), r#"{"a": [1, 2], "b": null}"#);
    }
}
