use std::collections::BTreeMap;
use std::sync::Arc;

use insta::assert_snapshot;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent};

use super::draw::{Looks, draw};
use super::state::{Action, Pane, Screen, Verb};
use crate::device::SlotUse;
use crate::job::{Bytes, JobId, JobState, Seconds};
use crate::report::BoardView;
use crate::store::{BoardJob, CurvePoint, Leaderboard, StoredUse, SweepStatus, TrainingWork, UndoneJob};
use crate::workspace::{LiveSweep, Phase, RunningJob, ShownBoard};

const PLAIN: Looks = Looks { colored: false, ascii: false };

fn id(name: &str) -> JobId {
    JobId::from_store(format!("{name:0<16}"))
}

fn running(name: &str, label: &str, phase: Phase) -> RunningJob {
    RunningJob {
        job: id(name),
        label: label.to_owned(),
        process: "host:7".to_owned(),
        owner: "host/a/b/7/8".to_owned(),
        device: "cpu:0".to_owned(),
        attempt: 1,
        started_ms: 0,
        is_alive: Some(true),
        phase,
        tokens_per_second: Some(512.4),
        loss: Some(1.2345),
        log: "logs/a-1.log".to_owned(),
    }
}

fn job(name: &str, label: &str, is_base: bool, state: JobState) -> BoardJob {
    BoardJob {
        id: id(name),
        is_base,
        imported: false,
        label: label.to_owned(),
        model: "m".to_owned(),
        dtype: "bf16".to_owned(),
        state,
        reason: None,
        settings: BTreeMap::new(),
        trainable: 1024,
        seconds: Some(12.0),
        work: TrainingWork::default(),
        peak_memory: None,
        losses: Some((3.0, 1.2)),
        converged: Some(true),
        scores: Vec::new(),
    }
}

fn live() -> LiveSweep {
    let board = Leaderboard {
        sweep: "night".to_owned(),
        version: 1,
        jobs: vec![job("base", "base", true, JobState::Done), job("aa", "r=8", false, JobState::Done)],
        ..Leaderboard::default()
    };
    let view = BoardView::of(&board);
    let rows = crate::report::board_rows(&board);
    let counts = BTreeMap::from([
        (JobState::Queued, 3),
        (JobState::Running, 2),
        (JobState::Done, 4),
        (JobState::Failed, 1),
    ]);
    let slot = SlotUse {
        device: "cpu:0".to_owned(),
        used: Some(0.93),
        memory: Bytes(1_770_000_000),
        total_memory: Bytes(8_000_000_000),
        temperature: None,
        power: None,
    };
    LiveSweep {
        sweep: "night".to_owned(),
        counts,
        running: vec![
            running("bb", "r=16 lr=0.001", Phase::Training { step: 40, of: 64 }),
            running("cc", "r=32\u{1b}[31m", Phase::Scoring { documents: 90, of: 300 }),
        ],
        slots: vec![StoredUse { owner: "host/a/b/7/8".to_owned(), sampled_ms: 0, slot }],
        undone: vec![
            UndoneJob {
                job: id("dd"),
                label: "r=64".to_owned(),
                state: JobState::Queued,
                reason: Some("model not found".to_owned()),
            },
            UndoneJob {
                job: id("ee"),
                label: "r=128".to_owned(),
                state: JobState::Failed,
                reason: Some("the loss is NaN".to_owned()),
            },
        ],
        elapsed: Some(Seconds(600.0)),
        left: Some(Seconds(1200.0)),
        board: Arc::new(ShownBoard { board, view, all: rows.len(), rows, best_elsewhere: None }),
    }
}

fn screen() -> Screen {
    let mut screen = Screen::new();
    let point = |step: i64| CurvePoint {
        step,
        loss: Some(3.0 / (1.0 + step as f64 / 8.0)),
        validation_loss: None,
        learning_rate: 0.1,
        seconds: 1.0,
    };
    screen.curves = vec![("r=16".to_owned(), (1..=40).map(point).collect())];
    screen.log = ("logs/a-1.log".to_owned(), vec!["loaded".to_owned(), "step 1\u{7}".to_owned()]);
    let live = live();
    let sweeps = vec![
        SweepStatus { name: "night".to_owned(), version: 1, counts: live.counts.clone() },
        SweepStatus { name: "older".to_owned(), version: 2, counts: BTreeMap::from([(JobState::Done, 9)]) },
    ];
    screen.take(sweeps, live);
    screen
}

fn drawn(screen: &Screen, (width, height): (u16, u16), looks: Looks) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, screen, looks)).unwrap();
    terminal.backend().to_string()
}

fn press(screen: &mut Screen, keys: &str) -> Vec<Action> {
    keys.chars().filter_map(|key| screen.on_key(KeyEvent::from(KeyCode::Char(key)))).collect()
}

#[test]
fn every_pane_fits_eighty_by_twenty_four_without_color() {
    let mut screen = screen();
    for pane in Pane::ALL {
        screen.pane = pane;
        assert_snapshot!(format!("pane_{}", pane.title()), drawn(&screen, (80, 24), PLAIN));
    }
    screen.shows_help = true;
    assert_snapshot!("help", drawn(&screen, (80, 24), PLAIN));
}

#[test]
fn a_large_terminal_shows_everything_at_once() {
    assert_snapshot!("overview", drawn(&screen(), (140, 44), PLAIN));
}

#[test]
fn the_plain_locale_gets_ascii_and_a_tiny_terminal_no_panic() {
    let mut screen = screen();
    for pane in Pane::ALL {
        screen.pane = pane;
        let text = drawn(&screen, (100, 30), Looks { colored: true, ascii: true });
        assert!(text.is_ascii(), "{text}");
        for size in [(1, 1), (20, 5), (200, 3), (3, 60)] {
            drawn(&screen, size, PLAIN);
        }
    }
}

#[test]
fn a_key_that_changes_something_asks_first() {
    let mut screen = screen();
    assert_eq!(press(&mut screen, "p"), []);
    assert_eq!(screen.question.as_ref().unwrap().text, "pause r=16 lr=0.001 (bb000000)?");
    assert_eq!(press(&mut screen, "n"), [], "anything else than y is a no");
    let pause = Action::Control { verb: Verb::Pause, name: id("bb").as_str().to_owned() };
    assert_eq!(press(&mut screen, "py"), [pause]);
    assert_eq!(press(&mut screen, "C"), []);
    assert_eq!(screen.question.as_ref().unwrap().text, "cancel sweep night, 5 jobs?");
    let cancel = Action::Control { verb: Verb::Cancel, name: "night".to_owned() };
    assert_eq!(press(&mut screen, "y"), [cancel]);
    assert_eq!(press(&mut screen, "+y"), [Action::Priority { sweep: "night".to_owned(), by: 1 }]);
    assert_eq!(press(&mut screen, "q"), [Action::Quit]);
}

#[test]
fn a_job_is_selected_in_the_pane_where_it_stands() {
    let mut screen = screen();
    let retry = |name| Action::Control { verb: Verb::Retry, name: id(name).as_str().to_owned() };
    assert_eq!(press(&mut screen, "4jry"), [Action::Refresh, Action::Refresh, retry("ee")]);
    assert_eq!(press(&mut screen, "jjjjry").pop(), Some(retry("ee")), "the last line stays selected");
    assert_eq!(press(&mut screen, "3jry").pop(), Some(retry("aa")));
    assert_eq!(press(&mut screen, "2r"), [Action::Refresh]);
    assert!(screen.question.is_none() && screen.message.is_some(), "a chart has no job");
    press(&mut screen, "6j");
    let look = screen.on_key(KeyEvent::from(KeyCode::Enter));
    assert_eq!(look, Some(Action::Look("older".to_owned())));
}
