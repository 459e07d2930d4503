//! Real numbers that may be missing or not finite: their JSON form and ranking.

use serde::{Deserialize, Deserializer, Serializer};

/// Significant digits used for ranking: means of the same scores in another order differ beyond them.
const RANKED_DIGITS: i32 = 12;

/// A value for ranking: values that differ only by rounding of their last bits become equal.
pub fn for_ranking(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10f64.powi(RANKED_DIGITS - 1 - value.abs().log10().floor() as i32);
    // Near the limits of a double the scale overflows.
    if scale.is_normal() && (value * scale).is_finite() { (value * scale).round() / scale } else { value }
}

/// JSON has no NaN or infinity: NaN is `null`, infinity `"inf"` and `"-inf"`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Json {
    Number(f64),
    Text(String),
    Nothing(()),
}

impl Json {
    fn value<E: serde::de::Error>(self) -> Result<f64, E> {
        match self {
            Self::Number(value) => Ok(value),
            Self::Nothing(()) => Ok(f64::NAN),
            Self::Text(text) if text == "inf" => Ok(f64::INFINITY),
            Self::Text(text) if text == "-inf" => Ok(f64::NEG_INFINITY),
            Self::Text(text) => Err(E::custom(format!("'{text}' is not a number"))),
        }
    }
}

/// For `#[serde(with)]`.
pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match *value {
        value if value.is_finite() => serializer.serialize_f64(value),
        value if value.is_nan() => serializer.serialize_none(),
        value => serializer.serialize_str(if value > 0.0 { "inf" } else { "-inf" }),
    }
}

/// For `#[serde(with)]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Json::deserialize(deserializer)?.value()
}

/// The same for a list of numbers.
pub mod list {
    use serde::ser::SerializeSeq;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    struct Real(f64);

    impl Serialize for Real {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            super::serialize(&self.0, serializer)
        }
    }

    /// For `#[serde(with)]`.
    pub fn serialize<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(values.len()))?;
        values.iter().try_for_each(|value| list.serialize_element(&Real(*value)))?;
        list.end()
    }

    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        Vec::<super::Json>::deserialize(deserializer)?.into_iter().map(super::Json::value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize, Deserialize)]
    struct Both {
        #[serde(with = "super")]
        one: f64,
        #[serde(with = "super::list")]
        more: Vec<f64>,
    }

    #[test]
    fn nan_and_infinity_come_back_as_they_were() {
        let both = Both { one: f64::NAN, more: vec![f64::NEG_INFINITY, 1.5, f64::INFINITY, f64::NAN] };
        let text = serde_json::to_string(&both).unwrap();
        assert_eq!(text, r#"{"one":null,"more":["-inf",1.5,"inf",null]}"#);
        let back: Both = serde_json::from_str(&text).unwrap();
        assert!(back.one.is_nan() && back.more[3].is_nan());
        assert_eq!(back.more[..3], both.more[..3]);
        assert!(serde_json::from_str::<Both>(r#"{"one":"many","more":[]}"#).is_err());
    }

    #[test]
    fn values_that_differ_by_rounding_are_ranked_as_equal_and_others_are_not() {
        assert_eq!(for_ranking(0.436_000_000_000_000_1), for_ranking(0.436_000_000_000_000_05));
        assert_ne!(for_ranking(0.436), for_ranking(0.436_000_01));
        for value in [0.0, -1.0, f64::INFINITY, f64::MIN_POSITIVE, f64::MAX, -3.25e200] {
            assert!((for_ranking(value) - value).abs() <= value.abs() * 1e-11 || for_ranking(value) == value);
        }
        assert!(for_ranking(f64::NAN).is_nan());
    }
}
