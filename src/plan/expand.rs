//! Axes × pairs → the resolved settings of each cell.

use std::sync::Arc;

use crate::job::{JobConfig, Key, Origin, Profile, Setting, Settings, Value};
use crate::sweep_file::{Condition, EvalError, MAX_JOBS, Problem, SpecError, SweepSpec};

/// The cells of a sweep.
#[derive(Debug, Clone)]
pub struct Expansion {
    /// The settings of each cell, the last axis varying fastest.
    pub cells: Vec<Settings>,
    /// Rules that matched no cell.
    pub warnings: Vec<String>,
}

/// Resolves every cell: root and sections → axes × pairs → defaults of the profile → `[[when]]` in the file's order → `[derive]` in
/// dependency order → `[[exclude]]`. Errors: too many cells (rejected before any is built), an invalid value, conflicting rules, no cell
/// left.
pub fn expand(spec: &SweepSpec) -> Result<Expansion, SpecError> {
    let grid = Grid::of(spec);
    let count = grid.count().map_err(|count| spec.error(Problem::TooMany { count }, grid.place()))?;
    let mut rules = RuleUse { when: vec![false; spec.when.len()], exclude: vec![false; spec.exclude.len()] };
    let mut cells = Vec::with_capacity(count as usize);
    for number in 0..count {
        let mut settings = spec.settings.clone();
        grid.place_cell(number, &mut settings);
        if let Some(settings) = resolve(spec, settings, &mut rules)? {
            cells.push(settings);
        }
    }
    if cells.is_empty() {
        let span = spec.exclude.first().map_or(0..0, |rule| rule.span.clone());
        return Err(spec.error(Problem::NothingLeft, span));
    }
    Ok(Expansion { cells, warnings: rules.warnings(spec) })
}

/// The dimensions of the grid: each axis and each pair, with its rows of settings.
struct Grid<'a> {
    spec: &'a SweepSpec,
    dimensions: Vec<Vec<Row>>,
}

/// One value of a dimension: its settings.
type Row = Vec<(&'static Key, Arc<Setting>)>;

impl<'a> Grid<'a> {
    fn of(spec: &'a SweepSpec) -> Self {
        let shared = |value: &Value, origin: Origin| Arc::new(Setting::new(value.clone(), origin));
        let axes = spec.axes.iter().map(|axis| {
            axis.values.iter().map(|value| vec![(axis.key, shared(value, Origin::Axis))]).collect()
        });
        let zips = spec.zips.iter().map(|zip| {
            let origin = || Origin::Zip { name: Arc::clone(&zip.name) };
            let row = |at: usize| {
                zip.columns.iter().map(|(key, values)| (*key, shared(&values[at], origin()))).collect()
            };
            (0..zip.len()).map(row).collect()
        });
        Self { spec, dimensions: axes.chain(zips).collect() }
    }

    /// The number of cells; the error is the product as a string if it exceeds [`MAX_JOBS`].
    fn count(&self) -> Result<u64, String> {
        let sizes = || self.dimensions.iter().map(|rows| rows.len() as u64);
        let count = sizes().try_fold(1u64, u64::checked_mul).filter(|count| *count <= MAX_JOBS);
        count.ok_or_else(|| {
            let exact = sizes().map(u128::from).try_fold(1u128, u128::checked_mul);
            exact.map_or_else(|| "more than 10^38".to_owned(), |count| count.to_string())
        })
    }

    fn place(&self) -> std::ops::Range<usize> {
        let axis = self.spec.axes.first().map(|axis| axis.span.clone());
        axis.or_else(|| self.spec.zips.first().map(|zip| zip.span.clone())).unwrap_or(0..0)
    }

    fn place_cell(&self, number: u64, settings: &mut Settings) {
        let mut rest = number;
        for rows in self.dimensions.iter().rev() {
            let length = rows.len() as u64;
            for (key, setting) in &rows[(rest % length) as usize] {
                settings.share(key, setting);
            }
            rest /= length;
        }
    }
}

/// Which rules matched a cell.
struct RuleUse {
    when: Vec<bool>,
    exclude: Vec<bool>,
}

impl RuleUse {
    fn warnings(&self, spec: &SweepSpec) -> Vec<String> {
        let unused = |kind: &str, condition: &Condition| {
            let (line, _) = spec.source.place(condition.span.start);
            format!(
                "{}:{line}: the [[{kind}]] rule matches no cell: {}",
                spec.source.path().display(),
                condition.text
            )
        };
        let when = spec.when.iter().zip(&self.when).filter(|(_, used)| !**used);
        let exclude = spec.exclude.iter().zip(&self.exclude).filter(|(_, used)| !**used);
        when.map(|(rule, _)| unused("when", &rule.condition))
            .chain(exclude.map(|(rule, _)| unused("exclude", rule)))
            .collect()
    }
}

/// The resolved cell; `None` if a rule excludes it.
fn resolve(
    spec: &SweepSpec,
    mut settings: Settings,
    rules: &mut RuleUse,
) -> Result<Option<Settings>, SpecError> {
    let profile = settings.value("profile").and_then(Value::as_text).and_then(Profile::parse);
    if settings.get("train.epochs").is_some() {
        // Epochs replace iterations, whose default then has no meaning.
        settings.unset("train.iterations");
    }
    settings.fill_defaults(profile.unwrap_or(Profile::Peft));
    apply_when(spec, &mut settings, rules)?;
    for derive in &spec.derive {
        let value =
            derive.expression.evaluate(&settings).and_then(|value| Ok(derive.key.kind.check(&value)?));
        let value = value
            .map_err(|error| evaluation(spec, &settings, derive.key.path, error, derive.span.clone()))?;
        settings.set(derive.key, value, Origin::Derived { expression: Arc::clone(&derive.text) });
    }
    for (rule, used) in spec.exclude.iter().zip(&mut rules.exclude) {
        let holds = rule.expression.holds(&settings);
        if holds.map_err(|error| evaluation(spec, &settings, "if", error, rule.span.clone()))? {
            *used = true;
            return Ok(None);
        }
    }
    check_batch(spec, &settings)?;
    Ok(Some(settings))
}

fn apply_when(spec: &SweepSpec, settings: &mut Settings, rules: &mut RuleUse) -> Result<(), SpecError> {
    let mut set: Vec<(&'static str, &Value)> = Vec::new();
    for (rule, used) in spec.when.iter().zip(&mut rules.when) {
        let holds = rule.condition.expression.holds(settings);
        if !holds.map_err(|error| evaluation(spec, settings, "if", error, rule.condition.span.clone()))? {
            continue;
        }
        *used = true;
        for (key, value) in &rule.set {
            if let Some((_, first)) =
                set.iter().find(|(path, earlier)| *path == key.path && *earlier != value)
            {
                let problem = Problem::RulesDiffer {
                    path: key.path.to_owned(),
                    cell: cell_name(spec, settings),
                    first: first.to_string(),
                    second: value.to_string(),
                };
                return Err(spec.error(problem, rule.condition.span.clone()));
            }
            set.push((key.path, value));
            settings.set(key, value.clone(), Origin::When { line: rule.line });
        }
    }
    Ok(())
}

fn check_batch(spec: &SweepSpec, settings: &Settings) -> Result<(), SpecError> {
    let integer = |path| match settings.value(path) {
        Some(Value::Integer(n)) => *n as u64,
        _ => 1,
    };
    let (batch, micro) = (integer("train.batch_size"), integer("train.micro_batch_size"));
    if batch.is_multiple_of(micro) {
        return Ok(());
    }
    let line = ["train.batch_size", "train.micro_batch_size"].iter().find_map(|path| {
        match settings.get(path)?.origin {
            Origin::File { line } => Some(line),
            _ => None,
        }
    });
    let start = line.and_then(|line| {
        spec.source.text().split_inclusive('\n').take(line - 1).map(str::len).reduce(|a, b| a + b)
    });
    let start = start.unwrap_or_default();
    Err(spec.error(Problem::Batch { batch, micro }, start..start))
}

fn evaluation(
    spec: &SweepSpec,
    settings: &Settings,
    path: &str,
    error: EvalError,
    span: std::ops::Range<usize>,
) -> SpecError {
    let problem = Problem::Evaluation { path: path.to_owned(), cell: cell_name(spec, settings), error };
    spec.error(problem, span)
}

/// The cell's description by its settings.
fn cell_name(spec: &SweepSpec, settings: &Settings) -> String {
    match JobConfig::label(settings, &spec.varied()) {
        name if name.is_empty() => "nothing varies".to_owned(),
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::sweep_file::SourceText;

    fn spec(rest: &str) -> SweepSpec {
        let text = format!("name = 'a'\nmodel = 'm'\ndata = 'd'\n{rest}");
        SweepSpec::parse(SourceText::new(Path::new("a.toml"), &text)).unwrap()
    }

    fn values(rest: &str, path: &str) -> Vec<String> {
        let cells = expand(&spec(rest)).unwrap().cells;
        cells.iter().map(|cell| cell.value(path).unwrap().to_string()).collect()
    }

    fn problem(rest: &str) -> String {
        match expand(&spec(rest)).unwrap_err() {
            SpecError::Problems { problems, .. } => problems[0].0.to_string(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn derived_alpha_follows_the_rank_of_each_cell() {
        let rest = "[axes]\n'lora.rank' = [8, 16]\n[derive]\n'lora.alpha' = '2 * lora.rank'\n";
        assert_eq!(values(rest, "lora.alpha"), ["16", "32"]);
    }

    #[test]
    fn pairs_go_row_by_row_and_rules_follow_them() {
        let rest = "[axes]\nseed = [1, 2]\n[zip.opt]\n'train.optimizer' = ['adamw', 'sgd']\n\
                    'train.learning_rate' = [3e-4, 0.1]\n[[when]]\nif = \"train.optimizer == 'sgd'\"\n\
                    set = { 'train.momentum' = 0.9 }\n";
        assert_eq!(values(rest, "train.learning_rate"), ["3e-4", "0.1", "3e-4", "0.1"]);
        assert_eq!(values(rest, "train.momentum"), ["0", "0.9", "0", "0.9"]);
    }

    #[test]
    fn excluded_cells_are_gone_and_a_rule_without_cells_warns() {
        let rest = "[axes]\n'lora.rank' = [8, 16, 32]\n[[exclude]]\nif = 'lora.rank == 16'\n\
                    [[exclude]]\nif = 'lora.rank > 64'\n";
        assert_eq!(values(rest, "lora.rank"), ["8", "32"]);
        let warnings = expand(&spec(rest)).unwrap().warnings;
        assert_eq!(warnings, ["a.toml:9: the [[exclude]] rule matches no cell: lora.rank > 64"]);
        assert_eq!(problem("[[exclude]]\nif = 'lora.rank == 8'\n"), "every cell is excluded");
    }

    #[test]
    fn rules_that_differ_in_one_cell_are_an_error() {
        let rule = |condition: &str, value: &str| {
            format!("[[when]]\nif = '{condition}'\nset = {{ 'train.momentum' = {value} }}\n")
        };
        let axes = "[axes]\n'lora.rank' = [8, 16]\n";
        let differ = format!("{axes}{}{}", rule("lora.rank >= 8", "0.5"), rule("lora.rank >= 16", "0.9"));
        assert_eq!(
            problem(&differ),
            "two rules set 'train.momentum' differently where r=16: to 0.5 and to 0.9"
        );
        let agree = format!("{axes}{}{}", rule("lora.rank >= 8", "0.5"), rule("lora.rank >= 16", "0.5"));
        assert_eq!(values(&agree, "train.momentum"), ["0.5", "0.5"]);
    }

    #[test]
    fn a_profile_can_be_an_axis() {
        let rest = "[axes]\nprofile = ['peft', 'litgpt-2023']\n";
        assert_eq!(values(rest, "train.loss"), ["token", "micro_batch"]);
    }

    #[test]
    fn a_product_beyond_any_number_is_refused_before_it_is_made() {
        let list = (8..4008).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
        let axes = [
            "seed",
            "lora.rank",
            "train.batch_size",
            "train.iterations",
            "train.warmup_steps",
            "train.max_seq_length",
        ];
        let lists: String = axes.iter().map(|axis| format!("'{axis}' = [{list}]\n")).collect();
        assert_eq!(
            problem(&format!("[axes]\n{lists}")),
            format!("the axes multiply to {} cells", 4000u128.pow(6))
        );
    }

    #[test]
    fn a_fraction_where_a_whole_number_is_wanted_is_an_error() {
        let message = problem("[axes]\nseed = [4]\n[derive]\n'lora.rank' = 'lora.alpha / 3'\n");
        assert!(
            message.starts_with("in the expression of 'lora.rank' where seed=4: expected a whole number"),
            "{message}"
        );
    }

    #[test]
    fn a_hundred_thousand_cells_are_resolved() {
        let list = |n: usize| (1..=n).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
        let rest = format!("[axes]\nseed = [{}]\n'lora.rank' = [{}]\n", list(1000), list(100));
        assert_eq!(expand(&spec(&rest)).unwrap().cells.len(), 100_000);
    }

    proptest! {
        #[test]
        fn the_expansion_is_exactly_the_product_times_pairs_less_the_excluded(
            seeds in prop::collection::btree_set(0i64..50, 1..6),
            ranks in prop::collection::btree_set(1i64..50, 1..6),
            pairs in prop::collection::btree_set((1i64..9, 10i64..19), 1..5),
            bound in 0i64..60,
        ) {
            let list = |items: Vec<i64>| items.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
            let (warmups, lengths): (Vec<i64>, Vec<i64>) = pairs.iter().copied().unzip();
            let rest = format!(
                "[axes]\nseed = [{}]\n'lora.rank' = [{}]\n[zip.z]\n'train.warmup_steps' = [{}]\n\
                 'train.max_seq_length' = [{}]\n[[exclude]]\nif = 'lora.rank > {bound} && seed > 10'\n",
                list(seeds.iter().copied().collect()), list(ranks.iter().copied().collect()), list(warmups), list(lengths),
            );
            let wanted: BTreeSet<(i64, i64, i64, i64)> = seeds.iter().flat_map(|seed| ranks.iter().map(move |rank| (*seed, *rank)))
                .filter(|(seed, rank)| !(*rank > bound && *seed > 10))
                .flat_map(|(seed, rank)| pairs.iter().map(move |(a, b)| (seed, rank, *a, *b))).collect();
            match expand(&spec(&rest)) {
                Err(_) => prop_assert!(wanted.is_empty()),
                Ok(expansion) => {
                    let integer = |cell: &Settings, path| match cell.value(path) { Some(Value::Integer(n)) => *n, _ => -1 };
                    let cells: BTreeSet<(i64, i64, i64, i64)> = expansion.cells.iter().map(|cell| {
                        (integer(cell, "seed"), integer(cell, "lora.rank"), integer(cell, "train.warmup_steps"), integer(cell, "train.max_seq_length"))
                    }).collect();
                    prop_assert_eq!(expansion.cells.len(), cells.len());
                    prop_assert_eq!(cells, wanted);
                }
            }
        }

        #[test]
        fn the_expansion_does_not_depend_on_the_order_of_keys(flip: bool, seed in 1i64..5) {
            let (a, b) = ("'lora.rank' = [8, 16]\n", "'train.warmup_steps' = [1, 2]\n");
            let (c, d) = (format!("seed = {seed}\nlimit = 3\n"), format!("limit = 3\nseed = {seed}\n"));
            let first = expand(&spec(&format!("{c}[axes]\n{a}{b}"))).unwrap().cells;
            let text = if flip { format!("{d}[axes]\n{b}{a}") } else { format!("{d}[axes]\n{a}{b}") };
            let second = expand(&spec(&text)).unwrap().cells;
            let names = |cells: &[Settings]| -> BTreeSet<String> {
                cells.iter().map(|cell| cell.iter().map(|(key, setting)| format!("{}={}\n", key.path, setting.value)).collect()).collect()
            };
            prop_assert_eq!(names(&first), names(&second));
        }
    }
}
