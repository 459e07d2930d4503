//! `loragrid merge`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::MergeArguments;
use crate::cli::commands::verify::{probe_both, sequences};
use crate::cli::downloads::local_model;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{write_json, write_line};
use crate::cli::session::Session;
use crate::job::Quantize;
use crate::protocol::{Event, MergeBase, MergeOrder, Order};
use crate::workspace::Workspace;

pub(in crate::cli) fn run(arguments: &MergeArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let quantize = arguments.load.quantize;
    if arguments.dequantised != (quantize != Quantize::None) {
        let help =
            "--dequantised and --quantize FORM go together: the form says which weights the adapter knows";
        let message = "which weights the adapter is added to is not clear";
        return Err(Failure::new(ExitCode::Usage, message, help.to_owned()));
    }
    let model = local_model(&arguments.model, workspace)?;
    let adapter = std::path::absolute(&arguments.adapter)?;
    let out = std::path::absolute(&arguments.out)?;
    if std::fs::read_dir(&out).is_ok_and(|mut entries| entries.next().is_some()) || out.is_file() {
        let help = "name a folder that is not there yet, or remove this one".to_owned();
        return Err(Failure::new(ExitCode::Usage, format!("{} is not empty", out.display()), help));
    }
    let base = if arguments.dequantised { MergeBase::Dequantised(quantize) } else { MergeBase::Stored };
    block_on(async {
        let mut session = Session::start(&arguments.load)?;
        let form = Session::form(&arguments.load, quantize);
        session.load(&model, form).await?;
        let order = MergeOrder { adapter: adapter.clone(), base, out: out.clone() };
        let Event::Merged { changed, size } = session.carry_out(&Order::Merge(order), |_| Ok(())).await?
        else {
            return Err(Failure::new(ExitCode::Engine, "the engine answered something else", None));
        };
        let sequences = sequences(&model, None)?;
        let dense = Session::form(&arguments.load, Quantize::None);
        let (first, second) = ((model.as_path(), form, Some(adapter)), (out.as_path(), dense, None));
        let difference = probe_both(&mut session, &sequences, first, second).await?;
        let onto = match base {
            MergeBase::Stored => "the weights as they are stored".to_owned(),
            MergeBase::Dequantised(form) => format!("the weights after {} and back", form.as_str()),
        };
        if arguments.json {
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
