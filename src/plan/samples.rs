//! The prompts that the subjects of a sweep answer, as defined in `[samples]`.

use super::error::PlanError;
use crate::data::{DataError, DataSource, Encoding, Part, RenderError, Row, Template, encode_rows};
use crate::job::{Digest, JobConfig, Overlong};
use crate::passes::split_rows;
use crate::pretrained::ModelTokenizer;
use crate::sweep_file::SampleSpec;

/// A prompt that every subject answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedSample {
    /// The prompt, as the model reads it.
    pub prompt: String,
    /// Whether the string contains its own special tokens.
    pub has_special_tokens: bool,
    /// The row's own response; none for a prompt from the file.
    pub wanted: Option<String>,
    /// Most tokens per answer.
    pub max_tokens: u64,
    /// Digest of the prompt and the length: an existing answer is not generated again.
    pub key: Digest,
}

impl PlannedSample {
    fn new(prompt: String, has_special_tokens: bool, wanted: Option<String>, max_tokens: u64) -> Self {
        let key = Digest::of(format!("sample {max_tokens} {has_special_tokens} {prompt}").as_bytes());
        Self { prompt, has_special_tokens, wanted, max_tokens, key }
    }

    /// The prompts of a sweep without training data: as they are in the file.
    pub(super) fn bare(spec: &SampleSpec) -> Vec<Self> {
        let sample = |prompt: &String| Self::new(prompt.clone(), false, None, spec.max_tokens);
        spec.prompts.iter().map(sample).collect()
    }

    /// The prompts of the file in the data's template, then the first validation rows. Errors: the data's, a template that fails, no
    /// validation row.
    pub(super) fn of_data(
        spec: &SampleSpec,
        config: &JobConfig,
        source: &DataSource,
        (template, tokenizer): (&Template, &ModelTokenizer),
        encoding: Encoding,
    ) -> Result<Vec<Self>, PlanError> {
        let special = template.has_special_tokens();
        let failed = |error: RenderError| PlanError::Samples {
            reason: match error {
                RenderError::Column(column) => format!("a row has no text in the column '{column}'"),
                RenderError::Row(reason) => reason,
                RenderError::Template(reason) => format!("the chat template fails: {reason}"),
            },
        };
        let mut samples = Vec::new();
        for prompt in &spec.prompts {
            let text = template.prompt(&[("user".to_owned(), prompt.clone())]).map_err(failed)?;
            samples.push(Self::new(text, special, None, spec.max_tokens));
        }
        if spec.rows == 0 {
            return Ok(samples);
        }
        let rows = source.rows()?;
        let kept: Vec<&Row> = kept_rows(config, &rows, template, tokenizer, encoding)?;
        let validation = config.train.validation_rows(kept.len() as u64) as usize;
        if validation == 0 {
            let reason =
                "rows of [samples] are those kept for validation: set train.validation_split".to_owned();
            return Err(PlanError::Samples { reason });
        }
        for &at in split_rows(kept.len(), validation).1.iter().take(spec.rows as usize) {
            let parts = template.render(kept[at]).map_err(failed)?.parts;
            // The first turn of a chat: everything before the assistant's first response.
            let text = |parts: &[Part]| parts.iter().map(|part| part.text.as_str()).collect::<String>();
            let first = parts.iter().position(|part| part.assistant).unwrap_or(parts.len());
            let end = parts[first..]
                .iter()
                .position(|part| !part.assistant)
                .map_or(parts.len(), |count| first + count);
            let wanted = text(&parts[first..end]);
            samples.push(Self::new(text(&parts[..first]), special, Some(wanted), spec.max_tokens));
        }
        Ok(samples)
    }
}

/// The training rows, in order: if long rows are dropped, each row is encoded to check.
fn kept_rows<'a>(
    config: &JobConfig,
    rows: &'a [Row],
    template: &Template,
    tokenizer: &ModelTokenizer,
    encoding: Encoding,
) -> Result<Vec<&'a Row>, PlanError> {
    if encoding.overlong != Overlong::Drop {
        return Ok(rows.iter().collect());
    }
    let mut kept = Vec::new();
    for row in rows {
        match encode_rows(&config.data, std::slice::from_ref(row), template, tokenizer, encoding) {
            Ok(_) => kept.push(row),
            // The row is dropped, and it was the only one.
            Err(DataError::Empty { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(kept)
}
