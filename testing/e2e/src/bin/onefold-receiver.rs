//! A receiver of deliveries, in a process of its own: says where it listens, then a line of JSON for each request once it
//! has all of it, then answers as the path says: `/status/503`, `/echo`, `/hang` (never), anything else with `200`.
//!
//! With `--log FILE` each request is durable in that file before it is answered, and its line is said only then: once the
//! whole answer was given to the system.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a receiver of tests may panic")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};

/// Where requests are written down, if they are.
type Log = Option<Arc<Mutex<File>>>;

fn main() {
    let log: Log = match &std::env::args_os().skip(1).collect::<Vec<_>>()[..] {
        [] => None,
        [flag, file] if flag == "--log" => Some(Arc::new(Mutex::new(File::create(file).unwrap()))),
        _ => panic!("onefold-receiver [--log FILE]"),
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    say(&format!("listens on {}", listener.local_addr().unwrap()));
    for connection in listener.incoming().flatten() {
        let log = log.clone();
        std::thread::spawn(move || serve(connection, &log));
    }
}

/// One line, as a whole, whoever else says something.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever listened may be gone, and then so are we.
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

fn serve(connection: TcpStream, log: &Log) {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut writer = connection;
    while let Some(request) = read(&mut reader) {
        let path = request["path"].as_str().unwrap_or_default().to_owned();
        let told = request.to_string();
        match log {
            None => say(&told),
            Some(log) => {
                let mut log = log.lock().unwrap();
                log.write_all(format!("{told}\n").as_bytes()).and_then(|()| log.sync_data()).unwrap();
            }
        }
        let (status, body) = match path.trim_start_matches('/').split('/').collect::<Vec<_>>()[..] {
            ["hang", ..] => loop {
                std::thread::park();
            },
            ["status", status, ..] => (status.to_owned(), json!({ "status": status }).to_string()),
            ["echo", ..] => ("200".to_owned(), request["body"].as_str().unwrap_or_default().to_owned()),
            _ => ("200".to_owned(), json!({ "ok": true }).to_string()),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} As asked\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        if writer.write_all(format!("{head}{body}").as_bytes()).is_err() {
            return;
        }
        if log.is_some() {
            say(&told);
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Value> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Map::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), Value::from(value.trim()));
    }
    let length = headers.get("content-length").and_then(Value::as_str).and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(
        json!({ "method": method, "path": path, "headers": headers, "body": String::from_utf8_lossy(&body) }),
    )
}
