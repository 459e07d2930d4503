//! The plan, as tables and as JSON.

use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value as Json, json};

use super::table::{Cell, Column, Table};
use crate::device::DeviceKind;
use crate::job::{Bytes, JobId, Settings};
use crate::plan::{MemoryEstimate, Plan, PlannedJob, Throughput, Work};
use crate::scheduler::{Pack, PackRules, makespan};
use crate::sweep_file::KeepAdapters;

/// More jobs than this are folded by axis.
pub const LONG_PLAN: usize = 40;

/// One row per job.
pub fn plan_table(plan: &Plan) -> Table {
    let columns = vec![
        Column::text("job"),
        Column::text("run"),
        Column::number("trainable", None).weighing(3),
        Column::number("memory", None).weighing(4),
        Column::number("disk", None).weighing(2),
        Column::number("time", None).weighing(5),
        Column::text("to do"),
    ];
    let row = |job: &PlannedJob| {
        let size = |bytes: Bytes| Cell::Text(bytes.to_string());
        vec![
            Cell::Text(job.id.to_string()),
            Cell::Text(job.label.clone()),
            if job.trainable > 0 { Cell::Count(job.trainable) } else { Cell::Missing },
            job.estimate.memory.map_or(Cell::Missing, |memory| size(memory.total())),
            if job.trainable > 0 { size(job.estimate.adapter_disk) } else { Cell::Missing },
            if job.is_done() { Cell::Missing } else { Cell::Text(job.estimate.time.to_string()) },
            Cell::Text(to_do(plan, job)),
        ]
    };
    Table { columns, rows: plan.jobs.iter().map(row).collect() }
}

fn to_do(plan: &Plan, job: &PlannedJob) -> String {
    if plan.models[job.model].local.is_none() {
        return "unknown".to_owned();
    }
    match (job.train_missing, job.missing.len()) {
        (false, 0) => "done".to_owned(),
        (true, 0) => "train".to_owned(),
        (true, n) => format!("train, score {n}"),
        (false, n) => format!("score {n}"),
    }
}

/// One row per axis with its values, for plans that are too long to list.
pub fn folded_table(plan: &Plan) -> Table {
    let columns = vec![Column::text("axis"), Column::number("values", None), Column::text("from … to")];
    let row = |path: &&'static str| {
        let mut values: BTreeMap<String, usize> = BTreeMap::new();
        for (at, job) in
            plan.jobs.iter().enumerate().filter(|(_, job)| matches!(job.work, Work::Train { .. }))
        {
            if let Some(value) = job.settings.value(path) {
                values.entry(value.to_string()).or_insert(at);
            }
        }
        let mut shown: Vec<(&usize, &String)> = values.iter().map(|(value, at)| (at, value)).collect();
        shown.sort();
        let names: Vec<&str> = shown.iter().map(|(_, value)| value.as_str()).collect();
        let list = match names.as_slice() {
            [first @ .., last] if names.len() > 8 => format!("{}, …, {last}", first[..6].join(", ")),
            all => all.join(", "),
        };
        vec![Cell::Text((*path).to_owned()), Cell::Count(values.len() as u64), Cell::Text(list)]
    };
    Table { columns, rows: plan.axes.iter().map(row).collect() }
}

/// Each resolved key with its origin.
pub fn settings_table(settings: &Settings) -> Table {
    let columns = vec![Column::text("key"), Column::text("value"), Column::text("from")];
    let row = |(key, setting): (&crate::job::Key, &crate::job::Setting)| {
        let texts = [key.path.to_owned(), setting.value.to_string(), setting.origin.to_string()];
        texts.map(Cell::Text).to_vec()
    };
    Table { columns, rows: settings.iter().map(row).collect() }
}

/// The device kinds whose memory is shown.
const KINDS: [DeviceKind; 2] = [DeviceKind::Cpu { bf16: true }, DeviceKind::Cuda { capability: None }];

/// Tokens of the longest row that a job trains on.
fn longest_row(plan: &Plan, job: &PlannedJob) -> u64 {
    match job.work {
        Work::Train { data, .. } => plan.data[data].longest,
        Work::Base => 0,
    }
}

/// The components of a job's memory on each device kind.
pub fn memory_table(plan: &Plan, job: &PlannedJob) -> Option<Table> {
    let Work::Train { config, .. } = &job.work else { return None };
    let shape = &plan.models[job.model].config;
    let columns = [Column::text("device")].into_iter().chain(
        ["weights", "adapter", "optimizer", "activations", "logits", "runtime", "all"]
            .map(|part| Column::number(part, None)),
    );
    let longest = longest_row(plan, job);
    let row = |(name, device): (&str, DeviceKind)| {
        let memory = MemoryEstimate::of(shape, &config.train, &config.lora, (device, longest));
        let parts = [
            memory.weights,
            memory.adapter,
            memory.optimizer,
            memory.activations,
            memory.logits,
            memory.runtime,
            memory.total(),
        ];
        let sizes = parts.map(|bytes| Cell::Text(bytes.to_string()));
        [Cell::Text(name.to_owned())].into_iter().chain(sizes).collect()
    };
    let rows = [("CPU, passes of 1,024 tokens", KINDS[0]), ("GPU, passes of 4,096 tokens", KINDS[1])];
    Some(Table { columns: columns.collect(), rows: rows.map(row).to_vec() })
}

/// Disk use of the sweep: adapters kept under `[keep]`, and the checkpoints of the largest job.
pub fn plan_disk(plan: &Plan) -> (Bytes, Bytes) {
    let sizes = plan.jobs.iter().map(|job| job.estimate.adapter_disk.0);
    let adapters = match plan.keep.adapters {
        KeepAdapters::All => sizes.sum(),
        KeepAdapters::None => 0,
        KeepAdapters::Best(n) => {
            let mut sizes: Vec<u64> = sizes.collect();
            sizes.sort_unstable_by(|a, b| b.cmp(a));
            sizes.iter().take(n as usize).sum()
        }
    };
    let checkpoints = plan.jobs.iter().map(|job| job.estimate.checkpoint_disk.0).max().unwrap_or_default();
    (Bytes(adapters), Bytes(checkpoints))
}

/// Numbers of new, kept and dropped jobs since the sweep's last version.
pub fn plan_difference(plan: &Plan) -> Option<(i64, usize, usize, usize)> {
    let last = plan.last.as_ref()?;
    let kept = plan.jobs.iter().filter(|job| last.jobs.contains(&job.id)).count();
    Some((last.version, plan.jobs.len() - kept, kept, last.jobs.len() - kept))
}

/// The plan as one JSON object with its jobs in `jobs`, and its packs under these rules in `packs` and `makespan`.
pub fn plan_json(plan: &Plan, rules: PackRules) -> impl Serialize {
    PlanJson { head: head_json(plan, rules), plan }
}

/// The plan's object; jobs are serialized one after another, since a hundred thousand of them may not fit into memory.
struct PlanJson<'a> {
    head: Map<String, Json>,
    plan: &'a Plan,
}

impl Serialize for PlanJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.head.len() + 1))?;
        for (key, value) in &self.head {
            map.serialize_entry(key, value)?;
        }
        map.serialize_entry("jobs", &JobsJson(self.plan))?;
        map.end()
    }
}

struct JobsJson<'a>(&'a Plan);

impl Serialize for JobsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.jobs.iter().map(|job| job_json(self.0, job)))
    }
}

/// The members of a plan's object other than the jobs.
fn head_json(plan: &Plan, rules: PackRules) -> Map<String, Json> {
    let (adapters, checkpoints) = plan_disk(plan);
    let packs = plan.packs(rules);
    let models = plan.models.iter().zip(&plan.throughput).map(|(model, throughput)| {
        json!({
            "name": model.name,
            "parameters": model.parameters,
            "here": model.local.is_some(),
            "tokens_per_second": throughput.tokens_per_second(),
            "tokens_per_second_measured": matches!(throughput, Throughput::Measured(_)),
        })
    });
    let tasks = plan.tasks.iter().map(|planned| {
        json!({ "name": planned.task.name, "documents": planned.documents, "version": planned.version })
    });
    let data = plan.data.iter().map(|data| {
        json!({
            "name": data.name, "template": data.template, "rows": data.rows, "mean_tokens": data.mean_tokens,
            "here": data.encoded.is_some(),
            "truncated": data.encoded.as_ref().map(|encoded| encoded.truncated),
            "dropped": data.encoded.as_ref().map(|encoded| encoded.dropped),
        })
    });
    let blockers =
        plan.blockers.iter().map(|blocker| json!({ "message": blocker.to_string(), "help": blocker.help() }));
    let older = plan.last.as_ref().map_or(0, |last| last.older);
    let difference = plan_difference(plan).map(|(version, added, kept, dropped)| {
        json!({ "since_version": version, "added": added, "kept": kept, "dropped": dropped, "of_earlier_numbers": older })
    });
    let head = json!({
        "sweep": plan.name,
        "base_parameters": plan.models.first().map(|model| model.parameters),
        "models": models.collect::<Vec<_>>(),
        "data": data.collect::<Vec<_>>(),
        "tasks": tasks.collect::<Vec<_>>(),
        "disk": { "adapters": adapters, "checkpoints": checkpoints },
        "packs": packs.iter().map(|pack| pack_json(plan, pack)).collect::<Vec<_>>(),
        "makespan": {
            "slots": rules.slots,
            "packed": makespan(packs.iter().map(|pack| pack.time), rules.slots),
            "one_by_one": makespan(plan.to_run().map(|job| job.estimate.time), rules.slots),
        },
        "blockers": blockers.collect::<Vec<_>>(),
        "warnings": plan.warnings,
        "difference": difference,
    });
    match head {
        Json::Object(map) => map,
        _ => Map::new(),
    }
}

fn pack_json(plan: &Plan, pack: &Pack) -> Json {
    let jobs: Vec<&JobId> = pack.jobs.iter().map(|&at| &plan.jobs[at].id).collect();
    json!({ "jobs": jobs, "memory": pack.memory, "time": pack.time, "one_by_one": pack.alone })
}

fn job_json(plan: &Plan, job: &PlannedJob) -> Json {
    let settings = job.settings.iter().map(|(key, setting)| {
        (key.path.to_owned(), json!({ "value": setting.value, "from": setting.origin.to_string() }))
    });
    let model = &plan.models[job.model];
    let longest = longest_row(plan, job);
    let memory = |device| match &job.work {
        Work::Train { config, .. } => {
            Some(MemoryEstimate::of(&model.config, &config.train, &config.lora, (device, longest)).total())
        }
        _ => None,
    };
    json!({
        "id": job.id,
        "label": job.label,
        "model": model.name,
        "trainable_parameters": job.trainable,
        // A model that is not on this machine may have been trained elsewhere under the key of its content.
        "done": model.local.is_some().then(|| job.is_done()),
        "train": job.train_missing,
        "score": job.missing.iter().map(|&at| &plan.tasks[job.wanted[at].0].task.name).collect::<Vec<_>>(),
        "estimate": job.estimate,
        "memory_bytes": { "cpu": memory(KINDS[0]), "cuda": memory(KINDS[1]) },
        "settings": settings.collect::<serde_json::Map<_, _>>(),
    })
}
