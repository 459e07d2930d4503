//! A job by what a user calls it: its id, the start of it, or its label as `top` prints it.

use super::error::WorkspaceError;
use std::collections::BTreeMap;

use crate::job::{JobId, StoredOrigin, Value, find_key, short_name};
use crate::store::{LabeledJob, Store, StoreError, StoredJob};

/// The job that a text names: an id or its start, a label such as `r=16 lr=0.002` or `base`, or `SWEEP/LABEL` where several sweeps
/// have the label. Errors: no job, or several.
pub async fn job_named(store: &Store, text: &str) -> Result<StoredJob, WorkspaceError> {
    let missing = match store.job(text).await {
        Ok(job) => return Ok(job),
        Err(error @ StoreError::NoJob { found: 0, .. }) => error,
        Err(error) => return Err(error.into()),
    };
    let jobs = store.labeled_jobs().await?;
    let mut fitting = fitting(&jobs, text);
    let by_settings;
    if fitting.is_empty() {
        // A leaderboard of several sweeps labels rows by keys that no single sweep varies.
        by_settings = jobs_by_settings(store, text).await?;
        fitting = by_settings.iter().collect();
    }
    let mut ids: Vec<&JobId> = fitting.iter().map(|job| &job.id).collect();
    ids.sort();
    ids.dedup();
    match ids.as_slice() {
        [] => Err(WorkspaceError::NoJob(missing)),
        [id] => Ok(store.job(id.as_str()).await?),
        _ => Err(WorkspaceError::SeveralJobs {
            label: text.to_owned(),
            jobs: fitting.into_iter().cloned().collect(),
        }),
    }
}

/// The jobs of a label, in every sweep or in the one that is named before a slash.
fn fitting<'a>(jobs: &'a [LabeledJob], text: &str) -> Vec<&'a LabeledJob> {
    let of_sweep = text.split_once('/').filter(|(sweep, _)| jobs.iter().any(|job| job.sweep == *sweep));
    let (sweep, label) = of_sweep.map_or((None, text), |(sweep, label)| (Some(sweep), label));
    let wanted = Label::read(label);
    let fits = |job: &&LabeledJob| {
        sweep.is_none_or(|sweep| job.sweep == sweep)
            && (job.label == label || wanted.as_ref().is_some_and(|wanted| wanted.names(&job.label)))
    };
    jobs.iter().filter(fits).collect()
}

/// The jobs whose settings are those of a label.
async fn jobs_by_settings(store: &Store, text: &str) -> Result<Vec<LabeledJob>, StoreError> {
    let Some(label) = Label::read(text) else { return Ok(Vec::new()) };
    let jobs = store.jobs_with_settings().await?;
    let fits = |settings: &BTreeMap<String, (Value, StoredOrigin)>| {
        label.0.iter().all(|(wanted, value)| {
            let mut named = settings.iter().filter(|(path, _)| short_name(path) == wanted);
            named.any(|(_, (found, _))| spelled(&found.to_string().replace(' ', "")) == *value)
        })
    };
    Ok(jobs.into_iter().filter(|(_, settings)| fits(settings)).map(|(job, _)| job).collect())
}

/// One spelling of a number; any other text as it is.
fn spelled(value: &str) -> String {
    value.parse::<f64>().map_or(value.to_owned(), |number| format!("{number:e}"))
}

/// The settings of a label, in any order.
struct Label(Vec<(String, String)>);

impl Label {
    /// None unless the text is a list of `key=value`.
    fn read(text: &str) -> Option<Self> {
        let part = |part: &str| {
            let (key, value) = part.split_once('=')?;
            let key = find_key(key).map_or(key.to_owned(), |key| short_name(key.path).to_owned());
            Some((key, spelled(value)))
        };
        let mut parts: Vec<(String, String)> = text.split_whitespace().map(part).collect::<Option<_>>()?;
        parts.sort();
        (!parts.is_empty()).then_some(Self(parts))
    }

    /// Whether this is the other label, or all of it but the seed.
    fn names(&self, other: &str) -> bool {
        let Some(Self(mut other)) = Self::read(other) else { return false };
        if !self.0.iter().any(|(key, _)| key == "seed") {
            other.retain(|(key, _)| key != "seed");
        }
        self.0 == other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(sweep: &str, label: &str, id: &str) -> LabeledJob {
        LabeledJob { sweep: sweep.into(), label: label.into(), id: JobId::from_store(id.into()) }
    }

    #[test]
    fn a_label_is_found_in_any_order_with_long_keys_and_other_spellings_of_its_numbers() {
        let jobs = [
            job("a", "r=16 lr=0.002 seed=1", "1"),
            job("a", "r=16 lr=0.001 seed=1", "2"),
            job("a", "base", "3"),
            job("b", "r=16 lr=0.002 seed=1", "4"),
        ];
        let ids = |text: &str| -> Vec<String> {
            fitting(&jobs, text).iter().map(|job| job.id.to_string()).collect()
        };
        assert_eq!(ids("lr=2e-3 lora.rank=16"), ["1", "4"]);
        assert_eq!(ids("b/r=16 lr=0.002"), ["4"]);
        assert_eq!(ids("r=16 lr=0.001 seed=1"), ["2"]);
        assert_eq!(ids("base"), ["3"]);
        assert!(ids("r=16").is_empty() && ids("r=16 lr=0.002 seed=2").is_empty() && ids("").is_empty());
    }
}
