//! Kafka: every container a record of its own, acknowledged by all replicas that are in step.
//!
//! The protocol is spoken here, in the few messages that writing needs. The known clients connect
//! past the guard on addresses or bring a second TLS stack along, and the known codec reserves as
//! much memory as a broker says that it will fill.

mod error;
mod record;
mod sasl;
mod wire;

use std::{collections::BTreeMap, time::Duration};

use chrono::Utc;
use futures::future::BoxFuture;
use plimsoll_outbound::{Reach, Wire};
use plimsoll_runtime::settings::notifiers::{self as configured, KafkaLogin, brokers};
use serde_json::Value;

use super::{Failure, Notifier, Outgoing, Sent, needed, secret};
use error::{Trouble, check};
use record::{Record, batch};
use sasl::Login;
use wire::{Api, Connection, Fields, Reader};

/// Milliseconds that a broker may take until all replicas have it.
const REPLICATION: i32 = 10_000;
/// Bytes that go to a broker at a time: half of what it takes unless it is told otherwise.
const PORTION: usize = 512 * 1024;
/// Looks at who leads the partitions, where that is changing.
const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// Brokers that a cluster may have, and partitions that a topic may have.
const MAX_ENTRIES: i32 = 100_000;

pub struct Kafka {
    brokers: Vec<(String, u16)>,
    topic: String,
    client: String,
    wire: Wire,
    login: Option<Login>,
    reach: Reach,
}

/// Who leads which partition of the topic. Partitions without a leader are missing.
struct Leaders {
    /// Where each leads.
    addresses: BTreeMap<i32, (String, u16)>,
    /// Also those without a leader.
    partitions: usize,
    by_partition: BTreeMap<usize, i32>,
}

impl Kafka {
    pub fn new(own: &configured::Kafka, reach: Reach) -> Result<Self, String> {
        let auth = &own.authentication;
        let login = match &auth.user {
            None => None,
            Some(user) => Some(Login {
                mechanism: auth.type_.unwrap_or(KafkaLogin::Plain),
                user: user.clone(),
                password: secret(&auth.password, "authentication.password")?,
            }),
        };
        Ok(Self {
            brokers: brokers(&needed(&own.brokers, "brokers")?)?,
            topic: own.topic.clone(),
            client: own.clientid.clone(),
            wire: match own.ssl {
                true => Wire::Tls,
                false => Wire::Clear,
            },
            login,
            reach,
        })
    }

    async fn publish(&self, mut waiting: Vec<Record>) -> Result<(), Trouble> {
        let mut looks = 1;
        loop {
            match self.publish_once(&mut waiting).await {
                Err(trouble) if trouble.passes() && looks < LOOKS => looks += 1,
                ended => return ended,
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// Takes out of `waiting` what has arrived.
    async fn publish_once(&self, waiting: &mut Vec<Record>) -> Result<(), Trouble> {
        let mut first = self.any_broker().await?;
        let leaders = self.leaders(&mut first).await?;
        let mut by_leader: BTreeMap<i32, BTreeMap<usize, Vec<Record>>> = BTreeMap::new();
        for record in &*waiting {
            let partition = record.partition(leaders.partitions);
            let leader = *leaders
                .by_partition
                .get(&partition)
                .ok_or(Trouble::NoLeader)?;
            let of_leader = by_leader.entry(leader).or_default();
            of_leader.entry(partition).or_default().push(record.clone());
        }
        for (leader, records) in by_leader {
            let address = leaders.addresses.get(&leader).ok_or(Trouble::NoLeader)?;
            let mut connection = self.connect(address).await?;
            self.produce(&mut connection, &records).await?;
            waiting.retain(|record| !records.contains_key(&record.partition(leaders.partitions)));
        }
        Ok(())
    }

    /// The first of the configured brokers that lets us in and speaks what we do.
    async fn any_broker(&self) -> Result<Connection, Trouble> {
        let mut last = Trouble::NoLeader;
        for broker in &self.brokers {
            let attempt = async {
                let mut connection = self.connect(broker).await?;
                understands(&mut connection).await?;
                Ok(connection)
            };
            match attempt.await {
                Ok(connection) => return Ok(connection),
                Err(trouble) => last = trouble,
            }
        }
        Err(last)
    }

    async fn connect(&self, (host, port): &(String, u16)) -> Result<Connection, Trouble> {
        let address = (host.as_str(), *port);
        let opened = Connection::open(address, self.wire, self.reach, &self.client).await;
        let mut connection = opened
            .map_err(|error| std::io::Error::new(error.kind(), format!("{host}: {error}")))?;
        if let Some(login) = &self.login {
            login.perform(&mut connection).await?;
        }
        Ok(connection)
    }

    /// A topic that does not exist is made by asking for it, where the brokers are set up so.
    async fn leaders(&self, connection: &mut Connection) -> Result<Leaders, Trouble> {
        let mut question = Fields::default();
        question.count(1);
        question.text(&self.topic);
        let answer = connection.ask(Api::Metadata, &question.0).await?;
        let mut answer = Reader(&answer);
        let mut addresses = BTreeMap::new();
        for _ in 0..several(&mut answer)? {
            let (id, host, port) = (answer.i32()?, answer.text()?, answer.i32()?);
            answer.text()?;
            let port = u16::try_from(port).map_err(|_| Trouble::Garbage)?;
            addresses.insert(id, (host, port));
        }
        // The controller.
        answer.i32()?;
        if several(&mut answer)? != 1 {
            return Err(Trouble::Garbage);
        }
        check(answer.i16()?)?;
        answer.text()?;
        // Whether the topic is internal.
        answer.skip(1)?;
        let partitions = several(&mut answer)?;
        let mut by_partition = BTreeMap::new();
        for _ in 0..partitions {
            let (code, partition, leader) = (answer.i16()?, answer.i32()?, answer.i32()?);
            for _replicas_then_those_in_step in 0..2 {
                let count = several(&mut answer)?;
                answer.skip(4 * count as usize)?;
            }
            // A replica that is away does not keep the leader from working.
            let partition = usize::try_from(partition).map_err(|_| Trouble::Garbage)?;
            if matches!(code, 0 | 9) && leader >= 0 {
                by_partition.insert(partition, leader);
            }
        }
        Ok(Leaders {
            addresses,
            partitions: partitions as usize,
            by_partition,
        })
    }

    async fn produce(
        &self,
        connection: &mut Connection,
        records: &BTreeMap<usize, Vec<Record>>,
    ) -> Result<(), Trouble> {
        let now = Utc::now().timestamp_millis();
        let mut question = Fields::default();
        // No transaction; all replicas in step.
        question.absent_text();
        question.i16(-1);
        question.i32(REPLICATION);
        question.count(1);
        question.text(&self.topic);
        question.count(records.len());
        for (partition, records) in records {
            question.count(*partition);
            question.bytes(&batch(records, now));
        }
        let answer = connection.ask(Api::Produce, &question.0).await?;
        let mut answer = Reader(&answer);
        if several(&mut answer)? != 1 {
            return Err(Trouble::Garbage);
        }
        answer.text()?;
        let acknowledged = several(&mut answer)?;
        for _ in 0..acknowledged {
            answer.i32()?;
            let code = answer.i16()?;
            // Offset and time.
            answer.skip(16)?;
            check(code)?;
        }
        match acknowledged as usize == records.len() {
            true => Ok(()),
            false => Err(Trouble::Garbage),
        }
    }

    async fn deliver(&self, message: &Outgoing) -> Sent {
        let mut portion = Vec::new();
        let mut size = 0;
        for subject in &message.subjects {
            let record = record(message, subject)?;
            if size + record.size() > PORTION && !portion.is_empty() {
                self.publish(std::mem::take(&mut portion))
                    .await
                    .map_err(failure)?;
                size = 0;
            }
            size += record.size();
            portion.push(record);
        }
        if !portion.is_empty() {
            self.publish(portion).await.map_err(failure)?;
        }
        Ok(None)
    }
}

impl Notifier for Kafka {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Sent> {
        Box::pin(self.deliver(message))
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }
}

fn failure(trouble: Trouble) -> Failure {
    Failure {
        is_final: trouble.is_final(),
        ..Failure::new(trouble.to_string())
    }
}

/// The container as JSON. `id` is the same for every attempt.
fn record(message: &Outgoing, subject: &Value) -> Result<Record, Failure> {
    let text = |name: &str| subject[name].as_str().filter(|text| !text.is_empty());
    // Of an agent that is gone there is only its name.
    let parts = [text("agent"), text("watcher"), text("name")];
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    Ok(Record {
        key: parts.join("/"),
        value: serde_json::to_vec(subject)?,
        headers: vec![
            ("event", message.event.clone()),
            ("id", message.id.to_string()),
        ],
    })
}

async fn understands(connection: &mut Connection) -> Result<(), Trouble> {
    let answer = connection.ask(Api::Versions, &[]).await?;
    let mut answer = Reader(&answer);
    check(answer.i16()?)?;
    let mut known = 0;
    for _ in 0..several(&mut answer)? {
        let (key, least, most) = (answer.i16()?, answer.i16()?, answer.i16()?);
        let ours = [Api::Produce, Api::Metadata];
        let ours = ours.into_iter().find(|api| api.key() == key);
        known += usize::from(ours.is_some_and(|api| (least..=most).contains(&api.version())));
    }
    match known {
        2 => Ok(()),
        _ => Err(Trouble::Old),
    }
}

fn several(answer: &mut Reader<'_>) -> Result<i32, Trouble> {
    let count = answer.count()?;
    match (0..=MAX_ENTRIES).contains(&count) {
        true => Ok(count),
        false => Err(Trouble::Garbage),
    }
}
