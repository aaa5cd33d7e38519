//! What a broker may say no with, and what that means for a message.

use std::io;

#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it did not answer in time")]
    Silent,
    #[error("it speaks no Kafka that we know")]
    Garbage,
    #[error("it speaks no version of Kafka from 0.11 on")]
    Old,
    #[error("the login failed: {0}")]
    Login(String),
    #[error("it refused: {}", meaning(*.0))]
    Refused(i16),
    #[error("the topic has no partition that could be written")]
    NoLeader,
}

impl Trouble {
    /// Whether looking up the topic's leaders once more will do: it is being made, or has moved.
    pub fn passes(&self) -> bool {
        match self {
            Self::NoLeader => true,
            Self::Refused(code) => matches!(code, 3 | 5 | 6 | 9 | 56),
            _ => false,
        }
    }

    /// Whether sending the same again is of no use: the message itself is what is wrong.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused(10 | 17 | 18 | 43 | 44 | 87))
    }
}

/// `Ok` for success.
pub fn check(code: i16) -> Result<(), Trouble> {
    match code {
        0 => Ok(()),
        code => Err(Trouble::Refused(code)),
    }
}

/// In the protocol's own names where we know them.
fn meaning(code: i16) -> String {
    let name = match code {
        -1 => "UNKNOWN_SERVER_ERROR",
        2 => "CORRUPT_MESSAGE",
        3 => "UNKNOWN_TOPIC_OR_PARTITION",
        5 => "LEADER_NOT_AVAILABLE",
        6 => "NOT_LEADER_OR_FOLLOWER",
        7 => "REQUEST_TIMED_OUT",
        8 => "BROKER_NOT_AVAILABLE",
        9 => "REPLICA_NOT_AVAILABLE",
        10 => "MESSAGE_TOO_LARGE",
        17 => "INVALID_TOPIC_EXCEPTION",
        18 => "RECORD_LIST_TOO_LARGE",
        19 => "NOT_ENOUGH_REPLICAS",
        20 => "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
        29 => "TOPIC_AUTHORIZATION_FAILED",
        31 => "CLUSTER_AUTHORIZATION_FAILED",
        33 => "UNSUPPORTED_SASL_MECHANISM",
        34 => "ILLEGAL_SASL_STATE",
        35 => "UNSUPPORTED_VERSION",
        42 => "INVALID_REQUEST",
        43 => "UNSUPPORTED_FOR_MESSAGE_FORMAT",
        44 => "POLICY_VIOLATION",
        56 => "KAFKA_STORAGE_ERROR",
        58 => "SASL_AUTHENTICATION_FAILED",
        87 => "INVALID_RECORD",
        code => return format!("error {code}"),
    };
    name.to_owned()
}
