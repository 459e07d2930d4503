//! MATH as prompted by Lewkowycz et al. (2022), without the equivalence that needs SymPy: answers are correct if their
//! normalized texts are equal.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use crate::python::PythonRegex;

use super::boxed::{UNBOXED, answer_of};
use super::expression::{constant, python_regex};
use super::text::{answer, shown, strip, text, value};
use super::{Row, Scores};

/// The answer of a text that has none.
pub(super) const INVALID: &str = "[invalidanswer]";

/// The prompt of a problem.
pub(super) fn prompt(row: &Row) -> Result<Value, String> {
    Ok(json!(format!("Problem:\n{}\n\nSolution:", text(row, "problem")?)))
}

/// `minerva_math`: the row with its normalized `answer`.
pub(super) fn document(row: &Row) -> Result<Row, String> {
    let mut made = row.clone();
    value(row, "problem")?;
    let answer = answer_of(text(row, "solution")?).ok_or(UNBOXED)?;
    made.insert("answer".to_owned(), normalized(&answer)?.into());
    Ok(made)
}

/// `leaderboard_math`: rows of level 5 with their `answer` as written.
pub(super) fn leaderboard_document(row: &Row) -> Result<Option<Row>, String> {
    if *value(row, "level")? != json!("Level 5") {
        return Ok(None);
    }
    let mut made = row.clone();
    value(row, "problem")?;
    let answer = answer_of(text(row, "solution")?).unwrap_or_else(|| INVALID.to_owned());
    made.insert("answer".to_owned(), answer.into());
    Ok(Some(made))
}

/// `minerva_math`: `exact_match` by equal text.
pub(super) fn scores(row: &Row, answers: &[Value]) -> Result<Scores, String> {
    let given = normalized(&final_answer(answer(answers)?))?;
    let correct = !given.is_empty() && given == shown(row, "answer")?;
    Ok(vec![("exact_match", json!(i64::from(correct)))])
}

/// `leaderboard_math`: `exact_match_original` by equal text.
pub(super) fn leaderboard_scores(row: &Row, answers: &[Value]) -> Result<Scores, String> {
    let given = leaderboard_normalized(&final_answer(answer(answers)?));
    let gold = leaderboard_normalized(text(row, "answer")?);
    let correct = given != INVALID && strip(&given) == strip(&gold);
    Ok(vec![("exact_match_original", json!(i64::from(correct)))])
}

/// The text between "The final answer is" and "I hope it is correct."
pub(super) fn final_answer(response: &str) -> String {
    static FINAL: LazyLock<Regex> =
        LazyLock::new(|| constant("Final Answer: The final answer is(.*?). I hope it is correct."));
    // A text that stops early still counts up to its end.
    let whole = format!("{response}I hope it is correct.");
    let found =
        FINAL.captures(&whole).and_then(|found| found.get(1).map(|part| strip(part.as_str()).to_owned()));
    found.unwrap_or_else(|| INVALID.to_owned())
}

/// Replacements, in order.
const SUBSTITUTIONS: [(&str, &str); 10] = [
    ("an ", ""),
    ("a ", ""),
    (".$", "$"),
    ("\\$", ""),
    ("\\ ", ""),
    (" ", ""),
    ("mbox", "text"),
    (",\\text{and}", ","),
    ("\\text{and}", ","),
    ("\\text{m}", "\\text{}"),
];

/// Units and other words that do not count, in the published order.
const WORDS: [&str; 26] = [
    "square",
    "ways",
    "integers",
    "dollars",
    "mph",
    "inches",
    "ft",
    "hours",
    "km",
    "units",
    "sue",
    "points",
    "feet",
    "minutes",
    "digits",
    "cents",
    "degrees",
    "cm",
    "gm",
    "pounds",
    "meters",
    "meals",
    "edges",
    "students",
    "childrentickets",
    "multiples",
];
/// Where `\ldots` stands among [`WORDS`].
const BEFORE_LDOTS: usize = 10;

/// LaTeX that does not count, after the words.
const MARKUP: [&str; 15] = [
    "\\text{s}",
    "\\text{.}",
    "\\text{\ns}",
    "\\text{}^2",
    "\\text{}^3",
    "\\text{\n}",
    "\\text{}",
    "\\mathrm{th}",
    "^\\circ",
    "^{\\circ}",
    "\\;",
    ",\\!",
    "{,}",
    "\"",
    "\\dots",
];

fn last_side(text: &str) -> &str {
    text.rsplit('=').next().unwrap_or_default()
}

fn substituted(text: &str) -> String {
    SUBSTITUTIONS.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// `leaderboard_math`'s normalization.
pub(super) fn leaderboard_normalized(answer: &str) -> String {
    let mut text = substituted(last_side(answer));
    let words = WORDS[..BEFORE_LDOTS].iter().chain(&["\\ldots"]).chain(&WORDS[BEFORE_LDOTS..]);
    for removed in words.chain(&MARKUP) {
        text = text.replace(removed, "");
    }
    text = unwrapped(&text);
    static ROOT: LazyLock<Regex> = LazyLock::new(|| constant("(sqrt)([^{])"));
    text = ROOT.replace_all(&text, "sqrt{$2}").replace('$', "");
    let digits = text.replace(',', "");
    // `isdigit` also takes superscripts and other digits that are not decimal; they have no place in an answer.
    if !digits.is_empty() && digits.chars().all(super::expression::matches_digit) { digits } else { text }
}

/// `minerva_math`'s normalization, which keeps units' letters inside LaTeX commands and tuples' commas.
pub(super) fn normalized(answer: &str) -> Result<String, String> {
    static WHOLE_WORDS: LazyLock<Result<Vec<PythonRegex>, String>> =
        LazyLock::new(|| WORDS.iter().map(|word| python_regex(&format!(r"(?<!\\)\b{word}\b"), "")).collect());
    let mut text = last_side(answer).to_owned();
    for word in WHOLE_WORDS.as_ref().map_err(Clone::clone)? {
        text = word.removed(&text)?;
    }
    text = substituted(&text);
    for (at, word) in WORDS.iter().enumerate() {
        if at == BEFORE_LDOTS {
            text = text.replace("\\ldots", "");
        }
        text = outside_commands(&text, word);
    }
    for markup in MARKUP {
        text = text.replace(markup, "");
    }
    text = unwrapped(&text);
    static INDEXED: LazyLock<Regex> = LazyLock::new(|| constant(r"(sqrt)(\[[^\]]*\])([\p{L}\p{N}_])"));
    static ROOT: LazyLock<Regex> = LazyLock::new(|| constant(r"(sqrt)([^{\[])"));
    static GROUPED: LazyLock<Regex> = LazyLock::new(|| constant(r"\A-?\d{1,3}(,\d{3})+\z"));
    text = INDEXED.replace_all(&text, "$1$2{$3}").into_owned();
    text = ROOT.replace_all(&text, "sqrt{$2}").replace('$', "");
    Ok(if GROUPED.is_match(&text) { text.replace(',', "") } else { text })
}

/// A text without a word, except inside the names of LaTeX commands.
fn outside_commands(text: &str, word: &str) -> String {
    static COMMAND: LazyLock<Regex> = LazyLock::new(|| constant(r"\\[a-zA-Z]+"));
    let mut out = String::new();
    let mut at = 0;
    for command in COMMAND.find_iter(text) {
        out += &text[at..command.start()].replace(word, "");
        out += command.as_str();
        at = command.end();
    }
    out + &text[at..].replace(word, "")
}

/// What is inside dollar signs, `\text`, `\textbf`, `\overline` and `\boxed`, and `\frac12` with braces.
fn unwrapped(text: &str) -> String {
    static STEPS: LazyLock<[(Regex, &str); 6]> = LazyLock::new(|| {
        [
            (constant(r"(.*?)(\$)(.*?)(\$)(.*)"), "$$${3}$$"),
            (constant(r"(\\text\{)(.*?)(\})"), "$2"),
            (constant(r"(\\textbf\{)(.*?)(\})"), "$2"),
            (constant(r"(\\overline\{)(.*?)(\})"), "$2"),
            (constant(r"(\\boxed\{)(.*)(\})"), "$2"),
            (constant(r"(frac)([^{])(.)"), "frac{$2}{$3}"),
        ]
    });
    let step = |text: String, (regex, to): &(Regex, &str)| regex.replace_all(&text, *to).into_owned();
    STEPS.iter().fold(text.to_owned(), step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_final_answer_ends_before_the_hope() {
        assert_eq!(final_answer("Final Answer: The final answer is $4$. I hope it is correct."), "$4$");
        assert_eq!(final_answer("Final Answer: The final answer is $4$. "), "$4$");
        assert_eq!(final_answer("It is 4."), INVALID);
    }

    #[test]
    fn normalization_keeps_commands_and_tuples() {
        for (answer, expected) in [
            ("x = 2\\pi cm", "2\\pi"),
            ("\\left(0,1\\right)", "\\left(0,1\\right)"),
            ("0,1", "0,1"),
            ("1,000 dollars", "1000"),
            ("$\\frac12$ feet", "\\frac{1}{2}"),
            ("\\sqrt[3]8", "\\sqrt[3]{8}"),
            ("\\text{yes}", "yes"),
        ] {
            assert_eq!(normalized(answer).unwrap(), expected);
        }
    }

    #[test]
    fn the_leaderboard_keeps_its_first_normalization() {
        for (answer, expected) in
            [("\\left(0,1)", "\\le(0,1)"), ("0,1", "01"), ("\\sqrt[3]8", "\\sqrt{[}3]8")]
        {
            assert_eq!(leaderboard_normalized(answer), expected);
        }
    }

    #[test]
    fn equal_text_is_correct() {
        let row = json!({ "problem": "?", "solution": "so $\\boxed{1,000}$", "level": "Level 5" });
        let response = json!("Final Answer: The final answer is $1000$. I hope it is correct.");
        let made = document(row.as_object().unwrap()).unwrap();
        assert_eq!(scores(&made, std::slice::from_ref(&response)).unwrap(), [("exact_match", json!(1))]);
        let made = leaderboard_document(row.as_object().unwrap()).unwrap().unwrap();
        assert_eq!(made["answer"], "1,000");
        assert_eq!(leaderboard_scores(&made, &[response]).unwrap(), [("exact_match_original", json!(1))]);
        let easy = json!({ "problem": "?", "solution": "", "level": "Level 1" });
        assert_eq!(leaderboard_document(easy.as_object().unwrap()), Ok(None));
    }
}
