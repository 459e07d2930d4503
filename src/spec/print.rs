//! [`SweepSpec`] → TOML: a text that parses to the same sweep.

use std::fmt::Write;

use super::sweep::{KeepAdapters, SweepSpec};
use crate::job::{Key, Value};

impl SweepSpec {
    /// The sweep as TOML, everything in one order.
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
        if !self.data_sets.is_empty() {
            out.push_str("\n[data_sets]\n");
        }
        for (name, path) in &self.data_sets {
            let _ = writeln!(out, "{} = {}", quoted(name), quoted(&path.to_string_lossy()));
        }
    }
}

fn line(out: &mut String, name: &str, value: &Value) {
    // Writing to a text cannot fail.
    let _ = writeln!(out, "{name} = {}", value.to_toml());
}

fn quoted(text: &str) -> String {
    Value::from(text).to_toml()
}
