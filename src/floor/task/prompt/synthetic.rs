//! Synthetic documents, to render a template without its data.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, Value};
use minijinja::{Environment, Template};

use crate::python::parse_literal;

/// Attempts per template before it counts as failing on every document.
const MAX_TRIES: usize = 2000;

/// Methods of Python values, which look like attributes.
const METHODS: &[&str] = &[
    "strip",
    "lstrip",
    "rstrip",
    "split",
    "index",
    "replace",
    "join",
    "capitalize",
    "title",
    "lower",
    "upper",
    "items",
    "keys",
    "values",
    "get",
    "startswith",
    "endswith",
    "count",
    "find",
    "format",
];

/// Kinds of column values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Texts,
    Things,
    Thing,
    Digits,
}

const KINDS: [Kind; 6] = [Kind::Text, Kind::Texts, Kind::Number, Kind::Thing, Kind::Things, Kind::Digits];

/// A value with every attribute.
#[derive(Debug)]
struct Anything;

impl Object for Anything {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        // As a list it has four items.
        match key.as_i64() {
            Some(n) if !(-4..4).contains(&n) => None,
            Some(_) => Some(Kind::Text.value()),
            None => Some(Kind::Texts.value()),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(vec![Kind::Text.value(); 4])
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("A")
    }
}

impl Kind {
    fn value(self) -> Value {
        match self {
            Self::Text => Value::from("A"),
            Self::Digits => Value::from("1"),
            Self::Number => Value::from(1),
            Self::Texts => Value::from(vec!["A", "B", "C", "D", "E"]),
            Self::Things => Value::from(vec![Value::from_object(Anything); 5]),
            Self::Thing => Value::from_object(Anything),
        }
    }
}

/// Renders a template on some document that fits it; `as_list`: the result must be a list printed as in Python. Error:
/// the template does not compile, or fails on all documents tried.
pub(in crate::task) fn render(
    environment: &Environment<'_>,
    source: &str,
    as_list: bool,
) -> Result<String, String> {
    let template = environment.template_from_str(source).map_err(|error| error.to_string())?;
    let columns: Vec<String> = leaves(&template);
    let mut kinds = vec![Kind::Text; columns.len()];
    let mut first_error = String::new();
    let mut tries = 0;
    let mut attempt = |kinds: &[Kind]| -> Option<String> {
        tries += 1;
        match template.render(document(&columns, kinds)) {
            Ok(text)
                if !as_list || parse_literal(text.trim()).is_some_and(|v| v.is_array() || v.is_object()) =>
            {
                Some(text)
            }
            Ok(text) => {
                if first_error.is_empty() {
                    first_error = format!("'{text}' is not a list");
                }
                None
            }
            Err(error) => {
                if first_error.is_empty() {
                    first_error = error.to_string();
                }
                None
            }
        }
    };
    if let Some(text) = attempt(&kinds) {
        return Ok(text);
    }
    // One column of another kind, then two, then all of one kind.
    for kind in KINDS {
        if let Some(text) = attempt(&vec![kind; columns.len()]) {
            return Ok(text);
        }
    }
    for at in 0..columns.len() {
        for kind in KINDS {
            kinds[at] = kind;
            if let Some(text) = attempt(&kinds) {
                return Ok(text);
            }
        }
        kinds[at] = Kind::Text;
    }
    let mut left = MAX_TRIES;
    for first in 0..columns.len() {
        for second in first + 1..columns.len() {
            for pair in KINDS.iter().flat_map(|a| KINDS.map(|b| (*a, b))) {
                (kinds[first], kinds[second]) = pair;
                left = left.saturating_sub(1);
                if left == 0 {
                    return Err(first_error);
                }
                if let Some(text) = attempt(&kinds) {
                    return Ok(text);
                }
            }
            (kinds[first], kinds[second]) = (Kind::Text, Kind::Text);
        }
    }
    Err(first_error)
}

/// The names that a template uses; of `a.b` only the innermost.
fn leaves(template: &Template<'_, '_>) -> Vec<String> {
    let plain = |name: String| match name.rsplit_once('.') {
        Some((value, method)) if METHODS.contains(&method) => value.to_owned(),
        _ => name,
    };
    let names: BTreeSet<String> = template.undeclared_variables(true).into_iter().map(plain).collect();
    let outer = |name: &String| !names.iter().any(|other| other.starts_with(&format!("{name}.")));
    names.iter().filter(|name| outer(name)).cloned().collect()
}

fn document(columns: &[String], kinds: &[Kind]) -> Value {
    let mut root = nested::Map::default();
    for (column, kind) in columns.iter().zip(kinds) {
        root.put(&column.split('.').collect::<Vec<_>>(), kind.value());
    }
    root.value()
}

/// Nested maps of template values.
mod nested {
    use std::collections::BTreeMap;

    use minijinja::value::Value;

    #[derive(Default)]
    pub(in crate::task) struct Map {
        inner: BTreeMap<String, Map>,
        leaf: Option<Value>,
    }

    impl Map {
        pub(in crate::task) fn put(&mut self, path: &[&str], value: Value) {
            match path {
                [] => self.leaf = Some(value),
                [first, rest @ ..] => self.inner.entry((*first).to_owned()).or_default().put(rest, value),
            }
        }

        pub(in crate::task) fn value(self) -> Value {
            match self.leaf {
                Some(leaf) if self.inner.is_empty() => leaf,
                _ => Value::from_iter(self.inner.into_iter().map(|(key, map)| (key, map.value()))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jinja::task_environment;

    #[test]
    fn templates_find_a_document_that_they_fit() {
        let environment = task_environment();
        for (source, as_list) in [
            ("{{question.strip()}}\nA. {{choices[0]}}\nAnswer:", false),
            ("{{ [option1, option2] }}", true),
            ("{{ choices.text }}", true),
            ("{{ ['A', 'B'].index(answer) }}", false),
            ("{% for c in options %}{{ c.text }}{{ loop.index0 }}{% endfor %}{{ label + 1 }}", false),
            ("{{ a.b.c }} {{ d[n - 1] }}", false),
        ] {
            let rendered = render(&environment, source, as_list);
            assert!(rendered.is_ok(), "{source}: {rendered:?}");
        }
        assert!(render(&environment, "{{ question", false).is_err());
        assert!(render(&environment, "{{ question|nothing }}", false).is_err());
    }
}
