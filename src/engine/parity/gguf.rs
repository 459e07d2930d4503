//! GGUF files: logits against transformers on the weights read by the Python package `gguf`.

use tch::Kind;

use super::*;

#[test]
fn logits_of_gguf_files_equal_transformers() {
    let known = folders_with("gguf_expected.safetensors", &[]);
    // A folder of the same layout for a custom file, made by tests/reference/gguf_model.py.
    for folder in known.into_iter().chain(outside("LORAGRID_TEST_GGUF", "")) {
        let expected = open(&folder.join("gguf_expected.safetensors"));
        let input = expected.read_integers("input_ids").unwrap();
        let logits = logits(&model(&folder.join("model.gguf"), Kind::Float), None, &input);
        let expected = read(&expected, "logits");
        let difference = largest_difference(&logits, &expected);
        // Real models have logits in the hundreds, with coarser last bits.
        let largest = expected.abs().max().double_value(&[]);
        eprintln!("{}: {difference:.1e} of {largest:.0}", name_of(&folder));
        assert!(difference <= f64::max(1e-4, 1e-5 * largest), "{}: {difference}", name_of(&folder));
    }
}
