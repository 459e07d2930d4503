//! What task files and chat templates rely on of Python: its literals, its spelling of values, its random numbers, its white
//! space.

mod literal;
mod random;
mod repr;
mod space;

pub use literal::parse_literal;
pub use random::PythonRandom;
pub use repr::{python_float, python_quoted, python_repr, python_str};
pub use space::{is_space, pieces};
