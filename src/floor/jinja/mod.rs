//! Jinja as in Python: values print as in Python, strings have Python's methods, tuples are not lists. Task files and
//! chat templates are rendered in this module's environments.

mod data;
mod environment;
mod filters;
mod generation;
mod json;
mod methods;
mod spelling;
mod tuple;

pub use data::data;
pub use environment::{TemplateDate, chat_environment, task_environment};
pub use generation::{Generated, without_generation_tags};
pub use tuple::with_tuples;
