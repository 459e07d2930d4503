//! Prompt settings besides those in a task's file.

use serde::{Deserialize, Serialize};

use crate::data::ChatSource;
use crate::job::PromptProfile;

/// Seed of lm_eval's few-shot generator.
const FEWSHOT_SEED: u64 = 1234;

/// Prompt settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompting {
    /// Prompt and tokenization profile.
    pub profile: PromptProfile,
    /// The system instruction.
    pub system: Option<String>,
    /// The chat template, if prompts use one.
    pub chat: Option<ChatForm>,
    /// Seed for drawing examples.
    pub fewshot_seed: u64,
}

/// A chat template, and how examples are rendered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatForm {
    /// The template with its inputs.
    pub source: ChatSource,
    /// Whether each example is a separate turn; otherwise everything is one message.
    pub multiturn: bool,
}

impl Default for Prompting {
    fn default() -> Self {
        Self { profile: PromptProfile::LmEval, system: None, chat: None, fewshot_seed: FEWSHOT_SEED }
    }
}
