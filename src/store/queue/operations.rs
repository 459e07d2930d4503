//! The log of what users did to the queue, and taking it back.

use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};

use crate::job::{JobId, JobState, Transition};
use crate::store::boards::job_details::read_state;
use crate::store::error::StoreError;
use crate::store::now_ms;
use crate::store::open::Store;

/// Who does something, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// `USER@HOST`.
    pub who: String,
    /// Where it came from.
    pub origin: Origin,
}

/// Where an operation came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A command.
    Command,
    /// The view of a sweep in a terminal.
    Watch,
    /// A form of a page.
    Page,
}

impl Origin {
    /// Its stored word.
    pub(in crate::store) fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Watch => "watch",
            Self::Page => "page",
        }
    }
}

impl Actor {
    /// The user of this process.
    pub fn here(origin: Origin) -> Self {
        let uid = nix::unistd::geteuid();
        let user = nix::unistd::User::from_uid(uid).ok().flatten().map_or(uid.to_string(), |user| user.name);
        let host = nix::unistd::gethostname().unwrap_or_default();
        Self { who: format!("{user}@{}", host.to_string_lossy()), origin }
    }
}

/// What a user did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Queued a version of a sweep.
    Submit,
    /// Paused jobs.
    Pause,
    /// Resumed paused jobs.
    Resume,
    /// Cancelled jobs.
    Cancel,
    /// Queued jobs again.
    Retry,
    /// Changed a sweep's priority.
    Priority,
    /// Removed a sweep.
    Remove,
    /// Took another operation back.
    Undo,
}

impl OperationKind {
    const ALL: [Self; 8] = [
        Self::Submit,
        Self::Pause,
        Self::Resume,
        Self::Cancel,
        Self::Retry,
        Self::Priority,
        Self::Remove,
        Self::Undo,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
            Self::Retry => "retry",
            Self::Priority => "priority",
            Self::Remove => "rm",
            Self::Undo => "undo",
        }
    }

    /// The kind of a transition that a user makes; none for those of workers.
    pub(in crate::store) fn of(transition: Transition) -> Option<Self> {
        match transition {
            Transition::Pause => Some(Self::Pause),
            Transition::Resume => Some(Self::Resume),
            Transition::Cancel => Some(Self::Cancel),
            Transition::Reopen => Some(Self::Retry),
            Transition::Claim
            | Transition::Finish
            | Transition::Fail
            | Transition::Diverge
            | Transition::Requeue => None,
        }
    }

    /// Why it cannot be taken back, if so.
    pub fn lasting(self) -> Option<&'static str> {
        match self {
            Self::Pause | Self::Resume | Self::Cancel | Self::Retry | Self::Priority => None,
            Self::Submit => {
                Some("jobs of it may have run; `loragrid cancel` stops them, `loragrid rm` removes it")
            }
            Self::Remove => Some("what was removed is gone; submit the sweep file again"),
            Self::Undo => Some("repeat the command instead"),
        }
    }
}

/// What was so before an operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The jobs that it moved, each with its state.
    #[serde(default)]
    pub jobs: Vec<(JobId, JobState)>,
    /// The priority of the sweep.
    #[serde(default)]
    pub priority: Option<i64>,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Operation {
    /// Its number.
    pub id: i64,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// `USER@HOST`.
    pub who: String,
    /// `command`, `watch` or `page`.
    pub origin: String,
    /// What was done.
    pub kind: OperationKind,
    /// The sweep or job as it was named.
    pub subject: String,
    /// What was so before.
    pub before: Before,
    /// Milliseconds since 1970 when it was taken back.
    pub undone_ms: Option<i64>,
}

/// What taking an operation back did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Undone {
    /// The operation.
    pub operation: Operation,
    /// Jobs that are again as they were; those that ran are queued, and those that failed are cancelled, since neither can be had back.
    pub moved: u64,
    /// Jobs that have gone on since, and stay as they are.
    pub left: u64,
}

impl Store {
    /// Moves jobs as [`Store::move_jobs`], for a user who named them so. Returns the jobs that moved.
    pub async fn operate(
        &self,
        actor: &Actor,
        subject: &str,
        jobs: &[JobId],
        transition: Transition,
        reason: Option<&str>,
    ) -> Result<Vec<JobId>, StoreError> {
        if let Some(server) = &self.server {
            let moved = server.operate(actor, subject, jobs, transition, reason).await?;
            self.refresh().await?;
            return Ok(moved);
        }
        let mut tx = self.begin().await?;
        let moved = super::control::move_in(&mut tx, jobs, transition, reason).await?;
        if let Some(kind) = OperationKind::of(transition).filter(|_| !moved.is_empty()) {
            let before = Before { jobs: moved.clone(), priority: None };
            note(&mut tx, actor, kind, subject, &before).await?;
        }
        tx.commit().await?;
        Ok(moved.into_iter().map(|(job, _)| job).collect())
    }

    /// Notes an operation that has happened.
    pub async fn note_operation(
        &self,
        actor: &Actor,
        kind: OperationKind,
        subject: &str,
        before: &Before,
    ) -> Result<(), StoreError> {
        if let Some(server) = &self.server {
            return server.note_operation(actor, kind, subject, before).await;
        }
        let mut tx = self.begin().await?;
        note(&mut tx, actor, kind, subject, before).await?;
        Ok(tx.commit().await?)
    }

    /// The last operations, the newest first.
    pub async fn operations(&self, most: u64) -> Result<Vec<Operation>, StoreError> {
        let query = sqlx::query(
            "SELECT id, at_ms, who, origin, kind, subject, before, undone_ms FROM operations ORDER BY id DESC LIMIT $1",
        );
        let rows = query.bind(i64::try_from(most).unwrap_or(i64::MAX)).fetch_all(&self.pool).await?;
        rows.iter().map(read).collect()
    }

    /// Takes an operation back; the last one that can be where none is numbered. A job that has moved on since stays as it is. Errors:
    /// no such operation, one that lasts or was taken back already.
    pub async fn undo(&self, actor: &Actor, number: Option<i64>) -> Result<Undone, StoreError> {
        let operation = self.to_undo(number).await?;
        let before = &operation.before;
        if let Some(server) = &self.server {
            let states = [JobState::Queued, JobState::Paused];
            let waiting = match before.priority {
                Some(_) => self.jobs_in(Some(&operation.subject), &states).await?,
                None => Vec::new(),
            };
            let undone = server.undo(actor, &operation, &waiting).await?;
            self.refresh().await?;
            return Ok(undone);
        }
        let mut undone = Undone { moved: 0, left: 0, operation: operation.clone() };
        if let Some(priority) = before.priority {
            undone.moved = self.set_priority(&operation.subject, priority).await?;
        }
        let mut tx = self.begin().await?;
        for (job, from) in &before.jobs {
            let state = state_in(&mut tx, job).await?;
            let is_there = state.is_some_and(|state| led_to(operation.kind).contains(&state));
            let mut is_moved = false;
            for transition in led_back(operation.kind, *from).iter().filter(|_| is_there) {
                let one = std::slice::from_ref(job);
                is_moved |= !super::control::move_in(&mut tx, one, *transition, None).await?.is_empty();
            }
            undone.moved += u64::from(is_moved);
            undone.left += u64::from(!is_moved);
        }
        let update = sqlx::query("UPDATE operations SET undone_ms = $1 WHERE id = $2 AND undone_ms IS NULL");
        let updated = update.bind(now_ms()).bind(operation.id).execute(&mut *tx).await?;
        if updated.rows_affected() == 0 {
            return Err(StoreError::NotUndoable { id: operation.id, why: "it was taken back meanwhile" });
        }
        let subject = format!("{} {}", operation.kind.as_str(), operation.subject);
        note(&mut tx, actor, OperationKind::Undo, &subject, &Before::default()).await?;
        tx.commit().await?;
        Ok(undone)
    }

    async fn to_undo(&self, number: Option<i64>) -> Result<Operation, StoreError> {
        let all = self.operations(u64::MAX).await?;
        let is_meant = |operation: &Operation| match number {
            Some(number) => operation.id == number,
            None => operation.undone_ms.is_none() && operation.kind.lasting().is_none(),
        };
        let found = all.into_iter().find(is_meant).ok_or(StoreError::NoOperation { id: number })?;
        let refuse = |why| StoreError::NotUndoable { id: found.id, why };
        if let Some(why) = found.kind.lasting() {
            return Err(refuse(why));
        }
        if found.undone_ms.is_some() {
            return Err(refuse("it was taken back already"));
        }
        Ok(found)
    }
}

/// The states of a job that has not moved on since an operation; one that it queued may run by now.
pub(in crate::store) fn led_to(kind: OperationKind) -> &'static [JobState] {
    match kind {
        OperationKind::Pause => &[JobState::Paused],
        OperationKind::Cancel => &[JobState::Cancelled],
        OperationKind::Resume | OperationKind::Retry => &[JobState::Queued, JobState::Running],
        OperationKind::Submit | OperationKind::Priority | OperationKind::Remove | OperationKind::Undo => &[],
    }
}

async fn state_in(tx: &mut Transaction<'_, Sqlite>, job: &JobId) -> Result<Option<JobState>, StoreError> {
    let query = sqlx::query("SELECT state FROM jobs WHERE id = $1").bind(job.as_str());
    query.fetch_optional(&mut **tx).await?.map(|row| read_state(&row, 0)).transpose()
}

/// The transitions that lead back to a state, one after another. A job that ran is queued: it goes on from its checkpoint.
pub(in crate::store) fn led_back(kind: OperationKind, from: JobState) -> &'static [Transition] {
    match kind {
        OperationKind::Pause => &[Transition::Resume],
        OperationKind::Cancel if from == JobState::Paused => &[Transition::Reopen, Transition::Pause],
        OperationKind::Cancel => &[Transition::Reopen],
        OperationKind::Resume => &[Transition::Pause],
        // One that failed or diverged cannot do so again without running.
        OperationKind::Retry => &[Transition::Cancel],
        OperationKind::Submit | OperationKind::Priority | OperationKind::Remove | OperationKind::Undo => &[],
    }
}

async fn note(
    tx: &mut Transaction<'_, Sqlite>,
    actor: &Actor,
    kind: OperationKind,
    subject: &str,
    before: &Before,
) -> Result<(), StoreError> {
    let before = serde_json::to_string(before)
        .map_err(|error| StoreError::Value { what: "an operation", value: error.to_string() })?;
    let insert = sqlx::query(
        "INSERT INTO operations (at_ms, who, origin, kind, subject, before) VALUES ($1, $2, $3, $4, $5, $6)",
    );
    let insert = insert.bind(now_ms()).bind(&actor.who).bind(actor.origin.as_str()).bind(kind.as_str());
    insert.bind(subject).bind(before).execute(&mut **tx).await?;
    Ok(())
}

fn read(row: &SqliteRow) -> Result<Operation, StoreError> {
    let kind: String = row.try_get(4)?;
    let known = OperationKind::ALL.into_iter().find(|known| known.as_str() == kind);
    let before: String = row.try_get(6)?;
    Ok(Operation {
        id: row.try_get(0)?,
        at_ms: row.try_get(1)?,
        who: row.try_get(2)?,
        origin: row.try_get(3)?,
        kind: known.ok_or(StoreError::Value { what: "an operation", value: kind })?,
        subject: row.try_get(5)?,
        before: serde_json::from_str(&before)
            .map_err(|error| StoreError::Value { what: "an operation", value: error.to_string() })?,
        undone_ms: row.try_get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_back_ends_where_it_was_or_waits_to_go_on() {
        let cases = [
            (OperationKind::Pause, Transition::Pause),
            (OperationKind::Cancel, Transition::Cancel),
            (OperationKind::Resume, Transition::Resume),
        ];
        for (kind, transition) in cases {
            for from in transition.sources() {
                let after = from.after(transition).unwrap();
                assert!(led_to(kind).contains(&after), "{kind:?} leads to {after:?}");
                let back = led_back(kind, from).iter().fold(after, |state, back| state.after(*back).unwrap());
                let wanted = if from == JobState::Running { JobState::Queued } else { from };
                assert_eq!(back, wanted, "{kind:?} of a job that was {from:?}");
            }
        }
    }
}
