//! Engines that a launcher starts elsewhere. `setsid --wait` stands for `srun` and `ssh`: no signal to it reaches the engine, which has
//! its standard streams and nothing else.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::lab::{FAKE, Lab, gone, succeeded, wait_until};
use crate::support::stderr;

const GRID: &str =
    "eval = [\"two_digit_subtraction\"]\nlimit = 10\n[axes]\n\"lora.rank\" = [2, 4]\nseed = [1, 2]\n";

/// A run on two slots of a launcher, with this fault.
fn elsewhere(lab: &Lab, fault: Option<&str>) -> Command {
    let mut command = lab.command(fault, &["--launcher", "setsid --wait", "--slots", "2"]);
    command.env("PATH", std::env::var_os("PATH").unwrap());
    command
}

#[test]
fn jobs_run_on_every_slot_of_a_launcher() {
    let lab = Lab::new(GRID);
    let told = succeeded(&elsewhere(&lab, None).output().unwrap());
    assert!(lab.is_done(), "{told}");
    let mut devices = lab.ask::<String>("SELECT DISTINCT device FROM attempts");
    devices.sort();
    assert_eq!(devices, ["cpu@0", "cpu@1"]);
}

#[test]
fn a_stop_reaches_an_engine_elsewhere_as_an_order() {
    let lab = Lab::new(GRID);
    let run = lab.spawn(elsewhere(&lab, Some("hang@train")));
    let engine = lab.wait_for_fault();
    run.signal(Signal::SIGTERM);
    let output = run.wait();
    assert_eq!(output.status.code(), Some(143), "{}", stderr(&output));
    wait_until("the engine is gone", || gone(&engine));
    assert_eq!(lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'running'"), 0);
    succeeded(&elsewhere(&lab, None).output().unwrap());
    assert!(lab.is_done());
}

#[test]
fn an_engine_elsewhere_ends_itself_with_the_orchestrator_and_its_job_runs_again() {
    // An engine that ignores SIGTERM, which nobody can kill from here.
    let lab = Lab::new(GRID);
    let run = lab.spawn(elsewhere(&lab, Some("deaf@train")));
    let engine = lab.wait_for_fault();
    run.signal(Signal::SIGKILL);
    run.wait();
    wait_until("the engine is gone", || gone(&engine));
    succeeded(&elsewhere(&lab, None).output().unwrap());
    assert!(lab.is_done());
}

#[test]
fn the_death_of_an_engine_elsewhere_is_told_with_its_last_words() {
    let lab = Lab::new(GRID);
    let output = elsewhere(&lab, Some("die@train")).output().unwrap();
    succeeded(&output);
    let reasons = lab.ask::<String>("SELECT reason FROM attempts WHERE outcome = 'requeued'");
    // Both engines may come to the fault before either has noted that it happened.
    assert!((1..=2).contains(&reasons.len()), "{reasons:?}");
    assert!(reasons.iter().all(|reason| reason.starts_with("the engine exited with code")), "{reasons:?}");
    assert!(lab.is_done() && lab.attempts() == 5 + reasons.len(), "{}", stderr(&output));
}

#[test]
fn a_launcher_that_cannot_be_started_and_slots_without_one_are_named() {
    let lab = Lab::new(GRID);
    let output = lab.run(None, &["--launcher", "no-such-launcher -N1"]);
    assert!(!output.status.success() && stderr(&output).contains("no-such-launcher"), "{}", stderr(&output));
    let output = lab.run(None, &["--slots", "2"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("no launcher is named"), "{}", stderr(&output));
    let output = lab.run(None, &["--launcher", "nice", "--devices", "cpu:2"]);
    assert!(stderr(&output).contains("'cpu:2' names devices of this machine"), "{}", stderr(&output));
    let output = lab.run(None, &["--launcher", "srun 'a"]);
    assert!(stderr(&output).contains("a quote that does not end"), "{}", stderr(&output));
}

#[test]
fn a_batch_script_is_printed_or_sent_with_the_jobs_queued() {
    let slurm = "[slurm]\npartition = \"gpu\"\ntime = \"8:00:00\"\ngres = \"gpu:1\"\nntasks = 2\n";
    let lab = Lab::new(&format!("{GRID}{slurm}"));
    lab.0.write("loragrid.toml", "[slurm]\npartition = 'debug'\naccount = 'lab'\n");
    let printed = lab.0.run(&["submit", "sweep.toml", "--slurm", "--dry-run"]);
    let script = String::from_utf8(printed.stdout).unwrap();
    for line in ["--partition=gpu", "--account=lab", "--time=8:00:00", "--gpus-per-task=1", "--ntasks=2"] {
        assert!(script.contains(&format!("#SBATCH {line}\n")), "{line} of\n{script}");
    }
    assert!(!lab.db().exists(), "a dry run queues nothing");
    // A stand-in for sbatch keeps what it is sent.
    std::fs::create_dir(lab.0.path().join("bin")).unwrap();
    lab.0.write("bin/sbatch", "#!/bin/sh\ncat > sent\necho \"42;cluster\"\n");
    let sbatch = lab.0.path().join("bin/sbatch");
    std::fs::set_permissions(&sbatch, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", lab.0.path().join("bin").display(), std::env::var("PATH").unwrap());
    let mut submit = lab.0.command(&["submit", "sweep.toml", "--slurm"]);
    let output = submit.env("PATH", &path).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Slurm runs it as job 42"));
    assert_eq!(std::fs::read_to_string(lab.0.path().join("sent")).unwrap(), script);
    assert_eq!(lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'queued'"), 5);
    // What Slurm refuses stays queued, with Slurm's own words.
    lab.0.write("bin/sbatch", "#!/bin/sh\necho 'invalid partition' >&2\nexit 1\n");
    let mut submit = lab.0.command(&["submit", "sweep.toml", "--slurm"]);
    let output = submit.env("PATH", &path).output().unwrap();
    assert!(stderr(&output).contains("sbatch refuses the job: invalid partition"), "{}", stderr(&output));
}

#[test]
fn a_script_that_slurm_starts_runs_the_queue_and_ends_with_its_exit_code() {
    let lab = Lab::new(GRID);
    succeeded(&lab.0.run(&["submit", "sweep.toml"]));
    let printed = lab.0.run(&["submit", "sweep.toml", "--slurm", "--dry-run"]);
    lab.0.write("batch.sh", String::from_utf8(printed.stdout).unwrap());
    let batch = || {
        let mut bash = Command::new("bash");
        bash.arg("batch.sh").current_dir(lab.0.path());
        for (name, value) in lab.with_engine(FAKE, &[]).get_envs() {
            match value {
                Some(value) if name != "PATH" => bash.env(name, value),
                Some(_) => &mut bash,
                None => bash.env_remove(name),
            };
        }
        bash
    };
    // SIGTERM to the shell alone, as `scancel --batch` has it.
    let mut first = batch();
    first.env("LORAGRID_FAKE", format!("hang@train={}", lab.fault().display()));
    let run = lab.spawn(first);
    let engine = lab.wait_for_fault();
    run.signal(Signal::SIGTERM);
    let output = run.wait();
    assert_eq!(output.status.code(), Some(143), "{}", stderr(&output));
    wait_until("the engine is gone", || gone(&engine));
    // The same script again, as after a requeue, within an allocation whose end is told.
    let end = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 7200;
    let output = batch().env("SLURM_JOB_END_TIME", end.to_string()).output().unwrap();
    assert!(stderr(&output).contains("jobs stop 3 min 00 s before"), "{}", stderr(&output));
    assert!(output.status.success() && lab.is_done(), "{}", stderr(&output));
}
