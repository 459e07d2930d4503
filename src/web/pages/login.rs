//! Who knows the token gets a cookie; programs send it with each request.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use sha2::{Digest as _, Sha256};

use super::Pages;
use super::parts::{Part, encoded};
use super::query::Query;
use super::shell::{Page, failure};
use crate::report::escape_html;
use crate::web::guard::Access;

const COOKIE: &str = "loragrid";

/// Whether a request has the token or its cookie, or none is needed.
pub(super) fn is_known(access: &Access, headers: &HeaderMap) -> bool {
    if !access.needs_token() || access.check_bearer(headers).is_ok() {
        return true;
    }
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.any(|(name, value)| name == COOKIE && access.knows_derived(value, &derived))
}

/// What the cookie has in place of the token: who reads it cannot say the token.
fn derived(token: &str) -> String {
    let digest = Sha256::digest(format!("loragrid pages {token}"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Leads to the form.
pub(super) fn ask(uri: &Uri) -> Response {
    let back = uri.path_and_query().map_or("/", |place| place.as_str());
    Redirect::to(&format!("/login?back={}", encoded(back))).into_response()
}

pub(super) async fn page(uri: Uri) -> Response {
    let query = Query::parse(uri.query().unwrap_or_default());
    form(query.get("back").unwrap_or("/"), "")
}

pub(super) async fn enter(State(pages): State<Pages>, body: String) -> Response {
    let fields = Query::parse(&body);
    let (token, back) = (fields.get("token").unwrap_or_default(), fields.get("back").unwrap_or("/"));
    let access = &pages.shared.access;
    if !access.knows(token) {
        let mut response = form(back, "<p class=\"message\">This is not the token.</p>");
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        return response;
    }
    let cookie = format!("{COOKIE}={}; Path=/; HttpOnly; SameSite=Strict", derived(token));
    let Ok(cookie) = HeaderValue::from_str(&cookie) else {
        return failure(StatusCode::INTERNAL_SERVER_ERROR, "the cookie cannot be written");
    };
    let mut response = Redirect::to(local(back)).into_response();
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response
}

/// An address of this server; anything else is its first page.
pub(super) fn local(address: &str) -> &str {
    let is_local = address.starts_with('/') && !address.starts_with("//") && !address.starts_with("/\\");
    let is_plain = address.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_local && is_plain { address } else { "/" }
}

fn form(back: &str, message: &str) -> Response {
    let html = format!(
        "{message}<form class=\"controls\" method=\"post\" action=\"/login\"><input type=\"hidden\" name=\"back\" value=\"{}\"><label>Token \
         <input type=\"password\" name=\"token\" autocomplete=\"current-password\" required autofocus></label><button>Enter</button></form>\
         <p class=\"note\">The token that `loragrid serve` was started with.</p>",
        escape_html(local(back))
    );
    Page { title: "Token", events: None, parts: vec![Part::new("login", html)] }.response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_token_nobody_is_sent_to_another_site() {
        for address in
            ["//evil.example", "/\\evil.example", "https://evil.example", "evil", "", "/a\nb", "/\t/b"]
        {
            assert_eq!(local(address), "/", "{address:?}");
        }
        assert_eq!(local("/sweeps/a?view=curves"), "/sweeps/a?view=curves");
    }
}
