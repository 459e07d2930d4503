//! Ends every queued job of a sweep with made-up results, through the store: `big_db DB SWEEP`. Results follow from the job's
//! settings and a counter stream, so that two databases are alike.

use std::error::Error;
use std::path::PathBuf;

use loragrid::device::cpu_slots;
use loragrid::job::{Bytes, Digest, JobId, JobState, Seconds, Tokens};
use loragrid::protocol::{DocumentScore, StepReport, Trained};
use loragrid::queue::{
    Attempt, AttemptEnd, AttemptResults, Claim, Closing, Owner, Queue, Record, ScoreRecord, TrainingRecord,
};
use loragrid::random::{Purpose, Stream};
use loragrid::store::{Leaderboard, Store, Wanted};
use loragrid::task::{Aggregation, DocumentValue, Metric, RequestScore, TaskMetric, aggregate};

/// Documents of each task.
const DOCUMENTS: u64 = 40;
/// Steps of each loss curve.
const STEPS: u64 = 24;
/// Jobs of one transaction.
const TOGETHER: usize = 100;
/// So many jobs have what was said of each document, as every real one has; the others only the values.
const WHOLE: usize = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let (Some(db), Some(sweep)) = (arguments.next(), arguments.next()) else {
        return Err("usage: big_db DB SWEEP".into());
    };
    let store = Store::open_existing(&PathBuf::from(db)).await?;
    let mut board = store.board(Some(&sweep)).await?;
    store.read_settings(&mut board, None).await?;
    let wanted = store.wanted(&board).await?;
    let (owner, slot) = (Owner::this_process(), &cpu_slots()[0]);
    let queued: Vec<usize> =
        (0..board.jobs.len()).filter(|&at| board.jobs[at].state == JobState::Queued).collect();
    for (number, chunk) in queued.chunks(TOGETHER).enumerate() {
        let jobs: Vec<JobId> = chunk.iter().map(|&at| board.jobs[at].id.clone()).collect();
        let claim = Claim { jobs: &jobs, owner: &owner, slot, token_budget: 1024 };
        let attempts = store.advance(&[], Some(claim)).await?.claimed;
        if attempts.len() < jobs.len() {
            return Err("not queued".into());
        }
        let made: Vec<Made> = chunk.iter().map(|&at| Made::of(&board, at, &wanted)).collect();
        for results in &made {
            store.write_record(None, &Record::Scores(results.subject, results.records.clone())).await?;
        }
        for results in made.iter().filter(|_| number == 0).take(WHOLE) {
            store.write_record(None, &Record::Documents(results.documents.clone())).await?;
        }
        let closing = |(attempt, results): (Attempt, Made)| {
            (attempt, results.subject, Closing::End(AttemptEnd::Finished, Box::new(results.training)))
        };
        let closings: Vec<_> = attempts.into_iter().zip(made).map(closing).collect();
        store.advance(&closings, None).await?;
    }
    store.close().await;
    Ok(())
}

/// The results of a job.
struct Made {
    subject: Digest,
    training: AttemptResults,
    records: Vec<ScoreRecord>,
    documents: Vec<(loragrid::job::ScoreKey, DocumentScore)>,
}

impl Made {
    fn of(board: &Leaderboard, at: usize, wanted: &[Wanted]) -> Self {
        let job = &board.jobs[at];
        let number = |key: &str| job.settings.get(key).and_then(|value| value.as_f64()).unwrap_or_default();
        // Better with the rank, best at a middling rate.
        let gain =
            0.03 * number("lora.rank").max(1.0).log2() - 40.0 * (number("train.learning_rate") - 5e-4).abs();
        let (mut records, mut documents, mut subject) = (Vec::new(), Vec::new(), Digest::of(b""));
        for (task, score) in wanted.iter().filter(|score| score.job == job.id).enumerate() {
            subject = score.subject;
            let stream = Stream::new(at as u64, Purpose::Test, task as u64);
            let values: Vec<(usize, Vec<DocumentValue>)> = (0..DOCUMENTS)
                .map(|document| {
                    let right = |n: u64| f64::from(u8::from(stream.uniform(2 * document + n) < 0.45 + gain));
                    (
                        document as usize,
                        vec![DocumentValue::Number(right(0)), DocumentValue::Number(right(1))],
                    )
                })
                .collect();
            let metrics = [Metric::Acc, Metric::AccNorm].into_iter().enumerate();
            let aggregates = metrics.map(|(place, metric)| {
                let column: Vec<DocumentValue> =
                    values.iter().map(|(_, metrics)| metrics[place].clone()).collect();
                aggregate(TaskMetric { metric, aggregation: Aggregation::Mean }, &column)
            });
            let aggregates = aggregates.collect();
            documents.extend(values.iter().map(|(document, metrics)| {
                let request = |log_likelihood| RequestScore { log_likelihood, is_greedy: false };
                let requests = vec![request(-2.0 - stream.uniform(*document as u64)), request(-2.5)];
                (
                    score.key,
                    DocumentScore {
                        task,
                        document: *document,
                        requests,
                        metrics: metrics.clone(),
                        answers: Vec::new(),
                    },
                )
            }));
            records.push(ScoreRecord {
                key: score.key,
                task: score.task.clone(),
                aggregates,
                documents: values,
            });
        }
        let training = if job.is_base { AttemptResults::default() } else { training_of(at as u64) };
        Self { subject, training, records, documents }
    }
}

fn training_of(at: u64) -> AttemptResults {
    let noise = Stream::new(at, Purpose::Test, 1000);
    let loss = |step: u64| 1.2 + 1.5 * (-(step as f64) / 6.0).exp() + 0.1 * noise.uniform(step);
    let steps: Vec<StepReport> = (1..=STEPS)
        .map(|step| StepReport {
            step,
            steps: STEPS,
            loss: loss(step),
            validation_loss: None,
            learning_rate: 1e-4,
            tokens: Tokens(1000 * step),
            seconds: Seconds(step as f64),
        })
        .collect();
    let trained = Trained {
        steps: STEPS,
        tokens: Tokens(1000 * STEPS),
        seconds: Seconds(STEPS as f64 + noise.uniform(0)),
        last_losses: loss(STEPS),
        validation_loss: None,
        trainable: 0,
        peak_memory: Bytes(2_000_000_000 + at),
        adapter: None,
    };
    let losses = Some((loss(1), loss(STEPS)));
    AttemptResults { steps, training: Some(TrainingRecord { trained, losses }) }
}
