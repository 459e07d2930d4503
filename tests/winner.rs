//! The winner of a sweep with its held-out evaluation on `[final]`, and model answers to `[samples]`.

use loragrid::cli::ExitCode;

use crate::lab::{FAKE, Lab, succeeded};
use crate::results::{GRID, done, fails, printed, trained};
use crate::support::{last_event, stderr};

#[test]
fn the_winner_looks_once_at_the_tasks_that_were_kept_for_it() {
    let lab = Lab::new(
        &format!("{GRID}[final]\neval = [\"two_digit_multiplication\"]\n")
            .replace(", \"two_digit_addition\"", ""),
    );
    lab.0.write(
        "sweep.toml",
        std::fs::read_to_string(lab.0.path().join("sweep.toml"))
            .unwrap()
            .replace("two_digit_multiplication", "two_digit_addition"),
    );
    succeeded(&lab.run(None, &[]));
    let best = lab.0.json(&["best", "--json"]);
    let winner = lab.rows().into_iter().find(|row| row["best"] == true).unwrap();
    assert_eq!(best["best"]["label"], winner["label"]);
    assert!(printed(&lab.0.run(&["best"])).contains("loragrid compare"));
    let trainings = lab.count("SELECT COUNT(*) FROM trainings");
    let name = best["sweep"].as_str().unwrap().to_owned();
    let look = || lab.with_engine(FAKE, &["best", &name, "--final", "--json"]).output().unwrap();
    let first = last_event(&look());
    assert_eq!(first["sweep"], format!("{name}-final"));
    let rows = first["rows"].as_array().unwrap();
    assert_eq!((rows.len(), rows[1]["scores"][0]["task"].as_str()), (2, Some("two_digit_addition")));
    assert_eq!(lab.count("SELECT COUNT(*) FROM trainings"), trainings, "nothing was trained");
    let attempts = lab.attempts();
    succeeded(&look());
    assert_eq!(lab.attempts(), attempts, "the second look runs nothing");
}

#[test]
fn the_winner_of_a_sweep_that_keeps_nothing_back_has_no_final() {
    let (lab, _) = done();
    fails(&lab, &["best", "--final"], ExitCode::SweepFile, &["has no held-out tasks", "[final]"]);
}

#[test]
fn samples_are_answered_once_by_every_subject_and_shown() {
    let lab = Lab::new(
        "eval = [\"two_digit_subtraction\"]\nlimit = 10\n[axes]\n\"lora.rank\" = [2, 4]\n[samples]\nprompts = [\"7 - 4\"]\nmax_tokens = 8\n",
    );
    succeeded(&lab.packed(None, &[]).output().unwrap());
    assert_eq!(lab.count("SELECT COUNT(*) FROM samples"), 3, "the base's and two jobs'");
    let jobs = trained(&lab);
    let show = lab.0.json(&["show", &jobs[0], "--json"]);
    assert!(show["samples"][0]["prompt"].as_str().unwrap().contains("7 - 4"));
    assert!(printed(&lab.0.run(&["show", &jobs[0]])).contains("answer, 3 tokens"));
    assert!(printed(&lab.0.run(&["compare", &jobs[0], &jobs[1], "--examples", "1"])).contains("prompt\n  |"));
    assert!(printed(&lab.0.run(&["report"])).contains("## Samples"));
    // An added prompt costs only its own answers.
    let text = std::fs::read_to_string(lab.0.path().join("sweep.toml")).unwrap();
    lab.0.write("sweep.toml", text.replace("\"7 - 4\"", "\"7 - 4\", \"9 - 1\""));
    let documents = lab.count("SELECT COUNT(*) FROM documents");
    succeeded(&lab.run(None, &[]));
    assert_eq!(lab.count("SELECT COUNT(*) FROM samples"), 6);
    assert_eq!(lab.count("SELECT COUNT(*) FROM documents"), documents);
    let attempts = lab.attempts();
    succeeded(&lab.run(None, &[]));
    assert_eq!(lab.attempts(), attempts, "nothing is left to do");
}

#[test]
fn samples_of_rows_need_rows_that_are_kept_for_validation() {
    let lab = Lab::new("eval = [\"two_digit_subtraction\"]\nlimit = 10\n[samples]\nrows = 2\n");
    let output = lab.run(None, &[]);
    assert_eq!(output.status.code(), Some(ExitCode::SweepFile as i32), "{}", stderr(&output));
    assert!(stderr(&output).contains("validation_split"), "{}", stderr(&output));
    succeeded(&lab.run(None, &["--set", "train.validation_split=0.1"]));
    let wanted = lab.ask::<String>("SELECT DISTINCT wanted FROM samples ORDER BY wanted");
    assert_eq!(lab.count("SELECT COUNT(*) FROM samples"), 4);
    assert!(wanted.iter().all(|text| !text.trim().is_empty()), "{wanted:?}");
}

#[test]
fn a_winner_that_was_trained_by_epochs_and_has_a_long_name_keeps_its_sweep() {
    let lab = Lab::new(
        "eval = [\"two_digit_subtraction\"]\nlimit = 10\n[train]\nepochs = 0.01\n[final]\neval = [\"two_digit_addition\"]\n",
    );
    let name = "a-name-that-leaves-no-room-for-another-word-at-its-end-of-any-kind".split_at(62).0;
    lab.rename(name);
    succeeded(&lab.run(None, &[]));
    let trainings = lab.count("SELECT COUNT(*) FROM trainings");
    let look = lab.with_engine(FAKE, &["best", name, "--final", "--json"]).output().unwrap();
    let found = last_event(&look);
    let sweep = found["sweep"].as_str().unwrap();
    assert!(sweep.ends_with("-final") && sweep.starts_with(&name[..40]), "{sweep}");
    assert_eq!(lab.count("SELECT COUNT(*) FROM trainings"), trainings, "nothing is trained again");
    let versions = lab.ask::<i64>("SELECT COUNT(*) FROM sweep_versions GROUP BY sweep_id");
    assert_eq!(versions, [1, 1], "a sweep of its own");
}

#[test]
fn a_sweep_shows_its_own_samples_and_not_those_that_another_asked_of_the_same_jobs() {
    let lab = Lab::new(
        "eval = [\"two_digit_subtraction\"]\nlimit = 10\n[samples]\nprompts = [\"7 - 4\"]\nmax_tokens = 8\n",
    );
    succeeded(&lab.run(None, &[]));
    let text = std::fs::read_to_string(lab.0.path().join("sweep.toml")).unwrap();
    let first = "tiny";
    lab.0.write("sweep.toml", text.replace("7 - 4", "9 - 1"));
    lab.rename("other");
    succeeded(&lab.run(None, &[]));
    assert_eq!(lab.count("SELECT COUNT(*) FROM trainings"), 1, "both have the same jobs");
    let report = |sweep: &str| printed(&lab.0.run(&["report", sweep]));
    assert!(report(first).contains("7 - 4") && !report(first).contains("9 - 1"));
    assert!(report("other").contains("9 - 1") && !report("other").contains("7 - 4"));
    let shown = lab.0.json(&["show", &trained(&lab)[0], "--json"]);
    assert_eq!(shown["samples"].as_array().unwrap().len(), 1, "of the newest sweep that asks");
}
