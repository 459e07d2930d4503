//! The model's requests, as strings and as tokens.

use serde::{Deserialize, Serialize};

use crate::job::PromptProfile;
use crate::pretrained::{ModelTokenizer, TokenizerError};
use crate::python::is_space;
use crate::task::definition::document::Document;
use crate::task::definition::task::Task;
use crate::task::error::TaskError;

/// Characters of a continuation shown in errors.
const SHOWN: usize = 40;

/// A string to compute the log-likelihood of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// A continuation after a context.
    Pair {
        /// The context.
        context: String,
        /// The scored continuation.
        continuation: String,
    },
    /// A whole text, of any length.
    Rolling {
        /// The text.
        text: String,
    },
    /// A context to answer.
    Generate {
        /// The context.
        context: String,
    },
}

impl Request {
    /// The unscored context; empty for a whole text.
    pub fn context(&self) -> &str {
        match self {
            Self::Pair { context, .. } | Self::Generate { context } => context,
            Self::Rolling { .. } => "",
        }
    }

    /// The scored string; empty for an answer, which is not known yet.
    pub fn scored(&self) -> &str {
        match self {
            Self::Pair { continuation, .. } => continuation,
            Self::Rolling { text } => text,
            Self::Generate { .. } => "",
        }
    }
}

/// A request as tokens: the model reads `input`, and its last `targets.len()` positions predict `targets`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EncodedRequest {
    /// Context and continuation without the last token.
    pub input: Vec<u32>,
    /// The continuation's tokens.
    pub targets: Vec<u32>,
    /// Number of context tokens dropped to fit the maximum length.
    pub cut: usize,
}

/// Encodes requests for one model.
#[derive(Debug, Clone, Copy)]
pub struct RequestEncoder<'a> {
    tokenizer: &'a ModelTokenizer,
    /// Maximum sequence length in tokens.
    max_positions: usize,
    /// Rows of the model's embedding.
    vocabulary: u64,
    profile: PromptProfile,
}

impl<'a> RequestEncoder<'a> {
    /// An encoder. Under [`PromptProfile::LitGpt2023`] no special token is added and an empty context becomes EOS, as
    /// in Lit-GPT's model wrapper for the harness of that year.
    pub fn new(
        tokenizer: &'a ModelTokenizer,
        max_positions: usize,
        vocabulary: u64,
        profile: PromptProfile,
    ) -> Self {
        Self { tokenizer, max_positions, vocabulary, profile }
    }

    /// The sequences of a request: one for a pair, one or more for a whole text. Errors: the tokenizer's, a model
    /// without a prefix token, a whitespace context, a continuation that is empty or exceeds the maximum length, a
    /// token without an embedding row.
    pub fn encode(&self, request: &Request) -> Result<Vec<EncodedRequest>, TaskError> {
        self.encode_after(request, &mut None)
    }

    /// The same; `known` is the last context with its tokens, which the choices of a document mostly share.
    fn encode_after<'r>(
        &self,
        request: &'r Request,
        known: &mut Option<(&'r str, Vec<u32>)>,
    ) -> Result<Vec<EncodedRequest>, TaskError> {
        let encoded = match request {
            Request::Pair { context, continuation } if context.is_empty() => {
                vec![self.bare(continuation)?]
            }
            Request::Pair { context, continuation } => {
                let before = match known.take() {
                    Some((text, tokens)) if text == context => tokens,
                    _ => self.text(context.trim_end_matches(is_space))?,
                };
                let (_, before) = known.insert((context, before));
                vec![self.pair(context, before, continuation)?]
            }
            Request::Rolling { text } => self.windows(text)?,
            Request::Generate { .. } => Vec::new(),
        };
        let mut tokens = encoded
            .iter()
            .flat_map(|encoded_request| encoded_request.input.iter().chain(&encoded_request.targets));
        match tokens.find(|token| u64::from(**token) >= self.vocabulary) {
            None => Ok(encoded),
            Some(token) => {
                let rows = self.vocabulary;
                let reason = format!("token {token} is beyond the model's embedding of {rows} rows");
                Err(TokenizerError::Encode { reason }.into())
            }
        }
    }

    /// The tokens of a context that is answered with at most `answer` tokens: the last ones that leave room for them. Errors: the
    /// tokenizer's, no room, no token, a token without an embedding row.
    pub fn prompt(&self, context: &str, answer: u64) -> Result<EncodedRequest, TaskError> {
        let wrong = |reason: String| TaskError::from(TokenizerError::Encode { reason });
        let most = usize::try_from(answer).ok().and_then(|answer| self.max_positions.checked_sub(answer));
        let Some(most) = most.filter(|most| *most > 0) else {
            let positions = self.max_positions;
            return Err(wrong(format!(
                "answers of up to {answer} tokens leave no room in the model's {positions} positions"
            )));
        };
        let mut input = self.text(context)?;
        let cut = input.len().saturating_sub(most);
        input.drain(..cut);
        if input.is_empty() {
            return Err(wrong("the prompt has no token".to_owned()));
        }
        if let Some(token) = input.iter().find(|token| u64::from(**token) >= self.vocabulary) {
            return Err(wrong(format!(
                "token {token} is beyond the model's embedding of {} rows",
                self.vocabulary
            )));
        }
        Ok(EncodedRequest { input, targets: Vec::new(), cut })
    }

    /// The prompt of a document that is answered; none for log-likelihoods. Error: as [`RequestEncoder::prompt`], with the document's
    /// location.
    pub fn prompt_of(&self, task: &Task, document: &Document) -> Result<Option<EncodedRequest>, TaskError> {
        let Some(generation) = &task.generation else { return Ok(None) };
        let context = document.requests.first().map_or("", Request::context);
        let placed = |error: TaskError| task.field_error(document.id, "doc_to_text", error.to_string());
        self.prompt(context, generation.settings.max_tokens).map(Some).map_err(placed)
    }

    /// The sequences of each request of a document. Error: as [`RequestEncoder::encode`], with the document's location.
    pub fn document(&self, task: &Task, document: &Document) -> Result<Vec<Vec<EncodedRequest>>, TaskError> {
        let field = if document.choices.is_empty() { "doc_to_target" } else { "doc_to_choice" };
        let placed = |error: TaskError| task.field_error(document.id, field, error.to_string());
        let mut known = None;
        let encode = |request| self.encode_after(request, &mut known).map_err(placed);
        document.requests.iter().map(encode).collect()
    }

    /// A continuation after an empty context, as in lm_eval's `_encode_pair`: the context is the prefix token.
    fn bare(&self, continuation: &str) -> Result<EncodedRequest, TaskError> {
        let tokens = self.tokenizer.encode(continuation, false)?;
        let prefix = self.prefix()?;
        let (input, targets) = match tokens.split_first() {
            Some((first, rest)) if *first == prefix => (vec![prefix], rest.to_vec()),
            _ => (vec![prefix], tokens),
        };
        self.joined(continuation, input, targets)
    }

    /// As in lm_eval's `_encode_pair`: trailing whitespace of the context moves to the continuation, the joined string
    /// is encoded, and the continuation's tokens follow the number of tokens of the context alone, `before`.
    fn pair(&self, context: &str, before: &[u32], continuation: &str) -> Result<EncodedRequest, TaskError> {
        let joined = self.text(&format!("{context}{continuation}"))?;
        let targets = joined.get(before.len()..).unwrap_or_default().to_vec();
        self.joined(continuation, before.to_vec(), targets)
    }

    /// A request of context and continuation, of which the last `max_positions` + 1 tokens are kept.
    fn joined(
        &self,
        continuation: &str,
        mut input: Vec<u32>,
        targets: Vec<u32>,
    ) -> Result<EncodedRequest, TaskError> {
        let wrong = |what: &str| {
            let shown: String = continuation.chars().take(SHOWN).collect();
            let more = if continuation.chars().count() > SHOWN { "…" } else { "" };
            let reason = format!("the continuation '{shown}{more}' {what}");
            TaskError::from(TokenizerError::Encode { reason })
        };
        if targets.is_empty() {
            return Err(wrong("has no token of its own"));
        }
        if targets.len() > self.max_positions {
            let (tokens, most) = (targets.len(), self.max_positions);
            return Err(wrong(&format!("has {tokens} tokens, the model reads {most}")));
        }
        if input.is_empty() {
            return Err(wrong("has a context of white space alone"));
        }
        input.extend(&targets);
        input.pop();
        let cut = input.len().saturating_sub(self.max_positions);
        input.drain(..cut);
        Ok(EncodedRequest { input, targets, cut })
    }

    /// As in lm_eval's rolling windows: each token is scored once, the first after the prefix token; the last window is
    /// filled up with preceding tokens.
    fn windows(&self, text: &str) -> Result<Vec<EncodedRequest>, TaskError> {
        let prefix = self.prefix()?;
        Ok(rolling(&self.text(text)?, prefix, self.max_positions))
    }

    fn prefix(&self) -> Result<u32, TaskError> {
        let token = match self.profile {
            PromptProfile::LmEval => self.tokenizer.prefix(),
            PromptProfile::LitGpt2023 => self.tokenizer.eos().or(self.tokenizer.bos()),
        };
        token.ok_or_else(|| {
            let reason = "the model has neither a BOS nor an EOS token to stand before it".to_owned();
            TokenizerError::Encode { reason }.into()
        })
    }

    /// Encodes a string with the tokenizer's own special tokens, unless it already starts with the prefix token.
    fn text(&self, text: &str) -> Result<Vec<u32>, TaskError> {
        let special = match self.profile {
            PromptProfile::LitGpt2023 => false,
            PromptProfile::LmEval => {
                let prefix =
                    self.tokenizer.prefix().map(|token| self.tokenizer.decode(&[token])).transpose()?;
                !prefix.is_some_and(|prefix| text.starts_with(&prefix))
            }
        };
        Ok(self.tokenizer.encode(text, special)?)
    }
}

/// The windows of a token sequence.
fn rolling(tokens: &[u32], prefix: u32, max: usize) -> Vec<EncodedRequest> {
    let mut windows = Vec::new();
    let mut done = 0;
    while done < tokens.len() {
        let end = tokens.len().min(done + max);
        let targets = tokens[done..end].to_vec();
        let input = if done == 0 {
            [&[prefix], &tokens[..end - 1]].concat()
        } else {
            tokens[end - 1 - max.min(end - 1)..end - 1].to_vec()
        };
        windows.push(EncodedRequest { input, targets, cut: 0 });
        done = end;
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_score_each_token_once_and_the_last_is_filled_up() {
        let windows = rolling(&(0..10).collect::<Vec<u32>>(), 99, 4);
        let expected: Vec<(Vec<u32>, Vec<u32>)> = vec![
            (vec![99, 0, 1, 2], vec![0, 1, 2, 3]),
            (vec![3, 4, 5, 6], vec![4, 5, 6, 7]),
            (vec![5, 6, 7, 8], vec![8, 9]),
        ];
        let pairs: Vec<_> = windows.into_iter().map(|window| (window.input, window.targets)).collect();
        assert_eq!(pairs, expected);
        assert!(rolling(&[], 99, 4).is_empty());
        assert_eq!(rolling(&[7], 99, 4)[0], EncodedRequest { input: vec![99], targets: vec![7], cut: 0 });
    }
}
