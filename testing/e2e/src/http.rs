//! HTTP/1.1 over one connection that is kept.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than any poll parks.
const PATIENCE: Duration = Duration::from_secs(90);

/// A client with a connection of its own.
pub struct Client {
    server: SocketAddr,
    patience: Duration,
    connection: Option<BufReader<TcpStream>>,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body, if the request succeeded.
    ///
    /// # Panics
    /// If it did not, with what the server said.
    pub fn ok(&self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.text());
        self.json()
    }

    /// Status and code of a refusal.
    pub fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["code"].as_str().unwrap_or_default().to_owned())
    }

    /// A header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

impl Client {
    /// A client of the server at this address, not connected yet.
    pub fn new(server: SocketAddr) -> Client {
        Client::patient(server, PATIENCE)
    }

    /// One that takes a server for dead that says nothing for so long.
    pub fn patient(server: SocketAddr, patience: Duration) -> Client {
        Client { server, patience, connection: None }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The connection died: what became of the request is not known.
    pub fn send(&mut self, head: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Reply> {
        let mut request = format!("{head} HTTP/1.1\r\nHost: {}\r\n", self.server);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        self.send_bytes(&bytes)
    }

    /// Sends bytes as they are and reads one answer.
    ///
    /// # Errors
    /// The connection died.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<Reply> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        connection.get_mut().write_all(bytes)?;
        let reply = read_reply(&mut connection)?;
        if reply.header("connection") != Some("close") {
            self.connection = Some(connection);
        }
        Ok(reply)
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect_timeout(&self.server, self.patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_write_timeout(Some(self.patience))?;
        Ok(BufReader::new(stream))
    }

    /// Posts JSON.
    ///
    /// # Errors
    /// The connection died: what became of the request is not known.
    pub fn try_post(&mut self, path: &str, body: &Value) -> io::Result<Reply> {
        self.send(
            &format!("POST {path}"),
            &[("Content-Type", "application/json")],
            body.to_string().as_bytes(),
        )
    }

    /// Posts JSON to a server that is there.
    pub fn post(&mut self, path: &str, body: &Value) -> Reply {
        self.try_post(path, body).unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// Gets from a server that is there.
    pub fn get(&mut self, path: &str) -> Reply {
        self.send(&format!("GET {path}"), &[], b"").unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }
}

fn read_reply(connection: &mut BufReader<TcpStream>) -> io::Result<Reply> {
    let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("not an answer: {what}"));
    let first = line(connection)?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| broken(&first))?;
    let mut headers = Vec::new();
    loop {
        let header = line(connection)?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').ok_or_else(|| broken(&header))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut reply = Reply { status, headers, body: Vec::new() };
    if reply.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        loop {
            let size = line(connection)?;
            let size = usize::from_str_radix(&size, 16).map_err(|_| broken(&size))?;
            read_exactly(connection, size, &mut reply.body)?;
            line(connection)?;
            if size == 0 {
                return Ok(reply);
            }
        }
    }
    let length = reply.header("content-length").map_or(Ok(0), |length| length.parse::<usize>());
    let length = length.map_err(|_| broken("Content-Length"))?;
    read_exactly(connection, length, &mut reply.body)?;
    Ok(reply)
}

fn read_exactly(from: &mut impl Read, length: usize, body: &mut Vec<u8>) -> io::Result<()> {
    let before = body.len();
    body.resize(before + length, 0);
    from.read_exact(&mut body[before..])
}

/// A line without its end; the end of the stream is an error.
fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
