//! Filters that print or convert values differently from the library's.

use minijinja::value::Value;
use minijinja::{Error, ErrorKind, State, UndefinedBehavior};

use super::spelling::spelled;

/// `int(value, default)`; the default, or 0, if it is not a number.
pub(super) fn int(value: Value, default: Option<i64>) -> i64 {
    let default = default.unwrap_or_default();
    if let Some(text) = value.as_str() {
        let text = text.trim();
        return text.parse().ok().or_else(|| text.parse::<f64>().ok().map(|x| x as i64)).unwrap_or(default);
    }
    if let Ok(flag) = bool::try_from(value.clone()) {
        return i64::from(flag);
    }
    let float = |value: Value| f64::try_from(value).ok().map(|x| x as i64);
    i64::try_from(value.clone()).ok().or_else(|| float(value)).unwrap_or(default)
}

/// `separator.join(str(item) for item in value)`, or of an attribute of the items if one is given.
pub(super) fn join(
    state: &State<'_, '_>,
    value: Value,
    separator: Option<String>,
    kwargs: minijinja::value::Kwargs,
) -> Result<String, Error> {
    let attribute: Option<String> = kwargs.get("attribute")?;
    let separator = separator.or(kwargs.get("d")?).unwrap_or_default();
    kwargs.assert_all_used()?;
    let text = |item: Value| match &attribute {
        Some(name) => string(state, item.get_attr(name)?),
        None => string(state, item),
    };
    let items: Result<Vec<String>, Error> = value.try_iter()?.map(text).collect();
    Ok(items?.join(&separator))
}

/// `str(value).replace(from, to)`
pub(super) fn replace(
    state: &State<'_, '_>,
    value: Value,
    from: String,
    to: String,
) -> Result<String, Error> {
    Ok(string(state, value)?.replace(&from, &to))
}

/// `str(value)`; in a chat template an undefined value is empty.
pub(super) fn string(state: &State<'_, '_>, value: Value) -> Result<String, Error> {
    match state.undefined_behavior() {
        UndefinedBehavior::Strict => spelled(&value),
        _ if value.is_undefined() => Ok(String::new()),
        _ => spelled(&value),
    }
}

/// Python's `re.sub(pattern, replacement, text, count)`.
pub(super) fn regex_replace(
    text: String,
    pattern: String,
    to: String,
    count: Option<usize>,
) -> Result<String, Error> {
    let wrong = |e: fancy_regex::Error| Error::new(ErrorKind::InvalidOperation, e.to_string());
    let regex = fancy_regex::Regex::new(&pattern).map_err(wrong)?;
    // Python's `\1` is Rust's `${1}`, and its dollar is literal.
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
