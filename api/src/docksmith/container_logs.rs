//! Containers' output, as JSON or as it comes (reference/docksmith-dokploy-dockup.md 1.2,
//! "Containers").

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use plimsoll_app::{
    AppError,
    container_logs::{FollowError, LogQuery, MAX_TAIL, parse_since},
    names::named,
    queue::rpc::RemoteStream,
};
use poem::{Body, IntoResponse, Response, http::header};
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Path, Query},
    payload::{Json, Payload},
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};
use serde::Deserialize;

use super::{
    Tag, envelope,
    envelope::Envelope,
    error::{ErrorOf, ReadsOne},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    drydock::{error::ApiError, lines::whole_lines},
};

/// `GET /api/containers/{name}/logs`.
pub struct ContainerLogs;

/// Lines where nobody says how many.
const TAIL: u32 = 100;

/// What a container wrote.
#[derive(Object)]
struct LogsData {
    container: String,
    logs: String,
    /// As it was asked for
    tail: String,
}

enum LogsAnswer {
    Text(Json<Envelope<LogsData>>),
    Followed(Response),
}

impl IntoResponse for LogsAnswer {
    fn into_response(self) -> Response {
        match self {
            Self::Text(text) => text.into_response(),
            Self::Followed(response) => response,
        }
    }
}

impl ApiResponse for LogsAnswer {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "The output; with `follow=true` as text, as it comes",
                status: Some(200),
                status_range: None,
                content: vec![
                    MetaMediaType {
                        content_type: Json::<Envelope<LogsData>>::CONTENT_TYPE,
                        schema: Envelope::<LogsData>::schema_ref(),
                    },
                    MetaMediaType {
                        content_type: "text/plain; charset=utf-8",
                        schema: MetaSchemaRef::Inline(Box::new(MetaSchema::new("string"))),
                    },
                ],
                headers: Vec::new(),
            }],
        }
    }

    fn register(registry: &mut Registry) {
        Envelope::<LogsData>::register(registry);
    }
}

fn followed(body: Body) -> LogsAnswer {
    LogsAnswer::Followed(
        Response::builder()
            .content_type("text/plain; charset=utf-8")
            .header(header::CACHE_CONTROL, "no-store")
            .header("x-content-type-options", "nosniff")
            .body(body),
    )
}

/// A line as the worker sends it.
#[derive(Deserialize)]
struct Line {
    ts: String,
    line: String,
}

/// Lines as text. An error cuts the answer off.
fn texts(
    mut lines: RemoteStream,
    stamps: bool,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    async_stream::stream! {
        let mut open = Vec::new();
        while let Some(part) = lines.next().await {
            let part = match part {
                Ok(part) => part,
                Err(error) => {
                    yield Err(io::Error::other(error));
                    return;
                }
            };
            let mut text = String::new();
            for line in whole_lines(&mut open, &part) {
                let Ok(line) = serde_json::from_str::<Line>(&line) else { continue };
                if stamps {
                    text.push_str(&line.ts);
                    text.push(' ');
                }
                text.push_str(&line.line);
                text.push('\n');
            }
            if !text.is_empty() {
                yield Ok(text.into());
            }
        }
    }
}

/// All of it, up to what one answer holds.
async fn whole(mut text: RemoteStream) -> Result<Vec<u8>, AppError> {
    let mut all = Vec::new();
    while let Some(part) = text.next().await {
        let part = part.map_err(|error| AppError::Failed(error.to_string()))?;
        all.extend_from_slice(&part);
    }
    Ok(all)
}

#[OpenApi(prefix_path = "/api")]
impl ContainerLogs {
    /// Get a container's output
    ///
    /// The last lines as JSON; with `follow=true` as text, going on with what is written later.
    #[oai(
        path = "/containers/:name/logs",
        method = "get",
        operation_id = "getContainerLogs",
        tag = "Tag::Containers"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn logs(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
        name: Path<String>,
        /// Lines from the end, 100 where it is absent; `all` or more than 10,000 are 10,000.
        tail: Query<Option<String>>,
        /// Only what was written after this time: RFC 3339 or Unix seconds.
        since: Query<Option<String>>,
        /// Begin each line with its time.
        timestamps: Query<Option<bool>>,
        follow: Query<Option<bool>>,
    ) -> Result<LogsAnswer, ErrorOf<ReadsOne>> {
        let entry = named(&who.snapshot().inventory, &name.0)?;
        let said = tail.0.unwrap_or_else(|| TAIL.to_string());
        let tail = match said.as_str() {
            "" => TAIL,
            "all" => MAX_TAIL,
            number => number
                .parse()
                .map_err(|_| ApiError::bad_request("tail must be a number of lines, or all"))?,
        };
        let stamps = timestamps.0 == Some(true);
        let query = LogQuery {
            stdout: true,
            stderr: true,
            tail,
            since: parse_since(since.as_deref())?,
            timestamps: stamps,
            follow: follow.0 == Some(true),
        }
        .checked()?;
        if query.follow {
            let lines = state.app.follow_container_logs(entry.id(), query.clone());
            match lines.await {
                Ok(lines) => {
                    return Ok(followed(Body::from_bytes_stream(texts(lines, stamps))));
                }
                // Nothing comes later: what is there is all.
                Err(FollowError::NotRunning) => {}
                Err(FollowError::NotFound) => {
                    return Err(
                        ApiError::not_found(format!("Container not found: {}", name.0)).into(),
                    );
                }
                Err(FollowError::Failed(why)) => return Err(AppError::Failed(why).into()),
            }
        }
        let follow = query.follow;
        let download = LogQuery {
            follow: false,
            ..query
        };
        let download = state.app.container_logs(entry.id(), download).await?;
        let text = whole(download.text).await?;
        if follow {
            let once = stream::once(async move { io::Result::Ok(Bytes::from(text)) });
            return Ok(followed(Body::from_bytes_stream(once.boxed())));
        }
        Ok(LogsAnswer::Text(envelope::ok(LogsData {
            container: entry.state.facts.name.clone(),
            logs: String::from_utf8_lossy(&text).into_owned(),
            tail: said,
        })))
    }
}
