//! Passwords: bcrypt, off the async threads, a few at a time.
//!
//! An earlier installation may have hashed another form of what people type (`imported`); such
//! hashes, and those of another cost, are replaced when their owner logs in.

mod imported;

use std::sync::{Arc, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use hub_domain::limits::{PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN};
use hub_store::Store;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Work factor of new hashes (contract 1.6).
const COST: u32 = 10;

/// Hashes that cost more than this are not checked: a login would take seconds.
const COST_MAX: u32 = 15;

/// How often the logins are asked for their dearest hash.
const ASK_EVERY: Duration = Duration::from_secs(60);

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

/// What a login has stored of a password.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The bcrypt hash.
    pub hash: String,
    /// Whether an earlier installation made it, perhaps of another form of the password.
    pub imported: bool,
}

/// What came of checking a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// It is not the one.
    Wrong,
    /// It is the one.
    Right {
        /// What to store from now on, when that is something else: the hash, and whether other forms
        /// of the password are still to be tried.
        rehashed: Option<(String, bool)>,
    },
}

/// Hashes and verifies, at most as many at a time as there are cores: a flood of logins must not
/// starve everything else.
#[derive(Clone, Debug)]
pub struct Hasher {
    turns: Arc<Semaphore>,
    /// The highest cost among all logins, as of a while ago.
    costliest: Arc<RwLock<Option<(u32, Instant)>>>,
}

impl Default for Hasher {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            turns: Arc::new(Semaphore::new(cores)),
            costliest: Arc::default(),
        }
    }
}

impl Hasher {
    /// The hash of a new password, or `None` when hashing is impossible (no randomness).
    pub async fn hash(&self, password: String) -> Option<String> {
        self.run(move || bcrypt::hash(password, COST).ok()).await?
    }

    /// Whether this is the password behind what is stored.
    ///
    /// Refusing takes as long for nobody as for anybody, whatever their hash costs: what a dearer
    /// hash would have taken is worked off, and so is every form in which an imported password is
    /// tried, also for those who have no such form.
    pub async fn check(&self, store: &Store, password: String, stored: Option<Stored>) -> Checked {
        let costliest = self.costliest(store).await;
        let checked = self.run(move || check(&password, stored.as_ref(), costliest));
        checked.await.unwrap_or(Checked::Wrong)
    }

    /// The highest cost a stored hash has, asked for once a while.
    async fn costliest(&self, store: &Store) -> u32 {
        if let Ok(known) = self.costliest.read()
            && let Some((cost, asked_at)) = *known
            && asked_at.elapsed() < ASK_EVERY
        {
            return cost;
        }
        let stored = store.costliest_hash().await.ok().flatten();
        let cost = stored.and_then(|it| it.parse().ok()).unwrap_or(COST);
        let cost = cost.clamp(COST, COST_MAX);
        if let Ok(mut known) = self.costliest.write() {
            *known = Some((cost, Instant::now()));
        }
        cost
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

fn check(password: &str, stored: Option<&Stored>, costliest: u32) -> Checked {
    for (nth, form) in imported::forms(password).into_iter().enumerate() {
        let Some(stored) = stored.filter(|it| nth == 0 || it.imported) else {
            idle(0, costliest);
            continue;
        };
        let cost = cost(&stored.hash);
        if cost.is_some() && bcrypt::verify(&*form.text, &stored.hash).unwrap_or(false) {
            let is_dear = cost != Some(COST);
            // What was cleaned stands for many passwords: from now on only the real one counts.
            // A trimmed one stays trimmed, or a space typed once would become a part of it.
            let (text, imported) = match form.kind {
                imported::Kind::Typed if !is_dear => return Checked::Right { rehashed: None },
                imported::Kind::Typed | imported::Kind::Trimmed => (&*form.text, stored.imported),
                imported::Kind::Cleaned => (password, false),
            };
            let rehashed = bcrypt::hash(text, COST).ok();
            return Checked::Right {
                rehashed: rehashed.map(|hash| (hash, imported)),
            };
        }
        idle(cost.unwrap_or(0), costliest);
    }
    Checked::Wrong
}

/// The cost of a hash that can be checked in bearable time.
fn cost(hash: &str) -> Option<u32> {
    let cost = hash.get(4..6)?.parse().ok()?;
    (4..=COST_MAX).contains(&cost).then_some(cost)
}

/// Works as long as a hash of one cost takes less than one of another: each step doubles it.
fn idle(done: u32, costliest: u32) {
    let from = match done {
        0 => {
            work(costliest);
            return;
        }
        done => done,
    };
    (from..costliest).for_each(work);
}

fn work(cost: u32) {
    let nobody = NOBODY.replacen("$10$", &format!("${cost:02}$"), 1);
    // Nobody's password: the outcome is thrown away.
    let _ = bcrypt::verify("nobody's password", &nobody);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Contract, appendix A.
    const PLAIN: &str = "$2b$10$abcdefghijklmnopqrstuu2njjerFUdKeNqVoGia/slSqhJQ.vuAy";
    const CLEANED: &str = "$2b$10$abcdefghijklmnopqrstuuZAV/i296ba0rfDhQobsUyJWAhhOfnom";

    fn stored(hash: &str, imported: bool) -> Stored {
        Stored {
            hash: hash.to_owned(),
            imported,
        }
    }

    fn right(password: &str, stored: &Stored) -> Option<(String, bool)> {
        match check(password, Some(stored), COST) {
            Checked::Right { rehashed } => rehashed,
            Checked::Wrong => panic!("{password} is right"),
        }
    }

    fn is_right(password: &str, stored: &Stored) -> bool {
        check(password, Some(stored), 4) != Checked::Wrong
    }

    #[test]
    fn verifies_hashes_of_every_generation() {
        for prefix in ["$2a$", "$2b$", "$2y$"] {
            let hash = stored(&PLAIN.replacen("$2b$", prefix, 1), false);
            assert_eq!(right("password1", &hash), None);
        }
        assert!(!is_right("password2", &stored(PLAIN, false)));
        assert_eq!(check("password1", None, 4), Checked::Wrong);
        for odd in [
            "",
            "!",
            "$2b$31$abcdefghijklmnopqrstuu2njjerFUdKeNqVoGia/slSqhJQ.vuAy",
        ] {
            assert!(!is_right("password1", &stored(odd, true)), "{odd}");
        }
    }

    #[test]
    fn a_hash_of_another_cost_is_made_anew() {
        for cost in [4, 5, 12] {
            let old = stored(&bcrypt::hash("pässwörd", cost).unwrap(), true);
            let (hash, imported) = right("pässwörd", &old).unwrap();
            assert!(hash.starts_with("$2b$10$"));
            assert!(imported);
            assert_eq!(right("pässwörd", &stored(&hash, imported)), None);
        }
    }

    #[test]
    fn imported_passwords_are_tried_in_the_forms_they_were_hashed_in() {
        let typed = "pass&word<1>x";
        assert!(
            !is_right(typed, &stored(CLEANED, false)),
            "only imported ones"
        );
        let (hash, imported) = right(typed, &stored(CLEANED, true)).unwrap();
        assert!(!imported);
        let fresh = stored(&hash, imported);
        assert_eq!(right(typed, &fresh), None);
        assert!(!is_right("pass&amp;word&lt;1&gt;x", &fresh));

        let trimmed = stored(&bcrypt::hash("correct horse", 12).unwrap(), true);
        let (hash, imported) = right(" correct horse\t", &trimmed).unwrap();
        let fresh = stored(&hash, imported);
        assert_eq!(right("correct horse", &fresh), None);
        assert!(is_right("correct horse ", &fresh));
        assert!(!is_right("correct horse ", &stored(&hash, false)));
    }

    #[test]
    fn refusing_takes_as_long_for_nobody_as_for_anybody() {
        let time = |stored: Option<&Stored>| {
            let best = (0..5).map(|_| {
                let began = Instant::now();
                assert_eq!(check(" wrong <b>", stored, 8), Checked::Wrong);
                began.elapsed()
            });
            best.min().unwrap()
        };
        let [cheap, dear] = [5, 8].map(|cost| bcrypt::hash("right", cost).unwrap());
        let nobody = time(None);
        for (hash, imported) in [
            (&cheap, false),
            (&cheap, true),
            (&dear, false),
            (&dear, true),
        ] {
            let took = time(Some(&stored(hash, imported)));
            let ratio = took.as_secs_f64() / nobody.as_secs_f64();
            assert!((0.5..2.0).contains(&ratio), "{hash} {imported}: {ratio}");
        }
    }

    #[test]
    fn characters_count_below_and_bytes_above() {
        assert!(weakness("1234567").unwrap().contains("at least 8"));
        assert!(weakness("grün1234").is_none());
        assert!(weakness(&"x".repeat(72)).is_none());
        assert!(weakness(&"ü".repeat(37)).unwrap().contains("72 bytes"));
    }
}
