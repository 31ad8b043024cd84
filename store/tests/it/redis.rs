//! A Redis of its own for one test, where `redis-server` is installed.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The server; ends with the test.
pub struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    /// `None`, said loudly, when there is no `redis-server`.
    pub fn start() -> Option<Self> {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let Some(child) = serve(port) else {
            eprintln!("SKIPPED: redis-server is not installed, so nothing was tested with Redis");
            return None;
        };
        Some(Self { child, port })
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// kill -9, as if the machine were gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// An empty one at the same address.
    pub fn start_again(&mut self) {
        self.child = serve(self.port).unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ended_before = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(port: u16) -> Option<Child> {
    let child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--save", ""])
        .args(["--bind", "127.0.0.1"])
        .stdout(Stdio::null())
        .spawn()
        .ok()?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "Redis does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    Some(child)
}
