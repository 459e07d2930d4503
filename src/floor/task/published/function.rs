//! The functions of each kind but fields.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::mlqa::Language;
use super::shuffled::{GLOBAL_SEED, Gpqa, N_SHOT_SEED};
use super::subjects::Dialect;
use super::{
    Row, Scores, TextScores, african, arabic, bbh, classes, classics, coqa, documents, drop, hendrycks_math,
    ifeval, likelihood, minerva_math, mlqa, shuffled, squad, subjects, text, truthfulqa,
};

/// Preprocessing of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum RowsFunction {
    KeepEqual,
    KeepPrefix,
    DropDocs,
    HendrycksMathDocs,
    MinervaMathDocs,
    LeaderboardMathDocs,
    TruthfulQaDocs,
    TruthfulQaMultiDocs,
    OkapiTruthfulQaDocs,
    OkapiArcDocs,
    MmluSrDocs,
    BigBenchDocs,
    EusExamsDocs,
    TmmluPlusDocs,
    TmluDocs,
    MlqaDocs,
    CsatQaDocs,
    HistoiresMoralesDocs,
    DarijaHellaswagDocs,
    PawsXDocs,
    PhysicsGreDocs,
    ArabicTrueFalseDocs,
    ArabicMmluDocs,
    ArabicExamsDocs,
    AlGhafaDocs,
    ArabicBoolqDocs,
    ArabicCopaDocs,
    ArabicHellaswagDocs,
    ArabicToxigenDocs,
    ArabicSciqDocs,
    EgyptianMmluDocs,
    LevantineMmluDocs,
    GpqaDocs,
    GpqaCotDocs,
    GpqaNShotDocs,
    LeaderboardGpqaDocs,
    RecordDocs,
    ArabicBoolqTargetDocs,
    EnglishBoolqTargetDocs,
    CulturalDocs,
}

impl RowsFunction {
    /// The rows after the function, in order. Error: a column that is missing or of another type, named.
    pub fn rows(self, constants: &Row, rows: &[Row]) -> Result<Vec<Row>, String> {
        match self {
            Self::GpqaDocs => shuffled::gpqa(rows, Gpqa::Plain, GLOBAL_SEED),
            Self::GpqaCotDocs => shuffled::gpqa(rows, Gpqa::WithChoices, GLOBAL_SEED),
            Self::GpqaNShotDocs => shuffled::gpqa(rows, Gpqa::Plain, N_SHOT_SEED),
            Self::LeaderboardGpqaDocs => shuffled::gpqa(rows, Gpqa::Cleaned, GLOBAL_SEED),
            Self::ArabicSciqDocs => shuffled::arabic_sciq(rows),
            _ => rows.iter().filter_map(|row| self.row(constants, row).transpose()).collect(),
        }
    }

    /// Whether a row's result depends on the rows before it, so that only [`Self::rows`] computes it.
    pub fn is_ordered(self) -> bool {
        use RowsFunction::*;
        matches!(self, GpqaDocs | GpqaCotDocs | GpqaNShotDocs | LeaderboardGpqaDocs | ArabicSciqDocs)
    }

    /// A row after the function; none if it is dropped. Errors: as [`Self::rows`]; a function of ordered rows.
    pub fn row(self, constants: &Row, row: &Row) -> Result<Option<Row>, String> {
        let made = match self {
            Self::KeepEqual | Self::KeepPrefix => return self.kept(constants, row),
            Self::LeaderboardMathDocs => return minerva_math::leaderboard_document(row),
            Self::BigBenchDocs => return documents::bigbench(row),
            Self::EusExamsDocs => return documents::eus_exams(row),
            Self::PawsXDocs => return documents::paws_x(row),
            Self::PhysicsGreDocs => return documents::physics_gre(row),
            Self::DropDocs => drop::document(row),
            Self::HendrycksMathDocs => hendrycks_math::document(row),
            Self::MinervaMathDocs => minerva_math::document(row),
            Self::TruthfulQaDocs => truthfulqa::document(row),
            Self::TruthfulQaMultiDocs => truthfulqa::multilingual_document(row),
            Self::OkapiTruthfulQaDocs => truthfulqa::okapi_document(constants, row),
            Self::OkapiArcDocs => documents::okapi_arc(row),
            Self::MmluSrDocs => documents::mmlusr(row),
            Self::TmmluPlusDocs => documents::tmmluplus(row),
            Self::TmluDocs => documents::tmlu(row),
            Self::MlqaDocs => documents::mlqa(row),
            Self::CsatQaDocs => documents::csatqa(row),
            Self::HistoiresMoralesDocs => documents::histoires_morales(row),
            Self::DarijaHellaswagDocs => documents::darija_hellaswag(row),
            Self::ArabicTrueFalseDocs => arabic::true_or_false(row),
            Self::ArabicMmluDocs => arabic::mmlu(row),
            Self::ArabicExamsDocs => arabic::exams(row),
            Self::AlGhafaDocs => arabic::alghafa(row),
            Self::ArabicBoolqDocs => arabic::boolq(row),
            Self::ArabicCopaDocs => arabic::copa(row),
            Self::ArabicHellaswagDocs => arabic::hellaswag(row),
            Self::ArabicToxigenDocs => arabic::toxigen(row),
            Self::EgyptianMmluDocs => subjects::dialect_document(constants, row, Dialect::Egyptian),
            Self::LevantineMmluDocs => subjects::dialect_document(constants, row, Dialect::Levantine),
            Self::RecordDocs => classics::record_document(row),
            Self::ArabicBoolqTargetDocs => classics::dialect_boolq(row, "نعم", "لا"),
            Self::EnglishBoolqTargetDocs => classics::dialect_boolq(row, "yes", "no"),
            Self::CulturalDocs => classics::cultural_document(row),
            Self::GpqaDocs
            | Self::GpqaCotDocs
            | Self::GpqaNShotDocs
            | Self::LeaderboardGpqaDocs
            | Self::ArabicSciqDocs => Err("the rows are shuffled in order".to_owned()),
        };
        made.map(Some)
    }

    /// A row whose column equals a value, or starts with it.
    fn kept(self, constants: &Row, row: &Row) -> Result<Option<Row>, String> {
        let (column, wanted) = (text::text(constants, "column")?, text::value(constants, "value")?);
        let keeps = match self {
            Self::KeepPrefix => text::text(row, column)?.starts_with(wanted.as_str().unwrap_or_default()),
            _ => text::value(row, column)? == wanted,
        };
        Ok(keeps.then(|| row.clone()))
    }
}

/// Scores a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ResultsFunction {
    FirstSquadAnswer,
    Coqa,
    Drop,
    HendrycksMath,
    Aime,
    AgiEvalMath,
    AgiEvalChoice,
    MinervaMath,
    LeaderboardMath,
    IfEval,
    TruthfulQaGen,
    TruthfulQaMultiGen,
    TrueProbability,
    LeadingProbability,
    CrowsPairs,
    Record,
    Mlqa(Language),
}

impl ResultsFunction {
    /// Metrics that the published function computes by computer algebra, and this one does not.
    pub fn algebra(self) -> &'static [&'static str] {
        match self {
            Self::MinervaMath => &["math_verify"],
            Self::LeaderboardMath => &["exact_match"],
            _ => &[],
        }
    }

    /// The metrics of a document, from its filtered answers: responses, or pairs of log-likelihood and greediness.
    /// Errors: as [`RowsFunction::rows`]; an answer of another type.
    pub fn scores(self, row: &Row, answers: &[Value], by: &TextScores<'_>) -> Result<Scores, String> {
        match self {
            Self::FirstSquadAnswer => squad::first_answer(row, answers),
            Self::Coqa => coqa::scores(row, answers),
            Self::Drop => drop::scores(row, answers),
            Self::HendrycksMath => hendrycks_math::scores(row, answers),
            Self::Aime => hendrycks_math::aime_scores(row, answers),
            Self::AgiEvalMath => hendrycks_math::agieval_scores(row, answers),
            Self::AgiEvalChoice => likelihood::any_gold(row, answers),
            Self::MinervaMath => minerva_math::scores(row, answers),
            Self::LeaderboardMath => minerva_math::leaderboard_scores(row, answers),
            Self::IfEval => ifeval::scores(row, answers),
            Self::TruthfulQaGen => truthfulqa::scores(row, answers, by),
            Self::TruthfulQaMultiGen => truthfulqa::bleu_scores(row, answers, by),
            Self::TrueProbability => truthfulqa::true_probability(row, answers),
            Self::LeadingProbability => truthfulqa::leading_probability(row, answers),
            Self::CrowsPairs => likelihood::stereotype(row, answers),
            Self::Record => classics::record_scores(row, answers),
            Self::Mlqa(language) => mlqa::scores(row, answers, language),
        }
    }
}

/// Aggregates a metric over documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum AggregationFunction {
    MeanOverInstructions,
    MacroF1,
    MicroF1,
    ThreeClassF1,
    SpanF1,
    TagAccuracy,
    MeanTokenF1,
}

impl AggregationFunction {
    /// The aggregate of the documents' values, which for all but the first are (gold, answer) pairs. Error: a value of
    /// another type.
    pub fn aggregate(self, items: &[Value]) -> Result<f64, String> {
        match self {
            Self::MeanOverInstructions => ifeval::mean_over_instructions(items),
            Self::MacroF1 => classes::macro_f1(items),
            Self::MicroF1 => classes::micro_f1(items),
            Self::ThreeClassF1 => classes::three_class_f1(items),
            Self::SpanF1 => african::span_f1(items),
            Self::TagAccuracy => african::tag_accuracy(items),
            Self::MeanTokenF1 => squad::mean_token_f1(items),
        }
    }
}

/// Extracts answers from responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum FilterFunction {
    BbhMultipleChoice,
    BbhNumber,
    BbhMap,
    BbhWordSort,
}

impl FilterFunction {
    /// The answers of a document's responses; `arguments` are the filter's entry in the task file. Errors: an unknown
    /// argument, a pattern that does not compile, a response that makes the published function fail.
    pub fn filter(self, arguments: &Row, responses: &[&str], row: &Row) -> Result<Vec<String>, String> {
        let arguments = bbh::Arguments::read(arguments)?;
        match self {
            Self::BbhMultipleChoice => arguments.multiple_choice(responses, row),
            Self::BbhNumber => arguments.number(responses),
            Self::BbhMap => arguments.map(responses),
            Self::BbhWordSort => bbh::word_sort(responses, row),
        }
    }
}
