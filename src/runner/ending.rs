//! How attempts and runs end.

use std::time::Instant;

use tokio::sync::mpsc;

use super::Progress;
use super::error::RunError;
use super::job::{Leaving, RunningJob};
use super::keep::{enforce, is_limited};
use super::run::{GOODBYE, Running};
use super::slot::SlotMessage;
use super::summary::Stopped;
use crate::protocol::Order;
use crate::scheduler::{Effect, Event, SlotId};
use crate::store::{AttemptEnd, StoreError, Writing};

impl<'a> Running<'a, '_> {
    /// Ends the attempt of a slot. One whose job was taken away meanwhile is let go.
    pub(super) async fn end_job(&mut self, slot: SlotId, end: AttemptEnd) -> Result<(), RunError> {
        let mut writing = self.runner.store.write().await?;
        let ended = self.write_end(&mut writing, slot, end).await?;
        writing.commit().await?;
        self.note_end(ended);
        Ok(())
    }

    /// Ends the attempt of a slot whose engine lives, and gives that its next job, both in one transaction.
    pub(super) async fn next_job(&mut self, slot: SlotId, end: AttemptEnd) -> Result<(), RunError> {
        let mut writing = self.runner.store.write().await?;
        let ended = self.write_end(&mut writing, slot, end).await?;
        let fails = matches!(&ended, Some((_, AttemptEnd::Failed(_) | AttemptEnd::Diverged(_))));
        if self.is_over(usize::from(fails)).is_some() {
            self.scheduler.on(Event::Stop);
        }
        let mut effects = self.scheduler.on(Event::Ended(slot));
        let claimed = match effects.first() {
            Some(Effect::Start { slot: own, job }) if *own == slot => {
                self.claim(&mut writing, slot, job).await?
            }
            _ => None,
        };
        writing.commit().await?;
        self.note_end(ended);
        if let Some(claimed) = claimed {
            effects.remove(0);
            self.begin(slot, claimed).await?;
        }
        self.carry_out(effects).await
    }

    /// Writes the end of a slot's attempt; the attempt with how it ended, none where it was let go.
    async fn write_end(
        &mut self,
        writing: &mut Writing<'_>,
        slot: SlotId,
        end: AttemptEnd,
    ) -> Result<Option<(RunningJob<'a>, AttemptEnd)>, RunError> {
        let Some(job) = self.working.remove(&slot) else { return Ok(None) };
        self.count_time(slot);
        match writing.end(&job.attempt, &end, job.left_over()).await {
            Ok(()) => Ok(Some((job, end))),
            Err(StoreError::Fenced { .. }) => {
                writing.let_go(&job.attempt, "lost").await?;
                self.summary.let_go += 1;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Counts and tells an end that is written.
    fn note_end(&mut self, ended: Option<(RunningJob<'_>, AttemptEnd)>) {
        let Some((job, end)) = ended else { return };
        if job.left_over().1.training.is_some() {
            job.clear_checkpoints();
        }
        self.keep_since.get_or_insert(Instant::now());
        let label = job.label().to_owned();
        match &end {
            AttemptEnd::Finished => self.summary.finished += 1,
            AttemptEnd::Failed(reason) => self.summary.failed.push((label.clone(), reason.clone())),
            AttemptEnd::Diverged(reason) => self.summary.diverged.push((label.clone(), reason.clone())),
            AttemptEnd::Requeued(_) => self.summary.requeued += 1,
        }
        (self.watch)(Progress::Ended { job: job.attempt.job.clone(), label, end });
    }

    /// Closes the attempt of a slot whose job is no longer its own.
    pub(super) async fn let_go(&mut self, slot: SlotId, outcome: &'static str) -> Result<(), RunError> {
        let Some(job) = self.working.remove(&slot) else { return Ok(()) };
        self.count_time(slot);
        self.runner.store.let_go(&job.attempt, outcome).await?;
        self.summary.let_go += 1;
        (self.watch)(Progress::LetGo { label: job.label().to_owned(), outcome });
        Ok(())
    }

    /// Removes what `[keep]` does not let stay. `true`: more is left than it allows.
    pub(super) async fn keep_adapters(&mut self) -> Result<bool, RunError> {
        self.keep_since = None;
        if !is_limited(&self.plan.keep) {
            return Ok(false);
        }
        Ok(enforce(self.plan, self.runner.store, &self.runner.results).await?.is_some())
    }

    fn count_time(&mut self, slot: SlotId) {
        if let Some(engine) = self.engines.get(&slot) {
            self.summary.device.0 += engine.given.elapsed().as_secs_f64();
        }
    }

    /// Has every engine write down where it is, and puts the jobs back; engines that take too long, or longer than the
    /// user's patience, are killed.
    pub(super) async fn stop(
        &mut self,
        why: Stopped,
        receiver: &mut mpsc::Receiver<(SlotId, SlotMessage)>,
        stops: &mut mpsc::Receiver<()>,
    ) -> Result<(), RunError> {
        self.summary.stopped = Some(why);
        self.scheduler.on(Event::Stop);
        let reason = match why {
            Stopped::User => "stopped by the user",
            Stopped::Time => "stopped: the time was up",
            Stopped::Failures => "stopped: too many jobs failed",
            Stopped::Disk => "stopped: the sweep holds as much disk as [keep] lets it",
        };
        for (slot, job) in &mut self.working {
            job.leave(Leaving::End(AttemptEnd::Requeued(reason.to_owned())));
            if let Some(engine) = self.engines.get(slot) {
                engine.handle.terminate();
            }
        }
        let last = Instant::now() + GOODBYE;
        while !self.working.is_empty() {
            tokio::select! {
                biased;
                _ = stops.recv() => break,
                () = tokio::time::sleep_until(last.into()) => break,
                message = receiver.recv() => match message {
                    Some((slot, SlotMessage::Event(event))) => {
                        if let Some(job) = self.working.get_mut(&slot) {
                            // A job that ends by itself now has ended; the others only tell what they have done.
                            if let super::job::Next::End(end) = job.on(event, self.runner.store, self.watch).await? {
                                self.end_job(slot, end).await?;
                            }
                        }
                    }
                    Some((slot, SlotMessage::Died(_))) => self.end_stopped(slot).await?,
                    None => break,
                },
            }
        }
        let left: Vec<SlotId> = self.working.keys().copied().collect();
        for slot in left {
            if let Some(engine) = self.engines.get(&slot) {
                engine.handle.kill();
            }
            self.end_stopped(slot).await?;
        }
        Ok(())
    }

    /// Ends the attempt of a slot whose engine has stopped.
    async fn end_stopped(&mut self, slot: SlotId) -> Result<(), RunError> {
        let Some(job) = self.working.get_mut(&slot) else { return Ok(()) };
        let leaving = job.leaving.take();
        job.flush(self.runner.store).await?;
        match leaving {
            Some(Leaving::LetGo(outcome)) => self.let_go(slot, outcome).await?,
            Some(Leaving::End(end)) => self.end_job(slot, end).await?,
            None => self.end_job(slot, AttemptEnd::Requeued("stopped".to_owned())).await?,
        }
        self.engines.remove(&slot);
        Ok(())
    }

    /// Lets engines go: asks them to exit, kills those that do not. A job that an error interrupted goes back.
    pub(super) async fn close(&mut self, receiver: &mut mpsc::Receiver<(SlotId, SlotMessage)>) {
        for (slot, job) in std::mem::take(&mut self.working) {
            let end = AttemptEnd::Requeued("the run ended with an error".to_owned());
            // The error that is being reported may be the database's own.
            let _ = self.runner.store.end(&job.attempt, &end, job.left_over()).await;
            // It writes down where it is.
            if let Some(engine) = self.engines.get(&slot) {
                engine.handle.terminate();
            }
        }
        for engine in self.engines.values_mut() {
            let _ = engine.handle.send(&Order::Shutdown).await;
        }
        let left = async {
            while !self.engines.is_empty() {
                match receiver.recv().await {
                    Some((slot, SlotMessage::Died(_))) => drop(self.engines.remove(&slot)),
                    Some(_) => {}
                    None => return,
                }
            }
        };
        if tokio::time::timeout(GOODBYE / 2, left).await.is_err() {
            self.engines.values().for_each(|engine| engine.handle.kill());
        }
    }
}
