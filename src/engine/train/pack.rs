//! Runs that share passes over one frozen base, each with its own adapter, optimizer, order and end.

use std::time::Instant;

use floor::passes::{PackWindows, Pass};
use floor::protocol::{StepReport, Trained};

use super::loss::{Share, run_pass};
use super::member::Member;
use crate::failure::EngineError;
use crate::fault;
use crate::interrupt::LifeSigns;
use crate::lora::Adapter;
use crate::memory::within_memory;
use crate::model::Model;

/// What a training tells of a member while it runs.
pub(crate) enum TrainingEvent<'a> {
    /// It goes on from a checkpoint after this step, with every step before it told again.
    Resumed(u64),
    /// A step was made.
    Step(StepReport),
    /// It came to its end; the adapter is as trained.
    Trained(&'a Adapter, Trained, &'a [StepReport]),
    /// It cannot go on; the others do.
    Failed(EngineError),
    /// A pass was made. Not of one member.
    Pass,
}

/// What hears of a member by its number.
pub(crate) type Tell<'a> = dyn FnMut(usize, TrainingEvent<'_>) -> Result<(), EngineError> + 'a;

/// Trains the members' adapters in place; each goes on from its checkpoint, if it has one, and leaves when it has made its
/// steps or its loss is not finite. Errors: a pass that needs too much memory, a stop (both with a checkpoint of each
/// member's last step), a checkpoint that cannot be written, or what `tell` returns.
pub(crate) fn train(
    model: &Model,
    members: &mut [Member<'_>],
    token_budget: usize,
    tell: &mut Tell<'_>,
) -> Result<(), EngineError> {
    let mut pack = Pack { model, windows: PackWindows::new(members.len()), active: Vec::new(), token_budget };
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
    let ended = pack.run(members, tell);
    match &ended {
        Ok(()) => {}
        Err(EngineError::Stopped | EngineError::OutOfMemory { .. }) => {
            pack.active.iter().try_for_each(|&number| members[number].checkpoint())?;
        }
        // What it can still write down of the others, it does; the error that is told is the first.
        Err(_) => pack.active.iter().for_each(|&number| drop(members[number].checkpoint())),
    }
    ended
}

struct Pack<'m> {
    model: &'m Model,
    windows: PackWindows,
    /// Members that have steps to make.
    active: Vec<usize>,
    token_budget: usize,
}

impl Pack<'_> {
    fn run(&mut self, members: &mut [Member<'_>], tell: &mut Tell<'_>) -> Result<(), EngineError> {
        let mut signs = LifeSigns::new();
        loop {
            // Whoever has most to do fills passes first, so that the others fill its gaps and all come to an end together.
            let mut order = self.active.clone();
            order.sort_by_key(|&number| (std::cmp::Reverse(members[number].rows_left()), number));
            let Some(shares) = self.windows.next_pass(&order, self.token_budget) else { return Ok(()) };
            self.pass(members, &shares)?;
            signs.beat(&mut || tell(0, TrainingEvent::Pass))?;
            for (number, _) in shares {
                if self.windows.is_covered(number) {
                    self.step(number, &mut members[number], &mut signs, tell)?;
                }
            }
        }
    }

    fn pass(&self, members: &mut [Member<'_>], shares: &[(usize, Pass)]) -> Result<(), EngineError> {
        let started = Instant::now();
        within_memory(self.token_budget, || {
            fault::at("pass");
            let checkpointing = members[shares[0].0].checkpointing();
            let mut by_number: Vec<Option<&mut Member<'_>>> = members.iter_mut().map(Some).collect();
            let share = |(number, pass): &(usize, Pass)| Some(by_number[*number].take()?.share(pass));
            let mut shares: Vec<Share<'_>> = shares.iter().filter_map(share).collect();
            run_pass(self.model, checkpointing, &mut shares);
        })?;
        let tokens: usize = shares.iter().map(|(_, pass)| pass.tokens()).sum();
        let seconds = started.elapsed().as_secs_f64();
        for (number, pass) in shares {
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
            Ok(report) => tell(number, TrainingEvent::Step(report))?,
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
