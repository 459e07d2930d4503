//! The data of a sweep, encoded once for each encoding that the grid uses.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::context::{PlanContext, PlanStage};
use super::error::PlanError;
use super::models::PlannedModel;
use super::samples::PlannedSample;
use crate::data::{
    DataError, DataSource, Encoded, Encoding, PresetOrigin, Template, encode_rows, find_preset, read_encoded,
    write_encoded,
};
use crate::job::{Digest, JobConfig};
use crate::sweep_file::SampleSpec;

/// A data set in one encoding.
#[derive(Debug, Clone)]
pub struct PlannedData {
    /// Its name in the sweep file.
    pub name: String,
    /// Digest of the rows; of the name only, if the rows are not on this machine.
    pub identity: Digest,
    /// The template as applied.
    pub template: String,
    /// Training rows.
    pub rows: u64,
    /// Mean tokens per row.
    pub mean_tokens: f64,
    /// Tokens of the longest row.
    pub longest: u64,
    /// The encoded rows, if rows and tokenizer are on this machine.
    pub encoded: Option<Arc<Encoded>>,
    /// The file name of the encoded rows in the cache.
    pub cache_name: String,
    /// Whether a file of that name existed and was incomplete.
    damaged: bool,
}

impl PlannedData {
    /// Finds and encodes the data of a job and its samples. Rows that are not on this machine, or that no tokenizer can encode, are
    /// estimated from published figures. Errors: unknown, malformed, a row without a trainable token.
    pub(super) fn find(
        config: &JobConfig,
        model: &PlannedModel,
        folder: &Path,
        samples: Option<&SampleSpec>,
        context: &mut PlanContext<'_>,
    ) -> Result<(Self, Vec<PlannedSample>), PlanError> {
        (context.watch)(PlanStage::Rows { name: config.data.clone() });
        let source = match DataSource::training(&config.data, folder, &context.roots) {
            Ok(source) => source,
            Err(DataError::NotLocal { .. }) => return Ok((Self::published(config), Vec::new())),
            Err(error) => return Err(error.into()),
        };
        let identity = source.identity(context.digests)?;
        let Some(local) = &model.local else {
            return Ok((Self { identity, ..Self::published(config) }, Vec::new()));
        };
        let rows = source.rows()?;
        let template = Template::resolve(
            &config.template,
            rows.first(),
            &local.tokenizer,
            config.template_date,
            folder,
        )?;
        let encoding = Encoding {
            labels: config.train.labels,
            vocabulary: model.config.vocab_size,
            max_tokens: config.train.max_seq_length as usize,
            overlong: config.train.overlong,
        };
        let key = format!("{identity} {} {} {encoding:?} v3", model.identity.0, template.identity());
        let cache_name = format!("{}.rows", Digest::of(key.as_bytes()).prefix(32));
        let file = context.cache.as_ref().map(|folder| folder.join(&cache_name));
        let cached = file.as_ref().and_then(|file| read_encoded(file));
        let damaged = cached.is_none() && file.is_some_and(|file| file.exists());
        let mut encoded = match cached {
            Some(encoded) => encoded,
            None => encode_rows(&config.data, &rows, &template, &local.tokenizer, encoding)?,
        };
        // Generated rows store their strings under the names of several templates, so nothing is lost.
        if matches!(source, DataSource::Generated { .. }) {
            encoded.notes.clear();
        }
        let samples = samples.map(|samples| {
            PlannedSample::of_data(samples, config, &source, (&template, &local.tokenizer), encoding)
        });
        let data = Self {
            name: config.data.clone(),
            identity,
            template: template.identity(),
            rows: encoded.examples.len() as u64,
            mean_tokens: encoded.tokens() as f64 / encoded.examples.len() as f64,
            longest: encoded.longest(),
            encoded: Some(Arc::new(encoded)),
            cache_name,
            damaged,
        };
        Ok((data, samples.transpose()?.unwrap_or_default()))
    }

    /// Published figures of a data set.
    fn published(config: &JobConfig) -> Self {
        let (rows, mean_tokens) = match find_preset(&config.data).map(|preset| preset.origin) {
            Some(PresetOrigin::Hub { rows, mean_tokens, .. }) => (rows, mean_tokens as f64),
            _ => (0, 0.0),
        };
        Self {
            name: config.data.clone(),
            identity: Digest::of(format!("hub {}", config.data).as_bytes()),
            template: config.template.clone(),
            rows,
            mean_tokens: mean_tokens.min(config.train.max_seq_length as f64),
            longest: config.train.max_seq_length,
            encoded: None,
            cache_name: String::new(),
            damaged: false,
        }
    }

    /// The file of the encoded rows in the cache, written if it is missing or incomplete. Error: the system's.
    pub fn cache_in(&self, folder: &Path) -> std::io::Result<PathBuf> {
        let path = folder.join(&self.cache_name);
        if let Some(encoded) = self.encoded.as_ref().filter(|_| self.damaged || !path.is_file()) {
            std::fs::create_dir_all(folder)?;
            write_encoded(&path, encoded)?;
        }
        Ok(path)
    }
}
