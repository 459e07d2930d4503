//! The views of a sweep: tables and charts as reports have them, over what the address asks for.

use std::collections::HashMap;

use super::PageError;
use super::parts::{Part, encoded, job_address, linked, sweep_address};
use super::query::Query;
use crate::job::{JobId, Value, short_name};
use crate::report::{
    Block, BoardRow, BoardView, Cell, Chart, Column, ParallelAxis, ParallelChart, ParallelLine, Point,
    RowKind, Series, Table, axis_effects, board_notes, board_table, effects_metric, effects_table,
    escape_html, levels_table, metric_title, noise_notes, parallel_svg, pivot_notes, plain, shaded_pivot,
};
use crate::store::{ScoresOf, Store, UndoneJob};
use crate::task::MetricName;
use crate::workspace::{LiveSweep, PivotRequest, RunningJob, ShownBoard, shown_board, shown_pivot, thinned};

/// Curves of a chart where none are chosen, and at most.
const CURVES: usize = 6;
const MOST_CURVES: usize = 16;
/// Points of a curve.
const POINTS: usize = 200;
/// Runs over parallel axes.
const LINES: usize = 300;

/// A view of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Live,
    Leaderboard,
    Curves,
    Parallel,
    Pivot,
    Effects,
}

impl View {
    pub(super) const ALL: [Self; 6] =
        [Self::Live, Self::Leaderboard, Self::Curves, Self::Parallel, Self::Pivot, Self::Effects];

    pub(super) fn of(query: &Query) -> Self {
        let word = query.get("view").unwrap_or_default();
        Self::ALL.into_iter().find(|view| view.word() == word).unwrap_or(Self::Live)
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Leaderboard => "leaderboard",
            Self::Curves => "curves",
            Self::Parallel => "parallel",
            Self::Pivot => "pivot",
            Self::Effects => "effects",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Parallel => "parallel coordinates",
            other => other.word(),
        }
    }

    /// Whether it is asked for by the form of a leaderboard.
    pub(super) fn has_form(self) -> bool {
        matches!(self, Self::Leaderboard | Self::Parallel)
    }

    /// Whether its parts are pushed; the others read everything and are loaded again.
    pub(super) fn is_live(self) -> bool {
        matches!(self, Self::Live | Self::Leaderboard | Self::Curves)
    }
}

/// What runs, its curves, the first rows, what waits.
pub(super) async fn live(store: &Store, live: &LiveSweep) -> Result<Vec<Part>, PageError> {
    let chosen = live.curve_jobs(CURVES);
    let chart = curves_chart(store, &chosen).await?;
    let ShownBoard { view, rows, all, .. } = &*live.board;
    let address = format!("{}?view=leaderboard", sweep_address(&live.sweep));
    let more = if rows.len() < *all {
        format!("<p><a href=\"{address}\">all {all} rows</a></p>")
    } else {
        String::new()
    };
    let mut board = Part::of_blocks("board", "Leaderboard", &board_blocks(view, rows));
    board.html.push_str(&more);
    let mut parts = Vec::new();
    if !live.running.is_empty() {
        parts.push(Part::of_blocks(
            "slots",
            "Running",
            &[Block::Table("Jobs by slot".to_owned(), slots_table(live))],
        ));
    } else {
        parts.push(Part::new("slots", String::new()));
    }
    parts.push(match chart {
        Some(chart) => Part::of_blocks("curves", "Loss", &[Block::Chart(chart)]),
        None => Part::new("curves", String::new()),
    });
    parts.push(board);
    parts.push(match live.undone.is_empty() {
        true => Part::new("waiting", String::new()),
        false => {
            let table = undone_table(&live.undone);
            Part::of_blocks(
                "waiting",
                "Waiting and failed",
                &[Block::Table("The first jobs without a result".to_owned(), table)],
            )
        }
    });
    Ok(parts)
}

fn slots_table(live: &LiveSweep) -> Table {
    let columns = vec![
        Column::text("run"),
        Column::text("device"),
        Column::text("doing"),
        Column::number("tokens/s", None),
        Column::number("loss", None),
        Column::number("use", Some("%")),
        Column::text("memory"),
        Column::text("worker"),
    ];
    let row = |job: &RunningJob| {
        let used = live.slots.iter().find(|used| used.owner == job.owner && used.slot.device == job.device);
        let heat = used
            .and_then(|used| used.slot.temperature)
            .map(|heat| format!(", {heat:.0} °C"))
            .unwrap_or_default();
        let gone = if job.is_alive == Some(false) { " (gone)" } else { "" };
        vec![
            Cell::Text(job.label.clone()).linked(job_address(job.job.as_str())),
            Cell::Text(job.device.clone()),
            Cell::Text(job.phase.words()),
            Cell::maybe_number(job.tokens_per_second, 0),
            Cell::maybe_number(job.loss, 3),
            Cell::maybe_number(used.and_then(|used| used.slot.used).map(|part| 100.0 * part), 0),
            used.map_or(Cell::Missing, |used| Cell::Text(format!("{}{heat}", used.slot.memory))),
            Cell::Text(format!("{}{gone}", job.process)),
        ]
    };
    Table { columns, rows: live.running.iter().map(row).collect() }
}

fn undone_table(jobs: &[UndoneJob]) -> Table {
    let columns = vec![Column::text("run"), Column::text("state"), Column::text("why")];
    let row = |job: &UndoneJob| {
        vec![
            Cell::Text(job.label.clone()).linked(job_address(job.job.as_str())),
            Cell::Text(job.state.as_str().to_owned()),
            job.reason.as_ref().map_or(Cell::Missing, |reason| Cell::Text(plain(reason.clone()))),
        ]
    };
    Table { columns, rows: jobs.iter().map(row).collect() }
}

fn board_blocks(view: &BoardView, rows: &[BoardRow]) -> Vec<Block> {
    let table = linked(board_table(view, rows), "run", |row| Some(job_address(rows.get(row)?.jobs.first()?)));
    let mut blocks = vec![Block::Table("Rows by rank".to_owned(), table)];
    let notes = board_notes(view, rows);
    if !notes.is_empty() {
        blocks.push(Block::Text(format!("{}.", notes.join("; "))));
    }
    blocks
}

/// The leaderboard as it is asked for.
pub(super) async fn leaderboard(store: &Store, name: &str, query: &Query) -> Result<Vec<Part>, PageError> {
    let shown = shown_board(store, &query.board(name)).await?;
    let mut blocks = board_blocks(&shown.view, &shown.rows);
    if let Some(best) = &shown.best_elsewhere {
        blocks.push(Block::Text(format!("The best row, {}, is not shown.", best.label)));
    }
    let mut board = Part::of_blocks("board", "Leaderboard", &blocks);
    if shown.rows.len() < shown.all {
        let more = query.with("rows", &(shown.rows.len() * 5).to_string()).text();
        board.html.push_str(&format!(
            "<p>{} of {} rows: <a href=\"{}?{}\">more</a></p>",
            shown.rows.len(),
            shown.all,
            sweep_address(name),
            escape_html(&more)
        ));
    }
    Ok(vec![Part::new("form", form(name, query)), board])
}

/// The form of a leaderboard, which is kept in the address.
pub(super) fn form(name: &str, query: &Query) -> String {
    let field = |name: &str, label: &str, hint: &str| {
        let value = escape_html(query.get(name).unwrap_or_default());
        format!(
            "<label>{label}<input name=\"{name}\" value=\"{value}\" placeholder=\"{}\"></label>",
            escape_html(hint)
        )
    };
    let fields: String = [
        ("where", "only runs with", "lora.rank >= 64 && arc_easy > 0.4"),
        ("sort", "sort by", "task:metric, loss, time, memory, or a key"),
        ("metrics", "metrics", "the first of each task"),
        ("columns", "columns", "difference, trainable, loss, time, or keys"),
        ("group_by", "one row for equal", "keys"),
    ]
    .iter()
    .map(|(name, label, hint)| field(name, label, hint))
    .collect();
    let view = View::of(query).word();
    format!(
        "<form class=\"fields\" method=\"get\" action=\"{}\"><input type=\"hidden\" name=\"view\" value=\"{view}\">{fields}\
         <button>show</button></form>",
        sweep_address(name)
    )
}

/// Curves of chosen runs on one chart.
pub(super) async fn curves(store: &Store, name: &str, query: &Query) -> Result<Vec<Part>, PageError> {
    let shown = shown_board(store, &query.board(name)).await?;
    let trained: Vec<(JobId, String)> = shown
        .rows
        .iter()
        .filter(|row| row.kind() == RowKind::Cell)
        .filter_map(|row| {
            let id = row.jobs.first()?;
            let job = shown.board.jobs.iter().find(|job| job.id.as_str() == id)?;
            Some((job.id.clone(), row.label.clone()))
        })
        .collect();
    let asked: Vec<&str> = query.all("runs").collect();
    let is_chosen = |job: &JobId| asked.contains(&job.as_str());
    let chosen: Vec<(JobId, String)> = match asked.is_empty() {
        true => trained.iter().take(CURVES).cloned().collect(),
        false => trained.iter().filter(|(job, _)| is_chosen(job)).take(MOST_CURVES).cloned().collect(),
    };
    let boxes: String = trained
        .iter()
        .map(|(job, label)| {
            let checked = if chosen.iter().any(|(known, _)| known == job) { " checked" } else { "" };
            format!(
                "<label><input type=\"checkbox\" name=\"runs\" value=\"{}\"{checked}> {}</label>",
                escape_html(job.as_str()),
                escape_html(label)
            )
        })
        .collect();
    let choice = format!(
        "<form method=\"get\" action=\"{}\"><input type=\"hidden\" name=\"view\" value=\"curves\"><fieldset><legend>runs, at most \
         {MOST_CURVES}</legend>{boxes}</fieldset><p><button>show</button> <button formaction=\"/compare\">compare two</button></p></form>",
        sweep_address(name)
    );
    let chart = curves_chart(store, &chosen).await?;
    let chart = chart.map_or_else(
        || vec![Block::Text("No step was recorded yet.".to_owned())],
        |chart| vec![Block::Chart(chart)],
    );
    Ok(vec![Part::of_blocks("curves", "Loss", &chart), Part::new("choice", choice)])
}

/// The losses of jobs; none: none has made a step.
pub(super) async fn curves_chart(
    store: &Store,
    jobs: &[(JobId, String)],
) -> Result<Option<Chart>, PageError> {
    let ids: Vec<JobId> = jobs.iter().map(|(job, _)| job.clone()).collect();
    let mut found = if ids.is_empty() { HashMap::new() } else { store.curves(&ids).await? };
    let series = jobs.iter().filter_map(|(job, label)| {
        let curve = thinned(&found.remove(job)?, POINTS);
        let points = curve
            .iter()
            .filter_map(|point| Some(Point { x: point.step as f64, y: point.loss?, error: None }));
        let points: Vec<Point> = points.collect();
        (!points.is_empty()).then(|| Series { name: label.clone(), points, marked: false })
    });
    let chart = Chart {
        title: "Loss of each step".to_owned(),
        x_label: "step".to_owned(),
        y_label: "loss".to_owned(),
        doubling: false,
        series: series.collect(),
        level: None,
    };
    Ok((!chart.is_empty()).then_some(chart))
}

/// Each run as a line over its settings and scores.
pub(super) async fn parallel(store: &Store, name: &str, query: &Query) -> Result<Vec<Part>, PageError> {
    let mut request = query.board(name);
    request.rows = Some(LINES);
    let shown = shown_board(store, &request).await?;
    let rows: Vec<&BoardRow> = shown.rows.iter().filter(|row| row.kind() == RowKind::Cell).collect();
    let mut axes: Vec<(ParallelAxis, Vec<Option<f64>>)> =
        shown.view.keys.iter().map(|key| key_axis(key, &rows)).collect();
    axes.extend(loss_axis(&rows));
    axes.extend(shown.view.metrics.iter().filter_map(|metric| score_axis(metric, &rows)));
    let lines = rows.iter().enumerate().map(|(at, row)| ParallelLine {
        name: row.label.clone(),
        address: row.jobs.first().map_or_else(String::new, |job| job_address(job)),
        values: axes.iter().map(|(_, values)| values[at]).collect(),
        rank: 1.0 - at as f64 / rows.len().max(1) as f64,
    });
    let chart = ParallelChart {
        title: format!("{} best runs", rows.len()),
        lines: lines.collect(),
        axes: axes.iter().map(|(axis, _)| axis.clone()).collect(),
    };
    let drawn = parallel_svg(&chart, "parallel");
    let html = format!(
        "<h2>Parallel coordinates</h2><p class=\"note\">Each line is a run, the best in front. A click leads to it.</p><div class=\"plot\" \
         role=\"region\" aria-label=\"parallel coordinates\" tabindex=\"0\">{drawn}</div>"
    );
    Ok(vec![Part::new("form", form(name, query)), Part::new("parallel", html)])
}

fn key_axis(key: &str, rows: &[&BoardRow]) -> (ParallelAxis, Vec<Option<f64>>) {
    let name = short_name(key).to_owned();
    let values: Vec<Option<&Value>> = rows.iter().map(|row| row.settings.get(key)).collect();
    let numbers: Vec<Option<f64>> = values.iter().map(|value| value.and_then(Value::as_f64)).collect();
    if numbers.iter().all(Option::is_some) && !numbers.is_empty() {
        let ends = ends(&numbers);
        return (
            ParallelAxis::Numbers { name, ends, doubling: ends.0 > 0.0 && ends.1 / ends.0 >= 8.0 },
            numbers,
        );
    }
    let mut texts: Vec<String> = values.iter().flatten().map(ToString::to_string).collect();
    texts.sort();
    texts.dedup();
    let place = |value: &Option<&Value>| {
        let text = value.as_ref()?.to_string();
        texts.iter().position(|known| *known == text).map(|at| at as f64)
    };
    let places = values.iter().map(place).collect();
    (ParallelAxis::Texts { name, values: texts }, places)
}

fn loss_axis(rows: &[&BoardRow]) -> Option<(ParallelAxis, Vec<Option<f64>>)> {
    let values: Vec<Option<f64>> =
        rows.iter().map(|row| row.last_loss.filter(|loss| loss.is_finite())).collect();
    values.iter().any(Option::is_some).then(|| {
        (ParallelAxis::Numbers { name: "loss".to_owned(), ends: ends(&values), doubling: false }, values)
    })
}

fn score_axis(metric: &MetricName, rows: &[&BoardRow]) -> Option<(ParallelAxis, Vec<Option<f64>>)> {
    let value = |row: &&BoardRow| row.score(metric)?.value.filter(|value| value.is_finite());
    let values: Vec<Option<f64>> = rows.iter().map(value).collect();
    values.iter().any(Option::is_some).then(|| {
        (ParallelAxis::Numbers { name: metric_title(metric), ends: ends(&values), doubling: false }, values)
    })
}

fn ends(values: &[Option<f64>]) -> (f64, f64) {
    let all = values.iter().flatten();
    all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)))
}

/// Two keys against each other.
pub(super) async fn pivot(store: &Store, name: &str, query: &Query) -> Result<Vec<Part>, PageError> {
    let board = store.board(Some(name)).await?;
    let axes: Vec<&String> = board.axes.iter().filter(|axis| *axis != "seed").collect();
    let rows = query.get("down").map(str::to_owned).or_else(|| axes.first().map(|axis| (*axis).clone()));
    let columns = query.get("across").map(str::to_owned).or_else(|| axes.get(1).map(|axis| (*axis).clone()));
    let metrics = board.metric_names();
    let options = |names: &[String], chosen: Option<&str>| -> String {
        let option = |name: &String| {
            let selected = if Some(name.as_str()) == chosen { " selected" } else { "" };
            format!("<option{selected}>{}</option>", escape_html(name))
        };
        names.iter().map(option).collect()
    };
    let metric_words: Vec<String> = metrics.iter().map(ToString::to_string).collect();
    let objective = board.objective.as_ref().map(|(task, metric)| MetricName::new(task, *metric).to_string());
    let metric = query.get("metric").map(str::to_owned).or(objective);
    let form = format!(
        "<form class=\"fields\" method=\"get\" action=\"{}\"><input type=\"hidden\" name=\"view\" value=\"pivot\"><label>down<select \
         name=\"down\">{}</select></label><label>across<select name=\"across\">{}</select></label><label>metric<select \
         name=\"metric\">{}</select></label><button>show</button></form>",
        sweep_address(name),
        options(&board.axes, rows.as_deref()),
        options(&board.axes, columns.as_deref()),
        options(&metric_words, metric.as_deref())
    );
    let mut parts = vec![Part::new("form", form)];
    let (Some(rows), Some(columns)) = (rows, columns) else {
        let text = "A pivot needs two axes, and this sweep has fewer.".to_owned();
        parts.push(Part::of_blocks("pivot", "Pivot", &[Block::Text(text)]));
        return Ok(parts);
    };
    let request = PivotRequest { rows: rows.clone(), columns: columns.clone(), metric };
    let (_, found) = shown_pivot(store, &query.with("rows", "").board(name), &request).await?;
    let caption = format!("{} by {rows} (down) and {columns} (across)", metric_title(&found.metric));
    let mut blocks = vec![Block::Table(caption, shaded_pivot(&found))];
    blocks.push(Block::List(pivot_notes(&found)));
    parts.push(Part::of_blocks("pivot", "Pivot", &blocks));
    Ok(parts)
}

/// How much each axis matters.
pub(super) async fn effects(store: &Store, name: &str, query: &Query) -> Result<Vec<Part>, PageError> {
    let mut board = store.board(Some(name)).await?;
    let MetricName { task, metric } = effects_metric(&board, query.get("metric"))?;
    let metrics = [(task, metric)];
    store.read_scores(&mut board, ScoresOf { metrics: Some(&metrics), jobs: None }).await?;
    let blocks = match axis_effects(&board, query.get("metric")) {
        Ok(found) => vec![
            Block::Table(
                format!("Importance for {}:{}", found.task, found.metric.as_str()),
                effects_table(&found),
            ),
            Block::List(noise_notes(&found)),
            Block::Table("Mean at each value".to_owned(), levels_table(&found)),
        ],
        Err(error) => vec![Block::Text(format!("{error}."))],
    };
    let others: Vec<String> = board
        .metric_names()
        .iter()
        .map(|name| {
            let text = name.to_string();
            format!("<a href=\"?view=effects&amp;metric={}\">{}</a>", encoded(&text), escape_html(&text))
        })
        .collect();
    let mut part = Part::of_blocks("effects", "Effects", &blocks);
    part.html.push_str(&format!("<p class=\"note\">Of another metric: {}</p>", others.join(" · ")));
    Ok(vec![part])
}
