//! `[keep]` and `[notify]` during a sweep, and `clone`, with the fake engine.

use std::io::{Read, Write};
use std::net::TcpListener;

use loragrid::cli::ExitCode;
use nix::sys::signal::Signal;
use serde_json::{Value as Json, json};

use crate::lab::{FAKE, Lab, succeeded};
use crate::support::{stderr, stdout, sweep};

const GRID: &str =
    "eval = [\"two_digit_subtraction\"]\nlimit = 10\n[axes]\n\"lora.rank\" = [2, 4, 8]\nseed = [1, 2]\n";

/// Labels of the jobs whose adapter is on disk.
fn on_disk(lab: &Lab) -> Vec<String> {
    let labels = lab.ask::<String>(
        "SELECT s.label || '|' || t.adapter FROM trainings t JOIN jobs j ON j.subject = t.subject
         JOIN sweep_jobs s ON s.job_id = j.id WHERE s.version = (SELECT MAX(version) FROM sweep_versions) ORDER BY s.position",
    );
    let here = labels.iter().filter_map(|line| line.split_once('|'));
    here.filter(|(_, folder)| lab.0.path().join("results").join(folder).is_dir())
        .map(|(label, _)| label.to_owned())
        .collect()
}

fn edit(lab: &Lab, rest: &str) {
    lab.0.write("sweep.toml", sweep(rest));
}

#[test]
fn only_the_adapters_of_the_best_cells_stay_and_a_cell_is_judged_when_its_seeds_are_done() {
    let lab = Lab::new(&format!("{GRID}[keep]\nadapters = \"best:1\"\n"));
    succeeded(&lab.run(None, &[]));
    let rows = lab.rows();
    let best = rows.iter().find(|row| row["best"] == true).unwrap()["label"].as_str().unwrap().to_owned();
    let stay = on_disk(&lab);
    assert!(stay.len() == 2 && stay.iter().all(|label| label.starts_with(&best)), "{stay:?}, best is {best}");
    let why =
        lab.ask::<String>("SELECT DISTINCT adapter_removed FROM trainings WHERE adapter_removed IS NOT NULL");
    assert_eq!(why, ["[keep] adapters = \"best:1\""]);
    // They are done, and none runs again.
    succeeded(&lab.run(None, &[]));
    assert_eq!(lab.attempts(), 7);
    assert!(lab.rows().iter().all(|row| row["state"] == "done"));
}

#[test]
fn an_adapter_that_is_gone_is_trained_again_only_for_what_it_was_never_asked() {
    let lab = Lab::new(&format!("{GRID}[keep]\nadapters = \"none\"\n"));
    succeeded(&lab.run(None, &[]));
    assert_eq!(on_disk(&lab), Vec::<String>::new());
    let job = lab.ask::<String>("SELECT id FROM jobs WHERE kind = 'train'")[0].clone();
    assert!(stdout(&lab.0.run(&["show", &job])).contains("deleted: [keep] adapters = \"none\""));
    edit(
        &lab,
        &GRID.replace("[\"two_digit_subtraction\"]", "[\"two_digit_subtraction\", \"two_digit_addition\"]"),
    );
    let messages = succeeded(&lab.run(None, &[]));
    assert!(messages.contains("7 to run"), "{messages}");
    assert!(lab.is_done());
    assert_eq!(on_disk(&lab).len(), 6);
    // Existing scores are not computed again.
    let mut notes = crate::lab::notes(&lab.0.path().join("results/logs"));
    notes.retain(|line| line.starts_with("two_digit_subtraction"));
    assert_eq!(notes.len(), 7 * 10);
}

#[test]
fn an_adapter_that_another_sweep_has_too_stays() {
    let lab = Lab::new(GRID);
    succeeded(&lab.run(None, &[]));
    lab.0
        .write("other.toml", sweep(&format!("{GRID}[keep]\nadapters = \"none\"\n")).replace("tiny", "other"));
    succeeded(&lab.with_engine(FAKE, &["run", "other.toml"]).output().unwrap());
    assert_eq!(on_disk(&lab).len(), 6 * 2);
}

#[test]
fn a_sweep_that_holds_too_much_gives_up_its_worst_adapters_and_then_stops() {
    let lab = Lab::new(&format!("{GRID}[keep]\nmax_disk = \"3000 B\"\n"));
    // The fake engine's adapters have 1000 bytes.
    let mut run = lab.command(None, &[]);
    run.env("LORAGRID_FAKE", "heavy@train");
    succeeded(&run.output().unwrap());
    assert!(lab.is_done());
    let left = on_disk(&lab).len();
    assert!((1..=3).contains(&left), "{left}");
    edit(&lab, &format!("{}[keep]\nmax_disk = \"1500 B\"\n", GRID.replace("[1, 2]", "[1, 2, 3]")));
    let mut run = lab.command(None, &[]);
    let output = run.env("LORAGRID_FAKE", "heavy@train").output().unwrap();
    assert_eq!(output.status.code(), Some(ExitCode::Disk as i32), "{}", stderr(&output));
    assert!(stderr(&output).contains("max_disk"), "{}", stderr(&output));
}

/// The events passed to the sweep's command.
fn events(lab: &Lab) -> Vec<Json> {
    let text = std::fs::read_to_string(lab.0.path().join("events")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const NOTIFY: &str = "[notify]\ncommand = \"/bin/cat >> events; echo >> events\"\n";

#[test]
fn a_command_is_told_how_the_night_begins_and_ends() {
    let lab = Lab::new(&format!("{GRID}{NOTIFY}"));
    let with_path = |fault: Option<&str>, more: &[&str]| {
        let mut command = lab.command(fault, more);
        command.env("PATH", "/usr/bin:/bin");
        command
    };
    succeeded(&with_path(None, &[]).output().unwrap());
    let sent_events = events(&lab);
    assert_eq!(sent_events.len(), 2, "{sent_events:?}");
    assert_eq!((&sent_events[0]["event"], &sent_events[0]["jobs"]), (&json!("started"), &json!(7)));
    assert_eq!(
        (&sent_events[1]["event"], &sent_events[1]["done"], &sent_events[1]["failed"]),
        (&json!("done"), &json!(7), &json!(0))
    );
    assert_eq!(sent_events[1]["sweep"], "tiny");
    // Nothing ran, so there is nothing to notify of.
    succeeded(&with_path(None, &[]).output().unwrap());
    assert_eq!(events(&lab).len(), 2);
    edit(&lab, &format!("{}{NOTIFY}", GRID.replace("[1, 2]", "[3]")));
    let run = lab.spawn(with_path(Some("hang@train"), &[]));
    lab.wait_for_fault();
    run.signal(Signal::SIGTERM);
    run.wait();
    let last = events(&lab).pop().unwrap();
    assert_eq!((&last["event"], &last["stopped"]), (&json!("stopped"), &json!("user")));
}

#[test]
fn only_the_events_that_are_named_are_told_and_a_worker_tells_too() {
    let lab = Lab::new(&format!("{GRID}{NOTIFY}on = [\"failed\"]\n"));
    succeeded(&lab.0.run(&["submit", "sweep.toml"]));
    let mut work = lab.with_engine(FAKE, &["work"]);
    let output = work.env("LORAGRID_FAKE", "die@seed2").env("PATH", "/usr/bin:/bin").output().unwrap();
    assert_eq!(output.status.code(), Some(ExitCode::JobsFailed as i32), "{}", stderr(&output));
    let events = events(&lab);
    assert_eq!(events.len(), 1);
    assert_eq!((&events[0]["event"], &events[0]["failed"]), (&json!("failed"), &json!(3)));
    assert_eq!(events[0]["causes"].as_array().unwrap().len(), 1);
}

#[test]
fn a_webhook_gets_the_event_and_its_address_is_never_shown() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/secret-token", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = String::new();
        let mut buffer = [0; 4096];
        while !text.ends_with('}') {
            let read = stream.read(&mut buffer).unwrap();
            text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
        stream.write_all(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        text
    });
    let lab = Lab::new(&format!("{GRID}[notify]\nwebhook_env = \"HOOK\"\non = [\"done\"]\n"));
    let output = lab.command(None, &[]).env("HOOK", &address).output().unwrap();
    let messages = succeeded(&output);
    let request = server.join().unwrap();
    assert!(request.starts_with("POST /secret-token") && request.contains("\"event\":\"done\""), "{request}");
    assert!(messages.contains("[notify] webhook: the event could not be sent"), "{messages}");
    assert!(!messages.contains("secret-token") && !stdout(&output).contains("secret-token"));
    for path in [lab.db(), lab.db().with_extension("db-wal")] {
        let file = std::fs::read(path).unwrap_or_default();
        assert!(!file.windows(12).any(|window| window == b"secret-token"));
    }
}

#[test]
fn a_clone_is_the_job_with_some_keys_changed_in_a_sweep_of_its_own() {
    let lab = Lab::new(&format!("{GRID}[train]\niterations = 64\n"));
    succeeded(&lab.run(None, &[]));
    let job = lab.ask::<String>("SELECT job_id FROM sweep_jobs WHERE label LIKE '%r=4%seed=2%'")[0].clone();
    let clone = |set: &[&str]| lab.0.json(&[&["clone", &job, "--json"], set].concat());
    let made = clone(&["--set", "train.learning_rate=0.001"]);
    assert_eq!(made["queued"], 1);
    let shown = lab.0.json(&["show", made["job"].as_str().unwrap(), "--json"]);
    let value = |key: &str| shown["settings"][key][0].clone();
    assert_eq!(
        [value("lora.rank"), value("seed"), value("train.learning_rate"), value("train.iterations")],
        [json!(4), json!(2), json!(0.001), json!(64)]
    );
    // Cloning with the same settings gives the same job, which is done already.
    assert_eq!(clone(&["--set", "train.learning_rate=0.001"])["sweep"], made["sweep"]);
    let unchanged = lab.0.run(&["clone", &job]);
    assert_eq!(unchanged.status.code(), Some(ExitCode::Usage as i32));
    let base = lab.ask::<String>("SELECT id FROM jobs WHERE kind = 'base'")[0].clone();
    let of_base = lab.0.run(&["clone", &base, "--set", "lora.rank=4"]);
    assert!(crate::support::stderr(&of_base).contains("untrained model"));
    succeeded(&lab.with_engine(FAKE, &["work"]).output().unwrap());
    let board = lab.0.json(&["top", made["sweep"].as_str().unwrap(), "--json"]);
    assert_eq!(board["rows"].as_array().unwrap().len(), 2);
    assert!(board["rows"].as_array().unwrap().iter().all(|row| row["state"] == "done"), "{board}");
    // The stored file is the clone's, so that later reads refer to the right sweep.
    let sweep = made["sweep"].as_str().unwrap();
    let texts = lab.ask::<String>(&format!(
        "SELECT text FROM sweep_versions JOIN sweeps ON sweeps.id = sweep_id WHERE sweeps.name = '{sweep}'"
    ));
    assert!(texts[0].contains(&format!("name = \"{sweep}\"")), "{}", texts[0]);
    let wrong = lab.0.run(&["clone", &job, "--set", "lora.rnk=3"]);
    assert_eq!(wrong.status.code(), Some(ExitCode::Usage as i32));
}

#[test]
fn the_configurations_command_is_told_of_sweeps_that_name_none() {
    let lab = Lab::new("eval = [\"two_digit_subtraction\"]\nlimit = 2\n");
    let file = lab.0.path().join("events");
    let command = format!("/bin/cat >> {}", file.display());
    lab.0.write("loragrid.toml", format!("[notify]\ncommand = \"{command}\"\non = [\"done\"]\n"));
    succeeded(&lab.command(None, &[]).env("PATH", "/bin:/usr/bin").output().unwrap());
    let events = std::fs::read_to_string(file).unwrap();
    assert!(events.contains("\"event\":\"done\"") && !events.contains("started"), "{events}");
}
