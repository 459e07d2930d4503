//! Leases: an attempt is its process's as long as the process lives and says so.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sqlx::Row;

use super::error::StoreError;
use super::jobs::{Attempt, AttemptEnd};
use super::open::Store;
use super::owner::Owner;
use super::results::Harvest;
use crate::job::{AttemptNumber, Digest, JobId, JobState};

/// Processes that a job may take with it, one after another without progress, before it fails, if it was the only one that they ran.
pub const MOST_LOST: u32 = 5;
/// Why such an attempt ended.
const GONE: &str = "the process that ran it exited";
/// What the reason says besides, where the process ran others too: whose fault it was is not known, and such an end counts half.
const BESIDE: &str = ", beside other jobs";

/// Most time between two looks that counts: longer, and the reader itself was held up, as others may have been by the same.
const HELD_UP: Duration = Duration::from_secs(5);

/// What one process has seen of the beats of others. A beat is a number that its owner counts up; how long it stood still is
/// told by the reader's own clock, never by comparing two.
#[derive(Debug, Default)]
pub struct Observer {
    seen: HashMap<(String, i64), Seen>,
}

/// A beat, since when it stands still as far as was looked, and the last look.
#[derive(Debug, Clone, Copy)]
struct Seen {
    beat: i64,
    still: Duration,
    looked: Instant,
}

impl Observer {
    /// Whether an attempt's beat has stood still for longer than `lease`.
    pub(super) fn is_still(&mut self, job: &str, attempt: i64, beat: i64, lease: Duration) -> bool {
        self.is_still_at(Instant::now(), (job, attempt), beat, lease)
    }

    fn is_still_at(&mut self, now: Instant, of: (&str, i64), beat: i64, lease: Duration) -> bool {
        let new = Seen { beat, still: Duration::ZERO, looked: now };
        let seen = self.seen.entry((of.0.to_owned(), of.1)).or_insert(new);
        if seen.beat == beat {
            seen.still += now.duration_since(seen.looked).min(HELD_UP);
            seen.looked = now;
        } else {
            *seen = new;
        }
        seen.still > lease
    }
}

impl Store {
    /// Counts up the beat of every open attempt of an owner.
    pub async fn beat(&self, owner: &Owner) -> Result<(), StoreError> {
        let beat =
            sqlx::query("UPDATE job_attempts SET beat = beat + 1 WHERE owner = $1 AND ended_ms IS NULL");
        let mut tx = self.begin().await?;
        beat.bind(owner.as_str()).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// What became of an attempt's job, if it is no longer the attempt's.
    pub async fn fate(&self, attempt: &Attempt) -> Result<Option<JobState>, StoreError> {
        let query = sqlx::query("SELECT state, attempt FROM jobs WHERE id = $1");
        let row = query.bind(attempt.job.as_str()).fetch_one(&self.pool).await?;
        let (state, number): (JobState, i64) = (super::read::read_state(&row, 0)?, row.try_get(1)?);
        let own = state == JobState::Running && number == i64::from(attempt.number.0);
        Ok((!own).then_some(state))
    }

    /// Puts back running jobs whose process is gone, or has not said for longer than `lease` that it lives. Returns how many.
    pub async fn recover(&self, observer: &mut Observer, lease: Duration) -> Result<usize, StoreError> {
        let running = sqlx::query(
            "SELECT a.job_id, a.attempt, a.owner, a.beat FROM job_attempts a
             JOIN jobs j ON j.id = a.job_id AND j.attempt = a.attempt WHERE j.state = 'running'",
        );
        let rows = running.fetch_all(&self.pool).await?;
        let mut owners: HashMap<String, usize> = HashMap::new();
        for row in &rows {
            *owners.entry(row.try_get(2)?).or_default() += 1;
        }
        let mut recovered = 0;
        for row in rows {
            let (job, number, beat): (String, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(3)?);
            let name: String = row.try_get(2)?;
            let alone = owners.get(&name).is_none_or(|jobs| *jobs == 1);
            let owner = Owner::from_store(name);
            let end = if owner.is_dead() {
                // Of a job that takes its process with it each time, nothing is to be had.
                let (suspicion, times) = self.lost(&job, (number, alone)).await?;
                if suspicion >= 2 * MOST_LOST {
                    let reason = format!("{GONE} {times} times in a row without progress");
                    AttemptEnd::Failed(reason)
                } else {
                    AttemptEnd::Requeued(if alone { GONE.to_owned() } else { format!("{GONE}{BESIDE}") })
                }
            } else if owner != Owner::this_process() && observer.is_still(&job, number, beat, lease) {
                AttemptEnd::Requeued("the process that ran it stopped sending heartbeats".to_owned())
            } else {
                continue;
            };
            let nothing = (Digest::of(b""), &Harvest::default());
            match self.end(&read_attempt(job, number), &end, nothing).await {
                Ok(()) => recovered += 1,
                // Another process was quicker.
                Err(StoreError::Fenced { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(recovered)
    }
}

impl Store {
    /// How much attempts at a job speak against it, and how many they are: those up to the one of this number, which is lost, whose
    /// process was gone, one after another without progress. `alone`: the process of the last one ran nothing else.
    async fn lost(&self, job: &str, (number, alone): (i64, bool)) -> Result<(u32, usize), StoreError> {
        let query = sqlx::query(
            "SELECT reason, COALESCE(reach, 0) FROM job_attempts WHERE job_id = $1 AND attempt < $2
             ORDER BY attempt DESC LIMIT 16",
        );
        let rows = query.bind(job).bind(number).fetch_all(&self.pool).await?;
        let reach = sqlx::query(
            "SELECT (SELECT COALESCE(MAX(c.step), 0) FROM curve_points c JOIN jobs j ON j.subject = c.subject
                     WHERE j.id = $1)
                 + (SELECT COUNT(*) FROM scored_documents d JOIN wanted_scores w ON w.score_key = d.score_key
                    WHERE w.job_id = $1)",
        );
        let reach: i64 = reach.bind(job).fetch_one(&self.pool).await?.try_get(0)?;
        let suspicion = |alone: bool| if alone { 2 } else { 1 };
        let mut ends = vec![(suspicion(alone), reach)];
        for row in &rows {
            let reason: Option<String> = row.try_get(0)?;
            let lost = reason.as_deref().and_then(|reason| reason.strip_prefix(GONE));
            ends.push((lost.map_or(0, |rest| suspicion(rest != BESIDE)), row.try_get(1)?));
        }
        Ok(lost_in_a_row(&ends))
    }

    /// Queued jobs whose last attempt ended with the end of its process: they go on alone, so that the others of their pack are
    /// not taken along.
    pub async fn lost_jobs(&self) -> Result<Vec<JobId>, StoreError> {
        let query = sqlx::query(
            "SELECT j.id FROM jobs j JOIN job_attempts a ON a.job_id = j.id AND a.attempt = j.attempt
             WHERE j.state = 'queued' AND a.reason LIKE $1 || '%'",
        );
        let rows = query.bind(GONE).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(JobId::from_store(row.try_get(0)?))).collect()
    }
}

/// How much the last attempts speak against a job, and how many they are: of those that were lost one after another without getting
/// further, the newest first; each with what it counts (nothing if it was not lost) and how far the job had come at its end.
fn lost_in_a_row(ends: &[(u32, i64)]) -> (u32, usize) {
    let Some((_, newest)) = ends.first() else { return (0, 0) };
    let same = ends.iter().take_while(|(suspicion, reach)| *suspicion > 0 && reach == newest);
    same.fold((0, 0), |(all, count), (suspicion, _)| (all + suspicion, count + 1))
}

pub(super) fn read_attempt(job: String, number: i64) -> Attempt {
    let number = AttemptNumber(u32::try_from(number).unwrap_or(u32::MAX));
    Attempt { job: JobId::from_store(job), number, began: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    #[test]
    fn ends_of_processes_count_only_in_a_row_and_without_progress() {
        assert_eq!(lost_in_a_row(&[]), (0, 0));
        assert_eq!(lost_in_a_row(&[(2, 4), (1, 4), (0, 4), (2, 4)]), (3, 2));
        assert_eq!(lost_in_a_row(&[(2, 8), (2, 4), (2, 4)]), (2, 1), "it had got further");
        assert_eq!(lost_in_a_row(&[(0, 4), (2, 4)]), (0, 0));
    }

    #[test]
    fn a_beat_that_stands_still_for_the_whole_lease_is_noticed() {
        let (mut observer, start) = (Observer::default(), Instant::now());
        let mut look =
            |second, beat| observer.is_still_at(start + Duration::from_secs(second), ("job", 1), beat, LEASE);
        assert!((0..=30).step_by(2).all(|second| !look(second, 7)));
        assert!(look(32, 7));
        assert!(!look(34, 8), "it beats again");
    }

    #[test]
    fn a_reader_that_was_held_up_itself_does_not_blame_others() {
        let (mut observer, start) = (Observer::default(), Instant::now());
        let mut look =
            |second, beat| observer.is_still_at(start + Duration::from_secs(second), ("job", 1), beat, LEASE);
        assert!(!look(0, 7));
        assert!(!look(90, 7), "a database that was locked for a minute and a half held up both");
        assert!(!look(92, 8));
    }
}
