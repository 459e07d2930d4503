//! The address of a server.

use std::fmt;
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use thiserror::Error;

/// The address of a PostgreSQL database, without a password: that comes from `PGPASSWORD`, or from the file that `PGPASSFILE` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress(String);

/// Why a text is not such an address. The text is not repeated: it may hold a secret.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AddressError {
    /// It has a password, which everybody could read in the list of processes.
    #[error("the address of a PostgreSQL server must not have a password")]
    Password,
    /// It is not an address.
    #[error("the address of a PostgreSQL server must be postgres://USER@HOST/DATABASE")]
    Malformed,
}

/// The beginnings of an address.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

impl ServerAddress {
    /// Whether a text means a server, and not a file.
    pub fn is_meant(text: &str) -> bool {
        SCHEMES.iter().any(|scheme| text.starts_with(scheme))
    }

    /// Errors: a password in it; not an address.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let rest =
            SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme)).ok_or(AddressError::Malformed)?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let user = place.split('/').next().and_then(|authority| authority.rsplit_once('@'));
        let is_password = |part: &str| part.split('=').next().is_some_and(|key| key == "password");
        if user.is_some_and(|(user, _)| user.contains(':')) || query.split('&').any(is_password) {
            return Err(AddressError::Password);
        }
        let address = Self(text.to_owned());
        address.options().map(|_| address)
    }

    /// How to connect.
    pub(super) fn options(&self) -> Result<PgConnectOptions, AddressError> {
        let options = PgConnectOptions::from_str(&self.0).map_err(|_| AddressError::Malformed)?;
        // Every statement goes by an index; a server that has not counted the rows of new tables yet would read them whole, and compile
        // statements that take a millisecond.
        let options = options.options([("jit", "off"), ("enable_seqscan", "off")]);
        Ok(options.application_name("loragrid"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_has_no_place_in_an_address() {
        for good in [
            "postgres://ann@db.example/runs",
            "postgresql://db:5433/runs?sslmode=require",
            "postgres:///runs?host=/run/pg",
        ] {
            assert!(ServerAddress::is_meant(good));
            assert_eq!(ServerAddress::parse(good).unwrap().as_str(), good);
        }
        for secret in ["postgres://ann:hunter2@db/runs", "postgres://db/runs?user=ann&password=hunter2"] {
            let error = ServerAddress::parse(secret).unwrap_err();
            assert_eq!(error, AddressError::Password);
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
        assert_eq!(ServerAddress::parse("postgres://db:port/runs"), Err(AddressError::Malformed));
        assert!(!ServerAddress::is_meant("results/postgres.db"));
    }
}
