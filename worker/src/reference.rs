//! The reference a send carries where the platform gives it back in an echo.
//!
//! `hub:<message>:<tag>`: the tag is keyed and covers the conversation, so that an echo is taken
//! for ours only if this installation sent that message in that conversation. Another hub on the
//! same page, or another owner of it here, sees somebody else's message.

use hmac::{Hmac, KeyInit as _, Mac as _};
use hub_domain::id::{ConversationId, MessageId};
use hub_domain::secret::Secret;
use sha2::Sha256;

/// Makes and recognises references.
pub struct References {
    key: Vec<u8>,
}

impl References {
    /// References of the installation with this key.
    pub fn new(encryption_key: &Secret) -> Self {
        Self {
            key: [b"send reference:", encryption_key.expose().as_bytes()].concat(),
        }
    }

    /// The reference of a message.
    pub fn make(&self, conversation: ConversationId, message: MessageId) -> String {
        format!("hub:{message}:{}", self.tag(conversation, message))
    }

    /// The message a reference stands for, if this installation sent it in this conversation.
    pub fn read(&self, conversation: ConversationId, reference: &str) -> Option<MessageId> {
        let (message, tag) = reference.strip_prefix("hub:")?.split_once(':')?;
        let message = MessageId(message.parse().ok()?);
        (tag == self.tag(conversation, message)).then_some(message)
    }

    fn tag(&self, conversation: ConversationId, message: MessageId) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(conversation.0.as_bytes());
        mac.update(message.0.as_bytes());
        hex::encode(&mac.finalize().into_bytes()[..8])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn recognises_its_own_only() {
        let references = References::new(&Secret::new("key"));
        let (here, there) = (Uuid::from_u128(1).into(), Uuid::from_u128(2).into());
        let message = MessageId(Uuid::from_u128(3));
        let reference = references.make(here, message);
        assert_eq!(references.read(here, &reference), Some(message));
        assert_eq!(references.read(there, &reference), None);
        assert_eq!(
            References::new(&Secret::new("other")).read(here, &reference),
            None
        );
        assert_eq!(references.read(here, "hub:out-000123"), None);
    }
}
