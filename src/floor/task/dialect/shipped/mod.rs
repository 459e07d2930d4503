//! The task files shipped with loragrid.

/// Each file's name and content.
pub(in crate::task) const SHIPPED: &[(&str, &str)] = &[
    ("arc.yaml", include_str!("arc.yaml")),
    ("arithmetic.yaml", include_str!("arithmetic.yaml")),
    ("blimp.yaml", include_str!("blimp.yaml")),
    ("blimp_group.yaml", include_str!("blimp_group.yaml")),
    ("boolq.yaml", include_str!("boolq.yaml")),
    ("copa.yaml", include_str!("copa.yaml")),
    ("hellaswag.yaml", include_str!("hellaswag.yaml")),
    ("lambada.yaml", include_str!("lambada.yaml")),
    ("mmlu.yaml", include_str!("mmlu.yaml")),
    ("mmlu_group.yaml", include_str!("mmlu_group.yaml")),
    ("mmlu_humanities.yaml", include_str!("mmlu_humanities.yaml")),
    ("mmlu_other.yaml", include_str!("mmlu_other.yaml")),
    ("mmlu_social_sciences.yaml", include_str!("mmlu_social_sciences.yaml")),
    ("mmlu_stem.yaml", include_str!("mmlu_stem.yaml")),
    ("openbookqa.yaml", include_str!("openbookqa.yaml")),
    ("piqa.yaml", include_str!("piqa.yaml")),
    ("race.yaml", include_str!("race.yaml")),
    ("sciq.yaml", include_str!("sciq.yaml")),
    ("truthfulqa_mc1.yaml", include_str!("truthfulqa_mc1.yaml")),
    ("truthfulqa_mc2.yaml", include_str!("truthfulqa_mc2.yaml")),
    ("two_digit_addition.yaml", include_str!("two_digit_addition.yaml")),
    ("two_digit_subtraction.yaml", include_str!("two_digit_subtraction.yaml")),
    ("wikitext.yaml", include_str!("wikitext.yaml")),
    ("winogrande.yaml", include_str!("winogrande.yaml")),
];
