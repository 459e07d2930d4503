//! [`SweepSpec`] → TOML that parses to the same sweep.

use std::fmt::Write;

use super::slurm::Slurm;
use super::sweep::{KeepAdapters, SampleSpec, SweepSpec};
use crate::job::{Key, Value};

impl SweepSpec {
    /// The sweep as TOML, in a fixed order.
    pub fn to_toml(&self) -> String {
        let mut out = format!("name = {}\n", quoted(self.name.as_str()));
        let set: Vec<(&Key, &Value)> =
            self.settings.iter().map(|(key, setting)| (key, &setting.value)).collect();
        for (key, value) in set.iter().filter(|(key, _)| !key.path.contains('.')) {
            line(&mut out, key.path, value);
        }
        if !self.trains {
            out.push_str("train = false\n");
        }
        for section in ["train", "lora"] {
            let keys: Vec<_> = set
                .iter()
                .filter_map(|(key, value)| Some((key.path.strip_prefix(section)?.strip_prefix('.')?, value)))
                .collect();
            if !keys.is_empty() && (section != "train" || self.trains) {
                let _ = writeln!(out, "\n[{section}]");
                keys.iter().for_each(|(name, value)| line(&mut out, name, value));
            }
        }
        self.print_grid(&mut out);
        self.print_rules(&mut out);
        self.print_options(&mut out);
        out
    }

    fn print_grid(&self, out: &mut String) {
        let list = |values: &[Value]| Value::List(values.to_vec()).to_toml();
        if !self.axes.is_empty() {
            out.push_str("\n[axes]\n");
        }
        for axis in &self.axes {
            let _ = writeln!(out, "{} = {}", quoted(axis.key.path), list(&axis.values));
        }
        for zip in &self.zips {
            let _ = writeln!(out, "\n[zip.{}]", quoted(&zip.name));
            for (key, values) in &zip.columns {
                let _ = writeln!(out, "{} = {}", quoted(key.path), list(values));
            }
        }
    }

    fn print_rules(&self, out: &mut String) {
        if !self.derive.is_empty() {
            out.push_str("\n[derive]\n");
        }
        for derive in &self.derive {
            let _ = writeln!(out, "{} = {}", quoted(derive.key.path), quoted(&derive.text));
        }
        for rule in &self.when {
            let set: Vec<String> = rule
                .set
                .iter()
                .map(|(key, value)| format!("{} = {}", quoted(key.path), value.to_toml()))
                .collect();
            let condition = quoted(&rule.condition.text);
            let _ = writeln!(out, "\n[[when]]\nif = {condition}\nset = {{ {} }}", set.join(", "));
        }
        for rule in &self.exclude {
            let _ = writeln!(out, "\n[[exclude]]\nif = {}", quoted(&rule.text));
        }
    }

    fn print_options(&self, out: &mut String) {
        let adapters = match self.keep.adapters {
            KeepAdapters::All => "all".to_owned(),
            KeepAdapters::None => "none".to_owned(),
            KeepAdapters::Best(n) => format!("best:{n}"),
        };
        let _ = writeln!(out, "\n[keep]\nadapters = {}", quoted(&adapters));
        if let Some(bytes) = self.keep.max_disk {
            let _ = writeln!(out, "max_disk = \"{} B\"", bytes.0);
        }
        let texts = |items: &[String]| {
            Value::List(items.iter().map(|item| Value::from(item.as_str())).collect()).to_toml()
        };
        if let Some(final_eval) = &self.final_eval {
            let _ = writeln!(out, "\n[final]\neval = {}", texts(&final_eval.eval));
        }
        if let Some(SampleSpec { prompts, rows, max_tokens }) = &self.samples {
            let _ = writeln!(out, "\n[samples]\nprompts = {}\nmax_tokens = {max_tokens}", texts(prompts));
            if *rows > 0 {
                let _ = writeln!(out, "rows = {rows}");
            }
        }
        if let Some(notify) = &self.notify {
            out.push_str("\n[notify]\n");
            for (name, text) in [("command", &notify.command), ("webhook_env", &notify.webhook_env)] {
                if let Some(text) = text {
                    let _ = writeln!(out, "{name} = {}", quoted(text));
                }
            }
            if !notify.on.is_empty() {
                let _ = writeln!(out, "on = {}", texts(&notify.on));
            }
        }
        if let Some(track) = &self.track {
            out.push_str("\n[track]\n");
            let entries =
                [("mlflow", &track.mlflow), ("tensorboard", &track.tensorboard), ("trackio", &track.trackio)];
            for (name, text) in entries {
                if let Some(text) = text {
                    let _ = writeln!(out, "{name} = {}", quoted(text));
                }
            }
        }
        if let Some(slurm) = &self.slurm {
            print_slurm(slurm, out);
        }
        if !self.data_sets.is_empty() {
            out.push_str("\n[data_sets]\n");
        }
        for (name, path) in &self.data_sets {
            let _ = writeln!(out, "{} = {}", quoted(name), quoted(&path.to_string_lossy()));
        }
    }
}

fn print_slurm(slurm: &Slurm, out: &mut String) {
    out.push_str("\n[slurm]\n");
    let Slurm { partition, account, qos, time, gres, mem, cpus_per_task, ntasks, array, .. } = slurm;
    let texts = [
        ("partition", partition),
        ("account", account),
        ("qos", qos),
        ("time", time),
        ("gres", gres),
        ("mem", mem),
    ];
    for (name, text) in texts {
        text.iter().for_each(|text| line(out, name, &Value::from(text.as_str())));
    }
    for (name, number) in [("cpus_per_task", cpus_per_task), ("ntasks", ntasks), ("array", array)] {
        number.iter().for_each(|number| line(out, name, &Value::Integer(*number as i64)));
    }
    for (name, lines) in [("setup", &slurm.setup), ("options", &slurm.options)] {
        if !lines.is_empty() {
            line(out, name, &Value::List(lines.iter().map(|text| Value::from(text.as_str())).collect()));
        }
    }
    slurm.resubmit.iter().for_each(|resubmit| line(out, "resubmit", &Value::Bool(*resubmit)));
}

fn line(out: &mut String, name: &str, value: &Value) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{name} = {}", value.to_toml());
}

fn quoted(text: &str) -> String {
    Value::from(text).to_toml()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use crate::job::{KEYS, KeyKind, Value};
    use crate::sweep_file::{SourceText, SweepSpec};

    fn parse(text: &str) -> SweepSpec {
        let parsed = SweepSpec::parse(SourceText::new(Path::new("a.toml"), text));
        parsed.unwrap_or_else(|error| panic!("{error:?}\n{text}"))
    }

    /// The content of a sweep, without line numbers.
    fn content(spec: &SweepSpec) -> String {
        let settings: Vec<String> = spec
            .settings
            .iter()
            .map(|(key, setting)| format!("{}={}", key.path, setting.spelled()))
            .collect();
        let axes: Vec<_> = spec.axes.iter().map(|axis| (axis.key.path, &axis.values)).collect();
        let zips: Vec<_> = spec
            .zips
            .iter()
            .map(|zip| (&zip.name, zip.columns.iter().map(|(k, v)| (k.path, v)).collect::<Vec<_>>()))
            .collect();
        let when: Vec<_> = spec
            .when
            .iter()
            .map(|rule| (&rule.condition.text, rule.set.iter().map(|(k, v)| (k.path, v)).collect::<Vec<_>>()))
            .collect();
        let derive: Vec<_> = spec.derive.iter().map(|derive| (derive.key.path, &derive.text)).collect();
        let exclude: Vec<_> = spec.exclude.iter().map(|rule| &rule.text).collect();
        let rest = (
            &spec.keep,
            &spec.final_eval,
            &spec.notify,
            &spec.track,
            &spec.slurm,
            &spec.data_sets,
            spec.trains,
        );
        format!("{:?}", (&spec.name, settings, axes, zips, when, derive, exclude, rest))
    }

    /// A value of a key, generated from two numbers.
    fn value(kind: KeyKind, a: u64, b: f64) -> Value {
        let pick = |words: &[&str]| words[a as usize % words.len()].to_owned();
        match kind {
            KeyKind::Bool => a.is_multiple_of(2).into(),
            KeyKind::Integer { min, max } => {
                (min + (a % (max.saturating_sub(min) as u64).max(1)) as i64).into()
            }
            KeyKind::Number { min, max, .. } => (min + (max - min) * b).into(),
            KeyKind::Text | KeyKind::Model | KeyKind::Template => Value::Text(format!("t\"'\\ é\n{a}")),
            KeyKind::Choice(words) => Value::Text(pick(words)),
            KeyKind::ChoiceSet(words) => Value::List(vec![Value::Text(pick(words))]),
            KeyKind::TextList | KeyKind::Texts => {
                Value::List(vec![Value::Text(format!("x{a}")), "y, \"z\"".into()])
            }
            KeyKind::Betas => Value::List(vec![(b * 0.9).into(), 0.5.into()]),
            KeyKind::Date => Value::Text(format!("20{:02}-01-31", a % 100)),
        }
    }

    proptest! {
        #[test]
        fn a_printed_sweep_parses_to_the_same_sweep(
            chosen in prop::collection::btree_set(0..KEYS.len(), 0..12),
            numbers in prop::collection::vec((any::<u64>(), 0.001f64..0.999), 12),
            axis in prop::collection::btree_set(1i64..1000, 1..5),
            rule: bool,
        ) {
            let mut text = String::from("name = 'p'\n");
            let mut sections = [String::new(), "\n[train]\n".to_owned(), "\n[lora]\n".to_owned()];
            let taken = ["seed", "lora.alpha", "lora.rank", "train.epochs", "train.momentum", "train.warmup_steps"];
            let mut set = vec!["model", "data"];
            set.extend(chosen.iter().map(|at| KEYS[*at].path).filter(|path| !taken.contains(path) && !["model", "data"].contains(path)));
            for (path, (a, b)) in set.iter().zip(&numbers) {
                let key = crate::job::find_key(path).unwrap();
                let (section, name) = match path.split_once('.') {
                    Some(("train", name)) => (1, name),
                    Some((_, name)) => (2, name),
                    None => (0, *path),
                };
                sections[section].push_str(&format!("{name} = {}\n", value(key.kind, *a, *b).to_toml()));
            }
            text.push_str(&sections.concat());
            let list = axis.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
            text.push_str(&format!("\n[axes]\nseed = [{list}]\n\n[derive]\n'lora.alpha' = '2 * lora.rank'\n"));
            if rule {
                text.push_str("[zip.z]\n'lora.rank' = [1, 2]\n'train.warmup_steps' = [3, 4]\n[[when]]\nif = \"seed > 3 && train.loss == 'token'\"\n\
                               set = { 'train.momentum' = 0.5 }\n[[exclude]]\nif = 'seed in [1, 2]'\n[keep]\nadapters = 'best:3'\nmax_disk = '1.5 GB'\n\
                               [final]\neval = ['a']\n[samples]\nprompts = ['Say x']\nrows = 2\n[notify]\ncommand = 'x \"y\"'\non = ['done']\n[track]\nmlflow = 'http://h:5000'\ntensorboard = 'runs'\ntrackio = 'p'\n[slurm]\npartition = 'gpu'\ntime = '8:00:00'\nntasks = 4\nsetup = ['module load cuda']\nresubmit = true\n[data_sets]\n'a/b' = 'c d.csv'\n");
            }
            let first = parse(&text);
            let second = parse(&first.to_toml());
            prop_assert_eq!(content(&first), content(&second));
            prop_assert_eq!(first.to_toml(), second.to_toml());
        }
    }
}
