//! Error messages: each case with its exit code, and nothing is queued.

use loragrid::cli::ExitCode;

use crate::support::{Scratch, stderr, stdout, sweep, tiny_model};

/// Runs a command that must fail with this code; returns its standard error. No database may have been created.
fn refused(scratch: &Scratch, arguments: &[&str], code: ExitCode) -> String {
    let output = scratch.run(arguments);
    assert_eq!(output.status.code(), Some(code as i32), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    assert!(!scratch.path().join("results").exists(), "something was queued");
    stderr(&output)
}

fn planned(rest: &str, code: ExitCode) -> String {
    let scratch = Scratch::new();
    tiny_model(&scratch);
    scratch.write("sweep.toml", sweep(rest));
    refused(&scratch, &["run", "sweep.toml"], code)
}

#[test]
fn unknown_keys_and_wrong_values_are_told_together() {
    insta::assert_snapshot!(planned(
        "sead = 3\n[train]\nlearning_rate = \"high\"\n[lora]\nrnk = 8\n[axes]\n\"lora.alpha\" = []\n",
        ExitCode::SweepFile
    ));
}

#[test]
fn a_bad_expression_is_shown_inside_its_text() {
    insta::assert_snapshot!(planned("[derive]\n\"lora.alpha\" = \"2 * lora.rnak\"\n", ExitCode::SweepFile));
}

#[test]
fn broken_toml_is_shown_at_its_place() {
    insta::assert_snapshot!(planned("[axes\n", ExitCode::SweepFile));
}

#[test]
fn a_missing_sweep_file_is_named() {
    let scratch = Scratch::new();
    insta::assert_snapshot!(refused(&scratch, &["run", "nothing.toml"], ExitCode::SweepFile));
}

#[test]
fn a_missing_model_is_named() {
    let scratch = Scratch::new();
    scratch.write("sweep.toml", sweep(""));
    insta::assert_snapshot!(refused(&scratch, &["run", "sweep.toml"], ExitCode::Model));
}

#[test]
fn a_truncated_gguf_is_told_with_both_sizes() {
    let scratch = Scratch::new();
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.extend(1u64.to_le_bytes());
    bytes.extend(20u64.to_le_bytes());
    bytes.extend(b"general.archi");
    scratch.write("model", &bytes);
    scratch.write("sweep.toml", sweep(""));
    insta::assert_snapshot!(refused(&scratch, &["run", "sweep.toml"], ExitCode::Model));
}

#[test]
fn an_empty_data_set_is_refused() {
    let scratch = Scratch::new();
    tiny_model(&scratch);
    scratch.write("rows.jsonl", "\n\n");
    scratch.write("sweep.toml", sweep("").replace("two_digit_subtraction", "rows.jsonl"));
    insta::assert_snapshot!(refused(&scratch, &["run", "sweep.toml"], ExitCode::Data));
}

#[test]
fn a_broken_row_is_named_by_its_line() {
    let scratch = Scratch::new();
    tiny_model(&scratch);
    scratch.write("rows.jsonl", "{\"question\": \"q\", \"answer\": \"a\"}\n{\"question\": \n");
    scratch.write("sweep.toml", sweep("").replace("two_digit_subtraction", "rows.jsonl"));
    insta::assert_snapshot!(refused(&scratch, &["run", "sweep.toml"], ExitCode::Data));
}

#[test]
fn a_row_without_a_response_is_named() {
    let scratch = Scratch::new();
    tiny_model(&scratch);
    scratch.write(
        "rows.jsonl",
        "{\"question\": \"q\", \"answer\": \"a\"}\n{\"question\": \"q\", \"answer\": \"\"}\n",
    );
    let rest = "[train]\nlabels = \"response\"\n";
    scratch.write("sweep.toml", sweep(rest).replace("two_digit_subtraction", "rows.jsonl"));
    insta::assert_snapshot!(refused(&scratch, &["run", "sweep.toml"], ExitCode::Data));
}

#[test]
fn an_unknown_task_finds_its_neighbour() {
    insta::assert_snapshot!(planned("eval = [\"two_digit_additon\"]\n", ExitCode::Task));
}

#[test]
fn a_missing_engine_is_one_line_that_says_how_to_get_it() {
    // Built programs are in one folder, so the search must be redirected.
    let scratch = Scratch::new();
    tiny_model(&scratch);
    scratch.write("sweep.toml", sweep(""));
    insta::assert_snapshot!(refused(
        &scratch,
        &["run", "sweep.toml", "--engine", "nowhere"],
        ExitCode::NoEngine
    ));
}

#[test]
fn reading_without_a_database_says_what_makes_one() {
    let scratch = Scratch::new();
    insta::assert_snapshot!(refused(&scratch, &["top"], ExitCode::NotFound));
}

#[test]
fn an_error_is_one_json_object_where_json_is_wanted() {
    let scratch = Scratch::new();
    tiny_model(&scratch);
    scratch.write("sweep.toml", sweep("[lora]\nrank = 0\n"));
    let text = refused(&scratch, &["plan", "sweep.toml", "--json"], ExitCode::SweepFile);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&json).unwrap());
}

#[test]
fn help_lists_every_command_and_exit_code() {
    let output = Scratch::new().run(&["--help"]);
    assert!(output.status.success());
    insta::assert_snapshot!(stdout(&output));
}

#[test]
fn rules_and_pairs_that_contradict_are_told_at_their_places() {
    let rest = "[axes]\n\"lora.rank\" = [8, 16]\nseed = [1, 1]\n[zip.a]\n\"train.optimizer\" = [\"adamw\", \"sgd\"]\n\
                \"train.learning_rate\" = [1e-3]\n[derive]\n\"lora.rank\" = \"4\"\n\"lora.alpha\" = \"'a'\"\n\
                [[when]]\nif = \"lora.rank\"\nset = { \"train.momentum\" = 0.9 }\n\
                [[exclude]]\nif = \"train.optimizer == 'sdg'\"\n[keep]\nadapters = \"some\"\n\
                [notify]\nwebhook = \"https://hooks.example/secret\"\n";
    insta::assert_snapshot!(planned(rest, ExitCode::SweepFile));
}

#[test]
fn a_value_that_no_cell_can_have_is_told_with_its_cell() {
    let rest = "[axes]\n\"lora.rank\" = [8, 9]\n[derive]\n\"train.batch_size\" = \"lora.rank / 2\"\n";
    insta::assert_snapshot!(planned(rest, ExitCode::SweepFile));
}

#[test]
fn two_cells_that_are_one_job_are_told_with_their_places() {
    let rest = "[axes]\n\"lora.rank\" = [8, 16]\nlimit = [10, 20]\n";
    insta::assert_snapshot!(planned(rest, ExitCode::SweepFile));
}

#[test]
fn a_grid_that_is_too_large_is_refused() {
    let list = (1..=400).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let rest = format!("[axes]\nseed = [{list}]\n\"lora.rank\" = [{list}]\n");
    assert!(planned(&rest, ExitCode::SweepFile).contains("the axes multiply to 160000 cells"));
}

#[test]
fn another_encoding_is_named() {
    let scratch = Scratch::new();
    scratch.write("sweep.toml", b"\xFF\xFEn\0a\0");
    insta::assert_snapshot!("utf_16", refused(&scratch, &["plan", "sweep.toml"], ExitCode::SweepFile));
    scratch.write("sweep.toml", b"# first\nname = \"\xE4\"\n");
    insta::assert_snapshot!("latin_1", refused(&scratch, &["plan", "sweep.toml"], ExitCode::SweepFile));
}

#[test]
fn a_mark_and_line_ends_of_windows_are_read() {
    let scratch = Scratch::new();
    tiny_model(&scratch);
    scratch
        .write("sweep.toml", format!("\u{feff}{}", sweep("[axes]\nseed = [1, 2]\n")).replace('\n', "\r\n"));
    let output = scratch.run(&["plan", "sweep.toml"]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn every_other_kind_of_problem_has_its_words_and_its_place() {
    let cases: &[(&str, &str)] = &[
        ("no name", "model = \"model\"\ndata = \"two_digit_addition\"\n"),
        ("no model", "name = \"a\"\ndata = \"two_digit_addition\"\n"),
        ("unsafe name", "name = \"../a\"\nmodel = \"model\"\ndata = \"two_digit_addition\"\n"),
        ("beyond 64 bits", "+seed = 9223372036854775808\n"),
        ("a date", "+seed = 1979-05-27\n"),
        ("a number for a text", "+template = 3\n"),
        ("a mistyped word", "+[train]\nlabels = \"respons\"\n"),
        ("a mistyped layer", "+[lora]\nlayers = [\"query\", \"vale\"]\n"),
        ("a section that is none", "+axes = 3\n"),
        ("an axis that is no list", "+[axes]\nseed = 3\n"),
        ("a rule that is no list", "+when = 3\n"),
        ("an empty pair", "+[zip.a]\n"),
        ("iterations and epochs", "+[train]\niterations = 3\nepochs = 1\n"),
        ("a rule for the profile", "+[[when]]\nif = \"seed == 1\"\nset = { profile = \"peft\" }\n"),
        ("a rule without a condition", "+[[exclude]]\n"),
        ("a rule without values", "+[[when]]\nif = \"seed == 1\"\n"),
        (
            "a rule for an axis",
            "+[axes]\nseed = [1]\n[[when]]\nif = \"lora.rank == 8\"\nset = { seed = 2 }\n",
        ),
        ("a cycle", "+[derive]\n\"lora.alpha\" = \"lora.rank\"\n\"lora.rank\" = \"lora.alpha\"\n"),
        ("an expression that is no text", "+[derive]\n\"lora.alpha\" = 3\n"),
        (
            "rules that differ",
            "+[[when]]\nif = \"seed == 1\"\nset = { \"lora.rank\" = 2 }\n[[when]]\nif = \"seed < 2\"\nset = { \"lora.rank\" = 4 }\n",
        ),
        ("a key without a value", "+[[exclude]]\nif = \"limit > 3\"\n"),
        ("a division by zero", "+[derive]\n\"lora.alpha\" = \"1 / (lora.rank - 8)\"\n"),
        ("nothing left", "+[[exclude]]\nif = \"seed == 1\"\n"),
        ("a batch that does not divide", "+[train]\nbatch_size = 8\nmicro_batch_size = 3\n"),
        ("a size that is none", "+[keep]\nmax_disk = \"much\"\n"),
        ("an address for a variable", "+[notify]\nwebhook_env = \"https://hooks.example/secret\"\n"),
        ("an event that is none", "+[notify]\non = [\"lunch\"]\n"),
        ("an objective that is not scored", "+objective = \"arithmetic_2ds\"\n"),
        ("a template that is none", "+template = \"alpca\"\n"),
    ];
    let mut report = String::new();
    for (name, text) in cases {
        let text = text.strip_prefix('+').map_or_else(|| (*text).to_owned(), sweep);
        let scratch = Scratch::new();
        tiny_model(&scratch);
        scratch.write("sweep.toml", text);
        let output = scratch.run(&["run", "sweep.toml"]);
        assert!(!output.status.success(), "{name}");
        assert!(!scratch.path().join("results").exists(), "{name}: something was queued");
        assert!(!stderr(&output).contains("secret"), "{name}: a secret is shown");
        report.push_str(&format!("=== {name}: exit {}\n{}", output.status.code().unwrap(), stderr(&output)));
    }
    insta::assert_snapshot!(report);
}
