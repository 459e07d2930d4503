//! Supported Python functions of task files. No Python is run: a function is recognized from its source, by one of
//! three exact patterns or as a known published one, and reimplemented here; any other is rejected by name.

mod native;
mod pattern;
mod wikitext;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

pub use native::{FieldFunction, Native, ResultsFunction, RowFunction};
pub use pattern::RowFilter;

use crate::data::Row;
use crate::task::dialect::yaml::Function;
use crate::task::published::{Module, Recognized};

/// A supported function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownFunction {
    /// Filters rows.
    Filter(RowFilter),
    /// The F1 of each class, weighted by the class's frequency in the golds.
    WeightedF1,
    /// A published function.
    Native(Native),
    /// A published function with what it takes from its module.
    Published(Recognized),
}

/// Reads modules with functions, each once.
#[derive(Debug, Default)]
pub struct Modules {
    texts: Mutex<HashMap<PathBuf, Option<Arc<str>>>>,
}

impl Modules {
    /// A function, if it is known.
    pub(in crate::task) fn recognize(&self, function: &Function) -> Option<KnownFunction> {
        let (module, name) = function.name.rsplit_once('.')?;
        // Shipped task files have no Python files: they name the function directly.
        if module == "native" {
            return serde_json::from_value(name.into()).ok().map(KnownFunction::Native);
        }
        if module == "published" {
            let answered = serde_json::from_value(name.into()).ok()?;
            return Some(KnownFunction::Published(Recognized { answered, constants: Row::new() }));
        }
        let text = self.text(&function.folder.join(module.replace('.', "/")).with_extension("py"))?;
        if let Some(native) = Native::recognize(&text, name) {
            return Some(KnownFunction::Native(native));
        }
        if pattern::is_weighted_f1(&text, name) {
            return Some(KnownFunction::WeightedF1);
        }
        if let Some(filter) = pattern::row_filter(&text, name) {
            return Some(KnownFunction::Filter(filter));
        }
        let named = function.folder.file_name().unwrap_or_default().to_string_lossy();
        let beside = |path: &str| self.text(&function.folder.join(path)).map(|text| text.to_string());
        let module = Module { source: &text, folder: &named, beside: &beside };
        module.recognize(name).map(KnownFunction::Published)
    }

    fn text(&self, path: &Path) -> Option<Arc<str>> {
        let mut texts = self.texts.lock().ok()?;
        let read = || std::fs::read_to_string(path).ok().map(Arc::from);
        texts.entry(path.to_owned()).or_insert_with(read).clone()
    }
}
