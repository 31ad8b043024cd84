//! The least HTTP/1.1 that can post over a kept connection: a load generator must not be what is
//! measured.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longer answers are none of ours.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// One connection.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(ANSWER_BYTES_MAX),
        })
    }

    /// Posts a body signed as Meta signs; returns the status once the whole answer was read.
    pub async fn post(&mut self, path: &str, signature: &str, body: &[u8]) -> Result<u16> {
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nhost: hub\r\ncontent-type: application/json\r\n\
             x-hub-signature-256: {signature}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.stream.write_all(&request).await?;
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "the API closed the connection");
            if let Some((status, length)) = self.head()?
                && self.buffer.len() >= length
            {
                return Ok(status);
            }
            ensure!(self.buffer.len() < ANSWER_BYTES_MAX, "an endless answer");
        }
    }

    /// Status and whole length, once the head is there.
    fn head(&self) -> Result<Option<(u16, usize)>> {
        let Some(end) = self.buffer.windows(4).position(|it| it == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = std::str::from_utf8(&self.buffer[..end])?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        let length: usize = head
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length:")
                    .map(str::to_owned)
            })
            .context("no length")?
            .trim()
            .parse()?;
        Ok(Some((status, end + 4 + length)))
    }
}
