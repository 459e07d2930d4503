//! TensorBoard's event files: a folder for a sweep, below it one for each job, with scalars and hyperparameters. W&B reads the same files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::error::TrackError;
use super::event_file::EventFile;
use super::protobuf::Message;
use super::{TrackedPart, TrackedPoint, file_name};
use crate::job::JobState;

/// A folder of event files.
#[derive(Debug)]
pub struct TensorBoard {
    folder: PathBuf,
    /// This process's file of each job: a file that another process began may end within a record.
    files: HashMap<String, EventFile>,
}

impl TensorBoard {
    /// Event files below a folder.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()),
            files: HashMap::new(),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn send(&mut self, part: &TrackedPart) -> Result<String, TrackError> {
        let run = match &part.run {
            Some(run) => run.clone(),
            // Labels of two jobs can become the same name.
            None => format!("{}-{:.8}", file_name(&part.label).display(), part.job),
        };
        let folder = self.folder.join(file_name(&part.sweep)).join(&run);
        let failed = |source| TrackError::Io { path: folder.clone(), source };
        let mut events = Vec::new();
        if part.run.is_none() {
            events.push(hyperparameters(part));
        }
        events.extend(part.points.iter().flat_map(|point| scalars(part, point)));
        let last = part.last_ms();
        events.extend(
            part.scores
                .iter()
                .filter(|(_, value)| value.is_finite())
                .map(|(name, value)| scalar(name, *value, part.last_step, last)),
        );
        if let Some((state, ended)) = part.end {
            events.push(end(state, ended));
        }
        let file = match self.files.get_mut(&part.job) {
            Some(file) => file,
            None => {
                std::fs::create_dir_all(&folder).map_err(failed)?;
                let file = new_file(&folder, part.started_ms).map_err(failed)?;
                self.files.entry(part.job.clone()).or_insert(file)
            }
        };
        file.write(&events).map_err(failed)?;
        if part.end.is_some() {
            // Thousands of jobs would be as many open files.
            self.files.remove(&part.job);
        }
        Ok(run)
    }
}

/// A file whose name sorts behind the others of the folder: TensorBoard reads them in this order.
fn new_file(folder: &Path, started_ms: i64) -> std::io::Result<EventFile> {
    let seconds = jiff::Timestamp::now().as_second();
    for number in 0.. {
        let name = format!("events.out.tfevents.{seconds}.{:03}.loragrid", number);
        match EventFile::create(&folder.join(name), started_ms as f64 / 1000.0) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && number < 999 => {}
            other => return other,
        }
    }
    Err(std::io::Error::other("no file name is left"))
}

fn scalars(part: &TrackedPart, point: &TrackedPoint) -> Vec<Message> {
    let time = part.time_ms(point);
    TrackedPart::numbers(point).map(|(name, value)| scalar(name, value, point.step, time)).collect()
}

/// `Event { wall_time, step, summary { value { tag, simple_value } } }`
fn scalar(tag: &str, value: f64, step: i64, time_ms: i64) -> Message {
    let value = Message::default().bytes(1, tag.as_bytes()).float(2, value as f32);
    event(step, time_ms, &value)
}

fn event(step: i64, time_ms: i64, value: &Message) -> Message {
    let summary = Message::default().bytes(1, &value.0);
    Message::default().double(1, time_ms as f64 / 1000.0).integer(2, step).bytes(5, &summary.0)
}

/// The settings for the plugin of hyperparameters: `SessionStartInfo { hparams, group_name, start_time_secs }`.
fn hyperparameters(part: &TrackedPart) -> Message {
    let mut info = Message::default();
    for (key, value) in &part.settings {
        // `google.protobuf.Value`: a number or a text.
        let value = match value.parse::<f64>() {
            Ok(number) if number.is_finite() => Message::default().double(2, number),
            _ => Message::default().bytes(3, value.as_bytes()),
        };
        let entry = Message::default().bytes(1, key.as_bytes()).bytes(2, &value.0);
        info = info.bytes(1, &entry.0);
    }
    let info = info.bytes(4, part.job.as_bytes()).double(5, part.started_ms as f64 / 1000.0);
    plugin_event("_hparams_/session_start_info", &Message::default().bytes(3, &info.0), part.started_ms)
}

/// `SessionEndInfo { status, end_time_secs }`
fn end(state: JobState, ended_ms: i64) -> Message {
    let status = match state {
        JobState::Done => 1,
        JobState::Failed | JobState::Diverged | JobState::Cancelled => 2,
        JobState::Queued | JobState::Paused | JobState::Running => 3,
    };
    let info = Message::default().integer(1, status).double(2, ended_ms as f64 / 1000.0);
    plugin_event("_hparams_/session_end_info", &Message::default().bytes(4, &info.0), ended_ms)
}

/// A value without data whose metadata are the plugin's.
fn plugin_event(tag: &str, content: &Message, time_ms: i64) -> Message {
    // The version of the plugin's data, 0, is what a missing field means.
    let data = Message::default().bytes(1, b"hparams").bytes(2, &content.0);
    let metadata = Message::default().bytes(1, &data.0);
    // A tensor of one number, as the plugin's own writer has it: DT_FLOAT with a shape of no dimension.
    let tensor = Message::default().integer(1, 1).bytes(2, &[]).float(5, 0.0);
    let value = Message::default().bytes(1, tag.as_bytes()).bytes(9, &metadata.0).bytes(8, &tensor.0);
    event(0, time_ms, &value)
}
