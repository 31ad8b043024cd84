//! The least of a WebSocket client that can listen: a load generator must not be what is measured.

use std::net::SocketAddr;

use anyhow::{Result, bail, ensure};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// Small, so that whoever does not read is noticed soon.
const RECEIVED_BYTES: u32 = 16 * 1024;

/// One connection of either door.
pub struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What came.
pub enum Heard {
    /// A frame with a text.
    Text(String),
    /// The API closed.
    Closed,
}

impl Socket {
    /// Connects and authenticates, at the plain door or at that of Socket.IO.
    pub async fn open(address: SocketAddr, token: &str, is_plain: bool) -> Result<Self> {
        if is_plain {
            let target = format!("/ws/messages/?token={token}");
            let mut socket = Self::upgrade(address, &target).await?;
            socket.expect("{\"event\":\"authenticated\"").await?;
            return Ok(socket);
        }
        let target = "/socket.io/?EIO=4&transport=websocket";
        let mut socket = Self::upgrade(address, target).await?;
        socket.expect("0{").await?;
        socket.say(TEXT, b"40").await?;
        socket.expect("40{").await?;
        let packet = json!(["authenticate", { "token": token }]);
        socket.say(TEXT, format!("42{packet}").as_bytes()).await?;
        socket.expect("42[\"authenticated\"").await?;
        Ok(socket)
    }

    async fn upgrade(address: SocketAddr, target: &str) -> Result<Self> {
        let stream = TcpSocket::new_v4()?;
        stream.set_recv_buffer_size(RECEIVED_BYTES)?;
        let mut stream = stream.connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut socket = Self {
            stream,
            buffer: Vec::new(),
        };
        loop {
            if let Some(end) = socket.buffer.windows(4).position(|it| it == b"\r\n\r\n") {
                ensure!(socket.buffer.starts_with(b"HTTP/1.1 101 "), "no upgrade");
                socket.buffer.drain(..end + 4);
                return Ok(socket);
            }
            socket.more().await?;
        }
    }

    /// The next text. Heartbeats of both doors are answered on the way.
    pub async fn hear(&mut self) -> Result<Heard> {
        loop {
            let (kind, content) = self.frame().await?;
            match kind {
                TEXT if content == b"2" => self.say(TEXT, b"3").await?,
                TEXT => return Ok(Heard::Text(String::from_utf8(content)?)),
                PING => self.say(PONG, &content).await?,
                CLOSE => return Ok(Heard::Closed),
                _ => {}
            }
        }
    }

    async fn expect(&mut self, start: &str) -> Result<()> {
        match self.hear().await? {
            Heard::Text(text) if text.starts_with(start) => Ok(()),
            Heard::Text(text) => bail!("expected {start}, heard {text}"),
            Heard::Closed => bail!("closed instead of {start}"),
        }
    }

    async fn frame(&mut self) -> Result<(u8, Vec<u8>)> {
        loop {
            if let Some((start, end)) = self.bounds() {
                let kind = self.buffer[0] & 0xf;
                let content = self.buffer[start..end].to_vec();
                self.buffer.drain(..end);
                return Ok((kind, content));
            }
            self.more().await?;
        }
    }

    /// Where the content of the first frame begins and ends, once all of it is there. Frames of a
    /// server are not masked, and the hub does not divide them.
    fn bounds(&self) -> Option<(usize, usize)> {
        let number = |bytes: &[u8]| {
            let wide = bytes
                .iter()
                .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
            usize::try_from(wide).ok()
        };
        let (start, length) = match self.buffer.get(1)? {
            126 => (4, number(self.buffer.get(2..4)?)?),
            127 => (10, number(self.buffer.get(2..10)?)?),
            length => (2, usize::from(*length)),
        };
        let end = start + length;
        (self.buffer.len() >= end).then_some((start, end))
    }

    async fn more(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "the API closed the connection");
        Ok(())
    }

    /// Says something, masked with zeros: the protocol asks for a mask and takes any.
    async fn say(&mut self, kind: u8, content: &[u8]) -> Result<()> {
        let mut frame = vec![0x80 | kind];
        match u16::try_from(content.len())? {
            short @ 0..=125 => frame.push(0x80 | short as u8),
            length => {
                frame.push(0x80 | 126);
                frame.extend(length.to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(content);
        Ok(self.stream.write_all(&frame).await?)
    }
}

/// The body of an answer, over a connection of its own.
pub async fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => bail!("{path} was answered with {answer:.100}"),
    }
}
