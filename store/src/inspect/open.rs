//! Hiding what is sealed, or opening it on purpose.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hub_domain::command::Command;
use hub_domain::event::Sealed;
use hub_domain::id::UserId;
use hub_domain::secret::Secret;
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use super::Stored;
use crate::error::Result;
use crate::schema::sharding;
use crate::vault::{DataKey, Vault, is_sealed};

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
    keys: HashMap<Uuid, Option<DataKey>>,
}

impl Opener {
    /// An opener for this installation.
    pub async fn new(pool: &PgPool, encryption_key: &Secret) -> Result<Self> {
        let sharding = sharding(pool).await?;
        Ok(Self {
            vault: Vault::new(pool.clone(), sharding, encryption_key),
            keys: HashMap::new(),
        })
    }

    /// Opens what is sealed in an event, under the key of the user it names.
    pub async fn event(&mut self, event: &mut Stored) -> Result<()> {
        let owner = ["/user", "/at/user"]
            .into_iter()
            .find_map(|path| event.payload.pointer(path)?.as_str()?.parse().ok());
        let key = match owner {
            Some(owner) => self.key(owner).await?,
            None => None,
        };
        replace(&mut event.payload, &|sealed| open(key.as_ref(), sealed));
        Ok(())
    }

    /// The raw body of a webhook; `None` of anything else: grants are never shown.
    pub async fn body(&self, command: &Command) -> Result<Option<String>> {
        let Command::Webhook {
            body, sealed_at, ..
        } = command
        else {
            return Ok(None);
        };
        let key = self.vault.raw_input_if_any(*sealed_at).await?;
        let text = key.and_then(|key| key.open(body).ok());
        let raw = text.and_then(|text| STANDARD.decode(text).ok());
        Ok(Some(raw.map_or_else(
            || LOST.to_owned(),
            |raw| String::from_utf8_lossy(&raw).into_owned(),
        )))
    }

    async fn key(&mut self, owner: Uuid) -> Result<Option<DataKey>> {
        if let Some(key) = self.keys.get(&owner) {
            return Ok(key.clone());
        }
        let key = self.vault.user_if_any(UserId(owner)).await?;
        self.keys.insert(owner, key.clone());
        Ok(key)
    }
}

fn open(key: Option<&DataKey>, sealed: &str) -> String {
    key.and_then(|key| key.open(&Sealed(sealed.to_owned())).ok())
        .unwrap_or_else(|| LOST.to_owned())
}
