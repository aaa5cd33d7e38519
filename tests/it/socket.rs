//! A client of our WebSockets.

use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, client_async, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest, http::HeaderName},
};

const PATIENCE: Duration = Duration::from_secs(20);

pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What a socket gave before its end.
#[derive(Debug)]
pub struct Rest {
    pub rows: Vec<Value>,
    /// 1006 where the connection broke without a word.
    pub code: u16,
    pub reason: String,
}

impl Socket {
    /// Connects to an `http://` address.
    ///
    /// # Errors
    /// The status of the refusal.
    pub async fn open(url: &str, headers: &[(&str, &str)]) -> Result<Self, u16> {
        let url = url.replacen("http", "ws", 1);
        let mut request = url.as_str().into_client_request().expect("an address");
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a header's name");
            request
                .headers_mut()
                .insert(name, value.parse().expect("a header"));
        }
        match connect_async(request).await {
            Ok((stream, _)) => Ok(Self { stream }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{url} speaks WebSocket: {error}"),
        }
    }

    pub async fn with_token(url: &str, token: &str) -> Self {
        let bearer = format!("Bearer {token}");
        let opened = Self::open(url, &[("authorization", &bearer)]).await;
        opened.unwrap_or_else(|status| panic!("{url} answered {status}"))
    }

    /// As a small machine does, so that a server soon notices that nobody reads.
    pub async fn that_buffers_little(url: &str, token: &str) -> Self {
        let url = url.replacen("http", "ws", 1);
        let mut request = url.as_str().into_client_request().expect("an address");
        let bearer = format!("Bearer {token}").parse().expect("a header");
        request.headers_mut().insert("authorization", bearer);
        let address = request.uri().authority().expect("an address").as_str();
        let address = address.parse().expect("an address with a port");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a size");
        let stream = socket.connect(address).await.expect("the server listens");
        let stream = MaybeTlsStream::Plain(stream);
        let (stream, _) = client_async(request, stream).await.expect("WebSocket");
        Self { stream }
    }

    /// The next message as JSON, or the close code and its reason.
    pub async fn next(&mut self) -> Result<Value, (u16, String)> {
        loop {
            let next = timeout(PATIENCE, self.stream.next()).await;
            match next.expect("the socket goes on or closes") {
                Some(Ok(Message::Text(text))) => {
                    return Ok(serde_json::from_str(&text).expect("messages are JSON"));
                }
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Err((frame.code.into(), frame.reason.to_string()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err((1006, error.to_string())),
                None => return Err((1006, String::new())),
            }
        }
    }

    /// Everything until the close.
    pub async fn rest(mut self) -> Rest {
        let mut rows = Vec::new();
        loop {
            match self.next().await {
                Ok(row) => rows.push(row),
                Err((code, reason)) => return Rest { rows, code, reason },
            }
        }
    }

    pub async fn close(mut self) {
        self.stream
            .close(None)
            .await
            .expect("a socket can be closed");
    }
}
