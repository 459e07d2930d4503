//! Errors of what a user can do as failures: exit code and what mends it.

use super::Failure;
use crate::cli::exit_code::ExitCode;
use crate::data::DataError;
use crate::job::nearest_key;
use crate::store::{AddressError, LabeledJob};
use crate::workspace::{ConfigError, SlurmError, WorkspaceError};

impl From<WorkspaceError> for Failure {
    fn from(error: WorkspaceError) -> Self {
        let message = error.to_string();
        match error {
            WorkspaceError::SweepFile(error) => error.into(),
            WorkspaceError::Override(problem) => Self::of_override(&problem),
            WorkspaceError::StoredSweepFile(error) => error.into(),
            WorkspaceError::Plan(error) => error.into(),
            WorkspaceError::Data(error) => error.into(),
            WorkspaceError::Task(error) => error.into(),
            WorkspaceError::Model(error) => error.into(),
            WorkspaceError::Hub(error) => error.into(),
            WorkspaceError::Store(error) => error.into(),
            WorkspaceError::Queue(error) => error.into(),
            WorkspaceError::Run(error) => error.into(),
            WorkspaceError::Device(error) => error.into(),
            WorkspaceError::Engine(error) => error.into(),
            WorkspaceError::Slurm(SlurmError::Start(_)) => {
                let help = "--slurm needs Slurm's sbatch in PATH; --slurm --dry-run prints the script";
                Self::new(ExitCode::NotFound, message, help.to_owned())
            }
            WorkspaceError::Slurm(SlurmError::Refused(_)) => {
                let help = "[slurm] in the sweep file or loragrid.toml says what is asked for; the jobs are queued, and `loragrid work` runs them";
                Self::new(ExitCode::Blocked, message, help.to_owned())
            }
            WorkspaceError::Rows { name, source } => {
                let help = format!("{}; or {}", source.help(), DataError::NotLocal { name }.help());
                Self::new(ExitCode::Task, message, help)
            }
            WorkspaceError::Blocked(blockers) => {
                Self::of_blockers(&blockers).unwrap_or_else(|| Self::new(ExitCode::Blocked, message, None))
            }
            WorkspaceError::NotUtf8(_) => {
                let help = "rename the folder, or name a database in another one with --db".to_owned();
                Self::new(ExitCode::Usage, message, help)
            }
            WorkspaceError::NoJobs(_) => {
                let help = "`loragrid status` lists the sweeps with their jobs".to_owned();
                Self::new(ExitCode::NotFound, message, help)
            }
            WorkspaceError::NoResults(_) => {
                Self::new(ExitCode::NotFound, message, "`loragrid work` runs what is queued".to_owned())
            }
            WorkspaceError::UnknownKey { name, .. } => {
                let near = nearest_key(&name).map(|near| format!("did you mean {near}?"));
                let help = near.unwrap_or_else(|| "`loragrid keys` lists the keys".to_owned());
                Self::new(ExitCode::Usage, message, help)
            }
            WorkspaceError::UnknownMetric(error) => error.into(),
            WorkspaceError::Filter(error) => error.into(),
            WorkspaceError::NoRowMeets(_) => {
                let help = "`loragrid top --all` without --where shows what there is".to_owned();
                Self::new(ExitCode::NotFound, message, help)
            }
            WorkspaceError::EmptyPivot { .. } => {
                Self::new(ExitCode::NotFound, message, "wait for more results".to_owned())
            }
            WorkspaceError::NoObjective(_) | WorkspaceError::NoWinner { .. } => {
                let help = "`loragrid top` shows the state of each run; `loragrid work` continues".to_owned();
                Self::new(ExitCode::NotFound, message, help)
            }
            WorkspaceError::Config(error) => {
                let place = match &error {
                    ConfigError::Io { path, .. } => Some((path.clone(), None)),
                    ConfigError::Malformed { path, line, .. } => Some((path.clone(), *line)),
                    ConfigError::Variable { .. }
                    | ConfigError::NoDataFolder(_)
                    | ConfigError::Launcher(_)
                    | ConfigError::Address(_)
                    | ConfigError::ResultsOfFile { .. }
                    | ConfigError::Artifacts { .. }
                    | ConfigError::ArtifactsOfFile { .. }
                    | ConfigError::SlotsAlone => None,
                };
                let help = "`loragrid config` shows every key; loragrid.toml takes db, results, artifacts, devices, gpus_per_job, pack, engine, launcher, slots, data, [notify] and [slurm]";
                let help = match &error {
                    ConfigError::Address(AddressError::Password) => {
                        "set PGPASSWORD, or name a file in PGPASSFILE (~/.pgpass)"
                    }
                    _ => help,
                };
                let failure = Self::new(ExitCode::Usage, message, help.to_owned());
                match place {
                    Some((path, line)) => failure.at(path, line),
                    None => failure,
                }
            }
            WorkspaceError::SweepRuns { .. } => {
                let help =
                    "`loragrid cancel SWEEP` stops them, or wait with `loragrid wait SWEEP`".to_owned();
                Self::new(ExitCode::Usage, message, help)
            }
            WorkspaceError::NoFinal(_) => {
                let help =
                    "add [final] with eval = [\"…\"] to the sweep file, and run it again: nothing is trained twice"
                        .to_owned();
                Self::new(ExitCode::SweepFile, message, help)
            }
            WorkspaceError::SweepExists(_) => {
                let help = "use another --name, or omit it".to_owned();
                Self::new(ExitCode::Usage, message, help)
            }
            WorkspaceError::Name(_) => {
                Self::new(ExitCode::Usage, message, "use a shorter sweep name".to_owned())
            }
            WorkspaceError::NoJob(_) => {
                let help = "use the start of an id, or a label as `loragrid top` prints it, such as \
                            'r=16 lr=0.002'; `loragrid top` shows ids too";
                Self::new(ExitCode::NotFound, message, help.to_owned())
            }
            WorkspaceError::NoAdapter { .. } => {
                let help = "use a folder in PEFT's format, such as results/adapters/ID".to_owned();
                Self::new(ExitCode::Model, message, help)
            }
            WorkspaceError::NoAdapters(_) => {
                let help = "`loragrid top` shows what is trained; [keep] and `loragrid gc` delete adapters";
                Self::new(ExitCode::NotFound, message, help.to_owned())
            }
            WorkspaceError::OtherModel { trained, .. } => {
                Self::new(ExitCode::Model, message, format!("name {trained}"))
            }
            WorkspaceError::NoRow { .. } => {
                let help =
                    "`loragrid top` shows the rows; or use at least 4 digits of an id, or a label".to_owned();
                Self::new(ExitCode::NotFound, message, help)
            }
            WorkspaceError::SameJob(_) => Self::new(
                ExitCode::Usage,
                message,
                "change a key with --set; `loragrid retry` runs a failed job again".to_owned(),
            ),
            WorkspaceError::NothingToChange(_) => {
                Self::new(ExitCode::Usage, message, "clone a trained job".to_owned())
            }
            WorkspaceError::SeveralJobs { jobs, .. } => {
                Self::new(ExitCode::NotFound, message, format!("use one of {}", listed(&jobs)))
            }
            WorkspaceError::NoTaskOfJob { known, .. } => {
                let help = match known.as_slice() {
                    [] => "it was not scored on any task".to_owned(),
                    known => format!("its tasks: {}", known.join(", ")),
                };
                Self::new(ExitCode::NotFound, message, help)
            }
            WorkspaceError::NoDocuments(_) => {
                let help =
                    "`loragrid plan` of the sweep file shows what is missing; `loragrid run` writes it again";
                Self::new(ExitCode::NotFound, message, help.to_owned())
            }
            WorkspaceError::NoModel(_) => {
                let help =
                    "use a .gguf file, a checkpoint folder, or a hub id such as HuggingFaceTB/SmolLM2-135M";
                Self::new(ExitCode::Model, message, help.to_owned())
            }
            WorkspaceError::Tokenizer(_) => {
                Self::new(ExitCode::Model, message, "use a checkpoint with its tokenizer".to_owned())
            }
            WorkspaceError::Session(error) => error.into(),
            WorkspaceError::Track(_) => {
                let help = "start the tracker and try again: only what it misses is sent".to_owned();
                Self::new(ExitCode::Blocked, message, help)
            }
            WorkspaceError::Write { source, .. } => {
                let full = source.kind() == std::io::ErrorKind::StorageFull;
                let code = if full { ExitCode::Disk } else { ExitCode::Usage };
                Self::new(code, message, "check the place, its permissions and the disk".to_owned())
            }
            WorkspaceError::NotEmpty(_) => {
                let help = "use a new folder, or delete this one".to_owned();
                Self::new(ExitCode::Usage, message, help)
            }
            WorkspaceError::NoTexts | WorkspaceError::EmptyPrompt => {
                Self::new(ExitCode::Usage, message, None)
            }
            WorkspaceError::NotScored { job, .. } => {
                let help = format!("`loragrid explain {job}` shows why");
                Self::new(ExitCode::NotFound, message, help)
            }
        }
    }
}

/// Jobs that an error lists.
const LISTED: usize = 12;

fn listed(jobs: &[LabeledJob]) -> String {
    let line = |job: &LabeledJob| format!("{:.12} ({}/{})", job.id.as_str(), job.sweep, job.label);
    let lines: Vec<String> = jobs.iter().take(LISTED).map(line).collect();
    let more = jobs.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", lines.join(", "))
}
