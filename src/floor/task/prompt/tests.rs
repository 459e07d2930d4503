use super::*;
use crate::data::{DataRoots, DataSource};
use crate::job::PromptProfile;
use crate::pretrained::{Checkpoint, ModelTokenizer};
use crate::task::dialect::build::Surroundings;
use crate::task::dialect::function::Modules;
use crate::task::dialect::yaml::Node;

fn try_task(extra: &str) -> Result<Task, TaskError> {
    let text = format!(
        "task: t\ndataset_path: loragrid/arithmetic\ndataset_name: two_digit_addition\ntest_split: test\n{extra}"
    );
    let folder = std::path::Path::new(".");
    let (roots, modules) = (DataRoots::default(), Modules::default());
    let around = Surroundings { file: "t.yaml", folder, roots: &roots, modules: &modules };
    Task::build(Node::parse(&text, folder).unwrap(), around)
}

fn task(extra: &str) -> Task {
    try_task(extra).unwrap()
}

fn on_rows(mut task: Task, json: &str) -> Result<Vec<Document>, TaskError> {
    let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
    std::fs::write(file.path(), json).unwrap();
    let here = Some(DataSource::File { path: file.path().to_owned() });
    let same = matches!(&task.shots.pool, Pool::Split { rows, .. } if *rows == task.documents);
    task.documents.here = here;
    if same {
        task.shots.pool = Pool::Split { rows: task.documents.clone(), step: task.rows.clone() };
    }
    build_documents(&task, &Subset::All)
}

fn pair(context: &str, continuation: &str) -> Request {
    Request::Pair { context: context.to_owned(), continuation: continuation.to_owned() }
}

const CHOICES: &str =
    "output_type: multiple_choice\ndoc_to_text: ''\ndoc_to_target: 0\ndoc_to_choice: '{{ [a, b] }}'\n";

#[test]
fn a_choice_is_joined_by_the_delimiter_and_a_target_is_not() {
    let documents = on_rows(task(CHOICES), r#"{"a":"x","b":"y"}"#).unwrap();
    assert_eq!(documents[0].requests[1], pair("", " y"));
    let target = task("output_type: loglikelihood\ndoc_to_text: a\ndoc_to_target: '{{b}}'");
    let documents = on_rows(target, r#"{"a":"x","b":"y"}"#).unwrap();
    assert_eq!(documents[0].requests, [pair("x", "y")]);
}

#[test]
fn a_missing_column_names_file_task_document_and_field() {
    let rows = "{\"a\":\"x\",\"b\":\"y\"}\n{\"a\":\"x\"}";
    let error = on_rows(task(CHOICES), rows).unwrap_err().to_string();
    assert!(error.starts_with("t.yaml: task 't', document 1 of "), "{error}");
    assert!(error.contains(".jsonl, doc_to_choice: "), "{error}");
    let target = task("output_type: loglikelihood\ndoc_to_text: '{{nothing}}'\ndoc_to_target: b");
    let error = on_rows(target, r#"{"b":"y"}"#).unwrap_err().to_string();
    assert!(error.contains("document 0 of ") && error.contains(", doc_to_text: "), "{error}");
    let null = on_rows(task(CHOICES), r#"{"a":"x","b":null}"#).unwrap_err().to_string();
    assert!(null.contains("choice 1 is null"), "{null}");
}

#[test]
fn a_gold_that_is_no_choice_is_wrong_data() {
    for target in ["2", "-1", "'{{ \"z\" }}'", "a"] {
        let task = task(&CHOICES.replace("doc_to_target: 0", &format!("doc_to_target: {target}")));
        let error = on_rows(task, r#"{"a":["q"],"b":"y"}"#).unwrap_err().to_string();
        assert!(error.contains("doc_to_target: ") && error.contains("is none of the 2 choices"), "{error}");
    }
}

#[test]
fn examples_have_fields_and_rows_of_their_own() {
    let task = task(
        "output_type: loglikelihood\ndoc_to_text: a\ndoc_to_target: b\nnum_fewshot: 2\nfewshot_delimiter: '|'\nfewshot_config:\n  sampler: first_n\n  doc_to_text: 'S{{a}}'\n  target_delimiter: '='\n  samples: [{a: p, b: '1'}, {a: q, b: '2'}, {a: r, b: '3'}]",
    );
    let documents = on_rows(task, r#"{"a":"x","b":"y"}"#).unwrap();
    assert_eq!(documents[0].requests, [pair("Sp=1|Sq=2|x", "y")]);
}

#[test]
fn a_document_is_never_its_own_example_where_both_splits_are_one() {
    let rows: Vec<String> = (0..4).map(|n| format!(r#"{{"a":"{n}","b":"{n}"}}"#)).collect();
    let body =
        "output_type: loglikelihood\ndoc_to_text: a\ndoc_to_target: b\nnum_fewshot: 3\nfewshot_split: test\n";
    for document in on_rows(task(body), &rows.join("\n")).unwrap() {
        let context = document.requests[0].context();
        assert_eq!(context.matches(&format!("{0} {0}\n\n", document.id)).count(), 0, "{context}");
        assert_eq!(context.matches("\n\n").count(), 3);
    }
}

#[test]
fn a_subset_keeps_the_numbers_of_its_documents() {
    let rows: Vec<String> = (0..5).map(|n| format!(r#"{{"a":"{n}","b":"{n}"}}"#)).collect();
    let mut task = task("output_type: loglikelihood\ndoc_to_text: a\ndoc_to_target: b\n");
    let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
    std::fs::write(file.path(), rows.join("\n")).unwrap();
    task.documents.here = Some(DataSource::File { path: file.path().to_owned() });
    let documents = build_documents(&task, &Subset::Numbers(vec![3, 1])).unwrap();
    let shown: Vec<(usize, &str)> = documents.iter().map(|d| (d.id, d.requests[0].scored())).collect();
    assert_eq!(shown, [(1, "1"), (3, "3")]);
}

#[test]
fn mutual_information_asks_each_choice_alone_too() {
    let task = task(&format!("{CHOICES}metric_list: [{{metric: acc_mutual_info}}]"));
    let documents = on_rows(task, r#"{"a":"x","b":"y"}"#).unwrap();
    assert_eq!(documents[0].requests[2..], [pair("", " x"), pair("", " y")]);
}

#[test]
fn a_whole_text_is_measured_in_words_and_bytes() {
    let body = "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{ a }}'\n";
    let documents = on_rows(task(body), r#"{"a":"é b\n"}"#).unwrap();
    assert_eq!(documents[0].requests, [Request::Rolling { text: "é b\n".to_owned() }]);
    assert_eq!(documents[0].gold, Gold::Text { words: 3, bytes: 5 });
    let wikitext = "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: !function native.wikitext_target\nprocess_results: !function native.wikitext_lengths\n";
    let documents = on_rows(task(wikitext), r#"{"page":"a , b"}"#).unwrap();
    assert_eq!(documents[0].requests, [Request::Rolling { text: "a, b".to_owned() }]);
    assert_eq!(documents[0].gold, Gold::Text { words: 3, bytes: 5 });
}

#[test]
fn the_answers_beginning_stands_before_the_choices() {
    let body = format!(
        "{}gen_prefix: 'The answer is'\nnum_fewshot: 1\nfewshot_config: {{samples: [{{a: p, b: q}}]}}\n",
        CHOICES.replace("doc_to_text: ''", "doc_to_text: 'Q'")
    );
    let documents = on_rows(task(&body), r#"{"a":"x","b":"y"}"#).unwrap();
    assert_eq!(documents[0].requests[0], pair("Q The answer is p\n\nQ The answer is", " x"));
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (extra, what) in [
        (
            "output_type: generate_until\ndoc_to_text: a\ndoc_to_target: b\ngeneration_kwargs: {num_beams: 4}\n",
            "generation_kwargs 'num_beams = 4'",
        ),
        (
            "output_type: loglikelihood\ndoc_to_text: a\ndoc_to_target: b\nmetric_list: [{metric: f1}]\n",
            "metric 'f1'",
        ),
        (
            "dataset_path: csv\ndataset_kwargs: {data_files: a.csv, delimiter: ';'}\noutput_type: loglikelihood\ndoc_to_text: a\ndoc_to_target: b\n",
            "dataset_kwargs of csv 'delimiter'",
        ),
        (
            "output_type: loglikelihood\ndoc_to_text: a\ndoc_to_target: b\nmetric_list: [{metric: acc, aggregation: f1}]\n",
            "aggregation 'f1 of acc'",
        ),
        (
            "output_type: loglikelihood\ndoc_to_text: a\ndoc_to_target: b\nfilter_list: [{name: x, filter: [{function: lowercase}]}]\n",
            "filter of log-likelihoods 'lowercase'",
        ),
    ] {
        let error = try_task(extra).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn templates_know_pythons_string_methods() {
    let target = task(
        "output_type: loglikelihood\ndoc_to_text: \"{{ a.strip()|replace('Q:', 'Question:') }}\"\ndoc_to_target: b",
    );
    let documents = on_rows(target, r#"{"a":" Q: x ","b":"y"}"#).unwrap();
    assert_eq!(documents[0].requests[0].context(), "Question: x");
}

#[test]
fn documents_that_are_encoded_together_are_what_each_is_alone_and_the_first_wrong_one_is_named() {
    let model = std::env::var_os("LORAGRID_TEST_MODEL").map(std::path::PathBuf::from);
    // `make` names the file before `setup` has brought it, and a bare clone is tested without it.
    let Some(model) = model.filter(|model| model.is_file()) else {
        println!("skipped: LORAGRID_TEST_MODEL names no file");
        return;
    };
    let tokenizer = ModelTokenizer::open(&Checkpoint::open(&model).unwrap()).unwrap();
    let encoder = RequestEncoder::new(&tokenizer, 64, 49_152, PromptProfile::LmEval);
    let task = task(CHOICES);
    let document = |id: usize| {
        // Choices with one context, another one between them, none, and one that ends with spaces.
        let contexts = ["The sum is", "The sum is", "Two  words ", "The sum is", "", "Two  words "];
        let choices = (0..).zip(contexts).map(|(at, context)| pair(context, &format!(" {id} and {at}")));
        Document { id, requests: choices.collect(), ..Document::default() }
    };
    let mut documents: Vec<Document> = (0..300).map(document).collect();
    let together = encoder.documents(&task, &documents).unwrap();
    assert_eq!(together.len(), documents.len());
    for (encoded, document) in together.iter().zip(&documents) {
        let alone: Vec<_> =
            document.requests.iter().map(|request| encoder.encode(request).unwrap()).collect();
        assert_eq!(encoded.requests, alone);
    }
    for wrong in [290, 7] {
        documents[wrong].requests.push(pair("The sum is", ""));
    }
    let error = encoder.documents(&task, &documents).unwrap_err().to_string();
    assert!(error.contains("document 7") && error.contains("no token of its own"), "{error}");
}
