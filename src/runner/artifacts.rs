//! What attempts put into an object store and bring from there, where workers share no folder.

use std::collections::BTreeSet;

use super::job::{Leaving, RunningJob};
use super::run::Running;
use crate::artifacts::{ArtifactError, Artifacts, weights_here};
use crate::job::Digest;
use crate::orders::JobOrder;
use crate::protocol::Trained;
use crate::queue::{AttemptEnd, Closing, JobProgress, Queue, Taken};

impl RunningJob {
    /// Puts the trained adapter into the store: whoever reads of the training finds its adapter. Errors: the store's.
    pub(super) async fn put_adapter(
        &self,
        trained: &mut Trained,
        artifacts: &Artifacts,
    ) -> Result<(), ArtifactError> {
        let Some(store) = artifacts.store() else { return Ok(()) };
        let other = || ArtifactError::OtherAdapter { folder: self.adapter.clone() };
        let weights = trained.adapter.or_else(|| weights_here(&self.adapter)).ok_or_else(other)?;
        trained.adapter = Some(weights);
        store.put_adapter(&self.subject().to_string(), weights, &self.adapter).await
    }

    /// Brings what the attempt goes on from: the checkpoints of its training, or the recorded adapter. Errors: the store's.
    pub(super) async fn bring(
        &mut self,
        weights: Option<Digest>,
        artifacts: &Artifacts,
    ) -> Result<(), ArtifactError> {
        let Some(store) = artifacts.store() else { return Ok(()) };
        let subject = self.subject().to_string();
        if self.trains() {
            self.left_checkpoints = store.bring_checkpoints(&subject, &self.checkpoints).await? > 0;
        } else if self.is_training() && self.has_work() {
            let missing = || ArtifactError::Missing {
                place: store.address().to_string(),
                name: format!("the adapter of {subject}"),
            };
            store.bring_adapter(&subject, weights.ok_or_else(missing)?, &self.adapter).await?;
        }
        Ok(())
    }
}

impl<Q: Queue> Running<'_, '_, '_, Q> {
    /// Downloads inputs that are missing or damaged on this machine. Error: the store's.
    pub(super) async fn bring_inputs(
        &mut self,
        order: &JobOrder,
        progress: &JobProgress,
    ) -> Result<(), ArtifactError> {
        let Some(store) = self.runner.artifacts.store() else { return Ok(()) };
        for name in self.inputs.lacking(order, progress) {
            store.bring_input(self.inputs.cache(), &name).await?;
        }
        self.inputs.retry();
        Ok(())
    }

    /// Before attempts end: their logs, and checkpoints of those that go on later, perhaps elsewhere. A store that is away keeps no attempt
    /// from ending; the checkpoint stays here.
    pub(super) async fn leave_artifacts(&self, ending: &[(RunningJob, Closing)]) {
        let Some(store) = self.runner.artifacts.store() else { return };
        let logs: BTreeSet<String> = ending.iter().map(|(member, _)| member.attempt.log()).collect();
        for log in logs {
            let path = self.runner.results.join(&log);
            if path.is_file()
                && let Err(error) = store.put_log(&log, &path).await
            {
                tracing::warn!("the log {} stays on this machine: {error}", path.display());
            }
        }
        for (member, closing) in ending {
            let goes_on = match closing {
                Closing::End(AttemptEnd::Requeued(_), _) | Closing::LetGo(Taken::Paused) => member.trains(),
                Closing::End(..) | Closing::LetGo(_) => false,
            };
            let is_held = member.leaving != Some(Leaving::LetGo(Taken::Lost));
            if !goes_on || !is_held {
                continue;
            }
            let put = store.put_checkpoint(&member.subject().to_string(), &member.checkpoints).await;
            if let Err(error) = put {
                tracing::warn!("the checkpoint of {} stays on this machine: {error}", member.label());
            }
        }
    }

    /// After an attempt ended with its training recorded: checkpoints in the store have no more use, and the adapter here neither.
    pub(super) async fn clear_artifacts(&self, member: &RunningJob) {
        let Some(store) = self.runner.artifacts.store() else { return };
        if member.left_checkpoints {
            // Leftovers are found by `loragrid gc`.
            let _ = store.remove_checkpoints(&member.subject().to_string()).await;
        }
        if member.is_training() {
            let _ = std::fs::remove_dir_all(&member.adapter);
        }
    }
}
