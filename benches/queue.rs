//! How long a durable claim and a durable end take in a database with many queued jobs: `queue DB SWEEP`.

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use loragrid::device::cpu_slots;
use loragrid::job::{Digest, JobState};
use loragrid::queue::{AttemptEnd, Claim, Closing, Owner, Queue};
use loragrid::store::Store;

/// Claims and ends that are timed.
const COUNT: usize = 5000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let (Some(db), Some(sweep)) = (arguments.next(), arguments.next()) else {
        return Err("usage: queue DB SWEEP".into());
    };
    let store = Store::open_existing(&PathBuf::from(db)).await?;
    let jobs = store.jobs_in(Some(&sweep), &[JobState::Queued]).await?;
    let (owner, slot) = (Owner::this_process(), &cpu_slots()[0]);
    let mut times = Vec::new();
    for job in jobs.iter().take(COUNT) {
        let start = Instant::now();
        let jobs = std::slice::from_ref(job);
        let claim = Claim { jobs, owner: &owner, slot, token_budget: 1024 };
        let attempt = store.advance(&[], Some(claim)).await?.claimed.pop();
        let attempt = attempt.ok_or("a queued job was not queued")?;
        let closing = Closing::of_end(AttemptEnd::Finished);
        store.advance(&[(attempt, Digest::of(b""), closing)], None).await?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    writeln!(
        std::io::stderr(),
        "{} queued: claim + end p50 {:.2} ms, p99 {:.2} ms, longest {:.2} ms",
        jobs.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    )?;
    Ok(())
}
