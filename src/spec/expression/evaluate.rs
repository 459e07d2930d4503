//! Tree + settings → value. Whole numbers stay exact: a division that leaves a rest becomes a float.

use thiserror::Error;

use super::{Expression, Node, Operator};
use crate::job::{Settings, Value, ValueError};

/// Why an expression has no value in a job.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum EvalError {
    /// A key that has no value there.
    #[error("'{0}' has no value")]
    Unset(&'static str),
    /// A key whose value is no number.
    #[error("'{path}' is {found}, not a number")]
    NoNumber {
        /// The key.
        path: &'static str,
        /// Its value in words.
        found: String,
    },
    /// Division by zero.
    #[error("it divides by zero")]
    DivisionByZero,
    /// A result that no number holds.
    #[error("its result is too large")]
    Overflow,
    /// A result that the derived key does not take.
    #[error(transparent)]
    Value(#[from] ValueError),
}

impl Expression {
    /// Its value under these settings. Errors: see [`EvalError`].
    pub fn evaluate(&self, settings: &Settings) -> Result<Value, EvalError> {
        Ok(match self.root.evaluate(settings)? {
            Number::Integer(n) => Value::Integer(n),
            Number::Float(x) => Value::Float(x),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Number {
    Integer(i64),
    Float(f64),
}

impl Number {
    fn as_f64(self) -> f64 {
        match self {
            Self::Integer(n) => n as f64,
            Self::Float(x) => x,
        }
    }
}

impl Node {
    fn evaluate(&self, settings: &Settings) -> Result<Number, EvalError> {
        match self {
            Self::Integer(n) => Ok(Number::Integer(*n)),
            Self::Float(x) => Ok(Number::Float(*x)),
            Self::Key(path) => match settings.get(path).map(|setting| &setting.value) {
                Some(Value::Integer(n)) => Ok(Number::Integer(*n)),
                Some(Value::Float(x)) => Ok(Number::Float(*x)),
                Some(other) => Err(EvalError::NoNumber { path, found: other.describe() }),
                None => Err(EvalError::Unset(path)),
            },
            Self::Negative(node) => match node.evaluate(settings)? {
                Number::Integer(n) => n.checked_neg().map(Number::Integer).ok_or(EvalError::Overflow),
                Number::Float(x) => Ok(Number::Float(-x)),
            },
            Self::Binary { operator, left, right } => {
                combine(*operator, left.evaluate(settings)?, right.evaluate(settings)?)
            }
        }
    }
}

fn combine(operator: Operator, left: Number, right: Number) -> Result<Number, EvalError> {
    if operator == Operator::Divide && right.as_f64() == 0.0 {
        return Err(EvalError::DivisionByZero);
    }
    if let (Number::Integer(a), Number::Integer(b)) = (left, right) {
        let exact = match operator {
            Operator::Add => a.checked_add(b),
            Operator::Subtract => a.checked_sub(b),
            Operator::Multiply => a.checked_mul(b),
            Operator::Divide if a.checked_rem(b) == Some(0) => a.checked_div(b),
            Operator::Divide => return Ok(Number::Float(a as f64 / b as f64)),
        };
        return exact.map(Number::Integer).ok_or(EvalError::Overflow);
    }
    let (a, b) = (left.as_f64(), right.as_f64());
    let result = match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
    };
    if result.is_finite() { Ok(Number::Float(result)) } else { Err(EvalError::Overflow) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Origin, find_key};

    fn value(text: &str) -> Result<Value, EvalError> {
        let mut settings = Settings::new();
        settings.set(find_key("lora.rank").unwrap(), Value::Integer(8), Origin::Default);
        Expression::parse(text).unwrap().evaluate(&settings)
    }

    #[test]
    fn products_bind_tighter_than_sums_and_signs_tighter_still() {
        assert_eq!(value("2 + 3 * lora.rank - -1"), Ok(Value::Integer(27)));
        assert_eq!(value("(2 + 3) * lora.rank"), Ok(Value::Integer(40)));
    }

    #[test]
    fn a_division_is_whole_where_it_can_be() {
        assert_eq!(value("lora.rank / 4"), Ok(Value::Integer(2)));
        assert_eq!(value("lora.rank / 16"), Ok(Value::Float(0.5)));
        assert_eq!(value("lora.rank / 0"), Err(EvalError::DivisionByZero));
        assert_eq!(value("9223372036854775807 + 1"), Err(EvalError::Overflow));
    }

    #[test]
    fn a_key_without_a_value_is_named() {
        assert_eq!(value("lora.alpha"), Err(EvalError::Unset("lora.alpha")));
    }
}
