//! Python's string forms of template values.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

use super::tuple::Tuple;
use crate::python::{python_float, python_quoted};

/// `str(value)` in Python. Error: a value that is not data, or an undefined one inside a list or a dict.
pub(super) fn spelled(value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => represented(value),
    }
}

/// `repr(value)` in Python. Error: as [`spelled`].
fn represented(value: &Value) -> Result<String, Error> {
    Ok(match value.kind() {
        ValueKind::Undefined => {
            return Err(Error::new(ErrorKind::UndefinedError, "a value in a list is undefined"));
        }
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_owned(),
        ValueKind::Number if value.is_integer() => value.to_string(),
        ValueKind::Number => f64::try_from(value.clone()).map_or_else(|_| value.to_string(), python_float),
        ValueKind::String => python_quoted(value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<String> =
                value.try_iter()?.map(|item| represented(&item)).collect::<Result<_, _>>()?;
            match value.downcast_object_ref::<Tuple>() {
                Some(tuple) if tuple.0.len() == 1 => format!("({},)", represented(&tuple.0[0])?),
                Some(_) => format!("({})", items.join(", ")),
                None => format!("[{}]", items.join(", ")),
            }
        }
        ValueKind::Map => {
            let entry = |key: Value| -> Result<String, Error> {
                Ok(format!("{}: {}", represented(&key)?, represented(&value.get_item(&key)?)?))
            };
            let items: Vec<String> = value.try_iter()?.map(entry).collect::<Result<_, _>>()?;
            format!("{{{}}}", items.join(", "))
        }
        _ => value.to_string(),
    })
}
