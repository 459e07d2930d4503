//! Log-likelihoods of the real model against lm_eval.

use loragrid::checkpoint::ModelTokenizer;
use loragrid::job::PromptProfile;
use loragrid::task::{EncodedRequest, Request, RequestEncoder, RequestScore};
use tch::{Device, Kind};

use super::*;
use crate::failure::EngineError;
use crate::model::Model;
use crate::score::{Take, Way, score_exactly, score_requests};

/// A request of the reference, context and continuation, as tokens.
fn encoded(pair: &serde_json::Value, tokenizer: &ModelTokenizer) -> EncodedRequest {
    let text = |side: usize| pair[side].as_str().unwrap().to_owned();
    let request = Request::Pair { context: text(0), continuation: text(1) };
    RequestEncoder::new(tokenizer, 8192, PromptProfile::LmEval).encode(&request).unwrap().remove(0)
}

/// The scores of requests in their order, and the tokens that went through the model.
fn walked(model: &Model, requests: &[EncodedRequest], budget: usize) -> (Vec<RequestScore>, u64) {
    collected(requests.len(), |take| score_requests(model, None, requests, Way::precise(budget), take))
}

/// As [`walked`], one request at a time.
fn exact(model: &Model, requests: &[EncodedRequest]) -> (Vec<RequestScore>, u64) {
    collected(requests.len(), |take| score_exactly(model, None, requests, Way::precise(1), take))
}

fn collected(
    count: usize,
    score: impl FnOnce(&mut Take<'_>) -> Result<u64, EngineError>,
) -> (Vec<RequestScore>, u64) {
    let mut scores = vec![None; count];
    let tokens = score(&mut |number, score| {
        assert!(scores[number].replace(score).is_none(), "request {number} is answered twice");
        Ok(())
    });
    (scores.into_iter().map(|score| score.expect("every request is answered")).collect(), tokens.unwrap())
}

#[test]
fn the_real_models_log_likelihoods_equal_lm_evals() {
    let (Some(path), Some(file)) = (outside("LORAGRID_TEST_MODEL", ""), reference("lm_eval_smollm2.json"))
    else {
        return;
    };
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let tokenizer = ModelTokenizer::open(&checkpoint).unwrap();
    let model = load(&checkpoint, Storage::DENSE, Kind::Float, Device::Cpu).unwrap();
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
        for (own, theirs) in scores.iter().zip(&expected) {
            worst = worst.max((own.log_likelihood - theirs.log_likelihood).abs());
            assert_eq!(own.is_greedy, theirs.is_greedy, "{task}");
        }
        assert!(worst <= 1e-3, "{task}: {worst}");
    }
}

/// In double precision: any token budget, prefixes shared or not.
#[test]
fn the_walk_over_a_trie_scores_as_one_request_at_a_time() {
    for folder in folders_with("expected.safetensors", &[]) {
        let model = model(&folder, Kind::Double);
        // Prefixes of prefixes, equal requests, one that ends inside another, runs longer than a window.
        let requests: Vec<EncodedRequest> = (0..60u32)
            .map(|n| {
                let shared = (3..3 + n % 23).collect::<Vec<u32>>();
                let own = [n % 3, n % 7 + 2, 5, n % 2];
                let input = [&[1], shared.as_slice(), &own[..(n % 5) as usize]].concat();
                let targets = (0..1 + (n % 4) as usize % input.len()).map(|t| t as u32 + n % 11).collect();
                EncodedRequest { input, targets }
            })
            .collect();
        let (slow, all) = exact(&model, &requests);
        for budget in [1, 17, 1024] {
            let (fast, tokens) = walked(&model, &requests, budget);
            assert!(tokens < all / 4, "{tokens} of {all}");
            for (own, other) in fast.iter().zip(&slow) {
                let difference = (own.log_likelihood - other.log_likelihood).abs();
                assert!(difference < 1e-10, "{}: {difference}", name_of(&folder));
                assert_eq!(own.is_greedy, other.is_greedy, "{}", name_of(&folder));
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
    let checkpoint = Checkpoint::open(&path).unwrap();
    let tokenizer = ModelTokenizer::open(&checkpoint).unwrap();
    let model = load(&checkpoint, Storage::DENSE, Kind::Float, Device::Cpu).unwrap();
    let mut requests = Vec::new();
    for task in json["tasks"].as_object().unwrap().values() {
        for document in task["docs"].as_array().unwrap().iter().take(2) {
            requests.extend(
                document["requests"].as_array().unwrap().iter().map(|pair| encoded(pair, &tokenizer)),
            );
        }
    }
    let (slow, _) = exact(&model, &requests);
    let (fast, _) = walked(&model, &requests, 1024);
    let mut worst: f64 = 0.0;
    for (own, other) in fast.iter().zip(&slow) {
        worst = worst.max((own.log_likelihood - other.log_likelihood).abs());
        assert_eq!(own.is_greedy, other.is_greedy);
    }
    eprintln!("{} requests differ by at most {worst:.1e}", fast.len());
    assert!(worst <= 1e-4, "{worst}");
}
