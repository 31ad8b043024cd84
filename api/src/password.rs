//! Passwords: bcrypt, off the async threads, a few at a time.

use std::sync::Arc;
use std::thread;

use hub_domain::limits::{PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Work factor of new hashes (contract 1.6).
const COST: u32 = 10;

/// What is verified when there is no such login, so that it takes the same time. Nobody's password:
/// the outcome is thrown away.
const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuu2njjerFUdKeNqVoGia/slSqhJQ.vuAy";

/// Why a password cannot be registered, in words for the person; `None` when it can.
pub fn weakness(password: &str) -> Option<String> {
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Some(format!(
            "Password must be at least {PASSWORD_CHARS_MIN} characters long"
        ));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Some(format!(
            "Password must be at most {PASSWORD_BYTES_MAX} bytes long"
        ));
    }
    None
}

/// Hashes and verifies, at most as many at a time as there are cores: a flood of logins must not
/// starve everything else.
#[derive(Clone, Debug)]
pub struct Hasher {
    turns: Arc<Semaphore>,
}

impl Default for Hasher {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            turns: Arc::new(Semaphore::new(cores)),
        }
    }
}

impl Hasher {
    /// The hash of a new password, or `None` when hashing is impossible (no randomness).
    pub async fn hash(&self, password: String) -> Option<String> {
        self.run(move || bcrypt::hash(password, COST).ok()).await?
    }

    /// Whether this is the password behind the hash. Takes as long when there is no hash.
    pub async fn verify(&self, password: String, hash: Option<String>) -> bool {
        let exists = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
        let verified = self.run(move || bcrypt::verify(password, &hash).unwrap_or(false));
        verified.await.unwrap_or(false) && exists
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
        spawn_blocking(move || {
            let _turn = turn;
            work()
        })
        .await
        .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn verifies_hashes_of_every_generation() {
        let hasher = Hasher::default();
        let vector = "$2b$10$abcdefghijklmnopqrstuu2njjerFUdKeNqVoGia/slSqhJQ.vuAy";
        for prefix in ["$2a$", "$2b$", "$2y$"] {
            let hash = vector.replacen("$2b$", prefix, 1);
            assert!(hasher.verify("password1".to_owned(), Some(hash)).await);
        }
        for cost in [4, 5, 12] {
            let hash = bcrypt::hash("password1", cost).unwrap();
            assert!(hasher.verify("password1".to_owned(), Some(hash)).await);
        }
        let hash = Some(vector.to_owned());
        assert!(!hasher.verify("password2".to_owned(), hash).await);
        assert!(!hasher.verify("password1".to_owned(), None).await);
        let own = hasher.hash("pässwörd".to_owned()).await.unwrap();
        assert!(own.starts_with("$2b$10$"));
        assert!(hasher.verify("pässwörd".to_owned(), Some(own)).await);
    }

    #[test]
    fn characters_count_below_and_bytes_above() {
        assert!(weakness("1234567").unwrap().contains("at least 8"));
        assert!(weakness("grün1234").is_none());
        assert!(weakness(&"x".repeat(72)).is_none());
        assert!(weakness(&"ü".repeat(37)).unwrap().contains("72 bytes"));
    }
}
