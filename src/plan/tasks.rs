//! The tasks of a sweep.

use super::context::PlanContext;
use super::error::PlanError;
use super::models::PlannedModel;
use crate::job::{Digest, EvalConfig, ScoreFacts, ScoreKey, SubjectKey};
use crate::passes::trie::{Query, Trie};
use crate::task::{Catalogue, Task, TaskError, build_documents, encode_request};

/// A task of the sweep, on a number of its documents.
#[derive(Debug, Clone)]
pub struct PlannedTask {
    /// Its definition.
    pub task: Task,
    /// Definition and documents, hashed; of documents that are not here, their name.
    pub version: Digest,
    /// On how many documents, and how.
    pub facts: ScoreFacts,
    /// Documents to score; none where they are not here.
    pub documents: Option<u64>,
    /// Tokens that its requests take, each shared prefix once, by the first model that is here; 0 where that is not known.
    pub tokens: u64,
}

impl PlannedTask {
    /// The key of a subject's scores on it.
    pub fn key(&self, subject: SubjectKey) -> ScoreKey {
        ScoreKey::of(subject, self.version, self.facts)
    }

    /// The task that a sweep names, every document built and, where a model is here, encoded. Errors: unknown,
    /// malformed, a document that cannot be built.
    pub(super) fn find(
        name: &str,
        eval: &EvalConfig,
        folder: &std::path::Path,
        models: &[PlannedModel],
        context: &mut PlanContext<'_>,
    ) -> Result<Self, PlanError> {
        let task =
            Catalogue { folder, roots: &context.roots, tasks: None }.find(name)?.with_shots(eval.num_fewshot);
        let facts = score_facts(eval);
        let shots = match (task.shots.count, &task.shots.documents) {
            (0, _) => Some(None),
            (_, Some(source)) => Some(Some(source)),
            (_, None) => None,
        };
        let (Some(source), Some(shots)) = (&task.documents, shots) else {
            let version = task.version_digest(Digest::of(task.documents_name.as_bytes()));
            return Ok(Self { task, version, facts, documents: None, tokens: 0 });
        };
        let read = |source| TaskError::Documents { task: task.name.clone(), source };
        let mut content = source.identity(context.digests).map_err(read)?;
        if let Some(shots) = shots {
            let examples = shots.identity(context.digests).map_err(read)?;
            content = Digest::of(format!("{content} {examples}").as_bytes());
        }
        let documents = build_documents(&task, facts.limit)?;
        let mut encoded = Vec::new();
        let local = models.iter().find_map(|model| Some((model.local.as_ref()?, &model.config)));
        if let Some((local, config)) = local {
            for request in documents.iter().flat_map(|document| &document.requests) {
                encoded.push(encode_request(&local.tokenizer, request, config.max_positions as usize)?);
            }
        }
        let queries: Vec<Query<'_>> =
            encoded.iter().map(|r| Query { input: &r.input, targets: &r.targets }).collect();
        let tokens = Trie::new(&queries).tokens() as u64;
        Ok(Self {
            version: task.version_digest(content),
            facts,
            documents: Some(documents.len() as u64),
            tokens,
            task,
        })
    }
}

/// What an evaluation says of how tasks are scored.
pub(super) fn score_facts(eval: &EvalConfig) -> ScoreFacts {
    ScoreFacts { limit: eval.limit, num_fewshot: eval.num_fewshot, prompts: eval.prompt_profile }
}
