//! The model card of a trained adapter: Hugging Face's metadata block, then what was trained and how it compares.

use std::path::Path;

use serde_json::Value as Json;

use super::board::{BoardRow, BoardView, board_notes, board_table, metric_title};
use super::job_tables::stored_settings_table;
use super::render::{escape_markdown, table_markdown};
use super::table::{Cell, Table};
use crate::store::StoredJob;
use crate::task::MetricName;

/// Rows of the leaderboard in a card.
const ROWS: usize = 10;

/// What a card says.
#[derive(Debug)]
pub struct ModelCard<'a> {
    /// The title.
    pub title: &'a str,
    /// The library that loads it, by the hub's name.
    pub loads_with: &'a str,
    /// The base model, as the sweep names it.
    pub base: &'a str,
    /// Its id on the hub, if it is there.
    pub base_id: Option<&'a str>,
    /// The data set, as the sweep names it.
    pub data: &'a str,
    /// Its id on the hub, if it is there.
    pub data_id: Option<&'a str>,
    /// The sweep.
    pub sweep: &'a str,
    /// The job.
    pub job: &'a StoredJob,
    /// The leaderboard, the job's row among its first.
    pub board: (&'a BoardView, &'a [BoardRow]),
    /// Its row.
    pub row: &'a BoardRow,
    /// The metric by which it is the best.
    pub metric: &'a MetricName,
    /// How it is used, as Markdown.
    pub usage: &'a str,
}

/// The card as Markdown. Of `[samples]`, paths and tokens nothing is in it.
pub fn model_card(card: &ModelCard<'_>) -> String {
    let mut out = metadata(card);
    let title = escape_markdown(card.title);
    out.push_str(&format!("\n# {title}\n\n"));
    out.push_str(&format!(
        "A LoRA adapter of {}, trained on {}: the best of sweep {} by {}. Made by loragrid {}.\n",
        escape_markdown(card.base),
        escape_markdown(card.data),
        escape_markdown(card.sweep),
        escape_markdown(&metric_title(card.metric)),
        env!("CARGO_PKG_VERSION")
    ));
    out.push_str(&format!("\n## Use\n\n{}\n", card.usage));
    let (view, rows) = card.board;
    let shown = &rows[..rows.len().min(ROWS)];
    out.push_str(&format!("\n## Leaderboard\n\n{}\n", table_markdown(&board_table(view, shown))));
    let seeds = card.row.jobs.len();
    let mut notes = board_notes(view, shown);
    notes.push(match seeds {
        1 => "one seed".to_owned(),
        seeds => format!("{seeds} seeds; this adapter is of the first one"),
    });
    let tied = rows.iter().filter(|row| row.tied).count();
    if tied > 0 {
        notes.push(format!("the data cannot tell {tied} other rows from the best"));
    }
    out.push_str(&format!("{}.\n", escape_markdown(&notes.join("; "))));
    if let (Some(steps), Some(tokens)) = (card.job.steps, card.job.tokens) {
        out.push_str(&format!("\n## Training\n\n{steps} optimizer steps on {tokens} tokens."));
        if let (Some(first), Some(last)) = (card.job.first_loss, card.job.last_loss) {
            out.push_str(&format!(" Loss {first:.3} in the first window, {last:.3} in the last."));
        }
        out.push('\n');
    }
    let settings = without_paths(stored_settings_table(card.job));
    out.push_str(&format!("\n## Settings\n\n{}", table_markdown(&settings)));
    out
}

/// File names in place of paths, which say something of a machine.
fn without_paths(mut table: Table) -> Table {
    for cell in table.rows.iter_mut().flatten() {
        if let Cell::Text(text) = cell
            && Path::new(text.trim_matches('"')).is_absolute()
            && let Some(name) = Path::new(text.trim_matches('"')).file_name()
        {
            *text = name.to_string_lossy().into_owned();
        }
    }
    table
}

/// The block between dashes that the hub reads. JSON strings are YAML strings.
fn metadata(card: &ModelCard<'_>) -> String {
    let text = |text: &str| Json::from(text).to_string();
    let mut lines = vec!["---".to_owned(), format!("library_name: {}", text(card.loads_with))];
    lines.extend(card.base_id.map(|id| format!("base_model: {}", text(id))));
    lines.extend(card.base_id.map(|_| "base_model_relation: adapter".to_owned()));
    lines.extend(card.data_id.map(|id| format!("datasets:\n- {}", text(id))));
    lines.push("pipeline_tag: text-generation\ntags:\n- loragrid\n- lora".to_owned());
    let scores = card.job.scores.iter().filter(|score| score.value.is_finite());
    let result = |score: &crate::store::BoardScore| {
        format!(
            "  - task:\n      type: text-generation\n    dataset:\n      name: {}\n      type: {}\n    metrics:\n    - type: {}\n      value: {}",
            text(&score.task),
            text(&score.task),
            text(score.metric.as_str()),
            score.value
        )
    };
    let results: Vec<String> = scores.map(result).collect();
    if !results.is_empty() {
        lines.push(format!("model-index:\n- name: {}\n  results:\n{}", text(card.title), results.join("\n")));
    }
    lines.push("---\n".to_owned());
    lines.join("\n")
}
