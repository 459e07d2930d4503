//! `loragrid generate`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::{GenerateArguments, SamplingArguments};
use crate::cli::downloads::local_model;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{write_error, write_json, write_part};
use crate::cli::session::{Session, tokenizer};
use crate::job::Quantize;
use crate::pretrained::ModelTokenizer;
use crate::protocol::{Event, GenerateOrder, Order, Sampling};
use crate::workspace::Workspace;

pub(in crate::cli) fn run(arguments: &GenerateArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let model = local_model(&arguments.model, workspace)?;
    let tokenizer = tokenizer(&model)?;
    let adapter = arguments.adapter.as_deref().map(std::path::absolute).transpose()?;
    let prompt = encode(&tokenizer, &arguments.prompt, true)?;
    block_on(async {
        let mut session = Session::start(&arguments.load)?;
        session.load(&model, Session::form(&arguments.load, arguments.load.quantize)).await?;
        let order = generate_order(&arguments.sampling, &tokenizer, prompt, adapter);
        let answer = stream(&mut session, &tokenizer, order, !arguments.json).await?;
        if arguments.json {
            write_json(&json!({
                "text": answer.text, "tokens": answer.tokens, "seconds": answer.seconds,
                "dtype": Session::form(&arguments.load, Quantize::None).dtype,
            }))?;
        } else {
            write_part("\n")?;
            write_error(&answer.speed());
        }
        Ok(ExitCode::Success)
    })
}

/// What the model said.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) tokens: u64,
    pub(super) seconds: f64,
}

impl Answer {
    /// How fast it came.
    pub(super) fn speed(&self) -> String {
        format!("[{} tokens, {:.1} tokens/s]", self.tokens, self.tokens as f64 / self.seconds.max(1e-9))
    }
}

/// Tokens of a prompt. Error: none.
pub(super) fn encode(tokenizer: &ModelTokenizer, text: &str, special: bool) -> Result<Vec<u32>, Failure> {
    let fail = |error: String| Failure::new(ExitCode::Usage, error, None);
    let mut tokens = tokenizer.encode(text, special).map_err(|error| fail(error.to_string()))?;
    if tokens.is_empty() {
        tokens.extend(tokenizer.prefix());
    }
    if tokens.is_empty() { Err(fail("the prompt is empty".to_owned())) } else { Ok(tokens) }
}

/// The order of these arguments.
pub(super) fn generate_order(
    sampling: &SamplingArguments,
    tokenizer: &ModelTokenizer,
    prompt: Vec<u32>,
    adapter: Option<std::path::PathBuf>,
) -> GenerateOrder {
    let SamplingArguments { temperature, top_k, top_p, seed, max_new_tokens } = *sampling;
    GenerateOrder {
        adapter,
        prompt,
        stop: tokenizer.stops(),
        max_new_tokens,
        sampling: Sampling { temperature: temperature.max(0.0), top_k, top_p, seed },
    }
}

/// Generates; whole characters are printed as soon as they are there.
pub(super) async fn stream(
    session: &mut Session,
    tokenizer: &ModelTokenizer,
    order: GenerateOrder,
    print: bool,
) -> Result<Answer, Failure> {
    let stop = order.stop.clone();
    let mut tokens: Vec<u32> = Vec::new();
    let mut text = String::new();
    let ended = session
        .carry_out(&Order::Generate(order), |event| {
            let Event::Token { token } = event else { return Ok(()) };
            if stop.contains(token) {
                return Ok(());
            }
            tokens.push(*token);
            let whole = tokenizer.decode_generated(&tokens).unwrap_or_default();
            // The bytes of a character can come in several tokens.
            if !whole.ends_with('\u{FFFD}') && whole.len() > text.len() && whole.starts_with(text.as_str()) {
                if print {
                    write_part(&whole[text.len()..])?;
                }
                text = whole;
            }
            Ok(())
        })
        .await?;
    let Event::Generated { tokens, seconds } = ended else {
        return Err(Failure::new(ExitCode::Engine, "the engine answered something else", None));
    };
    Ok(Answer { text, tokens: tokens.0, seconds: seconds.0 })
}
