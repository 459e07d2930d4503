//! English number words, read as the Python package word2number reads them.

use crate::python::PythonRegex;

use super::text::words;

/// Words that always are numbers.
const BASE: &str =
    "zero|one|two|three|four|five|ten|eleven|twelve|fourteen|hundred|thousand|(?:m|b|tr)illion";
/// What takes -teen or -ty.
const STEMS: &str = "twen|thir|for|fif|six|seven|nine";

/// The filter's pattern of a number. Six, seven, eight and nine count only within a longer number, as published.
pub(super) fn expression() -> Result<PythonRegex, String> {
    // Alternatives in the published order, where it matters: `eight` before `eighteen`, a bare stem before its ending.
    let first = format!("(?:(?:{STEMS})(?:teen|ty)|eight(?:|een|y)|{BASE})");
    let middle = format!("(?:(?:{STEMS})(?:|teen|ty)|eight(?:een|y)|{BASE}|[^\\S\\r\\n]|,|and|&)");
    let last = format!("(?:(?:{STEMS})(?:teen|ty)|eight(?:een|y)|{BASE})");
    let pattern = format!("((?:{first}{middle}+)?{last})");
    PythonRegex::new(&pattern)
}

fn value(word: &str) -> Option<i64> {
    const UNITS: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    if let Some(unit) = UNITS.iter().position(|unit| *unit == word) {
        return Some(unit as i64);
    }
    if let Some(ten) = TENS.iter().position(|ten| *ten == word) {
        return Some(20 + 10 * ten as i64);
    }
    match word {
        "hundred" => Some(100),
        "thousand" => Some(1000),
        "million" => Some(1_000_000),
        "billion" => Some(1_000_000_000),
        _ => None,
    }
}

/// The number below a thousand, or the multiplier, that some words form.
fn formed(numbers: &[i64]) -> Option<i64> {
    match *numbers {
        [a, b, c, d] => Some(a * b + c + d),
        [a, b, c] => Some(a * b + c),
        [a, b] if a == 100 || b == 100 => Some(a * b),
        [a, b] => Some(a + b),
        [] => None,
        [first, ..] => Some(first),
    }
}

/// The digits of a number in words; words that are no numbers are skipped. Error: the words form no number.
pub(super) fn number_of(text: &str) -> Result<String, String> {
    let malformed = || format!("'{text}' is not a number in words");
    let lower = text.replace('-', " ").to_lowercase();
    let numbers: Vec<i64> = words(&lower).filter_map(value).collect();
    let [single] = numbers[..] else {
        return sum(&numbers).map(|sum| sum.to_string()).ok_or_else(malformed);
    };
    Ok(single.to_string())
}

fn sum(numbers: &[i64]) -> Option<i64> {
    let scales = [1_000_000_000, 1_000_000, 1000];
    if numbers.is_empty() || scales.iter().any(|scale| numbers.iter().filter(|n| *n == scale).count() > 1) {
        return None;
    }
    let (mut start, mut total) = (0, 0i64);
    for scale in scales {
        let Some(at) = numbers.iter().position(|number| *number == scale) else { continue };
        // A larger scale after a smaller one is malformed.
        let multiplier = formed(numbers.get(start..at)?)?;
        total = total.checked_add(multiplier.checked_mul(scale)?)?;
        start = at + 1;
    }
    if start < numbers.len() {
        total = total.checked_add(formed(&numbers[start..])?)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::Found;

    #[test]
    fn numbers_in_words_have_digits() {
        for (text, digits) in [
            ("twenty one", "21"),
            ("two million three thousand and five", "2003005"),
            ("one hundred twenty-three", "123"),
            ("thousand", "1000"),
            ("one trillion", "1"),
        ] {
            assert_eq!(number_of(text).as_deref(), Ok(digits), "{text}");
        }
        assert!(number_of("thousand five").is_err() && number_of("two thousand one million").is_err());
        assert_eq!(number_of("twenty,one").unwrap_err(), "'twenty,one' is not a number in words");
    }

    #[test]
    fn a_bare_seven_is_not_found() {
        let found = |text| expression().unwrap().find_all(text).unwrap();
        assert_eq!(found("seven"), []);
        assert_eq!(
            found("about twenty seven and one cats"),
            [Found::Text("twenty seven and one".to_owned())]
        );
    }
}
