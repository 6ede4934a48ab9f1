//! A client of one connection: one request after the other, timed to the first byte of a body.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Nothing here takes longer; a server that does is stuck.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

pub struct Answer {
    /// The first bytes of the body, as many as came with the first of them.
    pub beginning: Vec<u8>,
    /// From the request to the first byte of the body.
    pub first_byte: Duration,
}

/// How the end of a body is found.
enum Rest {
    Bytes(usize),
    Chunked,
}

impl Client {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: vec![0; 64 << 10] })
    }

    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        let asked = Instant::now();
        self.send(path)?;
        self.receive(asked)
    }

    pub fn send(&mut self, path: &str) -> io::Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: bench.example\r\n\r\n");
        self.stream.write_all(request.as_bytes())
    }

    /// A whole answer.
    pub fn receive(&mut self, asked: Instant) -> io::Result<Answer> {
        let (answer, rest) = self.begin(asked)?;
        match rest {
            Rest::Bytes(mut left) => {
                left = left.saturating_sub(answer.beginning.len());
                while left > 0 {
                    left = left.saturating_sub(self.read(0)?);
                }
            }
            Rest::Chunked => {
                // No body here has line breaks of its own.
                let mut end = answer.beginning.clone();
                while !end.ends_with(b"\r\n0\r\n\r\n") {
                    let len = self.read(0)?;
                    end.extend_from_slice(self.buffer.get(..len).unwrap_or_default());
                    end.drain(..end.len().saturating_sub(16));
                }
            }
        }
        Ok(answer)
    }

    /// The beginning of an answer, and no more than comes with it.
    pub fn peek(&mut self, path: &str) -> io::Result<Answer> {
        let asked = Instant::now();
        self.send(path)?;
        Ok(self.begin(asked)?.0)
    }

    fn begin(&mut self, asked: Instant) -> io::Result<(Answer, Rest)> {
        let mut len = 0;
        loop {
            len += self.read(len)?;
            let first_byte = asked.elapsed();
            let received = self.buffer.get(..len).unwrap_or_default();
            let Some(head_len) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
            let (head, beginning) = received.split_at(head_len + 4);
            if beginning.is_empty() {
                continue;
            }
            let head = String::from_utf8_lossy(head).to_ascii_lowercase();
            if !head.starts_with("http/1.1 200") {
                return Err(io::Error::other(head.lines().next().unwrap_or_default().to_owned()));
            }
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let rest = length.map_or(Rest::Chunked, Rest::Bytes);
            return Ok((Answer { beginning: beginning.to_owned(), first_byte }, rest));
        }
    }

    fn read(&mut self, from: usize) -> io::Result<usize> {
        let room = self.buffer.get_mut(from..).unwrap_or_default();
        match self.stream.read(room)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            len => Ok(len),
        }
    }
}
