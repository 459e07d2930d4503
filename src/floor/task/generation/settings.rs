//! How a task's answers are generated: lm_eval's `generation_kwargs`, resolved.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Tokens of an answer if nothing limits them.
const TOKENS: u64 = 256;

/// Keys that limit the tokens of an answer, the first present one wins.
const LIMITS: [&str; 4] = ["max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"];

/// Keys that are read besides; any other is unsupported.
const READ: [&str; 6] = ["until", "do_sample", "temperature", "top_p", "top_k", "num_beams"];

/// Keys that change nothing here: the cache of keys and values is always used.
const IRRELEVANT: [&str; 1] = ["use_cache"];

/// How answers are generated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationSettings {
    /// The settings as in lm_eval's results.
    pub kwargs: Map<String, Value>,
    /// The texts that end an answer, without the model's end-of-sequence text.
    pub until: Vec<String>,
    /// Maximum tokens of an answer.
    pub max_tokens: u64,
    /// How tokens are drawn; none: the most likely one.
    pub sampling: Option<TaskSampling>,
}

/// How tokens are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TaskSampling {
    /// The temperature, above 0.
    pub temperature: f64,
    /// Only the most likely tokens with this total probability.
    pub top_p: f64,
    /// Only the k most likely tokens; 0: all.
    pub top_k: usize,
}

/// How texts are compared by `exact_match`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchOptions {
    /// Lowercase both.
    pub ignore_case: bool,
    /// Without the 32 punctuation marks of ASCII.
    pub ignore_punctuation: bool,
    /// Without the digits 0 to 9.
    pub ignore_numbers: bool,
    /// Without what these patterns match.
    pub regexes_to_ignore: Vec<String>,
}

/// An unsupported setting: its name, and its value.
pub type UnsupportedSetting = (&'static str, String);

impl GenerationSettings {
    /// The settings of a task file: its `generation_kwargs` if it has any, and its few-shot delimiter, which ends an answer where no
    /// other text does. Error: an unsupported setting.
    pub fn of_file(given: Option<&Map<String, Value>>, delimiter: &str) -> Result<Self, UnsupportedSetting> {
        let mut kwargs = match given {
            None => {
                let default = json!({ "temperature": 0.0, "do_sample": false, "max_gen_toks": TOKENS });
                default.as_object().cloned().unwrap_or_default()
            }
            Some(given) => given.clone(),
        };
        if let Some(temperature) = kwargs.get_mut("temperature")
            && let Some(number) = temperature.as_f64()
        {
            *temperature = json!(number);
        }
        if !kwargs.contains_key("until") {
            kwargs.insert("until".to_owned(), json!([delimiter]));
        }
        Self::resolved(kwargs)
    }

    /// With some of them replaced, as by `--gen_kwargs`. Error: an unsupported setting.
    pub fn with(&self, changes: &Map<String, Value>) -> Result<Self, UnsupportedSetting> {
        let mut kwargs = self.kwargs.clone();
        for (key, value) in changes {
            kwargs.insert(key.clone(), value.clone());
        }
        Self::resolved(kwargs)
    }

    fn resolved(kwargs: Map<String, Value>) -> Result<Self, UnsupportedSetting> {
        let wrong = |key: &str, value: &Value| ("generation_kwargs", format!("{key} = {value}"));
        let unknown = |key: &&String| {
            let key = key.as_str();
            !READ.contains(&key) && !LIMITS.contains(&key) && !IRRELEVANT.contains(&key)
        };
        if let Some(key) = kwargs.keys().find(unknown) {
            return Err(("generation_kwargs", key.clone()));
        }
        if let Some(beams) = kwargs.get("num_beams").filter(|beams| beams.as_u64() != Some(1)) {
            return Err(wrong("num_beams", beams));
        }
        let until = match kwargs.get("until") {
            None => Vec::new(),
            Some(Value::String(text)) => vec![text.clone()],
            Some(value) => {
                let texts =
                    value.as_array().map(|items| items.iter().map(|item| item.as_str().map(str::to_owned)));
                texts
                    .and_then(|texts| texts.collect::<Option<Vec<_>>>())
                    .ok_or_else(|| wrong("until", value))?
            }
        };
        let limit = LIMITS.iter().find_map(|key| kwargs.get(*key).map(|value| (*key, value)));
        let max_tokens = match limit {
            None => TOKENS,
            Some((key, value)) => value.as_u64().filter(|n| *n > 0).ok_or_else(|| wrong(key, value))?,
        };
        let sampling = sampling(&kwargs)?;
        Ok(Self { until, max_tokens, sampling, kwargs })
    }
}

/// How tokens are drawn: `do_sample`, and where it is absent a temperature above 0.
fn sampling(kwargs: &Map<String, Value>) -> Result<Option<TaskSampling>, UnsupportedSetting> {
    let number = |key: &'static str| match kwargs.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            value.as_f64().map(Some).ok_or_else(|| ("generation_kwargs", format!("{key} = {value}")))
        }
    };
    let (temperature, top_p, top_k) = (number("temperature")?, number("top_p")?, number("top_k")?);
    let samples = match kwargs.get("do_sample") {
        None | Some(Value::Null) => temperature.is_some_and(|temperature| temperature > 0.0),
        Some(Value::Bool(yes)) => *yes,
        Some(value) => return Err(("generation_kwargs", format!("do_sample = {value}"))),
    };
    if !samples {
        return Ok(None);
    }
    let Some(temperature) = temperature.filter(|temperature| *temperature > 0.0) else {
        return Err(("generation_kwargs", "do_sample = true without a temperature above 0".to_owned()));
    };
    let top_k = top_k.filter(|k| *k >= 0.0).map_or(0, |k| k as usize);
    Ok(Some(TaskSampling { temperature, top_p: top_p.unwrap_or(1.0), top_k }))
}

/// Reads `a=1,b=['x']` with Python literals, or a JSON object. Error: neither.
pub fn read_gen_kwargs(text: &str) -> Result<Map<String, Value>, String> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| error.to_string());
    }
    let (mut parts, mut depth, mut quote) = (vec![String::new()], 0i32, None);
    for c in text.chars() {
        match (c, quote) {
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('[' | '(' | '{', None) => depth += 1,
            (']' | ')' | '}', None) => depth -= 1,
            (',', None) if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    let pair = |part: &String| {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("'{part}' is not KEY=VALUE"))?;
        let value = match value.trim() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            value => crate::python::parse_literal(value).unwrap_or_else(|| value.into()),
        };
        Ok((key.trim().to_owned(), value))
    };
    parts.iter().filter(|part| !part.trim().is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kwargs: Value) -> Result<GenerationSettings, UnsupportedSetting> {
        GenerationSettings::of_file(kwargs.as_object(), "\n\n")
    }

    #[test]
    fn without_settings_the_answer_is_greedy_and_ends_at_the_delimiter() {
        let settings = of(Value::Null).unwrap();
        assert_eq!((settings.max_tokens, settings.sampling), (256, None));
        assert_eq!(settings.until, ["\n\n"]);
        assert_eq!(
            Value::Object(settings.kwargs),
            json!({ "temperature": 0.0, "do_sample": false, "max_gen_toks": 256, "until": ["\n\n"] })
        );
    }

    #[test]
    fn the_first_of_several_limits_wins_also_over_a_later_change() {
        let settings = of(json!({ "until": "END", "max_gen_toks": 7 })).unwrap();
        let changed = settings.with(json!({ "max_new_tokens": 3 }).as_object().unwrap()).unwrap();
        assert_eq!((changed.max_tokens, changed.until.as_slice()), (7, ["END".to_owned()].as_slice()));
        assert_eq!(of(json!({ "max_new_tokens": 3 })).unwrap().max_tokens, 3);
    }

    #[test]
    fn sampling_follows_do_sample_and_else_the_temperature() {
        let draws = |kwargs| of(kwargs).unwrap().sampling.is_some();
        assert!(!draws(json!({ "temperature": 0.7, "do_sample": false })));
        assert!(
            draws(json!({ "temperature": 0.7 })) && draws(json!({ "temperature": 0.7, "do_sample": true }))
        );
        assert!(!draws(json!({ "top_p": 0.9 })));
        assert!(of(json!({ "do_sample": true })).is_err());
    }

    #[test]
    fn settings_are_read_as_python_literals_or_json() {
        let read = |text: &str| Value::Object(read_gen_kwargs(text).unwrap());
        let expected = json!({ "temperature": 0.7, "until": ["a,b", "c"], "do_sample": true, "x": "word" });
        assert_eq!(read("temperature=0.7,until=['a,b', 'c'],do_sample=True,x=word"), expected);
        assert_eq!(read(&expected.to_string()), expected);
        assert!(read_gen_kwargs("temperature").is_err());
    }

    #[test]
    fn what_is_not_known_is_named() {
        assert_eq!(of(json!({ "penalty_alpha": 0.6 })).unwrap_err().1, "penalty_alpha");
        assert!(of(json!({ "num_beams": 4 })).is_err() && of(json!({ "num_beams": 1 })).is_ok());
        assert!(of(json!({ "until": null })).is_err() && of(json!({ "max_gen_toks": 0 })).is_err());
        assert!(of(json!({ "until": [] })).unwrap().until.is_empty());
    }
}
