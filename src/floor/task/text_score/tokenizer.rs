//! Splits a text into the tokens that BLEU counts.

use std::sync::LazyLock;

use regex::Regex;

use crate::python::is_space;

/// How BLEU splits a text. Scores under different tokenizers cannot be compared (Post 2018).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Tokenizer {
    /// `13a`, sacrebleu's default, the rules of WMT's script `mteval-v13a`: ASCII punctuation stands alone, except in
    /// words like don't and well-known and in numbers like 1,234.5.
    #[default]
    Mteval13a,
    /// `intl`, the international rules of `mteval-v14`: punctuation and symbols of all of Unicode stand alone, except
    /// punctuation between digits.
    International,
}

impl Tokenizer {
    /// The text with whitespace between its tokens. Whitespace at the end of the text is dropped first.
    pub(super) fn space_out(self, text: &str) -> String {
        let text = text.trim_end_matches(is_space);
        match self {
            Self::Mteval13a => replace(&MTEVAL_13A, format!(" {} ", unescape(text))),
            Self::International => replace(&INTERNATIONAL, text.to_owned()),
        }
    }
}

/// Patterns and their replacements, applied one after the other.
type Rules = LazyLock<Vec<(Regex, &'static str)>>;

static MTEVAL_13A: Rules = LazyLock::new(|| {
    rules(&[
        // ASCII punctuation without ' , - .
        (r"([ -&(-+/:-@\[-`{-~])", " $1 "),
        (r"([^0-9])([.,])", "$1 $2 "),
        (r"([.,])([^0-9])", " $1 $2"),
        (r"([0-9])(-)", "$1 $2 "),
    ])
});

static INTERNATIONAL: Rules = LazyLock::new(|| {
    rules(&[
        (r"(\P{N})(\p{P})", "$1 $2 "),
        // A period after a number at the very end stays with it, as in mteval-v14.
        (r"(\p{P})(\P{N})", " $1 $2"),
        (r"(\p{S})", " $1 "),
    ])
});

fn rules(rules: &[(&str, &'static str)]) -> Vec<(Regex, &'static str)> {
    // Constant patterns of this file; tests compile each.
    let compile = |pattern| Regex::new(pattern).unwrap_or_else(|error| panic!("{error}"));
    rules.iter().map(|(pattern, replacement)| (compile(pattern), *replacement)).collect()
}

fn replace(rules: &[(Regex, &'static str)], text: String) -> String {
    rules.iter().fold(text, |text, (pattern, by)| pattern.replace_all(&text, *by).into_owned())
}

/// Undoes the SGML escapes of WMT's files, and hyphenation at line ends.
fn unescape(text: &str) -> String {
    // `&amp;lt;` becomes `<`, so order matters.
    let escapes = [
        ("<skipped>", ""),
        ("-\n", ""),
        ("\n", " "),
        ("&quot;", "\""),
        ("&amp;", "&"),
        ("&lt;", "<"),
        ("&gt;", ">"),
    ];
    escapes.iter().fold(
        text.to_owned(),
        |text, (escape, by)| {
            if text.contains(escape) { text.replace(escape, by) } else { text }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::task::text_score::ngrams::words;

    #[track_caller]
    fn assert_tokens(text: &str, mteval_13a: &str, international: &str) {
        for (tokenizer, expected) in
            [(Tokenizer::Mteval13a, mteval_13a), (Tokenizer::International, international)]
        {
            let spaced = tokenizer.space_out(text);
            assert_eq!(words(&spaced).join(" "), expected, "{tokenizer:?}");
        }
    }

    #[test]
    fn numbers_keep_their_commas_and_words_their_apostrophes() {
        assert_tokens(
            "It's 1,234.5 (or 5-6%), \"U.S.\" ...",
            "It's 1,234.5 ( or 5 - 6 % ) , \" U . S . \" . . .",
            "It ' s 1,234.5 ( or 5-6 % ) , \" U . S . \" . . .",
        );
        assert_tokens(
            "3. a.b ,5 well-known 10-20",
            "3 . a . b , 5 well-known 10 - 20",
            "3 . a . b , 5 well - known 10-20",
        );
    }

    #[test]
    fn only_the_international_tokenizer_keeps_a_period_after_a_last_number() {
        assert_tokens("10. \n", "10 .", "10.");
    }

    #[test]
    fn only_13a_undoes_escapes_and_hyphenation() {
        assert_tokens(
            "&lt;b&gt; &amp;lt; &quot;hi&quot; end-\nof <skipped>line",
            "< b > < \" hi \" endof line",
            "& lt ; b & gt ; & amp ; lt ; & quot ; hi & quot ; end - of < skipped > line",
        );
    }

    #[test]
    fn only_the_international_tokenizer_knows_symbols_beyond_ascii() {
        assert_tokens(
            "«Größe» 東京は、日本。 €20 ½ 1,5 2. 3.",
            "«Größe» 東京は、日本。 €20 ½ 1,5 2 . 3 .",
            "« Größe » 東京は 、 日本 。 € 20 ½ 1,5 2 . 3.",
        );
        assert_tokens("a\u{a0}b\u{2028}c\u{200b}d", "a b c\u{200b}d", "a b c\u{200b}d");
        assert_tokens("", "", "");
    }
}
