//! Training checkpoints: the full state for the next step, written atomically with a checksum; the newest two are kept.
//!
//! A file holds its SHA-256, the length of a JSON header, the header, and the elements of each tensor in it.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use floor::job::{AttemptNumber, Digest};
use floor::pretrained::sync_folder;
use floor::protocol::{StepReport, Trained};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tch::{Kind, Tensor};

use crate::failure::EngineError;
use crate::fault;

/// Number of checkpoints to keep.
const KEPT: usize = 2;
const ENDING: &str = "checkpoint";
/// Hexadecimal digits of the checksum.
const CHECKSUM: usize = 64;
/// Elements copied at once.
const PART: usize = 1 << 22;

/// Training state after a step, besides its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrainingState {
    /// The training key.
    pub(crate) key: Digest,
    /// Steps completed.
    pub(crate) step: u64,
    /// Tokens processed.
    pub(crate) tokens: u64,
    /// Seconds of training so far.
    pub(crate) seconds: f64,
    /// The reports of each step, which are sent again: the process that received them may have exited.
    pub(crate) reports: Vec<StepReport>,
    /// The last validation loss.
    pub(crate) validation_loss: Option<f64>,
    /// Whether the run was stopped during validation of the last step.
    #[serde(default)]
    pub(crate) unvalidated: bool,
    /// The optimizer's step count.
    pub(crate) optimizer_steps: i32,
}

#[derive(Serialize, Deserialize)]
struct Head {
    standing: TrainingState,
    /// Name, dtype and number of elements of each tensor.
    tensors: Vec<(String, String, i64)>,
}

/// Writes an attempt's checkpoint of named tensors `[elements]`, and removes all but the newest two that are not of a
/// later attempt. Error: I/O.
pub(crate) fn save(
    folder: &Path,
    attempt: AttemptNumber,
    state: &TrainingState,
    tensors: &[(&str, &Tensor)],
) -> Result<(), EngineError> {
    let path = folder.join(format!("{:010}-{:06}.{ENDING}", state.step, attempt.0));
    let io = |source| EngineError::Io { what: format!("writing {}", path.display()), source };
    let named = tensors
        .iter()
        .map(|(name, tensor)| ((*name).to_owned(), format!("{:?}", tensor.kind()), tensor.numel() as i64));
    let head = Head { standing: state.clone(), tensors: named.collect() };
    let head = serde_json::to_vec(&head).map_err(|error| io(error.into()))?;
    write_whole(&path, |file| {
        file.write_all(&(head.len() as u64).to_le_bytes())?;
        file.write_all(&head)?;
        tensors.iter().try_for_each(|(_, tensor)| write_elements(tensor, file))
    })
    .map_err(io)?;
    for old in files_up_to(folder, attempt).into_iter().skip(KEPT) {
        // An extra file does no harm.
        let _ = std::fs::remove_file(old);
    }
    Ok(())
}

/// The newest intact checkpoint of a training key; `fill` gets each tensor's name and elements and returns whether it
/// fits. Files that are damaged or of another run are skipped.
pub(crate) fn load(
    folder: &Path,
    key: Digest,
    mut fill: impl FnMut(&[(String, Tensor)]) -> bool,
) -> Option<TrainingState> {
    files(folder).into_iter().find_map(|path| {
        let read = read(&path);
        if read.is_none() {
            tracing::warn!("{} is not whole, and is passed over", path.display());
        }
        let (state, tensors) = read?;
        (state.key == key && fill(&tensors)).then_some(state)
    })
}

/// The result of a finished training with this key and the reports of each step, in a file beside its checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Finished {
    /// The training key.
    pub(crate) key: Digest,
    /// The reports of each step.
    pub(crate) reports: Vec<StepReport>,
    /// The final report.
    pub(crate) trained: Trained,
}

const FINISHED: &str = "finished";

/// Records that a training finished and its adapter is written, so the result can be sent again. The receiver removes
/// the folder. Error: I/O.
pub(crate) fn finish(folder: &Path, attempt: AttemptNumber, finished: &Finished) -> Result<(), EngineError> {
    let path = folder.join(FINISHED);
    let io = |source| EngineError::Io { what: format!("writing {}", path.display()), source };
    let body = serde_json::to_vec(finished).map_err(|error| io(error.into()))?;
    write_whole(&path, |file| file.write_all(&body)).map_err(io)?;
    for old in files_up_to(folder, attempt) {
        // The folder's removal deletes any leftovers.
        let _ = std::fs::remove_file(old);
    }
    Ok(())
}

/// The result of a training with this key, if it finished and its file is intact.
pub(crate) fn finished(folder: &Path, key: Digest) -> Option<Finished> {
    let file = std::fs::read(folder.join(FINISHED)).ok()?;
    let finished: Finished = serde_json::from_slice(whole(&file)?).ok()?;
    (finished.key == key).then_some(finished)
}

/// Writes a file with a checksum of its body to a temporary name, renames it, and syncs the name to disk. A partial
/// file is removed.
fn write_whole(path: &Path, body: impl FnOnce(&mut Summed) -> std::io::Result<()>) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    // Another process may be running the same training.
    let beside = path.with_extension(format!("{}.incomplete", std::process::id()));
    let written = write_summed(&beside, body).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written?;
    sync_folder(folder)
}

/// The checksum comes first, so its space is reserved until the body is written.
fn write_summed(path: &Path, body: impl FnOnce(&mut Summed) -> std::io::Result<()>) -> std::io::Result<()> {
    let file = File::create(path)?;
    let mut summed = Summed { file: BufWriter::with_capacity(1 << 20, file), sum: Sha256::new() };
    summed.file.write_all(&[b'0'; CHECKSUM])?;
    fault::write("checkpoint")?;
    body(&mut summed)?;
    let Summed { file, sum } = summed;
    let mut file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(Digest::from_hasher(sum).to_string().as_bytes())?;
    file.sync_all()
}

/// A file hashed while it is written.
struct Summed {
    file: BufWriter<File>,
    sum: Sha256,
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// The file's body, if its checksum matches.
fn whole(file: &[u8]) -> Option<&[u8]> {
    let (sum, body) = file.split_at_checked(CHECKSUM)?;
    (Digest::of(body).to_string().as_bytes() == sum).then_some(body)
}

/// Checkpoint files, the newest first.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == ENDING))
        .collect();
    paths.sort();
    paths.reverse();
    paths
}

/// The checkpoint files of this and earlier attempts, the newest first.
fn files_up_to(folder: &Path, attempt: AttemptNumber) -> Vec<PathBuf> {
    let of = |path: &PathBuf| -> u32 {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // Names of earlier releases contain no attempt.
        name.split_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or_default()
    };
    files(folder).into_iter().filter(|path| of(path) <= attempt.0).collect()
}

fn read(path: &Path) -> Option<(TrainingState, Vec<(String, Tensor)>)> {
    let file = std::fs::read(path).ok()?;
    let body = whole(&file)?;
    let (length, rest) = body.split_at_checked(8)?;
    let length = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
    let (head, mut rest) = rest.split_at_checked(length)?;
    let head: Head = serde_json::from_slice(head).ok()?;
    let mut tensors = Vec::new();
    for (name, kind, elements) in head.tensors {
        let kind =
            [Kind::Float, Kind::BFloat16, Kind::Double].into_iter().find(|k| format!("{k:?}") == kind)?;
        let size = usize::try_from(elements).ok()?.checked_mul(kind.elt_size_in_bytes())?;
        let (bytes, others) = rest.split_at_checked(size)?;
        rest = others;
        tensors.push((name, Tensor::from_data_size(bytes, &[elements], kind)));
    }
    Some((head.standing, tensors))
}

/// Writes a tensor's elements as stored in memory, in pieces, so a large adapter's state is not copied as a whole.
fn write_elements(tensor: &Tensor, to: &mut impl Write) -> std::io::Result<()> {
    let flat = tensor.detach().contiguous().view([-1]);
    let (elements, width) = (flat.numel(), flat.kind().elt_size_in_bytes());
    let mut bytes = vec![0; PART.min(elements) * width];
    for start in (0..elements).step_by(PART) {
        let count = PART.min(elements - start);
        let part = flat.narrow(0, start as i64, count as i64).to_device(tch::Device::Cpu).contiguous();
        part.f_copy_data_u8(&mut bytes[..count * width], count).map_err(std::io::Error::other)?;
        to.write_all(&bytes[..count * width])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use floor::job::{Bytes, Seconds, Tokens};

    use super::*;

    fn standing(step: u64) -> TrainingState {
        let report = |step| StepReport {
            step,
            steps: 9,
            loss: 0.1 + 0.2,
            validation_loss: None,
            learning_rate: 1.0 / 3.0,
            tokens: Tokens(7),
            seconds: Seconds(1.5),
        };
        TrainingState {
            unvalidated: false,
            key: Digest::of(b"key"),
            step,
            tokens: 7,
            seconds: 1.5,
            reports: (1..=step).map(report).collect(),
            validation_loss: None,
            optimizer_steps: step as i32,
        }
    }

    #[test]
    fn the_newest_whole_one_of_the_run_is_read_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let flat = Tensor::from_slice(&[0.1f32, f32::MIN_POSITIVE, -3.0]);
        let half = flat.to_kind(Kind::BFloat16);
        for step in 1..=4 {
            save(
                folder.path(),
                AttemptNumber(1),
                &standing(step),
                &[("flat", &(&flat * step as f64)), ("half", &half)],
            )
            .unwrap();
        }
        assert_eq!(files(folder.path()).len(), KEPT);
        let whole = std::fs::read(&files(folder.path())[0]).unwrap();
        let read = |expected: u64| {
            let mut found = Vec::new();
            let state = load(folder.path(), Digest::of(b"key"), |tensors| {
                found = tensors.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
                true
            });
            assert_eq!(state, Some(self::standing(expected)));
            assert!(found[0].equal(&(&flat * expected as f64)) && found[1].equal(&half));
        };
        read(4);
        assert_eq!(load(folder.path(), Digest::of(b"another"), |_| true), None);
        // Truncated anywhere, the previous one is used.
        for cut in (0..whole.len()).step_by(10) {
            std::fs::write(&files(folder.path())[0], &whole[..cut]).unwrap();
            read(3);
        }
    }

    #[test]
    fn an_attempt_removes_nothing_of_a_later_one() {
        let folder = tempfile::tempdir().unwrap();
        let save = |attempt, step| save(folder.path(), AttemptNumber(attempt), &standing(step), &[]).unwrap();
        save(2, 5);
        (6..=9).for_each(|step| save(1, step));
        let names = || -> Vec<String> {
            let name = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
            files(folder.path()).into_iter().map(name).collect()
        };
        assert_eq!(names(), ["0000000009-000001", "0000000008-000001", "0000000005-000002"]);
        // The later attempt continues from the furthest intact checkpoint of any attempt, and removes older ones.
        save(2, 10);
        assert_eq!(names(), ["0000000010-000002", "0000000009-000001"]);
    }

    #[test]
    fn the_end_of_a_training_is_told_again_only_where_its_file_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let TrainingState { key, reports, .. } = standing(3);
        let trained = Trained {
            steps: 3,
            tokens: Tokens(7),
            seconds: Seconds(0.1),
            last_losses: 0.1 + 0.2,
            validation_loss: Some(1.0 / 3.0),
            trainable: 5,
            peak_memory: Bytes(9),
            adapter: Some(key),
        };
        let end = Finished { key, reports, trained };
        save(folder.path(), AttemptNumber(1), &standing(2), &[]).unwrap();
        finish(folder.path(), AttemptNumber(2), &end).unwrap();
        assert_eq!(finished(folder.path(), key), Some(end));
        assert_eq!(finished(folder.path(), Digest::of(b"another")), None);
        assert!(files(folder.path()).is_empty());
        let path = folder.path().join(FINISHED);
        let whole = std::fs::read(&path).unwrap();
        for cut in (0..whole.len()).step_by(10) {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(finished(folder.path(), key), None);
        }
    }
}
