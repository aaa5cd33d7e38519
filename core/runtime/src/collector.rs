//! The way to the collector of traces: the client that every other call to other machines uses, run
//! by tokio. The exporter has a thread of its own, where no runtime is.

use std::{pin::Pin, sync::OnceLock, time::Duration};

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use plimsoll_outbound::{self as net, BodyError, Client, Line, Proxy, Reach, Tls};
use tokio::runtime::Handle;

/// One export from start to end. A process that ends waits this long for a collector that does not
/// answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of its answer only the status matters.
const ANSWER: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Collector {
    runtime: Handle,
    plain: OnceLock<Client>,
    encrypted: OnceLock<Client>,
}

impl Collector {
    /// # Errors
    /// Outside of a runtime.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            runtime: Handle::try_current()?,
            plain: OnceLock::new(),
            encrypted: OnceLock::new(),
        })
    }

    /// The machine's certificates are read when they are needed first: that takes time.
    fn client(&self, encrypted: bool) -> Result<Client, net::Error> {
        let (place, tls) = match encrypted {
            true => (&self.encrypted, Tls::default()),
            false => (&self.plain, Tls::none()),
        };
        if let Some(client) = place.get() {
            return Ok(client.clone());
        }
        let line = Line {
            proxy: Proxy::FromEnvironment,
            timeout: PATIENCE,
        };
        // The owner named the collector.
        let client = net::client(Reach::HOME, &tls, line)?;
        Ok(place.get_or_init(|| client).clone())
    }
}

type Sending<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Collector {
    fn send_bytes<'s, 'f>(&'s self, request: Request<Bytes>) -> Sending<'f>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let client = self.client(request.uri().scheme_str() == Some("https"))?;
            // No span: what tells of traces must not make more of them.
            let sent = self.runtime.spawn(async move {
                let answer = client.execute(request.try_into()?).await?;
                let mut response = Response::new(Bytes::new());
                *response.status_mut() = answer.status();
                *response.headers_mut() = answer.headers().clone();
                *response.body_mut() = match net::read_body(answer, ANSWER).await {
                    Ok(body) => body.into(),
                    Err(BodyError::Broken(error)) => return Err(error.into()),
                    Err(BodyError::TooLarge) => Bytes::new(),
                };
                Ok::<_, HttpError>(response)
            });
            sent.await?
        })
    }
}
