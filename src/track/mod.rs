//! Outside trackers: MLflow, TensorBoard (whose files W&B reads too) and Trackio. Each takes what a job did since the last update.

mod error;
mod event_file;
mod mlflow;
mod protobuf;
mod tensorboard;
mod trackio;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use error::TrackError;
pub use mlflow::Mlflow;
pub use tensorboard::TensorBoard;
pub use trackio::Trackio;

use crate::job::JobState;
use crate::store::TrackedPoint;

/// One update about a job.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackedPart {
    /// The sweep.
    pub sweep: String,
    /// The job.
    pub job: String,
    /// As the sweep calls it.
    pub label: String,
    /// The tracker's name for the run; none: it has received nothing of it yet.
    pub run: Option<String>,
    /// Resolved keys with their values.
    pub settings: BTreeMap<String, String>,
    /// Milliseconds since 1970 when it started.
    pub started_ms: i64,
    /// New points of its curve.
    pub points: Vec<TrackedPoint>,
    /// Every score, where one is new: `task/metric` with its value.
    pub scores: Vec<(String, f64)>,
    /// The step after which it was scored.
    pub last_step: i64,
    /// How it ended, if it did, with the time in milliseconds since 1970.
    pub end: Option<(JobState, i64)>,
}

impl TrackedPart {
    /// Milliseconds since 1970 of a point.
    fn time_ms(&self, point: &TrackedPoint) -> i64 {
        self.started_ms + (point.seconds * 1000.0) as i64
    }

    /// Milliseconds since 1970 of what follows the last point.
    fn last_ms(&self) -> i64 {
        let last = self.points.last().map_or(self.started_ms, |point| self.time_ms(point));
        self.end.map_or(last, |(_, ended)| ended)
    }

    /// The numbers of a point by name; those that are not finite are left out.
    fn numbers(point: &TrackedPoint) -> impl Iterator<Item = (&'static str, f64)> {
        let all = [
            ("train/loss", point.loss),
            ("validation/loss", point.validation_loss),
            ("train/learning_rate", Some(point.learning_rate)),
            ("train/tokens", Some(point.tokens as f64)),
        ];
        all.into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .filter(|(_, value)| value.is_finite())
    }
}

/// A tracker.
#[derive(Debug)]
pub enum Tracker {
    /// A server, by REST.
    Mlflow(Mlflow),
    /// A folder of event files.
    TensorBoard(TensorBoard),
    /// A project of Trackio's local store.
    Trackio(Trackio),
}

impl Tracker {
    /// Sends what a job did; the tracker's name for the run. Sending a part twice is allowed. Errors: the tracker's.
    pub fn send(&mut self, part: &TrackedPart) -> Result<String, TrackError> {
        match self {
            Self::Mlflow(tracker) => tracker.send(part),
            Self::TensorBoard(tracker) => tracker.send(part),
            Self::Trackio(tracker) => tracker.send(part),
        }
    }

    /// Its word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Mlflow(_) => "mlflow",
            Self::TensorBoard(_) => "tensorboard",
            Self::Trackio(_) => "trackio",
        }
    }

    /// Where it writes to.
    pub fn target(&self) -> String {
        match self {
            Self::Mlflow(tracker) => tracker.uri().to_owned(),
            Self::TensorBoard(tracker) => tracker.folder().display().to_string(),
            Self::Trackio(tracker) => tracker.file().display().to_string(),
        }
    }
}

/// A name as a file: no separators, no dots at its start.
fn file_name(text: &str) -> PathBuf {
    let sign = |c: char| if c.is_alphanumeric() || "-_=.,+ ".contains(c) { c } else { '_' };
    let name: String = text.trim().chars().map(sign).take(120).collect();
    PathBuf::from(match name.trim_start_matches('.') {
        "" => "_".to_owned(),
        name => name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_becomes_a_file_below_its_folder() {
        for (label, name) in
            [("r=8 lr=0.001", "r=8 lr=0.001"), ("../../etc/passwd", "_.._etc_passwd"), ("", "_"), ("..", "_")]
        {
            assert_eq!(file_name(label), PathBuf::from(name), "{label}");
        }
    }
}
