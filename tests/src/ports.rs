//! Free ports, each given once.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    process,
    sync::{Mutex, PoisonError},
};

static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Below the ports that Linux gives to outgoing connections: until the port's new owner listens, no
/// connection of a busy Envoy can take it.
const FIRST: u16 = 10_000;
const COUNT: u16 = 22_000;

/// A port of 127.0.0.1 on which nobody listens, and which this process was not given before. Each
/// process begins its search elsewhere, so another one rarely gets the same.
///
/// # Panics
/// When every port is taken.
pub fn free_port() -> u16 {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    // A prime spreads process ids that follow each other over the range.
    let begin = u64::from(process::id()) * 7919;
    for step in 0..u64::from(COUNT) {
        let port = FIRST + ((begin + step) % u64::from(COUNT)) as u16;
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            return port;
        }
    }
    panic!("all {COUNT} ports from {FIRST} are taken")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports: BTreeSet<u16> = (0..50).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 50);
        assert!(ports.iter().all(|port| (10_000..32_000).contains(port)));
    }
}
