//! Fields of a request: each is read, known not to matter, or refused by name.

use serde_json::{Map, Value};

use super::error::ApiError;

/// Fields that say something of the request and nothing of the answer.
const ABOUT: [&str; 8] = [
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
    "request_id",
];

/// The fields of a request that are not read yet.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn new(mut fields: Map<String, Value>) -> Self {
        // What is null is not set.
        fields.retain(|_, value| !value.is_null());
        Self(fields)
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(name, "a string")),
        }
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(wrong(name, "true or false")),
        }
    }

    pub(super) fn whole(&mut self, name: &str, (least, most): (u64, u64)) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let whole = value
            .as_u64()
            .or_else(|| value.as_f64().filter(|n| n.fract() == 0.0 && *n >= 0.0).map(|n| n as u64));
        let found = whole.filter(|whole| (least..=most).contains(whole));
        found.map(Some).ok_or_else(|| wrong(name, &format!("a whole number from {least} to {most}")))
    }

    /// A number from `least` to `most`.
    pub(super) fn number(&mut self, name: &str, (least, most): (f64, f64)) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let found = value.as_f64().filter(|number| (least..=most).contains(number));
        found.map(Some).ok_or_else(|| wrong(name, &format!("a number from {least} to {most}")))
    }

    /// A string, or a list of at most `most`.
    pub(super) fn texts(&mut self, name: &str, most: usize) -> Result<Vec<String>, ApiError> {
        let texts = match self.take(name) {
            None => Some(Vec::new()),
            Some(Value::String(text)) => Some(vec![text]),
            Some(Value::Array(texts)) => texts.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
            Some(_) => None,
        };
        let texts = texts.filter(|texts| texts.len() <= most);
        texts.ok_or_else(|| wrong(name, &format!("a string or a list of at most {most} strings")))
    }

    /// Fields that are not supported: with a value that changes nothing they are fine.
    pub(super) fn require_neutral(&mut self, names: &[&str]) -> Result<(), ApiError> {
        for name in names {
            let Some(value) = self.take(name) else { continue };
            let is_neutral = match &value {
                Value::Bool(flag) => !flag,
                Value::Number(number) => number.as_f64() == Some(0.0),
                Value::String(text) => text.is_empty() || text == "none" || text == "auto",
                Value::Array(list) => list.is_empty(),
                Value::Object(object) => object.is_empty() || value == serde_json::json!({ "type": "text" }),
                Value::Null => true,
            };
            if !is_neutral {
                return Err(ApiError::invalid(&format!("'{name}' is not supported"), Some(name)));
            }
        }
        Ok(())
    }

    /// Error: a field that nothing is known of.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        match self.0.keys().find(|name| !ABOUT.contains(&name.as_str())) {
            Some(name) => Err(ApiError::invalid(&format!("'{name}' is not supported"), Some(name))),
            None => Ok(()),
        }
    }
}

pub(super) fn wrong(name: &str, expected: &str) -> ApiError {
    ApiError::invalid(&format!("'{name}' is not {expected}"), Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Fields {
        Fields::new(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_field_is_read_known_or_refused_by_name() {
        let mut read = fields(r#"{"n": 2.0, "user": "a", "seed": null, "t": 0.5, "stop": ["a"]}"#);
        assert_eq!(read.whole("n", (1, 4)).unwrap(), Some(2));
        assert_eq!(read.number("t", (0.0, 2.0)).unwrap(), Some(0.5));
        assert_eq!(read.texts("stop", 4).unwrap(), ["a"]);
        assert!(read.whole("seed", (0, 9)).unwrap().is_none() && read.finish().is_ok());
        assert!(fields(r#"{"best_off": 1}"#).finish().unwrap_err().json().to_string().contains("best_off"));
    }

    #[test]
    fn wrong_values_are_refused_and_neutral_ones_are_not() {
        for text in [r#"{"n": 0}"#, r#"{"n": 9}"#, r#"{"n": 1.5}"#, r#"{"n": "1"}"#, r#"{"n": -1}"#] {
            assert!(fields(text).whole("n", (1, 8)).is_err(), "{text}");
        }
        assert!(fields(r#"{"stop": ["a", 1]}"#).texts("stop", 4).is_err());
        assert!(fields(r#"{"stop": ["a", "b"]}"#).texts("stop", 1).is_err());
        let neutral = r#"{"a": 0, "b": [], "c": {"type": "text"}, "d": false, "e": "auto"}"#;
        assert!(fields(neutral).require_neutral(&["a", "b", "c", "d", "e", "f"]).is_ok());
        for text in [r#"{"a": 0.1}"#, r#"{"a": [1]}"#, r#"{"a": {"type": "json_object"}}"#, r#"{"a": true}"#]
        {
            assert!(fields(text).require_neutral(&["a"]).is_err(), "{text}");
        }
    }
}
