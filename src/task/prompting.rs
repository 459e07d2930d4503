//! How prompts are put together beside what a task's file says.

use serde::{Deserialize, Serialize};

use crate::data::ChatTemplate;
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

/// A chat template with what it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatForm {
    /// The template in Jinja.
    pub template: String,
    /// Text of the beginning-of-sequence token.
    pub bos: String,
    /// Text of the end-of-sequence token.
    pub eos: String,
    /// Whether each example is a turn of its own; otherwise all of it is one message.
    pub multiturn: bool,
}

impl ChatForm {
    /// The form of a template.
    pub fn new(template: &ChatTemplate, multiturn: bool) -> Self {
        let (bos, eos) = template.special();
        let (bos, eos) = (bos.to_owned(), eos.to_owned());
        Self { template: template.source().to_owned(), bos, eos, multiturn }
    }
}

impl Default for Prompting {
    fn default() -> Self {
        Self { profile: PromptProfile::LmEval, system: None, chat: None, fewshot_seed: FEWSHOT_SEED }
    }
}
