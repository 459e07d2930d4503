//! Placement on GPUs from an inventory file, with the fake engine.

use std::path::PathBuf;
use std::process::Command;

use crate::lab::{Lab, succeeded, wait_until};
use crate::support::stderr;

const GB: u64 = 1_000_000_000;

/// A lab of training jobs, with GPUs of these sizes in GB.
fn lab(cells: usize, sizes: &[u64]) -> Lab {
    let seeds: Vec<String> = (1..=cells).map(|seed| seed.to_string()).collect();
    let lab = Lab::new(&format!("[axes]\nseed = [{}]\n", seeds.join(", ")));
    write_cards(&lab, sizes, &[]);
    lab
}

/// Writes the inventory; memory held by other processes is (GPU, GB).
fn write_cards(lab: &Lab, sizes: &[u64], strangers: &[(usize, u64)]) {
    let card = |(place, size): (usize, &u64)| {
        let held = strangers.iter().filter(|(card, _)| *card == place);
        let processes: Vec<String> =
            held.map(|(_, size)| format!("{{ pid = 1, memory = {} }}", size * GB)).collect();
        let (size, processes) = (size * GB, processes.join(", "));
        format!(
            "[[card]]\nid = \"GPU-{place}\"\nname = \"made up\"\nmemory = {size}\nprocesses = [{processes}]\n"
        )
    };
    let text: Vec<String> = sizes.iter().enumerate().map(card).collect();
    // Renamed, so that no reader sees half of it.
    let path = lab.0.write("cards.new", text.join(""));
    std::fs::rename(path, cards(lab)).unwrap();
}

fn cards(lab: &Lab) -> PathBuf {
    lab.0.path().join("cards.toml")
}

fn command(lab: &Lab, more: &[&str]) -> Command {
    let mut command = lab.command(None, more);
    command.env("LORAGRID_DEVICES", cards(lab)).env_remove("CUDA_VISIBLE_DEVICES");
    command
}

fn devices(lab: &Lab) -> Vec<String> {
    lab.ask("SELECT DISTINCT device FROM attempts ORDER BY device")
}

#[test]
fn four_cards_share_the_jobs_and_each_engine_sees_its_own() {
    let lab = lab(40, &[80, 80, 80, 80]);
    let mut run = command(&lab, &[]);
    run.env("LORAGRID_FAKE", "note@start");
    succeeded(&run.output().unwrap());
    assert!(lab.is_done());
    assert_eq!(devices(&lab), ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]);
    let mut seen = crate::lab::notes(&lab.0.path().join("results/logs"));
    seen.retain(|line| line.starts_with("cuda:"));
    seen.sort();
    let expected: Vec<String> = (0..4).map(|n| format!("cuda:{n} sees GPU-{n}")).collect();
    assert_eq!(seen, expected);
}

#[test]
fn gpus_that_train_together_are_one_slot_whose_engine_sees_them_all() {
    let lab = lab(8, &[80, 80, 80, 80]);
    let mut run = command(&lab, &["--gpus-per-job", "2"]);
    run.env("LORAGRID_FAKE", "note@start");
    succeeded(&run.output().unwrap());
    assert!(lab.is_done());
    assert_eq!(devices(&lab), ["cuda:0+1", "cuda:2+3"]);
    let mut seen = crate::lab::notes(&lab.0.path().join("results/logs"));
    seen.retain(|line| line.starts_with("cuda:"));
    seen.sort();
    assert_eq!(seen, ["cuda:0+1 sees GPU-0,GPU-1", "cuda:2+3 sees GPU-2,GPU-3"]);
    let three = command(&lab, &["--gpus-per-job", "3"]).output().unwrap();
    assert_eq!(three.status.code(), Some(loragrid::cli::ExitCode::Usage as i32));
    assert!(stderr(&three).contains("4 GPUs cannot be divided into groups of 3"), "{}", stderr(&three));
}

#[test]
fn only_the_cards_that_are_named_and_visible_are_used() {
    let lab = lab(12, &[80, 80, 80, 80]);
    let mut run = command(&lab, &["--devices", "cuda:0,2"]);
    // The first and the third of the visible GPUs.
    run.env("CUDA_VISIBLE_DEVICES", "3,1,GPU-0").env("LORAGRID_FAKE", "note@start");
    succeeded(&run.output().unwrap());
    assert_eq!(devices(&lab), ["cuda:0", "cuda:2"]);
    let seen = crate::lab::notes(&lab.0.path().join("results/logs"));
    for line in ["cuda:0 sees GPU-3", "cuda:2 sees GPU-0"] {
        assert!(seen.iter().any(|note| note == line), "{seen:?}");
    }
    let output = command(&lab, &["--devices", "cuda:4"]).output().unwrap();
    assert_eq!(output.status.code(), Some(loragrid::cli::ExitCode::Usage as i32));
    assert!(stderr(&output).contains("cuda:4 requested, 4 GPUs visible"), "{}", stderr(&output));
}

#[test]
fn a_job_waits_while_strangers_hold_the_memory_that_it_needs() {
    let lab = lab(2, &[80]);
    write_cards(&lab, &[80], &[(0, 79), (0, 1)]);
    let run = lab.spawn(command(&lab, &[]));
    wait_until("the jobs are queued", || {
        lab.0.path().join("results/loragrid.db").is_file()
            && lab.count("SELECT COUNT(*) FROM sqlite_master WHERE name = 'jobs'") == 1
            && lab.count("SELECT COUNT(*) FROM jobs") == 2
    });
    assert_eq!(lab.attempts(), 0, "the card is full");
    write_cards(&lab, &[80], &[(0, 60)]);
    succeeded(&run.wait());
    assert!(lab.is_done());
}

#[test]
fn a_large_job_goes_to_the_card_that_has_room_for_it() {
    // The estimate of a tiny job is half a GB, libtorch itself.
    let lab = lab(6, &[1, 80]);
    write_cards(&lab, &[1, 80], &[(0, 1)]);
    succeeded(&command(&lab, &[]).output().unwrap());
    assert_eq!(devices(&lab), ["cuda:1"]);
}

#[test]
fn a_card_whose_jobs_all_die_is_left_alone() {
    let lab = lab(200, &[80, 80, 80, 80]);
    let mut run = command(&lab, &[]);
    run.env("LORAGRID_FAKE", "die@cuda:2");
    let messages = succeeded(&run.output().unwrap());
    assert!(messages.contains("quarantined cuda:2"), "{messages}");
    assert!(lab.is_done());
    assert_eq!(lab.count("SELECT COUNT(*) FROM attempts WHERE device = 'cuda:2'"), 3);
    assert_eq!(lab.count("SELECT COUNT(*) FROM attempts WHERE outcome = 'failed'"), 0);
}

#[test]
fn an_engine_without_cuda_on_a_card_says_what_to_do() {
    let lab = lab(1, &[80]);
    let mut run = command(&lab, &[]);
    run.env("LORAGRID_FAKE", "cpu@start");
    let output = run.output().unwrap();
    assert_eq!(output.status.code(), Some(loragrid::cli::ExitCode::Engine as i32));
    assert!(stderr(&output).contains("run it with --devices cpu"), "{}", stderr(&output));
    assert_eq!(lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'queued'"), 1);
}

#[test]
fn what_is_submitted_for_gpus_that_are_elsewhere_is_the_same_jobs_there() {
    let lab = lab(2, &[80]);
    // A login node without a GPU.
    let submit = ["submit", "sweep.toml", "--devices", "cuda", "--json"];
    succeeded(&lab.0.run(&submit));
    let dtypes = || lab.ask::<String>("SELECT DISTINCT dtype FROM jobs");
    let planned = lab.ask::<String>("SELECT id FROM jobs ORDER BY id");
    assert_eq!(dtypes(), ["bf16"]);
    let mut work = lab.with_engine(crate::lab::FAKE, &["work"]);
    succeeded(
        &work.env("LORAGRID_DEVICES", cards(&lab)).env_remove("CUDA_VISIBLE_DEVICES").output().unwrap(),
    );
    assert!(lab.is_done());
    assert_eq!(
        (lab.ask::<String>("SELECT id FROM jobs ORDER BY id"), devices(&lab)),
        (planned, vec!["cuda:0".to_owned()])
    );
}

#[test]
fn a_gpu_that_does_not_multiply_bf16_is_planned_in_single_precision() {
    let lab = lab(1, &[80]);
    let text = std::fs::read_to_string(cards(&lab)).unwrap();
    lab.0.write("cards.toml", text.replace("memory = ", "capability = \"7.5\"\nmemory = "));
    succeeded(&command(&lab, &[]).output().unwrap());
    assert_eq!(lab.ask::<String>("SELECT DISTINCT dtype FROM jobs"), ["fp32"]);
}

#[test]
fn a_gpu_in_mig_mode_and_names_that_are_unclear_are_refused() {
    let lab = lab(1, &[80, 80]);
    let refused = |visible: &str| {
        let output =
            command(&lab, &["--devices", "cuda"]).env("CUDA_VISIBLE_DEVICES", visible).output().unwrap();
        assert_eq!(output.status.code(), Some(loragrid::cli::ExitCode::Usage as i32), "{}", stderr(&output));
        stderr(&output)
    };
    assert!(refused("0,0").contains("names GPU-0 twice"));
    assert!(refused("GPU-").contains("start of 2 GPUs"));
    let text = std::fs::read_to_string(cards(&lab)).unwrap();
    lab.0.write("cards.toml", text.replace("memory = ", "mig = true\nmemory = "));
    assert!(refused("1").contains("MIG mode"));
}
