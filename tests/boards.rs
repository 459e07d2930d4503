//! Leaderboards of given scores: noise, selection of the best, non-finite numbers, names.

use loragrid::cli::ExitCode;
use serde_json::Value as Json;

use crate::lab::{Lab, succeeded};
use crate::results::{fails, printed};
use crate::support::case;

const TASK: &str = "two_digit_subtraction";

/// A sweep with these axes, run on the fake engine.
fn swept(limit: usize, axes: &str) -> Lab {
    let lab = Lab::new(&format!("eval = [\"{TASK}\"]\nlimit = {limit}\n[axes]\n{axes}"));
    succeeded(&lab.run(None, &[]));
    lab
}

/// A task with a lower-is-better score.
const PERPLEXITY: &str =
    "task: ppl\ndataset_path: json\ndataset_kwargs: {data_files: {test: rows.jsonl}}\ntest_split: test
output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{text}}'\nmetadata: {version: 1.0}
metric_list: [{metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}]\n";

/// The SQL statement that gives the job with these settings a score.
fn score(settings: &[(&str, &Json)], value: f64) -> String {
    let is = |(key, value): &(&str, &Json)| format!("json_extract(j.settings, '$.\"{key}\"[0]') = {value}");
    let holds: Vec<String> = settings.iter().map(is).collect();
    format!(
        "UPDATE task_scores SET value = {value} WHERE metric = 'acc' AND subject =
         (SELECT subject FROM jobs j WHERE j.kind = 'train' AND {})",
        holds.join(" AND ")
    )
}

/// The SQL statements that give each job of a case its score.
fn scores(jobs: &Json) -> Vec<String> {
    let of = |job: &Json| {
        let keys = ["lora.rank", "train.learning_rate", "seed"].map(|key| (key, &job[key]));
        score(&keys, job["acc"].as_f64().unwrap())
    };
    jobs.as_array().unwrap().iter().map(of).collect()
}

#[track_caller]
fn close(found: &Json, wanted: &Json) {
    let (found, wanted) = (found.as_f64().unwrap(), wanted.as_f64().unwrap());
    assert!((found - wanted).abs() <= 1e-6 * wanted.abs() + 1e-12, "{found} is not {wanted}");
}

#[test]
fn s45_an_importance_that_the_seeds_explain_is_called_noise() {
    let Some(expected) = case("S45-importance-of-noise/expected.json") else { return };
    let lab = swept(
        50,
        "\"lora.rank\" = [4, 8, 16]\n\"train.learning_rate\" = [1e-4, 3e-4, 1e-3]\nseed = [1, 2, 3]\n",
    );
    lab.change(&scores(&case("S45-importance-of-noise/scores.json").unwrap()["jobs"]));
    let effects = || lab.0.json(&["effects", "--metric", TASK, "--json"]);
    let axis = |found: &Json, name: &str| {
        let axes = found["axes"].as_array().unwrap().clone();
        axes.into_iter().find(|axis| axis["axes"][0] == name).unwrap()
    };
    let found = effects();
    for name in ["lora.rank", "train.learning_rate"] {
        let effect = axis(&found, name);
        close(&effect["importance"], &expected["functional_anova"][name]);
        close(&effect["p"], &expected["p"][name]);
        assert_eq!((&effect["is_noise"], &effect["best"]), (&Json::Bool(true), &Json::Null));
    }
    close(&found["pairs"][0]["importance"], &expected["functional_anova"]["interaction"]);
    close(&found["pairs"][0]["p"], &expected["p"]["interaction"]);
    close(&found["noise"]["variance_between_cells"], &expected["variance_between_cells"]);
    close(&found["noise"]["variance_by_chance"], &expected["variance_expected_from_seeds_alone"]);
    let note = "no axis exceeds the spread of the seeds";
    let text = printed(&lab.0.run(&["effects", "--metric", TASK]));
    assert!(text.contains(note) && text.matches("within noise").count() >= 3, "{text}");
    assert!(printed(&lab.0.run(&["report", "--format", "markdown"])).contains(note));

    lab.change(&scores(&case("S45-importance-of-noise/with-effect.json").unwrap()["jobs"]));
    let found = effects();
    let rank = axis(&found, "lora.rank");
    close(&rank["p"], &expected["with_effect_p"]["lora.rank"]);
    assert_eq!((&rank["is_noise"], &rank["best"]), (&Json::Bool(false), &Json::from("16")));
    assert_eq!(axis(&found, "train.learning_rate")["is_noise"], true);
    assert!(!printed(&lab.0.run(&["effects", "--metric", TASK])).contains(note));
}

#[test]
fn with_one_seed_a_cell_the_standard_error_over_documents_is_the_noise() {
    let lab = swept(40, "\"lora.rank\" = [2, 4]\n\"lora.alpha\" = [4, 8]\n");
    let found = lab.0.json(&["effects", "--metric", TASK, "--json"]);
    assert_eq!(found["noise"]["source"], "documents");
    let text = printed(&lab.0.run(&["effects", "--metric", TASK]));
    assert!(text.contains("no cell has two seeds"), "{text}");
    lab.change(&["UPDATE task_scores SET stderr = NULL".to_owned()]);
    let text = printed(&lab.0.run(&["effects", "--metric", TASK]));
    assert!(text.contains("noise cannot be estimated"), "{text}");
}

/// A case's document values in their stored form: pairs of a document's number and its value, little endian.
fn answers(bits: &str) -> String {
    let pair = |(at, bit): (usize, char)| {
        let value = if bit == '1' { 1.0f64 } else { 0.0 };
        let bytes = [&(at as u32).to_le_bytes()[..], &value.to_le_bytes()].concat();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    bits.chars().enumerate().map(pair).collect()
}

#[test]
fn s53_no_cell_of_coin_flips_is_told_apart_from_the_best_of_them() {
    let Some(expected) = case("S53-best-of-many/expected.json") else { return };
    let documents = case("S53-best-of-many/documents.json").unwrap();
    let cells = documents["cells"].as_object().unwrap();
    let seeds = cells.len();
    let axis = (1..=seeds).map(|rank| rank.to_string()).collect::<Vec<_>>().join(", ");
    let lab = swept(200, &format!("\"lora.rank\" = [{axis}]\n"));
    let statements = cells.iter().zip(1i64..).flat_map(|((name, bits), rank)| {
        let subject = format!(
            "(SELECT subject FROM jobs WHERE kind = 'train' AND json_extract(settings, '$.\"lora.rank\"[0]') = {rank})"
        );
        let key = format!("(SELECT score_key FROM task_scores WHERE metric = 'acc' AND subject = {subject})");
        let value = &expected["scores"][name];
        [
            format!("UPDATE task_scores SET value = {value} WHERE metric = 'acc' AND subject = {subject}"),
            format!(
                "UPDATE document_values SET pairs = x'{}' WHERE metric = 'acc' AND score_key = {key}",
                answers(bits.as_str().unwrap())
            ),
        ]
    });
    lab.change(&statements.collect::<Vec<_>>());
    let rows = |more: &[&str]| -> Vec<Json> {
        let found = lab.0.json(&[&["top", "--sort", TASK, "--json"], more].concat());
        let rows = found["rows"].as_array().unwrap().clone();
        rows.into_iter().filter(|row| row["base"] == false).collect()
    };
    let all = rows(&[]);
    assert_eq!(all[0]["label"], format!("r={}", &expected["best"].as_str().unwrap()[1..]));
    assert_eq!(all.iter().filter(|row| row["tied"] == true).count(), seeds - 1);
    let smallest = all[1..].iter().map(|row| row["p_holm"].as_f64().unwrap()).fold(1.0, f64::min);
    close(&smallest.into(), &expected["smallest_holm_p"]);
    // A row's mark does not depend on the number of rows shown.
    let some = rows(&["--rows", "5"]);
    assert!(some.iter().zip(&all).all(|(some, all)| some["p_holm"] == all["p_holm"]));
    assert!(printed(&lab.0.run(&["top", "--sort", TASK])).contains("Holm-corrected"));
    assert_eq!(lab.0.json(&["best", "--json"])["ties"].as_array().unwrap().len(), seeds - 1);
    assert!(printed(&lab.0.run(&["report", "--format", "markdown"])).contains("Holm-corrected"));
}

#[test]
fn s24_what_is_no_number_and_what_diverged_is_never_ranked_in_any_order() {
    let (Some(scores), Some(expected)) =
        (case("S24-nan-inf-ranking/scores.json"), case("S24-nan-inf-ranking/expected.json"))
    else {
        return;
    };
    let jobs = scores["jobs"].as_array().unwrap();
    for turn in 0..jobs.len() {
        let turned: Vec<&Json> = jobs.iter().cycle().skip(turn).take(jobs.len()).collect();
        let ranks: Vec<String> = turned.iter().map(|job| job["params"]["lora.rank"].to_string()).collect();
        let axes = format!("\"lora.rank\" = [{}]\n", ranks.join(", "));
        let lab = Lab::new(&format!("eval = [\"{TASK}\", \"ppl\"]\nlimit = 5\n[axes]\n{axes}"));
        lab.0.write("rows.jsonl", "{\"text\": \"one two\"}\n{\"text\": \"three four\"}\n");
        lab.0.write("ppl.yaml", PERPLEXITY);
        succeeded(&lab.run(None, &["--include-path", "."]));
        let name = |row: &Json| -> String {
            let rank = row["settings"]["lora.rank"].as_i64();
            let job = jobs.iter().find(|job| job["params"]["lora.rank"].as_i64() == rank).unwrap();
            job["id"].as_str().unwrap().to_owned()
        };
        let statements = jobs.iter().flat_map(|job| {
            let subject = format!(
                "(SELECT subject FROM jobs WHERE kind = 'train' AND json_extract(settings, '$.\"lora.rank\"[0]') = {})",
                job["params"]["lora.rank"]
            );
            let value = |score: &Json| match score.as_str() {
                None => score.to_string(),
                Some("inf") => "9e999".to_owned(),
                Some("-inf") => "-9e999".to_owned(),
                // SQLite stores NaN as NULL.
                Some(_) => "NULL".to_owned(),
            };
            let set = |metric: &str, score: &Json| {
                format!("UPDATE task_scores SET value = {} WHERE metric = '{metric}' AND subject = {subject}", value(score))
            };
            [
                set("acc", &job["scores"]["acc"]),
                set("word_perplexity", &job["scores"]["ppl"]),
                format!("UPDATE jobs SET state = {} WHERE subject = {subject}", job["state"].to_string().replace('"', "'")),
            ]
        });
        lab.change(&statements.collect::<Vec<_>>());
        let names = |arguments: &[&str]| -> Vec<String> {
            let found = lab.0.json(&[&["top", "--json"], arguments].concat());
            let rows = found["rows"].as_array().unwrap().clone();
            rows.iter().filter(|row| row["base"] == false && row["state"] == "done").map(name).collect()
        };
        let wanted = |key: &str| -> Vec<String> {
            expected[key].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
        };
        let acc = format!("{TASK}:acc");
        assert_eq!(names(&["--sort", &acc]), wanted("top_acc"));
        assert_eq!(names(&["--sort", "ppl"]), wanted("top_ppl"));
        assert_eq!(names(&["--where", "ppl < 6"]), wanted("where_ppl_lt_6"));
        assert_eq!(names(&["--where", "ppl > 6"]), wanted("where_ppl_gt_6"));
        assert_eq!(names(&["--where", "ppl != 6.25"]), ["J2", "J6"]);
        let found = lab.0.json(&["top", "--sort", &acc, "--json"]);
        let rows = found["rows"].as_array().unwrap();
        let cells: Vec<&Json> = rows.iter().filter(|row| row["base"] == false).collect();
        assert_eq!(name(cells[0]), expected["best_acc"].as_str().unwrap());
        assert!(cells[0]["best"] == true && cells[1..].iter().all(|row| row["best"] == false));
        assert!(cells[..3].iter().all(|row| row["state"] == "done"), "diverged jobs come last");
        // The finite accuracy of a training that diverged, and non-finite numbers, meet no condition.
        assert_eq!(names(&["--where", &format!("{acc} < 0.42")]), ["J2", "J6"]);
        assert_eq!(names(&["--where", &format!("{acc} != 0.44")]), ["J2", "J6"]);
        let csv = printed(&lab.0.run(&["export", "--format", "csv"]));
        assert!(csv.lines().count() > 6);
    }
}

#[test]
fn s59_the_name_in_the_table_is_the_name_to_ask_with() {
    let lab = swept(20, "\"lora.rank\" = [8, 16]\n\"train.learning_rate\" = [1e-3, 2e-3]\n");
    let labels: Vec<String> =
        lab.rows().iter().map(|row| row["label"].as_str().unwrap().to_owned()).collect();
    for label in &labels {
        for command in ["show", "explain", "logs"] {
            printed(&lab.0.run(&[command, label]));
        }
        let shown = lab.0.json(&["compare", label, "r=16 lr=0.002", "--json"]);
        assert_eq!(shown["first"]["labels"][0], format!("tiny/{label}"));
    }
    let id = lab.rows()[1]["jobs"][0].as_str().unwrap().to_owned();
    assert_eq!(lab.0.json(&["show", &id[..12], "--json"])["id"], id);
    fails(&lab, &["show", "r=99"], ExitCode::NotFound, &["not found", "shows ids too"]);

    // A label in two sweeps shows both, and one with several seeds lists its jobs.
    lab.rename("other");
    let text = std::fs::read_to_string(lab.0.path().join("sweep.toml")).unwrap();
    lab.0.write("sweep.toml", text.replace("limit = 20", "limit = 21") + "seed = [5, 6]\n");
    succeeded(&lab.run(None, &[]));
    fails(
        &lab,
        &["show", "r=16 lr=0.002"],
        ExitCode::NotFound,
        &[
            "the label 'r=16 lr=0.002' matches 3 jobs",
            "tiny/r=16 lr=0.002",
            "other/r=16 lr=0.002 seed=5",
            "seed=6",
        ],
    );
    printed(&lab.0.run(&["show", "tiny/r=16 lr=0.002"]));
    printed(&lab.0.run(&["compare", "other/r=16 lr=0.002 seed=5", "tiny/base"]));
}
