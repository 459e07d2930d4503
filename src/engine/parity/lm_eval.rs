//! Log-likelihoods of the real model against lm_eval.

use std::collections::BTreeMap;
use std::path::Path;

use floor::data::DataRoots;
use floor::job::{PromptProfile, Softmax};
use floor::pretrained::ModelTokenizer;
use floor::protocol::{ScoreOrder, TaskOrder};
use floor::task::{
    Catalogue, DocumentValue, EncodedRequest, Request, RequestEncoder, RequestScore, Subset, TaskDocuments,
    TaskIndex, aggregate, build_documents,
};
use tch::Kind;

use super::*;
use crate::failure::EngineError;
use crate::interrupt::Pulse;
use crate::model::Model;
use crate::score::{ScoringEvent, ScoringOptions, TakeOne, score_exactly, score_requests, score_tasks};

/// A reference request, context and continuation, as tokens.
fn encoded(pair: &serde_json::Value, tokenizer: &ModelTokenizer) -> EncodedRequest {
    let text = |side: usize| pair[side].as_str().unwrap().to_owned();
    let request = Request::Pair { context: text(0), continuation: text(1) };
    RequestEncoder::new(tokenizer, 8192, u64::MAX, PromptProfile::LmEval).encode(&request).unwrap().remove(0)
}

/// The scores in request order, and the number of tokens processed.
fn walked(model: &Model, requests: &[EncodedRequest], budget: usize) -> (Vec<RequestScore>, u64) {
    collected(requests.len(), |take, pulse| {
        let mut take = |_: usize, number, score| take(number, score);
        score_requests(model, &[None], requests, ScoringOptions::precise(budget), &mut take, pulse)
    })
}

/// Like [`walked`], one request at a time.
fn exact(model: &Model, requests: &[EncodedRequest]) -> (Vec<RequestScore>, u64) {
    collected(requests.len(), |take, pulse| {
        score_exactly(model, None, requests, ScoringOptions::precise(1), take, pulse)
    })
}

fn collected(
    count: usize,
    score: impl FnOnce(&mut TakeOne<'_>, &mut Pulse<'_>) -> Result<u64, EngineError>,
) -> (Vec<RequestScore>, u64) {
    let mut scores = vec![None; count];
    let mut take = |number: usize, score| {
        assert!(scores[number].replace(score).is_none(), "request {number} is answered twice");
        Ok(true)
    };
    let mut sign = || Ok(());
    let tokens = score(&mut take, &mut Pulse::new(&mut sign));
    (scores.into_iter().map(|score| score.expect("every request is answered")).collect(), tokens.unwrap())
}

#[test]
fn the_real_models_log_likelihoods_equal_lm_evals() {
    let (Some(path), Some(file)) = (outside("LORAGRID_TEST_MODEL", ""), reference("lm_eval_smollm2.json"))
    else {
        return;
    };
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let checkpoint = in_bf16(&path, scratch.path());
    let tokenizer = ModelTokenizer::open(&checkpoint).unwrap();
    let model = load(&checkpoint, Storage::DENSE, Kind::Float, device(), &mut || Ok(())).unwrap();
    let tasks = json["tasks"].as_object().unwrap();
    for (task, _) in tasks {
        let (mut requests, mut expected) = (Vec::new(), Vec::new());
        for document in json["tasks"][task]["docs"].as_array().unwrap() {
            for (index, pair) in document["requests"].as_array().unwrap().iter().enumerate() {
                requests.push(encoded(pair, &tokenizer));
                expected.push(RequestScore {
                    log_likelihood: document["loglikelihoods"][index].as_f64().unwrap(),
                    is_greedy: document["is_greedy"][index].as_bool().unwrap(),
                });
            }
        }
        let (scores, tokens) = walked(&model, &requests, 1024);
        let all: usize = requests.iter().map(|request| request.input.len()).sum();
        eprintln!("{task}: {tokens} tokens computed of {all}");
        let mut worst: f64 = 0.0;
        for (score, theirs) in scores.iter().zip(&expected) {
            worst = worst.max((score.log_likelihood - theirs.log_likelihood).abs());
            assert_eq!(score.is_greedy, theirs.is_greedy, "{task}");
        }
        assert!(worst <= 1e-3, "{task}: {worst}");
    }
}

/// Base and two adapters in one walk, one of which is not finite: the others score as they do alone.
#[test]
fn adapters_in_one_walk_answer_as_each_does_alone() {
    use floor::job::{LayerKind, LoraConfig};
    for folder in folders_with("expected.safetensors", &[]).iter().take(2) {
        let model = model(folder, Kind::Double);
        let adapter = |rank: u64, kind, size: f64| {
            let adapter = Adapter::initialized(&model, &LoraConfig::plain(rank, [kind]), 3, Kind::Double);
            for (_, pair) in &adapter.pairs {
                adapter.fill(&pair.b, &(pair.b.ones_like() * size));
            }
            adapter
        };
        let broken = adapter(1, LayerKind::Value, f64::NAN);
        let adapters = [adapter(2, LayerKind::Query, 0.1), adapter(3, LayerKind::Mlp, -0.2)];
        let members = [None, Some(&adapters[0]), Some(&broken), Some(&adapters[1])];
        let requests: Vec<EncodedRequest> = (0..30u32)
            .map(|n| {
                let input: Vec<u32> = (1..3 + n % 7).chain([n % 5 + 3, n % 3]).collect();
                EncodedRequest { targets: input[input.len() - 2..].to_vec(), input, cut: 0 }
            })
            .collect();
        let mut together = vec![vec![None; requests.len()]; members.len()];
        let mut take = |member: usize, number: usize, score: RequestScore| {
            together[member][number] = Some(score);
            Ok(score.log_likelihood.is_finite())
        };
        let mut sign = || Ok(());
        score_requests(
            &model,
            &members,
            &requests,
            ScoringOptions::precise(40),
            &mut take,
            &mut Pulse::new(&mut sign),
        )
        .unwrap();
        for (member, adapter) in members.iter().enumerate().filter(|(member, _)| *member != 2) {
            let (alone, _) = collected(requests.len(), |take, pulse| {
                let mut take = |_: usize, number, score| take(number, score);
                score_requests(
                    &model,
                    &[*adapter],
                    &requests,
                    ScoringOptions::precise(1024),
                    &mut take,
                    pulse,
                )
            });
            for (score, other) in together[member].iter().zip(&alone) {
                let difference = score.expect("it is answered").log_likelihood - other.log_likelihood;
                assert!(difference.abs() < 1e-10, "member {member}: {difference}");
            }
        }
        assert!(
            together[2].iter().filter(|score| score.is_some()).count() < requests.len(),
            "it left the walk"
        );
    }
}

/// In double precision: any token budget, shared prefixes or not.
#[test]
fn the_walk_over_a_trie_scores_as_one_request_at_a_time() {
    for folder in folders_with("expected.safetensors", &[]) {
        let model = model(&folder, Kind::Double);
        // Nested prefixes, equal requests, one that ends inside another, runs longer than a window.
        let requests: Vec<EncodedRequest> = (0..60u32)
            .map(|n| {
                let shared = (3..3 + n % 23).collect::<Vec<u32>>();
                let tail = [n % 3, n % 7 + 2, 5, n % 2];
                let input = [&[1], shared.as_slice(), &tail[..(n % 5) as usize]].concat();
                let targets = (0..1 + (n % 4) as usize % input.len()).map(|t| t as u32 + n % 11).collect();
                EncodedRequest { input, targets, cut: 0 }
            })
            .collect();
        let (slow, all) = exact(&model, &requests);
        for budget in [1, 17, 1024] {
            let (fast, tokens) = walked(&model, &requests, budget);
            assert!(tokens < all / 4, "{tokens} of {all}");
            for (score, other) in fast.iter().zip(&slow) {
                let difference = (score.log_likelihood - other.log_likelihood).abs();
                assert!(difference < 1e-10, "{}: {difference}", name_of(&folder));
                assert_eq!(score.is_greedy, other.is_greedy, "{}", name_of(&folder));
            }
        }
    }
}

#[test]
fn the_real_models_scores_are_those_of_one_request_at_a_time() {
    let (Some(path), Some(file)) = (outside("LORAGRID_TEST_MODEL", ""), reference("lm_eval_smollm2.json"))
    else {
        return;
    };
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let checkpoint = in_bf16(&path, scratch.path());
    let tokenizer = ModelTokenizer::open(&checkpoint).unwrap();
    let model = load(&checkpoint, Storage::DENSE, Kind::Float, device(), &mut || Ok(())).unwrap();
    // All of them take a minute one by one.
    let documents = if std::env::var_os("LORAGRID_PARITY").is_some() { usize::MAX } else { 2 };
    let (mut requests, mut ends) = (Vec::new(), Vec::new());
    for task in json["tasks"].as_object().unwrap().values() {
        for document in task["docs"].as_array().unwrap().iter().take(documents) {
            requests.extend(
                document["requests"].as_array().unwrap().iter().map(|pair| encoded(pair, &tokenizer)),
            );
            ends.push(requests.len());
        }
    }
    let (slow, _) = exact(&model, &requests);
    let (fast, _) = walked(&model, &requests, 1024);
    let mut worst: f64 = 0.0;
    for (score, other) in fast.iter().zip(&slow) {
        worst = worst.max((score.log_likelihood - other.log_likelihood).abs());
        assert_eq!(score.is_greedy, other.is_greedy);
    }
    let mut start = 0;
    for end in ends {
        assert_eq!(likeliest(&fast[start..end]), likeliest(&slow[start..end]), "an answer is flipped");
        start = end;
    }
    eprintln!("{} requests differ by at most {worst:.1e}", fast.len());
    assert!(worst <= 1e-4, "{worst}");
}

/// The index of the largest log-likelihood.
fn likeliest(scores: &[RequestScore]) -> Option<usize> {
    let places = (0..scores.len()).rev();
    places.max_by(|a, b| scores[*a].log_likelihood.total_cmp(&scores[*b].log_likelihood))
}

#[test]
fn the_profile_of_2023_has_eos_for_a_context_and_the_models_dtype_rounds_what_it_says() {
    let Some(path) = outside("LORAGRID_TEST_MODEL", "") else { return };
    let scratch = tempfile::tempdir().unwrap();
    let checkpoint = in_bf16(&path, scratch.path());
    let tokenizer = ModelTokenizer::open(&checkpoint).unwrap();
    let text =
        |context: &str| Request::Pair { context: context.to_owned(), continuation: " a word".to_owned() };
    let encoded = |profile, context| {
        RequestEncoder::new(&tokenizer, 8192, u64::MAX, profile).encode(&text(context)).unwrap()
    };
    let (new, old) = (encoded(PromptProfile::LmEval, ""), encoded(PromptProfile::LitGpt2023, ""));
    assert_eq!(
        (new[0].input.first(), old[0].input.first()),
        (tokenizer.bos().as_ref(), tokenizer.eos().as_ref())
    );
    assert_eq!(new[0].targets, old[0].targets);
    assert_eq!(encoded(PromptProfile::LmEval, "It is"), encoded(PromptProfile::LitGpt2023, "It is"));

    let model = load(&checkpoint, Storage::DENSE, Kind::BFloat16, device(), &mut || Ok(())).unwrap();
    let requests = [encoded(PromptProfile::LmEval, "It is"), new].concat();
    let likelihoods = |softmax| {
        let way = ScoringOptions { token_budget: 1024, softmax };
        let (scores, _) = collected(requests.len(), |take, pulse| {
            let mut take = |_: usize, number, score| take(number, score);
            score_requests(&model, &[None], &requests, way, &mut take, pulse)
        });
        scores.iter().map(|score| score.log_likelihood).collect::<Vec<f64>>()
    };
    for (rounded, precise) in likelihoods(Softmax::Model).into_iter().zip(likelihoods(Softmax::Fp32)) {
        assert_eq!(rounded, half::bf16::from_f64(rounded).to_f64());
        assert_ne!(rounded, precise);
        assert!((rounded - precise).abs() < 0.02 * precise.abs(), "{rounded} against {precise}");
    }
}

/// Shipped tasks, documents, model and metrics together: lm_eval's score per document and per task.
#[test]
fn the_real_models_scores_equal_lm_evals() {
    let (Some(path), Some(data), Some(file)) = (
        outside("LORAGRID_TEST_MODEL", ""),
        outside("LORAGRID_DATA", "truthfulqa_mc.jsonl"),
        reference("lm_eval_smollm2.json"),
    ) else {
        return;
    };
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let checkpoint = in_bf16(&path, scratch.path());
    let tokenizer = ModelTokenizer::open(&checkpoint).unwrap();
    let model = load(&checkpoint, Storage::DENSE, Kind::Float, device(), &mut || Ok(())).unwrap();
    let roots = DataRoots { local: data.parent().map(Into::into), ..DataRoots::default() };
    let (folder, index, profile) = (Path::new("."), TaskIndex::shipped(), PromptProfile::LmEval);
    let catalogue = Catalogue { folder, roots: &roots, index: &index, profile };
    let expected = json["tasks"].as_object().unwrap();
    let mut metrics = Vec::new();
    let tasks: Vec<TaskOrder> = expected
        .iter()
        .map(|(name, reference)| {
            let subset = Subset::First(reference["docs"].as_array().unwrap().len() as u64);
            let task = catalogue.find(name).unwrap();
            let documents = build_documents(&task, &subset).unwrap();
            let path = scratch.path().join(format!("{name}.documents"));
            metrics.push(task.metrics[0]);
            TaskDocuments::new(task, documents).write(&path).unwrap();
            TaskOrder { documents: path, done: Default::default() }
        })
        .collect();
    let order = ScoreOrder {
        log: Default::default(),
        adapters: vec![None],
        tasks,
        token_budget: 1024,
        exact: false,
        softmax: Softmax::Fp32,
    };
    let mut scores = vec![BTreeMap::new(); order.tasks.len()];
    score_tasks(&model, &tokenizer, &[None], &order, |event| {
        if let ScoringEvent::Document(_, score) = event {
            scores[score.task].insert(score.document, score.metrics[0].clone());
        }
        Ok(())
    })
    .unwrap();
    for ((metric, scores), (name, reference)) in metrics.iter().zip(&scores).zip(expected) {
        for document in reference["docs"].as_array().unwrap() {
            let id = document["doc_id"].as_u64().unwrap() as usize;
            let (score, theirs) = (scores[&id].part(0), document["score"].as_f64().unwrap());
            assert!((score - theirs).abs() < 1e-4, "{name}, document {id}: {score} against {theirs}");
        }
        let values: Vec<DocumentValue> = scores.values().cloned().collect();
        let value = aggregate(*metric, &values).value;
        let theirs = reference["value"].as_f64().unwrap();
        assert!((value - theirs).abs() < 1e-5, "{name}: {value} against {theirs}");
    }
}
