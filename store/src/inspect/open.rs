//! Hiding what is sealed, or opening it on purpose.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hub_domain::command::Command;
use hub_domain::id::UserId;
use hub_domain::secret::Secret;
use serde_json::Value;
use sqlx::PgPool;

use super::Stored;
use crate::error::Result;
use crate::schema::sharding;
use crate::signal::Signals;
use crate::vault::{Keyring, Opened, REDACTED, Vault, is_sealed};

/// What stands for something that is sealed.
const HIDDEN: &str = "<sealed>";

/// What stands for something that cannot be opened: another key, or its owner was erased.
const LOST: &str = "<sealed, and its key is gone>";

/// Puts a sign in the place of everything sealed.
pub fn hide(value: &mut Value) {
    replace(value, &|_| HIDDEN.to_owned());
}

fn replace(value: &mut Value, with: &dyn Fn(&str) -> String) {
    match value {
        Value::String(text) if is_sealed(text) => *text = with(text),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, with)),
        Value::Object(fields) => fields.values_mut().for_each(|field| replace(field, with)),
        _ => {}
    }
}

/// Opens what is sealed, with the installation's key. Makes no key that is not there.
pub struct Opener {
    vault: Vault,
}

impl Opener {
    /// An opener for this installation.
    pub async fn new(pool: &PgPool, encryption_key: &Secret) -> Result<Self> {
        let sharding = sharding(pool).await?;
        let signals = Signals::new(None).await?;
        Ok(Self {
            vault: Vault::new(pool.clone(), sharding, encryption_key, signals),
        })
    }

    /// Opens what is sealed in an event, with the keys of the user it names.
    pub async fn event(&self, event: &mut Stored) -> Result<()> {
        let owner = ["/user", "/at/user"]
            .into_iter()
            .find_map(|path| event.payload.pointer(path)?.as_str()?.parse().ok());
        let keys = match owner {
            Some(owner) => {
                let mut texts = Vec::new();
                collect(&event.payload, &mut texts);
                self.vault.keyring(UserId(owner), texts).await?
            }
            None => Keyring::default(),
        };
        replace(&mut event.payload, &|sealed| {
            let opened = keys.open(sealed).map(Opened::text);
            opened.map_or_else(|_| LOST.to_owned(), shown)
        });
        Ok(())
    }

    /// The raw body of a webhook or a polled page; `None` of anything else: grants are never shown.
    pub async fn body(&self, command: &Command) -> Result<Option<String>> {
        let (platform, routes, sealed_at, body) = match command {
            Command::Webhook {
                platform,
                routes,
                body,
                sealed_at,
            } => (platform, routes.as_slice(), sealed_at, body),
            Command::Page {
                platform,
                route,
                body,
                sealed_at,
                ..
            } => (platform, std::slice::from_ref(route), sealed_at, body),
            Command::Connect { .. }
            | Command::PollAccount { .. }
            | Command::Renew { .. }
            | Command::Departure { .. } => {
                return Ok(None);
            }
        };
        let opened = self.vault.open_raw(*platform, routes, *sealed_at, body);
        let text = opened.await?.text();
        let raw = text.and_then(|text| STANDARD.decode(text).ok());
        Ok(Some(raw.map_or_else(
            || LOST.to_owned(),
            |raw| String::from_utf8_lossy(&raw).into_owned(),
        )))
    }
}

fn shown(text: Option<String>) -> String {
    text.unwrap_or_else(|| REDACTED.to_owned())
}

fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) if is_sealed(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, texts)),
        _ => {}
    }
}
