//! Environment variables of Hugging Face's own clients.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::cache::Cache;

/// Read timeout of Hugging Face's own client.
const IDLE: Duration = Duration::from_secs(10);

/// A token; it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token from a string; none if it is empty or invalid in a header.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
        plain.then(|| Self(text.to_owned()))
    }

    /// The value of an Authorization header.
    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A hub with its local cache.
#[derive(Debug, Clone)]
pub struct Hub {
    /// `https://huggingface.co`, without a trailing slash.
    pub endpoint: String,
    /// The access token.
    pub token: Option<Token>,
    /// Whether only the cache may be used.
    pub offline: bool,
    /// Time without data after which a transfer is retried.
    pub idle: Duration,
    /// The cache.
    pub cache: Cache,
}

impl Hub {
    /// Reads HF_ENDPOINT, HF_TOKEN (or HF_TOKEN_PATH, or `token` in HF_HOME), HF_HUB_OFFLINE, HF_HUB_DOWNLOAD_TIMEOUT,
    /// HF_HUB_CACHE and HF_HOME.
    pub fn from_environment() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(read: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| read(name).filter(|value| !value.is_empty());
        let user = variable("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
        let caches = variable("XDG_CACHE_HOME").map_or_else(|| user.join(".cache"), PathBuf::from);
        let home = variable("HF_HOME").map_or_else(|| caches.join("huggingface"), PathBuf::from);
        let cache = variable("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from);
        let file = variable("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let token = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN"));
        let token = token.or_else(|| std::fs::read_to_string(file).ok());
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let is_on = |name: &str| {
            variable(name).is_some_and(|v| matches!(v.to_lowercase().as_str(), "1" | "true" | "yes" | "on"))
        };
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: token.and_then(|text| Token::new(&text)),
            offline: is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
            idle: variable("HF_HUB_DOWNLOAD_TIMEOUT")
                .and_then(|text| Duration::try_from_secs_f64(text.parse().ok()?).ok())
                .filter(|idle| !idle.is_zero())
                .unwrap_or(IDLE),
            cache: Cache::new(cache),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_as_hugging_faces_clients_read_them() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "hf_file\n").unwrap();
        let path = home.path().display().to_string();
        let hub = |extra: &[(&str, &str)]| {
            let find = |name: &str| {
                let value =
                    extra.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
                value.or_else(|| (name == "HF_HOME").then(|| path.clone()))
            };
            Hub::from_variables(find)
        };
        let plain = hub(&[]);
        assert_eq!((plain.endpoint.as_str(), plain.offline), ("https://huggingface.co", false));
        assert_eq!(plain.token, Token::new("hf_file"));
        let other =
            hub(&[("HF_ENDPOINT", "http://127.0.0.1:1/"), ("HF_TOKEN", "hf_own"), ("HF_HUB_OFFLINE", "1")]);
        assert_eq!((other.endpoint.as_str(), other.offline), ("http://127.0.0.1:1", true));
        assert_eq!(other.token, Token::new("hf_own"));
        assert!(!format!("{other:?}").contains("hf_own"));
    }
}
