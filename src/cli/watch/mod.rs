//! `loragrid watch`: a sweep while it runs, in a terminal. It reads the database only, and what it does to jobs it does as the commands do.

mod draw;
mod state;
#[cfg(test)]
mod tests;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{Event, KeyEventKind, poll, read};
use tokio::sync::mpsc;

use self::draw::{Looks, draw};
use self::state::{Action, Pane, Screen, Verb};
use super::exit_code::ExitCode;
use super::failure::Failure;
use super::output::{ascii_only, is_colored};
use crate::cli::arguments::WatchArguments;
use crate::cli::environment::block_on;
use crate::cli::work::stops;
use crate::job::{JobId, Transition, counted};
use crate::store::{Actor, Database, Origin, Store};
use crate::workspace::{
    Workspace, WorkspaceError, live_sweep, log_tail, move_named, retry, set_priority, sweep_to_watch, thinned,
};

/// How often it is looked whether the database changed.
const LOOK: Duration = Duration::from_millis(500);
/// Times move even where nothing changes.
const REDRAW: Duration = Duration::from_secs(2);
/// Rows of the leaderboard.
const ROWS: usize = 100;
/// Curves of a chart, and points of a curve.
const CURVES: usize = 6;
const POINTS: usize = 400;
/// Lines of a log.
const LOG_LINES: usize = 200;

pub(in crate::cli) fn run(arguments: &WatchArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        let help = "`loragrid status` prints once, and `loragrid serve` shows pages".to_owned();
        return Err(Failure::new(ExitCode::Usage, "watch needs a terminal", help));
    }
    let looks = Looks { colored: is_colored(true), ascii: ascii_only() };
    block_on(async {
        // Errors of the first look are printed as any command's.
        let store = Store::open_to_read(&workspace.db).await?;
        let mut screen = Screen::new();
        look(&store, &mut screen, arguments.sweep.as_deref()).await?;
        let (mut stops, _) = stops();
        let mut terminal = ratatui::try_init()?;
        let result =
            show(&mut terminal, (screen, looks), (store, &workspace.db), arguments, &mut stops).await;
        ratatui::restore();
        result?;
        Ok(ExitCode::Success)
    })
}

/// Draws until the user leaves.
async fn show(
    terminal: &mut DefaultTerminal,
    (mut screen, looks): (Screen, Looks),
    (store, db): (Store, &Database),
    arguments: &WatchArguments,
    stops: &mut mpsc::Receiver<()>,
) -> Result<(), Failure> {
    let mut sweep = arguments.sweep.clone();
    let mut keys = keys();
    let (mut store, mut version, mut drawn) = (Some(store), -1, Instant::now());
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    terminal.draw(|frame| draw(frame, &screen, looks))?;
    loop {
        tokio::select! {
            _ = stops.recv() => return Ok(()),
            event = keys.recv() => {
                match event {
                    Some(Event::Key(key)) if key.kind != KeyEventKind::Release => match screen.on_key(key) {
                        Some(Action::Quit) => return Ok(()),
                        Some(Action::Look(name)) => {
                            (sweep, version) = (Some(name), -1);
                            screen.pane = Pane::Slots;
                        }
                        Some(Action::Refresh) => read_log(store.as_ref(), &mut screen),
                        Some(action) => {
                            screen.message = Some(match act(db, action).await {
                                Ok(done) => done,
                                Err(error) => error.to_string(),
                            });
                            version = -1;
                        }
                        None => {}
                    },
                    Some(_) => {}
                    // The terminal is gone.
                    None => return Ok(()),
                }
            }
            _ = ticks.tick() => {
                let now = match &store {
                    Some(open) => open.data_version().await.unwrap_or(-2),
                    None => -2,
                };
                if now == version && drawn.elapsed() < REDRAW {
                    continue;
                }
                version = now;
            }
        }
        if version < 0 || drawn.elapsed() >= LOOK {
            store = refresh(store, db, &mut screen, sweep.as_deref()).await;
        }
        terminal.draw(|frame| draw(frame, &screen, looks))?;
        drawn = Instant::now();
    }
}

/// Reads the sweep again. A database that is away is opened again when it is back.
async fn refresh(
    store: Option<Store>,
    db: &Database,
    screen: &mut Screen,
    sweep: Option<&str>,
) -> Option<Store> {
    let read = async {
        // A file in its place is another database.
        let is_same = store.as_ref().is_some_and(|store| {
            crate::pretrained::FileStamp::of(db.file()).is_ok_and(|stamp| stamp.is_same_file(store.stamp()))
        });
        let store = match store.filter(|_| is_same) {
            Some(store) => store,
            None => Store::open_to_read(db).await?,
        };
        look(&store, screen, sweep).await?;
        Ok::<_, WorkspaceError>(store)
    };
    match read.await {
        Ok(store) => Some(store),
        Err(error) => {
            screen.message = Some(error.to_string());
            None
        }
    }
}

/// Reads what the screen shows.
async fn look(store: &Store, screen: &mut Screen, sweep: Option<&str>) -> Result<(), WorkspaceError> {
    let name = match sweep {
        Some(sweep) => sweep.to_owned(),
        None => sweep_to_watch(store).await?,
    };
    let sweeps = store.status().await?;
    let live = live_sweep(store, (&name, ROWS), &mut screen.board).await?;
    let jobs = live.curve_jobs(CURVES);
    let ids: Vec<JobId> = jobs.iter().map(|(job, _)| job.clone()).collect();
    let mut curves = if ids.is_empty() { Default::default() } else { store.curves(&ids).await? };
    screen.curves = jobs
        .into_iter()
        .filter_map(|(job, label)| Some((label, thinned(&curves.remove(&job)?, POINTS))))
        .collect();
    screen.take(sweeps, live);
    read_log(Some(store), screen);
    Ok(())
}

/// Reads the end of the selected job's log, or of the first job that runs.
fn read_log(store: Option<&Store>, screen: &mut Screen) {
    let (Some(store), Some(live)) = (store, &screen.live) else { return };
    let selected = screen.selected_job().and_then(|(id, _)| live.running.iter().find(|job| job.job == id));
    screen.log = match selected.or(live.running.first()) {
        Some(job) => (job.log.clone(), log_tail(store, &job.log, LOG_LINES)),
        None => (String::new(), Vec::new()),
    };
}

/// Does what the user wants, as the commands do, without waiting for engines.
async fn act(db: &Database, action: Action) -> Result<String, WorkspaceError> {
    let store = Store::open_existing(db).await?;
    let actor = Actor::here(Origin::Watch);
    let done = match action {
        Action::Control { verb, name } => {
            let (moved, state) = match verb {
                Verb::Pause => (move_named(&store, &name, Transition::Pause, None, &actor).await?, "paused"),
                Verb::Resume => {
                    (move_named(&store, &name, Transition::Resume, None, &actor).await?, "queued")
                }
                Verb::Cancel => {
                    (move_named(&store, &name, Transition::Cancel, None, &actor).await?, "cancelled")
                }
                Verb::Retry => (retry(&store, Some(&name), &[], &actor).await?, "queued"),
            };
            format!("{} {state}", counted(moved.jobs.len() as u64, "job"))
        }
        Action::Priority { sweep, by } => {
            let priority = store.priority(&sweep).await? + by;
            set_priority(&store, &sweep, priority, &actor).await?;
            format!("sweep {sweep} has priority {priority}")
        }
        Action::Quit | Action::Look(_) | Action::Refresh => String::new(),
    };
    store.close().await;
    Ok(done)
}

/// Keys and changes of size, read by a thread of their own.
fn keys() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(64);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            match poll(LOOK) {
                Ok(false) => {}
                Ok(true) => {
                    let Ok(event) = read() else { return };
                    if sender.blocking_send(event).is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    });
    receiver
}
