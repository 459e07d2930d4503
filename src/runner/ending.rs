//! How attempts and runs end.

use std::time::Instant;

use tokio::sync::mpsc;

use super::Progress;
use super::error::RunError;
use super::job::{Leaving, RunningJob};
use super::keep::{enforce, is_limited};
use super::pack::Next;
use super::run::{GOODBYE, Running};
use super::slot::SlotMessage;
use super::summary::Stopped;
use crate::job::JobId;
use crate::protocol::Order;
use crate::scheduler::{Effect, Event, SlotId};
use crate::store::{AttemptEnd, StoreError, Writing};

impl<'a> Running<'a, '_> {
    /// Ends attempts of a slot whose engine lives, and gives that its next order: of the others, or of the next pack, which is
    /// claimed in the same transaction.
    pub(super) async fn end_members(
        &mut self,
        slot: SlotId,
        ends: Vec<(JobId, AttemptEnd)>,
    ) -> Result<(), RunError> {
        let is_done = |running: &Self| {
            // An engine that is on its way out takes no other pack: its death frees the slot.
            running.working.get(&slot).is_some_and(|pack| pack.is_done() && !pack.is_leaving())
        };
        if ends.is_empty() && !is_done(self) {
            return self.send_next(slot).await;
        }
        let mut writing = self.runner.store.write().await?;
        let (mut ended, mut effects, mut claimed) = (Vec::new(), Vec::new(), None);
        for (job, end) in ends {
            effects.extend(self.scheduler.on(Event::Left { slot, job: job.clone() }));
            ended.extend(self.write_end(&mut writing, slot, &job, end).await?);
        }
        let fails =
            ended.iter().filter(|(_, end)| matches!(end, AttemptEnd::Failed(_) | AttemptEnd::Diverged(_)));
        if self.is_over(fails.count()).is_some() {
            self.scheduler.on(Event::Stop);
        }
        let is_done = is_done(self);
        if is_done {
            self.working.remove(&slot);
            self.count_time(slot);
            effects.extend(self.scheduler.on(Event::Ended(slot)));
            if let Some(Effect::Start { slot: own, jobs }) = effects.first()
                && *own == slot
            {
                claimed = self.claim(&mut writing, slot, jobs).await?;
            }
        }
        writing.commit().await?;
        ended.into_iter().for_each(|ended| self.note_end(ended));
        if let Some(claimed) = claimed {
            effects.remove(0);
            self.begin(slot, claimed).await?;
        }
        self.carry_out(effects).await?;
        if is_done { Ok(()) } else { self.send_next(slot).await }
    }

    /// Ends what is left of a slot's pack, whose engine is gone; each member as it says itself, or by `end`.
    pub(super) async fn end_pack(&mut self, slot: SlotId, end: &AttemptEnd) -> Result<(), RunError> {
        let Some(mut pack) = self.working.remove(&slot) else { return Ok(()) };
        self.count_time(slot);
        pack.flush(self.runner.store).await?;
        let mut writing = self.runner.store.write().await?;
        let (mut ended, mut gone) = (Vec::new(), Vec::new());
        for mut member in pack.members {
            match member.leaving.take().unwrap_or_else(|| Leaving::End(end.clone())) {
                Leaving::End(end) => ended.extend(self.close_member(&mut writing, member, end).await?),
                Leaving::LetGo(outcome) => {
                    writing.let_go(&member.attempt, outcome).await?;
                    gone.push((member.label().to_owned(), outcome));
                }
            }
        }
        writing.commit().await?;
        ended.into_iter().for_each(|ended| self.note_end(ended));
        for (label, outcome) in gone {
            self.summary.let_go += 1;
            (self.watch)(Progress::LetGo { label, outcome });
        }
        Ok(())
    }

    /// Writes the end of an attempt of a slot; the attempt with how it ended, none where it was let go.
    async fn write_end(
        &mut self,
        writing: &mut Writing<'_>,
        slot: SlotId,
        job: &JobId,
        end: AttemptEnd,
    ) -> Result<Option<(RunningJob<'a>, AttemptEnd)>, RunError> {
        let member = self.working.get_mut(&slot).and_then(|pack| pack.remove(job));
        let Some(member) = member else { return Ok(None) };
        self.close_member(writing, member, end).await
    }

    async fn close_member(
        &mut self,
        writing: &mut Writing<'_>,
        job: RunningJob<'a>,
        end: AttemptEnd,
    ) -> Result<Option<(RunningJob<'a>, AttemptEnd)>, RunError> {
        match writing.end(&job.attempt, &end, job.left_over()).await {
            Ok(()) => Ok(Some((job, end))),
            Err(StoreError::Fenced { .. }) => {
                let outcome = match &job.leaving {
                    Some(Leaving::LetGo(outcome)) => outcome,
                    _ => "lost",
                };
                writing.let_go(&job.attempt, outcome).await?;
                self.summary.let_go += 1;
                (self.watch)(Progress::LetGo { label: job.label().to_owned(), outcome });
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Counts and tells an end that is written.
    fn note_end(&mut self, (job, end): (RunningJob<'_>, AttemptEnd)) {
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
            Stopped::Environment => "stopped: files that jobs need cannot be read",
        };
        for (slot, pack) in &mut self.working {
            pack.leave(&Leaving::End(AttemptEnd::Requeued(reason.to_owned())));
            if let Some(engine) = self.engines.get(slot) {
                engine.handle.terminate();
            }
        }
        let last = Instant::now() + self.goodbye();
        while !self.working.is_empty() {
            tokio::select! {
                biased;
                _ = stops.recv() => break,
                () = tokio::time::sleep_until(last.into()) => break,
                message = receiver.recv() => match message {
                    Some((slot, SlotMessage::Event(event, _))) => {
                        if let Some(pack) = self.working.get_mut(&slot) {
                            // Jobs that end by themselves now have ended; the others only tell what they have done.
                            if let Next::Ends(ends) = pack.on(event, self.runner.store, self.watch).await? {
                                self.end_members(slot, ends).await?;
                            }
                        }
                    }
                    Some((slot, SlotMessage::Died(_))) => {
                        self.end_pack(slot, &AttemptEnd::Requeued(reason.to_owned())).await?;
                        self.engines.remove(&slot);
                    }
                    None => break,
                },
            }
        }
        let left: Vec<SlotId> = self.working.keys().copied().collect();
        for slot in left {
            if let Some(engine) = self.engines.get(&slot) {
                engine.handle.kill();
            }
            self.end_pack(slot, &AttemptEnd::Requeued(reason.to_owned())).await?;
            self.engines.remove(&slot);
        }
        Ok(())
    }

    /// Lets engines go: asks them to exit, kills those that do not. A job that an error interrupted goes back.
    pub(super) async fn close(&mut self, receiver: &mut mpsc::Receiver<(SlotId, SlotMessage)>) {
        for (slot, pack) in std::mem::take(&mut self.working) {
            let end = AttemptEnd::Requeued("the run ended with an error".to_owned());
            for job in &pack.members {
                // The error that is being reported may be the database's own.
                let _ = self.runner.store.end(&job.attempt, &end, job.left_over()).await;
            }
            // It writes down where it is.
            if let Some(engine) = self.engines.get(&slot) {
                engine.handle.terminate();
            }
        }
        for engine in self.engines.values_mut() {
            let _ = engine.handle.send(&Order::Shutdown);
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
