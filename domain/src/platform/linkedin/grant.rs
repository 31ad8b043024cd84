//! What an account may do: LinkedIn gives products to apps, and people agree to scopes.
//!
//! Promises: what a member did not allow, or LinkedIn did not grant the app, is refused before anything
//! is queued, with the reason in words for the member. Comments are tried where nobody knows what was
//! allowed (accounts from before that was noted); messages to members, which hardly any app may send,
//! are not.

use super::{TEXT_MAX, urn};
use crate::event::MessageType;
use crate::platform::Capabilities;
use crate::platform::media::upload::{MB, Takes};

/// Writing to members (Messages API): by contract, for partners. LinkedIn's public documents name the
/// product and not the scope; this is the name partners are given for it.
const MESSAGES: &str = "w_messages";

/// Commenting in an organization's name; newer products call it `w_organization_social_feed`.
const COMMENTS: &str = "w_organization_social";

/// Reading a member's own data: there are three scopes of that name.
const CHANGE_LOG: &str = "r_dma_portability";

/// Administering organizations: hearing of what happens there, and being told.
const ORGANIZATIONS: [&str; 2] = ["rw_organization_admin", "r_organization_admin"];

/// The longest message to a member. LinkedIn documents no limit.
const MESSAGE_MAX: usize = 8_000;

/// Pictures that a comment takes. Their limit is one of pixels (36,152,320), which only LinkedIn
/// counts; the bytes are what fits those.
pub(super) const OF_COMMENTS: [Takes; 1] = [Takes {
    kind: MessageType::Image,
    types: &["image/jpeg", "image/png", "image/gif"],
    bytes_max: 10 * MB,
    caption_max: TEXT_MAX,
}];

/// Attachments that a message takes: whatever it is, LinkedIn looks at it as a file. The size is the
/// one of LinkedIn's own pages; its API documents none.
const OF_MESSAGES: [Takes; 3] = [
    attachment(MessageType::Image),
    attachment(MessageType::Video),
    attachment(MessageType::File),
];

const fn attachment(kind: MessageType) -> Takes {
    Takes {
        kind,
        types: &[],
        bytes_max: 20 * MB,
        caption_max: MESSAGE_MAX,
    }
}

/// What a person reads who tries to answer a member.
const NO_MESSAGES: &str = "LinkedIn does not let apps send messages to members, but for partners that \
were granted it and accounts connected since. Please answer on LinkedIn; comments on your company's \
posts can be answered here.";

/// What a person reads who tries to answer where nobody is.
const NO_THREAD: &str = "LinkedIn takes answers in messages and under the posts of companies only.";

/// What a person reads who did not allow comments.
const NO_COMMENTS: &str = "This account was connected without the permission to comment in a company's \
name (w_organization_social). Please connect it again.";

/// Whether a scope of this name, or one that begins with it, is among those that were granted. `None`
/// where nobody knows.
fn may(granted: Option<&str>, scope: &str) -> Option<bool> {
    let all = granted?.split([' ', ',']);
    Some(all.into_iter().any(|it| it.starts_with(scope)))
}

/// What can be sent into a thread, or why nothing can. `comments` is what comments take.
pub fn sendable(
    thread: &str,
    granted: Option<&str>,
    comments: Capabilities,
) -> Result<Capabilities, &'static str> {
    if urn::of_post(thread).is_some() {
        return match may(granted, COMMENTS) {
            Some(false) => Err(NO_COMMENTS),
            Some(true) | None => Ok(comments),
        };
    }
    if !urn::is_messages(thread) {
        return Err(NO_THREAD);
    }
    match may(granted, MESSAGES) {
        Some(true) => Ok(Capabilities {
            text_max: MESSAGE_MAX,
            media: &OF_MESSAGES,
            ..comments
        }),
        Some(false) | None => Err(NO_MESSAGES),
    }
}

/// Whether the change log can be asked for: tried where nobody knows.
pub fn reads_messages(granted: Option<&str>) -> bool {
    may(granted, CHANGE_LOG).unwrap_or(true)
}

/// Whether organizations can be asked about: tried where nobody knows.
pub fn reads_organizations(granted: Option<&str>) -> bool {
    let mut scopes = ORGANIZATIONS.iter();
    scopes.any(|scope| may(granted, scope).unwrap_or(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{Platform, adapter};

    const POST: &str = "urn:li:organization:1/urn:li:activity:2";
    const MEMBER: &str = "urn:li:messagingThread:2-x==";

    fn refused(thread: &str, granted: Option<&str>) -> Option<&'static str> {
        let linkedin = adapter(Platform::Linkedin).unwrap();
        linkedin.sendable(thread, granted).err()
    }

    #[test]
    fn what_was_not_granted_is_not_tried() {
        for (thread, granted, said) in [
            (POST, None, None),
            (POST, Some("openid,w_organization_social"), None),
            (POST, Some("openid w_organization_social_feed"), None),
            (POST, Some("openid profile"), Some(NO_COMMENTS)),
            (POST, Some(""), Some(NO_COMMENTS)),
            (MEMBER, None, Some(NO_MESSAGES)),
            (
                MEMBER,
                Some("openid,w_organization_social"),
                Some(NO_MESSAGES),
            ),
            (MEMBER, Some("openid,w_messages"), None),
            ("c9", Some("w_messages"), Some(NO_THREAD)),
            ("urn:li:activity:1", Some("w_messages"), Some(NO_THREAD)),
            ("", Some("w_messages"), Some(NO_THREAD)),
        ] {
            assert_eq!(refused(thread, granted), said, "{thread} {granted:?}");
        }
    }

    #[test]
    fn a_message_takes_what_a_comment_does_not() {
        let linkedin = adapter(Platform::Linkedin).unwrap();
        let of = |thread| linkedin.sendable(thread, Some("w_messages w_organization_social"));
        let (comment, message) = (of(POST).unwrap(), of(MEMBER).unwrap());
        assert_eq!((comment.text_max, message.text_max), (1250, 8000));
        let pdf = |can: Capabilities| can.take(MessageType::File, "application/pdf", 1, 0);
        assert!(pdf(comment).is_err());
        assert_eq!(pdf(message), Ok(()));
        let png = |can: Capabilities| can.take(MessageType::Image, "image/png", 1, 1250);
        assert_eq!(png(comment), Ok(()));
        assert!(
            comment
                .take(MessageType::Image, "image/webp", 1, 0)
                .is_err()
        );
    }

    #[test]
    fn what_can_be_read() {
        assert!(reads_messages(None) && reads_organizations(None));
        assert!(reads_messages(Some("openid,r_dma_portability_3rd_party")));
        assert!(!reads_messages(Some("openid,rw_organization_admin")));
        assert!(reads_organizations(Some("openid,rw_organization_admin")));
        assert!(reads_organizations(Some("r_organization_admin")));
        assert!(!reads_organizations(Some("r_organization_social")));
    }
}
