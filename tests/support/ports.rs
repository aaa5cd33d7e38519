//! Ports for servers that cannot choose one themselves and say which.

use std::net::TcpListener;

/// Below those that systems give to connections and to listeners that ask for any, so that a server
/// that starts later, or again, finds its port as it was.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A port of 127.0.0.1 that nobody listens on at this moment.
pub fn free_port() -> u16 {
    loop {
        let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
        let port = FIRST + u16::try_from(random % u64::from(COUNT)).expect("it is less");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
