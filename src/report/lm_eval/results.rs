//! The content of `results_*.json`.

use serde_json::{Map, Value, json};

use super::outcome::{Evaluation, TaskResult};
use super::samples::task_hash;
use crate::task::{Aggregate, Group, Metric};

/// The lm_eval version whose rules and files are reproduced.
const LM_EVAL: &str = "0.4.13";

/// lm_eval's position of a metric among those of a document.
pub(super) fn place(metric: Metric) -> usize {
    use Metric::*;
    let order = [
        Perplexity,
        Acc,
        F1,
        Mcc,
        AccNorm,
        AccBytes,
        ExactMatch,
        BrierScore,
        AccMutualInfo,
        WordPerplexity,
        BytePerplexity,
        BitsPerByte,
    ];
    order.iter().position(|known| *known == metric.base()).unwrap_or(order.len())
}

/// The content of `results_*.json`; `samples`: sample files are written beside it.
pub fn results_json(evaluation: &Evaluation, samples: bool) -> Value {
    let results = &evaluation.results;
    let mut all = Map::new();
    for result in results {
        all.insert(result.task.name.clone(), of_task(result));
    }
    let mut aggregating = Map::new();
    for root in &evaluation.roots {
        if let crate::task::Member::Group(group) = root {
            add_groups(evaluation, group, &mut all, &mut aggregating);
        }
    }
    let mut out = Map::new();
    out.insert("results".into(), all.into());
    if !aggregating.is_empty() {
        out.insert("groups".into(), aggregating.into());
    }
    let groups = evaluation.groups();
    let children = groups.iter().map(|group| (group.name.clone(), json!(evaluation.children(group))));
    out.insert("group_subtasks".into(), Value::Object(children.collect()));
    let of_tasks = |value: &dyn Fn(&TaskResult) -> Value| -> Map<String, Value> {
        results.iter().map(|result| (result.task.name.clone(), value(result))).collect()
    };
    out.insert("configs".into(), sorted(of_tasks(&config)));
    let mut versions = of_tasks(&version);
    versions.extend(groups.iter().map(|group| (group.name.clone(), json!(group.version))));
    out.insert("versions".into(), sorted(versions));
    let (shots, better) = inherited(evaluation);
    out.insert("n-shot".into(), sorted(shots));
    out.insert("higher_is_better".into(), sorted(better));
    let counts =
        |result: &TaskResult| json!({ "original": result.original, "effective": result.documents.len() });
    out.insert("n-samples".into(), Value::Object(of_tasks(&counts)));
    out.insert("config".into(), of_run(evaluation));
    out.extend(surroundings(evaluation));
    let hashes = if samples { of_tasks(&|result| json!(task_hash(result))) } else { Map::new() };
    out.insert("task_hashes".into(), hashes.into());
    out.extend(names(evaluation));
    Value::Object(out)
}

fn sorted(map: Map<String, Value>) -> Value {
    let mut entries: Vec<(String, Value)> = map.into_iter().collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Value::Object(entries.into_iter().collect())
}

fn stderr_json(stderr: Option<f64>) -> Value {
    stderr.map_or_else(|| json!("N/A"), |stderr| json!(stderr))
}

fn of_task(result: &TaskResult) -> Value {
    let mut entries = Map::new();
    entries.insert("name".into(), json!(result.task.name));
    entries.insert("alias".into(), json!(result.task.alias));
    entries.insert("sample_len".into(), json!(result.documents.len()));
    for filter in &result.task.filters {
        for Aggregate { metric, value, stderr, .. } in in_order(result) {
            // Filters of log-likelihoods change nothing: each has every metric.
            if result.task.generation.is_some() && metric.filter() != filter {
                continue;
            }
            let name = metric.base().as_str();
            entries.insert(format!("{name},{filter}"), json!(value));
            entries.insert(format!("{name}_stderr,{filter}"), stderr_json(stderr));
        }
    }
    Value::Object(entries)
}

/// A task's aggregates in lm_eval's order.
fn in_order(result: &TaskResult) -> Vec<Aggregate> {
    let mut aggregates = result.aggregates.clone();
    aggregates.sort_by_key(|aggregate| place(aggregate.metric));
    aggregates
}

/// A group's results after those of the groups in it.
fn add_groups(
    evaluation: &Evaluation,
    group: &Group,
    all: &mut Map<String, Value>,
    aggregating: &mut Map<String, Value>,
) {
    for member in &group.members {
        if let crate::task::Member::Group(inner) = member {
            add_groups(evaluation, inner, all, aggregating);
        }
    }
    let mut entries = Map::new();
    entries.insert("alias".into(), json!(group.alias));
    entries.insert("name".into(), json!(group.name));
    if !group.metrics.is_empty() {
        let sizes = group.tasks().into_iter().map(|number| evaluation.results[number].documents.len());
        entries.insert("sample_len".into(), json!(sizes.sum::<usize>()));
        let values = evaluation.values(group);
        for value in &values {
            let metric = value.metric.as_str();
            entries.insert(format!("{metric},{}", value.filter), json!(value.value));
            entries.insert(format!("{metric}_stderr,{}", value.filter), stderr_json(value.stderr));
        }
        if !values.is_empty() {
            let count = values
                .iter()
                .map(|value| (format!("{},{}", value.metric.as_str(), value.filter), json!(value.documents)));
            entries.insert("sample_count".into(), Value::Object(count.collect()));
        }
        aggregating.insert(group.name.clone(), Value::Object(entries.clone()));
    }
    all.insert(group.name.clone(), Value::Object(entries));
}

/// Examples and directions of tasks, and of groups whose direct members agree; a group is evaluated before the groups in it.
fn inherited(evaluation: &Evaluation) -> (Map<String, Value>, Map<String, Value>) {
    let (mut shots, mut better) = (Map::new(), Map::new());
    for result in &evaluation.results {
        shots.insert(result.task.name.clone(), json!(result.task.shots.count));
        let directions = result.task.metrics.iter().map(|metric| {
            (metric.metric.base().as_str().to_owned(), json!(metric.metric.higher_is_better()))
        });
        better.insert(result.task.name.clone(), Value::Object(directions.collect()));
    }
    for group in evaluation.groups() {
        let children = evaluation.children(group);
        let mut counts: Vec<Value> = children.iter().filter_map(|child| shots.get(*child).cloned()).collect();
        counts.dedup();
        if let [only] = counts.as_slice() {
            shots.insert(group.name.clone(), only.clone());
        }
        let mut all = Map::new();
        for directions in children.iter().filter_map(|child| better.get(*child)).filter_map(Value::as_object)
        {
            directions.iter().for_each(|(metric, direction)| {
                all.entry(metric.clone()).or_insert_with(|| direction.clone());
            });
        }
        if !all.is_empty() {
            better.insert(group.name.clone(), Value::Object(all));
        }
    }
    (shots, better)
}

fn version(result: &TaskResult) -> Value {
    let stated = result.task.config["metadata"]["version"].clone();
    if stated.is_null() { json!(result.task.version) } else { stated }
}

/// The task file as lm_eval shows it, with resolved settings.
fn config(result: &TaskResult) -> Value {
    let mut config = result.task.config.clone();
    config["num_fewshot"] = json!(result.task.shots.count);
    if let Some(generation) = &result.task.generation {
        config["generation_kwargs"] = generation.settings.kwargs.clone().into();
    }
    config
}

fn of_run(evaluation: &Evaluation) -> Value {
    json!({
        "model": "loragrid",
        "model_args": evaluation.model_args(),
        "model_num_parameters": evaluation.parameters,
        "model_dtype": evaluation.dtype,
        "model_revision": Value::Null,
        "model_sha": "",
        "softmax_dtype": evaluation.softmax,
        "prompt_profile": evaluation.profile,
        "batch_size": "auto",
        "batch_sizes": [],
        "device": "cpu",
        "use_cache": Value::Null,
        "limit": evaluation.limit,
        "bootstrap_iters": 100_000,
        "gen_kwargs": evaluation.gen_kwargs,
        "random_seed": 0,
        "numpy_seed": 1234,
        "torch_seed": 1234,
        "fewshot_seed": evaluation.fewshot_seed,
    })
}

fn surroundings(evaluation: &Evaluation) -> Map<String, Value> {
    let token = |token: &Option<(String, u32)>| match token {
        Some((text, id)) => json!([text, id.to_string()]),
        None => Value::Null,
    };
    let [bos, eos] = &evaluation.special;
    let fields = json!({
        "git_hash": Value::Null,
        "date": evaluation.date,
        "pretty_env_info": format!(
            "loragrid {} on {} {}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH
        ),
        "transformers_version": Value::Null,
        "lm_eval_version": LM_EVAL,
        "loragrid_version": env!("CARGO_PKG_VERSION"),
        "upper_git_hash": Value::Null,
        "tokenizer_pad_token": token(eos),
        "tokenizer_eos_token": token(eos),
        "tokenizer_bos_token": token(bos),
        "eot_token_id": eos.as_ref().map(|(_, id)| id),
        "max_length": evaluation.max_length,
    });
    fields.as_object().cloned().unwrap_or_default()
}

fn names(evaluation: &Evaluation) -> Map<String, Value> {
    let hash =
        |text: &Option<String>| text.as_ref().map(|text| crate::job::Digest::of(text.as_bytes()).to_string());
    let fields = json!({
        "model_source": "loragrid",
        "model_name": evaluation.name(),
        "model_name_sanitized": sanitised(evaluation.name()),
        "system_instruction": evaluation.system,
        "system_instruction_sha": hash(&evaluation.system),
        "fewshot_as_multiturn": evaluation.multiturn,
        "chat_template": evaluation.chat_template,
        "chat_template_sha": hash(&evaluation.chat_template),
        "total_evaluation_time_seconds": evaluation.seconds.to_string(),
        "scoring_time_seconds": evaluation.scoring.to_string(),
    });
    fields.as_object().cloned().unwrap_or_default()
}

/// A name as lm_eval turns it into a folder name: each run of `<>:/|\?*[]` and quotes becomes `__`.
pub fn sanitised(name: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in name.chars() {
        let bad = "\"<>:/|\\?*[]".contains(c);
        if bad && !inside {
            out += "__";
        } else if !bad {
            out.push(c);
        }
        inside = bad;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_name_becomes_a_folder_as_in_lm_eval() {
        assert_eq!(sanitised("/data/m:x//y[1]"), "__data__m__x__y__1__");
    }
}
