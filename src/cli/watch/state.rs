//! What the screen shows and what a key does: no terminal, no database.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::job::{JobId, JobState};
use crate::store::{CurvePoint, SweepStatus};
use crate::workspace::{LiveSweep, RememberedBoard};

/// What is shown below the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    Slots,
    Curves,
    Leaderboard,
    Waiting,
    Log,
    Sweeps,
}

impl Pane {
    pub(super) const ALL: [Self; 6] =
        [Self::Slots, Self::Curves, Self::Leaderboard, Self::Waiting, Self::Log, Self::Sweeps];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Slots => "slots",
            Self::Curves => "curves",
            Self::Leaderboard => "leaderboard",
            Self::Waiting => "waiting",
            Self::Log => "log",
            Self::Sweeps => "sweeps",
        }
    }

    fn next(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|pane| *pane == self).unwrap_or_default();
        Self::ALL[(at + by) % Self::ALL.len()]
    }
}

/// What is done to jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Pause,
    Resume,
    Cancel,
    Retry,
}

impl Verb {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
            Self::Retry => "retry",
        }
    }
}

/// What the user wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Leave; the run goes on.
    Quit,
    /// To a job or a sweep, by its name for the queue.
    Control { verb: Verb, name: String },
    /// Move the sweep's priority by this much.
    Priority { sweep: String, by: i64 },
    /// Look at another sweep.
    Look(String),
    /// What is selected changed: its log is read.
    Refresh,
}

/// What waits for a yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) text: String,
    action: Action,
}

/// The screen.
#[derive(Debug)]
pub(super) struct Screen {
    pub(super) pane: Pane,
    /// The selected line of the pane.
    pub(super) selected: usize,
    pub(super) question: Option<Question>,
    pub(super) shows_help: bool,
    /// What was done last, or why nothing could be read.
    pub(super) message: Option<String>,
    pub(super) live: Option<LiveSweep>,
    /// Every sweep with its jobs by state, the last submitted first.
    pub(super) sweeps: Vec<SweepStatus>,
    /// Curves with their labels.
    pub(super) curves: Vec<(String, Vec<CurvePoint>)>,
    /// The leaderboard that was read last.
    pub(super) board: Option<RememberedBoard>,
    /// The log's name and its last lines.
    pub(super) log: (String, Vec<String>),
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            pane: Pane::Slots,
            selected: 0,
            question: None,
            shows_help: false,
            message: None,
            live: None,
            sweeps: Vec::new(),
            curves: Vec::new(),
            board: None,
            log: (String::new(), Vec::new()),
        }
    }

    /// Takes in a key; what is to be done, if anything.
    pub(super) fn on_key(&mut self, key: KeyEvent) -> Option<Action> {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Some(Action::Quit);
        }
        if let Some(question) = self.question.take() {
            return matches!(key.code, KeyCode::Char('y' | 'Y')).then_some(question.action);
        }
        if std::mem::take(&mut self.shows_help) {
            return None;
        }
        self.message = None;
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Action::Quit),
            KeyCode::Char('?' | 'h') => self.shows_help = true,
            KeyCode::Tab | KeyCode::Right => return self.show(self.pane.next(1)),
            KeyCode::BackTab | KeyCode::Left => return self.show(self.pane.next(Pane::ALL.len() - 1)),
            KeyCode::Char(digit @ '1'..='6') => return self.show(Pane::ALL[digit as usize - '1' as usize]),
            KeyCode::Down | KeyCode::Char('j') => return self.select(self.selected.saturating_add(1)),
            KeyCode::Up | KeyCode::Char('k') => return self.select(self.selected.saturating_sub(1)),
            KeyCode::Home | KeyCode::Char('g') => return self.select(0),
            KeyCode::End | KeyCode::Char('G') => return self.select(usize::MAX),
            KeyCode::Enter if self.pane == Pane::Sweeps => return self.selected_sweep().map(Action::Look),
            KeyCode::Char('p') => self.ask(Verb::Pause, false),
            KeyCode::Char('P') => self.ask(Verb::Pause, true),
            KeyCode::Char('u') => self.ask(Verb::Resume, false),
            KeyCode::Char('U') => self.ask(Verb::Resume, true),
            KeyCode::Char('c') => self.ask(Verb::Cancel, false),
            KeyCode::Char('C') => self.ask(Verb::Cancel, true),
            KeyCode::Char('r') => self.ask(Verb::Retry, false),
            KeyCode::Char('R') => self.ask(Verb::Retry, true),
            KeyCode::Char('+') => self.ask_priority(1),
            KeyCode::Char('-') => self.ask_priority(-1),
            _ => {}
        }
        None
    }

    fn show(&mut self, pane: Pane) -> Option<Action> {
        (self.pane, self.selected) = (pane, 0);
        Some(Action::Refresh)
    }

    fn select(&mut self, line: usize) -> Option<Action> {
        self.selected = line.min(self.lines().saturating_sub(1));
        Some(Action::Refresh)
    }

    /// New facts: what is selected may be gone.
    pub(super) fn take(&mut self, sweeps: Vec<SweepStatus>, live: LiveSweep) {
        self.sweeps = sweeps;
        self.live = Some(live);
        self.selected = self.selected.min(self.lines().saturating_sub(1));
    }

    /// Lines of the pane that can be selected.
    pub(super) fn lines(&self) -> usize {
        let Some(live) = &self.live else { return 0 };
        match self.pane {
            Pane::Slots | Pane::Log => live.running.len(),
            Pane::Curves => self.curves.len(),
            Pane::Leaderboard => live.board.rows.len(),
            Pane::Waiting => live.undone.len(),
            Pane::Sweeps => self.sweeps.len(),
        }
    }

    /// The selected job with its label; none where a line is not a job.
    pub(super) fn selected_job(&self) -> Option<(JobId, String)> {
        let live = self.live.as_ref()?;
        match self.pane {
            Pane::Slots | Pane::Log => {
                live.running.get(self.selected).map(|job| (job.job.clone(), job.label.clone()))
            }
            Pane::Waiting => live.undone.get(self.selected).map(|job| (job.job.clone(), job.label.clone())),
            Pane::Leaderboard => {
                let row = live.board.rows.get(self.selected)?;
                let id = row.jobs.first()?;
                let job = live.board.board.jobs.iter().find(|job| job.id.as_str() == id)?;
                Some((job.id.clone(), row.label.clone()))
            }
            Pane::Curves | Pane::Sweeps => None,
        }
    }

    /// The selected sweep; elsewhere the one that is looked at.
    pub(super) fn selected_sweep(&self) -> Option<String> {
        let live = self.live.as_ref()?;
        match self.pane {
            Pane::Sweeps => self.sweeps.get(self.selected).map(|status| status.name.clone()),
            _ => Some(live.sweep.clone()),
        }
    }

    fn ask(&mut self, verb: Verb, whole_sweep: bool) {
        let job = if whole_sweep { None } else { self.selected_job() };
        let (text, name) = match (job, self.selected_sweep()) {
            (Some((job, label)), _) => {
                (format!("{} {label} ({})?", verb.word(), job.short()), job.as_str().to_owned())
            }
            (None, Some(sweep)) if whole_sweep || self.pane == Pane::Sweeps => {
                let jobs = self.jobs_for(verb, &sweep);
                (format!("{} sweep {sweep}, {jobs}?", verb.word()), sweep)
            }
            _ => {
                self.message = Some("select a job, or use the capital letter for the whole sweep".to_owned());
                return;
            }
        };
        self.question = Some(Question { text, action: Action::Control { verb, name } });
    }

    /// How many jobs a verb is about.
    fn jobs_for(&self, verb: Verb, sweep: &str) -> String {
        let states: &[JobState] = match verb {
            Verb::Pause => &[JobState::Queued, JobState::Running],
            Verb::Resume => &[JobState::Paused],
            Verb::Cancel => &[JobState::Queued, JobState::Running, JobState::Paused],
            Verb::Retry => &[JobState::Failed, JobState::Diverged],
        };
        let status = self.sweeps.iter().find(|status| status.name == sweep);
        let count = |state: &JobState| status.and_then(|status| status.counts.get(state)).copied();
        crate::job::counted(states.iter().filter_map(count).sum(), "job")
    }

    fn ask_priority(&mut self, by: i64) {
        let Some(sweep) = self.selected_sweep() else { return };
        let word = if by > 0 { "raise" } else { "lower" };
        let text = format!("{word} the priority of sweep {sweep}?");
        self.question = Some(Question { text, action: Action::Priority { sweep, by } });
    }
}
