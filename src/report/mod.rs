//! From stored rows to tables, and from tables to output: builders know the meaning of rows, renderers only the syntax.

mod board;
mod card;
mod chart;
mod comparison;
mod curves;
mod document;
mod effects;
mod export;
mod findings;
mod histogram;
mod job_tables;
mod plan_tables;
mod render;
mod status;
mod sweep;
mod table;

pub mod lm_eval;
pub use board::{
    BoardColumn, BoardRow, BoardScoreCell, BoardView, Condition, ErrorKind, FilterError, Pivot, PivotCell,
    RowKind, Sort, UnknownMetric, best_cell, board_notes, board_rows, board_table, cells_of, count_competing,
    fitting_pivot, join_boards, mark_ties, metric_title, numbered, pivot, pivot_notes, pivot_table,
    rank_cells, rows_of, shaded_pivot,
};
pub use card::{ModelCard, model_card};
pub use chart::{
    Chart, ParallelAxis, ParallelChart, ParallelLine, Point, Series, chart_svg_file, parallel_svg,
};
pub use comparison::{
    SettingDifference, TaskDifference, Untested, setting_differences, setting_differences_table,
    task_differences, task_differences_table, untested_line, verdict,
};
pub use curves::{CurveRow, curve_rows, curves_table};
pub use document::{Block, Document, Section};
pub use effects::{
    Effects, EffectsError, axis_effects, effects_metric, effects_table, levels_table, noise_notes,
};
pub use export::{
    ParquetError, frame_csv, frame_json, frame_jsonl, frame_parquet, frame_table, run_frame, score_frame,
};
pub use findings::{
    Claim, Claims, ClaimsError, Expect, Finding, FindingRow, Outcome, Side, finding_rows_table,
    findings_table, jobs_of, judge, not_run,
};
pub use histogram::LengthStats;
pub use job_tables::{stored_scores_table, stored_settings_table};
pub use plan_tables::{
    LONG_PLAN, folded_table, memory_table, plan_difference, plan_disk, plan_json, plan_table, settings_table,
};
pub use render::{
    ChartFile, blocks_html, document_html, document_latex, document_markdown, escape_html, escape_markdown,
    page_parts, plain, render_json_rows, render_terminal, table_html, table_latex, table_markdown,
};
pub use status::status_table;
pub use sweep::{AnswerText, ReportInput, SampleText, sweep_report};
pub use table::{Align, Cell, Column, Mark, Table};
