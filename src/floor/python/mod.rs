//! Python behavior that task files and chat templates rely on: literals, printing of values, random numbers,
//! whitespace.

mod literal;
mod random;
mod regex;
mod repr;
mod space;

pub use literal::{parse_literal, parse_with_tuples};
pub use random::PythonRandom;
pub use regex::{Found, PythonRegex, escaped};
pub use repr::{python_float, python_quoted, python_repr, python_str};
pub use space::{is_space, pieces};
