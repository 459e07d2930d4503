//! OpenAI's API over a model and its adapters, and that of the NeurIPS LLM Efficiency Challenge.
//!
//! The forms are those of OpenAI's reference for completions, chat completions and models. A field that would change an answer and is not
//! supported is refused by name.

mod answer;
mod challenge;
mod chat;
mod completions;
mod error;
mod fields;
mod settings;
mod stream;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use super::guard::Access;
use crate::data::Template;
use crate::workspace::ModelServer;
use error::ApiError;

/// Most bytes of a request.
const MAX_BODY: usize = 4 << 20;

/// A model that requests can name.
#[derive(Debug, Clone)]
pub struct ServedModel {
    /// Its id.
    pub name: String,
    /// The template of its chats.
    pub template: Arc<Template>,
}

/// What is served.
#[derive(Debug, Clone)]
pub struct Api {
    /// The engine.
    pub server: ModelServer,
    /// The models in the order in which the server was started with.
    pub models: Arc<Vec<ServedModel>>,
    /// The one that answers requests that cannot name one.
    pub default: usize,
    /// Most tokens of an answer.
    pub max_new_tokens: u64,
    /// Who may ask.
    pub access: Access,
    /// When it was started, in seconds since 1970.
    pub started: i64,
}

/// The routes.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/v1/completions", post(completions::answer))
        .route("/v1/chat/completions", post(chat::answer))
        .route("/process", post(challenge::process))
        .route("/tokenize", post(challenge::tokenize))
        .route("/decode", post(challenge::decode))
        .route("/health", get(health))
        .fallback(async |uri: Uri| ApiError::not_found(format!("{} is not served", uri.path())))
        .method_not_allowed_fallback(async || {
            ApiError::status(StatusCode::METHOD_NOT_ALLOWED, "wrong method")
        })
        .layer(from_fn_with_state(api.access.clone(), guard))
        .with_state(api)
}

/// Passes on what may be asked.
async fn guard(State(access): State<Access>, request: Request, next: Next) -> Response {
    let checked = access.check_source(request.method(), request.headers());
    match checked.and_then(|()| access.check_bearer(request.headers())) {
        Ok(()) => next.run(request).await,
        Err(denied) => ApiError::status(denied.status(), denied.message()).into_response(),
    }
}

async fn models(State(api): State<Api>) -> Json<Value> {
    let models: Vec<Value> = api.models.iter().map(|model| described(&api, model)).collect();
    Json(json!({ "object": "list", "data": models }))
}

async fn model(
    State(api): State<Api>,
    axum::extract::Path(id): axum::extract::Path<String>,
) -> Result<Json<Value>, ApiError> {
    let number = api.number_of(&id)?;
    Ok(Json(described(&api, &api.models[number])))
}

fn described(api: &Api, model: &ServedModel) -> Value {
    json!({
        "id": model.name, "object": "model", "created": api.started, "owned_by": "loragrid",
        "max_model_len": api.server.positions,
    })
}

async fn health(State(api): State<Api>) -> Json<Value> {
    Json(json!({ "status": "ok", "requests": api.server.open() }))
}

impl Api {
    /// The number of a model. Error: there is none of this name.
    fn number_of(&self, name: &str) -> Result<usize, ApiError> {
        let found = self.models.iter().position(|model| model.name == name);
        found.ok_or_else(|| {
            let known: Vec<&str> = self.models.iter().map(|model| model.name.as_str()).collect();
            ApiError::no_model(format!("the model '{name}' does not exist; there are {}", known.join(", ")))
        })
    }
}

/// The JSON object of a request. Errors: it is none, too long, of another content type.
async fn object(headers: &HeaderMap, request: axum::body::Body) -> Result<Map<String, Value>, ApiError> {
    let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.trim_start().to_ascii_lowercase().starts_with("application/json") {
        let message = "the content type is not application/json";
        return Err(ApiError::status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let bytes = axum::body::to_bytes(request, MAX_BODY).await.map_err(|_| {
        ApiError::status(StatusCode::PAYLOAD_TOO_LARGE, format!("the request has more than {MAX_BODY} bytes"))
    })?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ApiError::invalid("the request is not a JSON object", None)),
        Err(error) => Err(ApiError::invalid(&format!("the request is not JSON: {error}"), None)),
    }
}

impl Api {
    /// Names the program that answers.
    fn fingerprint(&self) -> String {
        format!("loragrid-{}", env!("CARGO_PKG_VERSION"))
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
