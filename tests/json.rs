//! The `--json` output of each command: the members of its objects, and their types.

use serde_json::{Map, Value as Json, json};

use crate::lab::{FAKE, Lab, succeeded};
use crate::support::stdout;

const GRID: &str = "eval = [\"two_digit_subtraction\"]\nlimit = 10\n[samples]\nprompts = [\"12 - 3\"]\n[axes]\n\"lora.rank\" = [2, 4]\nseed = [1, 2]\n";

/// The type of a value: for lists that of the first element, for maps with varying names only one entry.
fn shape(value: &Json) -> Json {
    match value {
        Json::Null => json!("null"),
        Json::Bool(_) => json!("bool"),
        Json::Number(_) => json!("number"),
        Json::String(_) => json!("string"),
        Json::Array(items) => Json::Array(items.iter().take(1).map(shape).collect()),
        Json::Object(members) => {
            let is_map = members.len() > 3 && members.keys().all(|key| key.contains('.') || key.len() > 30);
            let taken = if is_map { 1 } else { members.len() };
            Json::Object(members.iter().take(taken).map(|(key, value)| (key.clone(), shape(value))).collect())
        }
    }
}

#[test]
fn every_command_prints_one_object_of_known_members() {
    let lab = Lab::new(GRID);
    succeeded(&lab.run(None, &[]));
    let job = lab.ask::<String>("SELECT id FROM jobs WHERE kind = 'train' ORDER BY id")[0].clone();
    let other = lab.ask::<String>("SELECT id FROM jobs WHERE kind = 'train' ORDER BY id DESC")[0].clone();
    lab.0.write("claims.toml", "[[claim]]\ntext = \"t\"\nsweep = \"tiny\"\nfirst = \"lora.rank == 2\"\nsecond = \"lora.rank == 4\"\nexpect = \"higher\"\n");
    lab.0.write("loragrid.toml", "pack = 4\n");
    lab.0.write(
        "other.toml",
        std::fs::read_to_string(lab.0.path().join("sweep.toml"))
            .unwrap()
            .replace("\"tiny\"", "\"other\"")
            .replace("[1, 2]", "[3]"),
    );
    let commands: &[&[&str]] = &[
        &["plan", "sweep.toml"],
        &["submit", "other.toml"],
        &["status"],
        &["workers"],
        &["pause", "other"],
        &["resume", "other"],
        &["cancel", "other"],
        &["retry", "other", "--cancelled"],
        &["clone", &job, "--set", "seed=9"],
        &["explain", &job],
        &["wait", "tiny"],
        &["rm", "other", "--dry-run"],
        &["undo"],
        &["undo", "--list"],
        &["top", "tiny"],
        &["top", "tiny", "--pivot", "lora.rank", "seed"],
        &["show", &job],
        &["compare", &job, &other],
        &["best", "tiny"],
        &["effects", "tiny"],
        &["findings", "claims.toml"],
        &["query", "SELECT label FROM runs"],
        &["sweep", "history", "tiny"],
        &["data", "stats", "sweep.toml"],
        &["data", "show", "sweep.toml", "1"],
        &["task", "list"],
        &["task", "show", "two_digit_subtraction"],
        &["model", "show", "model"],
        &["keys"],
        &["config"],
        &["gc", "--dry-run"],
        &["db", "upgrade"],
    ];
    let mut shapes = Map::new();
    for command in commands {
        let output = lab.with_engine(FAKE, &[*command, &["--json"]].concat()).output().unwrap();
        succeeded(&output);
        let value: Json =
            serde_json::from_str(&stdout(&output)).unwrap_or_else(|error| panic!("{command:?}: {error}"));
        assert_eq!(value["schema"], 1, "{command:?}");
        let words: Vec<&str> =
            command.iter().copied().filter(|word| *word != job && *word != other).collect();
        shapes.insert(words.join(" "), shape(&value));
    }
    for (name, shape) in &shapes {
        insta::with_settings!({ snapshot_suffix => name.replace(|c: char| !c.is_alphanumeric(), "_") }, {
            insta::assert_json_snapshot!(shape);
        });
    }
}

#[test]
fn a_run_prints_its_events_and_ends_with_the_leaderboard() {
    let lab = Lab::new(GRID);
    let output = lab.with_engine(FAKE, &["run", "sweep.toml", "--json"]).output().unwrap();
    succeeded(&output);
    let text = stdout(&output);
    let events: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().all(|event| event["schema"] == 1 && event["event"].is_string()));
    let mut shapes = Map::new();
    for event in &events {
        shapes.entry(event["event"].as_str().unwrap()).or_insert_with(|| shape(event));
    }
    let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!((count("started"), count("ended"), count("summary")), (5, 5, 1));
    assert_eq!((events[0]["event"].as_str(), events[0]["stage"].as_str()), (Some("planning"), Some("sweep")));
    assert_eq!(events.last().unwrap()["event"], "leaderboard");
    insta::assert_json_snapshot!(shapes);
}

#[test]
fn wrong_usage_is_an_error_in_json_too() {
    let lab = Lab::new(GRID);
    for arguments in [&["top", "--nonsense", "--json"][..], &["--json", "plan"], &["nonsense", "--json"]] {
        let output = lab.0.run(arguments);
        assert_eq!(output.status.code(), Some(2));
        let error: Json = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!((&error["schema"], &error["error"]["code"]), (&json!(1), &json!("usage")), "{error}");
        assert!(!error["error"]["message"].as_str().unwrap().contains("Usage:"), "{error}");
    }
}
