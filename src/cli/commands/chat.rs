//! `loragrid chat`

use std::io::{BufRead, IsTerminal};

use super::generate::speed;
use crate::cli::ExitCode;
use crate::cli::arguments::ChatArguments;
use crate::cli::downloads::local_model;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{write_error, write_part};
use crate::data::RenderError;
use crate::pretrained::{Checkpoint, ModelTokenizer};
use crate::workspace::{Generator, Workspace, WorkspaceError, usual_template};

/// Each line of standard input is a message; the end of input ends the talk.
pub(in crate::cli) fn run(arguments: &ChatArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let model = local_model(&arguments.model, workspace)?;
    let tokenizer = ModelTokenizer::open(&Checkpoint::open(&model)?).map_err(WorkspaceError::from)?;
    let template = usual_template(arguments.template.as_deref(), &tokenizer).map_err(unresolved)?;
    let adapter = arguments.adapter.as_deref().map(std::path::absolute).transpose()?;
    let terminal = std::io::stdin().is_terminal();
    if terminal {
        write_error("type a message and press Enter; Ctrl-D exits");
    }
    let message = |role: &str, content: &str| (role.to_owned(), content.to_owned());
    let mut messages: Vec<(String, String)> =
        arguments.system.iter().map(|system| message("system", system)).collect();
    block_on(async {
        let form = arguments.load.form(arguments.load.quantize);
        let mut generator = Generator::start((model, form), adapter, &arguments.load.device()).await?;
        let limits = arguments.sampling.limits();
        let mut lines = std::io::stdin().lock().lines();
        loop {
            if terminal {
                write_part("> ")?;
            }
            let Some(line) = lines.next().transpose()? else { break };
            if line.trim().is_empty() {
                continue;
            }
            messages.push(message("user", line.trim()));
            let text = template.prompt(&messages).map_err(unrendered)?;
            let prompt = generator.encode(&text, !template.has_special_tokens())?;
            let stop = tokenizer.chat_stops();
            let answer = generator.answer(prompt, stop, &limits, &mut write_part).await?;
            write_part("\n")?;
            write_error(&speed(&answer));
            messages.push(message("assistant", answer.text.trim()));
        }
        Ok(ExitCode::Success)
    })
}

/// A template that does not exist is a wrong argument.
fn unresolved(error: WorkspaceError) -> Failure {
    match error {
        WorkspaceError::Data(error) => Failure::new(ExitCode::Usage, error.to_string(), None),
        other => other.into(),
    }
}

fn unrendered(error: RenderError) -> Failure {
    let reason = match error {
        RenderError::Column(name) => format!("it needs '{name}'"),
        RenderError::Row(reason) | RenderError::Template(reason) => reason,
    };
    Failure::new(ExitCode::Model, format!("the chat template fails: {reason}"), None)
}
