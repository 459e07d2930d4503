//! Log-likelihoods of the real model against lm_eval.

use loragrid::checkpoint::ModelTokenizer;
use loragrid::task::{Request, RequestScore, encode_request};
use tch::{Device, Kind};

use super::*;
use crate::score::score_requests;

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
    for task in ["arithmetic_2ds", "blimp_causative"] {
        let (mut requests, mut expected) = (Vec::new(), Vec::new());
        for document in json["tasks"][task]["docs"].as_array().unwrap() {
            for (index, pair) in document["requests"].as_array().unwrap().iter().enumerate() {
                let text = |side: usize| pair[side].as_str().unwrap().to_owned();
                let request = Request { context: text(0), continuation: text(1) };
                requests.push(encode_request(&tokenizer, &request, 8192).unwrap());
                expected.push(RequestScore {
                    log_likelihood: document["loglikelihoods"][index].as_f64().unwrap(),
                    is_greedy: document["is_greedy"][index].as_bool().unwrap(),
                });
            }
        }
        let (scores, _) = score_requests(&model, None, &requests, 1024).unwrap();
        let mut worst: f64 = 0.0;
        for (own, theirs) in scores.iter().zip(&expected) {
            worst = worst.max((own.log_likelihood - theirs.log_likelihood).abs());
            assert_eq!(own.is_greedy, theirs.is_greedy, "{task}");
        }
        assert!(worst <= 1e-3, "{task}: {worst}");
    }
}
