//! A context with a continuation, as text and as tokens.

use super::error::TaskError;
use crate::checkpoint::ModelTokenizer;

/// A text whose log-likelihood after another is wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    /// What stands before.
    pub context: String,
    /// What is scored.
    pub continuation: String,
}

/// A request as tokens: the model reads `input`, and its last `targets.len()` positions predict `targets`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EncodedRequest {
    /// Context and continuation without the last token.
    pub input: Vec<u32>,
    /// The continuation's tokens.
    pub targets: Vec<u32>,
}

/// Encodes as lm_eval's `_encode_pair` does: white space at the context's end moves to the continuation, the joined
/// text is encoded, and the continuation's tokens are those after as many as the context alone has. An empty context
/// is the prefix token. Only the last `max_positions` + 1 tokens are kept. Error: the tokenizer's; a model without a
/// prefix token.
pub fn encode_request(
    tokenizer: &ModelTokenizer,
    request: &Request,
    max_positions: usize,
) -> Result<EncodedRequest, TaskError> {
    let (context, targets) = if request.context.is_empty() {
        let continuation = tokenizer.encode(&request.continuation, false)?;
        let prefix = tokenizer.prefix().ok_or_else(|| {
            let reason = "the model has neither a BOS nor an EOS token to stand before it".to_owned();
            crate::checkpoint::TokenizerError::Encode { reason }
        })?;
        match continuation.split_first() {
            Some((first, rest)) if *first == prefix => (vec![prefix], rest.to_vec()),
            _ => (vec![prefix], continuation),
        }
    } else {
        let kept = request.context.trim_end();
        let moved = &request.context[kept.len()..];
        let context = tokenizer.encode(kept, true)?;
        let joined = tokenizer.encode(&format!("{kept}{moved}{}", request.continuation), true)?;
        let targets = joined.get(context.len()..).unwrap_or_default().to_vec();
        (context, targets)
    };
    if targets.is_empty() || targets.len() > max_positions {
        let reason = format!("the continuation '{}' has {} tokens", request.continuation, targets.len());
        return Err(crate::checkpoint::TokenizerError::Encode { reason }.into());
    }
    let mut input = context;
    input.extend(&targets);
    input.pop();
    let cut = input.len().saturating_sub(max_positions);
    input.drain(..cut);
    Ok(EncodedRequest { input, targets })
}
