//! `[slurm]`.

use std::ops::Range;

use toml::de::DeTable;

use super::{Item, Parser};
use crate::sweep_file::slurm::{KEYS, Slurm};

impl Parser<'_> {
    pub(super) fn read_slurm(&mut self, table: &DeTable<'_>, span: Range<usize>) {
        let mut slurm = Slurm::default();
        let mut places: Vec<(String, Range<usize>)> = Vec::new();
        for (name, item) in table {
            let key = name.get_ref().as_ref();
            let path = format!("slurm.{key}");
            places.push((key.to_owned(), item.span()));
            match key {
                "partition" => slurm.partition = self.text(&path, item),
                "account" => slurm.account = self.text(&path, item),
                "qos" => slurm.qos = self.text(&path, item),
                "time" => slurm.time = self.text(&path, item),
                "gres" => slurm.gres = self.text(&path, item),
                "mem" => slurm.mem = self.text(&path, item),
                "cpus_per_task" => slurm.cpus_per_task = self.count(&path, item),
                "ntasks" => slurm.ntasks = self.count(&path, item),
                "array" => slurm.array = self.count(&path, item),
                "setup" => slurm.setup = self.texts(&path, item).unwrap_or_default(),
                "options" => slurm.options = self.texts(&path, item).unwrap_or_default(),
                "resubmit" => slurm.resubmit = self.flag(&path, item),
                _ => self.unknown(name, "slurm", &KEYS),
            }
        }
        if let Some((key, wanted)) = slurm.problem() {
            let place = places.iter().find(|(known, _)| known == key).map_or(span, |(_, span)| span.clone());
            self.form(&format!("slurm.{key}"), "not valid", wanted, place);
        }
        self.slurm = Some(slurm);
    }

    /// True or false, or a problem.
    fn flag(&mut self, path: &str, item: &Item<'_>) -> Option<bool> {
        let flag = item.get_ref().as_bool();
        if flag.is_none() {
            self.form(path, "not a boolean", "true or false", item.span());
        }
        flag
    }
}
