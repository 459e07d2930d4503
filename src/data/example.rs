//! Tokens and labels of rows.

use super::error::DataError;
use super::rows::Row;
use super::template::{Part, RenderError, Template};
use crate::checkpoint::ModelTokenizer;
use crate::job::{Labels, Overlong};

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

/// The encoded rows of a data set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// One for each row that was kept.
    pub examples: Vec<Example>,
    /// Rows that were cut.
    pub truncated: u64,
    /// Rows that were left out.
    pub dropped: u64,
}

impl Encoded {
    /// Tokens of all rows.
    pub fn tokens(&self) -> u64 {
        self.examples.iter().map(|example| example.tokens.len() as u64).sum()
    }
}

/// How rows are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// Which tokens are scored.
    pub labels: Labels,
    /// Longest row in tokens.
    pub max_tokens: usize,
    /// What happens to a longer one.
    pub overlong: Overlong,
}

/// Encodes every row. Errors: no rows, a missing column, a template that fails, a row without a trainable token, a row
/// that is too long where that is refused; each with the row's number.
pub fn encode_rows(
    name: &str,
    rows: &[Row],
    template: &Template,
    tokenizer: &ModelTokenizer,
    encoding: Encoding,
) -> Result<Encoded, DataError> {
    let mut encoded = Encoded::default();
    for (index, row) in rows.iter().enumerate() {
        let (name, row_number) = (|| name.to_owned(), index + 1);
        let parts = template.render(row).map_err(|error| match error {
            RenderError::Column(column) => DataError::Column { name: name(), row: row_number, column },
            RenderError::Template(reason) => DataError::Template { name: name(), row: row_number, reason },
        })?;
        let mut example = encode_parts(&parts, template, tokenizer, encoding.labels)?;
        let (tokens, max) = (example.tokens.len(), encoding.max_tokens);
        if tokens > max {
            match encoding.overlong {
                Overlong::Truncate => {
                    example.tokens.truncate(max);
                    example.scored.truncate(max);
                    encoded.truncated += 1;
                }
                Overlong::Drop => {
                    encoded.dropped += 1;
                    continue;
                }
                Overlong::Refuse => {
                    return Err(DataError::Overlong { name: name(), row: row_number, tokens, max });
                }
            }
        }
        let silent = encoding.labels != Labels::All && says_nothing(&parts, encoding.labels);
        if silent || example.scored_tokens() == 0 {
            return Err(DataError::NoTrainableToken { name: name(), row: row_number });
        }
        encoded.examples.push(example);
    }
    if encoded.examples.is_empty() {
        return Err(DataError::Empty { name: name.to_owned() });
    }
    Ok(encoded)
}

/// Whether no scored part has any text of its own.
fn says_nothing(parts: &[Part], labels: Labels) -> bool {
    let mut turns = parts.iter().filter(|part| part.assistant).rev();
    match labels {
        Labels::All => false,
        Labels::Response => turns.next().is_none_or(|part| part.text.trim().is_empty()),
        Labels::Assistant => turns.all(|part| part.text.trim().is_empty()),
    }
}

/// Encodes the whole text at once and ends it with one end-of-sequence token. A part starts where the encoding of the
/// text before it ends. A turn is scored up to its own end-of-sequence token: what a template puts behind it is not the
/// model's to say.
fn encode_parts(
    parts: &[Part],
    template: &Template,
    tokenizer: &ModelTokenizer,
    labels: Labels,
) -> Result<Example, DataError> {
    let special = !template.has_special_tokens();
    let text: String = parts.iter().map(|part| part.text.as_str()).collect();
    let mut tokens = tokenizer.encode(&text, special)?;
    let last_turn = parts.iter().rposition(|part| part.assistant);
    let ends_itself = |tokens: &[u32]| tokenizer.eos().is_some_and(|eos| tokens.contains(&eos));
    let mut scored = vec![labels == Labels::All; tokens.len()];
    let (mut before, mut end) = (String::new(), 0);
    let mut turn_ends = false;
    for (number, part) in parts.iter().enumerate() {
        let start = end;
        before.push_str(&part.text);
        end = if number + 1 == parts.len() {
            tokens.len()
        } else {
            // A longer text can have fewer tokens where the seam merges: a part is then empty, never negative.
            tokenizer.encode(&before, special)?.len().clamp(start, tokens.len())
        };
        let wanted = match labels {
            Labels::All => false,
            Labels::Response => Some(number) == last_turn,
            Labels::Assistant => part.assistant,
        };
        let turn = &tokens[start..end];
        let own_end = tokenizer.eos().and_then(|eos| turn.iter().position(|token| *token == eos));
        if part.assistant {
            turn_ends = own_end.is_some();
        }
        if wanted {
            let last = own_end.map_or(end, |at| start + at + 1);
            scored[start..last].fill(true);
        }
    }
    if let Some(eos) = tokenizer.eos()
        && !turn_ends
        && !(special && ends_itself(&tokens[tokens.len().saturating_sub(1)..]))
    {
        tokens.push(eos);
        scored.push(true);
    }
    if let Some(first) = scored.first_mut() {
        *first = false;
    }
    Ok(Example { tokens, scored })
}
