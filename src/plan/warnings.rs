//! Warnings of a valid plan about settings that may not be intended.

use super::{Plan, PlannedData, PlannedModel, Work};

/// Warnings of models, data and training settings.
pub(super) fn of(plan: &Plan) -> Vec<String> {
    let mut warnings: Vec<String> = plan.models.iter().flat_map(of_model).collect();
    for data in &plan.data {
        let positions = plan.jobs.iter().filter_map(|job| match &job.work {
            Work::Train { data: number, .. } if std::ptr::eq(&plan.data[*number], data) => {
                Some(plan.models[job.model].config.max_positions)
            }
            _ => None,
        });
        warnings.extend(of_data(data, positions.min()));
    }
    warnings.extend(of_training(plan));
    warnings.extend(without_validation(plan));
    warnings.extend(plan.tasks.iter().flat_map(|planned| planned.notes.iter().cloned()));
    let mut seen = std::collections::HashSet::new();
    warnings.retain(|warning| seen.insert(warning.clone()));
    warnings
}

fn of_model(model: &PlannedModel) -> Vec<String> {
    model.notes.iter().map(|note| format!("model {}: {note}", model.name)).collect()
}

/// Warnings about a data set's rows, for both `plan` and `data stats`.
pub fn of_data(data: &PlannedData, positions: Option<u64>) -> Vec<String> {
    let Some(encoded) = &data.encoded else { return Vec::new() };
    let rows = |count: u64| if count == 1 { "1 row".to_owned() } else { format!("{count} rows") };
    let mut notes: Vec<String> = Vec::new();
    let beyond = positions.map_or(0, |most| {
        encoded.examples.iter().filter(|example| example.tokens.len() as u64 > most).count() as u64
    });
    if let Some(most) = positions.filter(|_| beyond > 0) {
        notes.push(format!("{} have more tokens than the model's {most} positions", rows(beyond)));
    }
    notes.extend(encoded.notes.iter().map(|(note, count)| format!("{note} ({})", rows(*count))));
    notes.into_iter().map(|words| format!("data {}: {words}", data.name)).collect()
}

/// Validation that is asked for, and no rows for it.
fn without_validation(plan: &Plan) -> Option<String> {
    let every = plan.jobs.iter().find_map(|job| match &job.work {
        Work::Train { config, .. } if config.train.validation_split == 0.0 => config.train.validate_every,
        _ => None,
    })?;
    Some(format!(
        "train.validate_every = {every} has no effect without train.validation_split, the fraction of the rows for validation"
    ))
}

/// Trainings that end during warmup.
fn of_training(plan: &Plan) -> Option<String> {
    let mut short = plan.jobs.iter().filter_map(|job| match &job.work {
        Work::Train { config, .. } => {
            let (warmup, steps) = (config.train.warmup_steps, config.train.steps());
            (warmup > 0 && warmup >= steps).then(|| (job.label.clone(), warmup, steps))
        }
        Work::Base => None,
    });
    let (label, warmup, steps) = short.next()?;
    let more = match short.count() {
        0 => String::new(),
        more => format!(", and {more} more jobs"),
    };
    let s = if steps == 1 { "" } else { "s" };
    Some(format!(
        "train.warmup_steps = {warmup} is not below the {steps} step{s} of {label}{more}: the peak learning rate is never reached"
    ))
}
