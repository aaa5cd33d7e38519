//! Containers' output (contract/drydock-container-api.md, "Download container logs", "Stream
//! container logs (WebSocket)").

use futures::Stream;
use plimsoll_app::{
    container_logs::{FollowError, LogDownload, LogQuery, parse_since},
    queue::rpc::RemoteStream,
};
use plimsoll_domain::access::Scope;
use poem::{Body, IntoResponse, Response, http::header, web::websocket::BoxWebSocketUpgraded};
use poem_openapi::{
    ApiResponse, OpenApi,
    param::{Path, Query},
    registry::{
        MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
    },
    types::Type,
};

use super::{
    Tag,
    error::{ErrorOf, ReadsOne},
    lines::whole_lines,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    error_set,
    middleware::context::RequestContext,
    sockets::{Close, Upgrade},
};

/// `GET /api/v1/containers/{id}/logs`, and the WebSocket `/api/v1/containers/{id}/logs/stream`.
pub struct ContainerLogs;

error_set!(
    /// A download that may be too large.
    pub Downloads = 400, 404, 413
);

/// Text to be kept as a file, as it arrives.
pub struct LogFile(LogDownload);

impl IntoResponse for LogFile {
    fn into_response(self) -> Response {
        let LogDownload { name, text } = self.0;
        // Docker's names are words; a peer's may be anything.
        let word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let name: String = name.chars().filter(|c| word(*c)).collect();
        Response::builder()
            .content_type("text/plain; charset=utf-8")
            .header(
                header::CONTENT_DISPOSITION,
                format!("attachment; filename=\"{name}-logs.txt\""),
            )
            .body(Body::from_bytes_stream(bytes(text)))
    }
}

fn bytes(
    mut text: RemoteStream,
) -> impl Stream<Item = Result<bytes::Bytes, std::io::Error>> + Send + 'static {
    async_stream::stream! {
        while let Some(part) = text.next().await {
            // An error cuts the answer off, so that nobody takes a part for the whole.
            yield part.map_err(std::io::Error::other);
        }
    }
}

impl ApiResponse for LogFile {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "The output as text",
                status: Some(200),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: "text/plain",
                    schema: MetaSchemaRef::Inline(Box::new(MetaSchema::new("string"))),
                }],
                headers: vec![MetaHeader {
                    name: "Content-Disposition".to_owned(),
                    description: Some("`attachment`, with a file name".to_owned()),
                    required: true,
                    deprecated: false,
                    schema: String::schema_ref(),
                }],
            }],
        }
    }

    fn register(_registry: &mut Registry) {}
}

#[OpenApi(prefix_path = "/api/v1")]
impl ContainerLogs {
    /// Download a container's output
    ///
    /// The last lines of both streams, as they were written. At most 16 MiB: more is 413.
    #[oai(
        path = "/containers/:id/logs",
        method = "get",
        operation_id = "getContainerLogs",
        tag = "Tag::Containers"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn download(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
        id: Path<String>,
        /// Include standard output
        #[oai(default = "yes")]
        stdout: Query<bool>,
        /// Include standard error
        #[oai(default = "yes")]
        stderr: Query<bool>,
        /// Lines from the end, at most 10,000
        #[oai(default = "download_tail")]
        tail: Query<u32>,
        /// Only what was written after this time: Unix seconds or ISO 8601
        since: Query<Option<String>>,
        /// Begin each line with its time
        #[oai(default = "yes")]
        timestamps: Query<bool>,
    ) -> Result<LogFile, ErrorOf<Downloads>> {
        let query = LogQuery {
            stdout: *stdout,
            stderr: *stderr,
            tail: *tail,
            since: parse_since(since.as_deref())?,
            timestamps: *timestamps,
            follow: false,
        };
        Ok(LogFile(state.app.container_logs(&id, query).await?))
    }

    /// Follow a container's output (WebSocket)
    ///
    /// Each message is `{"type": "stdout"|"stderr", "ts": string, "line": string}`; `truncated` is
    /// true where a line of more than 64 KiB was cut. Close codes: 1000 the stream ended, 4001 the
    /// container is not running, 4004 there is no such container, 1011 no worker or the stream
    /// broke, 1013 the client reads too slowly, 1008 the credential ended, 1001 the server ends.
    /// At most 1,000 connections in 15 minutes for each client.
    #[oai(
        path = "/containers/:id/logs/stream",
        method = "get",
        operation_id = "streamContainerLogs",
        tag = "Tag::Containers"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn follow(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        /// Include standard output
        #[oai(default = "yes")]
        stdout: Query<bool>,
        /// Include standard error
        #[oai(default = "yes")]
        stderr: Query<bool>,
        /// Lines to begin with, at most 10,000
        #[oai(default = "follow_tail")]
        tail: Query<u32>,
        /// Only what was written after this time: Unix seconds or ISO 8601
        since: Query<Option<String>>,
        /// Go on with what is written later; `false` ends after what is there
        #[oai(default = "yes")]
        follow: Query<bool>,
        upgrade: Upgrade,
    ) -> Result<BoxWebSocketUpgraded, ErrorOf<ReadsOne>> {
        let query = LogQuery {
            stdout: *stdout,
            stderr: *stderr,
            tail: *tail,
            since: parse_since(since.as_deref())?,
            timestamps: true,
            follow: *follow,
        }
        .checked()?;
        let app = state.app.clone();
        let id = id.0;
        let open = async move || {
            let lines = app.follow_container_logs(&id, query).await;
            lines.map(texts).map_err(|error| match error {
                FollowError::NotFound => Close::new(4004, "Container not found"),
                FollowError::NotRunning => Close::new(4001, "Container is not running"),
                FollowError::Failed(why) => Close::new(1011, why),
            })
        };
        Ok(upgrade.serve(state, context, Scope::ContainersRead, open))
    }
}

fn yes() -> bool {
    true
}

fn download_tail() -> u32 {
    1000
}

fn follow_tail() -> u32 {
    100
}

/// The whole lines of a stream of lines, in batches as they arrive.
fn texts(mut lines: RemoteStream) -> impl Stream<Item = Result<Vec<String>, Close>> + Send {
    async_stream::stream! {
        let mut open = Vec::new();
        while let Some(part) = lines.next().await {
            match part {
                Ok(part) => {
                    let whole = whole_lines(&mut open, &part);
                    if !whole.is_empty() {
                        yield Ok(whole);
                    }
                }
                Err(error) => {
                    yield Err(Close::new(1011, error.to_string()));
                    return;
                }
            }
        }
    }
}
