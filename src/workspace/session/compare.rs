//! Two models on the same texts: how far their logits are apart.

use std::path::{Path, PathBuf};

use super::{Session, SessionDevice, SessionError};
use crate::job::BaseForm;
use crate::pretrained::{Checkpoint, ModelTokenizer};
use crate::protocol::{CompareOrder, Difference, Event, Order};
use crate::workspace::WorkspaceError;

/// Texts that any language model knows something about.
const TEXTS: &[&str] = &[
    "The capital of France is Paris, and the capital of Italy is Rome.",
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "def add(a, b):\n    return a + b\n\nprint(add(2, 3))",
    "Question: What is 17 plus 25?\nAnswer: 42",
    "Once upon a time there was a small robot who wanted to learn how to paint.",
    "Water boils at 100 degrees Celsius at sea level, and freezes at zero.",
    "La traduction de cette phrase est simple, mais elle demande un peu d'attention.",
    "1, 2, 3, 5, 8, 13, 21, 34, 55, 89",
];
/// Longest text in tokens.
const LONGEST: usize = 128;

/// A model with how it is held and its adapter.
#[derive(Debug, Clone)]
pub struct ComparedModel {
    /// Its file or folder.
    pub model: PathBuf,
    /// How it is held.
    pub form: BaseForm,
    /// The folder of an adapter.
    pub adapter: Option<PathBuf>,
}

/// What is compared on what.
#[derive(Debug, Clone)]
pub struct CompareRequest {
    /// The two models.
    pub models: [ComparedModel; 2],
    /// Texts, one a line; some built-in ones where there are none.
    pub texts: Option<String>,
}

/// Compares two models in one engine, one after the other. Errors: no text, the engine's.
pub async fn compare_models(
    request: &CompareRequest,
    on: &SessionDevice,
) -> Result<Difference, WorkspaceError> {
    let [first, second] = &request.models;
    let sequences = texts_as_tokens(&first.model, request.texts.as_deref())?;
    let mut session = Session::start(on)?;
    compare_in(&mut session, &sequences, [first, second]).await
}

/// Compares two models in a running engine.
pub(super) async fn compare_in(
    session: &mut Session,
    sequences: &[Vec<u32>],
    models: [&ComparedModel; 2],
) -> Result<Difference, WorkspaceError> {
    let file = session.scratch().join("logits.safetensors");
    let mut found = None;
    for (ComparedModel { model, form, adapter }, compare) in models.into_iter().zip([false, true]) {
        session.load(model, *form).await?;
        let (adapter, sequences, file) = (adapter.clone(), sequences.to_vec(), file.clone());
        let order = Order::Compare(CompareOrder { adapter, sequences, file, compare });
        if let Event::Probed { difference } = session.carry_out(&order, |_| Ok(())).await? {
            found = difference;
        }
    }
    found.ok_or_else(|| SessionError::OtherAnswer.into())
}

/// The tokens of texts, one a line; a model without a tokenizer is asked about numbers.
pub(super) fn texts_as_tokens(model: &Path, texts: Option<&str>) -> Result<Vec<Vec<u32>>, WorkspaceError> {
    let checkpoint = Checkpoint::open(model)?;
    let vocabulary = checkpoint.config().vocab_size as u32;
    let Ok(tokenizer) = ModelTokenizer::open(&checkpoint) else {
        let numbers = |n: u32| (0..24).map(|at| (n * 131 + at * at * 17) % vocabulary).collect();
        return Ok((1..=8).map(numbers).collect());
    };
    let texts: Vec<&str> = texts.map_or_else(|| TEXTS.to_vec(), |text| text.lines().collect());
    let mut sequences = Vec::new();
    for text in texts {
        let mut tokens = tokenizer.encode(text, true)?;
        tokens.truncate(LONGEST);
        if !tokens.is_empty() {
            sequences.push(tokens);
        }
    }
    if sequences.is_empty() { Err(WorkspaceError::NoTexts) } else { Ok(sequences) }
}
