//! `loragrid verify`

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::VerifyArguments;
use crate::cli::downloads::local_model;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{write_json, write_line};
use crate::cli::session::{Session, tokenizer};
use crate::job::BaseForm;
use crate::pretrained::Checkpoint;
use crate::protocol::{CompareOrder, Difference, Event, Order};
use crate::workspace::Workspace;

/// Texts that any language model knows something about.
const TEXTS: &[&str] = &[
    "The capital of France is Paris, and the capital of Italy is Rome.",
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "def add(a, b):\n    return a + b\n\nprint(add(2, 3))",
    "Question: What is 17 plus 25?\nAnswer: 42",
    "Once upon a time there was a small robot who wanted to learn how to paint.",
    "Water boils at 100 degrees Celsius at sea level, and freezes at zero.",
    "La traduction de cette phrase est simple, mais elle demande un peu d'attention.",
    "1, 2, 3, 5, 8, 13, 21, 34, 55, 89",
];
/// Longest text in tokens.
const LONGEST: usize = 128;

pub(in crate::cli) fn run(arguments: &VerifyArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let a = local_model(&arguments.a, workspace)?;
    let b = local_model(&arguments.b, workspace)?;
    let texts = arguments.texts.as_deref().map(std::fs::read_to_string).transpose()?;
    let sequences = sequences(&a, texts.as_deref())?;
    let quantize = arguments.load.quantize;
    let forms =
        [quantize, arguments.quantize_b.unwrap_or(quantize)].map(|q| Session::form(&arguments.load, q));
    let adapter = |folder: &Option<PathBuf>| folder.as_deref().map(std::path::absolute).transpose();
    let (first, second) = (adapter(&arguments.adapter_a)?, adapter(&arguments.adapter_b)?);
    let difference = block_on(async {
        let mut session = Session::start(&arguments.load)?;
        probe_both(&mut session, &sequences, (&a, forms[0], first), (&b, forms[1], second)).await
    })?;
    let apart = |value: f64, bound: f64| value.is_nan() || value > bound;
    let within = !apart(difference.kl, arguments.max_kl)
        && !arguments.max_logit.is_some_and(|bound| apart(difference.largest_logit, bound));
    if arguments.json {
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

/// The tokens of texts, one a line of `own`; a model without a tokenizer is asked about numbers.
pub(super) fn sequences(model: &Path, own: Option<&str>) -> Result<Vec<Vec<u32>>, Failure> {
    let vocabulary = Checkpoint::open(model)?.config().vocab_size as u32;
    let Ok(tokenizer) = tokenizer(model) else {
        return Ok((1..=8)
            .map(|n| (0..24).map(|at| (n * 131 + at * at * 17) % vocabulary).collect())
            .collect());
    };
    let texts: Vec<&str> = own.map_or_else(|| TEXTS.to_vec(), |text| text.lines().collect());
    let mut sequences = Vec::new();
    for text in texts {
        let mut tokens = tokenizer
            .encode(text, true)
            .map_err(|error| Failure::new(ExitCode::Model, error.to_string(), None))?;
        tokens.truncate(LONGEST);
        if !tokens.is_empty() {
            sequences.push(tokens);
        }
    }
    if sequences.is_empty() {
        return Err(Failure::new(ExitCode::Usage, "there is no text to compare on", None));
    }
    Ok(sequences)
}

/// A model with how it is held and its adapter.
type Side<'a> = (&'a Path, BaseForm, Option<PathBuf>);

/// Compares two models in one engine, one after the other.
pub(super) async fn probe_both(
    session: &mut Session,
    sequences: &[Vec<u32>],
    first: Side<'_>,
    second: Side<'_>,
) -> Result<Difference, Failure> {
    let file = session.scratch().join("logits.safetensors");
    let mut found = None;
    for ((model, form, adapter), compare) in [(first, false), (second, true)] {
        session.load(model, form).await?;
        let order = CompareOrder { adapter, sequences: sequences.to_vec(), file: file.clone(), compare };
        if let Event::Probed { difference } = session.carry_out(&Order::Compare(order), |_| Ok(())).await? {
            found = difference;
        }
    }
    found.ok_or_else(|| Failure::new(ExitCode::Engine, "the engine compared nothing", None))
}
