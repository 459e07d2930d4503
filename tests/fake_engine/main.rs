//! A stand-in for loragrid-engine: it uses the real protocol, returns hashes of orders instead of computing, and injects scripted faults,
//! so that the orchestrator is tested without a tensor.
//!
//! `LORAGRID_FAKE` is a fault, optionally with a file so that it happens only once: `die@train=FILE` creates the file, with the process
//! id in it, when the fault happens; if the file exists, the fault does not happen. `die@train` aborts within a training, `murder@4-1`
//! kills the orchestrator within that of rank 4 and seed 1, `die@seed2` aborts within that of this seed, `die@cpu:1` within one on this
//! device, `die@start` before anything, `die@document` at document 70 of a task; `half@score` writes half a frame and aborts;
//! `hang@train` sends nothing more, and `deaf@train` also ignores SIGTERM; `diverge@train` reports a NaN loss. `die@adapters` aborts
//! before adapters are scored, and `infinite@score` makes every member of a score order fail, twice, before the order is reported as
//! done.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::FromRawFd;
use std::path::Path;

use loragrid::job::{Bytes, Digest, Seconds, Tokens};
use loragrid::protocol::{
    AnswerEnd, Device, DocumentScore, EVENT_DESCRIPTOR, EngineFailure, Event, FailureKind, Inquiry, Order,
    PROTOCOL_VERSION, STANDARD_STREAMS, ScoreOrder, StepReport, TaskOrder, TrainOrder, Trained, encode_frame,
    read_frame, use_standard_streams, write_frame,
};
use loragrid::task::{RequestScore, TaskDocuments, TaskMetric, score_answers, score_document};

const STEPS: u64 = 4;
/// Reported seconds per step: ten thousand tokens per second, from which the runner estimates the longest time of a pass.
const STEP_SECONDS: f64 = 1e-3;

fn main() {
    if std::env::args_os().nth(1).is_some_and(|word| word == "--describe") {
        return writeln!(std::io::stdout(), "{{\"cuda\": true}}").expect("somebody asked");
    }
    if std::env::args_os().nth(1).is_some_and(|word| word == STANDARD_STREAMS) {
        use_standard_streams().expect("the standard streams are open");
    }
    if due("die@start") {
        std::process::abort();
    }
    if due("note@start") {
        let read = |name| std::env::var(name).unwrap_or_default();
        let line = format!("{} sees {}\n", read("LORAGRID_DEVICE"), read("CUDA_VISIBLE_DEVICES"));
        std::io::stdout().write_all(line.as_bytes()).expect("the log can be written");
    }
    // SAFETY: loragrid opens this descriptor for its engines, and nothing else in this program uses it.
    let mut events = unsafe { File::from_raw_fd(EVENT_DESCRIPTOR) };
    let hello = Event::Hello { protocol: PROTOCOL_VERSION, engine: "fake".to_owned(), device: device() };
    send(&mut events, &hello);
    let mut orders = std::io::stdin().lock();
    while let Ok(Some(order)) = read_frame::<Order>(&mut orders) {
        match order {
            Order::Load(order) => send(&mut events, &load(&order.model)),
            Order::Train(pack) => {
                let members = pack.members.iter().enumerate();
                members.for_each(|(member, order)| {
                    note(&pack.log, &format!("trains seed {} of rank {}", order.seed, order.lora.rank));
                    train(&mut events, member, order);
                });
            }
            Order::Score(order) => score(&mut events, &order),
            Order::Sample(order) => {
                for (member, prompt) in
                    (0..order.adapters.len()).flat_map(|m| (0..order.prompts.len()).map(move |p| (m, p)))
                {
                    note(&order.log, &format!("answers prompt {prompt} as member {member}"));
                    let tokens = order.prompts[prompt].tokens.iter().rev().take(3).copied().collect();
                    send(&mut events, &Event::Sample { member, prompt, tokens });
                }
                send(&mut events, &Event::Sampled);
            }
            Order::Generate(_) | Order::Merge(_) | Order::Compare(_) => {
                let message = "the fake engine only trains and scores".to_owned();
                send(&mut events, &Event::Failed(EngineFailure { kind: FailureKind::Internal, message }));
            }
            Order::Serve(_) => answer_inquiries(&mut events, &mut orders),
            Order::Stop | Order::Shutdown => return,
        }
    }
}

/// Answers each prompt with its last tokens in turn, member by member another one, as many as are asked for.
fn answer_inquiries(events: &mut File, orders: &mut impl std::io::Read) {
    send(events, &Event::Serving);
    while let Ok(Some(inquiry)) = read_frame::<Inquiry>(orders) {
        match inquiry {
            Inquiry::Ask(asked) => {
                for place in 0..asked.max_new_tokens as usize {
                    let token = asked.prompt[(asked.member + place) % asked.prompt.len()];
                    let is_last = place + 1 == asked.max_new_tokens as usize;
                    let end = is_last.then_some(AnswerEnd::Length);
                    send(events, &Event::Answered { id: asked.id, token, end, logprobs: None });
                }
            }
            // It has been answered.
            Inquiry::Withdraw { .. } => {}
            Inquiry::Close => return,
        }
    }
}

/// A model that does not exist cannot be loaded.
fn load(model: &Path) -> Event {
    match std::fs::metadata(model) {
        Ok(_) => Event::Loaded { parameters: 1, seconds: Seconds(0.0) },
        Err(error) => {
            let message = format!("{}: {error}", model.display());
            Event::Failed(EngineFailure { kind: FailureKind::Environment, message })
        }
    }
}

fn send(events: &mut File, event: &Event) {
    write_frame(events, event).expect("the orchestrator reads events");
}

/// The device that the orchestrator assigned to this engine.
fn device() -> Device {
    let name = std::env::var("LORAGRID_DEVICE").unwrap_or_default();
    if name.starts_with("cuda") && !due("cpu@start") { Device::Cuda } else { Device::Cpu }
}

/// Whether this fault is due now.
fn due(fault: &str) -> bool {
    let script = std::env::var("LORAGRID_FAKE").unwrap_or_default();
    match script.split_once('=') {
        Some((named, file)) if named == fault && !Path::new(file).exists() => {
            // Written beside it and renamed, so that whoever waits for the file finds the process id in it.
            let beside = format!("{file}.{}", std::process::id());
            std::fs::write(&beside, std::process::id().to_string()).expect("the fault's file can be written");
            std::fs::rename(&beside, file).expect("the fault's file can be named");
            true
        }
        None => script == fault,
        _ => false,
    }
}

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

/// The faults of the third step.
fn misbehave(order: &TrainOrder) {
    let device = std::env::var("LORAGRID_DEVICE").unwrap_or_default();
    if due("die@train") || due(&format!("die@seed{}", order.seed)) || due(&format!("die@{device}")) {
        std::process::abort();
    }
    if due(&format!("murder@{}-{}", order.lora.rank, order.seed)) {
        let parent = nix::unistd::getppid();
        nix::sys::signal::kill(parent, nix::sys::signal::Signal::SIGKILL).expect("the orchestrator is there");
        hang();
    }
    let deaf = due("deaf@train");
    if deaf {
        // SAFETY: ignoring a signal runs no handler.
        unsafe {
            nix::sys::signal::signal(nix::sys::signal::Signal::SIGTERM, nix::sys::signal::SigHandler::SigIgn)
        }
        .expect("the signal can be ignored");
    }
    if deaf || due("hang@train") {
        hang();
    }
}

fn train(events: &mut File, member: usize, order: &TrainOrder) {
    for step in 1..=STEPS {
        if step == 3 {
            misbehave(order);
        }
        let loss = 1.0 / step as f64;
        send(
            events,
            &Event::Step {
                member,
                report: StepReport {
                    validation_loss: None,
                    step,
                    steps: STEPS,
                    loss,
                    learning_rate: order.train.learning_rate,
                    tokens: Tokens(step * 10),
                    seconds: Seconds(step as f64 * STEP_SECONDS),
                },
            },
        );
    }
    if due("diverge@train") {
        let message = "the loss is NaN at step 4".to_owned();
        let failure = EngineFailure { kind: FailureKind::Diverged, message };
        return send(events, &Event::MemberFailed { member, failure });
    }
    std::fs::create_dir_all(&order.adapter).expect("the adapter's folder can be made");
    if due("heavy@train") {
        std::fs::write(order.adapter.join("weights"), [0; 1000]).expect("the adapter can be written");
    }
    let (tokens, seconds) = (Tokens(STEPS * 10), Seconds(STEPS as f64 * STEP_SECONDS));
    send(
        events,
        &Event::Trained {
            member,
            trained: Trained {
                steps: STEPS,
                tokens,
                seconds,
                last_losses: 0.5,
                validation_loss: None,
                trainable: 1,
                peak_memory: Bytes(1),
                adapter: None,
            },
        },
    );
}

/// Writes a line into the attempt's log.
fn note(log: &Path, line: &str) {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(log);
    match writeln!(file.expect("the log's folder is there"), "{line}") {
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {}
        written => written.expect("the log can be written"),
    }
}

fn score(events: &mut File, order: &ScoreOrder) {
    if due("half@score") {
        let frame =
            encode_frame(&Event::Scored { seconds: Seconds(0.0), tokens: Tokens(0) }).expect("it is small");
        events.write_all(&frame[..frame.len() / 2]).expect("the orchestrator reads events");
        std::process::abort();
    }
    if order.adapters.iter().all(Option::is_some) && due("die@adapters") {
        std::process::abort();
    }
    if due("infinite@score") {
        // Every member fails, and reports it more than once, before the pass is over.
        for member in (0..order.adapters.len()).flat_map(|member| [member, member]) {
            let message = "a log-likelihood is inf".to_owned();
            let failure = EngineFailure { kind: FailureKind::Diverged, message };
            send(events, &Event::MemberFailed { member, failure });
        }
        return send(events, &Event::Scored { seconds: Seconds(0.0), tokens: Tokens(1) });
    }
    for (member, adapter) in order.adapters.iter().enumerate() {
        // The result does not depend on the folder's location.
        let adapter = adapter.as_deref().and_then(Path::file_name);
        for (place, task) in order.tasks.iter().enumerate() {
            score_task(events, &order.log, (member, adapter), (place, task));
        }
    }
    send(events, &Event::Scored { seconds: Seconds(0.0), tokens: Tokens(1) });
}

fn score_task(
    events: &mut File,
    log: &Path,
    (member, adapter): (usize, Option<&OsStr>),
    (place, TaskOrder { documents, done }): (usize, &TaskOrder),
) {
    let TaskDocuments { task, documents, .. } = TaskDocuments::read(documents).expect("they were submitted");
    for document in documents {
        if done.contains(&document.id) {
            continue;
        }
        if document.id == 70 && due("die@document") {
            std::process::abort();
        }
        if document.id == 70 && due("hang@document") {
            hang();
        }
        note(log, &format!("{} {}", task.name, document.id));
        let of_request = |index: usize| {
            let seed = format!("{:?} {} {} {index}", adapter, task.name, document.id);
            let digit = Digest::of(seed.as_bytes()).prefix(1).as_bytes()[0];
            RequestScore { log_likelihood: -f64::from(digit), is_greedy: digit.is_multiple_of(2) }
        };
        let requests: Vec<RequestScore> = (0..document.requests.len()).map(of_request).collect();
        let score = match &task.generation {
            None => {
                let of = |m: &TaskMetric| score_document(m.metric, &document, &requests);
                let metrics = task.metrics.iter().map(of).collect();
                DocumentScore { task: place, document: document.id, requests, metrics, answers: Vec::new() }
            }
            // An answer of one digit.
            Some(generation) => {
                let digit = -requests.first().map_or(0.0, |request| request.log_likelihood);
                let answers = vec![format!(" {digit}"); generation.repeats as usize];
                let scored = score_answers(&task, generation, &document, &answers);
                let metrics = scored.map(|scored| scored.metrics).unwrap_or_default();
                DocumentScore { task: place, document: document.id, requests: Vec::new(), metrics, answers }
            }
        };
        send(events, &Event::Document { member, score });
    }
}
