//! `POST /mcp`: the Model Context Protocol, with which agents call check, pick and find as tools.
//!
//! Each request is answered by itself, as JSON: there are no sessions and no streams, so any pod answers
//! any request, and nothing is open that a shutdown would wait for.

mod describe;
mod text;

use std::{borrow::Cow, sync::Arc};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    response::Response,
    routing::post,
};
use http::{StatusCode, header};
use http_body_util::{BodyExt, Full};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
        ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
    },
};
use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::OpenApi;

use self::describe::{CHECK, FIND, PICK};
use super::{
    ApiState, Refusal,
    availability::{SEARCH_PARAMETERS, find},
    body::read_body,
    check::{PickAnswer, answer_check, answer_pick},
    fields::{MAX_BODY_BYTES, Object},
    parameters::{Parameters, invalid},
    query::NoParameters,
};

/// The route, or none if it is switched off. `description` is that of the routes whose functions the tools
/// call: their schemas are made of it.
pub(super) fn routes(state: &Arc<ApiState>, description: &OpenApi) -> Router<Arc<ApiState>> {
    if !state.mcp {
        return Router::new();
    }
    let tools = Tools { state: Arc::clone(state), list: describe::tools(description).into() };
    let service = StreamableHttpService::new(
        move || Ok(tools.clone()),
        Arc::new(NeverSessionManager::default()),
        server_config(),
    );
    let answer = async move |_: NoParameters, request: Request| answer(&service, request).await;
    Router::new().route("/mcp", post(answer))
}

/// No page of a browser may call the tools, whatever its host resolves to: a browser sends Origin with each
/// POST. So the Host need not be checked, which is the name of a Service, of an Ingress or of nobody that
/// this process knows.
fn server_config() -> StreamableHttpServerConfig {
    StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .disable_allowed_hosts()
        .enforce_origin_validation()
}

async fn answer(
    service: &StreamableHttpService<Tools, NeverSessionManager>,
    request: Request,
) -> Result<Response, Refusal> {
    let (mut parts, body) = request.into_parts();
    let body = read_body(&parts.headers, body, MAX_BODY_BYTES).await?;
    // It is decompressed by now.
    parts.headers.remove(header::CONTENT_ENCODING);
    let response = service.handle(Request::from_parts(parts, Full::new(body))).await;
    let (parts, body) = response.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes);
    let is_json =
        parts.headers.get(header::CONTENT_TYPE).is_some_and(|it| it == "application/json");
    if is_json || parts.status.is_success() {
        return Ok(Response::from_parts(parts, Body::from(body)));
    }
    Err(refuse(parts.status, &body))
}

/// What the SDK says in plain text, as a problem document.
fn refuse(status: StatusCode, detail: &Bytes) -> Refusal {
    let (code, detail) = match status {
        StatusCode::FORBIDDEN => (
            "origin_refused",
            "pages of a browser may not call tools: found an Origin header, expected none".into(),
        ),
        _ if status.is_server_error() => {
            ("internal", "the answer could not be made; the log says why".into())
        }
        _ => ("invalid_request", String::from_utf8_lossy(detail)),
    };
    Refusal::new(status, code, detail)
}

/// The tools, and what they work with.
#[derive(Clone)]
struct Tools {
    state: Arc<ApiState>,
    list: Arc<[Tool]>,
}

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        let server = Implementation::new("gill-hicks", env!("CARGO_PKG_VERSION"))
            .with_title("Hardware availability");
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(server)
            .with_instructions(describe::INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.list.to_vec()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.list.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let called = match request.name.as_ref() {
            CHECK => self.check(arguments).await,
            PICK => self.pick(arguments).await,
            FIND => self.find(arguments).await,
            other => {
                let message =
                    format!("there is no tool {other:?}; tools/list lists those there are");
                return Err(ErrorData::invalid_params(message, None));
            }
        };
        Ok(called.unwrap_or_else(refused).into())
    }
}

impl Tools {
    async fn check(&self, arguments: Object) -> Result<CallToolResult, Refusal> {
        let answer = answer_check(&self.state, arguments).await?;
        Ok(answered(text::of_check(&answer), &answer))
    }

    /// Nothing to pick is an answer as any other.
    async fn pick(&self, arguments: Object) -> Result<CallToolResult, Refusal> {
        let answer = answer_pick(&self.state, arguments).await?;
        let text = match &answer {
            PickAnswer::Picked(picked) => text::of_picked(picked),
            PickAnswer::NonePicked(none) => text::of_none_picked(none),
        };
        Ok(answered(text, &answer))
    }

    async fn find(&self, arguments: Object) -> Result<CallToolResult, Refusal> {
        let pairs: Vec<_> = arguments.iter().map(as_parameter).collect::<Result<_, _>>()?;
        let parameters = Parameters::from_pairs("/v1/availability", pairs, &SEARCH_PARAMETERS)?;
        let page = find(&self.state, &parameters).await?;
        Ok(answered(text::of_page(&page), &page))
    }
}

/// An argument as the query has it, a list with commas. `null` is as if it were not there.
fn as_parameter<'a>(
    (name, value): (&'a String, &'a Value),
) -> Result<(Cow<'a, str>, Cow<'a, str>), Refusal> {
    let text = match value {
        Value::Null => Cow::Borrowed(""),
        Value::String(text) => Cow::Borrowed(text.as_str()),
        // 4.0 is a whole number in JSON.
        Value::Number(number) => match number.as_f64().filter(|it| it.fract() == 0.0) {
            Some(whole) if number.is_f64() => Cow::Owned(format!("{whole:.0}")),
            _ => Cow::Owned(number.to_string()),
        },
        Value::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            Cow::Owned(texts.ok_or_else(|| invalid_argument(name, value))?.join(","))
        }
        Value::Bool(_) | Value::Object(_) => return Err(invalid_argument(name, value)),
    };
    Ok((Cow::Borrowed(name), text))
}

fn invalid_argument(name: &str, found: &Value) -> Refusal {
    invalid(name, &found.to_string(), "a text, a number or a list of texts")
}

fn answered(text: String, answer: &impl Serialize) -> CallToolResult {
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    result.structured_content = Some(serde_json::to_value(answer).expect("plain data"));
    result
}

/// A refusal is for the agent to read and to correct, so it is no error of the protocol.
fn refused(refusal: Refusal) -> CallToolResult {
    let problem = refusal.into_problem();
    let mut result = CallToolResult::error(vec![ContentBlock::text(text::of_problem(&problem))]);
    result.structured_content = Some(serde_json::to_value(problem).expect("plain data"));
    result
}
