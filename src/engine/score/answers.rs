//! Tasks whose answers are generated: their documents as prompts, and their answers as scores.

use std::rc::Rc;

use floor::pretrained::ModelTokenizer;
use floor::protocol::{DocumentScore, ScoreOrder};
use floor::task::{
    Document, Generation, RequestEncoder, StopWatch, Task, TaskSampling, cut_at_stops, score_answers,
};

use crate::decode::{AnswerRequest, DecodeLimits, Draw, Speaker, decode};
use crate::failure::EngineError;
use crate::interrupt::Pulse;
use crate::lora::Adapter;
use crate::model::Model;

/// Seed of what is drawn, as lm_eval seeds libtorch.
const SEED: u64 = 1234;

/// A task with what its answers have in common.
struct AnsweredTask {
    /// Its number in the order.
    number: usize,
    task: Task,
    generation: Generation,
    /// The texts that end an answer, the end-of-sequence text included.
    until: Vec<String>,
    stops: StopWatch,
    max_tokens: u64,
}

/// A document of a task, with its prompt.
struct Asked {
    task: Rc<AnsweredTask>,
    document: Document,
    prompt: Vec<u32>,
}

/// The documents of an order that are answered.
#[derive(Default)]
pub(super) struct AnsweredTasks {
    asked: Vec<Asked>,
}

/// A member's answers to a document.
#[derive(Clone)]
struct Answers {
    tokens: Vec<Vec<u32>>,
    left: usize,
}

impl AnsweredTasks {
    /// Adds a task's documents. Errors: a prompt that cannot be encoded, a checkpoint whose own rules are not supported.
    pub(super) fn add(
        &mut self,
        number: usize,
        task: Task,
        generation: Generation,
        documents: Vec<Document>,
        (encoder, tokenizer): (&RequestEncoder<'_>, &ModelTokenizer),
    ) -> Result<(), EngineError> {
        let defaults = tokenizer.generation_defaults();
        if let Some(unsupported) = defaults.unsupported.first() {
            return Err(EngineError::GenerationDefault { setting: unsupported.clone() });
        }
        let mut until = generation.settings.until.clone();
        until.extend(tokenizer.eos_text()?.filter(|eos| !generation.settings.until.contains(eos)));
        let stops = StopWatch::new(&until, tokenizer)?;
        let max_tokens = defaults.max_new_tokens.unwrap_or(generation.settings.max_tokens);
        let task = Rc::new(AnsweredTask { number, task, generation, until, stops, max_tokens });
        for document in documents {
            let Some(prompt) = encoder.prompt_of(&task.task, &document)? else { continue };
            self.asked.push(Asked { task: Rc::clone(&task), document, prompt: prompt.input });
        }
        Ok(())
    }

    /// Answers every document by every member, and reports each as soon as its last answer ends; a member whose logits are not finite
    /// is reported once, and goes on no more. Returns the number of tokens
    /// processed. Errors: a filter or metric that cannot be applied to an answer, what `report` returns.
    pub(super) fn answer(
        &self,
        (model, tokenizer): (&Model, &ModelTokenizer),
        members: &[Option<&Adapter>],
        order: &ScoreOrder,
        report: &mut dyn FnMut(usize, Result<DocumentScore, EngineError>) -> Result<(), EngineError>,
        pulse: &mut Pulse<'_>,
    ) -> Result<u64, EngineError> {
        let (mut requests, mut owners) = (Vec::new(), Vec::new());
        for (place, asked) in self.asked.iter().enumerate() {
            let sampling = asked.task.generation.settings.sampling;
            for repeat in 0..asked.computed() {
                let answer = asked.document.id as u64 * asked.task.generation.repeats + repeat as u64;
                requests.push(AnswerRequest {
                    prompt: &asked.prompt,
                    max_tokens: usize::try_from(asked.task.max_tokens).unwrap_or(usize::MAX),
                    draw: sampling.map(|sampling| draw(sampling, answer)),
                    stops: &asked.task.stops,
                });
                owners.push((place, repeat));
            }
        }
        let fresh =
            |asked: &Asked| Answers { tokens: vec![Vec::new(); asked.computed()], left: asked.computed() };
        let mut open: Vec<Vec<Answers>> =
            members.iter().map(|_| self.asked.iter().map(fresh).collect()).collect();
        let ends = tokenizer.stops();
        let defaults = tokenizer.generation_defaults();
        let speaker = Speaker { model, tokenizer: Some(tokenizer), ends: &ends, defaults };
        let mut take = |member: usize, request: usize, token: Option<u32>, has_ended: bool| {
            let (place, repeat) = owners[request];
            let Some(token) = token else {
                let asked = &self.asked[place];
                let (task, document) = (asked.task.task.name.clone(), asked.document.id);
                return report(member, Err(EngineError::AnswerNotFinite { task, document }));
            };
            let answers = &mut open[member][place];
            answers.tokens[repeat].push(token);
            if !has_ended {
                return Ok(());
            }
            answers.left -= 1;
            if answers.left > 0 {
                return Ok(());
            }
            let tokens = std::mem::take(&mut answers.tokens);
            report(member, Ok(self.asked[place].score(&tokens, tokenizer)?))
        };
        let limits = DecodeLimits::of_budget(order.token_budget, model);
        decode(&speaker, members, &requests, limits, &mut take, pulse)
    }
}

fn draw(TaskSampling { temperature, top_p, top_k }: TaskSampling, answer: u64) -> Draw {
    Draw { temperature, top_p, top_k, seed: SEED, answer }
}

impl Asked {
    /// Answers that are computed: equal ones once.
    fn computed(&self) -> usize {
        match self.task.generation.settings.sampling {
            None => 1,
            Some(_) => self.task.generation.repeats as usize,
        }
    }

    fn score(&self, answers: &[Vec<u32>], tokenizer: &ModelTokenizer) -> Result<DocumentScore, EngineError> {
        let AnsweredTask { number, task, generation, until, .. } = &*self.task;
        let text =
            |tokens: &Vec<u32>| Ok(cut_at_stops(&tokenizer.decode_generated(tokens)?, until).to_owned());
        let mut texts = answers.iter().map(text).collect::<Result<Vec<String>, EngineError>>()?;
        if let (1, Some(only)) = (texts.len(), texts.first().cloned()) {
            texts.resize(generation.repeats as usize, only);
        }
        let scored = score_answers(task, generation, &self.document, &texts)?;
        Ok(DocumentScore {
            task: *number,
            document: self.document.id,
            requests: Vec::new(),
            metrics: scored.metrics,
            answers: texts,
        })
    }
}
