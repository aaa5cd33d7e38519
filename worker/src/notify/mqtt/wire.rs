//! The little of MQTT 3.1.1 that publishing needs: CONNECT, PUBLISH with quality 1, DISCONNECT. The
//! known client connects by itself, past the guard on addresses; of the codecs that could be had
//! apart, one is kept and brings more to build than all that is here.

use std::{io, time::Duration};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};
use plimsoll_outbound::{Reach, Stream, Wire, dial};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{
        Error as WebError, Message, client::IntoClientRequest, protocol::WebSocketConfig,
    },
};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};
use url::Url;

const PATIENCE: Duration = Duration::from_secs(10);
/// Messages on their way without an acknowledgement.
const PIPELINE: usize = 32;
/// Of a WebSocket message: a broker has only acknowledgements to say.
const MAX_WEB_MESSAGE: usize = 64 * 1024;
/// Seconds after which the broker may give up on us.
const KEEP_ALIVE: u16 = 60;

/// Where the broker is, and who we are to it.
pub struct Broker {
    pub host: String,
    pub port: u16,
    pub wire: Wire,
    /// The address as it is asked for, where MQTT is spoken over WebSockets.
    pub web: Option<Url>,
    pub client: String,
    pub user: Option<String>,
    pub password: Option<SecretString>,
}

/// One retained message.
pub struct Publication {
    pub topic: String,
    /// Empty: the broker forgets what it had.
    pub payload: Vec<u8>,
}

/// Connects, publishes all, and leaves. When it ends well the broker has everything.
pub async fn publish(broker: &Broker, reach: Reach, all: &[Publication]) -> io::Result<()> {
    let mut stream = connect(broker, reach).await?;
    timeout(PATIENCE, greet(&mut *stream, broker))
        .await
        .map_err(|_| slow())??;
    for (round, some) in all.chunks(PIPELINE).enumerate() {
        timeout(PATIENCE, send(&mut *stream, some, round))
            .await
            .map_err(|_| slow())??;
    }
    // DISCONNECT. What matters was acknowledged.
    let _ = timeout(PATIENCE, stream.write_all(&[0xe0, 0])).await;
    Ok(())
}

fn slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time")
}

async fn connect(broker: &Broker, reach: Reach) -> io::Result<Box<dyn Stream>> {
    let stream = dial(&broker.host, broker.port, broker.wire, reach).await?;
    match &broker.web {
        None => Ok(stream),
        Some(request) => web(stream, request.clone()).await,
    }
}

/// MQTT over WebSockets (MQTT 3.1.1, section 6): its bytes in binary messages, cut anywhere.
async fn web(stream: Box<dyn Stream>, address: Url) -> io::Result<Box<dyn Stream>> {
    let odd = |error: WebError| io::Error::other(format!("no WebSocket: {error}"));
    let mut request = address.as_str().into_client_request().map_err(odd)?;
    let protocol = HeaderValue::from_static("mqtt");
    request
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MAX_WEB_MESSAGE))
        .max_frame_size(Some(MAX_WEB_MESSAGE));
    let opening = client_async_with_config(request, stream, Some(limits));
    let (socket, _) = timeout(PATIENCE, opening)
        .await
        .map_err(|_| slow())?
        .map_err(odd)?;
    let (sink, source) = socket.split();
    let reader = source.filter_map(async |message| match message {
        Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
        // Its pings are answered by the library.
        Ok(_) => None,
        Err(error) => Some(Err(io::Error::other(error))),
    });
    let writer = sink
        .sink_map_err(io::Error::other)
        .with(async |bytes: Bytes| Ok::<_, io::Error>(Message::Binary(bytes)));
    let reader = StreamReader::new(Box::pin(reader));
    let writer = SinkWriter::new(CopyToBytes::new(Box::pin(writer)));
    Ok(Box::new(tokio::io::join(reader, writer)))
}

async fn greet(stream: &mut dyn Stream, broker: &Broker) -> io::Result<()> {
    let mut flags = 0b10;
    let mut body = Vec::new();
    text(&mut body, b"MQTT")?;
    body.push(4);
    flags |= u8::from(broker.user.is_some()) << 7;
    flags |= u8::from(broker.password.is_some()) << 6;
    body.push(flags);
    body.extend(KEEP_ALIVE.to_be_bytes());
    text(&mut body, broker.client.as_bytes())?;
    if let Some(user) = &broker.user {
        text(&mut body, user.as_bytes())?;
    }
    if let Some(password) = &broker.password {
        text(&mut body, password.expose_secret().as_bytes())?;
    }
    stream.write_all(&packet(0x10, &body)?).await?;
    stream.flush().await?;
    let (kind, answer) = read(stream).await?;
    match (kind, answer.as_slice()) {
        (0x20, [_, 0]) => Ok(()),
        (0x20, [_, 4 | 5]) => Err(io::Error::other("it refused our credentials")),
        (0x20, [_, code]) => Err(io::Error::other(format!("it refused us with code {code}"))),
        _ => Err(io::Error::other("it speaks no MQTT")),
    }
}

async fn send(stream: &mut dyn Stream, some: &[Publication], round: usize) -> io::Result<()> {
    let mut bytes = Vec::new();
    let first = u16::try_from(round * PIPELINE % 60_000).unwrap_or(0) + 1;
    for (number, publication) in (first..).zip(some) {
        let mut body = Vec::new();
        text(&mut body, publication.topic.as_bytes())?;
        body.extend(number.to_be_bytes());
        body.extend(&publication.payload);
        // PUBLISH, quality 1, retained.
        bytes.extend(packet(0x33, &body)?);
    }
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    let mut waiting = some.len();
    while waiting > 0 {
        // PUBACK; a broker sends us nothing else that we asked for.
        if let (0x40, _) = read(stream).await? {
            waiting -= 1;
        }
    }
    Ok(())
}

/// One packet of the broker's: its first byte and its body, which is never large.
async fn read(stream: &mut dyn Stream) -> io::Result<(u8, Vec<u8>)> {
    let kind = stream.read_u8().await?;
    let length = stream.read_u8().await?;
    if length > 127 {
        return Err(io::Error::other("it sent more than was asked for"));
    }
    let mut body = vec![0; usize::from(length)];
    stream.read_exact(&mut body).await?;
    Ok((kind, body))
}

fn packet(kind: u8, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut length = body.len();
    if length > 0x0fff_ffff {
        return Err(io::Error::other("the message is too long for MQTT"));
    }
    let mut packet = vec![kind];
    loop {
        let digit = (length % 128) as u8;
        length /= 128;
        packet.push(digit | (u8::from(length > 0) << 7));
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    Ok(packet)
}

fn text(out: &mut Vec<u8>, text: &[u8]) -> io::Result<()> {
    let length =
        u16::try_from(text.len()).map_err(|_| io::Error::other("a name is too long for MQTT"))?;
    out.extend(length.to_be_bytes());
    out.extend(text);
    Ok(())
}
