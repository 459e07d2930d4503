//! `tojson` as in transformers: Python's `json.dumps`.

use minijinja::value::{Kwargs, Value};
use minijinja::{Error, ErrorKind};
use serde_json::Value as Json;

use crate::python::python_float;

/// Output format.
struct Style {
    ascii: bool,
    /// Indentation per level; none: on one line.
    indent: Option<String>,
    item: String,
    key: String,
    sorted: bool,
}

/// `json.dumps(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`. Errors: a value that cannot
/// be serialized, an unknown argument.
pub(super) fn tojson(value: Value, kwargs: Kwargs) -> Result<String, Error> {
    let indent: Option<Value> = kwargs.get("indent")?;
    let indent = indent.filter(|indent| !indent.is_none()).map(|indent| match indent.as_usize() {
        Some(width) => " ".repeat(width.min(64)),
        None => indent.to_string(),
    });
    let separators: Option<Value> = kwargs.get("separators")?;
    let (item, key) = match separators.filter(|pair| !pair.is_none()) {
        Some(pair) => (pair.get_item_by_index(0)?.to_string(), pair.get_item_by_index(1)?.to_string()),
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let flag =
        |name: &str| -> Result<bool, Error> { Ok(kwargs.get::<Option<bool>>(name)?.unwrap_or_default()) };
    let style = Style { ascii: flag("ensure_ascii")?, indent, item, key, sorted: flag("sort_keys")? };
    kwargs.assert_all_used()?;
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "an undefined value has no JSON"));
    }
    let mut json = serde_json::to_value(&value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    if style.sorted {
        json.sort_all_objects();
    }
    let mut out = String::new();
    style.write(&json, 0, &mut out);
    Ok(out)
}

impl Style {
    fn write(&self, json: &Json, depth: usize, out: &mut String) {
        match json {
            Json::Null | Json::Bool(_) => out.push_str(&json.to_string()),
            Json::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
                Some(float) => out.push_str(&python_float(float)),
                None => out.push_str(&number.to_string()),
            },
            Json::String(text) => self.string(text, out),
            Json::Array(items) => self.list('[', ']', items.iter(), depth, out, |item, out| {
                self.write(item, depth + 1, out);
            }),
            Json::Object(entries) => self.list('{', '}', entries.iter(), depth, out, |(key, value), out| {
                self.string(key, out);
                out.push_str(&self.key);
                self.write(value, depth + 1, out);
            }),
        }
    }

    fn list<T>(
        &self,
        open: char,
        close: char,
        items: impl ExactSizeIterator<Item = T>,
        depth: usize,
        out: &mut String,
        mut write: impl FnMut(T, &mut String),
    ) {
        let empty = items.len() == 0;
        let line = |depth: usize, out: &mut String| {
            if let Some(indent) = self.indent.as_ref().filter(|_| !empty) {
                out.push('\n');
                out.push_str(&indent.repeat(depth));
            }
        };
        out.push(open);
        for (place, item) in items.enumerate() {
            if place > 0 {
                out.push_str(&self.item);
            }
            line(depth + 1, out);
            write(item, out);
        }
        line(depth, out);
        out.push(close);
    }

    fn string(&self, text: &str, out: &mut String) {
        // serde_json escapes what JSON needs; `ensure_ascii` adds the rest, in UTF-16.
        for c in Json::String(text.to_owned()).to_string().chars() {
            if self.ascii && !c.is_ascii() {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
            } else {
                out.push(c);
            }
        }
    }
}
