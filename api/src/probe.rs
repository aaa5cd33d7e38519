use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use plimsoll_runtime::{CommonArgs, read_settings};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

const DEADLINE: Duration = Duration::from_secs(3);
const MAX_ANSWER: u64 = 64 * 1024;

/// What `/health` answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeAnswer {
    pub status: u16,
    pub body: String,
}

/// The command `healthcheck`: asks the replica that has these settings and prints what it answers.
/// Success means that it serves.
///
/// # Errors
/// Settings that cannot be read, and a replica that does not answer.
pub async fn healthcheck(common: &CommonArgs) -> anyhow::Result<ExitCode> {
    let settings = read_settings(common)?;
    let health = probe(settings.listen_address(), crate::tls::probe(&settings)?).await?;
    println!("{}", health.body);
    Ok(match health.status {
        200 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Asks the server that listens on `address` for `/health`, by TLS if there is a configuration for
/// it: what a container's health check runs.
pub async fn probe(
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
) -> std::io::Result<ProbeAnswer> {
    let asked = tokio::time::timeout(DEADLINE, ask(reachable(address), tls)).await;
    asked.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

/// One cannot connect to "every address".
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

async fn ask(address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> std::io::Result<ProbeAnswer> {
    let stream = TcpStream::connect(address).await?;
    match tls {
        None => speak(stream, address).await,
        Some(tls) => {
            let name = ServerName::from(address.ip());
            let stream = TlsConnector::from(tls).connect(name, stream).await?;
            speak(stream, address).await
        }
    }
}

async fn speak(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    address: SocketAddr,
) -> std::io::Result<ProbeAnswer> {
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    parse(&String::from_utf8_lossy(&answer))
        .ok_or_else(|| std::io::Error::other("the answer is not HTTP"))
}

fn parse(answer: &str) -> Option<ProbeAnswer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(ProbeAnswer {
        status,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_every_address_is_asked_on_this_machine() {
        let ask = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(ask("0.0.0.0:3000"), "127.0.0.1:3000");
        assert_eq!(ask("[::]:3000"), "[::1]:3000");
        assert_eq!(ask("10.0.0.1:80"), "10.0.0.1:80");
    }

    #[test]
    fn an_answer_is_its_status_and_body() {
        let answer = parse("HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\n{}").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (503, "{}"));
        assert_eq!(parse("SSH-2.0-OpenSSH"), None);
    }
}
