//! `bench-load`: the two ends between which a proxy is measured. They do as little as HTTP allows, on
//! one thread each, so that the proxy is what is busy.
//!
//! `bench-load serve` prints `ready ADDRESS` and answers every request with 200 and no body.
//! `bench-load load ADDRESS CONNECTIONS SECONDS REQUESTS` keeps that many connections busy with
//! `GET /orders/7` of a thousand users in turn, until the time or the number of requests is over, and
//! prints `done ANSWERED FAILED`.
#![allow(unsafe_code, reason = "epoll")]

use std::{
    collections::BTreeMap,
    env, io,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const USERS: u64 = 1_000;
const EVENTS: usize = 256;
/// Nothing here is larger; a proxy that sends more says something that was not asked for.
const HEAD_MAX: usize = 16 * 1024;
/// After so long without any answer the proxy is stuck.
const SILENCE: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["serve"] => serve(),
        ["load", address, connections, seconds, requests] => {
            let seconds = Duration::from_secs_f64(seconds.parse()?);
            let mut load = Load {
                address: address.parse()?,
                left: requests.parse()?,
                user: 0,
                answered: 0,
                failed: 0,
            };
            load.run(connections.parse()?, seconds)?;
            println!("done {} {}", load.answered, load.failed);
            Ok(())
        }
        _ => bail!(
            "usage: bench-load serve | bench-load load ADDRESS CONNECTIONS SECONDS REQUESTS\n\
             `cargo xtask bench filter` runs both"
        ),
    }
}

/// Which connections have something to read.
struct Poll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poll {
    fn new() -> Result<Self> {
        // SAFETY: no pointers.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        ensure!(epoll >= 0, io::Error::last_os_error());
        Ok(Self {
            // SAFETY: a descriptor that was just made and that nobody else has.
            epoll: unsafe { OwnedFd::from_raw_fd(epoll) },
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS],
        })
    }

    fn add(&self, what: &impl AsRawFd) -> Result<()> {
        let fd = what.as_raw_fd();
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN.cast_unsigned(),
            u64: u64::try_from(fd)?,
        };
        // SAFETY: both descriptors are open, the event is live.
        let result = unsafe {
            libc::epoll_ctl(
                self.epoll.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                fd,
                &raw mut event,
            )
        };
        ensure!(result == 0, io::Error::last_os_error());
        Ok(())
    }

    /// Waits for the next; none after [`SILENCE`] if `bounded`.
    fn wait(&mut self, bounded: bool) -> Result<Vec<RawFd>> {
        let silence = i32::try_from(SILENCE.as_millis())?;
        let timeout = if bounded { silence } else { -1 };
        // SAFETY: the events are live and as many as is said.
        let count = unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                i32::try_from(EVENTS)?,
                timeout,
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        let ready = self.events.iter().take(count);
        Ok(ready
            .filter_map(|event| RawFd::try_from(event.u64).ok())
            .collect())
    }
}

fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("ready {}", listener.local_addr()?);
    let mut poll = Poll::new()?;
    poll.add(&listener)?;
    let mut connections: BTreeMap<RawFd, (TcpStream, Vec<u8>)> = BTreeMap::new();
    loop {
        for fd in poll.wait(false)? {
            if fd == listener.as_raw_fd() {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                poll.add(&stream)?;
                connections.insert(stream.as_raw_fd(), (stream, Vec::new()));
            } else if let Some((stream, head)) = connections.get_mut(&fd)
                && answer(stream, head).is_err()
            {
                connections.remove(&fd);
            }
        }
    }
}

/// Reads once, and answers if that was the end of a request. An HTTP/1.1 proxy sends the next one only
/// after the answer.
fn answer(stream: &mut TcpStream, head: &mut Vec<u8>) -> Result<()> {
    receive(stream, head)?;
    if head.ends_with(END_OF_HEAD) {
        head.clear();
        stream.write_all(ANSWER)?;
    }
    Ok(())
}

fn receive(stream: &mut TcpStream, head: &mut Vec<u8>) -> Result<()> {
    let mut bytes = [0; 4096];
    let count = stream.read(&mut bytes)?;
    ensure!(count > 0, "closed");
    head.extend_from_slice(&bytes[..count]);
    ensure!(head.len() <= HEAD_MAX, "an endless head");
    Ok(())
}

struct Load {
    address: SocketAddr,
    left: u64,
    user: u64,
    answered: u64,
    failed: u64,
}

impl Load {
    fn run(&mut self, connections: usize, time: Duration) -> Result<()> {
        let mut poll = Poll::new()?;
        let mut open: BTreeMap<RawFd, (TcpStream, Vec<u8>)> = BTreeMap::new();
        for _ in 0..connections {
            let stream = TcpStream::connect(self.address)
                .with_context(|| format!("no connection to {}", self.address))?;
            stream.set_nodelay(true)?;
            poll.add(&stream)?;
            open.insert(stream.as_raw_fd(), (stream, Vec::new()));
        }
        let end = Instant::now() + time;
        let mut under_way = 0;
        for (stream, _) in open.values_mut() {
            under_way += usize::from(self.ask(stream, end)?);
        }
        while under_way > 0 {
            let ready = poll.wait(true)?;
            ensure!(!ready.is_empty(), "no answer for {SILENCE:?}");
            for fd in ready {
                let Some((stream, head)) = open.get_mut(&fd) else {
                    continue;
                };
                receive(stream, head).context("the proxy gave up a connection")?;
                if !head.ends_with(END_OF_HEAD) {
                    continue;
                }
                self.count(head);
                head.clear();
                under_way -= usize::from(!self.ask(stream, end)?);
            }
        }
        Ok(())
    }

    /// Sends the next request, if there is to be one.
    fn ask(&mut self, stream: &mut TcpStream, end: Instant) -> Result<bool> {
        if self.left == 0 || Instant::now() >= end {
            return Ok(false);
        }
        self.left -= 1;
        self.user = (self.user + 1) % USERS;
        let request = format!(
            "GET /orders/7 HTTP/1.1\r\nhost: order-service\r\nuser-agent: bench-load\r\n\
             accept: */*\r\nx-user-id: user-{}\r\n\r\n",
            self.user
        );
        stream.write_all(request.as_bytes())?;
        Ok(true)
    }

    fn count(&mut self, head: &[u8]) {
        match head.get(9..12) {
            Some(b"200") => self.answered += 1,
            _ => self.failed += 1,
        }
    }
}
