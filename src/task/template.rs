//! Jinja as lm_eval has it: undefined names are errors, values are spelled as Python spells them, strings have Python's
//! methods.

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior};

use super::python::python_str;

/// An environment for task templates.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_keep_trailing_newline(true);
    environment.set_unknown_method_callback(method);
    environment.set_formatter(format);
    environment.add_filter("int", int);
    environment.add_filter("string", |value: Value| spelled(&value));
    environment.add_filter("join", join);
    environment.add_filter("replace", |value: Value, from: String, to: String| {
        Ok::<_, Error>(spelled(&value)?.replace(&from, &to))
    });
    environment.add_filter("regex_replace", regex_replace);
    environment
}

/// `str(value)` in Python. Error: a value that is none of JSON's.
pub(super) fn spelled(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    if holds_undefined(value) {
        return Err(Error::new(ErrorKind::UndefinedError, "a value in a list is undefined"));
    }
    let json = serde_json::to_value(value);
    json.map(|json| python_str(&json)).map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))
}

/// Whether a list or a map has an undefined value in it, which would be spelled as None.
fn holds_undefined(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Undefined => true,
        ValueKind::Seq => value.try_iter().is_ok_and(|mut items| items.any(|item| holds_undefined(&item))),
        ValueKind::Map => value.try_iter().is_ok_and(|mut keys| {
            keys.any(|key| value.get_item(&key).is_ok_and(|item| holds_undefined(&item)))
        }),
        _ => false,
    }
}

fn format(out: &mut Output<'_>, state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Bool
        | ValueKind::None
        | ValueKind::Seq
        | ValueKind::Map
        | ValueKind::Number
        | ValueKind::Iterable => {
            let text = spelled(value)?;
            out.write_str(&text).map_err(Error::from)
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// `int(value)`; 0 for a text that is no number.
fn int(value: Value) -> i64 {
    if let Some(text) = value.as_str() {
        let text = text.trim();
        return text.parse().ok().or_else(|| text.parse::<f64>().ok().map(|x| x as i64)).unwrap_or(0);
    }
    if let Ok(flag) = bool::try_from(value.clone()) {
        return i64::from(flag);
    }
    i64::try_from(value.clone()).ok().or_else(|| f64::try_from(value).ok().map(|x| x as i64)).unwrap_or(0)
}

fn join(value: Value, separator: Option<String>) -> Result<String, Error> {
    let items: Result<Vec<String>, Error> = value.try_iter()?.map(|item| spelled(&item)).collect();
    Ok(items?.join(separator.as_deref().unwrap_or_default()))
}

/// Python's `re.sub(pattern, replacement, text, count)`.
fn regex_replace(text: String, pattern: String, to: String, count: Option<usize>) -> Result<String, Error> {
    let wrong = |e: fancy_regex::Error| Error::new(ErrorKind::InvalidOperation, e.to_string());
    let regex = fancy_regex::Regex::new(&pattern).map_err(wrong)?;
    // Python's `\1` is Rust's `${1}`, and its dollar is a dollar.
    let mut rewritten = String::new();
    let mut chars = to.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            ('$', _) => rewritten += "$$",
            (_, true) => match chars.next() {
                Some(digit) if digit.is_ascii_digit() => rewritten += &format!("${{{digit}}}"),
                Some(other) => rewritten.push(other),
                None => rewritten.push('\\'),
            },
            _ => rewritten.push(c),
        }
    }
    Ok(regex.replacen(&text, count.unwrap_or(0), rewritten.as_str()).into_owned())
}

/// Python's methods of strings, lists and dicts; `index` is not among those of the library.
fn method(state: &State<'_, '_>, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (true, [wanted]) = (name == "index", arguments) else {
        return minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments);
    };
    let found = match (value.as_str(), wanted.as_str()) {
        (Some(text), Some(part)) => text.find(part).map(|at| text[..at].chars().count()),
        (Some(_), None) => None,
        _ => value.try_iter()?.position(|item| item == *wanted),
    };
    let missing = || Error::new(ErrorKind::InvalidOperation, format!("{wanted} is not in {value}"));
    found.map(Value::from).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use super::*;

    fn render(template: &str) -> String {
        let values = context! { text => " Ab ", list => ["x", "it's"], n => 3, yes => true, none => () };
        environment().render_str(template, values).unwrap()
    }

    #[test]
    fn values_are_spelled_as_python_does() {
        assert_eq!(render("{{ list }} {{ yes }} {{ none }} {{ n }}"), "['x', \"it's\"] True None 3");
        assert_eq!(render("{{ [n, 1.0, {'a': yes}] }}"), "[3, 1.0, {'a': True}]");
        assert_eq!(render("{{ list|string }}|{{ [1, yes]|join(', ') }}"), "['x', \"it's\"]|1, True");
    }

    #[test]
    fn methods_and_filters_are_pythons() {
        assert_eq!(render("{{ text.strip() }}{{ list.index(\"it's\") }}{{ 'abc'.index('c') }}"), "Ab12");
        assert_eq!(render("{{ 'x7'|int }}{{ ' 7 '|int }}{{ yes|int }}"), "071");
        assert_eq!(render("{{ 'a1b2'|regex_replace('([a-z])(\\\\d)', '\\\\2$\\\\1') }}"), "1$a2$b");
        assert_eq!(render("{{ text[1:] }}{{ list[-1] }}\n"), "Ab it's\n");
    }

    #[test]
    fn an_undefined_name_is_an_error() {
        assert!(environment().render_str("{{ nothing }}", ()).is_err());
        assert!(environment().render_str("{{ list.index('z') }}", context! { list => ["x"] }).is_err());
    }
}
