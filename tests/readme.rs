//! The README's sweep file and commands, run unchanged except for the model, the data and the tasks.

use crate::lab::{FAKE, Lab, succeeded};
use crate::support::stdout;

/// The code blocks of a page in one language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let opening = format!("```{language}\n");
    page.split(opening.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn the_readmes_sweep_and_commands_run() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let lab = Lab::new("");
    let rows: String =
        (0..40).map(|n| format!("{{\"instruction\": \"Say {n}.\", \"output\": \"{n}\"}}\n")).collect();
    lab.0.write("rows.jsonl", rows);
    let sweep = blocks(&page, "toml")[0];
    let local = sweep
        .replace("HuggingFaceTB/SmolLM2-135M", "model")
        .replace("\"arc_easy\", \"truthfulqa_mc2\"", "\"two_digit_subtraction\"");
    assert_ne!(sweep, local);
    // The length of the study would take the fake engine minutes.
    lab.0.write(
        "sweep.toml",
        format!("limit = 5\n{local}\n[train]\niterations = 8\nbatch_size = 4\nmicro_batch_size = 1\n"),
    );
    let block = blocks(&page, "sh").into_iter().find(|block| block.contains("loragrid run")).unwrap();
    for line in block.lines() {
        // The hub is not here.
        if line.contains("model pull") {
            continue;
        }
        let words: Vec<&str> = line.split('#').next().unwrap().split_whitespace().skip(1).collect();
        let output = lab.with_engine(FAKE, &words).output().unwrap();
        succeeded(&output);
        if words[0] == "run" {
            // The base model and three ranks at two learning rates; seeds share a row.
            assert_eq!(
                stdout(&output).lines().filter(|line| line.contains("   done   ")).count(),
                7,
                "{}",
                stdout(&output)
            );
        }
    }
    assert!(lab.0.path().join("report.html").is_file());
}

#[test]
fn a_job_is_named_by_its_row_and_a_sweep_is_removed_when_nothing_of_it_runs() {
    let lab = Lab::new("eval = [\"two_digit_subtraction\"]\nlimit = 10\n[axes]\n\"lora.rank\" = [2, 4]\n");
    succeeded(&lab.run(None, &[]));
    let rows = lab.rows();
    let first = rows[1]["jobs"][0].as_str().unwrap().to_owned();
    succeeded(&lab.0.run(&["top"]));
    assert_eq!(lab.0.json(&["show", "2", "--json"])["id"], first.as_str());
    assert_eq!(lab.0.json(&["explain", "#2", "--json"])["job"], first.as_str());
    assert_eq!(lab.0.json(&["show", &first[..8], "--json"])["id"], first.as_str());

    let refused = lab.0.run(&["rm", "tiny"]);
    assert_eq!(refused.status.code(), Some(2), "nobody can be asked");
    assert_eq!(lab.0.json(&["rm", "tiny", "-n", "--json"])["removal"]["jobs"], 3);
    assert_eq!(lab.rows().len(), 3);
    succeeded(&lab.0.run(&["rm", "tiny", "--yes"]));
    assert_eq!(lab.0.run(&["top"]).status.code(), Some(10));
    // Results are kept: the same sweep has nothing to do.
    let again = lab.0.json(&["submit", "sweep.toml", "--json"]);
    assert_eq!((&again["jobs"], &again["queued"]), (&3.into(), &0.into()));
}

#[test]
fn a_sweep_of_a_higher_priority_runs_first_and_keeps_it_when_it_is_submitted_again() {
    let lab = Lab::new("eval = [\"two_digit_subtraction\"]\nlimit = 2\nseed = 1\n");
    succeeded(&lab.0.run(&["submit", "sweep.toml"]));
    let text = std::fs::read_to_string(lab.0.path().join("sweep.toml")).unwrap();
    lab.0.write("urgent.toml", text.replace("\"tiny\"", "\"urgent\"").replace("seed = 1", "seed = 2"));
    succeeded(&lab.0.run(&["submit", "urgent.toml", "--priority", "5"]));
    succeeded(&lab.0.run(&["submit", "urgent.toml"]));
    succeeded(&lab.with_engine(FAKE, &["work"]).output().unwrap());
    let order = lab.ask::<String>(
        "SELECT r.sweep FROM attempts a JOIN runs r USING (job_id) WHERE r.kind = 'train' ORDER BY a.started_ms",
    );
    assert_eq!(order.first().map(String::as_str), Some("urgent"), "{order:?}");
    let waited = lab.0.json(&["wait", "urgent", "--timeout", "5s", "--json"]);
    assert_eq!((&waited["timed_out"], &waited["states"]["done"]), (&false.into(), &2.into()));
}

#[test]
fn shells_complete_sweeps_jobs_and_keys() {
    let lab = Lab::new("eval = [\"two_digit_subtraction\"]\nlimit = 2\n");
    succeeded(&lab.run(None, &[]));
    assert!(stdout(&lab.0.run(&["completions", "bash"])).contains("COMPLETE"));
    let complete = |words: &[&str]| {
        let mut command = lab.0.command(&[&["--", "loragrid"], words].concat());
        command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", words.len().to_string());
        command
            .env("_CLAP_COMPLETE_COMP_TYPE", "9")
            .env("_CLAP_COMPLETE_SPACE", "true")
            .env("_CLAP_IFS", "\n");
        stdout(&command.output().unwrap())
    };
    assert!(complete(&["top", "ti"]).contains("tiny"));
    assert!(complete(&["plan", "--set", "lora.ra"]).contains("lora.rank="));
    let id = lab.ask::<String>("SELECT id FROM jobs WHERE kind = 'train'")[0].clone();
    assert!(complete(&["show", &id[..2]]).contains(&id[..12]));
}
