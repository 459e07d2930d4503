//! Sweeps: finished work, and submitting a plan to the queue.

use std::collections::HashSet;
use std::path::PathBuf;

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row, Sqlite, SqliteConnection, Transaction};
use thiserror::Error;

use crate::job::{CellKey, DType, Digest, JobId, JobState, Settings, StoredOrigin, TRAINING_VERSION, Value};
use crate::orders::JobOrder;
use crate::plan::{CompletedWork, Plan, PlannedJob, Work};
use crate::queue::Submission;
use crate::store::error::StoreError;
use crate::store::now_ms;
use crate::store::open::Store;
use crate::store::queue::{drop_wants, put_order, text_of};
use crate::sweep_file::{Problem, SourceText, SpecError, SweepSpec};

/// The origin of a version of a sweep, so that it can be planned again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepOrigin {
    /// The sweep file; relative paths in it are resolved against its folder.
    pub file: PathBuf,
    /// A folder of task files.
    pub include_path: Option<PathBuf>,
    /// The `--set` overrides.
    pub overrides: Vec<(String, String)>,
    /// Values resolved at submission, reused when the sweep is planned again: `train.dtype = "auto"`.
    pub pinned: Vec<(String, String)>,
}

impl SweepOrigin {
    /// The same for a sweep derived from this one: keys that it sets itself are not pinned.
    pub fn pinned_for(mut self, spec: &SweepSpec) -> Self {
        self.pinned.retain(|(key, _)| spec.settings.value(key).is_none());
        self
    }
}

/// The newest version of a sweep as it was submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSweep {
    /// The file's content.
    pub text: String,
    /// Its origin.
    pub origin: SweepOrigin,
    /// The user who submitted it; none if an earlier release did not record it.
    pub submitter: Option<u32>,
}

/// Why a stored file can no longer be parsed.
#[derive(Debug, Error)]
pub enum StoredSpecError {
    /// The file.
    #[error(transparent)]
    File(#[from] SpecError),
    /// An override.
    #[error(transparent)]
    Override(#[from] Problem),
}

impl StoredSweep {
    /// Its file, checked again with the overrides and the values resolved at submission. Errors: the file's.
    pub fn spec(&self) -> Result<SweepSpec, StoredSpecError> {
        let mut spec = SweepSpec::parse(SourceText::new(&self.origin.file, &self.text))?;
        for (key, value) in self.origin.overrides.iter().chain(&self.origin.pinned) {
            spec.set(key, value)?;
        }
        Ok(spec)
    }
}

/// A version of a sweep.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SweepVersion {
    /// Its number.
    pub version: i64,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Its jobs.
    pub jobs: i64,
    /// Jobs that the previous version did not have.
    pub added: i64,
    /// Jobs of the previous version that it does not have.
    pub dropped: i64,
}

impl Store {
    /// The newest version of a sweep as it was submitted. Error: no such sweep.
    pub async fn sweep(&self, name: &str) -> Result<StoredSweep, StoreError> {
        let (sweep, version, _) = self.find_sweep(Some(name)).await?;
        let query = sqlx::query(
            "SELECT text, file, include_path, overrides, submitter, pinned FROM sweep_versions
             WHERE sweep_id = $1 AND version = $2",
        );
        let row = query.bind(sweep).bind(version).fetch_one(&self.pool).await?;
        let include_path: Option<String> = row.try_get(2)?;
        let origin = SweepOrigin {
            file: PathBuf::from(row.try_get::<String, _>(1)?),
            include_path: include_path.map(PathBuf::from),
            overrides: crate::store::boards::job_details::read_json(&row, 3)?,
            pinned: crate::store::boards::job_details::read_json(&row, 5)?,
        };
        let submitter: Option<i64> = row.try_get(4)?;
        let submitter = submitter.and_then(|id| u32::try_from(id).ok());
        Ok(StoredSweep { text: row.try_get(0)?, origin, submitter })
    }

    /// The sweep that requested a job last. Error: no sweep has it.
    pub async fn sweep_of(&self, job: &JobId) -> Result<String, StoreError> {
        let query = sqlx::query(
            "SELECT s.name FROM sweep_jobs sj
             JOIN sweep_versions v ON v.sweep_id = sj.sweep_id AND v.version = sj.version
             JOIN sweeps s ON s.id = sj.sweep_id WHERE sj.job_id = $1 ORDER BY v.created_ms DESC, s.id DESC LIMIT 1",
        );
        let row = query.bind(job.as_str()).fetch_optional(&self.pool).await?;
        let row = row.ok_or_else(|| StoreError::NoJob { prefix: job.to_string(), found: 0 })?;
        Ok(row.try_get(0)?)
    }

    /// All versions of a sweep, the first one first. Error: no such sweep.
    pub async fn history(&self, name: &str) -> Result<Vec<SweepVersion>, StoreError> {
        let (sweep, _, _) = self.find_sweep(Some(name)).await?;
        let lacks = |of: &str, in_: &str| {
            format!(
                "(SELECT COUNT(*) FROM sweep_jobs a WHERE a.sweep_id = v.sweep_id AND a.version = {of}
                  AND NOT EXISTS (SELECT 1 FROM sweep_jobs b WHERE b.sweep_id = v.sweep_id AND b.version = {in_}
                                  AND b.job_id = a.job_id))"
            )
        };
        let query = format!(
            "SELECT v.version, v.created_ms,
                    (SELECT COUNT(*) FROM sweep_jobs a WHERE a.sweep_id = v.sweep_id AND a.version = v.version),
                    {}, {} FROM sweep_versions v WHERE v.sweep_id = $1 ORDER BY v.version",
            lacks("v.version", "v.version - 1"),
            lacks("v.version - 1", "v.version")
        );
        let rows = sqlx::query(AssertSqlSafe(query)).bind(sweep).fetch_all(&self.pool).await?;
        let read = |row: &SqliteRow| {
            let (version, created_ms, jobs) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok(SweepVersion { version, created_ms, jobs, added: row.try_get(3)?, dropped: row.try_get(4)? })
        };
        rows.iter().map(read).collect()
    }

    /// Finished work of all sweeps.
    pub async fn known(&self) -> Result<CompletedWork, StoreError> {
        let mut known = CompletedWork::default();
        let trainings = sqlx::query("SELECT subject, adapter_removed IS NOT NULL FROM trainings");
        for row in trainings.fetch_all(&self.pool).await? {
            let (subject, removed): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
            let there = !removed && self.has_adapter(&subject);
            let subjects = if there { &mut known.trained } else { &mut known.removed };
            subjects.insert(read_digest(&row, 0)?);
        }
        for row in sqlx::query("SELECT DISTINCT score_key FROM task_scores").fetch_all(&self.pool).await? {
            known.scored.insert(read_digest(&row, 0)?);
        }
        for row in sqlx::query("SELECT subject, sample_key FROM sample_texts").fetch_all(&self.pool).await? {
            known.sampled.insert((read_digest(&row, 0)?, read_digest(&row, 1)?));
        }
        let speeds = sqlx::query(
            "SELECT j.model_identity, j.dtype, SUM(t.tokens) / SUM(t.seconds) FROM trainings t
             JOIN jobs j ON j.subject = t.subject WHERE t.seconds > 0 GROUP BY j.model_identity, j.dtype",
        );
        for row in speeds.fetch_all(&self.pool).await? {
            let word: String = row.try_get(1)?;
            let dtype = DType::parse(&word).ok_or(StoreError::Value { what: "a dtype", value: word })?;
            known.throughput.insert((read_digest(&row, 0)?, dtype), row.try_get(2)?);
        }
        let last = sqlx::query(
            "SELECT s.name, v.version, sj.job_id, j.state = 'done' AND j.numerics < $1 FROM sweeps s
             JOIN (SELECT sweep_id, MAX(version) AS version FROM sweep_versions GROUP BY sweep_id) v
                 ON v.sweep_id = s.id
             JOIN sweep_jobs sj ON sj.sweep_id = s.id AND sj.version = v.version JOIN jobs j ON j.id = sj.job_id",
        );
        for row in last.bind(i64::from(TRAINING_VERSION)).fetch_all(&self.pool).await? {
            let version = known.last.entry(row.try_get(0)?).or_default();
            version.version = row.try_get(1)?;
            version.jobs.insert(JobId::from_store(row.try_get(2)?));
            version.older += usize::from(row.try_get::<bool, _>(3)?);
        }
        Ok(known)
    }

    /// Gives jobs of an earlier release their orders from a new plan of their sweep; jobs that are not queued are not changed.
    pub async fn adopt(&self, name: &str, plan: &Plan) -> Result<(), StoreError> {
        let (sweep, version, _) = self.find_sweep(Some(name)).await?;
        let created =
            sqlx::query("SELECT created_ms FROM sweep_versions WHERE sweep_id = $1 AND version = $2");
        let created = created.bind(sweep).bind(version).fetch_one(&self.pool).await?.try_get(0)?;
        let planned: Vec<JobId> = plan.jobs.iter().map(|job| job.id.clone()).collect();
        let known: HashSet<JobId> = self.without_orders(name, &planned).await?.into_iter().collect();
        let mut tx = self.begin().await?;
        for order in plan.orders(created, 0).into_iter().filter(|order| known.contains(&order.id)) {
            put_order(&mut tx, &Submission { order, is_done: true }).await?;
        }
        insert_tasks(&mut tx, (sweep, version), plan).await?;
        insert_samples(&mut tx, (sweep, version), plan).await?;
        Ok(tx.commit().await?)
    }

    /// Stores the plan as the newest version of its sweep and queues missing work: new jobs, and jobs that are done, failed or diverged
    /// but lack something that this version wants. A version equal to the last one is not stored again. Without a priority the sweep
    /// keeps its current one. Returns the version's number.
    pub async fn submit(
        &self,
        plan: &Plan,
        origin: &SweepOrigin,
        priority: Option<i64>,
    ) -> Result<i64, StoreError> {
        if let Some(server) = &self.server {
            return self.submit_to_server(server, plan, origin, priority).await;
        }
        self.submit_to_file(plan, origin, priority).await
    }

    /// As [`Store::submit`], into the file itself.
    pub(in crate::store) async fn submit_to_file(
        &self,
        plan: &Plan,
        origin: &SweepOrigin,
        priority: Option<i64>,
    ) -> Result<i64, StoreError> {
        let mut tx = self.begin().await?;
        let name = plan.name.as_str();
        let insert = "INSERT INTO sweeps (name, created_ms) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
        sqlx::query(insert).bind(name).bind(now_ms()).execute(&mut *tx).await?;
        let select = sqlx::query("SELECT id FROM sweeps WHERE name = $1").bind(name);
        let sweep: i64 = select.fetch_one(&mut *tx).await?.try_get(0)?;
        let dropped = dropped(&mut tx, sweep, plan).await?;
        drop_wants(&mut tx, name, &dropped).await?;
        let priority = match priority {
            Some(priority) => priority,
            None => last_priority(&mut tx, sweep, name).await?,
        };
        for (job, order) in plan.jobs.iter().zip(plan.orders(now_ms(), priority)) {
            if !insert_job(&mut tx, plan, job, &order).await? {
                put_order(&mut tx, &Submission { order, is_done: job.is_done() }).await?;
            }
        }
        let version = match same_as_last(&mut tx, sweep, plan).await? {
            Some(version) => version,
            None => insert_version(&mut tx, sweep, plan, origin).await?,
        };
        insert_tasks(&mut tx, (sweep, version), plan).await?;
        insert_samples(&mut tx, (sweep, version), plan).await?;
        tx.commit().await?;
        Ok(version)
    }
}

/// The priority of a sweep's last version; 0 for a new sweep.
pub(super) async fn last_priority(
    connection: &mut SqliteConnection,
    sweep: i64,
    name: &str,
) -> Result<i64, StoreError> {
    let query = sqlx::query(
        "SELECT j.job_order FROM sweep_jobs s JOIN jobs j ON j.id = s.job_id
         WHERE s.sweep_id = $1 AND j.job_order IS NOT NULL
         ORDER BY s.version DESC, j.state NOT IN ('queued', 'paused') LIMIT 20",
    );
    for row in query.bind(sweep).fetch_all(&mut *connection).await? {
        let order = crate::store::queue::parse_order(&row.try_get::<String, _>(0)?)?;
        if let Some(wants) = order.sweeps.get(name) {
            return Ok(wants.priority);
        }
    }
    Ok(0)
}

/// The last version, if it has the plan's file content, jobs and wanted scores.
async fn same_as_last(
    tx: &mut Transaction<'_, Sqlite>,
    sweep: i64,
    plan: &Plan,
) -> Result<Option<i64>, StoreError> {
    let last = sqlx::query(
        "SELECT version, text FROM sweep_versions WHERE sweep_id = $1 ORDER BY version DESC LIMIT 1",
    );
    let Some(row) = last.bind(sweep).fetch_optional(&mut **tx).await? else { return Ok(None) };
    let (version, text): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
    let wanted = sqlx::query(
        "SELECT w.job_id, w.score_key FROM wanted_scores w
         JOIN sweep_jobs s ON s.sweep_id = w.sweep_id AND s.version = w.version AND s.job_id = w.job_id
         WHERE w.sweep_id = $1 AND w.version = $2 ORDER BY s.position, w.task_position",
    );
    let rows = wanted.bind(sweep).bind(version).fetch_all(&mut **tx).await?;
    let stored = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<Vec<_>, sqlx::Error>>()?;
    let jobs =
        sqlx::query("SELECT job_id FROM sweep_jobs WHERE sweep_id = $1 AND version = $2 ORDER BY position");
    let rows = jobs.bind(sweep).bind(version).fetch_all(&mut **tx).await?;
    let stored_jobs = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, sqlx::Error>>()?;
    let planned: Vec<(String, String)> = plan
        .jobs
        .iter()
        .flat_map(|job| job.wanted.iter().map(|(_, key)| (job.id.to_string(), key.0.to_string())))
        .collect();
    let planned_jobs: Vec<String> = plan.jobs.iter().map(|job| job.id.to_string()).collect();
    Ok((text == plan.text && stored == planned && stored_jobs == planned_jobs).then_some(version))
}

async fn insert_version(
    tx: &mut Transaction<'_, Sqlite>,
    sweep: i64,
    plan: &Plan,
    origin: &SweepOrigin,
) -> Result<i64, StoreError> {
    let insert = sqlx::query(
        "INSERT INTO sweep_versions
             (sweep_id, version, text, axes, tasks, objective_task, objective_metric, created_ms, task_groups,
              file, include_path, overrides, pinned, warnings, submitter)
         SELECT $1, COALESCE(MAX(version), 0) + 1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14
         FROM sweep_versions WHERE sweep_id = $1 RETURNING version",
    );
    let version: i64 = insert
        .bind(sweep)
        .bind(&plan.text)
        .bind(json(&plan.axes))
        .bind(json(&plan.columns))
        .bind(plan.objective.as_ref().map(|(task, _)| task))
        .bind(plan.objective.as_ref().map(|(_, metric)| metric.as_str()))
        .bind(now_ms())
        .bind(json(&plan.groups))
        .bind(origin.file.display().to_string())
        .bind(origin.include_path.as_ref().map(|path| path.display().to_string()))
        .bind(json(&origin.overrides))
        .bind(json(&origin.pinned))
        .bind(json(&plan.warnings))
        .bind(i64::from(nix::unistd::getuid().as_raw()))
        .fetch_one(&mut **tx)
        .await?
        .try_get(0)?;
    for (position, job) in plan.jobs.iter().enumerate() {
        sqlx::query(
            "INSERT INTO sweep_jobs (sweep_id, version, position, job_id, label, axes, cell)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(sweep)
        .bind(version)
        .bind(position as i64)
        .bind(job.id.as_str())
        .bind(&job.label)
        .bind(axes_json(plan, job))
        .bind(match job.work {
            Work::Base => CellKey::alone(&job.id).to_string(),
            Work::Train { .. } => CellKey::of(axes_of(plan, job)).to_string(),
        })
        .execute(&mut **tx)
        .await?;
        for (task, key) in &job.wanted {
            let insert = sqlx::query(
                "INSERT INTO wanted_scores (sweep_id, version, job_id, task_position, score_key)
                 VALUES ($1, $2, $3, $4, $5)",
            );
            insert
                .bind(sweep)
                .bind(version)
                .bind(job.id.as_str())
                .bind(*task as i64)
                .bind(key.0.to_string())
                .execute(&mut **tx)
                .await?;
        }
    }
    Ok(version)
}

/// The tasks of a version with their metrics, by the positions that its wanted scores use.
async fn insert_tasks(
    tx: &mut Transaction<'_, Sqlite>,
    (sweep, version): (i64, i64),
    plan: &Plan,
) -> Result<(), StoreError> {
    for (position, planned) in plan.tasks.iter().enumerate() {
        let metrics: Vec<&str> = planned.task.metrics.iter().map(|metric| metric.metric.as_str()).collect();
        let insert = sqlx::query(
            "INSERT INTO sweep_tasks (sweep_id, version, position, task, metrics) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (sweep_id, version, position) DO UPDATE SET task = excluded.task, metrics = excluded.metrics",
        );
        insert
            .bind(sweep)
            .bind(version)
            .bind(position as i64)
            .bind(&planned.task.name)
            .bind(json(&metrics))
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// The sample prompts of a version, in its order.
async fn insert_samples(
    tx: &mut Transaction<'_, Sqlite>,
    (sweep, version): (i64, i64),
    plan: &Plan,
) -> Result<(), StoreError> {
    let delete = sqlx::query("DELETE FROM wanted_samples WHERE sweep_id = $1 AND version = $2");
    delete.bind(sweep).bind(version).execute(&mut **tx).await?;
    for (position, sample) in plan.samples.iter().enumerate() {
        let insert = sqlx::query(
            "INSERT INTO wanted_samples (sweep_id, version, position, sample_key) VALUES ($1, $2, $3, $4)",
        );
        let place = insert.bind(sweep).bind(version).bind(position as i64);
        place.bind(sample.key.to_string()).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Jobs of the newest version that the plan no longer has.
async fn dropped(
    tx: &mut Transaction<'_, Sqlite>,
    sweep: i64,
    plan: &Plan,
) -> Result<Vec<JobId>, StoreError> {
    let last = sqlx::query(
        "SELECT job_id FROM sweep_jobs WHERE sweep_id = $1
         AND version = (SELECT MAX(version) FROM sweep_versions WHERE sweep_id = $1)",
    );
    let planned: HashSet<&JobId> = plan.jobs.iter().map(|job| &job.id).collect();
    let mut dropped = Vec::new();
    for row in last.bind(sweep).fetch_all(&mut **tx).await? {
        dropped.push(JobId::from_store(row.try_get(0)?));
    }
    dropped.retain(|job| !planned.contains(job));
    Ok(dropped)
}

/// Inserts a job with its order. `false`: it existed.
async fn insert_job(
    tx: &mut Transaction<'_, Sqlite>,
    plan: &Plan,
    job: &PlannedJob,
    order: &JobOrder,
) -> Result<bool, StoreError> {
    let kind = match job.work {
        Work::Base => "base",
        Work::Train { .. } => "train",
    };
    let state = if job.is_done() { JobState::Done } else { JobState::Queued };
    let insert = sqlx::query(
        "INSERT INTO jobs
             (id, subject, kind, state, model_identity, dtype, settings, trainable, created_ms, numerics, job_order,
              wanted, revision)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 1, 1) ON CONFLICT (id) DO NOTHING",
    );
    let inserted = insert
        .bind(job.id.as_str())
        .bind(job.subject.digest().to_string())
        .bind(kind)
        .bind(state.as_str())
        .bind(plan.models[job.model].identity.0.to_string())
        .bind(job.dtype.as_str())
        .bind(settings_json(&job.settings))
        .bind(job.trainable as i64)
        .bind(now_ms())
        .bind(i64::from(TRAINING_VERSION))
        .bind(text_of(order)?)
        .execute(&mut **tx)
        .await?;
    Ok(inserted.rows_affected() > 0)
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The values of the plan's axes in a job.
fn axes_of<'a>(plan: &'a Plan, job: &'a PlannedJob) -> impl Iterator<Item = (&'a str, Option<&'a Value>)> {
    plan.axes.iter().map(|path| (*path, job.settings.value(path)))
}

/// The same as a JSON object, with the seed.
fn axes_json(plan: &Plan, job: &PlannedJob) -> String {
    let values =
        axes_of(plan, job).filter_map(|(path, value)| Some((path.to_owned(), serde_json::json!(value?))));
    serde_json::Value::Object(values.collect()).to_string()
}

/// Settings as a JSON object of key path → [value, origin].
fn settings_json(settings: &Settings) -> String {
    let members = settings.iter().map(|(key, setting)| {
        (key.path.to_owned(), serde_json::json!([setting.value, StoredOrigin::from(&setting.origin)]))
    });
    serde_json::Value::Object(members.collect()).to_string()
}

pub(in crate::store) fn read_digest(row: &SqliteRow, column: usize) -> Result<Digest, StoreError> {
    let text: String = row.try_get(column)?;
    Digest::parse(&text).ok_or(StoreError::Value { what: "a digest", value: text })
}
