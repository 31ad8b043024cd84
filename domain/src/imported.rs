//! What an earlier installation stored, and what that means here: rules without a database
//! (contract 6.7).
//!
//! Two generations wrote the same six tables with different habits and mistakes. What a row says is
//! believed; where it is known to be wrong, the rule says so in its name.

use std::cmp::Ordering;

use chrono::TimeDelta;

use crate::event::MessageType;
use crate::platform::Platform;
use crate::platform::fact::{ContentKind, Media};

/// A send and the row in which the platform told of it are this far apart at most: one has the time
/// of the server, the other Telegram's, in whole seconds.
pub const TWINS_WITHIN: TimeDelta = TimeDelta::seconds(30);

/// What the name of a platform stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One of the seven.
    Known(Platform),
    /// Another one; kept, and never shown to a client.
    Unknown,
    /// Cookies of a browser: not taken over.
    Cookies,
}

/// What the name of a platform stands for.
pub fn kind(platform: &str) -> Kind {
    match platform.parse() {
        Ok(platform) => Kind::Known(platform),
        Err(_) if platform == "facebook_cookie" => Kind::Cookies,
        Err(_) => Kind::Unknown,
    }
}

/// What the platform's adapter may call a stored conversation. The first is the one messages are
/// sent to; what arrives under any of them belongs to it.
///
/// `account` is the platform's id of our side, `thread` what was stored as the conversation's id.
/// Earlier adapters took the sender for it or the platform's id of the thread, as the call they used
/// had it.
pub fn threads(
    platform: Platform,
    account: &str,
    thread: &str,
    participant: Option<&str>,
) -> Vec<String> {
    let participant = participant.filter(|it| !it.is_empty()).unwrap_or(thread);
    let mut names = match platform {
        // Addressed by the person; the id of the thread is good for fetching only.
        Platform::Facebook | Platform::Instagram if !is_number(thread) => {
            vec![participant.to_owned(), thread.to_owned()]
        }
        // Both people's ids, the smaller one first; groups have a number of their own.
        Platform::Twitter => {
            let pair = thread.split_once(['-', ':']);
            let pair = match pair.filter(|(a, b)| is_number(a) && is_number(b)) {
                Some(pair) => Some(pair),
                None if thread == participant => Some((account, participant)),
                None => None,
            };
            let pair = pair.map(|(a, b)| match numerically(a, b) {
                Ordering::Greater => format!("{b}-{a}"),
                _ => format!("{a}-{b}"),
            });
            pair.into_iter().chain([thread.to_owned()]).collect()
        }
        Platform::Facebook
        | Platform::Instagram
        | Platform::Telegram
        | Platform::Linkedin
        | Platform::Whatsapp
        | Platform::Teams => vec![thread.to_owned()],
    };
    names.dedup();
    names
}

/// The id that webhooks name an account by. Of a Telegram bot its token says it; everything else is
/// named by what earlier installations knew it by, until somebody connects it again.
pub fn route(platform: Platform, platform_user_id: &str, access_token: &str) -> String {
    let bot = access_token
        .split_once(':')
        .map(|(id, _)| id)
        .filter(|id| is_number(id));
    match (platform, bot) {
        (Platform::Telegram, Some(bot)) => bot.to_owned(),
        _ => platform_user_id.to_owned(),
    }
}

/// Whether a Telegram token is the session of a person who signed in by phone, and not a bot's.
pub fn is_phone_session(platform: Platform, access_token: &str) -> bool {
    platform == Platform::Telegram
        && access_token.len() > 300
        && access_token.starts_with('1')
        && !access_token.contains(':')
}

/// What a client shows a stored message as.
pub fn message_type(stored: Option<&str>) -> MessageType {
    let Some(stored) = stored.map(|it| it.trim().to_lowercase()) else {
        return MessageType::Text;
    };
    MessageType::from_name(&stored).unwrap_or(MessageType::File)
}

/// A stored medium: an address, or a platform's id of a file.
pub fn media(stored: &str, message_type: MessageType) -> Media {
    let is_address = stored.starts_with("https://") || stored.starts_with("http://");
    Media {
        kind: Some(match message_type {
            MessageType::Image => ContentKind::Image,
            MessageType::Video => ContentKind::Video,
            MessageType::Text | MessageType::File => ContentKind::File,
        }),
        url: is_address.then(|| stored.to_owned()),
        file_id: (!is_address).then(|| stored.to_owned()),
        ..Media::default()
    }
}

/// How a stored message came by its platform id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The platform gave it.
    Platform,
    /// The first generation made it up of the clock when it sent to Telegram; the platform usually
    /// told of the same message later, under its real id.
    Clock,
    /// The second generation made it up of the clock and never sent anything.
    NeverSent,
}

/// How a stored message came by its platform id.
pub fn origin(
    platform: Option<Platform>,
    sender: &str,
    platform_message_id: &str,
    outgoing: bool,
) -> Origin {
    let seconds = platform_message_id.split_once('.');
    if outgoing
        && seconds
            .is_some_and(|(whole, part)| whole.len() == 10 && is_number(whole) && is_number(part))
    {
        return Origin::NeverSent;
    }
    let is_milliseconds = platform_message_id.len() == 13 && is_number(platform_message_id);
    if platform == Some(Platform::Telegram) && sender == "me" && is_milliseconds {
        return Origin::Clock;
    }
    Origin::Platform
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit())
}

/// The order of the numbers these digits stand for, however many they are.
fn numerically(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    (a.len(), a).cmp(&(b.len(), b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_the_names_that_adapters_use() {
        use Platform::{Facebook, Telegram, Twitter};
        let names = |platform, thread, participant| threads(platform, "200", thread, participant);
        assert_eq!(names(Facebook, "721", Some("721")), ["721"]);
        assert_eq!(names(Facebook, "t_10", Some("721")), ["721", "t_10"]);
        assert_eq!(names(Facebook, "t_10", Some("")), ["t_10"]);
        assert_eq!(names(Facebook, "t_10", None), ["t_10"]);
        assert_eq!(names(Telegram, "-100", Some("9")), ["-100"]);
        assert_eq!(names(Twitter, "100", Some("100")), ["100-200", "100"]);
        assert_eq!(names(Twitter, "999", None), ["200-999", "999"]);
        assert_eq!(names(Twitter, "1000", None), ["200-1000", "1000"]);
        assert_eq!(
            names(Twitter, "300:200", Some("300")),
            ["200-300", "300:200"]
        );
        assert_eq!(names(Twitter, "100-200", Some("100")), ["100-200"]);
        assert_eq!(names(Twitter, "555", Some("100")), ["555"]);
    }

    #[test]
    fn a_bot_is_named_by_its_token_and_a_person_by_their_id() {
        let route = |platform, token: &str| super::route(platform, "42", token);
        assert_eq!(route(Platform::Telegram, "123456:TEST"), "123456");
        assert_eq!(route(Platform::Telegram, "1BAAO"), "42");
        assert_eq!(route(Platform::Facebook, "123456:x"), "42");
        let session = format!("1{}", "A".repeat(352));
        assert!(is_phone_session(Platform::Telegram, &session));
        assert!(!is_phone_session(Platform::Telegram, "123456:TEST"));
        assert!(!is_phone_session(Platform::Facebook, &session));
    }

    #[test]
    fn odd_types_become_files_and_odd_media_keep_their_name() {
        assert_eq!(message_type(None), MessageType::Text);
        assert_eq!(message_type(Some("Image")), MessageType::Image);
        assert_eq!(message_type(Some("video")), MessageType::Video);
        assert_eq!(message_type(Some("sticker")), MessageType::File);
        let bare = media("AgACAgIAAx", MessageType::Image);
        assert_eq!(bare.file_id.as_deref(), Some("AgACAgIAAx"));
        assert_eq!((bare.url, bare.kind), (None, Some(ContentKind::Image)));
        let url = media("https://cdn.example/p.jpg", MessageType::File);
        assert_eq!(url.url.as_deref(), Some("https://cdn.example/p.jpg"));
        assert_eq!(url.file_id, None);
    }

    #[test]
    fn made_up_ids_are_recognised() {
        let telegram = Some(Platform::Telegram);
        let of = |platform, sender, id, outgoing| origin(platform, sender, id, outgoing);
        assert_eq!(of(telegram, "me", "1767225600123", true), Origin::Clock);
        assert_eq!(of(telegram, "9", "1767225600123", true), Origin::Platform);
        assert_eq!(of(None, "me", "1767225600123", true), Origin::Platform);
        assert_eq!(of(telegram, "me", "1767225600.12", true), Origin::NeverSent);
        assert_eq!(of(None, "me", "1767225600.0", true), Origin::NeverSent);
        assert_eq!(of(None, "7", "1767225600.12", false), Origin::Platform);
        assert_eq!(of(telegram, "me", "1042", true), Origin::Platform);
        assert_eq!(kind("facebook_cookie"), Kind::Cookies);
        assert_eq!(kind("discord"), Kind::Unknown);
        assert_eq!(kind("teams"), Kind::Known(Platform::Teams));
    }
}
