//! Text from a model, token by token.

use std::path::PathBuf;

use super::{Session, SessionDevice, SessionError};
use crate::job::BaseForm;
use crate::pretrained::{Checkpoint, ModelTokenizer, TextStream};
use crate::protocol::{Event, GenerateOrder, Order, Sampling};
use crate::workspace::WorkspaceError;

/// How tokens are chosen, and how many.
#[derive(Debug, Clone, Copy)]
pub struct GenerationLimits {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most tokens of an answer.
    pub max_new_tokens: u64,
}

/// What the model said.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Tokens that were added.
    pub tokens: u64,
    /// How long it took, the prompt included.
    pub seconds: f64,
}

/// A loaded model that continues texts.
pub struct Generator {
    session: Session,
    /// Its tokenizer.
    pub tokenizer: ModelTokenizer,
    adapter: Option<PathBuf>,
}

impl Generator {
    /// Loads a model. Errors: it has no tokenizer, the engine's.
    pub async fn start(
        (model, form): (PathBuf, BaseForm),
        adapter: Option<PathBuf>,
        on: &SessionDevice,
    ) -> Result<Self, WorkspaceError> {
        let tokenizer = ModelTokenizer::open(&Checkpoint::open(&model)?)?;
        adapter.as_deref().map(super::require_adapter).transpose()?;
        let mut session = Session::start(on)?;
        session.load(&model, form).await?;
        Ok(Self { session, tokenizer, adapter })
    }

    /// Tokens of a prompt. Error: it is empty.
    pub fn encode(&self, text: &str, special_tokens: bool) -> Result<Vec<u32>, WorkspaceError> {
        let mut tokens = self.tokenizer.encode(text, special_tokens)?;
        if tokens.is_empty() {
            tokens.extend(self.tokenizer.prefix());
        }
        if tokens.is_empty() { Err(WorkspaceError::EmptyPrompt) } else { Ok(tokens) }
    }

    /// Continues a prompt until one of the tokens `stop`; whole characters go to `watch` as soon as they are there. Errors: the
    /// engine's, of `watch`.
    pub async fn answer(
        &mut self,
        prompt: Vec<u32>,
        stop: Vec<u32>,
        limits: &GenerationLimits,
        watch: &mut dyn FnMut(&str) -> std::io::Result<()>,
    ) -> Result<Answer, WorkspaceError> {
        let GenerationLimits { sampling, max_new_tokens } = *limits;
        let adapter = self.adapter.clone();
        let order = GenerateOrder { adapter, prompt, stop: stop.clone(), max_new_tokens, sampling };
        let (mut stream, mut text) = (TextStream::default(), String::new());
        let tokenizer = &self.tokenizer;
        let each = |event: &Event| {
            let Event::Token { token } = event else { return Ok(()) };
            if stop.contains(token) {
                return Ok(());
            }
            let part = stream.push(*token, tokenizer).unwrap_or_default();
            watch(&part)?;
            text.push_str(&part);
            Ok(())
        };
        let event = self.session.carry_out(&Order::Generate(order), each).await?;
        let Event::Generated { tokens, seconds } = event else {
            return Err(SessionError::OtherAnswer.into());
        };
        let rest = stream.finish(tokenizer)?;
        watch(&rest).map_err(SessionError::from)?;
        text.push_str(&rest);
        Ok(Answer { text, tokens: tokens.0, seconds: seconds.0 })
    }
}
