//! The address of an object store.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// `s3://BUCKET/PREFIX`, or a folder that several hosts see. It contains no keys: they come from `AWS_ACCESS_KEY_ID` and the other
/// variables of AWS's programs, or from the machine's role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArtifactsAddress {
    /// A bucket of S3, or of a server that speaks its protocol (`AWS_ENDPOINT_URL`).
    S3 {
        /// The bucket.
        bucket: String,
        /// What all names begin with; may be empty.
        prefix: String,
    },
    /// A folder.
    Folder(PathBuf),
}

/// Why a text is not an address. The text is not repeated: it may contain a secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ArtifactsAddressError {
    /// It contains a user or a key, which every user of the machine could read in the list of processes.
    #[error(
        "the address of an object store must not have keys: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY name them"
    )]
    Secret,
    /// It is not an address.
    #[error("artifacts must be s3://BUCKET/PREFIX or file:///FOLDER")]
    Malformed,
}

impl ArtifactsAddress {
    /// Errors: keys in it; not an address.
    pub fn parse(text: &str) -> Result<Self, ArtifactsAddressError> {
        if let Some(folder) = text.strip_prefix("file://") {
            let folder = Path::new(folder);
            let is_plain = folder.is_absolute() && folder.parent().is_some();
            return if is_plain {
                Ok(Self::Folder(folder.to_owned()))
            } else {
                Err(ArtifactsAddressError::Malformed)
            };
        }
        let rest = text.strip_prefix("s3://").ok_or(ArtifactsAddressError::Malformed)?;
        if rest.contains(['@', '?']) {
            return Err(ArtifactsAddressError::Secret);
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_bucket = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let prefix = prefix.trim_end_matches('/');
        let is_part = |part: &str| !matches!(part, "" | "." | "..");
        if bucket.is_empty()
            || !bucket.chars().all(is_bucket)
            || !(prefix.is_empty() || prefix.split('/').all(is_part))
        {
            return Err(ArtifactsAddressError::Malformed);
        }
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl fmt::Display for ArtifactsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Folder(folder) => write!(f, "file://{}", folder.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_bucket_or_a_folder_and_has_no_keys() {
        let s3 = |bucket: &str, prefix: &str| ArtifactsAddress::S3 {
            bucket: bucket.into(),
            prefix: prefix.into(),
        };
        for (text, address) in [
            ("s3://lab", s3("lab", "")),
            ("s3://lab/runs/", s3("lab", "runs")),
            ("s3://lab.x-1/runs/7b", s3("lab.x-1", "runs/7b")),
            ("file:///shared/artifacts", ArtifactsAddress::Folder("/shared/artifacts".into())),
        ] {
            assert_eq!(ArtifactsAddress::parse(text), Ok(address));
        }
        assert_eq!(ArtifactsAddress::parse("s3://lab/runs/").unwrap().to_string(), "s3://lab/runs");
        for secret in ["s3://AKIA:hunter2@lab/runs", "s3://lab/runs?secret=hunter2"] {
            let error = ArtifactsAddress::parse(secret).unwrap_err();
            assert_eq!(error, ArtifactsAddressError::Secret);
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
        for bad in [
            "",
            "gs://lab",
            "s3://",
            "s3://lab/../x",
            "s3://lab//x",
            "file://shared",
            "file:///",
            "/shared",
            "s3://l ab",
        ] {
            assert_eq!(ArtifactsAddress::parse(bad), Err(ArtifactsAddressError::Malformed), "{bad}");
        }
    }
}
