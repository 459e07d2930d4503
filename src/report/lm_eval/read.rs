//! Reading lm_eval's result files.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

use crate::job::Digest;
use crate::store::{ImportedDocument, ImportedResults, ImportedScore};
use crate::task::{DocumentValue, Metric, RequestScore};

/// lm_eval files that cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// An I/O error.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that lm_eval did not write.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The error.
        reason: String,
    },
    /// No results.
    #[error("there is no results_*.json in {}", path.display())]
    None {
        /// The folder.
        path: PathBuf,
    },
}

/// The results in a folder, recursively, or in one file, the oldest first. Errors: see [`ReadError`].
pub fn read_results(path: &Path) -> Result<Vec<ImportedResults>, ReadError> {
    let mut files = Vec::new();
    if path.is_file() {
        files.push(path.to_owned());
    } else {
        result_files(path, &mut files).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
    }
    if files.is_empty() {
        return Err(ReadError::None { path: path.to_owned() });
    }
    // Names end with the time.
    files.sort_by_key(|file| file.file_name().map(std::ffi::OsStr::to_owned));
    files.iter().map(|file| read_file(file)).collect()
}

fn result_files(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            result_files(&path, files)?;
        } else if name.starts_with("results_") && name.ends_with(".json") {
            files.push(path);
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<ImportedResults, ReadError> {
    let malformed = |reason: &str| ReadError::Malformed { path: path.to_owned(), reason: reason.to_owned() };
    let text = std::fs::read(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
    // Python writes NaN and Infinity, which are not JSON.
    let spelled = String::from_utf8(text.clone()).map_err(|_| malformed("it is not UTF-8"))?;
    let json: Value = serde_json::from_str(&without_nan(&spelled))
        .map_err(|error| malformed(&format!("broken JSON: {error}")))?;
    let results = json["results"].as_object().ok_or_else(|| malformed("it has no 'results'"))?;
    let mut imported = ImportedResults {
        label: label(&json).ok_or_else(|| malformed("it names no model"))?,
        source: path.display().to_string(),
        harness: format!("lm_eval {}", json["lm_eval_version"].as_str().unwrap_or("of unknown version")),
        digest: Digest::of(&text),
        scores: Vec::new(),
        documents: Vec::new(),
        left_out: Vec::new(),
    };
    for (task, scores) in results {
        let filters = read_scores(task, scores, &json["n-samples"][task], &mut imported);
        if let Some(samples) = samples_of(path, task) {
            imported.documents.extend(read_samples(&samples, task, &filters)?);
        }
    }
    Ok(imported)
}

/// JSON in which Python's NaN, Infinity and -Infinity outside of strings are turned into strings.
fn without_nan(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut quoted) = (text, false);
    while let Some(c) = rest.chars().next() {
        let word =
            ["-Infinity", "Infinity", "NaN"].into_iter().find(|word| !quoted && rest.starts_with(word));
        if let Some(word) = word {
            out += &format!("\"{word}\"");
            rest = &rest[word.len()..];
            continue;
        }
        let escaped = quoted && c == '\\';
        let end = c.len_utf8() + if escaped { rest[1..].chars().next().map_or(0, char::len_utf8) } else { 0 };
        quoted ^= c == '"';
        out += &rest[..end];
        rest = &rest[end..];
    }
    out
}

/// A number, including those that JSON cannot represent.
fn number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    }
}

/// The last components of the model's name and the adapter's.
fn label(json: &Value) -> Option<String> {
    let arguments = &json["config"]["model_args"];
    let named = |key: &str| match arguments {
        Value::Object(map) => map.get(key).and_then(Value::as_str).map(str::to_owned),
        Value::String(text) => {
            let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(name, _)| *name == key).map(|(_, value)| value.to_owned()).next()
        }
        _ => None,
    };
    let last = |name: String| {
        let name = name.trim_end_matches('/').to_owned();
        name.rsplit('/').next().map(str::to_owned).unwrap_or(name)
    };
    let model = named("pretrained").or_else(|| json["model_name"].as_str().map(str::to_owned))?;
    let adapter = named("peft").map(|adapter| format!(" + {}", last(adapter))).unwrap_or_default();
    Some(format!("{}{adapter}", last(model)))
}

/// Adds a task's scores. If a metric has several filters, the one named `none` is used, else the first; the others are listed as left
/// out. Returns the filter of each metric.
fn read_scores(
    task: &str,
    scores: &Value,
    counts: &Value,
    imported: &mut ImportedResults,
) -> BTreeMap<Metric, String> {
    let mut filters: BTreeMap<Metric, String> = BTreeMap::new();
    let Some(scores) = scores.as_object() else { return filters };
    for key in scores.keys().filter(|key| !key.contains("_stderr,")) {
        let Some((name, filter)) = key.split_once(',') else { continue };
        match Metric::named(name).map(|metric| after(metric, filter)) {
            Some(metric) => {
                let mut unused = None;
                match filters.entry(metric) {
                    Entry::Vacant(place) => drop(place.insert(filter.to_owned())),
                    Entry::Occupied(mut known) if filter == "none" => {
                        unused = Some(known.insert(filter.to_owned()));
                    }
                    Entry::Occupied(_) => unused = Some(filter.to_owned()),
                }
                imported.left_out.extend(unused.map(|filter| format!("{task}: {name},{filter}")));
            }
            None => imported.left_out.push(format!("{task}: {key}")),
        }
    }
    let documents = counts["effective"].as_u64().or_else(|| scores.get("sample_len").and_then(Value::as_u64));
    for (metric, filter) in &filters {
        let name = metric.base().as_str();
        let Some(value) = scores.get(&format!("{name},{filter}")).and_then(number) else {
            imported.left_out.push(format!("{task}: {name},{filter} is not a number"));
            continue;
        };
        let stderr = scores.get(&format!("{name}_stderr,{filter}")).and_then(number);
        let stderr = stderr.filter(|error| !error.is_nan());
        let (task, documents) = (task.to_owned(), documents.unwrap_or_default());
        imported.scores.push(ImportedScore { task, metric: *metric, value, stderr, documents });
    }
    filters
}

/// A metric of answers after its filter; filters of log-likelihoods change nothing.
fn after(metric: Metric, filter: &str) -> Metric {
    use Metric::*;
    match metric {
        Acc | AccNorm | AccBytes | AccMutualInfo | Mcc | BrierScore | Perplexity | WordPerplexity
        | BytePerplexity | BitsPerByte => metric,
        of_answers => of_answers.after(filter),
    }
}

/// The samples file written with a results file.
fn samples_of(results: &Path, task: &str) -> Option<PathBuf> {
    let name = results.file_name()?.to_str()?;
    let stamp = name.strip_suffix(".json")?.rsplit_once('_')?.1;
    let path = results.with_file_name(format!("samples_{task}_{stamp}.jsonl"));
    path.is_file().then_some(path)
}

fn read_samples(
    path: &Path,
    task: &str,
    filters: &BTreeMap<Metric, String>,
) -> Result<Vec<ImportedDocument>, ReadError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
    let filter = filters.values().next().map_or("none", String::as_str);
    let mut documents = Vec::new();
    for (number, line) in text.split('\n').enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let malformed = |reason: String| {
            let reason = format!("line {}: {reason}", number + 1);
            ReadError::Malformed { path: path.to_owned(), reason }
        };
        let json: Value =
            serde_json::from_str(&without_nan(line)).map_err(|error| malformed(error.to_string()))?;
        if json["filter"].as_str() != Some(filter) {
            continue;
        }
        let document = json["doc_id"].as_u64().ok_or_else(|| malformed("it has no doc_id".to_owned()))?;
        let answers = json["filtered_resps"].as_array().into_iter().flatten();
        let own = filters.iter().filter(|(_, own)| *own == filter).map(|(metric, _)| *metric);
        let metrics = own.filter_map(|metric| Some((metric, value(&json[metric.base().as_str()])?)));
        documents.push(ImportedDocument {
            task: task.to_owned(),
            document: document as usize,
            requests: answers.filter_map(answer).collect(),
            metrics: metrics.collect(),
        });
    }
    Ok(documents)
}

/// `["-1.5", "False"]`, or `"-1.5"` for a whole string; none for generated output.
fn answer(answer: &Value) -> Option<RequestScore> {
    let (likelihood, greedy) = match answer {
        Value::Array(pair) => (pair.first()?.as_str()?, pair.get(1).and_then(Value::as_str) == Some("True")),
        other => (other.as_str()?, false),
    };
    Some(RequestScore { log_likelihood: likelihood.parse().ok()?, is_greedy: greedy })
}

fn value(json: &Value) -> Option<DocumentValue> {
    match json {
        Value::Array(parts) => {
            parts.iter().map(number).collect::<Option<Vec<f64>>>().map(DocumentValue::Parts)
        }
        other => number(other).map(DocumentValue::Number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(results: &str, samples: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("__models__tiny");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(inner.join("results_2026-01-02T03-04-05.678901.json"), results).unwrap();
        std::fs::write(inner.join("samples_a_b_2026-01-02T03-04-05.678901.jsonl"), samples).unwrap();
        folder
    }

    const RESULTS: &str = r#"{"results": {"a_b": {"alias": "a", "sample_len": 3, "acc,none": 0.5, "acc_stderr,none": NaN,
        "acc,other": 0.7, "spice,none": 3.0, "perplexity,none": NaN, "word_perplexity,none": 4.5, "word_perplexity_stderr,none": "N/A"}},
        "n-samples": {"a_b": {"original": 9, "effective": 2}}, "lm_eval_version": "0.4.13",
        "config": {"model_args": "pretrained=/models/tiny/,peft=runs/x,dtype=float32"}}"#;

    #[test]
    fn scores_and_documents_are_read_and_what_is_not_known_is_counted() {
        let samples = "{\"doc_id\": 4, \"filter\": \"none\", \"filtered_resps\": [[\"-1.5\", \"True\"], [\"-2.0\", \"False\"]], \"acc\": 1.0}\n{\"doc_id\": 4, \"filter\": \"other\", \"filtered_resps\": []}\n";
        let folder = folder(RESULTS, samples);
        let read = read_results(folder.path()).unwrap();
        let [results] = read.as_slice() else { panic!("one file") };
        let left_out = ["a_b: acc,other", "a_b: spice,none"];
        assert_eq!(
            (
                results.label.as_str(),
                results.harness.as_str(),
                results.left_out.iter().map(String::as_str).collect::<Vec<_>>().as_slice()
            ),
            ("tiny + x", "lm_eval 0.4.13", &left_out[..])
        );
        let shown: Vec<(Metric, f64, Option<f64>, u64)> =
            results.scores.iter().map(|s| (s.metric, s.value, s.stderr, s.documents)).collect();
        assert_eq!(
            format!("{shown:?}"),
            "[(Acc, 0.5, None, 2), (Perplexity, NaN, None, 2), (WordPerplexity, 4.5, None, 2)]"
        );
        assert_eq!(results.documents.len(), 1);
        assert_eq!((results.documents[0].document, results.documents[0].requests.len()), (4, 2));
        assert_eq!(results.documents[0].metrics, [(Metric::Acc, DocumentValue::Number(1.0))]);
    }

    #[test]
    fn files_that_are_none_say_so() {
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(read_results(empty.path()), Err(ReadError::None { .. })));
        for (text, reason) in
            [("{", "broken JSON"), ("{}", "no 'results'"), ("{\"results\": {}}", "names no model")]
        {
            let error = read_results(folder(text, "").path()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn words_in_strings_stay() {
        assert_eq!(
            without_nan(r#"{"NaN \" NaN": NaN, "a": -Infinity}"#),
            r#"{"NaN \" NaN": "NaN", "a": "-Infinity"}"#
        );
    }
}
