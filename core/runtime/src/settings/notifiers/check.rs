//! Notifiers that cannot work as they are configured, found at start.

use secrecy::ExposeSecret;
use url::Url;

use super::super::leaf::Secret;
use super::super::tree::Triggers;
use super::*;

/// What is wrong, each naming its setting. Secrets are not repeated.
pub fn problems(triggers: &Triggers) -> Vec<String> {
    let mut found = Vec::new();
    for notifier in triggers.notifiers() {
        let prefix = format!(
            "PLIMSOLL_TRIGGER_{}_{}",
            notifier.type_.to_uppercase(),
            notifier.name.to_uppercase()
        );
        let mut check = Check {
            prefix,
            found: &mut found,
        };
        check.kind(&notifier.kind);
    }
    found
}

struct Check<'a> {
    prefix: String,
    found: &'a mut Vec<String>,
}

const WEB: &[&str] = &["http", "https"];

impl Check<'_> {
    fn kind(&mut self, kind: &NotifierKind) {
        match kind {
            NotifierKind::Apprise(own) => {
                self.address("URL", own.url.as_deref(), WEB);
                if own.urls.is_some() == own.config.is_some() {
                    self.say("URLS", "set it or _CONFIG, one of the two");
                }
                if own.tag.is_some() && own.config.is_none() {
                    self.say("TAG", "tags choose within _CONFIG, which is not set");
                }
            }
            NotifierKind::Command(own) => {
                if own.shell.is_some() {
                    self.say(
                        "SHELL",
                        "no shell is ever started: write the program and its arguments into _CMD",
                    );
                }
                match text(&own.cmd) {
                    None => self.missing("CMD"),
                    Some(command) => {
                        if let Err(problem) = words(command) {
                            self.say("CMD", &problem);
                        }
                    }
                }
            }
            NotifierKind::Discord(own) => {
                self.address("URL", text(&own.url), &["https"]);
                if own.cardcolor > 0xff_ffff {
                    self.say("CARDCOLOR", "larger than 16777215");
                }
            }
            NotifierKind::Googlechat(Googlechat { url })
            | NotifierKind::Mattermost(Mattermost { url })
            | NotifierKind::Teams(Teams { url }) => self.address("URL", text(url), WEB),
            NotifierKind::Gotify(own) => {
                self.address("URL", own.url.as_deref(), WEB);
                self.needs("TOKEN", text(&own.token));
            }
            NotifierKind::Http(own) => {
                self.address("URL", text(&own.url), WEB);
                if own.allowmetadata {
                    self.say(
                        "ALLOWMETADATA",
                        "cloud-metadata and link-local addresses are never reached",
                    );
                }
                if let Some(proxy) = text(&own.proxy) {
                    self.address("PROXY", Some(proxy), WEB);
                }
                let auth = &own.auth;
                match auth.type_ {
                    Some(HttpAuthType::Bearer) => self.needs("AUTH_BEARER", text(&auth.bearer)),
                    Some(HttpAuthType::Basic) => {
                        self.needs("AUTH_USER", auth.user.as_deref());
                        self.needs("AUTH_PASSWORD", text(&auth.password));
                    }
                    None if auth.bearer.is_some() && auth.password.is_some() => {
                        self.say("AUTH_TYPE", "two credentials are given: say which one");
                    }
                    None => {}
                }
            }
            NotifierKind::Ifttt(own) => {
                self.address("URL", Some(&own.url), WEB);
                self.needs("KEY", text(&own.key));
                self.needs("EVENT", Some(&own.event));
            }
            NotifierKind::Kafka(own) => {
                match own.brokers.as_deref() {
                    None => self.missing("BROKERS"),
                    Some(list) => {
                        if let Err(problem) = brokers(list) {
                            self.say("BROKERS", &problem);
                        }
                    }
                }
                let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
                if !(1..=249).contains(&own.topic.len()) || !own.topic.chars().all(allowed) {
                    self.say("TOPIC", "not 1 to 249 letters, digits, `.`, `_` and `-`");
                }
                let login = &own.authentication;
                if login.user.is_some() != login.password.is_some() {
                    self.say(
                        "AUTHENTICATION_USER",
                        "set it and _AUTHENTICATION_PASSWORD, or neither",
                    );
                }
            }
            NotifierKind::Matrix(own) => {
                self.address("URL", own.url.as_deref(), WEB);
                self.needs("ROOMID", own.roomid.as_deref());
                self.needs("ACCESSTOKEN", text(&own.accesstoken));
            }
            NotifierKind::Mock(_) => {}
            NotifierKind::Mqtt(own) => {
                let schemes = &["mqtt", "mqtts", "tcp", "tls", "ws", "wss"];
                self.address("URL", own.url.as_deref(), schemes);
                if own.topic.is_empty() || own.topic.contains(['#', '+']) {
                    self.say("TOPIC", "a topic to publish to has no `#` or `+`");
                }
                if own.hass.discovery && !own.hass.enabled {
                    self.say("HASS_DISCOVERY", "needs _HASS_ENABLED");
                }
                if own.password.is_some() && own.user.is_none() {
                    self.missing("USER");
                }
            }
            NotifierKind::Ntfy(own) => {
                self.address("URL", Some(&own.url), WEB);
                self.needs("TOPIC", own.topic.as_deref());
                if own.priority.is_some_and(|priority| priority > 5) {
                    self.say("PRIORITY", "not from 0 to 5");
                }
                let auth = &own.auth;
                if auth.token.is_some() && auth.password.is_some() {
                    self.say("AUTH_TOKEN", "set it or _AUTH_PASSWORD, one of the two");
                }
                if auth.user.is_some() != auth.password.is_some() {
                    self.say("AUTH_USER", "set it and _AUTH_PASSWORD, or neither");
                }
            }
            NotifierKind::Pushover(own) => {
                self.address("URL", Some(&own.url), WEB);
                self.needs("USER", text(&own.user));
                self.needs("TOKEN", text(&own.token));
                if !(-2..=2).contains(&own.priority) {
                    self.say("PRIORITY", "not from -2 to 2");
                }
                if own.priority == 2 {
                    if own.retry.is_none_or(|seconds| seconds < 30) {
                        self.say("RETRY", "priority 2 needs it, at least 30");
                    }
                    if own
                        .expire
                        .is_none_or(|seconds| !(1..=10_800).contains(&seconds))
                    {
                        self.say("EXPIRE", "priority 2 needs it, 1 to 10800");
                    }
                }
            }
            NotifierKind::Rocketchat(own) => {
                self.address("URL", own.url.as_deref(), WEB);
                self.needs("USER_ID", own.user.id.as_deref());
                self.needs("AUTH_TOKEN", text(&own.auth.token));
                self.needs("CHANNEL", own.channel.as_deref());
            }
            NotifierKind::Slack(own) => {
                self.address("URL", Some(&own.url), WEB);
                self.needs("TOKEN", text(&own.token));
                self.needs("CHANNEL", own.channel.as_deref());
            }
            NotifierKind::Smtp(own) => {
                self.needs("HOST", own.host.as_deref());
                self.needs("FROM", own.from.as_deref());
                self.needs("TO", own.to.as_deref());
                if own.port.is_none() {
                    self.missing("PORT");
                }
                if own.user.is_some() != own.pass.is_some() {
                    self.say("USER", "set it and _PASS, or neither");
                }
                if own.tls.enabled && own.tls.starttls == StartTls::Required {
                    self.say("TLS_STARTTLS", "the connection begins with TLS already");
                }
            }
            NotifierKind::Telegram(own) => {
                self.address("URL", Some(&own.url), WEB);
                self.needs("BOTTOKEN", text(&own.bottoken));
                self.needs("CHATID", own.chatid.as_deref());
            }
        }
    }

    fn say(&mut self, setting: &str, problem: &str) {
        self.found
            .push(format!("{}_{setting}: {problem}", self.prefix));
    }

    fn missing(&mut self, setting: &str) {
        self.say(setting, "it is needed and not set");
    }

    fn needs(&mut self, setting: &str, value: Option<&str>) {
        if value.is_none_or(|value| value.trim().is_empty()) {
            self.missing(setting);
        }
    }

    fn address(&mut self, setting: &str, value: Option<&str>, schemes: &[&str]) {
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            self.missing(setting);
            return;
        };
        let fits = Url::parse(value)
            .is_ok_and(|url| schemes.contains(&url.scheme()) && url.host_str().is_some());
        if !fits {
            self.say(
                setting,
                &format!(
                    "it is no address that begins with {}://",
                    schemes.join(":// or ")
                ),
            );
        }
    }
}

fn text(secret: &Option<Secret>) -> Option<&str> {
    secret.as_ref().map(|secret| secret.expose_secret())
}

/// The hosts and ports of `host:port,host:port`; 9092 where there is no port. IPv6 addresses are in
/// brackets.
///
/// # Errors
/// What is wrong with the list.
pub fn brokers(list: &str) -> Result<Vec<(String, u16)>, String> {
    let parse = |broker: &str| {
        let has_port = |(host, _): &(&str, &str)| !host.contains(':') || host.ends_with(']');
        let (host, port) = match broker.rsplit_once(':').filter(has_port) {
            Some((host, port)) => (host, port.parse().ok()),
            None => (broker, Some(9092)),
        };
        let named = !host.is_empty() && !host.contains(['/', '@', ' ']);
        let found = port.filter(|port| named && *port > 0);
        found
            .map(|port| (host.to_owned(), port))
            .ok_or_else(|| "not of the form host:port,host:port".to_owned())
    };
    let list: Vec<&str> = list.split(',').map(str::trim).collect();
    let named = list.into_iter().filter(|broker| !broker.is_empty());
    let found: Vec<_> = named.map(parse).collect::<Result<_, _>>()?;
    match found.is_empty() {
        true => Err("it names no broker".to_owned()),
        false => Ok(found),
    }
}

/// Splits a command as a shell would, and does nothing else that a shell does: white space parts
/// words, `'…'` keeps everything, `"…"` everything but `\"` and `\\`, and outside of quotes `\`
/// keeps the next character.
///
/// # Errors
/// A quote that is not closed, or no word at all.
pub fn words(command: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = command.chars().peekable();
    while let Some(c) = characters.next() {
        let escapes = c == '\\'
            && match quote {
                None => true,
                Some('"') => matches!(characters.peek(), Some('"' | '\\')),
                Some(_) => false,
            };
        if escapes {
            let next = characters.next().ok_or("it ends with a backslash")?;
            word.get_or_insert_default().push(next);
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && (c == '"' || c == '\'') {
            quote = Some(c);
            word.get_or_insert_default();
        } else if quote.is_none() && c.is_whitespace() {
            words.extend(word.take());
        } else {
            word.get_or_insert_default().push(c);
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    match words.first() {
        Some(program) if !program.is_empty() => Ok(words),
        _ => Err("it names no program".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_hosts_with_ports() {
        let parsed = brokers("one, two:1,[::1]:2,").unwrap();
        let expected = [("one", 9092), ("two", 1), ("[::1]", 2)];
        assert_eq!(parsed, expected.map(|(host, port)| (host.to_owned(), port)));
        for list in [
            "",
            " , ",
            "one:",
            "one:x",
            "one:70000",
            "kafka://one:1",
            ":1",
        ] {
            assert!(brokers(list).is_err(), "{list}");
        }
    }

    #[test]
    fn commands_are_split_by_quotes_and_nothing_is_expanded() {
        for (command, expected) in [
            ("/bin/notify", &["/bin/notify"][..]),
            (" a  'b c' \"d e\" ", &["a", "b c", "d e"][..]),
            (r#"a "\"x\\" '\n' b\ c"#, &["a", "\"x\\", "\\n", "b c"][..]),
            (
                "a '' $HOME `id` $(id) *;b|c",
                &["a", "", "$HOME", "`id`", "$(id)", "*;b|c"][..],
            ),
        ] {
            assert_eq!(words(command).unwrap(), expected, "{command}");
        }
        for command in ["", "  ", "a 'b", "a \"b", "a\\", "''"] {
            assert!(words(command).is_err(), "{command}");
        }
    }
}
