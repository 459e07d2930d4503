//! `loragrid plan`

use std::collections::BTreeSet;

use crate::cli::ExitCode;
use crate::cli::arguments::{PlanArguments, SweepArguments};
use crate::cli::downloads::EventDisplay;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, show_table, stream_json, write_error, write_line};
use crate::device::{DeviceKind, Inventory, available_memory, cpu_slots, pack_rules};
use crate::job::{Bytes, Dequantize, Quantize, Seconds, counted};
use crate::plan::{Plan, PlannedJob, Throughput, Work};
use crate::report::{
    Cell, LONG_PLAN, folded_table, memory_table, plan_difference, plan_disk, plan_json, plan_table,
    settings_table,
};
use crate::scheduler::{PackRules, makespan};
use crate::workspace::Workspace;

pub(in crate::cli) fn run(arguments: &PlanArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let plan = block_on(planned(&arguments.sweep, workspace))?;
    if let Some(job) = &arguments.explain {
        explain(&plan, job)?;
    } else {
        show(&plan, arguments.all, workspace)?;
    }
    // The program ends here, and giving a hundred thousand jobs back one by one would take a tenth of its time.
    std::mem::forget(plan);
    Ok(ExitCode::Success)
}

/// What `submit` and `run` would do, without doing it: nothing is downloaded or queued.
pub(in crate::cli) async fn dry_run(
    sweep: &SweepArguments,
    workspace: &Workspace,
) -> Result<ExitCode, Failure> {
    show(&planned(sweep, workspace).await?, false, workspace)?;
    Ok(ExitCode::Success)
}

/// The plan of a sweep file; its warnings are shown.
async fn planned(sweep: &SweepArguments, workspace: &Workspace) -> Result<Plan, Failure> {
    let request = sweep.request();
    let spec = request.read()?;
    let (store, known, mut digests) = workspace.known_to_plan().await?;
    let mut display = EventDisplay::default();
    let watch = &mut |event| display.show(event);
    let plan = workspace.plan(&spec, &request.tasks()?, &known, &mut digests, watch)?;
    drop(display);
    if let Some(store) = store {
        // What is only read is not written: files are hashed again the next time.
        if !store.is_read_only() {
            store.remember(&digests).await?;
        }
        store.close().await;
    }
    plan.warnings.iter().for_each(|warning| write_error(&format!("warning: {warning}")));
    Ok(plan)
}

/// The jobs of a plan, folded by axis where there are many, and what is below them.
pub(in crate::cli) fn show(plan: &Plan, all: bool, workspace: &Workspace) -> Result<(), Failure> {
    if is_json() {
        return Ok(stream_json(&plan_json(plan, rules(workspace)))?);
    }
    let long = plan.jobs.len() > LONG_PLAN && !all;
    write_line(&show_table(&if long { folded_table(plan) } else { plan_table(plan) }))?;
    write_line(&summary(plan, rules(workspace)))?;
    Ok(())
}

/// The rules for packs on the devices of a workspace.
pub(in crate::cli) fn rules(workspace: &Workspace) -> PackRules {
    // GPUs that are elsewhere are planned as one.
    let slots = workspace.slots(&Inventory::find()).unwrap_or_else(|_| cpu_slots());
    pack_rules(&slots, workspace.pack)
}

/// How the jobs that are left run: together and one by one.
fn packs_line(plan: &Plan, rules: PackRules) -> Option<String> {
    let packs = plan.packs(rules);
    let jobs: usize = packs.iter().map(|pack| pack.jobs.len()).sum();
    let memory = packs.iter().map(|pack| pack.memory).max()?;
    let packed = makespan(packs.iter().map(|pack| pack.time), rules.slots);
    let alone = makespan(plan.to_run().map(|job| job.estimate.time), rules.slots);
    let most = packs.iter().map(|pack| pack.jobs.len()).max().unwrap_or(1);
    Some(format!(
        "packs: {} in {} of at most {most}, {memory} per pack; {packed} on {}, {alone} if run one by one",
        counted(jobs as u64, "job"),
        counted(packs.len() as u64, "pack"),
        counted(rules.slots as u64, "slot"),
    ))
}

/// Each resolved key of one job, then its memory.
fn explain(plan: &Plan, wanted: &str) -> Result<(), Failure> {
    let job = find_job(plan, wanted)?;
    write_line(&format!("{}  {}", job.id, job.label))?;
    write_line(&show_table(&settings_table(&job.settings)))?;
    if let Some(memory) = memory_table(plan, job) {
        write_line(&show_table(&memory))?;
    }
    Ok(())
}

/// The job with this label, or whose id starts with this text.
fn find_job<'a>(plan: &'a Plan, wanted: &str) -> Result<&'a PlannedJob, Failure> {
    let by_label = plan.jobs.iter().find(|job| job.label == wanted);
    let mut by_id = plan.jobs.iter().filter(|job| job.id.as_str().starts_with(wanted));
    by_label.or_else(|| by_id.next().filter(|_| by_id.next().is_none())).ok_or_else(|| {
        let message = format!("'{wanted}' does not match exactly one job");
        Failure::new(
            ExitCode::NotFound,
            message,
            "use an id or a label from `loragrid plan --all`".to_owned(),
        )
    })
}

/// The 4-bit forms of the jobs, and when they are dequantized.
fn four_bit(plan: &Plan) -> Vec<String> {
    let mut forms = BTreeSet::new();
    for job in &plan.jobs {
        let form = job.base_form();
        if form.quantize != Quantize::None {
            forms.insert((form.quantize.as_str(), form.dequantize == Dequantize::Keep));
        }
    }
    let line = |(form, keep): (&str, bool)| {
        if keep {
            format!(
                "{form}: dequantized once and kept in the compute dtype: 4-bit results, unquantized memory use"
            )
        } else {
            format!(
                "{form}: dequantized in every pass; train.dequantize = \"keep\" is faster and uses the memory of an unquantized model"
            )
        }
    };
    forms.into_iter().map(line).collect()
}

/// How many rows of a data set are trained on, where it is not all of them.
fn rows_used(plan: &Plan, place: usize) -> String {
    let rows = plan.data[place].rows;
    let used = plan.jobs.iter().filter_map(|job| match &job.work {
        Work::Train { data, config } if *data == place => {
            let left = rows - config.train.validation_rows(rows).min(rows);
            Some((config.train.rows(left).min(left), left))
        }
        _ => None,
    });
    let (least, most) =
        used.fold((u64::MAX, 0), |(least, most), (used, _)| (least.min(used), most.max(used)));
    match () {
        () if most == 0 || least >= rows => String::new(),
        () if least == most => format!(", {most} of them trained on"),
        () => format!(", {least} to {most} of them trained on"),
    }
}

/// The lines below the table.
pub(in crate::cli) fn summary(plan: &Plan, rules: PackRules) -> String {
    let (all, left) = (plan.jobs.len(), plan.to_run().count());
    let time: f64 = plan.to_run().map(|job| job.estimate.time.0).sum();
    let known = match plan.throughput.first() {
        Some(Throughput::Measured(rate)) => format!("measured rate: {rate:.0} tokens/s"),
        Some(Throughput::Derived(rate)) => {
            format!("rough: {rate:.0} tokens/s expected from this machine's matrix products")
        }
        Some(Throughput::Guessed(rate)) => {
            format!("rough: {rate:.1} tokens/s guessed, nothing was measured here")
        }
        None => "nothing to run".to_owned(),
    };
    let jobs = counted(all as u64, "job");
    let mut lines = vec![format!("{}: {jobs}, {left} to run, about {} ({known})", plan.name, Seconds(time))];
    for (at, model) in plan.models.iter().enumerate() {
        let dtype = plan.jobs.iter().find(|job| job.model == at).map_or("", |job| job.dtype.as_str());
        lines.push(format!(
            "model {}: {} parameters, {dtype}",
            model.name,
            Cell::Count(model.parameters).show()
        ));
    }
    lines.extend(four_bit(plan));
    for (place, data) in plan.data.iter().enumerate() {
        let template = if data.template.contains("{%") { "chat" } else { &data.template };
        let cut =
            data.encoded.as_ref().map(|e| format!(", {} truncated, {} dropped", e.truncated, e.dropped));
        let here = cut.unwrap_or_else(|| ", as published".to_owned());
        lines.push(format!(
            "data {} ({template}): {} rows of {:.0} tokens{here}{}",
            data.name,
            data.rows,
            data.mean_tokens,
            rows_used(plan, place)
        ));
    }
    let memory = plan.jobs.iter().filter_map(|job| job.estimate.memory).map(|memory| memory.total()).max();
    let (adapters, checkpoints) = plan_disk(plan);
    if let Some(memory) = memory {
        lines.push(format!("memory: at most {memory} per job"));
        let (slots, available) = (rules.slots as u64, available_memory());
        if matches!(plan.device, DeviceKind::Cpu { .. }) && memory.0.saturating_mul(slots) > available.0 {
            lines.push(format!(
                "warning: {} need more than the {available} available",
                counted(slots, "slot")
            ));
        }
    }
    lines.extend(packs_line(plan, rules));
    if adapters > Bytes(0) || checkpoints > Bytes(0) {
        lines.push(format!("disk: {adapters} for adapters, {checkpoints} for checkpoints during training"));
    }
    if let Some(most) = plan.keep.max_disk.filter(|most| Bytes(adapters.0 + checkpoints.0) > *most) {
        lines.push(format!("warning: this exceeds [keep] max_disk = {most}"));
    }
    if let Some((version, added, kept, dropped)) = plan_difference(plan) {
        lines.push(format!("since version {version}: {added} added, {kept} kept, {dropped} dropped"));
    }
    if let Some(older) = plan.last.as_ref().map(|last| last.older).filter(|older| *older > 0) {
        lines.push(format!(
            "{older} of its done jobs are of an earlier loragrid, whose numbers differ: they stay on their leaderboard, marked, and \
             count as undone here"
        ));
    }
    lines
        .extend(plan.blockers.iter().map(|blocker| format!("cannot run yet: {blocker}; {}", blocker.help())));
    lines.join("\n")
}
