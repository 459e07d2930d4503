//! Documents with pending requests; answers arrive in any order.

use floor::protocol::DocumentScore;
use floor::task::{Document, EncodedRequest, RequestScore, Task, score_requests_of};

use crate::failure::EngineError;

/// A document with the answers received so far.
struct Open {
    task: usize,
    document: Document,
    /// By member.
    answers: Vec<Answers>,
}

/// A member's answers to a document.
#[derive(Clone)]
struct Answers {
    scores: Vec<RequestScore>,
    /// Number of unanswered sequences.
    left: usize,
}

/// Collects answers to sequences into documents.
pub(super) struct Tally<F> {
    tasks: Vec<Task>,
    members: usize,
    open: Vec<Open>,
    /// Document and request of each sequence.
    owners: Vec<(usize, usize)>,
    report: F,
}

impl<F: FnMut(usize, DocumentScore) -> Result<(), EngineError>> Tally<F> {
    pub(super) fn new(members: usize, report: F) -> Self {
        Self { tasks: Vec::new(), members, open: Vec::new(), owners: Vec::new(), report }
    }

    /// Adds a task; returns its number.
    pub(super) fn add_task(&mut self, task: &Task) -> usize {
        self.tasks.push(task.clone());
        self.tasks.len() - 1
    }

    /// Adds a document, whose sequences are numbered after the known ones. A document without any is reported at once,
    /// with the log-likelihood of the empty string, 0.
    pub(super) fn open(
        &mut self,
        task: usize,
        mut document: Document,
        requests: &[Vec<EncodedRequest>],
    ) -> Result<(), EngineError> {
        let place = self.open.len();
        for (request, sequences) in requests.iter().enumerate() {
            self.owners.extend(sequences.iter().map(|_| (place, request)));
        }
        // Their texts are already tokens.
        document.requests = Vec::new();
        let scores = vec![RequestScore { log_likelihood: 0.0, is_greedy: true }; requests.len()];
        let left = requests.iter().map(Vec::len).sum();
        self.open.push(Open { task, document, answers: vec![Answers { scores, left }; self.members] });
        if left == 0 { (0..self.members).try_for_each(|member| self.finish(member, place)) } else { Ok(()) }
    }

    /// Records a member's answer to a sequence. Errors: it is not finite, what the report returns.
    pub(super) fn take(
        &mut self,
        member: usize,
        sequence: usize,
        answer: RequestScore,
    ) -> Result<(), EngineError> {
        let (place, request) = self.owners[sequence];
        let open = &mut self.open[place];
        if !answer.log_likelihood.is_finite() {
            return Err(EngineError::LikelihoodNotFinite {
                task: self.tasks[open.task].name.clone(),
                document: open.document.id,
                value: answer.log_likelihood,
            });
        }
        let answers = &mut open.answers[member];
        let score = &mut answers.scores[request];
        score.log_likelihood += answer.log_likelihood;
        score.is_greedy &= answer.is_greedy;
        answers.left -= 1;
        if answers.left == 0 { self.finish(member, place) } else { Ok(()) }
    }

    fn finish(&mut self, member: usize, place: usize) -> Result<(), EngineError> {
        let open = &mut self.open[place];
        let requests = std::mem::take(&mut open.answers[member].scores);
        let metrics = score_requests_of(&self.tasks[open.task], &open.document, &requests)?;
        let (task, document) = (open.task, open.document.id);
        let score = DocumentScore { task, document, requests, metrics, answers: Vec::new() };
        (self.report)(member, score)
    }
}
