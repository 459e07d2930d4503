//! The report of a sweep: setup, results, costs, failures and versions.

mod charts;
mod costs;
mod input;
mod intro;
mod summary;
#[cfg(test)]
mod tests;

pub use input::{AnswerText, ReportInput, SampleText};

use super::board::{
    BoardColumn, BoardRow, BoardView, RowKind, board_notes, board_table, cells_of, count_competing,
    mark_ties, metric_title, pivot, rank_cells, rows_of, shaded_pivot,
};
use super::document::{Block, Document, Section};
use super::effects::{Effects, axis_effects, effects_table, levels_table, noise_notes};
use super::findings::{Finding, Outcome, finding_rows_table, findings_table};
use super::table::{Cell, Column, Table};
use crate::store::Leaderboard;

/// Most pairs of axes that get a table.
const PIVOTS: usize = 3;
/// Most values of an axis in such a table.
const PIVOT_VALUES: usize = 24;
/// Most sample answers that are printed.
const SAMPLES: usize = 60;

/// The report of one or several sweeps, one after the other; findings come first.
pub fn sweep_report(title: &str, inputs: &[ReportInput], findings: &[Finding]) -> Document {
    let mut sections: Vec<Section> = Section::of("Findings", finding_blocks(findings)).into_iter().collect();
    let several = inputs.len() > 1;
    for input in inputs {
        for mut section in sections_of(input) {
            section.part = several.then(|| input.board.sweep.clone());
            sections.push(section);
        }
    }
    Document { title: title.to_owned(), lead: intro::lead(inputs), sections }
}

fn finding_blocks(findings: &[Finding]) -> Vec<Block> {
    if findings.is_empty() {
        return Vec::new();
    }
    let count = |outcome: Outcome| findings.iter().filter(|finding| finding.outcome == outcome).count();
    let text = format!(
        "{} {}: {} confirmed, {} refuted, {} undecided. Scores are compared document by document between runs that are equal in \
         everything that the claim does not name. A direction needs a difference that chance does not explain (exact McNemar or \
         sign-flip test, Holm over a claim's metrics, 5 %) and the same sign in every pair of runs; that scores are equal, or not \
         better, needs the 95 % interval of every pair within the claim's bound. Times, memory and convergence are compared as they \
         were measured, without a test.",
        findings.len(),
        if findings.len() == 1 { "claim" } else { "claims" },
        count(Outcome::Confirmed),
        count(Outcome::Refuted),
        count(Outcome::Undecided)
    );
    vec![
        Block::Text(text),
        Block::Table("Claims and what became of them".to_owned(), findings_table(findings)),
        Block::Table(
            "Each claim's metrics: the second runs against the first".to_owned(),
            finding_rows_table(findings),
        ),
    ]
}

fn sections_of(input: &ReportInput) -> Vec<Section> {
    let board = &input.board;
    let view = BoardView::of(board);
    let cells = rank_cells(board, &view, cells_of(board, &view.keys));
    let mut rows = rows_of(board, &view, &cells);
    if let Some(rank) = &view.rank {
        mark_ties(board, &mut rows, rank, (&input.values, count_competing(board, &view, &cells)));
    }
    let sections = [
        Section::of("Summary", summary::found(board, &view, &rows)),
        Section::of("Sweep", intro::swept(input)),
        Section::of("Leaderboard", leaderboard(&view, &rows)),
        Section::of("Pairs of axes", pivots(board, &view)),
        Section::of("Importance of axes", effects(board)),
        Section::of("Scores by axis", charts::by_axis(board, &view)),
        Section::of("Loss", charts::losses(input, &cells)),
        Section::of("Time and memory", costs::costs(board)),
        Section::of("Failures", failures(&rows)),
        Section::of("Samples", samples(input)),
        Section::of("Answers", answers(input)),
        Section::of("Configuration and versions", intro::versions(input)),
    ];
    sections.into_iter().flatten().collect()
}

fn leaderboard(view: &BoardView, rows: &[BoardRow]) -> Vec<Block> {
    let mut columns = vec![BoardColumn::Trainable, BoardColumn::Difference];
    if rows.iter().flat_map(|row| &row.scores).any(|score| score.seeds > 1) {
        columns.push(BoardColumn::Seeds);
    }
    columns.extend([BoardColumn::Loss, BoardColumn::Time, BoardColumn::Memory, BoardColumn::State]);
    let view = BoardView { columns: Some(columns), ..view.clone() };
    let rank = view.rank.as_ref().map(metric_title).unwrap_or_default();
    vec![
        Block::Table(format!("Every run, ranked by {rank}; base models first"), board_table(&view, rows)),
        Block::List(board_notes(&view, rows)),
    ]
}

fn pivots(board: &Leaderboard, view: &BoardView) -> Vec<Block> {
    let Some(rank) = &view.rank else { return Vec::new() };
    let varied: Vec<&String> = view
        .keys
        .iter()
        .filter(|key| (2..=PIVOT_VALUES).contains(&charts::values_of(board, key).len()))
        .collect();
    let mut blocks = Vec::new();
    for (at, row) in varied.iter().enumerate() {
        for column in &varied[at + 1..] {
            let found = pivot(board, row, column, rank);
            let filled = found.cells.iter().flatten().filter(|cell| cell.is_some()).count();
            // Axes that vary together fill only a diagonal.
            if filled <= found.rows.len().max(found.columns.len()) || blocks.len() == PIVOTS {
                continue;
            }
            let caption = format!("{} by {row} (down) and {column} (across)", metric_title(rank));
            blocks.push(Block::Table(caption, shaded_pivot(&found)));
        }
    }
    blocks
}

fn effects(board: &Leaderboard) -> Vec<Block> {
    // One cell has no effects.
    let Ok(found) = axis_effects(board, None) else { return Vec::new() };
    if found.axes.iter().all(|axis| axis.levels.len() < 2) {
        return Vec::new();
    }
    let how = if found.complete {
        "Part of the variance of the cells' means that each axis explains (functional analysis of variance); seeds are replicates."
    } else {
        "The grid has holes: the importance of an axis is what a least-squares fit of the cells loses without it, and parts need not \
         add up. Axes that vary together are named together."
    };
    vec![
        Block::Text(how.to_owned()),
        Block::Table(
            format!("Importance for {}:{}", found.task, found.metric.as_str()),
            effects_table(&found),
        ),
        Block::List(noise_notes(&found)),
        Block::Table(levels_caption(&found).to_owned(), levels_table(&found)),
    ]
}

fn levels_caption(found: &Effects) -> &'static str {
    if found.complete { "Mean of the cells at each value" } else { "Mean at each value, as the fit has it" }
}

fn failures(rows: &[BoardRow]) -> Vec<Block> {
    let failed: Vec<&BoardRow> =
        rows.iter().filter(|row| row.kind() != RowKind::Imported && !row.reasons.is_empty()).collect();
    if failed.is_empty() {
        return vec![Block::Text("No run failed or diverged, and every loss fell.".to_owned())];
    }
    let columns = vec![Column::text("run"), Column::text("state"), Column::text("reason")];
    let row = |board_row: &&BoardRow| {
        let text = |text: &str| Cell::Text(text.to_owned());
        vec![text(&board_row.label), text(board_row.state.as_str()), text(&board_row.reasons.join("; "))]
    };
    let rows = failed.iter().map(row).collect();
    vec![Block::Table("Runs that failed, diverged or did not converge".to_owned(), Table { columns, rows })]
}

/// The end of a prompt, after few-shot examples that all prompts share.
const PROMPT_SHOWN: usize = 400;

/// Answers of generation tasks: prompt, target, and what each run said.
fn answers(input: &ReportInput) -> Vec<Block> {
    if input.answers.is_empty() {
        return Vec::new();
    }
    let columns = ["document", "prompt", "target", "run", "answer", "filtered"];
    let columns = columns.map(Column::text).into();
    let row = |(at, answer): (usize, &AnswerText)| {
        let (task, document) = &answer.document;
        // A document's prompt is told once, above what every run said of it.
        if at > 0 && input.answers[at - 1].document == answer.document {
            let texts = ["", "", "", &answer.label, &answer.answer, &answer.filtered.join("\n")];
            return texts.map(|text| Cell::Text(text.trim().to_owned())).into();
        }
        let start = answer.prompt.char_indices().rev().nth(PROMPT_SHOWN).map(|(at, _)| at);
        let prompt = start.map_or(answer.prompt.clone(), |at| format!("…{}", &answer.prompt[at..]));
        let texts = [
            format!("{task} {document}"),
            prompt,
            answer.target.clone(),
            answer.label.clone(),
            answer.answer.clone(),
            answer.filtered.join("\n"),
        ];
        texts.map(|text| Cell::Text(text.trim().to_owned())).into()
    };
    let rows = input.answers.iter().enumerate().map(row).collect();
    vec![Block::Table("First documents of each generation task".to_owned(), Table { columns, rows })]
}

fn samples(input: &ReportInput) -> Vec<Block> {
    if input.samples.is_empty() {
        return Vec::new();
    }
    let columns = vec![Column::text("prompt"), Column::text("run"), Column::text("answer")];
    let row = |sample: &SampleText| {
        [&sample.prompt, &sample.label, &sample.answer].map(|text| Cell::Text(text.trim().to_owned())).into()
    };
    let rows = input.samples.iter().take(SAMPLES).map(row).collect();
    let caption = "Answers of greedy decoding, the base model's first".to_owned();
    let mut blocks = vec![Block::Table(caption, Table { columns, rows })];
    if input.samples.len() > SAMPLES {
        blocks.push(Block::Text(format!(
            "{} more answers are in the database.",
            input.samples.len() - SAMPLES
        )));
    }
    blocks
}
