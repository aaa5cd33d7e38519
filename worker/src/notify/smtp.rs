//! Mail by SMTP: TLS from the start, STARTTLS, or in the clear.

use std::time::Duration;

use futures::future::BoxFuture;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        authentication::Credentials,
        client::{Tls, TlsParameters},
    },
};
use plimsoll_outbound::{Reach, resolve};
use plimsoll_runtime::settings::notifiers::{self as configured, StartTls};
use secrecy::{ExposeSecret, SecretString};

use super::{Failure, Notifier, Outgoing, Sent, needed, web::cut};

const TIMEOUT: Duration = Duration::from_secs(20);
/// Characters of a subject.
const SUBJECT: usize = 200;

pub struct Smtp {
    reach: Reach,
    host: String,
    port: u16,
    from: Mailbox,
    to: Vec<Mailbox>,
    login: Option<(String, SecretString)>,
    tls: TlsMode,
    parameters: TlsParameters,
}

#[derive(Clone, Copy)]
enum TlsMode {
    FromTheStart,
    Required,
    IfOffered,
    Never,
}

impl Smtp {
    pub fn new(own: &configured::Smtp, reach: Reach) -> Result<Self, String> {
        let host = needed(&own.host, "host")?;
        let mailbox = |text: &str, name: &str| {
            text.trim()
                .parse::<Mailbox>()
                .map_err(|_| format!("{name} is no mail address: {}", text.trim()))
        };
        let from = mailbox(&needed(&own.from, "from")?, "from")?;
        let to = needed(&own.to, "to")?;
        let to = to
            .split(',')
            .filter(|one| !one.trim().is_empty())
            .map(|one| mailbox(one, "to"))
            .collect::<Result<_, _>>()?;
        let password = own.pass.as_ref().map(|password| password.0.clone());
        let tls = match (own.tls.enabled, own.tls.starttls) {
            (true, _) => TlsMode::FromTheStart,
            (false, StartTls::Required) => TlsMode::Required,
            (false, StartTls::Never) => TlsMode::Never,
            (false, StartTls::Auto) if password.is_some() => TlsMode::Required,
            (false, StartTls::Auto) => TlsMode::IfOffered,
        };
        let verify = own.tls.verify;
        let parameters = TlsParameters::builder(host.clone())
            .dangerous_accept_invalid_certs(!verify)
            .dangerous_accept_invalid_hostnames(!verify)
            .build()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        Ok(Self {
            reach,
            port: needed(&own.port, "port")?,
            host,
            from,
            to,
            login: own.user.clone().zip(password),
            tls,
            parameters,
        })
    }

    fn mail(&self, message: &Outgoing) -> Result<Message, Failure> {
        let subject: String = message
            .text
            .title
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        let mut mail = Message::builder()
            .from(self.from.clone())
            .subject(cut(&subject, SUBJECT))
            // The same for every attempt: mail programs show it once.
            .message_id(Some(format!("<{}@plimsoll>", message.id)))
            .header(ContentType::TEXT_PLAIN);
        for one in &self.to {
            mail = mail.to(one.clone());
        }
        mail.body(message.text.body.clone())
            .map_err(|error| Failure::new(format!("the mail cannot be written: {error}")))
    }

    async fn deliver(&self, message: &Outgoing) -> Sent {
        let mail = self.mail(message)?;
        let unreachable = |why: String| Failure::new(format!("{}: {why}", self.host));
        let addresses = resolve(&self.host, self.port, self.reach)
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let address = addresses.first().map(|address| address.ip().to_string());
        let parameters = self.parameters.clone();
        let tls = match self.tls {
            TlsMode::FromTheStart => Tls::Wrapper(parameters),
            TlsMode::Required => Tls::Required(parameters),
            TlsMode::IfOffered => Tls::Opportunistic(parameters),
            TlsMode::Never => Tls::None,
        };
        // By address, because the name may lead elsewhere the next time it is asked for; the
        // certificate must still be the name's.
        let mut transport =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.unwrap_or_default())
                .port(self.port)
                .timeout(Some(TIMEOUT))
                .tls(tls);
        if let Some((user, password)) = &self.login {
            let password = password.expose_secret().to_owned();
            transport = transport.credentials(Credentials::new(user.clone(), password));
        }
        transport.build().send(mail).await.map_err(|error| {
            let mut why = error.to_string();
            let cause = std::error::Error::source(&error);
            if let Some(cause) = cause.map(ToString::to_string).filter(|c| !why.contains(c)) {
                why = format!("{why}: {cause}");
            }
            if let Some((_, password)) = &self.login {
                why = why.replace(password.expose_secret(), "***");
            }
            unreachable(why)
        })?;
        Ok(None)
    }
}

impl Notifier for Smtp {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Sent> {
        Box::pin(self.deliver(message))
    }
}
