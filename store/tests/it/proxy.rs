//! A bad network between the store and PostgreSQL.
//!
//! Listens on TCP and forwards to the server's unix socket. Once armed, it cuts connections at
//! random in the two places that matter: before a statement arrives (it never happened), and after
//! its answer left the server (it did happen, and nobody was told).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::random::Random;

/// Reads from the server that belong to connecting; cutting those tests nothing new.
const GREETING_READS: u32 = 3;

#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
}

struct Shared {
    socket: PathBuf,
    armed: AtomicBool,
    ambush: AtomicBool,
    closed: AtomicBool,
    cut_before: AtomicU64,
    cut_after: AtomicU64,
}

impl Proxy {
    /// Starts it in front of the server of this URL.
    pub async fn start(url: &str, mut random: Random) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            socket: socket_of(url),
            armed: AtomicBool::new(false),
            ambush: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            cut_before: AtomicU64::new(0),
            cut_after: AtomicU64::new(0),
        });
        let proxy = Self {
            shared: Arc::clone(&shared),
            port,
        };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if shared.closed.load(Ordering::SeqCst) {
                    continue;
                }
                let (shared, random) = (Arc::clone(&shared), random.fork());
                tokio::spawn(async move {
                    if let Ok(server) = UnixStream::connect(&shared.socket).await {
                        forward(client, server, &shared, random).await;
                    }
                });
            }
        });
        proxy
    }

    /// The same database through the proxy.
    pub fn url(&self, url: &str) -> String {
        let path = url.split('?').next().unwrap();
        let database = path.rsplit('/').next().unwrap();
        format!(
            "postgres://hub@127.0.0.1:{}/{database}?sslmode=disable",
            self.port
        )
    }

    /// Begins or stops to cut.
    pub fn arm(&self, armed: bool) {
        self.shared.armed.store(armed, Ordering::SeqCst);
    }

    /// Swallows the next answer, and lets nothing through until [`Proxy::open`].
    pub fn ambush(&self) {
        self.shared.ambush.store(true, Ordering::SeqCst);
    }

    /// Forwards again.
    pub fn open(&self) {
        self.shared.closed.store(false, Ordering::SeqCst);
    }

    /// Connections cut before a statement, and after one.
    pub fn cuts(&self) -> (u64, u64) {
        (
            self.shared.cut_before.load(Ordering::SeqCst),
            self.shared.cut_after.load(Ordering::SeqCst),
        )
    }
}

/// The server's socket, from the `host` parameter of a test database's URL.
fn socket_of(url: &str) -> PathBuf {
    let query = url.split('?').nth(1).unwrap();
    let dir = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("host="))
        .unwrap();
    assert!(!dir.contains('%'), "an unusual socket folder: {dir}");
    Path::new(dir).join(".s.PGSQL.5432")
}

async fn forward(
    mut client: TcpStream,
    mut server: UnixStream,
    shared: &Shared,
    mut random: Random,
) {
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    let mut reads = 0;
    loop {
        let is_armed = shared.armed.load(Ordering::SeqCst) && reads >= GREETING_READS;
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(len @ 1..) = read else { return };
                if shared.closed.load(Ordering::SeqCst) {
                    return;
                }
                if is_armed && random.percent(8) {
                    shared.cut_before.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                if server.write_all(&up[..len]).await.is_err() { return }
            }
            read = server.read(&mut down) => {
                let Ok(len @ 1..) = read else { return };
                reads += 1;
                if shared.ambush.swap(false, Ordering::SeqCst) {
                    shared.closed.store(true, Ordering::SeqCst);
                    return;
                }
                if is_armed && random.percent(15) {
                    shared.cut_after.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                if client.write_all(&down[..len]).await.is_err() { return }
            }
        }
    }
}
