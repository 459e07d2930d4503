//! Tokens and labels of a row.

use super::error::DataError;
use super::rows::Row;
use super::template::Template;
use crate::checkpoint::ModelTokenizer;
use crate::job::Labels;

/// One training sequence. Token t is scored as the target of position t − 1 if `scored[t]`; the first token never is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Which tokens the loss scores; as long as `tokens`.
    pub scored: Vec<bool>,
}

impl Example {
    /// How many tokens the loss scores.
    pub fn scored_tokens(&self) -> usize {
        self.scored.iter().skip(1).filter(|scored| **scored).count()
    }
}

/// Encodes a prompt and its response together, ends them with exactly one end-of-sequence token, and cuts at
/// `max_tokens`. The response starts where the encoding of the prompt alone ends. Error: the tokenizer's.
pub fn encode_example(
    tokenizer: &ModelTokenizer,
    prompt: &str,
    response: &str,
    labels: Labels,
    max_tokens: usize,
) -> Result<Example, DataError> {
    let boundary = tokenizer.encode(prompt, true)?.len();
    let mut tokens = tokenizer.encode(&format!("{prompt}{response}"), true)?;
    if let Some(eos) = tokenizer.eos()
        && tokens.last() != Some(&eos)
    {
        tokens.push(eos);
    }
    tokens.truncate(max_tokens);
    let from = match labels {
        Labels::All => 1,
        Labels::Response => boundary.max(1),
    };
    let scored = (0..tokens.len()).map(|position| position >= from).collect();
    Ok(Example { tokens, scored })
}

/// Encodes every row. Errors: no rows, a missing column, a row without a trainable token (named).
pub fn encode_rows(
    name: &str,
    rows: &[Row],
    template: Template,
    tokenizer: &ModelTokenizer,
    labels: Labels,
    max_tokens: usize,
) -> Result<Vec<Example>, DataError> {
    if rows.is_empty() {
        return Err(DataError::Empty { name: name.to_owned() });
    }
    let encode = |(index, row): (usize, &Row)| {
        let number = index + 1;
        let missing = |column| DataError::Column { name: name.to_owned(), row: number, column };
        let (prompt, response) = template.render(row).map_err(missing)?;
        // An empty response leaves nothing to learn, whatever is scored.
        let example = encode_example(tokenizer, &prompt, &response, labels, max_tokens)?;
        if response.trim().is_empty() || example.scored_tokens() == 0 {
            return Err(DataError::NoTrainableToken { name: name.to_owned(), row: number });
        }
        Ok(example)
    };
    rows.iter().enumerate().map(encode).collect()
}
