//! The screen as text: from 80 columns and 24 lines up, in color or without.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::{Marker, border};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Axis, Block, Chart, Clear, Dataset, GraphType, Paragraph};

use super::state::{Pane, Screen};
use crate::cli::output::{in_ascii, in_one_line};
use crate::job::JobState;
use crate::report::{board_notes, board_table, numbered, render_terminal};
use crate::store::StoredUse;
use crate::workspace::{LiveSweep, RunningJob};

/// From this width on, curves stand beside the leaderboard below the slots.
const WIDE: u16 = 120;
const TALL: u16 = 34;
/// Characters of a bar.
const BAR: usize = 12;
const HELP: &str = "1-6, Tab  another pane          p P  pause a job, the sweep
Up, Down  select                u U  resume
Enter     look at the sweep     c C  cancel
+ -       priority of sweep     r R  retry
q         quit; the run goes on";

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Looks {
    pub(super) colored: bool,
    pub(super) ascii: bool,
}

const ASCII_BORDER: border::Set<'static> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};
/// Okabe and Ito's, as far as a terminal has them.
const COLORS: [Color; 6] =
    [Color::Cyan, Color::Yellow, Color::Green, Color::Magenta, Color::Blue, Color::Red];
/// Series without color differ by their marks.
const MARKS: [char; 6] = ['*', '+', 'o', 'x', '#', '@'];

/// Draws the screen.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen, looks: Looks) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(3), Constraint::Min(1), Constraint::Length(1)])
            .areas(frame.area());
    let Some(live) = &screen.live else {
        let text = screen.message.as_deref().unwrap_or("reading the database");
        frame.render_widget(paragraph(vec![Line::from(shown(text, looks))]), frame.area());
        return;
    };
    frame.render_widget(paragraph(head_lines(live, screen.pane, head.width, looks)), head);
    if screen.pane == Pane::Slots && body.width >= WIDE && body.height >= TALL {
        overview(frame, screen, live, body, looks);
    } else {
        pane(frame, screen, live, (screen.pane, true), body, looks);
    }
    let keys = "1-6 panes  jk select  p pause  u resume  c cancel  r retry  ? keys  q quit";
    let foot_line = match (&screen.question, &screen.message) {
        (Some(question), _) => emphasized(&format!("{} y/n", question.text), looks),
        (None, Some(message)) => Line::from(shown(message, looks)),
        (None, None) => Line::styled(keys, Style::new().add_modifier(Modifier::DIM)),
    };
    frame.render_widget(paragraph(vec![foot_line]), foot);
    if screen.shows_help {
        let area = centered(frame.area(), 62, 7);
        frame.render_widget(Clear, area);
        frame.render_widget(Paragraph::new(HELP).block(framed("keys", looks)), area);
    }
    if looks.ascii {
        spell(frame);
    }
}

/// Replaces what is left of lines and corners, each by one sign.
fn spell(frame: &mut Frame<'_>) {
    for cell in frame.buffer_mut().content.iter_mut().filter(|cell| !cell.symbol().is_ascii()) {
        let sign = match cell.symbol() {
            "└" | "┌" | "┐" | "┘" | "┼" | "┴" | "┬" => '+',
            other => in_ascii(other).chars().next().unwrap_or('?'),
        };
        cell.set_char(sign);
    }
}

fn paragraph(lines: Vec<Line<'_>>) -> Paragraph<'_> {
    Paragraph::new(Text::from(lines))
}

/// Text from elsewhere as this terminal shows it.
fn shown(text: &str, looks: Looks) -> String {
    let line = in_one_line(text);
    if looks.ascii { in_ascii(&line) } else { line }
}

fn emphasized(text: &str, looks: Looks) -> Line<'static> {
    Line::styled(shown(text, looks), Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD))
}

fn framed(title: &str, looks: Looks) -> Block<'static> {
    let set = if looks.ascii { ASCII_BORDER } else { border::PLAIN };
    Block::bordered().border_set(set).title(format!(" {title} "))
}

/// The sweep with its jobs by state, a bar with the time left, and the panes.
fn head_lines(live: &LiveSweep, current: Pane, width: u16, looks: Looks) -> Vec<Line<'static>> {
    let counts = &live.counts;
    let count = |state: JobState| counts.get(&state).copied().unwrap_or_default();
    let all: u64 = counts.values().sum();
    let states = JobState::ALL.into_iter().filter(|state| count(*state) > 0);
    let states: Vec<String> = states.map(|state| format!("{} {}", count(state), state.as_str())).collect();
    let title = Line::from(vec![
        Span::styled(
            shown(&format!("sweep {}", live.sweep), looks),
            Style::new().add_modifier(Modifier::BOLD),
        ),
        Span::raw(format!("  {} jobs: {}", all, states.join(", "))),
    ]);
    let ended: u64 = [JobState::Done, JobState::Failed, JobState::Diverged, JobState::Cancelled]
        .into_iter()
        .map(count)
        .sum();
    let part = if all == 0 { 0.0 } else { ended as f64 / all as f64 };
    let times = match (live.elapsed, live.left) {
        (Some(elapsed), Some(left)) => format!("{elapsed} elapsed, about {left} left"),
        (Some(elapsed), None) => format!("{elapsed} elapsed"),
        (None, _) if count(JobState::Queued) > 0 => "no worker runs; `loragrid work` starts one".to_owned(),
        (None, _) => String::new(),
    };
    let room = usize::from(width).saturating_sub(times.chars().count() + 11).clamp(10, 60);
    let progress = format!("[{}] {:>3.0} %  {times}", bar(part, room, looks), 100.0 * part);
    let tabs = Pane::ALL.iter().enumerate().flat_map(|(at, pane)| {
        let style = if *pane == current {
            Style::new().add_modifier(Modifier::REVERSED)
        } else {
            Style::new().add_modifier(Modifier::DIM)
        };
        [Span::styled(format!(" {} {} ", at + 1, pane.title()), style), Span::raw(" ")]
    });
    vec![title, Line::from(shown(&progress, looks)), Line::from(tabs.collect::<Vec<_>>())]
}

fn bar(part: f64, width: usize, looks: Looks) -> String {
    let full = (part.clamp(0.0, 1.0) * width as f64).round() as usize;
    let (on, off) = if looks.ascii { ("#", ".") } else { ("█", "░") };
    format!("{}{}", on.repeat(full), off.repeat(width - full))
}

/// Slots above, curves and leaderboard below.
fn overview(frame: &mut Frame<'_>, screen: &Screen, live: &LiveSweep, area: Rect, looks: Looks) {
    let slots = (live.running.len() as u16 + 3).clamp(4, area.height / 3);
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Length(slots), Constraint::Min(10), Constraint::Length(8)]).areas(area);
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(42), Constraint::Percentage(58)]).areas(middle);
    pane(frame, screen, live, (Pane::Slots, true), top, looks);
    pane(frame, screen, live, (Pane::Curves, false), left, looks);
    pane(frame, screen, live, (Pane::Leaderboard, false), right, looks);
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(42), Constraint::Percentage(58)]).areas(bottom);
    pane(frame, screen, live, (Pane::Waiting, false), left, looks);
    pane(frame, screen, live, (Pane::Log, false), right, looks);
}

fn pane(
    frame: &mut Frame<'_>,
    screen: &Screen,
    live: &LiveSweep,
    (pane, is_active): (Pane, bool),
    area: Rect,
    looks: Looks,
) {
    let selected = is_active.then_some(screen.selected);
    let width = area.width.saturating_sub(2);
    if pane == Pane::Curves {
        return curves(frame, screen, area, looks);
    }
    let (title, lines, first) = match pane {
        Pane::Slots => ("slots".to_owned(), slot_lines(live, width, looks), 1),
        Pane::Leaderboard => leaderboard(live, width, looks),
        Pane::Waiting => ("waiting and failed".to_owned(), waiting_lines(live, looks), 0),
        Pane::Sweeps => ("sweeps".to_owned(), sweep_lines(screen, live, looks), 0),
        Pane::Log | Pane::Curves => log(screen, looks, area.height),
    };
    let marked = selected.filter(|_| pane != Pane::Log).map(|line| line + first);
    let lines: Vec<Line<'_>> = lines
        .into_iter()
        .enumerate()
        .map(|(at, line)| match marked == Some(at) && screen.lines() > 0 {
            true => line.style(Style::new().add_modifier(Modifier::REVERSED)),
            false => line,
        })
        .collect();
    // What is selected stays in sight.
    let room = usize::from(area.height.saturating_sub(2));
    let skipped = marked.map_or(0, |line| (line + 1).saturating_sub(room));
    let text = Paragraph::new(Text::from(lines)).block(framed(&title, looks)).scroll((skipped as u16, 0));
    frame.render_widget(text, area);
}

/// A line for each running job, after a heading; then slots without one.
fn slot_lines(live: &LiveSweep, width: u16, looks: Looks) -> Vec<Line<'static>> {
    let is_wide = width >= 100;
    let heading = match is_wide {
        true => format!(
            "{:<8} {:<14} {:<28} {:>9} {:>8} {:>5} {:>15}  job",
            "device", "", "step", "tokens/s", "loss", "use", "memory"
        ),
        false => format!(
            "{:<7} {:<22} {:>8} {:>7} {:>5} {:>8}  job",
            "device", "step", "tokens/s", "loss", "use", "memory"
        ),
    };
    let mut lines = vec![Line::styled(heading, Style::new().add_modifier(Modifier::DIM))];
    for job in &live.running {
        let used = live.slots.iter().find(|used| used.owner == job.owner && used.slot.device == job.device);
        lines.push(Line::from(shown(&slot_line(job, used, (is_wide, looks)), looks)));
    }
    if live.running.is_empty() {
        lines.push(Line::from("nothing runs"));
    }
    lines
}

fn slot_line(job: &RunningJob, used: Option<&StoredUse>, (is_wide, looks): (bool, Looks)) -> String {
    use crate::workspace::Phase;
    let number = |value: Option<f64>, decimals: usize| {
        value.map_or("-".to_owned(), |value| format!("{value:.decimals$}"))
    };
    let percent =
        used.and_then(|used| used.slot.used).map_or("-".to_owned(), |part| format!("{:.0} %", 100.0 * part));
    let gone = if job.is_alive == Some(false) { " (its worker is gone)" } else { "" };
    let (rate, loss) = (number(job.tokens_per_second, 0), number(job.loss, 3));
    let part = match job.phase {
        Phase::Training { step, of } | Phase::Scoring { documents: step, of } => {
            step as f64 / of.max(1) as f64
        }
        Phase::Starting | Phase::Leaving => 0.0,
    };
    if is_wide {
        let memory = used.map_or("-".to_owned(), |used| {
            let heat = used.slot.temperature.map(|heat| format!(" {heat:.0} °C")).unwrap_or_default();
            format!("{}{heat}", used.slot.memory)
        });
        return format!(
            "{:<8} [{}] {:<28} {rate:>9} {loss:>8} {percent:>5} {memory:>15}  {}{gone}",
            job.device,
            bar(part, BAR, looks),
            job.phase.words(),
            job.label
        );
    }
    let memory = used.map_or("-".to_owned(), |used| used.slot.memory.to_string());
    let words = match job.phase {
        Phase::Scoring { documents, of } => format!("scored {documents}/{of}"),
        other => other.words(),
    };
    format!("{:<7} {words:<22} {rate:>8} {loss:>7} {percent:>5} {memory:>8}  {}{gone}", job.device, job.label)
}

fn leaderboard(live: &LiveSweep, width: u16, looks: Looks) -> (String, Vec<Line<'static>>, usize) {
    let (view, rows) = (&live.board.view, &live.board.rows);
    let table = numbered(board_table(view, rows), rows);
    let table = if looks.ascii { table.spelled(in_ascii) } else { table };
    let text = render_terminal(&table, Some(width));
    let text = if looks.ascii { in_ascii_lines(&text) } else { text };
    let mut lines: Vec<Line<'static>> = text.lines().map(|line| Line::from(line.to_owned())).collect();
    // Rows begin after the rule below the heading.
    let is_rule = |line: &&str| line.chars().all(|c| matches!(c, '─' | '-'));
    let rules = text.lines().enumerate().filter(|(_, line)| is_rule(line));
    let first = rules.map(|(at, _)| at + 1).nth(1).unwrap_or_default();
    let notes = board_notes(view, rows).join("; ");
    lines.push(Line::from(shown(&notes, looks)));
    let more = live.board.all.saturating_sub(rows.len());
    let title = if more > 0 { format!("leaderboard, {more} more rows") } else { "leaderboard".to_owned() };
    (title, lines, first)
}

fn in_ascii_lines(text: &str) -> String {
    text.lines().map(in_ascii).collect::<Vec<_>>().join("\n")
}

fn waiting_lines(live: &LiveSweep, looks: Looks) -> Vec<Line<'static>> {
    let line = |job: &crate::store::UndoneJob| {
        let reason = job.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        Line::from(shown(&format!("{:<9} {}{reason}", job.state.as_str(), job.label), looks))
    };
    match live.undone.is_empty() {
        true => vec![Line::from("nothing waits, and nothing failed")],
        false => live.undone.iter().map(line).collect(),
    }
}

fn sweep_lines(screen: &Screen, live: &LiveSweep, looks: Looks) -> Vec<Line<'static>> {
    let line = |status: &crate::store::SweepStatus| {
        let states = status.counts.iter().map(|(state, count)| format!("{count} {}", state.as_str()));
        let states: Vec<String> = states.collect();
        let mark = if status.name == live.sweep { ">" } else { " " };
        Line::from(shown(&format!("{mark} {:<28} {}", status.name, states.join(", ")), looks))
    };
    screen.sweeps.iter().map(line).collect()
}

fn log(screen: &Screen, looks: Looks, height: u16) -> (String, Vec<Line<'static>>, usize) {
    let (name, lines) = &screen.log;
    let room = usize::from(height.saturating_sub(2));
    let last = lines.iter().skip(lines.len().saturating_sub(room));
    let mut shown_lines: Vec<Line<'static>> = last.map(|line| Line::from(shown(line, looks))).collect();
    if shown_lines.is_empty() {
        shown_lines.push(Line::from("no job runs, or its engine has not said anything yet"));
    }
    let title = if name.is_empty() { "log".to_owned() } else { shown(&format!("log {name}"), looks) };
    (title, shown_lines, 0)
}

/// A name with its points.
type NamedPoints = (String, Vec<(f64, f64)>);

/// Losses by step.
fn curves(frame: &mut Frame<'_>, screen: &Screen, area: Rect, looks: Looks) {
    let series: Vec<NamedPoints> = screen
        .curves
        .iter()
        .map(|(label, points)| {
            let point = |point: &crate::store::CurvePoint| Some((point.step as f64, point.loss?));
            (shown(label, looks), points.iter().filter_map(point).collect())
        })
        .filter(|(_, points): &NamedPoints| !points.is_empty())
        .collect();
    if series.is_empty() {
        let text = Paragraph::new("no job has made a step yet").block(framed("loss", looks));
        return frame.render_widget(text, area);
    }
    let all = || series.iter().flat_map(|(_, points)| points);
    let ends = |of: &dyn Fn(&(f64, f64)) -> f64| {
        all()
            .map(of)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let ((left, right), (low, high)) = (ends(&|point| point.0), ends(&|point| point.1));
    let (right, high) = (right.max(left + 1.0), if high > low { high } else { low + 1.0 });
    let is_plain = !looks.colored || looks.ascii;
    let dataset = |(at, (label, points)): (usize, &'_ NamedPoints)| {
        let style = if looks.colored { Style::new().fg(COLORS[at % COLORS.len()]) } else { Style::new() };
        let mark = MARKS[at % MARKS.len()];
        let (marker, name) = match is_plain {
            true => (Marker::Custom(mark), format!("{mark} {label}")),
            false => (Marker::Braille, label.clone()),
        };
        (style, marker, name, points.clone())
    };
    let prepared: Vec<_> = series.iter().enumerate().map(dataset).collect();
    let datasets = prepared.iter().map(|(style, marker, name, points)| {
        let kind = if is_plain { GraphType::Scatter } else { GraphType::Line };
        Dataset::default().name(name.clone()).marker(*marker).graph_type(kind).style(*style).data(points)
    });
    let label = |value: f64, decimals: usize| Span::raw(format!("{value:.decimals$}"));
    let x = Axis::default().title("step").bounds([left, right]).labels([label(left, 0), label(right, 0)]);
    let middle = f64::midpoint(low, high);
    let y = Axis::default().bounds([low, high]).labels([label(low, 2), label(middle, 2), label(high, 2)]);
    let chart = Chart::new(datasets.collect())
        .block(framed("loss of each step", looks))
        .x_axis(x)
        .y_axis(y)
        .hidden_legend_constraints((Constraint::Percentage(60), Constraint::Percentage(60)));
    frame.render_widget(chart, area);
}

fn centered(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect::new(area.x + (area.width - width) / 2, area.y + (area.height - height) / 2, width, height)
}
