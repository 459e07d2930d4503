//! The configuration of this program: command line, environment, `loragrid.toml` of the project, `loragrid.toml` of the user, defaults.

mod database;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::artifacts::ArtifactsAddressError;
use crate::engine_process::{Launcher, LauncherError};
use crate::scheduler::PACK_MOST;
use crate::store::{AddressError, Database, ServerAddress};
use crate::sweep_file::{Notify, Slurm};

/// Name of a configuration file.
const CONFIG_FILE: &str = "loragrid.toml";
/// The database where none is named.
pub const DATABASE: &str = "results/loragrid.db";

/// How many engines a launcher may start.
const SLOTS: std::ops::RangeInclusive<u64> = 1..=4096;

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct ConfigFlags {
    /// The database.
    pub db: Option<PathBuf>,
    /// The folder of results of a server's database.
    pub results: Option<PathBuf>,
    /// The object store of a server's database.
    pub artifacts: Option<String>,
    /// The devices.
    pub devices: Option<String>,
    /// GPUs that train a pack of jobs together.
    pub gpus_per_job: Option<u64>,
    /// Most jobs of a pack.
    pub pack: Option<u64>,
    /// The engine.
    pub engine: Option<PathBuf>,
    /// The command that starts engines elsewhere.
    pub launcher: Option<String>,
    /// How many it starts.
    pub slots: Option<u64>,
}

/// How engines are started elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launching {
    /// The command.
    pub launcher: Launcher,
    /// How many engines run at a time.
    pub slots: usize,
}

/// Where a value comes from, the strongest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigOrigin {
    /// An option of the command line.
    Flag(&'static str),
    /// An environment variable.
    Environment(&'static str),
    /// A configuration file.
    File(PathBuf),
    /// Nobody set it.
    Default,
}

impl fmt::Display for ConfigOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "{name}"),
            Self::Environment(name) => write!(f, "{name}"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured<T> {
    /// The value.
    pub value: T,
    /// Where it comes from.
    pub origin: ConfigOrigin,
}

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The database.
    pub db: Configured<Database>,
    /// The folder of results.
    pub results: Configured<PathBuf>,
    /// The object store of adapters, checkpoints and inputs; none: they are in the folder of results.
    pub artifacts: Configured<Option<String>>,
    /// The devices that run jobs.
    pub devices: Configured<String>,
    /// GPUs that train a pack of jobs together.
    pub gpus_per_job: Configured<u64>,
    /// Most jobs of a pack.
    pub pack: Configured<u64>,
    /// The engine; found beside this program or in PATH where none is named.
    pub engine: Configured<Option<PathBuf>>,
    /// How engines are started elsewhere, where they are.
    pub launching: Configured<Option<Launching>>,
    /// The folder of data sets.
    pub data: Configured<Option<PathBuf>>,
    /// Who is notified of sweeps whose file has no `[notify]`.
    pub notify: Configured<Option<Notify>>,
    /// What is asked of a Slurm cluster, under the `[slurm]` of sweep files.
    pub slurm: Configured<Option<Slurm>>,
}

/// A configuration file that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is not a configuration.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: Option<usize>,
        /// What was found, and what was expected.
        reason: String,
    },
    /// An address that is none, or has a password.
    #[error(transparent)]
    Address(AddressError),
    /// A folder of results beside a file.
    #[error("{origin} names a folder of results, and the results of a database file are in its own folder")]
    ResultsOfFile {
        /// Where it was named.
        origin: ConfigOrigin,
    },
    /// An object store that is none, or has keys.
    #[error("{origin}: {source}")]
    Artifacts {
        /// Where it was named.
        origin: ConfigOrigin,
        /// What is wrong with it.
        source: ArtifactsAddressError,
    },
    /// An object store beside a file.
    #[error("{origin} names an object store, and the adapters of a database file are in its own folder")]
    ArtifactsOfFile {
        /// Where it was named.
        origin: ConfigOrigin,
    },
    /// A launcher that is not a command.
    #[error(transparent)]
    Launcher(#[from] LauncherError),
    /// Slots of no launcher.
    #[error(
        "--slots is the number of engines that --launcher starts, and no launcher is named; --devices cpu:N makes slots here"
    )]
    SlotsAlone,
    /// A data folder that does not exist.
    #[error("the data folder {} does not exist; LORAGRID_DATA or `data` in loragrid.toml names it", .0.display())]
    NoDataFolder(PathBuf),
    /// A variable that is not what it should be.
    #[error("{name} must be {expected}, not '{value}'")]
    Variable {
        /// The variable.
        name: &'static str,
        /// What it says.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

/// A configuration file; paths in it start at its folder.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    db: Option<PathBuf>,
    results: Option<PathBuf>,
    artifacts: Option<String>,
    devices: Option<String>,
    gpus_per_job: Option<u64>,
    pack: Option<u64>,
    engine: Option<PathBuf>,
    launcher: Option<String>,
    slots: Option<u64>,
    data: Option<PathBuf>,
    notify: Option<NotifyTable>,
    slurm: Option<Slurm>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NotifyTable {
    command: Option<String>,
    webhook_env: Option<String>,
    #[serde(default)]
    on: Vec<String>,
}

impl Config {
    /// The configuration in a folder. `variable` reads the environment. Errors: a file or a variable that is wrong.
    pub fn read(
        flags: &ConfigFlags,
        folder: &Path,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let mut files = Vec::new();
        let project = folder.ancestors().map(|folder| folder.join(CONFIG_FILE)).find(|path| path.is_file());
        for path in project.into_iter().chain(user_file(variable).filter(|path| path.is_file())) {
            files.push((ConfigFile::read(&path)?, path));
        }
        let read = Reading { flags, files, variable };
        let (db, results, artifacts) = read.database()?;
        Ok(Self {
            db,
            results,
            artifacts,
            devices: read
                .first("--devices", flags.devices.clone(), "", Some, |file| file.devices.clone())
                .or("auto".to_owned()),
            gpus_per_job: read
                .first("--gpus-per-job", flags.gpus_per_job, "", |_| None, |file| file.gpus_per_job)
                .or(1),
            pack: read.pack()?.or(PACK_MOST as u64),
            engine: read
                .path("--engine", flags.engine.as_ref(), "LORAGRID_ENGINE", |file| file.engine.as_ref())
                .optional(),
            launching: read.launching()?.optional(),
            data: read.path("", None, "LORAGRID_DATA", |file| file.data.as_ref()).optional(),
            notify: read.notify().optional(),
            slurm: read.first("", None, "", |_| None, |file| file.slurm.clone()).optional(),
        })
    }
}

/// `loragrid/loragrid.toml` in the user's configuration folder.
fn user_file(variable: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(folder.join("loragrid").join(CONFIG_FILE))
}

impl ConfigFile {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Io { path: path.to_owned(), source })?;
        let file: Self = toml::from_str(&text).map_err(|error| ConfigError::Malformed {
            path: path.to_owned(),
            line: error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1),
            reason: error.message().to_owned(),
        })?;
        let wrong = |reason: &str| {
            Err(ConfigError::Malformed { path: path.to_owned(), line: None, reason: reason.to_owned() })
        };
        if file.slots.is_some_and(|slots| !SLOTS.contains(&slots)) {
            return wrong("slots must be between 1 and 4096");
        }
        if file.slots.is_some() && file.launcher.is_none() {
            return wrong("slots are those of a launcher, and the file names none");
        }
        if file.pack.is_some_and(|pack| !(1..=64).contains(&pack)) {
            return wrong("pack must be between 1 and 64");
        }
        if file.notify.as_ref().is_some_and(|notify| notify.command.is_none() && notify.webhook_env.is_none())
        {
            return wrong("[notify] needs a command or a webhook_env");
        }
        if let Some((key, wanted)) = file.slurm.as_ref().and_then(Slurm::problem) {
            return wrong(&format!("slurm.{key} must be {wanted}"));
        }
        if let Some(event) = file.notify().and_then(|notify| notify.unknown_event().map(str::to_owned)) {
            return wrong(&format!("'{event}' is not an event of [notify]"));
        }
        Ok(file)
    }
}

impl ConfigFile {
    fn notify(&self) -> Option<Notify> {
        self.notify.as_ref().map(|NotifyTable { command, webhook_env, on }| Notify {
            command: command.clone(),
            webhook_env: webhook_env.clone(),
            on: on.clone(),
        })
    }
}

/// What was found of a value.
struct Found<T>(Option<Configured<T>>);

impl<T> Found<T> {
    fn or(self, default: T) -> Configured<T> {
        self.0.unwrap_or(Configured { value: default, origin: ConfigOrigin::Default })
    }

    fn optional(self) -> Configured<Option<T>> {
        match self.0 {
            Some(Configured { value, origin }) => Configured { value: Some(value), origin },
            None => Configured { value: None, origin: ConfigOrigin::Default },
        }
    }
}

struct Reading<'a> {
    flags: &'a ConfigFlags,
    /// The project's, then the user's.
    files: Vec<(ConfigFile, PathBuf)>,
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Reading<'_> {
    fn first<T>(
        &self,
        flag: &'static str,
        given: Option<T>,
        name: &'static str,
        parse: impl Fn(String) -> Option<T>,
        of: impl Fn(&ConfigFile) -> Option<T>,
    ) -> Found<T> {
        let found = |value, origin| Found(Some(Configured { value, origin }));
        if let Some(value) = given {
            return found(value, ConfigOrigin::Flag(flag));
        }
        let variable = (self.variable)(name).filter(|value| !value.is_empty());
        if let Some(value) = variable.and_then(parse) {
            return found(value, ConfigOrigin::Environment(name));
        }
        for (file, path) in &self.files {
            if let Some(value) = of(file) {
                return found(value, ConfigOrigin::File(path.clone()));
            }
        }
        Found(None)
    }

    /// A path; in a file it starts at the file's folder.
    fn path(
        &self,
        flag: &'static str,
        given: Option<&PathBuf>,
        name: &'static str,
        of: impl Fn(&ConfigFile) -> Option<&PathBuf>,
    ) -> Found<PathBuf> {
        let Found(found) = self.first(
            flag,
            given.cloned(),
            name,
            |text| Some(PathBuf::from(text)),
            |file| of(file).cloned(),
        );
        Found(found.map(|Configured { value, origin }| {
            let is_server = value.to_str().is_some_and(ServerAddress::is_meant);
            let value = match &origin {
                _ if is_server => value,
                ConfigOrigin::File(file) => file.parent().unwrap_or(Path::new(".")).join(value),
                ConfigOrigin::Flag(_) | ConfigOrigin::Environment(_) | ConfigOrigin::Default => value,
            };
            Configured { value, origin }
        }))
    }

    fn pack(&self) -> Result<Found<u64>, ConfigError> {
        const NAME: &str = "LORAGRID_PACK";
        let parse = |text: String| text.parse().ok().filter(|pack| (1..=64).contains(pack));
        let variable = (self.variable)(NAME).filter(|value| !value.is_empty());
        match variable {
            Some(value) if self.flags.pack.is_none() && parse(value.clone()).is_none() => {
                Err(ConfigError::Variable { name: NAME, value, expected: "a number from 1 to 64" })
            }
            Some(_) | None => Ok(self.first("--pack", self.flags.pack, NAME, parse, |file| file.pack)),
        }
    }

    /// The number of slots is that of the tasks of a Slurm allocation where nobody names it, else one.
    fn launching(&self) -> Result<Found<Launching>, ConfigError> {
        let named =
            self.first("--launcher", self.flags.launcher.clone(), "", Some, |file| file.launcher.clone());
        let Some(Configured { value, origin }) = named.0 else {
            return if self.flags.slots.is_some() { Err(ConfigError::SlotsAlone) } else { Ok(Found(None)) };
        };
        let launcher = Launcher::parse(&value)?;
        let parse = |text: String| text.parse().ok().filter(|slots| SLOTS.contains(slots));
        let Found(slots) = self.first("--slots", self.flags.slots, "SLURM_NTASKS", parse, |file| file.slots);
        let slots = slots.map_or(1, |slots| slots.value as usize);
        Ok(Found(Some(Configured { value: Launching { launcher, slots }, origin })))
    }

    fn notify(&self) -> Found<Notify> {
        self.first("", None, "", |_| None, ConfigFile::notify)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_beats_the_environment_beats_the_project_beats_the_user() {
        let home = tempfile::tempdir().unwrap();
        let project = home.path().join("work/deep");
        std::fs::create_dir_all(&project).unwrap();
        std::fs::create_dir_all(home.path().join(".config/loragrid")).unwrap();
        let user = "db = 'user.db'\ndevices = 'cpu'\npack = 2\ndata = 'sets'\n[notify]\ncommand = 'true'\n";
        std::fs::write(home.path().join(".config/loragrid/loragrid.toml"), user).unwrap();
        std::fs::write(
            home.path().join("work/loragrid.toml"),
            "db = 'results/a.db'\ndevices = 'cpu:2'\npack = 3\n",
        )
        .unwrap();
        let path = home.path().display().to_string();
        let read = |flags: &ConfigFlags, pack: &str| {
            let variable = |name: &str| match name {
                "HOME" => Some(path.clone()),
                "LORAGRID_PACK" => Some(pack.to_owned()),
                _ => None,
            };
            Config::read(flags, &project, &variable)
        };
        let config =
            read(&ConfigFlags { devices: Some("cuda".into()), ..ConfigFlags::default() }, "4").unwrap();
        assert_eq!(
            config.devices,
            Configured { value: "cuda".into(), origin: ConfigOrigin::Flag("--devices") }
        );
        assert_eq!(config.pack, Configured { value: 4, origin: ConfigOrigin::Environment("LORAGRID_PACK") });
        assert_eq!(config.db.value.file(), home.path().join("work/results/a.db"));
        assert_eq!(config.results.value, home.path().join("work/results"));
        assert_eq!(config.data.value, Some(home.path().join(".config/loragrid/sets")));
        assert_eq!(config.notify.value.unwrap().command.as_deref(), Some("true"));
        assert_eq!(config.engine, Configured { value: None, origin: ConfigOrigin::Default });
        assert!(matches!(read(&ConfigFlags::default(), "many"), Err(ConfigError::Variable { .. })));
        assert_eq!(read(&ConfigFlags::default(), "").unwrap().pack.value, 3);
    }

    #[test]
    fn a_key_that_nobody_knows_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(CONFIG_FILE), "pack = 1\ndbs = 'x'\n").unwrap();
        match Config::read(&ConfigFlags::default(), folder.path(), &|_| None) {
            Err(ConfigError::Malformed { line: Some(2), reason, .. }) => {
                assert!(reason.contains("dbs"), "{reason}")
            }
            other => panic!("{other:?}"),
        }
    }
}
