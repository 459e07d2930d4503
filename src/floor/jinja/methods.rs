//! Python's string, list and dict methods, where the library lacks them or counts bytes.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use super::spelling::spelled;
use super::tuple::tuple;

/// Calls a method of a value. Errors: unknown, wrong arguments, `index` of a missing item.
pub(super) fn method(
    state: &State<'_, '_>,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let text = value.as_str();
    match (text, name, arguments) {
        (Some(text), "title", []) => Ok(title(text).into()),
        (Some(text), "find" | "rfind", [part]) => {
            let part = part.as_str().unwrap_or_default();
            let found = if name == "find" { text.find(part) } else { text.rfind(part) };
            Ok(found.map_or(-1, |at| text[..at].chars().count() as i64).into())
        }
        (Some(text), "join", [items]) => {
            let items: Result<Vec<String>, Error> = items.try_iter()?.map(|item| spelled(&item)).collect();
            Ok(items?.join(text).into())
        }
        (Some(text), "removeprefix", [part]) => {
            Ok(text.strip_prefix(part.as_str().unwrap_or_default()).unwrap_or(text).into())
        }
        (Some(text), "removesuffix", [part]) => {
            Ok(text.strip_suffix(part.as_str().unwrap_or_default()).unwrap_or(text).into())
        }
        (Some(text), "zfill", [width]) => Ok(format!("{text:0>0$}", width.as_usize().unwrap_or(0)).into()),
        (_, "index", [wanted]) => index(value, wanted),
        (_, "items", []) if value.kind() == ValueKind::Map => {
            let pair = |key: Value| {
                let item = value.get_item(&key)?;
                Ok(tuple(minijinja::value::Rest(vec![key, item])))
            };
            Ok(value.try_iter()?.map(pair).collect::<Result<Vec<_>, Error>>()?.into())
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments),
    }
}

fn index(value: &Value, wanted: &Value) -> Result<Value, Error> {
    let found = match (value.as_str(), wanted.as_str()) {
        (Some(text), Some(part)) => text.find(part).map(|at| text[..at].chars().count()),
        (Some(_), None) => None,
        _ => value.try_iter()?.position(|item| item == *wanted),
    };
    let missing = || Error::new(ErrorKind::InvalidOperation, format!("{wanted} is not in {value}"));
    found.map(Value::from).ok_or_else(missing)
}

/// `str.title`: a letter after a letter is lower case, any other is upper case.
pub(super) fn title(text: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase())
        } else {
            out.extend(c.to_uppercase())
        }
        inside = c.is_alphabetic();
    }
    out
}
