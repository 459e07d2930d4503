//! How long a durable claim and a durable end take in a database with many queued jobs: `queue DB SWEEP [PART/PARTS]`. DB is a file or the
//! address of a server; several processes on a server each take a part of the jobs.

use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use loragrid::device::cpu_slots;
use loragrid::job::{Digest, JobState};
use loragrid::queue::{AttemptEnd, Claim, Closing, Owner, Queue};
use loragrid::store::{Database, ServerAddress, Store};

/// Claims and ends that are timed.
const COUNT: usize = 5000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let (Some(db), Some(sweep)) = (arguments.next(), arguments.next()) else {
        return Err("usage: queue DB SWEEP [PART/PARTS]".into());
    };
    let part = arguments.next().unwrap_or_else(|| "0/1".to_owned());
    let (part, parts) = part.split_once('/').ok_or("PART/PARTS")?;
    let (part, parts): (usize, usize) = (part.parse()?, part_count(parts)?);
    let database = match ServerAddress::is_meant(&db) {
        true => Database::of_server(ServerAddress::parse(&db)?, "results".into(), Path::new("copies")),
        false => Database::from(&db),
    };
    let store = Store::open_existing(&database).await?;
    let jobs = store.jobs_in(Some(&sweep), &[JobState::Queued]).await?;
    let (owner, slot) = (Owner::this_process(), &cpu_slots()[0]);
    let (mut claims, mut both) = (Vec::new(), Vec::new());
    let began = Instant::now();
    for job in jobs.iter().skip(part).step_by(parts).take(COUNT) {
        let start = Instant::now();
        let jobs = std::slice::from_ref(job);
        let claim = Claim { jobs, owner: &owner, slot, token_budget: 1024 };
        let attempt = store.advance(&[], Some(claim)).await?.claimed.pop();
        claims.push(start.elapsed().as_secs_f64() * 1e3);
        let attempt = attempt.ok_or("a queued job was not queued")?;
        let closing = Closing::of_end(AttemptEnd::Finished);
        store.advance(&[(attempt, Digest::of(b""), closing)], None).await?;
        both.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let (taken, count, queued) = (began.elapsed().as_secs_f64(), both.len(), jobs.len());
    let line = format!("claim {}; claim + end {}", percentiles(&mut claims), percentiles(&mut both));
    writeln!(std::io::stderr(), "{queued} queued: {count} jobs in {taken:.2} s; {line}")?;
    Ok(())
}

fn part_count(text: &str) -> Result<usize, Box<dyn Error>> {
    Ok(text.parse::<usize>()?.max(1))
}

fn percentiles(times: &mut [f64]) -> String {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    format!("p50 {:.2} ms, p99 {:.2} ms, longest {:.2} ms", at(0.5), at(0.99), at(1.0))
}
