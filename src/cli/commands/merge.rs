//! `loragrid merge`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::MergeArguments;
use crate::cli::downloads::local_model;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, write_json, write_line};
use crate::job::Quantize;
use crate::protocol::MergeBase;
use crate::workspace::{MergeRequest, Merged, Workspace, merge};

pub(in crate::cli) fn run(arguments: &MergeArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let quantize = arguments.load.quantize;
    if arguments.dequantized != (quantize != Quantize::None) {
        let help =
            "use --dequantized together with --quantize FORM, the form that the adapter was trained on";
        let message = "--dequantized and --quantize must be used together";
        return Err(Failure::new(ExitCode::Usage, message, help.to_owned()));
    }
    let model = local_model(&arguments.model, workspace)?;
    let adapter = std::path::absolute(&arguments.adapter)?;
    let out = std::path::absolute(&arguments.out)?;
    let base = if arguments.dequantized { MergeBase::Dequantized(quantize) } else { MergeBase::Stored };
    let request = MergeRequest { model, adapter, out: out.clone(), base, dtype: arguments.load.dtype };
    block_on(async {
        let Merged { changed, size, difference } = merge(&request, &arguments.load.device()).await?;
        let onto = match base {
            MergeBase::Stored => "the weights as they are stored".to_owned(),
            MergeBase::Dequantized(form) => format!("the weights after {} and back", form.as_str()),
        };
        if is_json() {
            write_json(&json!({
                "out": out, "onto": onto, "changed": changed, "bytes": size.0, "difference": difference,
            }))?;
        } else {
            write_line(&format!(
                "{}: {size}, {changed} matrices changed, added to {onto}\nagainst the adapter beside its base: {}",
                out.display(),
                super::verify::sentence(&difference)
            ))?;
        }
        Ok(ExitCode::Success)
    })
}
