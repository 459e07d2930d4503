//! HTTP requests. Redirects are followed here, not by the library, to send the token only to the endpoint's host.

use std::time::Duration;

use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

use super::environment::Hub;
use super::error::HubError;
use super::repository_id::RepositoryId;

/// Maximum redirects per request.
const MAX_REDIRECTS: usize = 5;
/// Attempts per unanswered request.
const MAX_TRIES: u32 = 4;
/// Maximum wait honored for a 429.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Sends requests for one model.
pub(super) struct Client<'a> {
    hub: &'a Hub,
    id: &'a RepositoryId,
    agent: Agent,
}

impl<'a> Client<'a> {
    pub(super) fn new(hub: &'a Hub, id: &'a RepositoryId) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .user_agent(concat!("loragrid/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { hub, id, agent: Agent::new_with_config(config) }
    }

    /// GETs a path below the endpoint, from byte `start`. Success is 200, 206 or 416. Errors: other statuses, no
    /// response.
    pub(super) fn get(&self, path: &str, start: u64) -> Result<Response<Body>, HubError> {
        let url = format!("{}/{path}", self.hub.endpoint);
        for attempt in 0.. {
            let last = attempt + 1 >= MAX_TRIES;
            match self.follow(&url, start) {
                Ok(response) => match response.status().as_u16() {
                    429 if !last => std::thread::sleep(asked_wait(&response).min(MAX_WAIT)),
                    status if status >= 500 && !last => std::thread::sleep(pause(attempt)),
                    200 | 206 | 416 => return Ok(response),
                    status => return Err(self.refusal(status, path, &response)),
                },
                Err(error) if last => return Err(error),
                Err(_) => std::thread::sleep(pause(attempt)),
            }
        }
        // The loop only ends by return: its last attempt returns any result.
        unreachable!("the last attempt returns")
    }

    fn follow(&self, url: &str, start: u64) -> Result<Response<Body>, HubError> {
        let home = host(url);
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.agent.get(&url);
            if let Some(token) = self.hub.token.as_ref().filter(|_| home.is_some() && host(&url) == home) {
                request = request.header("Authorization", token.header());
            }
            // Ranges count the file's own bytes, so the response must not be compressed.
            if path_is_file(&url) {
                request = request.header("Accept-Encoding", "identity");
            }
            if start > 0 {
                request = request.header("Range", format!("bytes={start}-"));
            }
            let response = request.call().map_err(|error| HubError::Network {
                url: without_query(&url).to_owned(),
                reason: error.to_string(),
            })?;
            let location = response.headers().get("location").and_then(|value| value.to_str().ok());
            match location {
                Some(location) if response.status().is_redirection() => url = join(&url, location),
                _ => return Ok(response),
            }
        }
        Err(HubError::Network {
            url: without_query(&url).to_owned(),
            reason: "it redirects in circles".to_owned(),
        })
    }

    fn refusal(&self, status: u16, path: &str, response: &Response<Body>) -> HubError {
        let id = self.id.name().to_owned();
        let code =
            response.headers().get("x-error-code").and_then(|value| value.to_str().ok()).unwrap_or_default();
        match status {
            401 | 403 if code == "GatedRepo" || status == 403 => {
                HubError::Gated { page: format!("{}/{id}", self.hub.endpoint), id }
            }
            401 => HubError::Unauthorised { id },
            404 => {
                let what = match code {
                    "RevisionNotFound" => format!("revision '{}' of it", self.id.revision()),
                    "EntryNotFound" => format!("file {}", path.rsplit('/').next().unwrap_or(path)),
                    _ => "such model".to_owned(),
                };
                HubError::NotFound { id, what }
            }
            429 => HubError::Busy { id, wait: asked_wait(response).as_secs() },
            status => HubError::Status { url: format!("{}/{path}", self.hub.endpoint), status },
        }
    }
}

fn asked_wait(response: &Response<Body>) -> Duration {
    let seconds = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(2))
}

fn pause(attempt: u32) -> Duration {
    Duration::from_millis(200 << attempt.min(5))
}

/// Scheme, host and port: the scope of a token.
fn host(url: &str) -> Option<(String, String)> {
    let uri: Uri = url.parse().ok()?;
    Some((uri.scheme_str()?.to_owned(), uri.authority()?.to_string()))
}

/// Storage links carry signatures in their query, which must not appear in messages.
fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or(url)
}

/// Whether a URL points to a file's content.
fn path_is_file(url: &str) -> bool {
    without_query(url).contains("/resolve/")
}

/// Resolves a location, absolute or relative to its base (RFC 3986, section 5.2, without `.` and `..`).
fn join(from: &str, location: &str) -> String {
    let is_scheme =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let is_absolute = location.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme));
    let Some((scheme, authority)) = host(from).filter(|_| !is_absolute) else {
        return location.to_owned();
    };
    if location.starts_with("//") {
        return format!("{scheme}:{location}");
    }
    if location.starts_with('/') {
        return format!("{scheme}://{authority}{location}");
    }
    let from = without_query(from);
    // The slashes after the scheme are not part of the path.
    let start = from.find("://").map_or(0, |at| at + 3);
    match from[start..].rfind('/') {
        Some(at) => format!("{}/{location}", &from[..start + at]),
        None => format!("{from}/{location}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_absolute_or_relative_to_the_scheme_the_host_or_the_folder() {
        let from = "https://hub.example:8080/a/resolve/b?sig=1/2";
        for (location, wanted) in [
            ("https://cdn.example/x", "https://cdn.example/x"),
            ("//cdn.example/x?y", "https://cdn.example/x?y"),
            ("/x?from=https://a", "https://hub.example:8080/x?from=https://a"),
            ("x?y=https:", "https://hub.example:8080/a/resolve/x?y=https:"),
        ] {
            assert_eq!(join(from, location), wanted, "{location}");
        }
        assert_eq!(join("http://h", "x"), "http://h/x");
    }
}
