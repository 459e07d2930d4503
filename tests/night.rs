//! Failures with the real engine: results equal those of an undisturbed run to the bit.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;

use loragrid::device::{DeviceKind, Inventory};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::disk::SmallDisk;
use crate::lab::{Lab, REAL, succeeded, wait_until};
use crate::support::stderr;

const TRAINING: &str = "[train]\niterations = 48\nbatch_size = 8\nlearning_rate = 0.01\ncheckpoint_every = 0\n\
                        validation_split = 0.1\nvalidate_every = 2\n[lora]\ndropout = 0.2\n";

fn lab() -> Lab {
    Lab::new(&format!("eval = [\"two_digit_subtraction\"]\nlimit = 20\n{TRAINING}"))
}

/// What must be equal: adapters by name; curves, training facts and document results.
type Outcome = (Vec<(String, Vec<u8>)>, Vec<String>);

fn outcome(lab: &Lab) -> Outcome {
    let mut rows = lab.ask::<String>(
        "SELECT step || ' ' || loss || ' ' || learning_rate || ' ' || tokens || ' ' || COALESCE(validation_loss, '-')
         FROM curve_points ORDER BY subject, step",
    );
    rows.extend(lab.ask::<String>(
        "SELECT steps || ' ' || tokens || ' ' || first_loss || ' ' || last_loss || ' ' || last_losses || ' ' || validation_loss
         FROM trainings ORDER BY subject",
    ));
    rows.extend(lab.ask::<String>("SELECT requests || metrics FROM documents ORDER BY score_key, document"));
    (lab.adapters(), rows)
}

fn undisturbed() -> &'static Outcome {
    static OUTCOME: std::sync::OnceLock<Outcome> = std::sync::OnceLock::new();
    OUTCOME.get_or_init(|| {
        let lab = lab();
        succeeded(&lab.with_engine(REAL, &["run", "sweep.toml"]).output().unwrap());
        let outcome = outcome(&lab);
        assert_eq!((outcome.0.len(), outcome.1.len()), (1, 6 + 1 + 40));
        outcome
    })
}

/// Runs with a fault until it succeeds; returns the reasons of the failed attempts.
fn with_fault(fault: &str) -> (Lab, Vec<String>) {
    let lab = lab();
    let run = || lab.with_engine(REAL, &["run", "sweep.toml"]).env("LORAGRID_FAULT", fault).output().unwrap();
    let mut output = run();
    // A full disk ends the run; the same command resumes it.
    for _ in 0..6 {
        if output.status.success() {
            break;
        }
        output = run();
    }
    succeeded(&output);
    let reasons = lab.ask("SELECT reason FROM attempts WHERE outcome = 'requeued' ORDER BY attempt");
    (lab, reasons)
}

#[test]
fn a_training_that_is_killed_anywhere_goes_on_to_the_same_bits() {
    for fault in ["kill@pass:3", "kill@step:2", "kill@checkpoint:3", "kill@finished:1", "kill@document:9"] {
        let (lab, reasons) = with_fault(fault);
        assert!(!reasons.is_empty(), "{fault} did not happen");
        assert!(reasons.iter().all(|reason| reason.contains("SIGABRT")), "{fault}: {reasons:?}");
        let (outcome, undisturbed) = (outcome(&lab), undisturbed());
        assert!(outcome.0 == undisturbed.0, "{fault}: not the same adapter");
        outcome.1.iter().zip(&undisturbed.1).for_each(|(row, other)| assert_eq!(row, other, "{fault}"));
        let left = std::fs::read_dir(lab.0.path().join("results/checkpoints")).unwrap().count();
        assert_eq!(left, 0, "{fault}: checkpoints are left");
    }
}

#[test]
fn a_full_disk_ends_the_run_and_the_next_one_goes_on_to_the_same_bits() {
    let (lab, reasons) = with_fault("enospc@checkpoint:3");
    assert!(
        reasons.iter().all(|reason| reason.contains("No space left")) && !reasons.is_empty(),
        "{reasons:?}"
    );
    assert!(outcome(&lab) == *undisturbed());
}

#[test]
fn a_disk_that_is_really_full_ends_the_run_and_the_next_one_goes_on_to_the_same_bits() {
    let Some(disk) = SmallDisk::new("8m") else { return };
    // Adapters larger than the space left in existing files.
    let lab = || Lab::new(&format!("{TRAINING}rank = 64\nlayers = \"all\"\n"));
    let undisturbed = lab();
    succeeded(&undisturbed.with_engine(REAL, &["run", "sweep.toml"]).output().unwrap());
    let lab = lab();
    let results = lab.0.path().join("results");
    std::fs::create_dir(disk.path().join("results")).unwrap();
    std::os::unix::fs::symlink(disk.path().join("results"), &results).unwrap();
    let run = || lab.with_engine(REAL, &["run", "sweep.toml"]);
    let mut first = run();
    // It crashes when it writes the third checkpoint; the next engine finds the disk full.
    first.env("LORAGRID_FAULT", "hang@checkpoint:3");
    let first = lab.spawn(first);
    wait_until("the first checkpoints are there", || {
        std::fs::read_dir(results.join("checkpoints")).is_ok_and(|folders| {
            folders.flatten().any(|folder| std::fs::read_dir(folder.path()).unwrap().count() >= 2)
        })
    });
    first.signal(Signal::SIGKILL);
    first.wait();
    let filler = disk.fill();
    let output = run().output().unwrap();
    assert_eq!(output.status.code(), Some(loragrid::cli::ExitCode::Disk as i32), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("full") && stderr(&output).contains("loragrid gc"),
        "{}",
        stderr(&output)
    );
    std::fs::remove_file(filler).unwrap();
    succeeded(&run().output().unwrap());
    assert!(outcome(&lab) == outcome(&undisturbed));
}

#[test]
fn s22_a_full_disk_of_logs_costs_their_lines_and_no_training() {
    let Some(disk) = SmallDisk::new("64k") else { return };
    let lab = lab();
    disk.fill();
    let results = lab.0.path().join("results");
    std::fs::create_dir(&results).unwrap();
    std::os::unix::fs::symlink(disk.path(), results.join("logs")).unwrap();
    let messages = succeeded(&lab.with_engine(REAL, &["run", "sweep.toml"]).output().unwrap());
    assert!(messages.contains("log lines are lost"), "{messages}");
    assert_eq!(lab.attempts(), 2, "{messages}");
    assert!(outcome(&lab) == *undisturbed());
}

#[test]
fn encoded_rows_that_were_cut_anywhere_are_written_again() {
    let lab = lab();
    succeeded(&lab.with_engine(REAL, &["run", "sweep.toml", "--set", "eval=[]"]).output().unwrap());
    let cache =
        std::fs::read_dir(lab.0.path().join("results/cache")).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&cache).unwrap();
    for tenth in [0, 1, 5, 9] {
        std::fs::write(&cache, &whole[..whole.len() * tenth / 10]).unwrap();
        let seed = format!("seed={}", 100 + tenth);
        succeeded(
            &lab.with_engine(REAL, &["run", "sweep.toml", "--set", "eval=[]", "--set", &seed])
                .output()
                .unwrap(),
        );
        assert!(std::fs::read(&cache).unwrap() == whole, "{tenth} tenths");
    }
}

#[test]
fn out_of_memory_gradient_checkpointing_is_tried_and_then_the_budget_is_halved() {
    let (lab, reasons) = with_fault("oom@pass:3");
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons[0].contains("next with gradient checkpointing"), "{reasons:?}");
    assert!(reasons[1].contains("next with passes of"), "{reasons:?}");
    let budgets = lab.ask::<i64>("SELECT token_budget FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE j.kind = 'train' ORDER BY a.attempt");
    assert_eq!(budgets, [1024, 1024, 512]);
    assert_eq!(lab.count("SELECT COUNT(*) FROM curve_points"), 6);
}

/// The first two of the cores that this process may use.
fn two_cores() -> CpuSet {
    let (all, mut two) = (sched_getaffinity(Pid::from_raw(0)).unwrap(), CpuSet::new());
    let usable = (0..CpuSet::count()).filter(|core| all.is_set(*core).unwrap());
    usable.take(2).for_each(|core| two.set(core).unwrap());
    two
}

#[test]
fn a_real_want_of_memory_halves_the_passes_until_they_fit() {
    let Some(model) = std::env::var_os("LORAGRID_TEST_MODEL").filter(|path| Path::new(path).is_file()) else {
        let _ =
            writeln!(std::io::stderr(), "skipped: a real want of memory: LORAGRID_TEST_MODEL names no file");
        return;
    };
    let lab = lab();
    // In the dtype that this processor is fast in; in the other one a pass takes minutes. MB of address space: too few for the model, and
    // too few for a pass of 1,024 tokens.
    let kind = DeviceKind::named("cpu", &Inventory::None, &|| false).unwrap();
    let (dtype, model_is_too_large, pass_is_too_large) = match kind {
        DeviceKind::Cpu { bf16: true } => ("bf16", 800, 1200),
        DeviceKind::Cpu { bf16: false } | DeviceKind::Cuda { .. } => ("fp32", 1000, 1500),
    };
    let text = format!(
        "name = \"memory\"\nmodel = {model:?}\ndata = \"two_digit_subtraction\"\n[train]\ndtype = \"{dtype}\"\niterations = 64\nbatch_size = 64\n"
    );
    lab.0.write("sweep.toml", text);
    let run = |limit: u64| {
        let mut command = lab.with_engine(REAL, &["run", "sweep.toml"]);
        // Each thread needs memory for its stack and its heap, so their number must not depend on the machine.
        command.env("MALLOC_ARENA_MAX", "2");
        // A backtrace would need what there is not.
        command.env("RUST_BACKTRACE", "1");
        let cores = two_cores();
        // SAFETY: setting a limit and the cores is allowed between fork and exec.
        unsafe {
            command.pre_exec(move || {
                sched_setaffinity(Pid::from_raw(0), &cores)?;
                Ok(setrlimit(Resource::RLIMIT_AS, limit, limit)?)
            });
        }
        command.output().unwrap()
    };
    // The model itself does not fit.
    let output = run(model_is_too_large << 20);
    assert_eq!(output.status.code(), Some(loragrid::cli::ExitCode::JobsFailed as i32), "{}", stderr(&output));
    assert!(stderr(&output).contains("the model needs more memory than there is"), "{}", stderr(&output));
    succeeded(&lab.0.run(&["retry", "memory"]));
    // The model fits, but not a pass of 1,024 tokens.
    succeeded(&run(pass_is_too_large << 20));
    let reasons = lab.ask::<String>("SELECT reason FROM attempts WHERE outcome = 'requeued'");
    let wanting = |reason: &String| {
        let next = ["next with gradient checkpointing", "next with passes of"];
        next.iter().any(|next| reason.contains(next)) && reason.len() < 300
    };
    assert!(!reasons.is_empty() && reasons.iter().all(wanting), "{reasons:?}");
    assert!(lab.is_done());
}

#[test]
fn an_interrupt_in_the_middle_goes_on_to_the_same_bits() {
    let rest = TRAINING.replace("iterations = 48", "iterations = 1600").replace("checkpoint_every = 0\n", "");
    let ended = |interrupted: bool| {
        let lab = Lab::new(&rest);
        let run = || lab.with_engine(REAL, &["run", "sweep.toml"]);
        if interrupted {
            let first = lab.spawn(run());
            wait_until("some steps are made", || {
                crate::lab::notes(&lab.0.path().join("results/logs"))
                    .iter()
                    .any(|line| line.contains("step 20/"))
            });
            first.signal(Signal::SIGINT);
            let output = first.wait();
            assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
            assert_eq!(
                lab.count("SELECT COUNT(*) FROM trainings"),
                0,
                "it was not interrupted in the middle"
            );
        }
        succeeded(&run().output().unwrap());
        assert_eq!(
            lab.count("SELECT COUNT(*) FROM attempts WHERE outcome = 'requeued'"),
            usize::from(interrupted)
        );
        if interrupted {
            assert!(
                crate::lab::notes(&lab.0.path().join("results/logs"))
                    .iter()
                    .any(|line| line.contains("going on after step"))
            );
        }
        outcome(&lab)
    };
    assert!(ended(true) == ended(false));
}

/// Losses of the steps.
fn losses(lab: &Lab) -> Vec<f64> {
    lab.ask::<f64>("SELECT loss FROM curve_points ORDER BY subject, step")
}

#[test]
fn a_job_on_several_devices_goes_the_way_of_one_also_after_a_kill() {
    let one = lab();
    succeeded(&one.with_engine(REAL, &["run", "sweep.toml"]).output().unwrap());
    for (devices, fault) in [("2", None), ("3", None), ("2", Some("kill@step:3"))] {
        let several = lab();
        let mut run = several.with_engine(REAL, &["run", "sweep.toml", "--gpus-per-job", devices]);
        run.envs(fault.map(|fault| ("LORAGRID_FAULT", fault)));
        let mut output = run.output().unwrap();
        if !output.status.success() {
            output = run.output().unwrap();
        }
        succeeded(&output);
        let killed = several.count("SELECT COUNT(*) FROM attempts WHERE outcome = 'requeued'");
        assert_eq!(killed > 0, fault.is_some(), "{devices} devices");
        let (one, several) = (losses(&one), losses(&several));
        assert_eq!(one.len(), several.len());
        for (one, several) in one.iter().zip(&several) {
            assert!((one - several).abs() < 1e-5, "{devices} devices: {several} instead of {one}");
        }
    }
}
