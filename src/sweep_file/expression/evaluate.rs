//! Tree + settings → value.

use std::cmp::Ordering;

use thiserror::Error;

use super::Expression;
use super::exact::Exact;
use super::tree::{Node, Operator};
use crate::job::{Settings, Value, ValueError};

/// Why an expression has no value in a job.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum EvalError {
    /// A key without a value there.
    #[error("'{0}' has no value in this cell")]
    Unset(String),
    /// Division by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// The result is out of range.
    #[error("the result is too large")]
    Overflow,
    /// A result that the derived key does not accept.
    #[error(transparent)]
    Value(#[from] ValueError),
}

/// The values of an expression's names.
pub trait Scope {
    /// A key's value, if it has one.
    fn setting(&self, path: &str) -> Option<&Value>;

    /// A score, by its name in the expression; none if it is missing or not finite.
    fn score(&self, name: &str) -> Option<f64>;
}

impl Scope for Settings {
    fn setting(&self, path: &str) -> Option<&Value> {
        self.value(path)
    }

    fn score(&self, _: &str) -> Option<f64> {
        None
    }
}

/// An intermediate value.
enum Operand {
    Number(Exact),
    Other(Value),
}

impl Expression {
    /// Its value in a scope. Errors: see [`EvalError`].
    pub fn evaluate(&self, settings: &dyn Scope) -> Result<Value, EvalError> {
        match self.root.evaluate(settings)? {
            Operand::Number(number) => number.to_value().ok_or(EvalError::Overflow),
            Operand::Other(value) => Ok(value),
        }
    }

    /// Its truth value, for an expression of type [`crate::job::ValueType::Bool`]. Errors: as [`Expression::evaluate`].
    pub fn holds(&self, settings: &dyn Scope) -> Result<bool, EvalError> {
        Ok(self.evaluate(settings)? == Value::Bool(true))
    }
}

impl Node {
    fn evaluate(&self, settings: &dyn Scope) -> Result<Operand, EvalError> {
        match self {
            Self::Number(number) => Ok(Operand::Number(*number)),
            Self::Text(text) => Ok(Operand::Other(Value::Text(text.clone()))),
            Self::Bool(value) => Ok(Operand::Other(Value::Bool(*value))),
            Self::Score(name) => {
                let value = settings.score(name).filter(|value| value.is_finite());
                let value = value.ok_or_else(|| EvalError::Unset(name.clone()))?;
                Exact::of(&Value::Float(value)).map(Operand::Number).ok_or(EvalError::Overflow)
            }
            Self::Key(path) => match settings.setting(path) {
                None => Err(EvalError::Unset((*path).to_owned())),
                Some(value @ (Value::Integer(_) | Value::Float(_))) => {
                    Exact::of(value).map(Operand::Number).ok_or(EvalError::Overflow)
                }
                Some(value) => Ok(Operand::Other(value.clone())),
            },
            Self::List(items) => {
                let values = items.iter().map(|item| item.value(settings)).collect::<Result<_, _>>()?;
                Ok(Operand::Other(Value::List(values)))
            }
            Self::Negative(node) => {
                node.number(settings)?.negate().map(Operand::Number).ok_or(EvalError::Overflow)
            }
            Self::Not(node) => Ok(Operand::Other(Value::Bool(!node.truth(settings)?))),
            Self::Binary { operator, left, right } => binary(*operator, left, right, settings),
        }
    }

    fn value(&self, settings: &dyn Scope) -> Result<Value, EvalError> {
        match self.evaluate(settings)? {
            Operand::Number(number) => number.to_value().ok_or(EvalError::Overflow),
            Operand::Other(value) => Ok(value),
        }
    }

    /// Types were checked: an operand that is not a number here is missing.
    fn number(&self, settings: &dyn Scope) -> Result<Exact, EvalError> {
        match self.evaluate(settings)? {
            Operand::Number(number) => Ok(number),
            Operand::Other(_) => Err(EvalError::Overflow),
        }
    }

    fn truth(&self, settings: &dyn Scope) -> Result<bool, EvalError> {
        Ok(self.value(settings)? == Value::Bool(true))
    }
}

fn binary(operator: Operator, left: &Node, right: &Node, settings: &dyn Scope) -> Result<Operand, EvalError> {
    use Operator::*;
    let truth = |truth: bool| Ok(Operand::Other(Value::Bool(truth)));
    match operator {
        Or => truth(left.truth(settings)? || right.truth(settings)?),
        And => truth(left.truth(settings)? && right.truth(settings)?),
        Equal => truth(equal(&left.evaluate(settings)?, &right.evaluate(settings)?)?),
        Unequal => truth(!equal(&left.evaluate(settings)?, &right.evaluate(settings)?)?),
        In => {
            let Value::List(items) = right.value(settings)? else { return truth(false) };
            let wanted = left.value(settings)?;
            truth(items.iter().any(|item| *item == wanted || numbers_equal(item, &wanted)))
        }
        Less | LessOrEqual | Greater | GreaterOrEqual => {
            let order = left.number(settings)?.compare(right.number(settings)?);
            truth(match operator {
                Less => order == Ordering::Less,
                LessOrEqual => order != Ordering::Greater,
                Greater => order == Ordering::Greater,
                _ => order != Ordering::Less,
            })
        }
        Add | Subtract | Multiply | Divide => {
            let (a, b) = (left.number(settings)?, right.number(settings)?);
            let result = match operator {
                Add => a.add(b),
                Subtract => b.negate().and_then(|b| a.add(b)),
                Multiply => a.multiply(b),
                _ if b.is_zero() => return Err(EvalError::DivisionByZero),
                _ => a.divide(b),
            };
            result.map(Operand::Number).ok_or(EvalError::Overflow)
        }
    }
}

fn equal(left: &Operand, right: &Operand) -> Result<bool, EvalError> {
    match (left, right) {
        (Operand::Number(a), Operand::Number(b)) => Ok(a == b),
        (Operand::Other(a), Operand::Other(b)) => Ok(a == b),
        _ => Ok(false),
    }
}

fn numbers_equal(a: &Value, b: &Value) -> bool {
    matches!((Exact::of(a), Exact::of(b)), (Some(a), Some(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Origin, Profile, find_key};

    fn value(text: &str) -> Result<Value, EvalError> {
        let mut settings = Settings::new();
        settings.set(find_key("train.optimizer").unwrap(), "sgd".into(), Origin::Axis);
        settings.fill_defaults(Profile::Peft);
        Expression::parse(text).unwrap().evaluate(&settings)
    }

    #[test]
    fn products_bind_tighter_than_sums_and_signs_tighter_still() {
        assert_eq!(value("2 + 3 * lora.rank - -1"), Ok(Value::Integer(27)));
        assert_eq!(value("(2 + 3) * lora.rank"), Ok(Value::Integer(40)));
        assert_eq!(value("8 - 4 - 2"), Ok(Value::Integer(2)));
    }

    #[test]
    fn a_division_is_whole_where_it_can_be() {
        assert_eq!(value("lora.rank / 4"), Ok(Value::Integer(2)));
        assert_eq!(value("lora.rank / 16"), Ok(Value::Float(0.5)));
        assert_eq!(value("lora.rank / 0"), Err(EvalError::DivisionByZero));
        assert_eq!(value("9223372036854775807 + 1"), Err(EvalError::Overflow));
    }

    #[test]
    fn decimal_arithmetic_is_exact() {
        assert_eq!(value("0.1 + 0.2"), Ok(Value::Float(0.3)));
        assert_eq!(value("train.learning_rate * 10"), Ok(Value::Float(0.003)));
        assert_eq!(value("0.1 + 0.2 == 0.3"), Ok(Value::Bool(true)));
    }

    #[test]
    fn conditions_know_texts_lists_and_sets() {
        for (text, expected) in [
            ("train.optimizer == 'sgd' && lora.rank >= 8", true),
            ("train.optimizer != 'sgd' || !(lora.rank < 8)", true),
            ("lora.rank in [4, 8.0]", true),
            ("train.optimizer in ['adamw']", false),
            ("'head' in lora.layers", false),
            ("'query' in lora.layers", true),
            ("train.strict == false", true),
        ] {
            assert_eq!(value(text), Ok(Value::Bool(expected)), "{text}");
        }
    }

    #[test]
    fn a_key_without_a_value_is_named() {
        assert_eq!(value("limit + 1"), Err(EvalError::Unset("limit".into())));
    }
}
