//! The frame of every page: head, navigation, style, script, and the policy that allows these and nothing else.

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::StreamExt;
use futures_util::stream;
use sha2::{Digest as _, Sha256};

use super::parts::Part;
use crate::report::{escape_html, page_parts};

/// Style and script, as they stand in a page.
struct Frame {
    style: String,
    script: String,
    policy: HeaderValue,
}

static FRAME: LazyLock<Frame> = LazyLock::new(|| {
    let (style, sort) = page_parts();
    let style = format!("\n{style}{}", include_str!("page.css"));
    let script = format!("\n{sort}{}", include_str!("live.js"));
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        hash(&style),
        hash(&script)
    );
    let policy =
        HeaderValue::from_str(&policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
    Frame { style, script, policy }
});

/// A page to be shown.
pub(super) struct Page<'a> {
    pub(super) title: &'a str,
    /// Where its changes come from.
    pub(super) events: Option<String>,
    pub(super) parts: Vec<Part>,
}

impl Page<'_> {
    pub(super) fn response(self) -> Response {
        (StatusCode::OK, Html(self.html())).into_response()
    }

    /// The page with its first parts at once, and the others when they are there.
    pub(super) fn streamed(self, rest: impl Future<Output = Vec<Part>> + Send + 'static) -> Response {
        let first = stream::once(std::future::ready(self.head() + &parts_html(&self.parts)));
        let rest = stream::once(async move { parts_html(&rest.await) + &end() });
        let body = Body::from_stream(first.chain(rest).map(Ok::<_, Infallible>));
        ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], body).into_response()
    }

    fn html(&self) -> String {
        self.head() + &parts_html(&self.parts) + &end()
    }

    /// Everything before the first part.
    fn head(&self) -> String {
        let title = escape_html(self.title);
        let events = self.events.as_ref().map(|events| format!(" data-events=\"{}\"", escape_html(events)));
        let connection = if events.is_some() { "connecting" } else { "" };
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
             content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" \
             href=\"data:,\">\n<title>{title} - loragrid</title>\n<style>{}</style>\n</head>\n<body{}>\n<header class=\"bar\">\
             <h1>{title}</h1><p><a href=\"/\">sweeps</a> · <a href=\"/plan\">plan</a></p>\
             <span id=\"connection\" role=\"status\">{connection}</span></header>\n<main>\n",
            FRAME.style,
            events.unwrap_or_default()
        )
    }
}

fn parts_html(parts: &[Part]) -> String {
    parts.iter().map(|part| format!("<div id=\"{}\">{}</div>\n", part.id, part.html)).collect()
}

/// Everything after the last part.
fn end() -> String {
    format!("</main>\n<script>{}</script>\n</body>\n</html>\n", FRAME.script)
}

/// A page that says why there is no other.
pub(super) fn failure(status: StatusCode, message: &str) -> Response {
    let html = format!("<p class=\"message\">{}</p>", escape_html(message));
    let title = status.canonical_reason().unwrap_or("Error");
    let page = Page { title, events: None, parts: vec![Part::new("failure", html)] };
    (status, Html(page.html())).into_response()
}

/// The policy, and that nothing is kept.
pub(super) fn add_headers(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_SECURITY_POLICY, FRAME.policy.clone());
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Without any referrer browsers say no origin with forms either.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// A text that nobody can guess: the hash keys of the standard library are random.
pub(super) fn random_token() -> String {
    let parts: Vec<String> = (0..4).map(|at| format!("{:016x}", RandomState::new().hash_one(at))).collect();
    parts.concat()
}
