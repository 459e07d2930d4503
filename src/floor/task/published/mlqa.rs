//! MLQA: exact match and F1 with each language's articles.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::expression::{constant, is_punctuation};
use super::squad::token_f1;
use super::text::{answer, squeezed, strip, texts, without_words, words};
use super::{Row, Scores};

/// The languages of MLQA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Language {
    Arabic,
    Chinese,
    English,
    German,
    Hindi,
    Spanish,
    Vietnamese,
}

impl Language {
    /// The words that do not count.
    fn articles(self) -> &'static [&'static str] {
        match self {
            Self::English => &["a", "an", "the"],
            Self::Spanish => &["un", "una", "unos", "unas", "el", "la", "los", "las"],
            Self::Vietnamese => &["của", "là", "cái", "chiếc", "những"],
            Self::German => {
                &["ein", "eine", "einen", "einem", "eines", "einer", "der", "die", "das", "den", "dem", "des"]
            }
            Self::Arabic | Self::Chinese | Self::Hindi => &[],
        }
    }

    /// An answer in lower case, without punctuation and articles; Chinese characters are words.
    fn normalized(self, text: &str) -> String {
        static ARABIC: LazyLock<Regex> = LazyLock::new(|| constant(r"(?:^|[\s\x1c-\x1f])ال"));
        let text: String = text
            .to_lowercase()
            .chars()
            .filter(|c| !c.is_ascii_punctuation() && !is_punctuation(*c))
            .collect();
        match self {
            Self::Chinese => squeezed(&separated(&text)),
            Self::Arabic => squeezed(&ARABIC.replace_all(&text, " ")),
            _ => squeezed(&without_words(&text, self.articles())),
        }
    }
}

/// A text with spaces around its Chinese characters.
fn separated(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if ('\u{4e00}'..='\u{9fa5}').contains(&c) {
            out.extend([' ', c, ' ']);
        } else {
            out.push(c);
        }
    }
    out
}

/// The best exact match and F1 over the golds.
pub(super) fn scores(row: &Row, answers: &[Value], language: Language) -> Result<Scores, String> {
    let predicted = language.normalized(strip(answer(answers)?));
    let golds = texts(row, "answers")?;
    let (mut exact, mut f1): (Option<bool>, f64) = (None, 0.0);
    for gold in golds {
        let gold = language.normalized(gold);
        exact = Some(exact.unwrap_or(false) || gold == predicted);
        f1 = f1.max(token_f1(words(&gold), words(&predicted)));
    }
    let exact = exact.ok_or("'answers' is empty")?;
    Ok(vec![("exact_match", json!(exact)), ("f1", json!(f1))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_language_has_its_articles() {
        for (language, text, expected) in [
            (Language::English, "The cat's", "cats"),
            (Language::German, "Der Hund, die Katze", "hund katze"),
            (Language::Spanish, "¿El sol?", "sol"),
            (Language::Arabic, "الكتاب في البيت", "كتاب في بيت"),
            (Language::Chinese, "北京ab c大", "北 京 ab c 大"),
            (Language::Hindi, "The a।", "the a"),
        ] {
            assert_eq!(language.normalized(text), expected);
        }
    }

    #[test]
    fn the_best_gold_counts() {
        let row = json!({ "answers": ["red dog", "cat"] });
        let scores = scores(row.as_object().unwrap(), &[json!(" a dog ")], Language::English).unwrap();
        assert_eq!(scores, [("exact_match", json!(false)), ("f1", json!(2.0 / 3.0))]);
    }
}
