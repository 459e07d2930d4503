//! When an answer ends, and what is kept of it, as in lm_eval with transformers.

use crate::pretrained::{ModelTokenizer, TokenizerError};

/// Tokens that are looked at beyond those of a stop text itself.
const MORE: usize = 2;

/// Finds stop texts in what is generated, token by token.
#[derive(Debug, Clone, Default)]
pub struct StopWatch {
    /// Each stop text with the number of last tokens in which it is looked for.
    stops: Vec<(String, usize)>,
}

impl StopWatch {
    /// For these stop texts. Each is looked for in as many tokens as it has by itself, and two more. Error: the tokenizer's.
    pub fn new(stops: &[String], tokenizer: &ModelTokenizer) -> Result<Self, TokenizerError> {
        let window = |stop: &String| Ok((stop.clone(), tokenizer.encode(stop, false)?.len() + MORE));
        Ok(Self { stops: stops.iter().map(window).collect::<Result<_, TokenizerError>>()? })
    }

    /// Whether the answer ends with its last token. Only the last tokens are decoded, special ones included: a text that is spelled with
    /// more tokens than its window does not end the answer, and a special token can. Error: the tokenizer's.
    pub fn has_ended(&self, answer: &[u32], tokenizer: &ModelTokenizer) -> Result<bool, TokenizerError> {
        let mut decoded: Option<(usize, String)> = None;
        for (stop, window) in &self.stops {
            let window = (*window).min(answer.len());
            let text = match decoded.take() {
                Some((known, text)) if known == window => text,
                _ => tokenizer.decode(&answer[answer.len() - window..])?,
            };
            if text.contains(stop.as_str()) {
                return Ok(true);
            }
            decoded = Some((window, text));
        }
        Ok(false)
    }
}

/// What precedes the first occurrence of each stop text, in the order of the texts; empty ones cut nothing.
pub fn cut_at_stops<'a>(text: &'a str, stops: &[String]) -> &'a str {
    let stops = stops.iter().filter(|stop| !stop.is_empty());
    stops.fold(text, |text, stop| text.split_once(stop.as_str()).map_or(text, |(before, _)| before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_each_stop_in_turn() {
        let stops = ["END", "", "Q:"].map(str::to_owned);
        assert_eq!(cut_at_stops(" a Q: b END c", &stops), " a ");
        assert_eq!(cut_at_stops("ENDLESS", &stops), "");
        assert_eq!(cut_at_stops(" all of it ", &stops), " all of it ");
    }
}
