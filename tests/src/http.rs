//! A small HTTP/1.1 client that sends exactly the bytes it is told to.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail};

const TIMEOUT: Duration = Duration::from_secs(30);
/// After so long without a byte, a raw conversation is over.
const SILENCE: Duration = Duration::from_secs(1);

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of a name (lower case).
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(known, _)| known == name)?;
        Some(value)
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is something else: with the status and the body.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| {
            format!(
                "status {}: {}",
                self.status,
                String::from_utf8_lossy(&self.body)
            )
        })
    }
}

/// One connection, kept alive and opened anew when it was closed.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    /// Connects with the first request.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            connection: None,
        }
    }

    /// `GET`, with these headers besides `host`.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn get(&mut self, path: &str, headers: &[(&str, &[u8])]) -> Result<Response> {
        self.send("GET", path, headers)
    }

    /// Any method, without a body.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &[u8])],
    ) -> Result<Response> {
        self.request(method, path, headers, b"")
    }

    /// `POST` of a body.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn post(&mut self, path: &str, body: &[u8]) -> Result<Response> {
        self.request("POST", path, &[], body)
    }

    /// Any method with a body.
    ///
    /// # Errors
    /// When there is no whole answer. Only a kept connection that was closed before any of the answer
    /// came is opened anew, once; an answer that breaks off is an error, not a second request.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &[u8])],
        body: &[u8],
    ) -> Result<Response> {
        let mut request = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
        if !headers.iter().any(|(name, _)| *name == "host") {
            request.extend_from_slice(format!("host: {}\r\n", self.address).as_bytes());
        }
        if method != "GET" {
            request.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        for (name, value) in headers {
            request.extend_from_slice(name.as_bytes());
            request.extend_from_slice(b": ");
            request.extend_from_slice(value);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        if let Some(kept) = self.connection.take()
            && let Some(response) = self.exchange(kept, method, &request)?
        {
            return Ok(response);
        }
        let stream = TcpStream::connect_timeout(&self.address, TIMEOUT)
            .with_context(|| format!("nobody listens at {}", self.address))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        self.exchange(BufReader::new(stream), method, &request)?
            .with_context(|| format!("{} closed the connection without an answer", self.address))
    }

    /// `None` when the connection was closed before an answer began.
    fn exchange(
        &mut self,
        mut connection: BufReader<TcpStream>,
        method: &str,
        request: &[u8],
    ) -> Result<Option<Response>> {
        // Who refuses a request may answer and close before reading all of it: the answer counts.
        let sent = connection.get_mut().write_all(request);
        match connection.fill_buf() {
            Ok([]) => return Ok(None),
            Ok(_) => {}
            Err(error) if is_close(&error) => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("{} did not answer", self.address));
            }
        }
        let (response, whole) = read_response(&mut connection, method)?;
        if sent.is_ok() && whole && response.header("connection") != Some(b"close") {
            self.connection = Some(connection);
        }
        Ok(Some(response))
    }
}

fn is_close(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset
    )
}

/// The answer, and whether its end was known before the connection's.
fn read_response(connection: &mut impl BufRead, method: &str) -> Result<(Response, bool)> {
    let line = read_line(connection)?;
    let text = String::from_utf8_lossy(&line);
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let mut response = Response {
        status: status.with_context(|| format!("no HTTP status: {text:?}"))?,
        ..Response::default()
    };
    loop {
        let line = read_line(connection)?;
        if line.is_empty() {
            break;
        }
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .context("a header without a colon")?;
        let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
        response
            .headers
            .push((name, line[colon + 1..].trim_ascii().to_vec()));
    }
    if method == "HEAD" || matches!(response.status, 204 | 304) {
        return Ok((response, true));
    }
    if response.header("transfer-encoding") == Some(b"chunked") {
        response.body = read_chunks(connection)?;
    } else if let Some(length) = response.header("content-length") {
        let length: usize = String::from_utf8_lossy(length).parse()?;
        response.body = vec![0; length];
        connection.read_exact(&mut response.body)?;
    } else {
        connection.read_to_end(&mut response.body)?;
        return Ok((response, false));
    }
    Ok((response, true))
}

fn read_chunks(connection: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(connection)?;
        let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16)?;
        let mut chunk = vec![0; size];
        connection.read_exact(&mut chunk)?;
        read_line(connection)?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(&chunk);
    }
}

fn read_line(connection: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    connection.read_until(b'\n', &mut line)?;
    if !line.ends_with(b"\n") {
        bail!("the connection was closed");
    }
    Ok(line.trim_ascii_end().to_vec())
}

/// Sends bytes as they are, and gives what comes back until the other side closes or falls silent.
///
/// # Errors
/// When nobody listens.
pub fn raw(address: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(SILENCE))?;
    // Who has heard enough may close before all is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    // Silence ends it like a close does: what came is the answer.
    let _ = stream.read_to_end(&mut answer);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn answers_are_read_with_a_length_and_in_chunks() {
        let plain = b"HTTP/1.1 503 Service Unavailable\r\nX-A:  b \r\ncontent-length: 2\r\n\r\nok";
        let (response, _) = read_response(&mut &plain[..], "GET").unwrap();
        assert_eq!(
            (response.status, response.header("x-a")),
            (503, Some(&b"b"[..]))
        );
        assert_eq!(response.body, b"ok");
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\na\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(
            read_response(&mut &chunked[..], "GET").unwrap().0.body,
            b"ok0123456789"
        );
        assert!(read_response(&mut &b"HTTP/1.1 200 OK\r\n"[..], "GET").is_err());
        let unbounded = b"HTTP/1.0 200 OK\r\n\r\nall of it";
        let (response, whole) = read_response(&mut &unbounded[..], "GET").unwrap();
        assert_eq!((&response.body[..], whole), (&b"all of it"[..], false));
    }

    /// Answers the requests of one connection after another with the given bytes, then closes.
    fn peer(connections: Vec<Vec<&'static [u8]>>) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for answers in connections {
                let mut stream = BufReader::new(listener.accept().unwrap().0);
                for answer in answers {
                    while !read_line(&mut stream).unwrap().is_empty() {}
                    stream.get_mut().write_all(answer).unwrap();
                }
            }
        });
        address
    }

    #[test]
    fn a_closed_connection_is_opened_anew_but_a_broken_answer_is_not_asked_for_again() {
        const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        const BROKEN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok";
        let mut client = Client::new(peer(vec![vec![WHOLE], vec![WHOLE, BROKEN], vec![WHOLE]]));
        assert_eq!(client.get("/", &[]).unwrap().body, b"ok");
        assert_eq!(client.get("/", &[]).unwrap().body, b"ok");
        assert!(client.get("/", &[]).is_err());
        assert_eq!(client.get("/", &[]).unwrap().body, b"ok");
    }
}
