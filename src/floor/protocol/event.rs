//! Events from the engine to the orchestrator.

use serde::{Deserialize, Serialize};

use crate::job::{Bytes, Digest, Seconds, Tokens};
use crate::task::{DocumentValue, RequestScore};

/// An event in the engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The engine started; always the first event.
    Hello {
        /// [`super::PROTOCOL_VERSION`].
        protocol: u32,
        /// The engine's own version.
        engine: String,
        /// Its device.
        device: Device,
    },
    /// The base model is ready.
    Loaded {
        /// Parameters of the base model.
        parameters: u64,
        /// Load time.
        seconds: Seconds,
    },
    /// A pass completed: a heartbeat, sent at most once per second.
    Pass,
    /// A member's training resumes from a checkpoint.
    Resumed {
        /// The member.
        member: usize,
        /// Steps completed before.
        step: u64,
    },
    /// The order was stopped by SIGTERM; progress is on disk, and the engine exits.
    Stopped,
    /// A member made an optimizer step.
    Step {
        /// The member.
        member: usize,
        /// The step.
        report: StepReport,
    },
    /// A member's training finished and its adapter is on disk.
    Trained {
        /// The member.
        member: usize,
        /// Training summary.
        trained: Trained,
    },
    /// A member failed; the others continue.
    MemberFailed {
        /// The member.
        member: usize,
        /// The cause.
        failure: EngineFailure,
    },
    /// A member scored a document.
    Document {
        /// The member.
        member: usize,
        /// The scores.
        score: DocumentScore,
    },
    /// Every member that has not failed scored every document of the order.
    Scored {
        /// Scoring time.
        seconds: Seconds,
        /// Tokens processed.
        tokens: Tokens,
    },
    /// A member answered a prompt.
    Sample {
        /// The member.
        member: usize,
        /// The prompt's index in the order.
        prompt: usize,
        /// The answer, without a stop token.
        tokens: Vec<u32>,
    },
    /// Every member that has not failed answered every prompt of the order.
    Sampled,
    /// A token was generated.
    Token {
        /// Its id.
        token: u32,
    },
    /// The models of a serve order are ready.
    Serving,
    /// An inquiry got its next token.
    Answered {
        /// The inquiry.
        id: u64,
        /// The token.
        token: u32,
        /// Why the answer ends with it; none: it goes on.
        end: Option<AnswerEnd>,
        /// Its log-probability, if requested.
        logprobs: Option<TokenLogprobs>,
    },
    /// An inquiry cannot be answered; the others continue.
    Unanswered {
        /// The inquiry.
        id: u64,
        /// The cause.
        failure: EngineFailure,
    },
    /// Generation finished.
    Generated {
        /// Number of generated tokens.
        tokens: Tokens,
        /// Total time, including the prompt.
        seconds: Seconds,
    },
    /// The merged model is on disk.
    Merged {
        /// Matrices that the adapter changed.
        changed: u64,
        /// Bytes of the weights.
        size: Bytes,
    },
    /// The log-probabilities are on disk, or compared.
    Probed {
        /// Comparison results.
        difference: Option<Difference>,
    },
    /// The order failed; the engine continues with the next.
    Failed(EngineFailure),
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerEnd {
    /// By a stop token.
    Stop,
    /// By the maximum of tokens, or of positions of the model.
    Length,
}

/// Natural logarithms of probabilities, before temperature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprobs {
    /// Of the token.
    pub chosen: f64,
    /// Of the most likely tokens, descending.
    pub top: Vec<(u32, f64)>,
}

/// A kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// The CPU.
    Cpu,
    /// A GPU.
    Cuda,
}

/// An optimizer step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Steps completed, counted from 1 in the first report.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Loss of the step's window before the step. NaN is sent as `null`.
    #[serde(with = "crate::job::real")]
    pub loss: f64,
    /// Mean validation loss after the step; none if it was not requested.
    pub validation_loss: Option<f64>,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Tokens processed so far.
    pub tokens: Tokens,
    /// Time since training began.
    pub seconds: Seconds,
}

/// Summary of a finished training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// Steps completed.
    pub steps: u64,
    /// Tokens processed.
    pub tokens: Tokens,
    /// Training time, without loading.
    pub seconds: Seconds,
    /// Mean loss of the last tenth of the steps, at least one.
    #[serde(with = "crate::job::real")]
    pub last_losses: f64,
    /// Validation loss after the last step.
    pub validation_loss: Option<f64>,
    /// Parameters of the adapter.
    pub trainable: u64,
    /// Peak resident memory of the process so far.
    pub peak_memory: Bytes,
    /// SHA-256 of the adapter's weights, once on disk.
    #[serde(default)]
    pub adapter: Option<Digest>,
}

/// The scores of one document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DocumentScore {
    /// The task's index in the order.
    pub task: usize,
    /// The document's number.
    pub document: usize,
    /// The model's results for each request; a log-likelihood that is not finite fails the order instead.
    pub requests: Vec<RequestScore>,
    /// Value of each of the task's metrics, in their order.
    pub metrics: Vec<DocumentValue>,
    /// The generated answers, one for each repetition; none for log-likelihoods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
}

/// Difference between two models on the same texts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Largest difference of two logits, each minus the mean over its vocabulary.
    #[serde(with = "crate::job::real")]
    pub largest_logit: f64,
    /// Mean over positions of the Kullback-Leibler divergence of the second model from the first, in nats.
    #[serde(with = "crate::job::real")]
    pub kl: f64,
    /// Fraction of positions where both have the same most likely token.
    pub top1: f64,
    /// Positions.
    pub positions: u64,
}

/// Why an order failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineFailure {
    /// The kind of failure.
    pub kind: FailureKind,
    /// Message for the user.
    pub message: String,
}

/// Kinds of failure, by how they are handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The order is invalid: bad model, data or task.
    BadInput,
    /// The loss or a log-likelihood is not finite.
    Diverged,
    /// Out of memory in a pass; the engine exits, and a smaller budget may work.
    OutOfMemory,
    /// The disk is full.
    DiskFull,
    /// A file is temporarily unreachable; the order is not at fault.
    Environment,
    /// Anything else: a bug or an OS error.
    Internal,
}
