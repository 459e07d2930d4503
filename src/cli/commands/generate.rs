//! `loragrid generate`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::GenerateArguments;
use crate::cli::downloads::local_model;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, write_error, write_json, write_part};
use crate::workspace::{Answer, Generator, Workspace};

pub(in crate::cli) fn run(arguments: &GenerateArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let model = local_model(&arguments.model, workspace)?;
    let adapter = arguments.adapter.as_deref().map(std::path::absolute).transpose()?;
    let form = arguments.load.form(arguments.load.quantize);
    block_on(async {
        let mut generator = Generator::start((model, form), adapter, &arguments.load.device()).await?;
        let prompt = generator.encode(&arguments.prompt, true)?;
        let stop = generator.tokenizer.stops();
        let limits = arguments.sampling.limits();
        let mut print = |part: &str| if is_json() { Ok(()) } else { write_part(part) };
        let answer = generator.answer(prompt, stop, &limits, &mut print).await?;
        if is_json() {
            write_json(&json!({
                "text": answer.text, "tokens": answer.tokens, "seconds": answer.seconds, "dtype": form.dtype,
            }))?;
        } else {
            write_part("\n")?;
            write_error(&speed(&answer));
        }
        Ok(ExitCode::Success)
    })
}

/// How fast an answer came.
pub(super) fn speed(answer: &Answer) -> String {
    format!("[{} tokens, {:.1} tokens/s]", answer.tokens, answer.tokens as f64 / answer.seconds.max(1e-9))
}
