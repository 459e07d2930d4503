//! How prompts are put together beside what a task's file says.

use serde::{Deserialize, Serialize};

use crate::data::ChatSource;
use crate::job::PromptProfile;

/// Seed of lm_eval's few-shot generator.
const FEWSHOT_SEED: u64 = 1234;

/// How prompts are put together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompting {
    /// Whose prompts and tokens.
    pub profile: PromptProfile,
    /// What the model is told first.
    pub system: Option<String>,
    /// The chat template, where prompts go through one.
    pub chat: Option<ChatForm>,
    /// Seed of the generator that draws examples.
    pub fewshot_seed: u64,
}

/// A chat template, and how examples go through it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatForm {
    /// The template with what it reads.
    pub source: ChatSource,
    /// Whether each example is a turn of its own; otherwise all of it is one message.
    pub multiturn: bool,
}

impl Default for Prompting {
    fn default() -> Self {
        Self { profile: PromptProfile::LmEval, system: None, chat: None, fewshot_seed: FEWSHOT_SEED }
    }
}
