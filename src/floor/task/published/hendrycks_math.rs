//! MATH as scored by Hendrycks et al. (2021): equality of normalized strings. AIME and AGIEval's MATH share it.

use serde_json::{Value, json};

use super::boxed::{UNBOXED, answer_of, last_boxed, last_braced, unboxed};
use super::text::{answer, integer_text, shown, text, value};
use super::{Row, Scores};

/// The row with its `answer`.
pub(super) fn document(row: &Row) -> Result<Row, String> {
    let mut made = row.clone();
    value(row, "problem")?;
    made.insert("answer".to_owned(), answer_of(text(row, "solution")?).ok_or(UNBOXED)?.into());
    Ok(made)
}

/// `hendrycks_math`: what is between the first and last dollar sign of the output, against the solution's answer.
pub(super) fn scores(row: &Row, answers: &[Value]) -> Result<Scores, String> {
    let gold = answer_of(text(row, "solution")?).ok_or(UNBOXED)?;
    let found = equivalent(between_dollars(answer(answers)?), &gold);
    Ok(vec![("exact_match", json!(i64::from(found)))])
}

/// AIME: the last boxed answer of the output, else as [`scores`], against the column `answer`.
pub(super) fn aime_scores(row: &Row, answers: &[Value]) -> Result<Scores, String> {
    let response = answer(answers)?;
    let boxed = last_boxed(response);
    let given = boxed.as_deref().and_then(unboxed).unwrap_or_else(|| between_dollars(response));
    let column = row.keys().find(|key| key.to_lowercase() == "answer").ok_or("'answer' is missing")?;
    let found = equivalent(given, &shown(row, column)?);
    Ok(vec![("exact_match", json!(i64::from(found)))])
}

fn between_dollars(text: &str) -> &str {
    match (text.find('$'), text.rfind('$')) {
        (Some(first), Some(last)) if first < last => &text[first + 1..last],
        _ => text,
    }
}

/// Whether two answers are equal once normalized; if either cannot be normalized, whether they are equal as written.
pub(super) fn equivalent(given: &str, gold: &str) -> bool {
    match (normalized(given, Slash::Strict), normalized(gold, Slash::Strict)) {
        (Some(given), Some(gold)) => given == gold,
        _ => given == gold,
    }
}

/// AGIEval's variant: an answer with a slash that is not a fraction of integers stays as it is.
pub(super) fn equivalent_leniently(given: &str, gold: &str) -> bool {
    match (normalized(given, Slash::Lenient), normalized(gold, Slash::Lenient)) {
        (Some(given), Some(gold)) => given == gold,
        _ => given == gold,
    }
}

/// What a slash between anything but two integers does.
#[derive(Clone, Copy, PartialEq)]
enum Slash {
    /// The whole normalization fails.
    Strict,
    /// Nothing.
    Lenient,
}

/// Deletions and replacements before units are removed, in order.
const BEFORE_UNITS: [(&str, &str); 10] = [
    ("\n", ""),
    ("\\!", ""),
    ("\\\\", "\\"),
    ("tfrac", "frac"),
    ("dfrac", "frac"),
    ("\\left", ""),
    ("\\right", ""),
    ("^{\\circ}", ""),
    ("^\\circ", ""),
    ("\\$", ""),
];

/// None where the published function raises.
fn normalized(text: &str, slash: Slash) -> Option<String> {
    let mut text = BEFORE_UNITS.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    if let Some((before, units)) = text.split_once("\\text{ ") {
        if units.contains("\\text{ ") {
            return None;
        }
        text = before.to_owned();
    }
    text = text.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.");
    if text.is_empty() {
        return Some(text);
    }
    if text.starts_with('.') {
        text.insert(0, '0');
    }
    if let Some((name, right)) = text.split_once('=')
        && !right.contains('=')
        && name.chars().count() <= 2
    {
        text = right.to_owned();
    }
    text = fractions(&roots(&text)?.replace(' ', ""))?;
    if text == "0.5" {
        text = "\\frac{1}{2}".to_owned();
    }
    slashed(text, slash)
}

/// `\sqrt3` with braces. None if nothing follows the root.
fn roots(text: &str) -> Option<String> {
    let mut pieces = text.split("\\sqrt");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let first = piece.chars().next()?;
        out += "\\sqrt";
        if first == '{' {
            out += piece;
        } else {
            out += &format!("{{{first}}}{}", &piece[first.len_utf8()..]);
        }
    }
    Some(out)
}

/// `\frac12` and `\frac1{72}` with braces. None if nothing follows; unchanged if only one character does.
fn fractions(text: &str) -> Option<String> {
    let mut pieces = text.split("\\frac");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let mut chars = piece.chars();
        let numerator = chars.next()?;
        out += "\\frac";
        if numerator == '{' {
            out += piece;
            continue;
        }
        let Some(denominator) = chars.next() else { return Some(text.to_owned()) };
        let rest = chars.as_str();
        if denominator == '{' {
            out += &format!("{{{numerator}}}{{{rest}");
        } else {
            out += &format!("{{{numerator}}}{{{denominator}}}{rest}");
        }
    }
    Some(out)
}

/// `a/b` of two integers as a fraction.
fn slashed(text: String, slash: Slash) -> Option<String> {
    let Some((above, below)) = text.split_once('/').filter(|(_, below)| !below.contains('/')) else {
        return Some(text);
    };
    match (integer_text(above), integer_text(below)) {
        // Integers that Python would print in another form, such as 01, stay.
        (Some(a), Some(b)) if a == above && b == below => Some(format!("\\frac{{{a}}}{{{b}}}")),
        (Some(_), Some(_)) => Some(text),
        _ if slash == Slash::Lenient => Some(text),
        _ => None,
    }
}

/// AGIEval MATH: the answers parsed from the output and from the column `answer`.
pub(super) fn agieval_scores(row: &Row, answers: &[Value]) -> Result<Scores, String> {
    let given = agieval_answer(answer(answers)?);
    let gold = match value(row, "answer")? {
        Value::Null => return Ok(vec![("acc", json!(0))]),
        _ => agieval_answer(text(row, "answer")?),
    };
    let correct = match (&given, &gold) {
        (Some(given), Some(gold)) => equivalent_leniently(given, gold),
        // An output without an answer is correct where the gold has none either.
        _ => given == gold,
    };
    Ok(vec![("acc", json!(i64::from(correct)))])
}

fn agieval_answer(text: &str) -> Option<String> {
    let after_equals =
        |text: &str| text.rsplit_once('=').map(|(_, right)| right.trim_start_matches(' ').to_owned());
    if text.contains("\\boxed") {
        let inside = last_braced(text)?.strip_prefix("\\boxed{")?.strip_suffix('}')?;
        return Some(after_equals(inside).unwrap_or_else(|| inside.to_owned()));
    }
    // The longest text between dollar signs of the last line that has two of them.
    let dollars = text.split('\n').rfind(|line| line.find('$') < line.rfind('$')).map(between_dollars);
    if let Some(inside) = dollars {
        let found = after_equals(inside).unwrap_or_else(|| inside.to_owned());
        if !found.is_empty() {
            return Some(found);
        }
    }
    if let Some(right) = after_equals(text) {
        let right = right.trim_end_matches('.');
        return Some(right.split("\\n").next().unwrap_or_default().to_owned());
    }
    last_number(text)
}

/// The last match of `(?:\$)?\d+(?:\.\d+)?(?![\w\d])`.
fn last_number(text: &str) -> Option<String> {
    let regex = super::expression::python_regex(r"(?:\$)?\d+(?:\.\d+)?(?![\w\d])", "").ok()?;
    match super::expression::find_all(&regex, text).ok()?.pop()? {
        super::expression::Found::Text(found) => Some(found),
        super::expression::Found::Groups(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notation_does_not_count() {
        for (given, gold) in [
            ("\\dfrac12", "\\frac{1}{2}"),
            ("x = 0.5", "1/2"),
            ("\\left( 3, \\sqrt2 \\right)", "(3,\\sqrt{2})"),
            ("5\\text{ cm}", "5"),
            ("90^\\circ", "90"),
            (".5", "\\tfrac{1}{2}"),
            ("\\frac1{72}", "\\frac{1}{72}"),
        ] {
            assert!(equivalent(given, gold), "{given} {gold}");
        }
        for (given, gold) in
            [("abc = 5", "5"), ("a/b ", "a/b"), ("01/2", "\\frac{1}{2}"), ("\\sqrt", "\\sqrt ")]
        {
            assert!(!equivalent(given, gold), "{given} {gold}");
        }
    }

    #[test]
    fn the_output_is_what_is_between_dollar_signs() {
        let row = json!({ "solution": "so \\boxed{4}", "problem": "?" });
        let score = |given: &str| scores(row.as_object().unwrap(), &[json!(given)]).unwrap()[0].1.clone();
        assert_eq!((score("It is $4$."), score("4"), score("$4")), (json!(1), json!(1), json!(0)));
        assert_eq!(document(row.as_object().unwrap()).unwrap()["answer"], "4");
        let error = document(json!({ "solution": "4", "problem": "?" }).as_object().unwrap()).unwrap_err();
        assert_eq!(error, "'solution' has no complete \\boxed answer");
    }

    #[test]
    fn aime_prefers_the_box() {
        let row = json!({ "Answer": 42 });
        let score =
            |given: &str| aime_scores(row.as_object().unwrap(), &[json!(given)]).unwrap()[0].1.clone();
        assert_eq!(
            (score("$1$ \\boxed{42}"), score("$42$"), score("\\fbox{42}")),
            (json!(1), json!(1), json!(0))
        );
    }
}
