//! Events from the engine.

use serde::{Deserialize, Serialize};

use crate::job::{Bytes, Digest, Seconds, Tokens};
use crate::task::{DocumentValue, RequestScore};

/// Something that happened in the engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The engine started; always the first event.
    Hello {
        /// [`super::PROTOCOL_VERSION`].
        protocol: u32,
        /// The engine's own version.
        engine: String,
        /// Where it computes.
        device: Device,
    },
    /// The base model is ready.
    Loaded {
        /// Parameters of the base model.
        parameters: u64,
        /// How long it took.
        seconds: Seconds,
    },
    /// A pass was made: the engine lives and gets on. At most one a second is told.
    Pass,
    /// The training of a member goes on from a checkpoint.
    Resumed {
        /// The member.
        member: usize,
        /// Steps that were made before.
        step: u64,
    },
    /// The order was stopped by SIGTERM; what was done is on disk, and the engine exits.
    Stopped,
    /// A member made an optimizer step.
    Step {
        /// The member.
        member: usize,
        /// The step.
        report: StepReport,
    },
    /// The training of a member ended and its adapter is on disk.
    Trained {
        /// The member.
        member: usize,
        /// What is told of it.
        trained: Trained,
    },
    /// A member cannot go on; the others do.
    MemberFailed {
        /// The member.
        member: usize,
        /// Why.
        failure: EngineFailure,
    },
    /// A member scored a document.
    Document {
        /// The member.
        member: usize,
        /// The scores.
        score: DocumentScore,
    },
    /// Every document of the order was scored by every member that has not failed.
    Scored {
        /// How long it took.
        seconds: Seconds,
        /// Tokens that went through the model.
        tokens: Tokens,
    },
    /// A member answered a prompt.
    Sample {
        /// The member.
        member: usize,
        /// The prompt's place in the order.
        prompt: usize,
        /// The answer, without a token that ends it.
        tokens: Vec<u32>,
    },
    /// Every prompt of the order was answered by every member that has not failed.
    Sampled,
    /// A token was generated.
    Token {
        /// Its number.
        token: u32,
    },
    /// The text ended.
    Generated {
        /// Tokens that were added.
        tokens: Tokens,
        /// How long it took, the prompt included.
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
        /// What the comparison found.
        difference: Option<Difference>,
    },
    /// The order failed; the engine goes on with the next.
    Failed(EngineFailure),
}

/// A kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// The processor.
    Cpu,
    /// A graphics card.
    Cuda,
}

/// An optimizer step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Steps made so far, so the first report says 1.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Loss of the step's window before the step. NaN travels as `null`.
    #[serde(with = "crate::job::real")]
    pub loss: f64,
    /// Mean loss of the rows that are kept for validation, after the step; none where it was not asked for.
    pub validation_loss: Option<f64>,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Tokens that went through the model so far.
    pub tokens: Tokens,
    /// Time since training began.
    pub seconds: Seconds,
}

/// The end of a training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// Steps made.
    pub steps: u64,
    /// Tokens that went through the model.
    pub tokens: Tokens,
    /// How long training took, without loading.
    pub seconds: Seconds,
    /// Mean loss of the last tenth of the steps, at least one.
    #[serde(with = "crate::job::real")]
    pub last_losses: f64,
    /// Loss of the rows that are kept for validation, after the last step.
    pub validation_loss: Option<f64>,
    /// Parameters of the adapter.
    pub trainable: u64,
    /// Largest resident memory of the process so far.
    pub peak_memory: Bytes,
    /// SHA-256 of the adapter's weights, once they are on disk.
    #[serde(default)]
    pub adapter: Option<Digest>,
}

/// The scores of one document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DocumentScore {
    /// The task's place in the order.
    pub task: usize,
    /// The document's number.
    pub document: usize,
    /// What the model says of each request; a log-likelihood that is not finite fails the order instead.
    pub requests: Vec<RequestScore>,
    /// Value of each of the task's metrics, in their order.
    pub metrics: Vec<DocumentValue>,
}

/// How far two models are apart on the same texts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Largest difference of two logits, each less the mean over its vocabulary.
    #[serde(with = "crate::job::real")]
    pub largest_logit: f64,
    /// Mean over positions of the Kullback-Leibler divergence of the second model from the first, in nats.
    #[serde(with = "crate::job::real")]
    pub kl: f64,
    /// Part of the positions where both have the same likeliest token.
    pub top1: f64,
    /// Positions.
    pub positions: u64,
}

/// Why an order failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineFailure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// For the user.
    pub message: String,
}

/// Kinds of failure, by what follows from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The order cannot be carried out: bad model, data or task.
    BadInput,
    /// The loss or a log-likelihood is not finite.
    Diverged,
    /// A pass needs more memory than there is; the engine exits, and a smaller budget may do.
    OutOfMemory,
    /// The disk is full.
    DiskFull,
    /// A file cannot be reached at this moment: no fault of the order.
    Environment,
    /// Anything else, a bug or the system.
    Internal,
}
