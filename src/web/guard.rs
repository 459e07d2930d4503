//! Who may ask: requests with the token, from pages of this server only.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, Method, StatusCode, header};

use super::error::WebError;

/// A token. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Error: no header can have it.
    pub fn new(text: &str) -> Result<Self, WebError> {
        let text = text.trim();
        let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(text.to_owned())) } else { Err(WebError::BadToken) }
    }

    /// Whether it is the other one; takes as long whatever differs.
    pub(super) fn is(&self, other: &str) -> bool {
        let (a, b) = (self.0.as_bytes(), other.as_bytes());
        let differing = a.iter().zip(b).fold(0, |differing, (a, b)| differing | (a ^ b));
        a.len() == b.len() && differing == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Who may ask.
#[derive(Debug, Clone)]
pub struct Access {
    token: Option<Secret>,
    /// The host that was asked for, where it is not the loopback.
    host: Arc<str>,
    is_loopback: bool,
}

impl Access {
    /// Access to a host. Error: other machines could connect without a token.
    pub fn new(host: &str, token: Option<Secret>) -> Result<Self, WebError> {
        let is_loopback = is_loopback(host);
        if !is_loopback && token.is_none() {
            return Err(WebError::NoToken(host.to_owned()));
        }
        Ok(Self { token, host: host.into(), is_loopback })
    }

    /// Whether a token is needed.
    pub(super) fn needs_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether this is the token.
    pub(super) fn knows(&self, token: &str) -> bool {
        self.token.as_ref().is_none_or(|known| known.is(token))
    }

    /// Whether this is what is derived from the token.
    pub(super) fn knows_derived(&self, value: &str, derive: &dyn Fn(&str) -> String) -> bool {
        self.token.as_ref().is_none_or(|known| Secret(derive(&known.0)).is(value))
    }

    /// Whether a request is meant for this server and comes from one of its pages or from no page. A page of another site can make a
    /// browser send requests here, under any name that leads here. Error: why not.
    pub(super) fn check_source(&self, method: &Method, headers: &HeaderMap) -> Result<(), Denied> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        // Behind a proxy or another machine's name, the token decides.
        if self.token.is_none() && !self.is_ours(host) {
            return Err(Denied::Host);
        }
        if matches!(*method, Method::GET | Method::HEAD) {
            return Ok(());
        }
        let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
        match origin.and_then(|origin| origin.split_once("://")) {
            None if origin.is_none() => Ok(()),
            Some((_, origin)) if origin == host => Ok(()),
            _ => Err(Denied::Origin),
        }
    }

    /// Checks `Authorization: Bearer`. Error: it is not the token.
    pub(super) fn check_bearer(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = value.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if self.knows(token.trim()) { Ok(()) } else { Err(Denied::Token) }
    }

    fn is_ours(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        name.eq_ignore_ascii_case(&self.host) || (self.is_loopback && is_loopback(name))
    }
}

/// Why a request is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// It was sent to another name.
    Host,
    /// It comes from a page of another site.
    Origin,
    /// Without the token.
    Token,
}

impl Denied {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin => StatusCode::FORBIDDEN,
            Self::Token => StatusCode::UNAUTHORIZED,
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Host => "this server has another name",
            Self::Origin => "requests from pages of other sites are denied",
            Self::Token => "the token is missing or wrong",
        }
    }
}

/// Whether a host is this machine only.
fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_host_that_others_can_reach_needs_a_token() {
        for host in ["127.0.0.1", "::1", "[::1]", "localhost", "127.0.0.9"] {
            assert!(Access::new(host, None).is_ok(), "{host}");
        }
        for host in ["0.0.0.0", "::", "gpu-box", "192.168.0.3"] {
            assert!(matches!(Access::new(host, None), Err(WebError::NoToken(_))), "{host}");
            assert!(Access::new(host, Some(Secret::new("a").unwrap())).is_ok());
        }
        assert!(Secret::new(" \n").is_err() && Secret::new("a b").is_err() && Secret::new("é").is_err());
        assert_eq!(format!("{:?}", Secret::new("hidden").unwrap()), "Secret");
    }

    #[test]
    fn a_page_of_another_site_is_denied_whatever_name_it_uses() {
        let access = Access::new("127.0.0.1", None).unwrap();
        let check = |method: Method, pairs: &[(header::HeaderName, &str)]| {
            access.check_source(&method, &headers(pairs)).err()
        };
        let here = (header::HOST, "localhost:8000");
        assert_eq!(check(Method::GET, std::slice::from_ref(&here)), None);
        assert_eq!(check(Method::GET, &[(header::HOST, "[::1]:8000")]), None);
        assert_eq!(check(Method::GET, &[(header::HOST, "evil.example:8000")]), Some(Denied::Host));
        assert_eq!(check(Method::GET, &[]), Some(Denied::Host));
        assert_eq!(check(Method::POST, std::slice::from_ref(&here)), None, "a program sends no origin");
        let post = |origin| check(Method::POST, &[here.clone(), (header::ORIGIN, origin)]);
        assert_eq!(post("http://localhost:8000"), None);
        for origin in ["http://localhost:9000", "https://evil.example", "null", ""] {
            assert_eq!(post(origin), Some(Denied::Origin), "{origin}");
        }
    }

    #[test]
    fn a_token_is_compared_whole() {
        let access = Access::new("0.0.0.0", Some(Secret::new("abc").unwrap())).unwrap();
        let with = |value| access.check_bearer(&headers(&[(header::AUTHORIZATION, value)])).err();
        assert_eq!(with("Bearer abc"), None);
        for value in ["Bearer ab", "Bearer abcd", "Bearer ", "abc", "Basic abc", "Bearer abd"] {
            assert_eq!(with(value), Some(Denied::Token), "{value}");
        }
    }
}
