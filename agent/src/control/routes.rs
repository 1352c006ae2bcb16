//! HTTP in, [`Request`]s out; answers in, HTTP out.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::desk::{Answered, Desk, Streaming};
use super::failure::{Failure, FailureKind};
use super::proto::{BODY_MAX, Envelope, PlanOf, Reply, Request};
use crate::telemetry::prometheus;

/// A request's body must be there by then; the largest one takes milliseconds.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Every path of the interface, for one connection.
pub(super) fn router(desk: Desk) -> Router {
    Router::new()
        .route("/v1/status", get(async |desk: Desk| desk.ask(Request::Status).await))
        .route("/v1/groups", get(async |desk: Desk| desk.ask(Request::Groups).await))
        .route("/v1/throttle", post(async |desk: Desk, Json(b)| desk.ask(Request::Throttle(b)).await))
        .route("/v1/release", post(async |desk: Desk, Json(b)| desk.ask(Request::Release(b)).await))
        .route("/v1/explain/{pid}", get(explain))
        .route("/v1/plan", post(plan))
        .route("/v1/activate", post(async |desk: Desk, Json(b)| desk.ask(Request::Activate(b)).await))
        .route("/v1/deactivate", post(async |desk: Desk, Json(b)| desk.ask(Request::Deactivate(b)).await))
        .route("/v1/profile", get(async |desk: Desk| desk.ask(Request::ActiveProfile).await))
        .route("/v1/events", get(async |desk: Desk, Selection(q)| desk.ask(Request::Events(q)).await))
        .route("/v1/follow", get(async |desk: Desk, Selection(q)| desk.ask(Request::Follow(q)).await))
        .route("/v1/record", get(async |desk: Desk| desk.ask(Request::Record).await))
        .route("/v1/emergency", post(async |desk: Desk, Json(b)| desk.ask(Request::Emergency(b)).await))
        .route("/v1/dynamic", get(async |desk: Desk| desk.ask(Request::Dynamics).await))
        .route(
            "/v1/dynamic/apply",
            post(async |desk: Desk, Json(b)| desk.ask(Request::DynamicApply(b)).await),
        )
        .route(
            "/v1/dynamic/remove",
            post(async |desk: Desk, Json(b)| desk.ask(Request::DynamicRemove(b)).await),
        )
        .route("/v1/webhooks/state", get(async |desk: Desk| desk.ask(Request::WebhookStates).await))
        .route(
            "/v1/webhooks/deliveries",
            get(async |desk: Desk, Selection(q)| desk.ask(Request::Deliveries(q)).await),
        )
        .route("/v1/webhooks/deliveries/{id}", get(delivery))
        .route("/v1/webhooks/test", post(async |desk: Desk, Json(b)| desk.ask(Request::WebhookTest(b)).await))
        .route(
            "/v1/webhooks/replay",
            post(async |desk: Desk, Json(b)| desk.ask(Request::WebhookReplay(b)).await),
        )
        .route("/v1/critical", get(async |desk: Desk| desk.ask(Request::Criticals).await))
        .route(
            "/v1/critical/restart",
            post(async |desk: Desk, Json(b)| desk.ask(Request::CriticalRestart(b)).await),
        )
        .route("/v1/reload", post(async |desk: Desk, Json(b)| desk.ask(Request::Reload(b)).await))
        .route("/v1/alerts", get(async |desk: Desk| desk.ask(Request::Alerts).await))
        .route(
            "/v1/alerts/acknowledge",
            post(async |desk: Desk, Json(b)| desk.ask(Request::Acknowledge(b)).await),
        )
        .route("/v1/backup", post(async |desk: Desk, Json(b)| desk.ask(Request::BackUp(b)).await))
        .route("/v1/latency", post(async |desk: Desk, Json(b)| desk.ask(Request::Latency(b)).await))
        .route("/v1/state", get(async |desk: Desk| desk.ask(Request::State).await))
        .route("/v1/metrics", get(async |desk: Desk| desk.ask(Request::Metrics).await))
        .route("/metrics", get(metrics))
        .fallback(async |uri: Uri| {
            Failure::new(FailureKind::NotFound, format!("no such path: {:?}", uri.path()))
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            let message = format!("{method} is not supported on {:?}", uri.path());
            let failure = Failure::new(FailureKind::Invalid, message);
            (StatusCode::METHOD_NOT_ALLOWED, failure.into_body()).into_response()
        })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(Extension(desk))
}

async fn explain(desk: Desk, Path(pid): Path<String>) -> Result<Answered, Failure> {
    let pid = pid.parse().ok().ok_or_else(|| invalid(format!("{pid:?} is not a pid")))?;
    desk.ask(Request::Explain { pid }).await
}

async fn delivery(desk: Desk, Path(id): Path<String>) -> Result<Answered, Failure> {
    let id = id.parse().ok().ok_or_else(|| invalid(format!("{id:?} is no number of a delivery")))?;
    desk.ask(Request::Delivery { id }).await
}

/// As Prometheus reads them.
async fn metrics(desk: Desk) -> Result<Response, Failure> {
    match desk.ask(Request::Metrics).await? {
        Answered::Reply(Reply::Metrics(families)) => {
            let mut response = Response::new(Body::from(prometheus::text(&families)));
            let text = HeaderValue::from_static(prometheus::CONTENT_TYPE);
            response.headers_mut().insert(header::CONTENT_TYPE, text);
            Ok(response)
        }
        other @ (Answered::Reply(_) | Answered::Stream(_)) => Ok(other.into_response()),
    }
}

async fn plan(desk: Desk, Json(body): Json<PlanOf>) -> Result<Answered, Failure> {
    desk.ask(Request::Plan { profile: body.profile }).await
}

fn invalid(message: String) -> Failure {
    Failure::new(FailureKind::Invalid, message)
}

impl<S: Send + Sync> FromRequestParts<S> for Desk {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Extension(desk) = Extension::<Self>::from_request_parts(parts, state)
            .await
            .map_err(|error| Failure::from_error(FailureKind::Failed, &error))?;
        // Before any body is read or parsed: strangers get no further than here.
        desk.admit()?;
        Ok(desk)
    }
}

/// A JSON body; `curl -d` sends no JSON content type, so none is asked for. An empty body is `{}`.
struct Json<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Response;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Response> {
        let read = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, state)).await;
        let read = read.map_err(|_elapsed| {
            let late = invalid(format!("the request body did not come within {} s", BODY_TIMEOUT.as_secs()));
            (StatusCode::REQUEST_TIMEOUT, late.into_body()).into_response()
        })?;
        let bytes = read.map_err(|error| {
            // The body's fault in any case: too long (413), or broken off (400).
            (error.status(), Failure::from_error(FailureKind::Invalid, &error).into_body()).into_response()
        })?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text)
            .map(Self)
            .map_err(|error| invalid(format!("request body: {error}")).into_response())
    }
}

/// The query string.
struct Selection<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Selection<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Query(query) = Query::<T>::from_request_parts(parts, state)
            .await
            .map_err(|error| Failure::from_error(FailureKind::Invalid, &error))?;
        Ok(Self(query))
    }
}

impl Failure {
    fn into_body(self) -> axum::Json<Envelope<Reply>> {
        axum::Json(Envelope::new(Reply::Failure(self)))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, self.into_body()).into_response()
    }
}

impl IntoResponse for Answered {
    fn into_response(self) -> Response {
        match self {
            Self::Reply(reply) => axum::Json(Envelope::new(reply)).into_response(),
            Self::Stream(lines) => stream_response(lines),
        }
    }
}

fn stream_response(lines: Streaming) -> Response {
    let lines = futures_util::stream::unfold(lines, async |mut lines| {
        let line = lines.next().await?;
        Some((Ok::<_, Infallible>(line), lines))
    });
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}
