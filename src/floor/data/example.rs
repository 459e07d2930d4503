//! Tokens and labels of rows.

use std::collections::BTreeMap;

use super::error::DataError;
use super::rows::Row;
use super::template::{Part, Rendered, Template};
use crate::cores::by_parts;
use crate::job::{Labels, Overlong};
use crate::pretrained::ModelTokenizer;

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
    /// One per row kept.
    pub examples: Vec<Example>,
    /// Truncated rows.
    pub truncated: u64,
    /// Dropped rows.
    pub dropped: u64,
    /// Notes about rows, such as unused columns: message → number of rows.
    pub notes: BTreeMap<String, u64>,
}

impl Encoded {
    /// Total tokens of all rows.
    pub fn tokens(&self) -> u64 {
        self.examples.iter().map(|example| example.tokens.len() as u64).sum()
    }

    /// Appends the rows after these.
    fn extend(&mut self, other: Self) {
        self.examples.extend(other.examples);
        self.truncated += other.truncated;
        self.dropped += other.dropped;
        for (note, count) in other.notes {
            *self.notes.entry(note).or_default() += count;
        }
    }

    /// Tokens of the longest row.
    pub fn longest(&self) -> u64 {
        self.examples.iter().map(|example| example.tokens.len() as u64).max().unwrap_or_default()
    }
}

/// Encoding options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// Which tokens are scored.
    pub labels: Labels,
    /// Rows of the model's embedding.
    pub vocabulary: u64,
    /// Longest row in tokens.
    pub max_tokens: usize,
    /// How longer rows are handled.
    pub overlong: Overlong,
}

/// Encodes every row. Errors: no rows, a missing column, a template that fails, a row without a trainable token, a
/// token without an embedding, a row that is too long if that is an error; each with the row's number.
pub fn encode_rows(
    name: &str,
    rows: &[Row],
    template: &Template,
    tokenizer: &ModelTokenizer,
    encoding: Encoding,
) -> Result<Encoded, DataError> {
    let chunks = by_parts(rows, PER_THREAD, |first, rows| {
        encode_chunk(name, rows, first, template, tokenizer, encoding)
    });
    let mut all = Encoded::default();
    for encoded in chunks {
        // Of several rows that are wrong the first is named.
        all.extend(encoded?);
    }
    if all.examples.is_empty() {
        return Err(DataError::Empty { name: name.to_owned() });
    }
    Ok(all)
}

/// Fewer rows than this are not worth another thread.
const PER_THREAD: usize = 256;

/// Encodes some rows, the first of which is row `first` of all, counted from 0.
fn encode_chunk(
    name: &str,
    rows: &[Row],
    first: usize,
    template: &Template,
    tokenizer: &ModelTokenizer,
    encoding: Encoding,
) -> Result<Encoded, DataError> {
    let mut encoded = Encoded::default();
    for (index, row) in (first..).zip(rows) {
        let at = |error| DataError::of_row(error, name, index + 1);
        let Rendered { parts, notes } = template.render(row).map_err(at)?;
        let mut example = encode_parts(&parts, template, tokenizer, encoding.labels)?;
        let (name, row_number) = (|| name.to_owned(), index + 1);
        if let Some(token) = example.tokens.iter().find(|token| u64::from(**token) >= encoding.vocabulary) {
            return Err(DataError::NoEmbedding {
                name: name(),
                row: row_number,
                token: *token,
                text: tokenizer.token(*token).unwrap_or_default(),
                rows: encoding.vocabulary,
            });
        }
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
        if encoding.labels == Labels::All
            && parts.iter().any(|part| part.assistant)
            && says_nothing(&parts, Labels::Response)
        {
            let note = "the response is empty: only the prompt and the end-of-sequence token are trained on";
            *encoded.notes.entry(note.to_owned()).or_default() += 1;
        }
        for note in notes.into_iter().collect::<std::collections::BTreeSet<_>>() {
            *encoded.notes.entry(note).or_default() += 1;
        }
        encoded.examples.push(example);
    }
    Ok(encoded)
}

/// Whether every scored segment is empty.
fn says_nothing(parts: &[Part], labels: Labels) -> bool {
    let mut turns = parts.iter().filter(|part| part.assistant).rev();
    match labels {
        Labels::All => false,
        Labels::Response => turns.next().is_none_or(|part| part.text.trim().is_empty()),
        Labels::Assistant => turns.all(|part| part.text.trim().is_empty()),
    }
}

/// Encodes the whole string at once and appends one end-of-sequence token. A segment starts where the encoding of the
/// string before it ends. A chat turn is scored up to the end-of-sequence token after its own content; anything the
/// template adds after that is not model output.
fn encode_parts(
    parts: &[Part],
    template: &Template,
    tokenizer: &ModelTokenizer,
    labels: Labels,
) -> Result<Example, DataError> {
    let chat = template.has_special_tokens();
    let text: String = parts.iter().map(|part| part.text.as_str()).collect();
    let (first, last) = if chat { (&[][..], &[][..]) } else { tokenizer.added() };
    let mut tokens = [first, &tokenizer.encode(&text, false)?].concat();
    // A longer string can have fewer tokens if the boundary merges: a segment is then empty, never negative.
    let length = |before: &str| -> Result<usize, DataError> {
        Ok((first.len() + tokenizer.encode(before, false)?.len()).min(tokens.len()))
    };
    let is_end = |token: &u32| tokenizer.eos() == Some(*token);
    let last_turn = parts.iter().rposition(|part| part.assistant);
    let mut scored = vec![labels == Labels::All; tokens.len()];
    // Where everything is scored, only a chat's turns ask where a segment ends.
    let has_boundaries = chat || labels != Labels::All;
    let (mut before, mut end) = (String::new(), 0);
    let mut ends_itself = false;
    for (number, part) in parts.iter().enumerate() {
        let start = end;
        let content = match part.assistant && chat {
            true => length(&format!("{before}{}", &part.text[..part.content_end]))?.max(start),
            false => start,
        };
        before.push_str(&part.text);
        let is_last = number + 1 == parts.len() || !has_boundaries;
        end = if is_last { tokens.len() } else { length(&before)?.max(start) };
        let wanted = match labels {
            Labels::All => false,
            Labels::Response => part.trained && Some(number) == last_turn,
            Labels::Assistant => part.trained && part.assistant,
        };
        let own_end = tokens[content.min(end)..end].iter().position(is_end).map(|at| content + at + 1);
        // A template with generation tags defines the end of a turn itself.
        let whole = part.content_end == part.text.len();
        if part.assistant {
            ends_itself = own_end.is_some() || whole && tokens[start..end].last().is_some_and(is_end);
        }
        if wanted {
            scored[start..own_end.filter(|_| chat && !whole).unwrap_or(end)].fill(true);
        }
    }
    if chat {
        // After a turn of another role there is nothing to score.
        let open =
            last_turn.is_some_and(|turn| parts[turn + 1..].iter().all(|part| part.text.trim().is_empty()));
        ends_itself |= !open;
    } else {
        ends_itself = tokens.last().is_some_and(is_end);
        if !ends_itself && last.first().is_some_and(is_end) {
            tokens.push(last[0]);
            scored.push(true);
            ends_itself = true;
        }
    }
    if let Some(eos) = tokenizer.eos().filter(|_| !ends_itself) {
        tokens.push(eos);
        let trained = last_turn.is_none_or(|turn| parts[turn].trained);
        scored.push(labels == Labels::All || trained);
    }
    if let Some(first) = scored.first_mut() {
        *first = false;
    }
    Ok(Example { tokens, scored })
}
