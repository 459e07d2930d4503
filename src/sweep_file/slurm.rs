//! `[slurm]`: how the jobs of a sweep ask a Slurm cluster for machines.

use serde::{Deserialize, Serialize};

/// What a batch script asks for, in a sweep file or in `loragrid.toml`. What is not set is the cluster's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Slurm {
    /// The partition.
    pub partition: Option<String>,
    /// The account that is charged.
    pub account: Option<String>,
    /// The quality of service.
    pub qos: Option<String>,
    /// The time limit: minutes, `HH:MM:SS` or `D-HH:MM:SS`.
    pub time: Option<String>,
    /// Generic resources of each task, such as `gpu:1` or `gpu:a100:1`.
    pub gres: Option<String>,
    /// CPU cores of each task.
    pub cpus_per_task: Option<u64>,
    /// Memory of each node, such as `64G`.
    pub mem: Option<String>,
    /// Engines, each a task of one allocation with `gres` of its own.
    pub ntasks: Option<u64>,
    /// Workers, each a job of an array.
    pub array: Option<u64>,
    /// Shell lines before the worker, such as `module load cuda`.
    #[serde(default)]
    pub setup: Vec<String>,
    /// Further options of `sbatch`, such as `--constraint=h100`.
    #[serde(default)]
    pub options: Vec<String>,
    /// Whether the job queues itself again when its time is up and jobs are left.
    pub resubmit: Option<bool>,
}

/// Keys of `[slurm]`.
pub(in crate::sweep_file) const KEYS: [&str; 12] = [
    "partition",
    "account",
    "qos",
    "time",
    "gres",
    "cpus_per_task",
    "mem",
    "ntasks",
    "array",
    "setup",
    "options",
    "resubmit",
];

/// How many tasks or array jobs may be asked for.
const COUNT: std::ops::RangeInclusive<u64> = 1..=4096;

impl Slurm {
    /// The first key whose value no batch script can hold, with what is expected instead.
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        let Self { partition, account, qos, time, gres, mem, cpus_per_task, ntasks, array, .. } = self;
        let texts =
            [("partition", partition), ("account", account), ("qos", qos), ("gres", gres), ("mem", mem)];
        let word = texts.into_iter().find(|(_, text)| text.as_ref().is_some_and(|text| !is_word(text)));
        let count = [("cpus_per_task", cpus_per_task), ("ntasks", ntasks), ("array", array)];
        let count = count.into_iter().find(|(_, n)| n.is_some_and(|n| !COUNT.contains(&n)));
        let line = |text: &String| text.chars().any(char::is_control) || text.trim().is_empty();
        if let Some((key, _)) = word {
            Some((key, "a word without spaces"))
        } else if time.as_ref().is_some_and(|time| !is_time(time)) {
            Some(("time", "minutes, HH:MM:SS or D-HH:MM:SS"))
        } else if let Some((key, _)) = count {
            Some((key, "a whole number from 1 to 4096"))
        } else if self.setup.iter().any(line) {
            Some(("setup", "one shell line in each string"))
        } else if self.options.iter().any(|option| !is_word(option) || !option.starts_with('-')) {
            Some(("options", "options of sbatch without spaces, such as \"--constraint=h100\""))
        } else if ntasks.is_some() && array.is_some() {
            Some(("array", "either ntasks, engines of one worker, or array, workers of their own"))
        } else {
            None
        }
    }

    /// These settings, with `base` for what they leave out.
    #[must_use]
    pub fn over(self, base: Self) -> Self {
        Self {
            partition: self.partition.or(base.partition),
            account: self.account.or(base.account),
            qos: self.qos.or(base.qos),
            time: self.time.or(base.time),
            gres: self.gres.or(base.gres),
            cpus_per_task: self.cpus_per_task.or(base.cpus_per_task),
            mem: self.mem.or(base.mem),
            // Both say how many there are.
            ntasks: if self.array.is_some() { self.ntasks } else { self.ntasks.or(base.ntasks) },
            array: if self.ntasks.is_some() { self.array } else { self.array.or(base.array) },
            setup: if self.setup.is_empty() { base.setup } else { self.setup },
            options: if self.options.is_empty() { base.options } else { self.options },
            resubmit: self.resubmit.or(base.resubmit),
        }
    }
}

/// Whether a text is one word of a batch script's option.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !"\"'\\`$#".contains(c))
}

/// Whether a text is a time as Slurm reads it: `M`, `M:S`, `H:M:S`, `D-H`, `D-H:M` or `D-H:M:S`.
fn is_time(text: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.len() <= 6 && part.bytes().all(|b| b.is_ascii_digit());
    let (days, rest) = text.split_once('-').map_or((None, text), |(days, rest)| (Some(days), rest));
    days.is_none_or(number) && rest.split(':').count() <= 3 && rest.split(':').all(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_that_slurm_reads() {
        for time in ["90", "90:30", "8:00:00", "2-0", "2-12:30", "1-00:00:00"] {
            assert!(is_time(time), "{time}");
        }
        for time in ["", "8h", "1-", "1:2:3:4", "-5", "1-2-3", "1:"] {
            assert!(!is_time(time), "{time}");
        }
    }

    #[test]
    fn nothing_that_ends_a_line_or_quotes_gets_into_a_script() {
        let of = |text: &str| Slurm { partition: Some(text.to_owned()), ..Slurm::default() }.problem();
        assert_eq!(of("gpu"), None);
        for text in ["gpu\nrm", "a b", "a;b\u{7}", "$(id)", "`id`", "'", ""] {
            assert_eq!(of(text).map(|(key, _)| key), Some("partition"), "{text:?}");
        }
        let setup = Slurm { setup: vec!["module load cuda\nrm".to_owned()], ..Slurm::default() };
        assert_eq!(setup.problem().map(|(key, _)| key), Some("setup"));
    }

    #[test]
    fn a_sweeps_settings_are_laid_over_those_of_the_project() {
        let project = Slurm { partition: Some("a".into()), array: Some(4), ..Slurm::default() };
        let sweep = Slurm { partition: Some("b".into()), ntasks: Some(2), ..Slurm::default() };
        let both = sweep.over(project.clone());
        assert_eq!((both.partition.as_deref(), both.ntasks, both.array), (Some("b"), Some(2), None));
        assert_eq!(Slurm::default().over(project.clone()), project);
    }
}
