//! What users do to the queue, and its log.

use sqlx::{Postgres, Row, Transaction};

use super::connection::{Server, transaction};
use super::orders::{drop_wants, from_json, ids, json, order_of, write_order};
use super::submission::VersionRows;
use crate::job::{JobId, JobState, Transition};
use crate::store::boards::job_details::state_of;
use crate::store::error::StoreError;
use crate::store::now_ms;
use crate::store::queue::{Actor, Before, Operation, OperationKind, Undone, led_back, led_to};

/// Moves jobs within a transaction. Returns those that moved, each with the state before.
async fn move_in(
    tx: &mut Transaction<'_, Postgres>,
    jobs: &[JobId],
    transition: Transition,
    reason: Option<&str>,
) -> Result<Vec<(JobId, JobState)>, StoreError> {
    let lock = sqlx::query("SELECT id, state FROM jobs WHERE id = ANY($1) ORDER BY id FOR UPDATE");
    let mut moved = Vec::new();
    for row in lock.bind(ids(jobs)).fetch_all(&mut **tx).await? {
        let (job, from) = (JobId::from_store(row.try_get(0)?), state_of(row.try_get(1)?)?);
        // The transition function decides.
        let Ok(to) = from.after(transition) else { continue };
        let update = sqlx::query("UPDATE jobs SET state = $1, reason = $2 WHERE id = $3");
        let update = update.bind(to.as_str()).bind(reason).bind(job.as_str());
        update.execute(&mut **tx).await?;
        moved.push((job, from));
    }
    moved.sort_by_key(|(job, _)| jobs.iter().position(|other| other == job));
    Ok(moved)
}

async fn note(
    tx: &mut Transaction<'_, Postgres>,
    actor: &Actor,
    kind: OperationKind,
    subject: &str,
    before: &Before,
) -> Result<(), StoreError> {
    let insert = sqlx::query(
        "INSERT INTO operations (at_ms, who, origin, kind, subject, before) VALUES ($1, $2, $3, $4, $5, $6)",
    );
    let insert = insert.bind(now_ms()).bind(&actor.who).bind(actor.origin.as_str()).bind(kind.as_str());
    insert.bind(subject).bind(json("an operation", before)?).execute(&mut **tx).await?;
    Ok(())
}

impl Server {
    pub(super) async fn moved(
        &self,
        jobs: &[JobId],
        transition: Transition,
        reason: Option<&str>,
    ) -> Result<Vec<(JobId, JobState)>, StoreError> {
        transaction!(self, |tx| { move_in(tx, jobs, transition, reason).await })
    }

    /// As [`crate::store::Store::operate`].
    pub(in crate::store) async fn operate(
        &self,
        actor: &Actor,
        subject: &str,
        jobs: &[JobId],
        transition: Transition,
        reason: Option<&str>,
    ) -> Result<Vec<JobId>, StoreError> {
        transaction!(self, |tx| {
            let moved = move_in(tx, jobs, transition, reason).await?;
            if let Some(kind) = OperationKind::of(transition).filter(|_| !moved.is_empty()) {
                let before = Before { jobs: moved.clone(), priority: None };
                note(tx, actor, kind, subject, &before).await?;
            }
            Ok(moved.into_iter().map(|(job, _)| job).collect())
        })
    }

    /// Notes an operation that has happened.
    pub(in crate::store) async fn note_operation(
        &self,
        actor: &Actor,
        kind: OperationKind,
        subject: &str,
        before: &Before,
    ) -> Result<(), StoreError> {
        transaction!(self, |tx| { note(tx, actor, kind, subject, before).await })
    }

    /// Gives waiting jobs this priority in a sweep. Returns how many got another one.
    pub(in crate::store) async fn set_priority(
        &self,
        sweep: &str,
        waiting: &[JobId],
        priority: i64,
    ) -> Result<u64, StoreError> {
        let mut waiting: Vec<&JobId> = waiting.iter().collect();
        waiting.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        transaction!(self, |tx| {
            let mut changed = 0;
            for job in &waiting {
                let Some(mut order) = order_of(tx, job).await? else { continue };
                let state: String = sqlx::query_scalar("SELECT state FROM jobs WHERE id = $1")
                    .bind(job.as_str())
                    .fetch_one(&mut **tx)
                    .await?;
                let is_waiting = matches!(state_of(&state)?, JobState::Queued | JobState::Paused);
                let wants = order.sweeps.get_mut(sweep);
                let Some(wants) = wants.filter(|wants| is_waiting && wants.priority != priority) else {
                    continue;
                };
                wants.priority = priority;
                write_order(tx, &order).await?;
                changed += 1;
            }
            Ok(changed)
        })
    }

    /// Takes an operation back, as [`crate::store::Store::undo`]; `waiting` are the sweep's waiting jobs, for a priority.
    pub(in crate::store) async fn undo(
        &self,
        actor: &Actor,
        operation: &Operation,
        waiting: &[JobId],
    ) -> Result<Undone, StoreError> {
        let before = &operation.before;
        let mut priorities = 0;
        if let Some(priority) = before.priority {
            priorities = self.set_priority(&operation.subject, waiting, priority).await?;
        }
        transaction!(self, |tx| {
            let mut undone = Undone { moved: priorities, left: 0, operation: operation.clone() };
            let update = "UPDATE operations SET undone_ms = $1 WHERE id = $2 AND undone_ms IS NULL";
            let updated = sqlx::query(update).bind(now_ms()).bind(operation.id).execute(&mut **tx).await?;
            if updated.rows_affected() == 0 {
                return Err(StoreError::NotUndoable { id: operation.id, why: "it was taken back meanwhile" });
            }
            let mut jobs = before.jobs.clone();
            jobs.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
            for (job, from) in &jobs {
                let query = sqlx::query_scalar("SELECT state FROM jobs WHERE id = $1 FOR UPDATE");
                let state: Option<String> = query.bind(job.as_str()).fetch_optional(&mut **tx).await?;
                let state = state.as_deref().map(state_of).transpose()?;
                let is_there = state.is_some_and(|state| led_to(operation.kind).contains(&state));
                let mut is_moved = false;
                for transition in led_back(operation.kind, *from).iter().filter(|_| is_there) {
                    is_moved |= !move_in(tx, std::slice::from_ref(job), *transition, None).await?.is_empty();
                }
                undone.moved += u64::from(is_moved);
                undone.left += u64::from(!is_moved);
            }
            let subject = format!("{} {}", operation.kind.as_str(), operation.subject);
            note(tx, actor, OperationKind::Undo, &subject, &Before::default()).await?;
            Ok(undone)
        })
    }

    /// Removes a sweep. Jobs and results are kept, so that a later sweep can reuse them. Error: no such sweep.
    pub(in crate::store) async fn remove_sweep(&self, name: &str) -> Result<(), StoreError> {
        transaction!(self, |tx| {
            let select = "SELECT id FROM sweeps WHERE name = $1 AND NOT is_removed FOR UPDATE";
            let id: Option<i64> = sqlx::query_scalar(select).bind(name).fetch_optional(&mut **tx).await?;
            let id = id.ok_or_else(|| StoreError::NoSweep { name: name.to_owned(), known: Vec::new() })?;
            let rows = sqlx::query_scalar("SELECT rows FROM sweep_versions WHERE sweep_id = $1");
            let rows: Vec<String> = rows.bind(id).fetch_all(&mut **tx).await?;
            let mut jobs = std::collections::HashSet::new();
            for text in &rows {
                jobs.extend(from_json::<VersionRows>("a version", text)?.job_ids()?);
            }
            drop_wants(tx, name, &jobs.into_iter().collect::<Vec<_>>()).await?;
            sqlx::query("DELETE FROM sweep_versions WHERE sweep_id = $1").bind(id).execute(&mut **tx).await?;
            let remove = sqlx::query("UPDATE sweeps SET is_removed = TRUE WHERE id = $1");
            remove.bind(id).execute(&mut **tx).await?;
            Ok(())
        })
    }
}
