//! Prompt settings besides those in a task's file.

use serde::{Deserialize, Serialize};

use crate::data::{ChatSource, ChatTemplate};
use crate::jinja::TemplateDate;
use crate::job::PromptProfile;
use crate::pretrained::ModelTokenizer;

/// Seed of lm_eval's few-shot generator.
pub const FEWSHOT_SEED: u64 = 1234;

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

impl Prompting {
    /// For a model's tokenizer. `chat`: in its chat template, and whether each example is a turn of it. Error: it has no chat template,
    /// or one that does not compile.
    pub fn of_model(
        tokenizer: &ModelTokenizer,
        profile: PromptProfile,
        chat: Option<bool>,
        system: Option<String>,
        fewshot_seed: u64,
    ) -> Result<Self, String> {
        let chat = match (chat, tokenizer.chat_template(false)) {
            (None, _) => None,
            (Some(_), None) => return Err(tokenizer.no_chat_template()),
            (Some(multiturn), Some(source)) => {
                let template = ChatTemplate::of(source, tokenizer, TemplateDate::default())
                    .map_err(|reason| format!("the chat template does not compile: {reason}"))?;
                Some(ChatForm { source: template.source().clone(), multiturn })
            }
        };
        Ok(Self { profile, system, chat, fewshot_seed })
    }
}

impl Default for Prompting {
    fn default() -> Self {
        Self { profile: PromptProfile::LmEval, system: None, chat: None, fewshot_seed: FEWSHOT_SEED }
    }
}
