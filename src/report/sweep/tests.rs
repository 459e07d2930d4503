//! All formats of one small report with hostile strings.

use std::collections::HashMap;

use super::*;
use crate::job::{JobId, JobState, Value};
use crate::report::findings::{Claims, judge};
use crate::report::{
    document_html, document_latex, document_markdown, frame_csv, frame_json, frame_jsonl, run_frame,
    score_frame, table_html, table_latex, table_markdown,
};
use crate::store::{BoardJob, BoardScore, CurvePoint, StoredSweep, SweepOrigin, TrainingWork};
use crate::task::Metric;

const HOSTILE: &str = "</td><script>alert('x')</script> 50 % of a_b, \"c\" & $d {e} \\f ~g ^h `i` |j| #k";

fn job(label: &str, rank: i64, alpha: i64, scores: Option<[f64; 2]>) -> BoardJob {
    let score = |(task, value): (&str, f64)| BoardScore {
        task: task.into(),
        metric: Metric::Acc,
        value,
        stderr: Some(0.05),
        documents: 20,
    };
    let number = |n: i64| Value::Integer(n);
    let mut settings: std::collections::BTreeMap<String, Value> =
        [("model".to_owned(), Value::from("tiny_model")), ("data".to_owned(), Value::from("a,b"))].into();
    if rank > 0 {
        settings.extend([("lora.rank".to_owned(), number(rank)), ("lora.alpha".to_owned(), number(alpha))]);
    }
    BoardJob {
        id: JobId::from_store(format!("{rank}-{alpha}")),
        is_base: rank == 0,
        imported: false,
        label: label.into(),
        model: "3f2a".into(),
        dtype: "fp32".into(),
        state: if scores.is_some() { JobState::Done } else { JobState::Failed },
        reason: scores.is_none().then(|| HOSTILE.to_owned()),
        settings,
        trainable: 1000 * rank as u64,
        seconds: (rank > 0).then_some(10.0 + rank as f64),
        work: TrainingWork { steps: Some(4), tokens: Some(1000), validation_loss: None },
        peak_memory: (rank > 0).then_some(2_500_000_000),
        losses: (rank > 0).then_some((2.5, 1.25)),
        converged: (rank > 0).then_some(true),
        scores: scores
            .map(|[a, b]| ["truth_a", "arith, %"].into_iter().zip([a, b]).map(score).collect())
            .unwrap_or_default(),
    }
}

fn input() -> ReportInput {
    let jobs = vec![
        job("base", 0, 0, Some([0.35, 0.1])),
        job("r=8 alpha=16", 8, 16, Some([0.45, 0.05])),
        job("r=8 alpha=32", 8, 32, Some([0.40, 0.10])),
        job("r=64 alpha=16", 64, 16, Some([0.55, 0.0])),
        job("r=64 alpha=32", 64, 32, None),
    ];
    let curve = |slope: f64| -> Vec<CurvePoint> {
        let point = |step: i64| CurvePoint {
            step,
            loss: Some(2.5 - slope * step as f64),
            validation_loss: None,
            learning_rate: 1e-3,
            seconds: step as f64,
        };
        (1..=4).map(point).collect()
    };
    let curves = HashMap::from([(jobs[1].id.clone(), curve(0.3)), (jobs[3].id.clone(), curve(0.2))]);
    let sample = |label: &str, answer: &str| SampleText {
        label: label.to_owned(),
        prompt: "What is 2 + 2?".to_owned(),
        answer: answer.to_owned(),
    };
    let metric = |task: &str| (task.to_owned(), vec![Metric::Acc]);
    ReportInput {
        board: Leaderboard {
            sweep: "rank_alpha".into(),
            version: 2,
            axes: vec!["lora.rank".into(), "lora.alpha".into()],
            tasks: vec!["truth_a".into(), "arith, %".into()],
            metrics: vec![metric("truth_a"), metric("arith, %")],
            objective: Some(("truth_a".into(), Metric::Acc)),
            groups: Vec::new(),
            jobs,
        },
        sweep: StoredSweep {
            text: "name = \"rank_alpha\" # <b> \\end{Verbatim} ```\n".to_owned(),
            origin: SweepOrigin {
                file: "a.toml".into(),
                include_path: None,
                overrides: Vec::new(),
                pinned: Vec::new(),
            },
            submitter: None,
        },
        curves,
        values: HashMap::new(),
        answers: vec![AnswerText {
            document: ("truth_a".to_owned(), 0),
            prompt: format!("{}What is 3 + 3?", "shot ".repeat(100)),
            target: "6".to_owned(),
            label: "base".to_owned(),
            answer: " It is 6. <b>".to_owned(),
            filtered: vec!["number: 6".to_owned()],
        }],
        samples: vec![
            sample("base", "4"),
            sample("r=64 alpha=16", HOSTILE),
            // At the start of a row LaTeX would read a distance.
            SampleText { prompt: "[INST] `x' --set".to_owned(), ..sample("base", "*") },
        ],
    }
}

fn report() -> Document {
    let input = input();
    let claims = "[[claim]]\ntext = 'alpha & rank'\nsweep = 'rank_alpha'\nfirst = 'lora.rank == 8'\nsecond = 'lora.rank == 64'\n\
                  metrics = ['time']\nexpect = 'higher'\n";
    let claim = &Claims::parse(claims).unwrap().claims[0];
    let finding = judge(&input.board, claim, &HashMap::new()).unwrap();
    sweep_report(&format!("Report {HOSTILE}"), &[input], &[finding])
}

#[test]
fn markdown_shows_every_text_as_text_and_its_charts_beside_it() {
    let (text, charts) = document_markdown(&report(), Some("report.charts"));
    assert!(!text.contains("<script") && text.contains("report.charts/chart-1.svg"), "{text}");
    assert!(charts.iter().all(|chart| chart.svg.starts_with("<svg ") && chart.svg.ends_with("</svg>")));
    insta::assert_snapshot!("markdown", text);
    insta::assert_snapshot!("chart", charts[0].svg);
}

#[test]
fn html_runs_only_its_own_script_and_asks_for_nothing() {
    let page = document_html(&report());
    assert_eq!(page.matches("<script").count(), 1, "only the page's own");
    let without_names = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!without_names.contains("http:") && !without_names.contains("https:"), "{page}");
    assert!(page.contains("default-src &#39;none&#39;") || page.contains("default-src 'none'"));
    assert!(page.contains("role=\"img\"") && page.contains("<desc "), "charts have words");
    insta::assert_snapshot!("html", page);
}

#[test]
fn latex_has_no_command_that_is_not_its_own() {
    let text = document_latex(&report());
    assert!(!text.contains("50 % of") && text.contains("50 \\% of a\\_b"), "{text}");
    assert_eq!(text.matches("\\end{Verbatim}").count(), 1);
    insta::assert_snapshot!("latex", text);
}

#[test]
fn exports_have_each_number_and_name() {
    let board = input().board;
    let (runs, scores) = (run_frame(&board), score_frame(&board));
    insta::assert_snapshot!("runs_csv", String::from_utf8(frame_csv(&runs)).unwrap());
    insta::assert_snapshot!("scores_json", frame_json(&scores));
    insta::assert_snapshot!("runs_jsonl", frame_jsonl(&runs));
    let table = board_table(&BoardView::of(&board), &crate::report::board_rows(&board));
    insta::assert_snapshot!(
        "board",
        [table_markdown(&table), table_latex(&table), table_html("x", &table)].join("\n")
    );
}
