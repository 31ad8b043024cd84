//! What somebody who has a dump of the database and `ENCRYPTION_KEY` can read: everything that any
//! key in it opens, by a decryption of our own that shares nothing with the vault's.

use std::collections::HashMap;
use std::process::Command;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hub_cluster::Binaries;
use hub_store::PgPool;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::world::{ENCRYPTION_KEY, World};

/// A dump of a test's database.
pub struct Dump {
    /// As it is on paper.
    pub text: String,
    /// Everything that could be decrypted.
    pub readable: Vec<String>,
}

impl Dump {
    pub async fn of(world: &World) -> Self {
        let text = match pg_dump(world.database.url()) {
            Some(text) => text,
            // A PostgreSQL that was fetched may come without its tools.
            None => rows(world.pool()).await,
        };
        assert!(text.contains("data_keys") && text.len() > 10_000);
        let readable = readable(&text);
        Self { text, readable }
    }

    /// Whether it says this, in the clear or to whoever has the key.
    pub fn says(&self, words: &str) -> bool {
        self.text.contains(words) || self.readable.iter().any(|it| it.contains(words))
    }
}

fn pg_dump(url: &str) -> Option<String> {
    let found = Binaries::find(&std::env::temp_dir()).ok()?;
    let program = found.dir.join("pg_dump");
    if !program.is_file() {
        eprintln!("pg_dump is not beside the server: rows are read one by one instead");
        return None;
    }
    let output = Command::new(program).arg(url).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    Some(String::from_utf8(output.stdout).unwrap())
}

async fn rows(pool: &PgPool) -> String {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables \
         WHERE table_schema IN ('public', 'read') AND table_type = 'BASE TABLE'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut text = String::new();
    for table in tables {
        let statement =
            format!("SELECT concat_ws(E'\\t', '{table}', to_jsonb(t)::text) FROM {table} t");
        let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
            .fetch_all(pool)
            .await
            .unwrap();
        text.push_str(&rows.join("\n"));
    }
    text
}

/// Every word of a dump that could be an envelope or an id.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '-' | '_');
    text.split(move |it| !is_part(it))
        .filter(|word| !word.is_empty())
}

fn readable(text: &str) -> Vec<String> {
    let installation: [u8; 32] = Sha256::digest(ENCRYPTION_KEY).into();
    // Associated data is an id that stands somewhere: a subject. All of them are tried.
    let mut keys: Vec<([u8; 32], Uuid)> = vec![(installation, Uuid::nil())];
    for line in text.lines() {
        let ids: Vec<Uuid> = words(line).filter_map(|word| word.parse().ok()).collect();
        for wrapped in words(line).filter_map(content) {
            let opened = open(&(installation, Uuid::nil()), &wrapped);
            if let Some(key) = opened.and_then(|key| <[u8; 32]>::try_from(key).ok()) {
                keys.extend(ids.iter().map(|id| (key, *id)));
            }
        }
    }
    let mut found = Vec::new();
    let mut tried: HashMap<String, ()> = HashMap::new();
    let mut todo: Vec<String> = words(text).map(str::to_owned).collect();
    // What was sealed may be sealed once more inside.
    while let Some(word) = todo.pop() {
        let Some(sealed) = content(&word) else {
            continue;
        };
        if tried.insert(word, ()).is_some() {
            continue;
        }
        for key in &keys {
            if let Some(plain) = open(key, &sealed) {
                let plain = String::from_utf8_lossy(&plain).into_owned();
                todo.push(plain.clone());
                found.push(plain);
            }
        }
    }
    found
}

/// The content of an envelope.
fn content(word: &str) -> Option<Vec<u8>> {
    let content = match word.strip_prefix("h1.") {
        Some(content) => content,
        None => word.strip_prefix("h2.")?.split_once('.')?.1,
    };
    let content = URL_SAFE_NO_PAD.decode(content).ok()?;
    (content.len() > NONCE_LEN).then_some(content)
}

fn open((key, subject): &([u8; 32], Uuid), sealed: &[u8]) -> Option<Vec<u8>> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
    let (nonce, content) = sealed.split_at(NONCE_LEN);
    let nonce = Nonce::try_assume_unique_for_key(nonce).unwrap();
    let mut content = content.to_vec();
    let plain = key.open_in_place(nonce, Aad::from(subject.as_bytes()), &mut content);
    plain.ok().map(|plain| plain.to_vec())
}
