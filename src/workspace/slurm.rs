//! Batch scripts for Slurm: a worker in an allocation, which starts an engine as a step for each task, or an array of workers.

use std::fmt::Write;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use thiserror::Error;

use crate::store::ServerAddress;
use crate::sweep_file::Slurm;

/// Seconds before the end of an allocation in which Slurm signals a worker that did not stop by itself.
pub const SIGNAL_BEFORE_END: u64 = 120;

/// Lines that tell the worker the end of its allocation where Slurm's environment does not: releases before 23.02.
const END_TIME: &str = "\
if [ -z \"$SLURM_JOB_END_TIME\" ] && end=$(squeue --noheader --jobs \"$SLURM_JOB_ID\" --format=%e 2>/dev/null); then
    SLURM_JOB_END_TIME=$(date --date=\"$end\" +%s 2>/dev/null) && export SLURM_JOB_END_TIME
fi
";

/// A batch script of a sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchScript {
    /// The sweep's name, in that of the Slurm job.
    pub sweep: String,
    /// What is asked for.
    pub slurm: Slurm,
    /// The program that works.
    pub program: PathBuf,
    /// The database, as the worker is told of it.
    pub db: String,
    /// Its folder of results.
    pub results: PathBuf,
    /// Its object store, where it has one.
    pub artifacts: Option<String>,
    /// Its devices, as named for the submission.
    pub devices: String,
    /// GPUs that train a pack of jobs together.
    pub gpus_per_job: usize,
    /// The engine, where it is named.
    pub engine: Option<PathBuf>,
    /// The folder that the job starts in.
    pub folder: PathBuf,
    /// The exit code of a worker whose time is up.
    pub time_up: u8,
}

/// Why a batch script was not taken.
#[derive(Debug, Error)]
pub enum SlurmError {
    /// `sbatch` cannot be started.
    #[error("sbatch cannot be started: {0}")]
    Start(std::io::Error),
    /// Slurm refuses it.
    #[error("sbatch refuses the job: {0}")]
    Refused(String),
}

impl BatchScript {
    /// The script, for bash. Every value is checked where it is read (see [`Slurm::problem`]), and paths are quoted.
    pub fn text(&self) -> String {
        let mut out = "#!/bin/bash\n".to_owned();
        for option in self.options() {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "#SBATCH {option}");
        }
        out.push('\n');
        for line in &self.slurm.setup {
            let _ = writeln!(out, "{line}");
        }
        out.push_str(END_TIME);
        let _ = write!(
            out,
            "# Slurm signals this shell alone, which tells the worker: jobs write a checkpoint and are queued again.\n\
             time_is_up=0\n\
             trap 'kill -TERM \"$worker\" 2>/dev/null' TERM\n\
             trap 'time_is_up=1; kill -TERM \"$worker\" 2>/dev/null' USR1\n\
             {} &\n\
             worker=$!\n\
             wait \"$worker\"; code=$?\n\
             # A signal ends the wait, not the worker.\n\
             while kill -0 \"$worker\" 2>/dev/null; do wait \"$worker\"; code=$?; done\n",
            self.worker()
        );
        if self.slurm.resubmit == Some(true) {
            let _ = write!(
                out,
                "# The time is up, and jobs are left.\n\
                 if [ \"$code\" -eq {} ] || {{ [ \"$time_is_up\" -eq 1 ] && [ \"$code\" -ne 0 ]; }}; then\n    \
                 scontrol requeue \"$SLURM_JOB_ID\"\n\
                 fi\n",
                self.time_up
            );
        }
        out.push_str("exit \"$code\"\n");
        out
    }

    fn options(&self) -> Vec<String> {
        let Slurm { partition, account, qos, time, gres, cpus_per_task, mem, ntasks, array, .. } =
            &self.slurm;
        let logs = self.results.join("logs");
        let name = if array.is_some() { "slurm-%A_%a.log" } else { "slurm-%j.log" };
        let mut options = vec![
            format!("--job-name=loragrid-{}", self.sweep),
            format!("--chdir={}", escaped(&self.folder)),
            // `%` begins a pattern there.
            format!("--output={}/{name}", escaped(&logs).replace('%', "%%")),
            // What an earlier run of the same Slurm job wrote stays.
            "--open-mode=append".to_owned(),
            "--requeue".to_owned(),
            format!("--signal=B:USR1@{SIGNAL_BEFORE_END}"),
        ];
        let texts =
            [("partition", partition), ("account", account), ("qos", qos), ("time", time), ("mem", mem)];
        options.extend(texts.iter().filter_map(|(name, text)| Some(format!("--{name}={}", text.as_ref()?))));
        let numbers = [("ntasks", ntasks), ("cpus-per-task", cpus_per_task)];
        options.extend(numbers.iter().filter_map(|(name, n)| Some(format!("--{name}={}", n.as_ref()?))));
        match (gres, self.gpus_per_task()) {
            (Some(_), Some(gpus)) => options.push(format!("--gpus-per-task={gpus}")),
            (Some(gres), None) => options.push(format!("--gres={gres}")),
            (None, _) => {}
        }
        options.extend(array.map(|workers| format!("--array=0-{}", workers - 1)));
        options.extend(self.slurm.options.iter().cloned());
        options
    }

    /// GPUs of each task, where an allocation has several tasks: `--gres` counts those of a node.
    fn gpus_per_task(&self) -> Option<&str> {
        let gres = self.slurm.gres.as_deref()?;
        self.slurm.ntasks.filter(|tasks| *tasks > 1)?;
        if gres == "gpu" { Some("1") } else { gres.strip_prefix("gpu:") }
    }

    fn worker(&self) -> String {
        let mut words = vec![
            quoted(&self.program.to_string_lossy()),
            "work".to_owned(),
            "--db".to_owned(),
            quoted(&self.db),
        ];
        if ServerAddress::is_meant(&self.db) {
            words.extend(["--results".to_owned(), quoted(&self.results.to_string_lossy())]);
        }
        if let Some(artifacts) = &self.artifacts {
            words.extend(["--artifacts".to_owned(), quoted(artifacts)]);
        }
        if self.devices != "auto" {
            words.extend(["--devices".to_owned(), quoted(&self.devices)]);
        }
        if self.gpus_per_job > 1 {
            words.extend(["--gpus-per-job".to_owned(), self.gpus_per_job.to_string()]);
        }
        if let Some(engine) = &self.engine {
            words.extend(["--engine".to_owned(), quoted(&engine.to_string_lossy())]);
        }
        if let Some(tasks) = self.slurm.ntasks.filter(|tasks| *tasks > 1) {
            let mut step = "srun --nodes=1 --ntasks=1 --exact --mem=0".to_owned();
            let gres = self.slurm.gres.iter().map(|gres| format!(" --gres={gres}"));
            let cores = self.slurm.cpus_per_task.iter().map(|cores| format!(" --cpus-per-task={cores}"));
            step.extend(gres.chain(cores));
            words.extend(["--launcher".to_owned(), quoted(&step), "--slots".to_owned(), tasks.to_string()]);
        }
        words.join(" ")
    }
}

/// Sends a script to Slurm; returns the job's id. Errors: see [`SlurmError`].
pub fn send_batch(script: &str) -> Result<String, SlurmError> {
    let mut command = Command::new("sbatch");
    command.arg("--parsable").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(SlurmError::Start)?;
    if let Some(mut input) = child.stdin.take() {
        // A program that reads nothing says why on standard error.
        let _ = input.write_all(script.as_bytes());
    }
    let output = child.wait_with_output().map_err(SlurmError::Start)?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(SlurmError::Refused(reason));
    }
    // `ID` or `ID;CLUSTER`.
    let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(answer.split(';').next().unwrap_or_default().to_owned())
}

/// A word for bash.
fn quoted(text: &str) -> String {
    // Only a zero byte has no quoted form, and no argument of a program holds one.
    shlex::try_quote(text).map_or_else(|_| String::new(), std::borrow::Cow::into_owned)
}

/// A path in an option of a script, where a backslash keeps what would end the word.
fn escaped(path: &Path) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=@,:%".contains(c);
    let keep = |c: char| if is_plain(c) { c.to_string() } else { format!("\\{c}") };
    path.to_string_lossy().chars().map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(slurm: Slurm) -> BatchScript {
        BatchScript {
            sweep: "ranks".to_owned(),
            slurm,
            program: "/opt/bin/loragrid".into(),
            db: "/data/my runs/loragrid.db".into(),
            results: "/data/my runs".into(),
            artifacts: None,
            gpus_per_job: 1,
            devices: "cuda".to_owned(),
            engine: None,
            folder: "/home/a".into(),
            time_up: 15,
        }
    }

    #[test]
    fn an_allocation_with_several_tasks_has_one_worker_that_starts_a_step_for_each() {
        let slurm = Slurm {
            partition: Some("gpu".into()),
            time: Some("8:00:00".into()),
            gres: Some("gpu:a100:1".into()),
            cpus_per_task: Some(8),
            ntasks: Some(4),
            setup: vec!["module load cuda".into()],
            resubmit: Some(true),
            ..Slurm::default()
        };
        insta::assert_snapshot!(script(slurm).text());
    }

    #[test]
    fn an_array_has_a_worker_in_each_of_its_jobs() {
        let slurm = Slurm {
            gres: Some("gpu:1".into()),
            array: Some(3),
            options: vec!["--constraint=h100".into()],
            ..Slurm::default()
        };
        insta::assert_snapshot!(script(slurm).text());
    }

    #[test]
    fn a_path_cannot_leave_its_quotes() {
        let folders =
            BatchScript { folder: "/a b#c\"d".into(), results: "/100%".into(), ..script(Slurm::default()) };
        let options = folders.options();
        assert!(options.contains(&"--chdir=/a\\ b\\#c\\\"d".to_owned()), "{options:?}");
        assert!(options.contains(&"--output=/100%%/logs/slurm-%j.log".to_owned()), "{options:?}");
        let odd = BatchScript { db: "/data/a'$(id)/l.db".into(), ..script(Slurm::default()) };
        let worker = shlex::split(&odd.worker()).unwrap();
        assert_eq!(worker[1..4], ["work", "--db", "/data/a'$(id)/l.db"]);
    }
}
