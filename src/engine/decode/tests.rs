//! Answers of many prompts together against each alone.

use floor::job::{LayerKind, LoraConfig};
use floor::pretrained::Checkpoint;
use tch::Kind;

use super::*;
use crate::model::{Batch, Storage, load};

/// The project's own small models.
fn models(kind: Kind) -> Vec<(String, Model)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference");
    let mut folders: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("expected.safetensors").is_file());
    folders.sort();
    let open = |folder: &std::path::PathBuf| {
        let checkpoint = Checkpoint::open(folder).unwrap();
        let model = load(&checkpoint, Storage::DENSE, kind, tch::Device::Cpu, &mut || Ok(())).unwrap();
        (folder.file_name().unwrap().to_string_lossy().into_owned(), model)
    };
    folders.iter().map(open).collect()
}

fn adapter(model: &Model, rank: u64, size: f64) -> Adapter {
    let layers = [LayerKind::Query, LayerKind::Value];
    let adapter = Adapter::initialized(model, &LoraConfig::plain(rank, layers), 3, model.kind);
    for (_, pair) in &adapter.pairs {
        adapter.fill(&pair.b, &(pair.b.ones_like() * size));
    }
    adapter
}

/// Prompts of many lengths, some of which begin alike or are equal.
fn prompts() -> Vec<Vec<u32>> {
    (0..14u32)
        .map(|n| match n % 4 {
            0 => (1..40).chain([n % 5 + 3]).collect(),
            1 => (1..40).collect(),
            2 => (1..2 + n).collect(),
            _ => (1..33 + n).rev().map(|token| token % 40 + 1).collect(),
        })
        .collect()
}

const FEW: DecodeLimits = DecodeLimits { token_budget: 48, kept_bytes: 1 << 30 };

/// The answers by member and request.
fn answers(
    model: &Model,
    members: &[Option<&Adapter>],
    prompts: &[Vec<u32>],
    (limits, draw): (DecodeLimits, Option<Draw>),
) -> Vec<Vec<Vec<u32>>> {
    let (stops, defaults) = (StopWatch::default(), GenerationDefaults::default());
    let speaker = Speaker { model, tokenizer: None, ends: &[7], defaults: &defaults };
    let request = |(number, prompt): (usize, &'_ Vec<u32>)| {
        let draw = draw.map(|draw| Draw { answer: draw.answer + number as u64, ..draw });
        (prompt.clone(), 5 + number % 9, draw)
    };
    let asked: Vec<(Vec<u32>, usize, Option<Draw>)> = prompts.iter().enumerate().map(request).collect();
    let requests: Vec<AnswerRequest<'_>> = asked
        .iter()
        .map(|(prompt, max_tokens, draw)| AnswerRequest {
            prompt,
            max_tokens: *max_tokens,
            draw: *draw,
            stops: &stops,
        })
        .collect();
    let mut answers = vec![vec![Vec::new(); prompts.len()]; members.len()];
    let mut ended = vec![vec![false; prompts.len()]; members.len()];
    let mut take = |member: usize, request: usize, token, end| {
        assert!(!ended[member][request], "it had ended");
        if let Some(token) = token {
            answers[member][request].push(token);
        }
        ended[member][request] = end;
        Ok(())
    };
    let mut sign = || Ok(());
    decode(&speaker, members, &requests, limits, &mut take, &mut Pulse::new(&mut sign)).unwrap();
    answers
}

#[test]
fn together_with_any_others_an_answer_is_what_it_is_alone_to_the_bit() {
    for (name, model) in models(Kind::Float) {
        let adapters = [adapter(&model, 2, 0.1), adapter(&model, 3, -0.2)];
        let members = [None, Some(&adapters[0]), Some(&adapters[1])];
        let draw = Draw { temperature: 0.8, top_p: 0.95, top_k: 0, seed: 5, answer: 0 };
        for draw in [None, Some(draw)] {
            let prompts = prompts();
            let together = answers(&model, &members, &prompts, (FEW, draw));
            for (member, adapter) in members.iter().enumerate() {
                for (number, prompt) in prompts.iter().enumerate() {
                    // An answer's length and random numbers go by its number.
                    let mut alone = vec![vec![1]; number];
                    alone.push(prompt.clone());
                    let wide = DecodeLimits::of_budget(1024, &model);
                    let alone = answers(&model, &[*adapter], &alone, (wide, draw));
                    assert_eq!(
                        together[member][number], alone[0][number],
                        "{name}, member {member}, prompt {number}"
                    );
                }
            }
        }
    }
}

/// In double precision, against the logits of the whole text at every token.
#[test]
fn an_answer_is_what_follows_from_the_whole_text() {
    for (name, model) in models(Kind::Double) {
        let prompts = prompts();
        let found = answers(&model, &[None], &prompts, (FEW, None));
        for (number, prompt) in prompts.iter().enumerate() {
            let mut text = prompt.clone();
            for token in &found[0][number] {
                let next = tch::no_grad(|| {
                    let states = model.hidden_states(&Batch::new(&[&text], model.device()), None);
                    let last = states.narrow(0, states.size()[0] - 1, 1);
                    model.logits(&last, None).argmax(-1, false).int64_value(&[0]) as u32
                });
                assert_eq!(*token, next, "{name}, prompt {number}");
                text.push(next);
            }
        }
    }
}

#[test]
fn little_memory_makes_answers_wait_and_changes_none() {
    let (_, model) = models(Kind::Float).remove(0);
    let prompts = prompts();
    let one = DecodeLimits { kept_bytes: model.page_bytes(), ..FEW };
    assert_eq!(
        answers(&model, &[None], &prompts, (one, None)),
        answers(&model, &[None], &prompts, (FEW, None))
    );
}

#[test]
fn a_member_whose_logits_are_not_finite_ends_alone() {
    let (_, model) = models(Kind::Float).remove(0);
    let (good, broken) = (adapter(&model, 2, 0.1), adapter(&model, 2, f64::NAN));
    let prompts = prompts();
    let together = answers(&model, &[Some(&broken), Some(&good)], &prompts, (FEW, None));
    assert!(together[0].iter().all(Vec::is_empty));
    assert_eq!(together[1], answers(&model, &[Some(&good)], &prompts, (FEW, None))[0]);
}

#[test]
fn a_conversation_goes_on_as_if_it_were_read_anew() {
    let (_, model) = models(Kind::Float).remove(0);
    let (stops, defaults) = (StopWatch::default(), GenerationDefaults::default());
    let speaker = Speaker { model: &model, tokenizer: None, ends: &[], defaults: &defaults };
    let say = |conversation: &mut Conversation, prompt: &[u32]| {
        let mut answer = Vec::new();
        let request = AnswerRequest { prompt, max_tokens: 9, draw: None, stops: &stops };
        let mut take = |token| {
            answer.push(token);
            Ok(())
        };
        conversation.answer(&speaker, None, &request, FEW, &mut take).unwrap();
        answer
    };
    let mut conversation = Conversation::new(&model);
    let mut text: Vec<u32> = (1..40).collect();
    for turn in 0..4 {
        let answer = say(&mut conversation, &text);
        assert_eq!(answer, say(&mut Conversation::new(&model), &text), "turn {turn}");
        text.extend(answer);
        // A turn may also take back what was said.
        text.truncate(if turn == 2 { 30 } else { usize::MAX });
        text.extend([turn + 1, 2, 3]);
    }
}

/// Inquiries that come one after another, in two waves, some of them withdrawn: the answers by their number.
fn served(
    model: &Model,
    members: &[Option<&Adapter>],
    prompts: &[Vec<u32>],
    (limits, draw): (DecodeLimits, Option<Draw>),
) -> std::collections::BTreeMap<u64, Vec<u32>> {
    let defaults = GenerationDefaults::default();
    let mut decoder = ServingDecoder::new(model, members, &defaults, limits);
    let asked = |number: usize| Asked {
        id: number as u64,
        member: number % members.len(),
        prompt: prompts[number].clone(),
        ends: vec![7],
        max_tokens: 5 + number % 9,
        draw: draw.map(|draw| Draw { answer: draw.answer + number as u64, ..draw }),
        top_logprobs: (number == 1).then_some(3),
    };
    let mut answers = std::collections::BTreeMap::<u64, Vec<u32>>::new();
    let mut take = |id: u64, outcome: Outcome| {
        let Outcome::Token { token, logprobs, .. } = outcome else { panic!("the logits are finite") };
        let logprobs = logprobs.filter(|_| draw.is_none());
        if let Some(logprobs) = logprobs {
            assert_eq!((id, logprobs.top.len(), logprobs.top[0].0), (1, 3, token), "greedy is the likeliest");
            assert!(logprobs.chosen < 0.0 && logprobs.chosen == logprobs.top[0].1);
        }
        answers.entry(id).or_default().push(token);
        Ok(())
    };
    let half = prompts.len() / 2;
    (0..half).for_each(|number| decoder.ask(asked(number)));
    for _ in 0..3 {
        tch::no_grad(|| decoder.step(&mut take)).unwrap();
    }
    (half..prompts.len()).for_each(|number| decoder.ask(asked(number)));
    decoder.withdraw(2);
    while decoder.has_work() {
        tch::no_grad(|| decoder.step(&mut take)).unwrap();
    }
    // What was said before is known.
    decoder.ask(Asked { id: 99, ..asked(0) });
    let mut passes = 0;
    while decoder.has_work() {
        tch::no_grad(|| decoder.step(&mut take)).unwrap();
        passes += 1;
    }
    assert_eq!(passes, answers[&99].len(), "a known prompt takes no pass of its own");
    answers.remove(&2);
    answers
}

#[test]
fn inquiries_that_come_and_go_are_answered_as_alone_to_the_bit() {
    for (name, model) in models(Kind::Float) {
        let adapters = [adapter(&model, 2, 0.1), adapter(&model, 3, -0.2)];
        let members = [None, Some(&adapters[0]), Some(&adapters[1])];
        let scarce = DecodeLimits { token_budget: 48, kept_bytes: 4 * model.page_bytes() };
        let draw = Draw { temperature: 0.8, top_p: 0.95, top_k: 0, seed: 5, answer: 0 };
        let prompts = prompts();
        for (limits, draw) in [(FEW, None), (FEW, Some(draw)), (scarce, None)] {
            // With so little memory a known prompt is computed again, in a pass of the 48 tokens that it does not exceed.
            let found = served(&model, &members, &prompts, (limits, draw));
            assert_eq!(found.len(), prompts.len(), "{name}");
            for (number, prompt) in prompts.iter().enumerate().filter(|(number, _)| *number != 2) {
                let mut alone = vec![vec![1]; number];
                alone.push(prompt.clone());
                let wide = DecodeLimits::of_budget(1024, &model);
                let alone = answers(&model, &[members[number % 3]], &alone, (wide, draw));
                assert_eq!(found[&(number as u64)], alone[0][number], "{name}, prompt {number}");
            }
        }
    }
}
