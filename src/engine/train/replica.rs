//! Training on several devices: the passes of a window run at the same time, each on a device with the base model of its own, and their
//! gradients are summed in the order of the passes. The step is made once, on the first device, and the adapters of the others follow.

use tch::{Kind, Tensor};

use super::loss::{Share, run_pass, zero};
use super::member::{Member, ShareInputs};
use crate::failure::EngineError;
use crate::lora::Adapter;
use crate::memory::within_memory;
use crate::model::Model;

/// The base model on another device, with a copy of each member's adapter.
pub(crate) struct Replica {
    model: Model,
    members: Vec<Follower>,
}

/// A member on another device.
struct Follower {
    adapter: Adapter,
    /// `[parameters]`: of the passes since the last sum.
    gradient: Tensor,
    loss: Tensor,
}

impl Replica {
    /// A base model on another device.
    pub(crate) fn new(model: Model) -> Self {
        Self { model, members: Vec::new() }
    }

    /// Copies the members' adapters.
    pub(super) fn join(&mut self, members: &[Member<'_>]) {
        let device = self.model.device();
        let follower = |member: &Member<'_>| {
            let (adapter, gradient) = member.mirrored(&self.model);
            Follower { adapter, gradient, loss: zero(device) }
        };
        self.members = members.iter().map(follower).collect();
    }

    /// Takes over a member's adapter after its step.
    pub(super) fn follow(&mut self, number: usize, member: &Member<'_>) {
        if let Some(follower) = self.members.get_mut(number) {
            tch::no_grad(|| follower.adapter.flat.copy_(&member.adapter.flat));
        }
    }

    /// Runs a pass of members' rows; their gradients and losses stay here until they are added. Error: out of memory.
    fn run(
        &mut self,
        work: Vec<(usize, ShareInputs<'_>)>,
        (token_budget, checkpointing): (usize, bool),
    ) -> Result<(), EngineError> {
        for (number, _) in &work {
            if let Some(follower) = self.members.get_mut(*number) {
                let _ = (follower.gradient.zero_(), follower.loss.zero_());
            }
        }
        let mut followers: Vec<Option<&mut Follower>> = self.members.iter_mut().map(Some).collect();
        let share = |(number, inputs)| {
            let follower = followers.get_mut::<usize>(number)?.take()?;
            Some(share_of(inputs, &follower.adapter, &mut follower.gradient, &mut follower.loss))
        };
        let mut shares: Vec<Share<'_>> = work.into_iter().filter_map(share).collect();
        within_memory(token_budget, || run_pass(&self.model, checkpointing, &mut shares))
    }

    /// Adds the gradient and the loss of its last pass to a member's.
    fn add_to(&self, number: usize, member: &mut Member<'_>) {
        if let Some(follower) = self.members.get(number) {
            member.add(&follower.gradient, &follower.loss);
        }
    }
}

/// Runs passes at the same time: the first by `first`, on the first device, the others on the replicas; then adds what the replicas
/// computed, pass by pass. Errors: out of memory on any device; nothing is added then.
pub(super) fn run_round(
    members: &mut [Member<'_>],
    replicas: &mut [Replica],
    others: &[Vec<(usize, floor::passes::Pass)>],
    (token_budget, checkpointing): (usize, bool),
    first: impl FnOnce(&mut [Member<'_>]) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let work: Vec<Vec<(usize, ShareInputs<'_>)>> = others
        .iter()
        .map(|pass| pass.iter().map(|(number, rows)| (*number, members[*number].inputs(rows))).collect())
        .collect();
    let threads = tch::get_num_threads();
    std::thread::scope(|scope| {
        let running: Vec<_> = replicas
            .iter_mut()
            .zip(work)
            .map(|(replica, work)| {
                scope.spawn(move || {
                    // The number of threads of an operation is that of the thread that starts it.
                    tch::set_num_threads(threads);
                    replica.run(work, (token_budget, checkpointing))
                })
            })
            .collect();
        let mut ended = first(members);
        for device in running {
            // What panics elsewhere panics here.
            let other = device.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            ended = ended.and(other);
        }
        ended
    })?;
    for (replica, pass) in replicas.iter().zip(others) {
        for (number, _) in pass {
            replica.add_to(*number, &mut members[*number]);
        }
    }
    Ok(())
}

/// A share of a pass from a member's inputs and where its gradient and loss are summed.
pub(super) fn share_of<'a>(
    inputs: ShareInputs<'a>,
    adapter: &'a Adapter,
    gradient: &'a mut Tensor,
    loss: &'a mut Tensor,
) -> Share<'a> {
    let ShareInputs { rows, dropout, seed } = inputs;
    Share { adapter, rows, dropout, seed, gradient, loss }
}

/// The sum of a tensor and one of another device, in its own dtype.
pub(super) fn add_across(to: &mut Tensor, from: &Tensor) {
    tch::no_grad(|| {
        let kind: Kind = to.kind();
        *to += from.to_device(to.device()).to_kind(kind);
    });
}
