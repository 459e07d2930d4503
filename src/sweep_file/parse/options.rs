//! `[keep]`, `[final]`, `[samples]`, `[notify]`, `[track]` and `[data_sets]`.

use std::ops::Range;
use std::path::PathBuf;

use toml::de::DeTable;

use super::{Item, Name, Parser};
use crate::job::Bytes;
use crate::sweep_file::error::Problem;
use crate::sweep_file::sweep::{FinalEval, KeepAdapters, Notify, SampleSpec, Track};

/// Events accepted in `[notify]`.
pub(in crate::sweep_file) const EVENTS: &[&str] = &["started", "done", "failed", "diverged", "stopped"];

/// Default for the most tokens per answer.
const SAMPLE_TOKENS: u64 = 64;

impl Parser<'_> {
    pub(super) fn unknown(&mut self, name: &Name<'_>, section: &str, known: &[&str]) {
        let near = |word: &&&str| strsim::damerau_levenshtein(word, name.get_ref()) <= 2;
        let nearest = known.iter().find(near).map(|word| format!("{section}.{word}"));
        let path = format!("{section}.{}", name.get_ref());
        self.problem(Problem::UnknownKey { path, nearest }, name.span());
    }

    pub(super) fn read_keep(&mut self, table: &DeTable<'_>) {
        for (name, item) in table {
            match name.get_ref().as_ref() {
                "adapters" => {
                    let Some(text) = self.text("keep.adapters", item) else { continue };
                    match keep_adapters(&text) {
                        Some(adapters) => self.keep.adapters = adapters,
                        None => self.form(
                            "keep.adapters",
                            "no rule",
                            "\"all\", \"none\" or \"best:5\"",
                            item.span(),
                        ),
                    }
                }
                "max_disk" => {
                    let Some(text) = self.text("keep.max_disk", item) else { continue };
                    match size(&text) {
                        Some(bytes) => self.keep.max_disk = Some(bytes),
                        None => self.form(
                            "keep.max_disk",
                            "no size",
                            "a size such as \"50 GB\" or \"800 MB\"",
                            item.span(),
                        ),
                    }
                }
                _ => self.unknown(name, "keep", &["adapters", "max_disk"]),
            }
        }
    }

    pub(super) fn read_final(&mut self, table: &DeTable<'_>, span: Range<usize>) {
        for (name, item) in table {
            match name.get_ref().as_ref() {
                "eval" => {
                    if let Some(eval) = self.texts("final.eval", item) {
                        self.final_eval = Some(FinalEval { eval });
                    }
                }
                _ => self.unknown(name, "final", &["eval"]),
            }
        }
        if self.final_eval.is_none() && table.is_empty() {
            self.problem(Problem::Missing { path: "final.eval".to_owned() }, span);
        }
    }

    pub(super) fn read_samples(&mut self, table: &DeTable<'_>, span: Range<usize>) {
        let mut samples = SampleSpec { prompts: Vec::new(), rows: 0, max_tokens: SAMPLE_TOKENS };
        for (name, item) in table {
            match name.get_ref().as_ref() {
                "prompts" => samples.prompts = self.texts("samples.prompts", item).unwrap_or_default(),
                "rows" => samples.rows = self.count("samples.rows", item).unwrap_or_default(),
                "max_tokens" => {
                    samples.max_tokens = self.count("samples.max_tokens", item).unwrap_or(SAMPLE_TOKENS);
                }
                _ => self.unknown(name, "samples", &["prompts", "rows", "max_tokens"]),
            }
        }
        if samples.prompts.is_empty() && samples.rows == 0 {
            self.problem(Problem::Missing { path: "samples.prompts".to_owned() }, span);
        }
        self.samples = Some(samples);
    }

    /// An integer from 1 to 4096, or a problem.
    pub(super) fn count(&mut self, path: &str, item: &Item<'_>) -> Option<u64> {
        let number = item.get_ref().as_integer().and_then(|number| number.to_string().parse().ok());
        let number = number.filter(|number| (1..=4096).contains(number));
        if number.is_none() {
            self.form(path, "no such number", "a whole number from 1 to 4096", item.span());
        }
        number
    }

    pub(super) fn read_notify(&mut self, table: &DeTable<'_>) {
        let mut notify = Notify { command: None, webhook_env: None, on: Vec::new() };
        for (name, item) in table {
            match name.get_ref().as_ref() {
                "command" => notify.command = self.text("notify.command", item),
                "webhook_env" => notify.webhook_env = self.variable(item),
                "on" => notify.on = self.events(item),
                "webhook" => {
                    let wanted = "the name of an environment variable as webhook_env; secrets do not belong in the file";
                    self.form("notify.webhook", "a secret", wanted, name.span());
                    self.secrets.push(item.span());
                }
                _ => self.unknown(name, "notify", &["command", "webhook_env", "on"]),
            }
        }
        self.notify = Some(notify);
    }

    pub(super) fn read_track(&mut self, table: &DeTable<'_>) {
        let mut track = Track::default();
        for (name, item) in table {
            match name.get_ref().as_ref() {
                "mlflow" => track.mlflow = self.address("track.mlflow", item),
                "tensorboard" => track.tensorboard = self.text("track.tensorboard", item),
                "trackio" => track.trackio = self.text("track.trackio", item),
                _ => self.unknown(name, "track", &["mlflow", "tensorboard", "trackio"]),
            }
        }
        self.track = Some(track);
    }

    /// An address of a server, without a name and a password.
    fn address(&mut self, path: &str, item: &Item<'_>) -> Option<String> {
        let text = self.text(path, item)?;
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
        if host.contains('@') {
            let wanted = "an address without a password; secrets come from the environment, such as MLFLOW_TRACKING_TOKEN";
            self.form(path, "a secret", wanted, item.span());
            self.secrets.push(item.span());
            return None;
        }
        if host.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            self.form(path, "no address", "an address such as http://127.0.0.1:5000", item.span());
            return None;
        }
        Some(text)
    }

    /// The name of an environment variable, never a URL.
    fn variable(&mut self, item: &Item<'_>) -> Option<String> {
        let text = self.text("notify.webhook_env", item)?;
        let good = text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        if !good {
            let wanted = "the name of an environment variable, such as SLACK_URL";
            self.form("notify.webhook_env", "no variable's name", wanted, item.span());
            // It may be the URL itself.
            self.secrets.push(item.span());
        }
        good.then_some(text)
    }

    fn events(&mut self, item: &Item<'_>) -> Vec<String> {
        let events = self.texts("notify.on", item).unwrap_or_default();
        if events.iter().any(|event| !EVENTS.contains(&event.as_str())) {
            let wanted = "events out of started, done, failed, diverged, stopped";
            self.form("notify.on", "no list of events", wanted, item.span());
        }
        events
    }

    pub(super) fn read_data_sets(&mut self, table: &DeTable<'_>) {
        for (name, item) in table {
            if let Some(path) = self.text(&format!("data_sets.{}", name.get_ref()), item) {
                self.data_sets.insert(name.get_ref().to_string(), PathBuf::from(path));
            }
        }
    }
}

fn keep_adapters(text: &str) -> Option<KeepAdapters> {
    match text {
        "all" => Some(KeepAdapters::All),
        "none" => Some(KeepAdapters::None),
        _ => text.strip_prefix("best:")?.parse().ok().filter(|n| *n > 0).map(KeepAdapters::Best),
    }
}

/// A size such as `50 GB`: an integer or decimal number with a unit of 10³ⁿ bytes.
fn size(text: &str) -> Option<Bytes> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let number: f64 = text[..unit_at].trim().parse().ok()?;
    let unit = match &text[unit_at..] {
        "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        _ => return None,
    };
    let bytes = number * unit;
    (bytes.is_finite() && (0.0..1e18).contains(&bytes)).then_some(Bytes(bytes as u64))
}
