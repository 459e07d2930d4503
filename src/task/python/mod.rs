//! What of Python task files rely on: its literals, its spelling of values, its random numbers.

mod literal;
mod random;
mod repr;

pub use literal::parse_literal;
pub use random::PythonRandom;
pub use repr::{python_repr, python_str};
