//! IFEval: whether a response follows instructions that a program can check.

mod checks;
mod format;
mod keywords;
mod length;

use serde_json::{Value, json};

use super::text::{answer, list, strip, text, texts, truthy};
use super::{Row, Scores};

/// An instruction's arguments; those that are null, 0 or empty count as absent, as published.
struct Arguments<'a> {
    id: &'a str,
    given: Vec<(&'a str, &'a Value)>,
}

impl<'a> Arguments<'a> {
    fn new(id: &'a str, given: &'a Value) -> Result<Self, String> {
        let map = given.as_object().ok_or("'kwargs' must be a list of mappings")?;
        let given = map.iter().map(|(name, value)| (name.as_str(), value)).filter(|(_, value)| truthy(value));
        Ok(Self { id, given: given.collect() })
    }

    /// Checks that there are no arguments but these.
    fn only(&self, allowed: &[&str]) -> Result<(), String> {
        match self.given.iter().find(|(name, _)| !allowed.contains(name)) {
            Some((name, _)) => Err(format!("the instruction '{}' has no argument '{name}'", self.id)),
            None => Ok(()),
        }
    }

    fn get(&self, name: &str) -> Result<&'a Value, String> {
        let found = self.given.iter().find(|(given, _)| *given == name).map(|(_, value)| *value);
        // lm_eval draws a missing argument at random, so no two runs agree.
        found.ok_or_else(|| format!("the instruction '{}' lacks its argument '{name}'", self.id))
    }

    fn text(&self, name: &str) -> Result<&'a str, String> {
        let value = self.get(name)?;
        value.as_str().ok_or_else(|| format!("the argument '{name}' of '{}' must be a string", self.id))
    }

    fn texts(&self, name: &str) -> Result<Vec<&'a str>, String> {
        let value = super::text::strings(Some(self.get(name)?));
        value.ok_or_else(|| format!("the argument '{name}' of '{}' must be a list of strings", self.id))
    }

    fn number(&self, name: &str) -> Result<f64, String> {
        let value = self.get(name)?.as_f64().filter(|number| *number >= 0.0);
        value.ok_or_else(|| format!("the argument '{name}' of '{}' must be a number, at least 0", self.id))
    }

    /// Whether a count is below ("less than") or not below ("at least") the number of an argument.
    fn compares(&self, relation: &str, count: usize, threshold: &str) -> Result<bool, String> {
        let threshold = self.number(threshold)?;
        match self.text(relation)? {
            "less than" => Ok((count as f64) < threshold),
            "at least" => Ok(count as f64 >= threshold),
            other => {
                Err(format!("the relation '{other}' of '{}' is neither 'less than' nor 'at least'", self.id))
            }
        }
    }
}

/// The response as it is, then without its first, its last and both lines, each also without asterisks.
fn loose_variants(response: &str) -> Vec<String> {
    let lines: Vec<&str> = response.split('\n').collect();
    let joined = |lines: &[&str]| strip(&lines.join("\n")).to_owned();
    let end = lines.len() - 1;
    let parts =
        [response.to_owned(), joined(&lines[1..]), joined(&lines[..end]), joined(&lines[end.min(1)..end])];
    let plain = parts.iter().map(|part| part.replace('*', "")).collect::<Vec<_>>();
    parts.into_iter().chain(plain).filter(|part| !strip(part).is_empty()).collect()
}

/// Whether every instruction is followed, and each one, first strictly, then by any of the loose variants.
pub(super) fn scores(row: &Row, answers: &[Value]) -> Result<Scores, String> {
    let response = answer(answers)?;
    let instructions = texts(row, "instruction_id_list")?;
    let kwargs = list(row, "kwargs")?;
    // The published function reads it for every document.
    text(row, "prompt")?;
    let (mut strict, mut loose) = (Vec::new(), Vec::new());
    for (at, id) in instructions.iter().enumerate() {
        let given = kwargs.get(at).ok_or("'kwargs' is shorter than 'instruction_id_list'")?;
        let arguments = Arguments::new(id, given)?;
        let follows = checks::check(&arguments)?;
        strict.push(!strip(response).is_empty() && follows(response)?);
        let mut any = false;
        for variant in loose_variants(response) {
            any = any || follows(&variant)?;
        }
        loose.push(any);
    }
    let all = |list: &[bool]| list.iter().all(|followed| *followed);
    Ok(vec![
        ("prompt_level_strict_acc", json!(all(&strict))),
        ("inst_level_strict_acc", json!(strict)),
        ("prompt_level_loose_acc", json!(all(&loose))),
        ("inst_level_loose_acc", json!(loose)),
    ])
}

/// The mean over the instructions of all documents.
pub(super) fn mean_over_instructions(items: &[Value]) -> Result<f64, String> {
    let (mut followed, mut count) = (0usize, 0usize);
    for item in items {
        for one in item.as_array().ok_or("an item of inst_level_acc must be a list")? {
            followed += usize::from(truthy(one));
            count += 1;
        }
    }
    if count == 0 {
        Err("no document has an instruction".to_owned())
    } else {
        Ok(followed as f64 / count as f64)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Whether a response follows one instruction strictly.
    pub(super) fn follows(id: &str, kwargs: Value, response: &str) -> bool {
        let row = json!({ "instruction_id_list": [id], "kwargs": [kwargs], "prompt": "p" });
        let scores = scores(row.as_object().unwrap(), &[json!(response)]).unwrap();
        scores[0].1.as_bool().unwrap()
    }

    #[test]
    fn strict_and_loose_differ_by_the_first_line() {
        let row = json!({
            "instruction_id_list": ["punctuation:no_comma", "startend:quotation"],
            "kwargs": [{}, { "unused": null }],
            "prompt": "p",
        });
        let scores = scores(row.as_object().unwrap(), &[json!("Sure, here:\n\"It is so.\"")]).unwrap();
        let values: Vec<Value> = scores.into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, [json!(false), json!([false, false]), json!(true), json!([true, true])]);
    }

    #[test]
    fn a_blank_response_follows_nothing() {
        assert!(!follows("punctuation:no_comma", json!({}), " \n"));
    }

    #[test]
    fn checks_that_need_a_language_model_are_rejected_by_name() {
        for (id, needs) in
            [("language:response_language", "langdetect"), ("length_constraints:number_sentences", "NLTK")]
        {
            let row = json!({ "instruction_id_list": [id], "kwargs": [{}], "prompt": "p" });
            let error = scores(row.as_object().unwrap(), &[json!("x")]).unwrap_err();
            assert_eq!(error, format!("the instruction '{id}' is not supported: needs {needs}"));
        }
    }

    #[test]
    fn a_missing_argument_is_an_error() {
        let row = json!({
            "instruction_id_list": ["length_constraints:number_words"],
            "kwargs": [{ "relation": "at least", "num_words": 0 }],
            "prompt": "p",
        });
        let error = scores(row.as_object().unwrap(), &[json!("x")]).unwrap_err();
        assert_eq!(error, "the instruction 'length_constraints:number_words' lacks its argument 'num_words'");
    }

    #[test]
    fn instructions_count_once_each_in_the_mean() {
        let items = [json!([true]), json!([false, true, false])];
        assert_eq!(mean_over_instructions(&items), Ok(0.5));
    }
}
