//! Where the database is, its folder of results, and the object store of its artifacts.

use std::path::{Path, PathBuf};

use super::{ConfigError, Configured, DATABASE, Found, Reading};
use crate::artifacts::ArtifactsAddress;
use crate::store::{Database, ServerAddress};

/// The folder of results of a server's database where none is named.
const RESULTS: &str = "results";

/// The database, the folder of results, the object store.
pub(super) type ConfiguredPlaces = (Configured<Database>, Configured<PathBuf>, Configured<Option<String>>);

/// Where the copies of servers' results are on this machine.
fn copies(variable: &dyn Fn(&str) -> Option<String>, results: &Path) -> PathBuf {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    cache.map_or_else(|| results.join("copies"), |cache| cache.join("loragrid").join("copies"))
}

impl Reading<'_> {
    /// The database, and the folder of results: that of the file, or for a server the one that is named.
    pub(super) fn database(&self) -> Result<ConfiguredPlaces, ConfigError> {
        let db = self.path("--db", self.flags.db.as_ref(), "LORAGRID_DB", |file| file.db.as_ref());
        let Configured { value, origin } = db.or(DATABASE.into());
        let given = self.flags.results.as_ref();
        let Found(results) = self.path("--results", given, "LORAGRID_RESULTS", |file| file.results.as_ref());
        let Found(artifacts) = self.artifacts();
        let Some(address) = value.to_str().filter(|text| ServerAddress::is_meant(text)) else {
            if let Some(Configured { origin, .. }) = results {
                return Err(ConfigError::ResultsOfFile { origin });
            }
            if let Some(Configured { origin, .. }) = artifacts {
                return Err(ConfigError::ArtifactsOfFile { origin });
            }
            let value = Database::from(&value);
            let results = Configured { value: value.results(), origin: origin.clone() };
            return Ok((Configured { value, origin }, results, Found(None).optional()));
        };
        let address = ServerAddress::parse(address).map_err(ConfigError::Address)?;
        let results = Found(results).or(RESULTS.into());
        let store = artifacts.as_ref().map(|named| {
            ArtifactsAddress::parse(&named.value)
                .map_err(|source| ConfigError::Artifacts { origin: named.origin.clone(), source })
        });
        let value =
            Database::of_server(address, results.value.clone(), &copies(self.variable, &results.value))
                .with_artifacts(store.transpose()?);
        Ok((Configured { value, origin }, results, Found(artifacts).optional()))
    }

    /// Where artifacts are, if in an object store.
    fn artifacts(&self) -> Found<String> {
        let given = self.flags.artifacts.clone();
        self.first("--artifacts", given, "LORAGRID_ARTIFACTS", Some, |file| file.artifacts.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::config::{Config, ConfigFlags};

    #[test]
    fn a_server_has_its_results_in_a_folder_that_is_named_and_a_file_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let read = |db: &str, results: Option<&str>| {
            let flags = ConfigFlags {
                db: Some(db.into()),
                results: results.map(PathBuf::from),
                ..ConfigFlags::default()
            };
            let variable = |name: &str| (name == "XDG_CACHE_HOME").then(|| "/cache".to_owned());
            Config::read(&flags, folder.path(), &variable)
        };
        let config = read("postgres://db/runs", Some("/shared")).unwrap();
        assert_eq!(config.db.value.to_string(), "postgres://db/runs");
        assert_eq!(config.db.value.results(), Path::new("/shared"));
        assert!(config.db.value.file().starts_with("/cache/loragrid/copies"));
        assert!(matches!(read("a.db", Some("/shared")), Err(ConfigError::ResultsOfFile { .. })));
        assert!(matches!(read("postgres://a:b@db/runs", None), Err(ConfigError::Address(_))));
    }

    #[test]
    fn an_object_store_is_of_a_server_and_its_keys_are_in_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let read = |db: &str, artifacts: &str| {
            let flags = ConfigFlags { db: Some(db.into()), ..ConfigFlags::default() };
            let variable = |name: &str| (name == "LORAGRID_ARTIFACTS").then(|| artifacts.to_owned());
            Config::read(&flags, folder.path(), &variable)
        };
        let config = read("postgres://db/runs", "s3://lab/runs").unwrap();
        assert_eq!(config.db.value.artifacts().unwrap().to_string(), "s3://lab/runs");
        assert_eq!(config.artifacts.value.as_deref(), Some("s3://lab/runs"));
        assert!(matches!(read("a.db", "s3://lab/runs"), Err(ConfigError::ArtifactsOfFile { .. })));
        let error = read("postgres://db/runs", "s3://key:hunter2@lab/runs").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}
