//! String → tokens with their byte ranges.

use std::ops::Range;

use super::exact::Exact;
use super::parse::ExpressionError;
use super::tree::Operator;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Word {
    Number(Exact),
    Text(String),
    Name(String),
    Operator(Operator),
    Not,
    Open,
    Close,
    OpenList,
    CloseList,
    Comma,
}

pub(super) type Span = Range<usize>;

/// The tokens of a string. Error: an invalid character, number or string literal.
pub(super) fn words(text: &str) -> Result<Vec<(Word, Span)>, (ExpressionError, Span)> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let (word, length) = next_word(&text[at..], c).map_err(|(e, length)| (e, at..at + length))?;
        words.push((word, at..at + length));
        at += length;
    }
    Ok(words)
}

/// The first token of a string that starts with `c`, and its length in bytes.
fn next_word(text: &str, c: char) -> Result<(Word, usize), (ExpressionError, usize)> {
    const SYMBOLS: &[(&str, Word)] = &[
        ("==", Word::Operator(Operator::Equal)),
        ("!=", Word::Operator(Operator::Unequal)),
        ("<=", Word::Operator(Operator::LessOrEqual)),
        (">=", Word::Operator(Operator::GreaterOrEqual)),
        ("&&", Word::Operator(Operator::And)),
        ("||", Word::Operator(Operator::Or)),
        ("<", Word::Operator(Operator::Less)),
        (">", Word::Operator(Operator::Greater)),
        ("+", Word::Operator(Operator::Add)),
        ("-", Word::Operator(Operator::Subtract)),
        ("*", Word::Operator(Operator::Multiply)),
        ("/", Word::Operator(Operator::Divide)),
        ("!", Word::Not),
        ("(", Word::Open),
        (")", Word::Close),
        ("[", Word::OpenList),
        ("]", Word::CloseList),
        (",", Word::Comma),
    ];
    if let Some((symbol, word)) = SYMBOLS.iter().find(|(symbol, _)| text.starts_with(symbol)) {
        return Ok((word.clone(), symbol.len()));
    }
    match c {
        '\'' | '"' => {
            let end = text[1..].find(c).ok_or((ExpressionError::OpenText, text.len()))?;
            Ok((Word::Text(text[1..=end].to_owned()), end + 2))
        }
        '`' => {
            let end = text[1..].find(c).ok_or((ExpressionError::OpenText, text.len()))?;
            Ok((Word::Name(text[1..=end].to_owned()), end + 2))
        }
        '0'..='9' | '.' => {
            let length = number_length(text);
            let number = Exact::parse(&text[..length]);
            let error = (ExpressionError::Number(text[..length].to_owned()), length);
            number.map(|number| (Word::Number(number), length)).ok_or(error)
        }
        _ if c.is_ascii_alphabetic() || c == '_' => {
            let ends = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':'));
            let length = text.find(ends).unwrap_or(text.len());
            match &text[..length] {
                "in" => Ok((Word::Operator(Operator::In), length)),
                name => Ok((Word::Name(name.to_owned()), length)),
            }
        }
        _ => Err((ExpressionError::Character(c), c.len_utf8())),
    }
}

/// A sign is part of a number only right after the e of its exponent.
fn number_length(text: &str) -> usize {
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        let belongs =
            c.is_ascii_alphanumeric() || c == '.' || c == '_' || ("+-".contains(c) && "eE".contains(before));
        if !belongs {
            return at;
        }
        before = c;
    }
    text.len()
}
