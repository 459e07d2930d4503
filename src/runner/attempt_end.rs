//! How attempts and runs end.

use std::collections::BTreeSet;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Progress;
use super::engines::EngineMessage;
use super::error::RunError;
use super::job::{Leaving, RunningJob};
use super::pack::Next;
use super::run::{GOODBYE, Running};
use super::summary::Stopped;
use crate::job::{JobId, SlotId};
use crate::protocol::Order;
use crate::queue::{Attempt, AttemptEnd, Closing, Queue, Taken};
use crate::scheduler::{Effect, Event};

impl<Q: Queue> Running<'_, '_, '_, Q> {
    /// Ends attempts of a slot with a live engine and sends the engine its next order: from the rest of the pack, or from the next pack,
    /// which is claimed in the same queue step.
    pub(super) async fn end_members(
        &mut self,
        slot: SlotId,
        ends: Vec<(JobId, AttemptEnd)>,
    ) -> Result<(), RunError> {
        let is_done = |running: &Self| {
            // An exiting engine takes no other pack: its exit frees the slot.
            running.working.get(&slot).is_some_and(|pack| pack.is_done() && !pack.is_leaving())
        };
        if ends.is_empty() && !is_done(self) {
            return self.send_next(slot).await;
        }
        let (mut effects, mut ending) = (Vec::new(), Vec::new());
        for (job, end) in ends {
            effects.extend(self.scheduler.on(Event::Left { slot, job: job.clone() }));
            let member = self.working.get_mut(&slot).and_then(|pack| pack.remove(&job));
            ending.extend(member.map(|member| (member, Closing::of_end(end))));
        }
        let fails = |closing: &Closing| {
            matches!(closing, Closing::End(AttemptEnd::Failed(_) | AttemptEnd::Diverged(_), _))
        };
        let is_over = self.is_over(ending.iter().filter(|(_, closing)| fails(closing)).count()).is_some();
        let is_done = is_done(self);
        let mut next = None;
        if is_done {
            self.count_time(slot);
            self.working.remove(&slot);
            effects.extend(self.scheduler.on(Event::Ended(slot)));
            if let Some(Effect::Start { slot: started, jobs }) = effects.first()
                && *started == slot
                && !is_over
            {
                next = Some(jobs.clone());
            }
        }
        let claimed = self.close(ending, slot, next.as_deref()).await?;
        if !claimed.is_empty() {
            // It begins below.
            effects.remove(0);
        } else if self.is_over(0).is_some() {
            self.scheduler.on(Event::Stop);
            let started: Vec<SlotId> = effects.iter().filter_map(Effect::started).collect();
            for slot in started {
                self.scheduler.on(Event::Ended(slot));
            }
            effects.retain(|effect| effect.started().is_none());
        }
        if !claimed.is_empty() {
            self.begin(slot, claimed).await?;
        }
        self.carry_out(effects).await?;
        if is_done { Ok(()) } else { self.send_next(slot).await }
    }

    /// Closes attempts and claims the next jobs of a slot; returns the claimed attempts.
    async fn close(
        &mut self,
        ending: Vec<(RunningJob, Closing)>,
        slot: SlotId,
        next: Option<&[JobId]>,
    ) -> Result<Vec<Attempt>, RunError> {
        self.leave_artifacts(&ending).await;
        let (mut members, mut closings) = (Vec::new(), Vec::new());
        for (member, closing) in ending {
            let closing = match closing {
                Closing::End(end, _) => Closing::End(end, Box::new(member.results().clone())),
                let_go @ Closing::LetGo(_) => let_go,
            };
            closings.push((member.attempt.clone(), member.subject(), closing));
            members.push(member);
        }
        let claim = next.map(|jobs| self.claim(slot, jobs));
        let advanced = self.runner.queue.advance(&closings, claim).await?;
        for ((member, (_, _, closing)), closed) in members.iter().zip(closings).zip(advanced.closed) {
            match closing {
                Closing::End(end, _) if closed => {
                    if end == AttemptEnd::Finished {
                        self.clear_artifacts(member).await;
                    }
                    self.note_end(member, end);
                }
                Closing::End(..) => {
                    let taken = match member.leaving {
                        Some(Leaving::LetGo(taken)) => taken,
                        Some(Leaving::End(_)) | None => Taken::Lost,
                    };
                    self.note_let_go(member, taken);
                }
                Closing::LetGo(taken) => self.note_let_go(member, taken),
            }
        }
        Ok(advanced.claimed)
    }

    /// Ends the remaining attempts of a slot whose engine is gone, each by its own pending end or by `end`.
    pub(super) async fn end_pack(&mut self, slot: SlotId, end: &AttemptEnd) -> Result<(), RunError> {
        self.count_time(slot);
        let Some(mut pack) = self.working.remove(&slot) else { return Ok(()) };
        pack.flush(self.runner.queue).await?;
        let closing = |member: &RunningJob| match &member.leaving {
            Some(Leaving::End(end)) => Closing::of_end(end.clone()),
            Some(Leaving::LetGo(taken)) => Closing::LetGo(*taken),
            None => Closing::of_end(end.clone()),
        };
        let ending = pack.members.into_iter().map(|member| {
            let closing = closing(&member);
            (member, closing)
        });
        self.close(ending.collect(), slot, None).await.map(drop)
    }

    fn note_let_go(&mut self, member: &RunningJob, taken: Taken) {
        self.tally.let_go(member.sweep(), member.id());
        (self.watch)(Progress::LetGo { job: member.id().clone(), label: member.label().to_owned(), taken });
    }

    /// Counts and reports a written end.
    fn note_end(&mut self, member: &RunningJob, end: AttemptEnd) {
        if member.results().training.is_some() {
            member.clear_checkpoints();
        }
        self.keep_since.get_or_insert(Instant::now());
        if !matches!(end, AttemptEnd::Requeued(_)) {
            // The next attempt starts with a fresh count.
            self.crashes.remove(member.id());
            self.budgets.remove(member.id());
            self.keep_less.remove(member.id());
        }
        let label = member.label().to_owned();
        self.tally.end(member.sweep(), member.id(), &label, &end);
        (self.watch)(Progress::Ended { job: member.id().clone(), label, end });
        self.tally.report(self.watch);
    }

    /// Removes adapters that `[keep]` does not keep. `true`: a sweep exceeds its disk limit, and its jobs are no longer started.
    pub(super) async fn keep_adapters(&mut self) -> Result<bool, RunError> {
        self.keep_since = None;
        let Some(keeper) = &self.runner.keeper else { return Ok(false) };
        let known = self.jobs.values().flat_map(|job| job.order.sweeps.keys());
        let sweeps: BTreeSet<String> = keeper.sweeps.iter().chain(known).cloned().collect();
        self.full.clear();
        for sweep in sweeps {
            if keeper.enforce(&sweep, &self.runner.results).await?.is_some() {
                self.full.insert(sweep);
            }
        }
        if self.full.is_empty() {
            return Ok(false);
        }
        let jobs: Vec<JobId> = self.jobs.keys().filter(|job| !self.can_run(job)).cloned().collect();
        let reason = "its sweep holds as much disk as [keep] max_disk allows";
        self.runner.queue.note_waiting(&jobs, reason).await?;
        self.scheduler.on(Event::Withdrawn(jobs.into_iter().collect()));
        Ok(true)
    }

    fn count_time(&mut self, slot: SlotId) {
        let sweep = self.working.get(&slot).map(|pack| pack.sweep().to_owned());
        if let (Some(engine), Some(sweep)) = (self.engines.get(&slot), sweep) {
            self.tally.work(&sweep, engine.given.elapsed().as_secs_f64());
        }
    }

    /// Makes every engine write a checkpoint and requeues the jobs. Engines that exceed the time limit, or the user's patience, are
    /// killed.
    pub(super) async fn stop(
        &mut self,
        why: Stopped,
        receiver: &mut mpsc::Receiver<(SlotId, EngineMessage)>,
        stops: &mut mpsc::Receiver<()>,
    ) -> Result<(), RunError> {
        self.stopped = Some(why);
        self.scheduler.on(Event::Stop);
        let reason = match why {
            Stopped::User => "stopped by the user",
            Stopped::Time => "stopped: time limit reached",
            Stopped::Failures => "stopped: too many jobs failed",
            Stopped::Disk => "stopped: the sweep exceeds [keep] max_disk",
            Stopped::Environment => "stopped: files that jobs need cannot be read",
        };
        for (slot, pack) in &mut self.working {
            pack.leave(&Leaving::End(AttemptEnd::Requeued(reason.to_owned())));
            if let Some(engine) = self.engines.get(slot) {
                engine.handle.terminate();
            }
        }
        // Never shorter than a goodbye, and no limit where the clock cannot hold one.
        let last = Instant::now().checked_add(self.runner.limits.hang.max(self.goodbye()));
        // A step may be many passes: while engines report them, a checkpoint is about to be written.
        let mut silent = Instant::now() + self.goodbye();
        while !self.working.is_empty() {
            tokio::select! {
                biased;
                _ = stops.recv() => break,
                () = tokio::time::sleep_until(last.map_or(silent, |last| silent.min(last))) => break,
                message = receiver.recv() => match message {
                    Some((slot, EngineMessage::Event(event, _))) => {
                        silent = Instant::now() + self.goodbye();
                        if let Some(pack) = self.working.get_mut(&slot) {
                            // Jobs that end by themselves now have ended; for the others only progress is recorded.
                            if let Next::Ends(ends) = pack.on(event, self.runner.queue, self.watch).await? {
                                self.end_members(slot, ends).await?;
                            }
                        }
                    }
                    Some((slot, EngineMessage::Exited(_))) => {
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

    /// Shuts engines down: asks them to exit and kills those that do not. Jobs interrupted by an error are requeued.
    pub(super) async fn let_engines_go(&mut self, receiver: &mut mpsc::Receiver<(SlotId, EngineMessage)>) {
        let end = AttemptEnd::Requeued("the run ended with an error".to_owned());
        for (slot, pack) in std::mem::take(&mut self.working) {
            let closing = |member: &RunningJob| {
                let results = Box::new(member.results().clone());
                (member.attempt.clone(), member.subject(), Closing::End(end.clone(), results))
            };
            let closings: Vec<_> = pack.members.iter().map(closing).collect();
            // The reported error may be the queue's own.
            let _ = self.runner.queue.advance(&closings, None).await;
            // The engine writes a checkpoint.
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
                    Some((slot, EngineMessage::Exited(_))) => drop(self.engines.remove(&slot)),
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
