//! Detokenizes WikiText pages.

use std::sync::LazyLock;

use regex::Regex;

/// Removes whitespace just inside a pair of delimiters.
static PAIRS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    // Python's `\s` and U+001C to U+001F; a test compiles each.
    let pair = |open: &str, inside: &str, close: &str| {
        let space = r"[\s\x1c-\x1f]*";
        let pattern = format!("{open}{space}({inside}*?){space}{close}");
        Regex::new(&pattern).unwrap_or_else(|error| panic!("{error}"))
    };
    vec![
        (pair(r"\(", r"[^\)]", r"\)"), "($1)"),
        (pair(r"\[", r"[^\]]", r"\]"), "[$1]"),
        (pair(r"\{", r"[^}]", r"\}"), "{$1}"),
        (pair("\"", "[^\"]", "\""), "\"$1\""),
        (pair("'", "[^']", "'"), "'$1'"),
    ]
});

/// The published function's match for an abbreviated year.
static YEAR: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("/' [0-9]/").unwrap_or_else(|error| panic!("{error}")));

/// Replacements before the pairs, in order.
const BEFORE: [(&str, &str); 10] = [
    ("s '", "s'"),
    (" @-@ ", "-"),
    (" @,@ ", ","),
    (" @.@ ", "."),
    (" : ", ": "),
    (" ; ", "; "),
    (" . ", ". "),
    (" ! ", "! "),
    (" ? ", "? "),
    (" , ", ", "),
];

/// Replacements after the pairs, in order.
const AFTER: [(&str, &str); 8] = [
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" \u{b0} ", "\u{b0}"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
];

/// A page without the spaces between its tokens.
pub(in crate::task) fn detokenized(page: &str) -> String {
    let mut text = page.to_owned();
    for (number, (from, to)) in BEFORE.into_iter().enumerate() {
        text = text.replace(from, to);
        if number == 0 {
            // The published function inserts its pattern's own source there.
            text = YEAR.replace_all(&text, "/'[0-9]/").into_owned();
        }
    }
    for (pair, to) in PAIRS.iter() {
        text = pair.replace_all(&text, *to).into_owned();
    }
    for (from, to) in AFTER {
        text = text.replace(from, to);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spaces_of_tokens_go() {
        let page = " = = Title = = \n The cats ' toys ( a , b ) cost 3 @.@ 5 ° C ; \" well \" N , it 's 1 @,@ 000 . ";
        assert_eq!(
            detokenized(page),
            " == Title ==\nThe cats'toys (a, b) cost 3.5°C; \"well\" N, it's 1,000. "
        );
    }
}
