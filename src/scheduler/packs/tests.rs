use proptest::prelude::*;

use super::*;
use crate::job::{DType, Digest};

fn kind(number: u8) -> PackKind {
    PackKind {
        model: ModelIdentity(Digest::of(&[number])),
        form: BaseForm::dense(DType::Fp32),
        trains: number.is_multiple_of(2),
        checkpointing: false,
        slow: false,
        alone: None,
    }
}

fn candidate() -> impl Strategy<Value = PackCandidate> {
    let training = proptest::option::of((1u64..200, 1u64..200_000, 0u64..1 << 34));
    (0u8..3, 0.0f64..1e4, 0u64..2000, 0u64..500, training).prop_map(
        |(number, time, shared, adapter, training)| PackCandidate {
            kind: kind(number),
            time: Seconds(time),
            shared: Bytes(shared),
            adapter: Bytes(adapter),
            training: training.map(|(steps, tokens, weights)| TrainingLoad {
                steps,
                tokens,
                weights: Bytes(weights),
            }),
        },
    )
}

proptest! {
    #[test]
    fn every_job_is_in_one_pack_of_its_kind_none_over_memory_and_packs_take_no_longer_than_jobs_apart(
        candidates in proptest::collection::vec(candidate(), 0..60),
        most in 1usize..12,
        slots in 1usize..5,
        memory in 500u64..4000,
        token_budget in 64usize..8192,
    ) {
        let rules = PackRules { most, slots, memory: Bytes(memory), token_budget };
        let packs = plan_packs(&candidates, rules);
        let mut packed: Vec<usize> = packs.iter().flat_map(|pack| pack.jobs.clone()).collect();
        packed.sort_unstable();
        prop_assert_eq!(packed, (0..candidates.len()).collect::<Vec<_>>());
        for pack in &packs {
            prop_assert!(!pack.jobs.is_empty() && pack.jobs.len() <= most);
            prop_assert!(pack.jobs.len() == 1 || pack.memory <= rules.memory);
            let first = &candidates[pack.jobs[0]].kind;
            prop_assert!(pack.jobs.iter().all(|&at| candidates[at].kind == *first));
            prop_assert!(pack.time.0 <= pack.alone.0);
        }
        // The last slot ends no later than with the jobs one by one, the longest first.
        let packed = makespan(packs.iter().map(|pack| pack.time), slots);
        let mut times: Vec<Seconds> = candidates.iter().map(|candidate| candidate.time).collect();
        times.sort_by(|a, b| b.0.total_cmp(&a.0));
        prop_assert!(packed.0 <= makespan(times, slots).0 * (1.0 + 1e-12) + 1e-9);
    }

    #[test]
    fn no_slot_is_idle_while_a_pack_could_be_split(
        count in 1usize..40,
        slots in 1usize..5,
    ) {
        let candidate = PackCandidate {
            kind: kind(0), time: Seconds(1.0), shared: Bytes(0), adapter: Bytes(0), training: None,
        };
        let rules = PackRules { most: 64, slots, memory: Bytes(u64::MAX), token_budget: 1024 };
        let packs = plan_packs(&vec![candidate; count], rules);
        let apart = makespan((0..count).map(|_| Seconds(1.0)), slots);
        prop_assert!(makespan(packs.iter().map(|pack| pack.time), slots).0 <= apart.0 + 1e-9);
    }
}

#[test]
fn the_last_slot_ends_when_the_longest_first_are_spread() {
    let times = [8.0, 5.0, 4.0, 3.0].map(Seconds);
    assert_eq!(makespan(times, 2), Seconds(11.0));
    assert_eq!(makespan(times, 1), Seconds(20.0));
    assert_eq!(makespan([], 3), Seconds(0.0));
}
