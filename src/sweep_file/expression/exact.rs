//! Exact numbers: fractions of two integers, so that 0.1 + 0.2 is 0.3.

use std::cmp::Ordering;

use crate::job::Value;

/// A reduced fraction with a positive denominator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exact {
    numerator: i128,
    denominator: i128,
}

impl Exact {
    fn new(numerator: i128, denominator: i128) -> Option<Self> {
        let divisor = gcd(numerator.unsigned_abs(), denominator.unsigned_abs());
        let divisor = i128::try_from(divisor).ok().filter(|divisor| *divisor != 0)?;
        let (numerator, denominator) = (numerator / divisor, denominator / divisor);
        if denominator < 0 {
            Some(Self { numerator: numerator.checked_neg()?, denominator: denominator.checked_neg()? })
        } else {
            Some(Self { numerator, denominator })
        }
    }

    /// Parses a decimal string: `3e-4`, `0.5`, `50_000`. `None`: not a number, or too large.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let plain = text.replace('_', "").to_ascii_lowercase();
        let (mantissa, exponent) = match plain.split_once('e') {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (plain.as_str(), 0),
        };
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{part}");
        let unsigned = digits.strip_prefix('-').unwrap_or(&digits);
        if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number: i128 = digits.parse().ok()?;
        let scale = exponent.checked_sub(i32::try_from(part.len()).ok()?)?;
        let power = 10i128.checked_pow(scale.unsigned_abs())?;
        if scale < 0 { Self::new(number, power) } else { Self::new(number.checked_mul(power)?, 1) }
    }

    /// The number of a setting; a float is read as its shortest decimal form.
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Integer(n) => Self::new((*n).into(), 1),
            Value::Float(x) => Self::parse(&format!("{x:e}")),
            _ => None,
        }
    }

    /// As a setting: integers as such, others as the nearest float. `None`: too large.
    pub(super) fn to_value(self) -> Option<Value> {
        if self.denominator == 1 {
            return i64::try_from(self.numerator).ok().map(Value::Integer);
        }
        let x: f64 = self.decimal().parse().ok()?;
        x.is_finite().then_some(Value::Float(x))
    }

    /// The first 40 digits after the point, more than enough to determine the nearest float.
    fn decimal(self) -> String {
        let sign = if self.numerator < 0 { "-" } else { "" };
        let (numerator, denominator) = (self.numerator.unsigned_abs(), self.denominator.unsigned_abs());
        let mut text = format!("{sign}{}.", numerator / denominator);
        let mut rest = numerator % denominator;
        for _ in 0..40 {
            // With a denominator this close to the largest integer, there are enough digits already.
            let Some(next) = rest.checked_mul(10) else { break };
            text.push(char::from(b'0' + (next / denominator) as u8));
            rest = next % denominator;
        }
        text
    }

    pub(super) fn add(self, other: Self) -> Option<Self> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Self::new(left.checked_add(right)?, self.denominator.checked_mul(other.denominator)?)
    }

    pub(super) fn negate(self) -> Option<Self> {
        Some(Self { numerator: self.numerator.checked_neg()?, ..self })
    }

    pub(super) fn multiply(self, other: Self) -> Option<Self> {
        let numerator = self.numerator.checked_mul(other.numerator)?;
        Self::new(numerator, self.denominator.checked_mul(other.denominator)?)
    }

    /// `None`: too large; never called with a zero divisor.
    pub(super) fn divide(self, other: Self) -> Option<Self> {
        self.multiply(Self::new(other.denominator, other.numerator)?)
    }

    pub(super) fn is_zero(self) -> bool {
        self.numerator == 0
    }

    /// Compares integer parts, then the reciprocals of the remainders, as in Euclid's algorithm: nothing grows, so nothing overflows.
    pub(super) fn compare(self, other: Self) -> Ordering {
        let (mut a, mut b) = ((self.numerator, self.denominator), (other.numerator, other.denominator));
        loop {
            let (whole, rest) =
                (a.0.div_euclid(a.1).cmp(&b.0.div_euclid(b.1)), (a.0.rem_euclid(a.1), b.0.rem_euclid(b.1)));
            match (whole, rest) {
                (Ordering::Equal, (0, 0)) => return Ordering::Equal,
                (Ordering::Equal, (0, _)) => return Ordering::Less,
                (Ordering::Equal, (_, 0)) => return Ordering::Greater,
                (Ordering::Equal, (left, right)) => (a, b) = ((b.1, right), (a.1, left)),
                (decided, _) => return decided,
            }
        }
    }
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_tenth_and_two_tenths_are_three_tenths() {
        let sum = Exact::parse("0.1").unwrap().add(Exact::parse("0.2").unwrap()).unwrap();
        assert_eq!(sum.to_value(), Some(Value::Float(0.3)));
    }

    #[test]
    fn numbers_of_many_digits_are_compared_exactly() {
        let of = |text: &str| Exact::parse(text).unwrap();
        let (rate, twin) = (of("6.812920690579613e-5"), of("6.812920690579614e-5"));
        assert_eq!(
            (rate.compare(twin), twin.compare(rate), rate.compare(rate)),
            (Ordering::Less, Ordering::Greater, Ordering::Equal)
        );
        let (third, below) = (of("1").divide(of("3")).unwrap(), of("0.3333333333333333"));
        assert_eq!((third.compare(below), below.compare(third)), (Ordering::Greater, Ordering::Less));
        let minus = |number: Exact| number.negate().unwrap();
        assert_eq!(
            (minus(rate).compare(minus(twin)), minus(rate).compare(twin)),
            (Ordering::Greater, Ordering::Less)
        );
        assert_eq!(of("0.5").compare(of("5e-1")), Ordering::Equal);
    }

    #[test]
    fn what_is_too_large_is_none_and_never_wraps() {
        assert_eq!(Exact::parse("1e39"), None);
        let large = Exact::parse("1e38").unwrap();
        assert_eq!(large.multiply(large), None);
        assert_eq!(large.to_value(), None);
    }

    proptest! {
        #[test]
        fn a_float_goes_through_unchanged(x in -1e6f64..1e6) {
            let exact = Exact::of(&Value::Float(x)).unwrap();
            prop_assert_eq!(exact.to_value().unwrap().as_f64(), Some(x));
        }
    }
}
