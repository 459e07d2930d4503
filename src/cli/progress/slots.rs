//! Progress on a terminal: a line for each slot with the jobs that run there, and one for the run with the time left.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::output::{in_one_line, is_colored, is_quiet};
use crate::job::{JobId, SlotId};
use crate::queue::AttemptEnd;
use crate::runner::Progress;

/// The part of a job that its training is taken for where the time left is estimated.
const TRAINING: f64 = 0.8;
/// Before so much of the run is done no time left is shown.
const FIRST_ESTIMATE: f64 = 0.01;

/// The lines of a terminal.
pub(super) struct Slots {
    lines: MultiProgress,
    run: ProgressBar,
    slots: BTreeMap<SlotId, Slot>,
    /// Where each running job is.
    places: HashMap<JobId, SlotId>,
    total: u64,
    done: u64,
    began: Instant,
}

/// The line of a slot.
struct Slot {
    bar: ProgressBar,
    members: Vec<Member>,
    rate: Rate,
}

/// A job that runs on a slot.
struct Member {
    job: JobId,
    label: String,
    trains: bool,
    /// Steps or documents.
    at: u64,
    of: u64,
    loss: Option<f64>,
    tokens: u64,
}

/// Tokens per second over the last reports.
struct Rate {
    since: Instant,
    tokens: u64,
    per_second: Option<f64>,
}

impl Slots {
    pub(super) fn new() -> Self {
        let target = if is_quiet() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let lines = MultiProgress::with_draw_target(target);
        let run = lines.add(ProgressBar::new(1000));
        run.set_style(style("{msg}"));
        let began = Instant::now();
        Self { lines, run, slots: BTreeMap::new(), places: HashMap::new(), total: 0, done: 0, began }
    }

    /// Takes in what happened.
    pub(super) fn show(&mut self, progress: &Progress) {
        match progress {
            Progress::Total { jobs } => self.total = *jobs as u64,
            Progress::Loading { slot, device } => {
                let bar = &self.slot(*slot, device).bar;
                bar.set_message("loading the model");
            }
            Progress::Started { job, label, trains, slot, device } => {
                let member = Member {
                    job: job.clone(),
                    label: in_one_line(label),
                    trains: *trains,
                    at: 0,
                    of: 0,
                    loss: None,
                    tokens: 0,
                };
                self.slot(*slot, device).members.push(member);
                self.places.insert(job.clone(), *slot);
                self.draw(*slot);
            }
            Progress::Step { job, report } => self.update(job, |member| {
                let tokens = report.tokens.0.saturating_sub(member.tokens);
                (member.at, member.of, member.loss) = (report.step, report.steps, Some(report.loss));
                (member.trains, member.tokens) = (true, report.tokens.0);
                tokens
            }),
            Progress::Scoring { job, done, total } => self.update(job, |member| {
                (member.at, member.of, member.trains) = (*done, *total, false);
                0
            }),
            Progress::Ended { job, end, .. } => {
                self.done += u64::from(!matches!(end, AttemptEnd::Requeued(_)));
                self.remove(job);
            }
            Progress::LetGo { job, .. } => self.remove(job),
            Progress::SweepStarted { .. }
            | Progress::SweepEnded { .. }
            | Progress::SweepFailed { .. }
            | Progress::Unavailable { .. }
            | Progress::WaitingForMemory { .. }
            | Progress::Waiting { .. }
            | Progress::LogsLost { .. }
            | Progress::Quarantined { .. } => {}
        }
        self.redraw();
    }

    /// A line above the others.
    pub(super) fn print(&self, text: &str) {
        // A terminal that cannot be written to is nobody's loss.
        let _ = self.lines.println(text);
    }

    /// The line of the run, whose times move.
    pub(super) fn redraw(&mut self) {
        let fraction = self.fraction();
        let elapsed = self.began.elapsed();
        let left = match fraction {
            fraction if fraction < FIRST_ESTIMATE => String::new(),
            fraction => format!(", about {} left", minutes(elapsed.mul_f64((1.0 - fraction) / fraction))),
        };
        self.run.set_message(format!(
            "{}/{} jobs, {:.0} %, {} elapsed{left}",
            self.done,
            self.total,
            100.0 * fraction,
            minutes(elapsed)
        ));
    }

    /// Removes the lines.
    pub(super) fn clear(&self) {
        let _ = self.lines.clear();
    }

    /// How much of the run is done; running jobs count with what they have done.
    fn fraction(&self) -> f64 {
        let running: f64 = self.slots.values().flat_map(|slot| &slot.members).map(Member::fraction).sum();
        if self.total == 0 { 0.0 } else { ((self.done as f64 + running) / self.total as f64).min(1.0) }
    }

    fn slot(&mut self, slot: SlotId, device: &str) -> &mut Slot {
        let (lines, run) = (&self.lines, &self.run);
        self.slots.entry(slot).or_insert_with(|| {
            let bar = lines.insert_before(run, ProgressBar::new(1));
            bar.set_style(style("{prefix} [{bar:20}] {wide_msg}"));
            bar.set_prefix(format!("{device:<7}"));
            Slot { bar, members: Vec::new(), rate: Rate::new() }
        })
    }

    fn remove(&mut self, job: &JobId) {
        let Some(place) = self.places.remove(job) else { return };
        if let Some(slot) = self.slots.get_mut(&place) {
            slot.members.retain(|member| member.job != *job);
        }
        self.draw(place);
    }

    /// Changes a running job by a report, which says how many tokens it computed.
    fn update(&mut self, job: &JobId, change: impl FnOnce(&mut Member) -> u64) {
        let Some(&place) = self.places.get(job) else { return };
        let Some(slot) = self.slots.get_mut(&place) else { return };
        if let Some(member) = slot.members.iter_mut().find(|member| member.job == *job) {
            let tokens = change(member);
            slot.rate.add(tokens);
        }
        self.draw(place);
    }

    fn draw(&self, slot: SlotId) {
        let Some(Slot { bar, members, rate }) = self.slots.get(&slot) else { return };
        bar.set_length(members.iter().map(|member| member.of).sum::<u64>().max(1));
        bar.set_position(members.iter().map(|member| member.at).sum());
        bar.set_message(match members.split_first() {
            None => "idle".to_owned(),
            Some((first, others)) => {
                let more = if others.is_empty() { String::new() } else { format!(" (+{})", others.len()) };
                let rate = rate.per_second.filter(|_| members.iter().any(|member| member.trains));
                let rate = rate.map(|rate| format!(", {rate:.0} tokens/s")).unwrap_or_default();
                format!("{}{rate}  {}{more}", first.words(), first.label)
            }
        });
    }
}

impl Member {
    fn fraction(&self) -> f64 {
        let part = if self.of == 0 { 0.0 } else { self.at as f64 / self.of as f64 };
        match (self.trains, self.loss) {
            (true, _) => TRAINING * part,
            (false, Some(_)) => TRAINING + (1.0 - TRAINING) * part,
            (false, None) => part,
        }
    }

    fn words(&self) -> String {
        match (self.of, self.trains, self.loss) {
            (0, ..) => "starting".to_owned(),
            (of, true, Some(loss)) => format!("step {}/{of}, loss {loss:.3}", self.at),
            (of, true, None) => format!("step {}/{of}", self.at),
            (of, false, _) => format!("scored {}/{of} documents", self.at),
        }
    }
}

impl Rate {
    /// Reports are counted together for so long.
    const WINDOW: Duration = Duration::from_secs(3);

    fn new() -> Self {
        Self { since: Instant::now(), tokens: 0, per_second: None }
    }

    fn add(&mut self, tokens: u64) {
        self.tokens += tokens;
        let elapsed = self.since.elapsed();
        if elapsed >= Self::WINDOW {
            let rate = self.tokens as f64 / elapsed.as_secs_f64();
            self.per_second = (self.tokens > 0).then_some(rate);
            (self.since, self.tokens) = (Instant::now(), 0);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    let template =
        if is_colored(true) { template.replace("{bar:20}", "{bar:20.cyan}") } else { template.to_owned() };
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

/// A time in the two units that say most.
fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}
