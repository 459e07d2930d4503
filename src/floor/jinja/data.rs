//! Lists and dicts for templates, converted to strings as in Python, also by `~`.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Value};
use serde_json::Value as Json;

use super::spelling::spelled;

/// A list or a tuple.
#[derive(Debug)]
pub(super) struct Sequence<const IS_TUPLE: bool>(pub(super) Vec<Value>);

/// A dict, in insertion order.
#[derive(Debug)]
struct Dict(Vec<(String, Value)>);

/// A JSON value for a template.
pub fn data(json: &Json) -> Value {
    match json {
        Json::Array(items) => Value::from_object(Sequence::<false>(items.iter().map(data).collect())),
        Json::Object(entries) => {
            Value::from_object(Dict(entries.iter().map(|(key, value)| (key.clone(), data(value))).collect()))
        }
        scalar => Value::from_serialize(scalar),
    }
}

impl<const IS_TUPLE: bool> Object for Sequence<IS_TUPLE> {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&spelled(&Value::from_dyn_object(self.clone())).map_err(|_| fmt::Error)?)
    }
}

impl Object for Dict {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let key = key.as_str()?;
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.iter().map(|(key, _)| Value::from(key.as_str())).collect())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&spelled(&Value::from_dyn_object(self.clone())).map_err(|_| fmt::Error)?)
    }
}
