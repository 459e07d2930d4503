//! An adapter added to its base model, and compared with the adapter beside it.

use std::path::PathBuf;

use super::compare::{ComparedModel, compare_in, texts_as_tokens};
use super::{Session, SessionDevice, SessionError};
use crate::job::{Bytes, DType, Quantize};
use crate::protocol::{Difference, Event, MergeBase, MergeOrder, Order};
use crate::workspace::WorkspaceError;

/// What is merged.
#[derive(Debug, Clone)]
pub struct MergeRequest {
    /// The base model's file or folder.
    pub model: PathBuf,
    /// The adapter's folder.
    pub adapter: PathBuf,
    /// The folder to write, which is not there yet or empty.
    pub out: PathBuf,
    /// Which weights the adapter is added to.
    pub base: MergeBase,
    /// Compute dtype; that of a sweep on the device where it is not named.
    pub dtype: Option<DType>,
}

/// A merged model.
#[derive(Debug, Clone)]
pub struct Merged {
    /// Matrices that the adapter changed.
    pub changed: u64,
    /// Bytes of the weights.
    pub size: Bytes,
    /// How far it is from the adapter beside its base.
    pub difference: Difference,
}

/// Error: the folder has no adapter.
pub fn require_adapter(folder: &std::path::Path) -> Result<(), WorkspaceError> {
    let files = ["adapter_config.json", "adapter_model.safetensors"];
    match files.into_iter().find(|file| !folder.join(file).is_file()) {
        Some(file) => Err(WorkspaceError::NoAdapter { folder: folder.to_owned(), file }),
        None => Ok(()),
    }
}

/// Merges, and compares the result with the adapter beside its base. Errors: the folder is not empty, the engine's.
pub async fn merge(request: &MergeRequest, on: &SessionDevice) -> Result<Merged, WorkspaceError> {
    let MergeRequest { model, adapter, out, base, dtype } = request;
    if std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) || out.is_file() {
        return Err(WorkspaceError::NotEmpty(out.clone()));
    }
    require_adapter(adapter)?;
    let mut session = Session::start(on)?;
    let quantize = match base {
        MergeBase::Stored => Quantize::None,
        MergeBase::Dequantized(form) => *form,
    };
    let form = on.form(*dtype, quantize);
    session.load(model, form).await?;
    let order = MergeOrder { adapter: adapter.clone(), base: *base, out: out.clone() };
    let Event::Merged { changed, size } = session.carry_out(&Order::Merge(order), |_| Ok(())).await? else {
        return Err(SessionError::OtherAnswer.into());
    };
    let sequences = texts_as_tokens(model, None)?;
    let first = ComparedModel { model: model.clone(), form, adapter: Some(adapter.clone()) };
    let second = ComparedModel { model: out.clone(), form: on.form(*dtype, Quantize::None), adapter: None };
    let difference = compare_in(&mut session, &sequences, [&first, &second]).await?;
    Ok(Merged { changed, size, difference })
}
