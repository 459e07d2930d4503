//! `loragrid verify`

use std::path::PathBuf;

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::VerifyArguments;
use crate::cli::downloads::local_model;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, write_json, write_line};
use crate::protocol::Difference;
use crate::workspace::{CompareRequest, ComparedModel, Workspace, compare_models};

pub(in crate::cli) fn run(arguments: &VerifyArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let a = local_model(&arguments.a, workspace)?;
    let b = local_model(&arguments.b, workspace)?;
    let texts = arguments.texts.as_deref().map(std::fs::read_to_string).transpose()?;
    let quantize = arguments.load.quantize;
    let side = |model: PathBuf, quantize, adapter: &Option<PathBuf>| -> Result<ComparedModel, Failure> {
        let adapter = adapter.as_deref().map(std::path::absolute).transpose()?;
        Ok(ComparedModel { model, form: arguments.load.form(quantize), adapter })
    };
    let models = [
        side(a, quantize, &arguments.adapter_a)?,
        side(b, arguments.quantize_b.unwrap_or(quantize), &arguments.adapter_b)?,
    ];
    let request = CompareRequest { models, texts };
    let difference = block_on(async { Ok(compare_models(&request, &arguments.load.device()).await?) })?;
    let apart = |value: f64, bound: f64| value.is_nan() || value > bound;
    let within = !apart(difference.kl, arguments.max_kl)
        && !arguments.max_logit.is_some_and(|bound| apart(difference.largest_logit, bound));
    if is_json() {
        write_json(&json!({ "difference": difference, "within": within }))?;
    } else {
        write_line(&sentence(&difference))?;
        write_line(if within { "within the bounds" } else { "over a bound" })?;
    }
    Ok(if within { ExitCode::Success } else { ExitCode::Apart })
}

/// The difference in one line.
pub(super) fn sentence(difference: &Difference) -> String {
    let Difference { largest_logit, kl, top1, positions } = difference;
    format!(
        "largest logit difference {largest_logit:.3e}, KL {kl:.3e} nats, top-1 agreement {:.1} % of {positions} positions",
        100.0 * top1
    )
}
