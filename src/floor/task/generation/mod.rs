//! Tasks whose answers are generated: settings, stop texts, filters of answers, and their metrics.

mod answer;
mod filter;
mod multi_choice;
mod settings;
mod stop;

pub use answer::{AnsweredDocument, Generation, ShownAnswer, score_answers, shown_answers};
pub(in crate::task) use answer::{gold_answer, published_value};
pub use filter::{AnswerFilter, FilterStep};
pub use settings::{GenerationSettings, MatchOptions, TaskSampling, UnsupportedSetting, read_gen_kwargs};
pub use stop::{StopWatch, cut_at_stops};
