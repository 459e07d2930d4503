//! Errors in OpenAI's form.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::protocol::FailureKind;
use crate::workspace::{AnswerError, WorkspaceError};

/// A request that is not answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
}

impl ApiError {
    pub(super) fn status(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code: None }
    }

    /// A wrong field, or something else that is wrong with a request.
    pub(super) fn invalid(message: &str, param: Option<&str>) -> Self {
        let param = param.map(str::to_owned);
        Self { param, ..Self::status(StatusCode::BAD_REQUEST, message) }
    }

    pub(super) fn not_found(message: String) -> Self {
        Self::status(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn no_model(message: String) -> Self {
        let param = Some("model".to_owned());
        Self { param, code: Some("model_not_found"), ..Self::not_found(message) }
    }

    /// Prompt and answer are longer than the model has positions.
    pub(super) fn too_long(prompt: usize, answer: u64, positions: u64) -> Self {
        let message = format!(
            "the model has {positions} positions, and {prompt} tokens of the prompt and {answer} of the answer are asked for"
        );
        Self { code: Some("context_length_exceeded"), ..Self::invalid(&message, Some("max_tokens")) }
    }

    /// `{"error": {message, type, param, code}}`.
    pub(super) fn json(&self) -> Value {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        json!({ "error": { "message": self.message, "type": kind, "param": self.param, "code": self.code } })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.json())).into_response();
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<AnswerError> for ApiError {
    fn from(error: AnswerError) -> Self {
        let status = match &error {
            AnswerError::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
            AnswerError::Refused(failure) if failure.kind == FailureKind::BadInput => StatusCode::BAD_REQUEST,
            AnswerError::Refused(_) | AnswerError::Tokenizer(_) => StatusCode::INTERNAL_SERVER_ERROR,
            AnswerError::Ended(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::status(status, error.to_string())
    }
}

impl From<WorkspaceError> for ApiError {
    fn from(error: WorkspaceError) -> Self {
        Self::invalid(&error.to_string(), None)
    }
}
