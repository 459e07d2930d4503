//! MLflow by its REST API 2.0: an experiment for a sweep, a run for a job. What is sent twice is there once: a run is found by its tag,
//! and MLflow keeps one value for a metric, step and time.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value as Json, json};
use ureq::Agent;

use super::error::TrackError;
use super::{TrackedPart, TrackedPoint};
use crate::job::JobState;

/// Most values of a request, as the API has them.
const METRICS: usize = 1000;
const PARAMS: usize = 100;
/// Longest value of a parameter, in characters.
const PARAM_LENGTH: usize = 500;
/// The tag that names the job.
const TAG: &str = "loragrid.job";

/// A tracking server.
#[derive(Debug)]
pub struct Mlflow {
    uri: String,
    authorization: Option<Secret>,
    agent: Agent,
    /// Ids of experiments by their names.
    experiments: HashMap<String, String>,
}

/// A header that is never printed.
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Mlflow {
    /// A server at an address, with the secrets of MLflow's own clients: MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and
    /// MLFLOW_TRACKING_PASSWORD.
    pub fn new(uri: &str, variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let authorization = match (set("MLFLOW_TRACKING_TOKEN"), set("MLFLOW_TRACKING_USERNAME")) {
            (Some(token), _) => Some(Secret(format!("Bearer {token}"))),
            (None, Some(user)) => {
                let password = set("MLFLOW_TRACKING_PASSWORD").unwrap_or_default();
                Some(Secret(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))))
            }
            (None, None) => None,
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A request with a secret is not sent elsewhere.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(Duration::from_secs(30)))
            .user_agent(concat!("loragrid/", env!("CARGO_PKG_VERSION")))
            .build();
        let uri = uri.trim_end_matches('/').to_owned();
        let agent = Agent::new_with_config(config);
        Self { uri, authorization, agent, experiments: HashMap::new() }
    }

    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    pub(super) fn send(&mut self, part: &TrackedPart) -> Result<String, TrackError> {
        let run = match &part.run {
            Some(run) => run.clone(),
            None => self.begin(part)?,
        };
        let mut metrics: Vec<Json> = part.points.iter().flat_map(|point| metrics_of(part, point)).collect();
        let last = part.last_ms();
        metrics.extend(part.scores.iter().filter(|(_, value)| value.is_finite()).map(|(name, value)| {
            json!({ "key": allowed(name), "value": value, "timestamp": last, "step": part.last_step })
        }));
        for metrics in metrics.chunks(METRICS) {
            self.post("runs/log-batch", &json!({ "run_id": run, "metrics": metrics }))?;
        }
        let status = match part.end {
            None => json!({ "run_id": run, "status": "RUNNING" }),
            Some((state, ended)) => json!({ "run_id": run, "status": status(state), "end_time": ended }),
        };
        self.post("runs/update", &status)?;
        Ok(run)
    }

    /// The run of a job: one that has its tag, or a new one with its settings.
    fn begin(&mut self, part: &TrackedPart) -> Result<String, TrackError> {
        let experiment = self.experiment(&part.sweep)?;
        let filter = format!("tags.`{TAG}` = '{}'", part.job);
        let asked = json!({ "experiment_ids": [experiment], "filter": filter, "max_results": 1 });
        let found = self.post("runs/search", &asked)?;
        if let Some(run) = found["runs"][0]["info"]["run_id"].as_str() {
            return Ok(run.to_owned());
        }
        let tags = [("mlflow.runName", &part.label), (TAG, &part.job), ("loragrid.sweep", &part.sweep)];
        let tags = tags.map(|(key, value)| json!({ "key": key, "value": value }));
        let created = self.post(
            "runs/create",
            &json!({ "experiment_id": experiment, "start_time": part.started_ms, "run_name": part.label, "tags": tags }),
        )?;
        let run = created["run"]["info"]["run_id"].as_str().map(str::to_owned);
        let run = run.ok_or_else(|| self.unexpected("runs/create", "no run_id"))?;
        let params: Vec<Json> = part
            .settings
            .iter()
            .map(|(key, value)| {
                let value: String = value.chars().take(PARAM_LENGTH).collect();
                json!({ "key": allowed(key), "value": value })
            })
            .collect();
        for params in params.chunks(PARAMS) {
            self.post("runs/log-batch", &json!({ "run_id": run, "params": params }))?;
        }
        Ok(run)
    }

    /// The id of an experiment, which is made if there is none.
    fn experiment(&mut self, name: &str) -> Result<String, TrackError> {
        if let Some(known) = self.experiments.get(name) {
            return Ok(known.clone());
        }
        let path = format!(
            "experiments/get-by-name?experiment_name={}",
            utf8_percent_encode(name, NON_ALPHANUMERIC)
        );
        let found = match self.get(&path) {
            Err(TrackError::Refused { status: 404, .. }) => None,
            other => other?["experiment"]["experiment_id"].as_str().map(str::to_owned),
        };
        let id = match found {
            Some(id) => id,
            None => {
                let created = self.post("experiments/create", &json!({ "name": name }))?;
                let id = created["experiment_id"].as_str().map(str::to_owned);
                id.ok_or_else(|| self.unexpected("experiments/create", "no experiment_id"))?
            }
        };
        self.experiments.insert(name.to_owned(), id.clone());
        Ok(id)
    }

    fn get(&self, path: &str) -> Result<Json, TrackError> {
        let mut request = self.agent.get(self.url(path));
        if let Some(secret) = &self.authorization {
            request = request.header("Authorization", &secret.0);
        }
        self.read(path, request.call())
    }

    fn post(&self, path: &str, body: &Json) -> Result<Json, TrackError> {
        let mut request = self.agent.post(self.url(path)).header("Content-Type", "application/json");
        if let Some(secret) = &self.authorization {
            request = request.header("Authorization", &secret.0);
        }
        self.read(path, request.send(body.to_string().as_bytes()))
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/2.0/mlflow/{path}", self.uri)
    }

    fn shown(&self, path: &str) -> String {
        self.url(path.split('?').next().unwrap_or(path))
    }

    fn unexpected(&self, path: &str, reason: &str) -> TrackError {
        TrackError::Answer { url: self.shown(path), reason: reason.to_owned() }
    }

    fn read(
        &self,
        path: &str,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Json, TrackError> {
        let failed = |reason: String| TrackError::Network { url: self.shown(path), reason };
        let mut response = answer.map_err(|error| failed(error.to_string()))?;
        let text = response.body_mut().read_to_string().map_err(|error| failed(error.to_string()))?;
        let status = response.status().as_u16();
        if !response.status().is_success() {
            let message = text.chars().filter(|c| !c.is_control()).take(200).collect();
            return Err(TrackError::Refused { url: self.shown(path), status, message });
        }
        serde_json::from_str(&text).map_err(|error| self.unexpected(path, &error.to_string()))
    }
}

fn metrics_of(part: &TrackedPart, point: &TrackedPoint) -> Vec<Json> {
    let time = part.time_ms(point);
    TrackedPart::numbers(point)
        .map(|(name, value)| json!({ "key": name, "value": value, "timestamp": time, "step": point.step }))
        .collect()
}

fn status(state: JobState) -> &'static str {
    match state {
        JobState::Done => "FINISHED",
        JobState::Failed | JobState::Diverged => "FAILED",
        JobState::Cancelled => "KILLED",
        JobState::Queued | JobState::Paused => "SCHEDULED",
        JobState::Running => "RUNNING",
    }
}

/// A name of a metric or parameter: letters, digits and a few signs.
fn allowed(name: &str) -> String {
    let sign = |c: char| if c.is_ascii_alphanumeric() || "-_./ ".contains(c) { c } else { '_' };
    name.chars().map(sign).take(250).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_the_environment_and_are_not_printed() {
        let with = |pairs: &[(&str, &str)]| {
            let find = |name: &str| {
                pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            Mlflow::new("http://h/", &find)
        };
        let token = with(&[("MLFLOW_TRACKING_TOKEN", "hidden")]);
        assert_eq!(
            (token.uri(), token.authorization.as_ref().unwrap().0.as_str()),
            ("http://h", "Bearer hidden")
        );
        assert!(!format!("{token:?}").contains("hidden"));
        let basic = with(&[("MLFLOW_TRACKING_USERNAME", "a"), ("MLFLOW_TRACKING_PASSWORD", "b")]);
        assert_eq!(basic.authorization.unwrap().0, "Basic YTpi");
        assert!(with(&[]).authorization.is_none());
    }

    #[test]
    fn names_are_those_that_the_server_takes() {
        assert_eq!(allowed("gsm8k/exact_match,strict-match"), "gsm8k/exact_match_strict-match");
    }
}
