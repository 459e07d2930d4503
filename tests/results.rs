//! Reading results.

use std::process::Output;

use loragrid::cli::ExitCode;
use serde_json::Value as Json;

use crate::lab::{FAKE, Lab, succeeded};
use crate::support::stderr;

pub(crate) const GRID: &str = "eval = [\"two_digit_subtraction\", \"two_digit_addition\"]\nlimit = 40\n[axes]\n\"lora.rank\" = [2, 4]\n\"lora.alpha\" = [4, 8]\nseed = [1, 2]\n";

/// A sweep that has been run with the fake engine, and the ids of its trained jobs.
pub(crate) fn done() -> (Lab, Vec<String>) {
    let lab = Lab::new(
        "eval = [\"two_digit_subtraction\"]\nlimit = 40\n[axes]\n\"lora.rank\" = [2, 4]\nseed = [1, 2]\n",
    );
    succeeded(&lab.run(None, &[]));
    let jobs = trained(&lab);
    (lab, jobs)
}

pub(crate) fn trained(lab: &Lab) -> Vec<String> {
    let rows = lab.rows();
    let cells = rows.iter().filter(|row| row["base"] == false);
    let jobs = cells.flat_map(|row| row["jobs"].as_array().unwrap().clone());
    jobs.map(|job| job.as_str().unwrap().to_owned()).collect()
}

pub(crate) fn grid() -> Lab {
    let lab = Lab::new(GRID);
    succeeded(&lab.run(None, &[]));
    lab
}

pub(crate) fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The labels of a leaderboard's rows, after their numbers.
fn labels(board: &str) -> Vec<String> {
    let rows = board.lines().skip(3).take_while(|line| !line.starts_with('─'));
    let second = |line: &str| {
        line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).nth(1).unwrap().to_owned()
    };
    rows.map(|line| second(line).trim_end_matches([' ', '*', '≈']).to_owned()).collect()
}

#[track_caller]
pub(crate) fn fails(lab: &Lab, arguments: &[&str], code: ExitCode, words: &[&str]) {
    let output = lab.0.run(arguments);
    assert_eq!(output.status.code(), Some(code as i32), "{arguments:?}: {}", stderr(&output));
    // Long lines are wrapped.
    let message = stderr(&output).replace("\n  │", "").split_whitespace().collect::<Vec<_>>().join(" ");
    for word in words {
        assert!(message.contains(word), "{arguments:?}: {word} is not in {message}");
    }
}

#[test]
fn two_jobs_are_compared_document_by_document() {
    let (lab, jobs) = done();
    let found = lab.0.json(&["compare", &jobs[0], &jobs[2], "--json"]);
    let task = &found["tasks"][0];
    assert_eq!((task["documents"].as_u64(), task["test"].as_str()), (Some(40), Some("mcnemar")));
    let flips =
        task["gained"].as_array().unwrap().len() as f64 - task["lost"].as_array().unwrap().len() as f64;
    assert!((task["difference"].as_f64().unwrap() - flips / 40.0).abs() < 1e-12);
    let keys: Vec<&str> =
        found["settings"].as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap()).collect();
    assert!(keys.contains(&"lora.rank"), "{keys:?}");
    assert_eq!(found["curves"].as_array().unwrap().len(), 5);
    let same = lab.0.json(&["compare", &jobs[0], &jobs[0], "--json"]);
    assert_eq!((same["tasks"][0]["p"].as_f64(), same["settings"].as_array().unwrap().len()), (Some(1.0), 0));
    let text = printed(&lab.0.run(&["compare", &jobs[0], &jobs[2], "--examples", "2"]));
    assert!(text.contains("only the second has right") && text.contains("\": first -"), "{text}");
    fails(&lab, &["compare", &jobs[0], "zzz"], ExitCode::NotFound, &["not found"]);
}

#[test]
fn effects_say_how_much_of_the_cells_each_axis_explains() {
    let (lab, _) = done();
    let effects = lab.0.json(&["effects", "--json"]);
    assert_eq!(effects["cells"], serde_json::json!([2, 2]));
    assert_eq!(effects["axes"][0]["axes"], serde_json::json!(["lora.rank"]));
    fails(
        &lab,
        &["effects", "--metric", "hellaswag"],
        ExitCode::NotFound,
        &["no scores of 'hellaswag'", "two_digit_subtraction:"],
    );
}

#[test]
fn a_leaderboard_is_sorted_filtered_grouped_and_pivoted() {
    let lab = grid();
    let top = |more: &[&str]| printed(&lab.0.run(&[&["top"], more].concat()));
    let in_json: Vec<String> =
        lab.rows().iter().map(|row| row["label"].as_str().unwrap().to_owned()).collect();
    assert_eq!(labels(&top(&[])), in_json, "the database ranks as the program does");
    assert_eq!(labels(&top(&["--rows", "2"])), in_json[..2]);
    assert_eq!(
        labels(&top(&["--sort", "lora.rank", "--where", "lora.alpha == 8"])),
        ["base", "r=2 alpha=8", "r=4 alpha=8"]
    );
    let grouped = top(&[
        "--group-by",
        "lora.alpha",
        "--columns",
        "n,lora.alpha,memory",
        "--metrics",
        "two_digit_addition",
    ]);
    assert!(grouped.contains("two_digit_addition") && grouped.contains(" 4 "), "{grouped}");
    assert_eq!(labels(&top(&["--group-by", "seed", "--sort", "seed"])), ["base", "seed=1", "seed=2"]);
    let pivot = lab.0.json(&[
        "top",
        "--pivot",
        "lora.rank",
        "lora.alpha",
        "--metric",
        "two_digit_addition",
        "--json",
    ]);
    assert_eq!(pivot["rows"], serde_json::json!([2, 4]));
    let runs = |cell: &Json| cell["runs"].as_u64();
    assert!(
        pivot["cells"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|row| row.as_array().unwrap())
            .all(|cell| runs(cell) == Some(2))
    );
    let first = &lab.rows()[1]["scores"][0];
    let base = lab.rows()[0]["scores"][0]["value"].as_f64().unwrap();
    assert!((first["difference"].as_f64().unwrap() + base - first["value"].as_f64().unwrap()).abs() < 1e-12);
    fails(
        &lab,
        &["top", "--sort", "nothing"],
        ExitCode::NotFound,
        &["no scores of 'nothing'", "it scores two_digit"],
    );
    fails(
        &lab,
        &["top", "--group-by", "lora.rnk"],
        ExitCode::Usage,
        &["unknown key 'lora.rnk'", "lora.rank"],
    );
    fails(&lab, &["top", "--where", "lora.rank >"], ExitCode::Usage, &["--where"]);
    fails(&lab, &["top", "--where", "lora.rank"], ExitCode::Usage, &["neither true nor false"]);
}

#[test]
fn several_sweeps_share_a_leaderboard() {
    let lab = grid();
    lab.0.write(
        "other.toml",
        crate::support::sweep(
            "eval = [\"two_digit_addition\"]\nlimit = 40\n[axes]\n\"train.learning_rate\" = [1e-3, 2e-3]\n",
        )
        .replacen("name = \"", "name = \"other-", 1),
    );
    succeeded(&lab.with_engine(FAKE, &["run", "other.toml"]).output().unwrap());
    let sweeps = lab.0.json(&["status", "--json"]);
    let names: Vec<&str> =
        sweeps["sweeps"].as_array().unwrap().iter().map(|sweep| sweep["sweep"].as_str().unwrap()).collect();
    let all = lab.0.json(&["top", names[0], names[1], "--json"]);
    let rows = all["rows"].as_array().unwrap();
    assert_eq!(rows.iter().filter(|row| row["base"] == true).count(), 1, "they share their base model");
    assert_eq!(rows.len(), 1 + 4 + 2);
}

#[test]
fn a_narrow_terminal_the_plain_locale_and_no_colour_break_nothing() {
    let lab = grid();
    let mut command = lab.0.command(&["top"]);
    let text = printed(
        &command
            .env("COLUMNS", "40")
            .env("LANG", "C")
            .env_remove("LC_ALL")
            .env("NO_COLOR", "1")
            .output()
            .unwrap(),
    );
    assert!(text.is_ascii() && text.contains("not shown"), "{text}");
    let table = text.lines().take_while(|line| !line.starts_with("not shown"));
    assert!(table.clone().count() > 3 && table.clone().all(|line| line.len() <= 40), "{text}");
}

#[test]
fn a_question_is_answered_and_nothing_can_be_changed_by_it() {
    let (lab, jobs) = done();
    let found = printed(&lab.0.run(&["query", "--json", "SELECT job_id, value FROM runs JOIN scores USING (job_id) WHERE kind = 'train' AND metric = 'acc' ORDER BY position"]));
    let found: Json = serde_json::from_str(&found).unwrap();
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(rows.len(), jobs.len());
    for (view, least) in [("runs", 5), ("scores", 5), ("curves", 5), ("documents", 200), ("attempts", 5)] {
        let count = printed(&lab.0.run(&["query", "--csv", &format!("SELECT COUNT(*) AS n FROM {view}")]));
        assert!(count.lines().nth(1).unwrap().parse::<usize>().unwrap() >= least, "{view}: {count}");
    }
    let rank = printed(&lab.0.run(&[
        "query",
        "--csv",
        "SELECT DISTINCT settings ->> 'lora.rank' AS rank FROM runs WHERE kind = 'train' ORDER BY 1",
    ]));
    assert_eq!(rank, "rank\n2\n4\n");
    fails(
        &lab,
        &["query", "UPDATE jobs SET state = 'failed'"],
        ExitCode::Usage,
        &["'UPDATE' is not allowed"],
    );
    fails(&lab, &["query", "SELECT 1; DROP TABLE jobs"], ExitCode::Usage, &["found several"]);
    fails(
        &lab,
        &["query", "SELECT nonsense FROM runs"],
        ExitCode::Usage,
        &["no such column: nonsense", "docs/schema.md"],
    );
    assert!(lab.is_done());
}

#[test]
fn exports_hold_every_run_and_are_written_whole() {
    let lab = grid();
    let path = |name: &str| lab.0.path().join(name);
    let export = |more: &[&str]| lab.0.run(&[&["export"], more].concat());
    for name in ["runs.csv", "runs.json", "runs.jsonl", "runs.parquet", "runs.md", "runs.tex"] {
        succeeded_with(&export(&["--output", path(name).to_str().unwrap()]), "wrote");
    }
    let mut reader = csv::Reader::from_path(path("runs.csv")).unwrap();
    let names = reader.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 9);
    let json: Vec<Json> = serde_json::from_str(&std::fs::read_to_string(path("runs.json")).unwrap()).unwrap();
    let at = names.iter().position(|name| name == "two_digit_addition:acc").unwrap();
    for (record, object) in rows.iter().zip(&json) {
        assert_eq!(record[at].parse::<f64>().ok(), object["two_digit_addition:acc"].as_f64());
        assert_eq!(Some(&record[1]), object["job_id"].as_str());
    }
    assert_eq!(std::fs::read_to_string(path("runs.jsonl")).unwrap().lines().count(), 9);
    assert!(std::fs::read(path("runs.parquet")).unwrap().starts_with(b"PAR1"));
    assert!(std::fs::read_to_string(path("runs.tex")).unwrap().contains("two\\_digit\\_addition"));
    let documents = printed(&export(&["--what", "documents", "--format", "jsonl"]));
    assert_eq!(documents.lines().count(), 9 * 80);
    assert!(printed(&export(&["--what", "curves"])).starts_with("job_id,label,step,loss"));
    fails(&lab, &["export", "--output", "x.xls"], ExitCode::Usage, &["does not name a format"]);
    fails(&lab, &["export", "nothing"], ExitCode::NotFound, &["sweep 'nothing' not found"]);
}

fn succeeded_with(output: &Output, words: &str) {
    assert!(succeeded(output).contains(words), "{}", stderr(output));
}

#[test]
fn lm_evals_files_come_back_as_an_import_with_the_same_scores() {
    let lab = grid();
    let folder = lab.0.path().join("lm");
    succeeded(&lab.0.run(&["export", "--format", "lm-eval", "--output", folder.to_str().unwrap()]));
    let job = trained(&lab)[0].clone();
    let job_folder = folder.join(&job);
    succeeded(&lab.0.run(&["import", "lm-eval", job_folder.to_str().unwrap()]));
    let rows = lab.rows();
    let scores = |row: &Json| -> Vec<f64> {
        row["scores"].as_array().unwrap().iter().map(|s| s["value"].as_f64().unwrap()).collect()
    };
    let imported = rows.iter().find(|row| row["imported"] == true).unwrap();
    let show = lab.0.json(&["show", &job, "--json"]);
    let of_job = |task: &str| {
        show["scores"].as_array().unwrap().iter().find(|s| s["task"] == task).unwrap()["value"]
            .as_f64()
            .unwrap()
    };
    assert_eq!(scores(imported), [of_job("two_digit_subtraction"), of_job("two_digit_addition")]);
}

#[test]
fn a_report_is_written_in_each_syntax() {
    let lab = grid();
    let path = |name: &str| lab.0.path().join(name);
    for name in ["a.html", "a.md", "a.tex"] {
        succeeded_with(&lab.0.run(&["report", "--output", path(name).to_str().unwrap()]), "wrote");
    }
    let page = std::fs::read_to_string(path("a.html")).unwrap();
    assert!(page.contains("<svg ") && page.contains("Content-Security-Policy"));
    let text = std::fs::read_to_string(path("a.md")).unwrap();
    assert!(text.contains("## Leaderboard") && text.contains("a.charts/chart-1.svg"), "{text}");
    assert!(path("a.charts/chart-1.svg").is_file());
    assert!(std::fs::read_to_string(path("a.tex")).unwrap().contains("\\toprule"));
    assert!(printed(&lab.0.run(&["report"])).starts_with("# Results of "));
}

#[test]
fn what_is_not_there_yet_is_said() {
    let lab = Lab::new(GRID);
    succeeded(&lab.0.run(&["submit", "sweep.toml"]));
    let jobs = trained(&lab);
    fails(&lab, &["compare", &jobs[0], &jobs[1]], ExitCode::NotFound, &["is queued and has no score yet"]);
    fails(&lab, &["report"], ExitCode::NotFound, &["has no results yet"]);
    fails(&lab, &["best"], ExitCode::NotFound, &["has its two_digit_subtraction yet"]);
    fails(&lab, &["effects"], ExitCode::NotFound, &["fewer than two cells"]);
    fails(
        &lab,
        &["top", "--pivot", "lora.rank", "lora.alpha"],
        ExitCode::NotFound,
        &["no job has lora.rank"],
    );
    assert!(printed(&lab.0.run(&["top"])).contains("queued"));
}

#[test]
fn claims_are_judged_and_what_is_no_claim_is_refused() {
    let lab = grid();
    let name = lab.0.json(&["top", "--json"])["sweep"].as_str().unwrap().to_owned();
    let claim = |rest: &str| {
        format!(
            "[[claim]]\ntext = 'x'\nsweep = '{name}'\nfirst = 'lora.rank == 2'\nsecond = 'lora.rank == 4'\n{rest}\n"
        )
    };
    let never_run = claim("expect = 'better'").replace(&name, "never-run");
    lab.0.write(
        "claims.toml",
        format!("title = 'Claims'\n{}{never_run}", claim("expect = 'equal'\nwithin = 1.0")),
    );
    let found = lab.0.json(&["findings", "claims.toml", "--json"]);
    let outcome =
        |at: usize| (found["findings"][at]["outcome"].clone(), found["findings"][at]["pairs"].clone());
    assert_eq!(outcome(0), ("confirmed".into(), 4.into()));
    assert_eq!(outcome(1), ("undecided".into(), 0.into()));
    assert!(printed(&lab.0.run(&["findings", "claims.toml"])).contains("the sweep has not been run"));
    assert!(
        printed(&lab.0.run(&["report", "--findings", "claims.toml"]))
            .contains("2 claims: 1 confirmed, 0 refuted, 1 undecided")
    );
    lab.0.write("wrong.toml", claim("expect = 'bigger'"));
    fails(&lab, &["findings", "wrong.toml"], ExitCode::SweepFile, &["wrong.toml", "line 6"]);
}

#[test]
fn a_sweep_that_was_queued_by_an_older_program_gets_its_tasks_from_whoever_runs_it() {
    let lab = Lab::new(GRID);
    succeeded(&lab.0.run(&["submit", "sweep.toml"]));
    // Columns that the previous schema did not have.
    lab.ask::<i64>("DELETE FROM sweep_tasks RETURNING position");
    lab.ask::<i64>("UPDATE jobs SET job_order = NULL, wanted = 0 RETURNING 1");
    succeeded(&lab.with_engine(FAKE, &["work"]).output().unwrap());
    assert!(lab.rows().iter().all(|row| row["scores"][0]["value"].is_number()), "{:?}", lab.rows()[0]);
}
