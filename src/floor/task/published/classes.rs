//! F1 over classes, from (gold, prediction) pairs.

use serde_json::Value;

/// The golds and the predictions.
fn pairs(items: &[Value]) -> Result<Vec<(&Value, &Value)>, String> {
    let pairs: Option<Vec<_>> = items.iter().map(|item| Some((item.get(0)?, item.get(1)?))).collect();
    pairs
        .filter(|pairs| !pairs.is_empty())
        .ok_or_else(|| "an item of F1 must be a gold and a prediction".to_owned())
}

/// F1 of one class against all others, 0 if neither gold nor prediction has it.
fn of_class(pairs: &[(&Value, &Value)], class: &Value) -> f64 {
    let both = pairs.iter().filter(|(gold, predicted)| *gold == class && *predicted == class).count();
    let either =
        pairs.iter().map(|(gold, predicted)| usize::from(*gold == class) + usize::from(*predicted == class));
    let either: usize = either.sum();
    if either == 0 { 0.0 } else { 2.0 * both as f64 / either as f64 }
}

/// The mean F1 over the classes that occur.
pub(super) fn macro_f1(items: &[Value]) -> Result<f64, String> {
    let pairs = pairs(items)?;
    let mut classes: Vec<&Value> = Vec::new();
    for value in pairs.iter().flat_map(|(gold, predicted)| [*gold, *predicted]) {
        if !classes.contains(&value) {
            classes.push(value);
        }
    }
    // scikit-learn adds up in the classes' order.
    classes.sort_by(|a, b| match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => a.as_str().cmp(&b.as_str()),
    });
    Ok(classes.iter().map(|class| of_class(&pairs, class)).sum::<f64>() / classes.len() as f64)
}

/// F1 over all decisions, which with one class per document is the accuracy.
pub(super) fn micro_f1(items: &[Value]) -> Result<f64, String> {
    let pairs = pairs(items)?;
    Ok(pairs.iter().filter(|(gold, predicted)| gold == predicted).count() as f64 / pairs.len() as f64)
}

/// CommitmentBank: the mean F1 of the classes 0, 1 and 2.
pub(super) fn three_class_f1(items: &[Value]) -> Result<f64, String> {
    let pairs = pairs(items)?;
    Ok((0..3).map(|class| of_class(&pairs, &Value::from(class))).sum::<f64>() / 3.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn classes_count_alike_or_by_their_size() {
        let items = [json!([0, 0]), json!([0, 0]), json!([0, 1]), json!([1, 1])];
        let (first, second) = (2.0 * 2.0 / 5.0, 2.0 / 3.0);
        assert_eq!(macro_f1(&items), Ok((first + second) / 2.0));
        assert_eq!(micro_f1(&items), Ok(0.75));
        assert_eq!(three_class_f1(&items), Ok((first + second) / 3.0));
        assert!(micro_f1(&[]).is_err());
    }
}
