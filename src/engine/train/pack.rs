//! Runs that share passes over one frozen base, each with its own adapter, optimizer, order and length.

use std::time::Instant;

use floor::passes::{PackWindows, Pass};
use floor::protocol::{StepReport, Trained};

use super::loss::{Share, run_pass};
use super::member::Member;
use super::replica::{Replica, run_round};
use crate::failure::EngineError;
use crate::fault;
use crate::interrupt::LifeSigns;
use crate::lora::Adapter;
use crate::memory::within_memory;
use crate::model::Model;

/// Progress reports of a member in training.
pub(crate) enum TrainingEvent<'a> {
    /// It resumes from a checkpoint after this step, with all earlier steps reported again.
    Resumed(u64),
    /// A step was made.
    Step(StepReport),
    /// It finished; the adapter is trained.
    Trained(&'a Adapter, Trained, &'a [StepReport]),
    /// It failed; the others continue.
    Failed(EngineError),
    /// A pass completed. Not tied to one member.
    Pass,
}

/// Receives a member's events, by its number.
pub(crate) type Tell<'a> = dyn FnMut(usize, TrainingEvent<'_>) -> Result<(), EngineError> + 'a;

/// Trains the members' adapters in place, on the model's device and on those of its replicas. Each resumes from its checkpoint, if any, and leaves when it is finished or
/// its loss is not finite. Errors: out of memory in a pass, a stop (both with a checkpoint of each member's last step),
/// a checkpoint that cannot be written, or what `tell` returns.
pub(crate) fn train(
    (model, replicas): (&Model, &mut [Replica]),
    members: &mut [Member<'_>],
    token_budget: usize,
    tell: &mut Tell<'_>,
) -> Result<(), EngineError> {
    let windows = PackWindows::new(members.len());
    let mut pack = Pack { model, replicas, windows, active: Vec::new(), token_budget };
    for (number, member) in members.iter_mut().enumerate() {
        if member.resume() {
            let mut signs = LifeSigns::new();
            let mut beat = || signs.beat(&mut || tell(number, TrainingEvent::Pass));
            member.finish_validation(model, token_budget, &mut beat)?;
            member.reports().iter().try_for_each(|report| tell(number, TrainingEvent::Step(*report)))?;
            tell(number, TrainingEvent::Resumed(member.step()))?;
        }
        pack.active.push(number);
        pack.open_window(number, member, tell)?;
    }
    pack.replicas.iter_mut().for_each(|replica| replica.join(members));
    let ended = pack.run(members, tell);
    match &ended {
        Ok(()) => {}
        Err(EngineError::Stopped | EngineError::OutOfMemory { .. }) => {
            pack.active.iter().try_for_each(|&number| members[number].checkpoint())?;
        }
        // Still write checkpoints of the others; the first error is the one reported.
        Err(_) => pack.active.iter().for_each(|&number| drop(members[number].checkpoint())),
    }
    ended
}

struct Pack<'m> {
    model: &'m Model,
    /// The model on other devices.
    replicas: &'m mut [Replica],
    windows: PackWindows,
    /// Members with steps left.
    active: Vec<usize>,
    token_budget: usize,
}

impl Pack<'_> {
    fn run(&mut self, members: &mut [Member<'_>], tell: &mut Tell<'_>) -> Result<(), EngineError> {
        let mut signs = LifeSigns::new();
        loop {
            // The member with the most work left fills passes first; the others fill its gaps, so all finish together.
            let mut order = self.active.clone();
            order.sort_by_key(|&number| (std::cmp::Reverse(members[number].rows_left()), number));
            let round = self.next_round(&order);
            let Some(last) = round.last() else { return Ok(()) };
            self.passes(members, &round)?;
            signs.beat(&mut || tell(0, TrainingEvent::Pass))?;
            // A round ends with the pass that covers a window.
            for (number, _) in last {
                if self.windows.is_covered(*number) {
                    self.step(*number, &mut members[*number], &mut signs, tell)?;
                }
            }
        }
    }

    /// The passes that run at the same time, at most one a device; none: no rows are left.
    fn next_round(&mut self, order: &[usize]) -> Vec<Vec<(usize, Pass)>> {
        let devices = 1 + self.replicas.len();
        let mut round = Vec::new();
        for device in 0..devices {
            // Several devices share a window evenly: one large pass would leave the others without work.
            let even = self.windows.tokens_left(order).div_ceil(devices - device).max(1);
            let budget = if devices == 1 { self.token_budget } else { self.token_budget.min(even) };
            let Some(shares) = self.windows.next_pass(order, budget) else { break };
            let is_last = shares.iter().any(|(number, _)| self.windows.is_covered(*number));
            round.push(shares);
            if is_last {
                break;
            }
        }
        round
    }

    fn passes(
        &mut self,
        members: &mut [Member<'_>],
        round: &[Vec<(usize, Pass)>],
    ) -> Result<(), EngineError> {
        let started = Instant::now();
        let [first, others @ ..] = round else { return Ok(()) };
        let (model, limits) = (self.model, (self.token_budget, members[first[0].0].checkpointing()));
        let run_first = |members: &mut [Member<'_>]| {
            within_memory(limits.0, || {
                fault::at("pass");
                let mut by_number: Vec<Option<&mut Member<'_>>> = members.iter_mut().map(Some).collect();
                let share = |(number, pass): &(usize, Pass)| Some(by_number[*number].take()?.share(pass));
                let mut shares: Vec<Share<'_>> = first.iter().filter_map(share).collect();
                run_pass(model, limits.1, &mut shares);
            })
        };
        match others {
            [] => run_first(members)?,
            others => run_round(members, self.replicas, others, limits, run_first)?,
        }
        let tokens: usize = round.iter().flatten().map(|(_, pass)| pass.tokens()).sum();
        let seconds = started.elapsed().as_secs_f64();
        for (number, pass) in round.iter().flatten() {
            members[*number].spend(seconds * pass.tokens() as f64 / tokens as f64);
        }
        Ok(())
    }

    /// Makes a member's step and opens its next window.
    fn step(
        &mut self,
        number: usize,
        member: &mut Member<'_>,
        signs: &mut LifeSigns,
        tell: &mut Tell<'_>,
    ) -> Result<(), EngineError> {
        let mut beat = || signs.beat(&mut || tell(number, TrainingEvent::Pass));
        match member.make_step(self.model, self.token_budget, &mut beat) {
            Ok(report) => {
                self.replicas.iter_mut().for_each(|replica| replica.follow(number, member));
                tell(number, TrainingEvent::Step(report))?;
            }
            Err(
                error @ (EngineError::LossNotFinite { .. }
                | EngineError::GradientNotFinite { .. }
                | EngineError::AdapterNotFinite { .. }),
            ) => {
                self.leave(number);
                return tell(number, TrainingEvent::Failed(error));
            }
            Err(error) => return Err(error),
        }
        fault::at("step");
        self.open_window(number, member, tell)?;
        if self.active.contains(&number) { member.checkpoint_if_due() } else { Ok(()) }
    }

    /// Opens a member's next window, or ends it after its last step.
    fn open_window(
        &mut self,
        number: usize,
        member: &mut Member<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), EngineError> {
        match member.open_window() {
            Some(lengths) => {
                self.windows.open(number, &lengths);
                Ok(())
            }
            None => {
                self.leave(number);
                let trained = member.trained();
                tell(number, TrainingEvent::Trained(member.adapter, trained, member.reports()))
            }
        }
    }

    fn leave(&mut self, number: usize) {
        self.windows.leave(number);
        self.active.retain(|other| *other != number);
    }
}
