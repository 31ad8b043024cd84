//! From Telegram's own types to ours: what is kept of an update, as a pure function.

use std::fmt::Debug;

use grammers_client::session::types::PeerId;
use grammers_client::tl::{enums, types};
use hub_domain::platform::fact::ContentKind;
use hub_domain::platform::telegram_user::{Attached, Chat, ChatKind, Item, Message, Reaction};
use serde_json::{Map, Value, json};

/// The names that came with an update.
pub(super) type Names<'a> = &'a (dyn Fn(PeerId) -> Option<String> + Sync);

/// What an update says.
pub(super) fn item(update: &enums::Update, names: Names<'_>) -> Item {
    use enums::Update as U;
    match update {
        U::NewMessage(it) => message_item(&it.message, names),
        U::NewChannelMessage(it) => message_item(&it.message, names),
        U::EditMessage(it) => edited_item(&it.message, names),
        U::EditChannelMessage(it) => edited_item(&it.message, names),
        U::DeleteMessages(it) => Item::Deleted {
            chat: None,
            ids: it.messages.iter().copied().map(i64::from).collect(),
        },
        U::DeleteChannelMessages(it) => Item::Deleted {
            chat: Some(Chat::new(ChatKind::Channel, it.channel_id)),
            ids: it.messages.iter().copied().map(i64::from).collect(),
        },
        U::ReadHistoryOutbox(it) => Item::ReadByThem {
            chat: chat(&it.peer, names),
            max_id: it.max_id.into(),
            until_ms: None,
        },
        U::ReadChannelOutbox(it) => Item::ReadByThem {
            chat: Chat::new(ChatKind::Channel, it.channel_id),
            max_id: it.max_id.into(),
            until_ms: None,
        },
        U::ReadHistoryInbox(it) => Item::ReadHere {
            chat: chat(&it.peer, names),
            max_id: it.max_id.into(),
            unread: Some(it.still_unread_count),
        },
        U::ReadChannelInbox(it) => Item::ReadHere {
            chat: Chat::new(ChatKind::Channel, it.channel_id),
            max_id: it.max_id.into(),
            unread: Some(it.still_unread_count),
        },
        U::MessageReactions(it) => Item::Reactions {
            chat: chat(&it.peer, names),
            id: it.msg_id.into(),
            reactions: reactions(&it.reactions, names),
        },
        U::UserTyping(it) => {
            let who = Chat::new(ChatKind::User, it.user_id);
            typing(who.clone(), who, &it.action)
        }
        U::ChatUserTyping(it) => {
            let at = Chat::new(ChatKind::Chat, it.chat_id);
            typing(at, chat(&it.from_id, names), &it.action)
        }
        U::ChannelUserTyping(it) => {
            let at = Chat::new(ChatKind::Channel, it.channel_id);
            typing(at, chat(&it.from_id, names), &it.action)
        }
        // Named, so that the next one is another notice.
        U::NewAuthorization(it) => Item::Notice {
            what: format!("NewAuthorization {}", it.hash),
        },
        U::ServiceNotification(it) => Item::Notice {
            what: format!("ServiceNotification {}", it.inbox_date.unwrap_or_default()),
        },
        other => Item::Ignored {
            what: variant(other),
        },
    }
}

fn message_item(message: &enums::Message, names: Names<'_>) -> Item {
    match message {
        enums::Message::Empty(_) => Item::Ignored {
            what: "Empty".to_owned(),
        },
        enums::Message::Message(it) => Item::Message(self::message(it, names)),
        enums::Message::Service(it) => service(it, names),
    }
}

fn edited_item(message: &enums::Message, names: Names<'_>) -> Item {
    match message_item(message, names) {
        Item::Message(message) => Item::Edited(message),
        item => item,
    }
}

/// What is kept of a message; `None` for one that is no message.
pub(super) fn of_history(message: &enums::Message, names: Names<'_>) -> Option<Message> {
    match message {
        enums::Message::Message(it) => Some(self::message(it, names)),
        enums::Message::Empty(_) | enums::Message::Service(_) => None,
    }
}

fn message(it: &types::Message, names: Names<'_>) -> Message {
    let mut detail = Map::new();
    let media = it
        .media
        .as_ref()
        .and_then(|media| attached(media, &mut detail));
    if let Some(album) = it.grouped_id {
        detail.insert("album".to_owned(), json!(album.to_string()));
    }
    if it.mentioned {
        detail.insert("mentioned".to_owned(), json!(true));
    }
    let entities = it.entities.iter().flatten();
    let entities: Vec<Value> = entities.filter_map(entity).collect();
    if !entities.is_empty() {
        detail.insert("entities".to_owned(), Value::Array(entities));
    }
    Message {
        chat: chat(&it.peer_id, names),
        id: it.id.into(),
        out: it.out,
        from: it.from_id.as_ref().map(|peer| chat(peer, names)),
        date: it.date.into(),
        text: it.message.clone(),
        media,
        reply_to: reply_to(it.reply_to.as_ref()),
        edit_date: it.edit_date.map(i64::from),
        edit_hidden: it.edit_hide,
        reactions: it
            .reactions
            .as_ref()
            .map(|all| reactions(all, names))
            .unwrap_or_default(),
        is_read: false,
        detail,
    }
}

/// In a forum the header may name nothing but the topic.
fn reply_to(header: Option<&enums::MessageReplyHeader>) -> Option<i64> {
    let enums::MessageReplyHeader::Header(it) = header? else {
        return None;
    };
    let is_topic = it.forum_topic && it.reply_to_top_id.is_none();
    it.reply_to_msg_id.filter(|_| !is_topic).map(i64::from)
}

/// Kind and place of the formats a text has; places count UTF-16 units.
fn entity(it: &enums::MessageEntity) -> Option<Value> {
    use enums::MessageEntity as E;
    let (kind, offset, length) = match it {
        E::Bold(it) => ("bold", it.offset, it.length),
        E::Italic(it) => ("italic", it.offset, it.length),
        E::Code(it) => ("code", it.offset, it.length),
        E::Pre(it) => ("pre", it.offset, it.length),
        E::Url(it) => ("url", it.offset, it.length),
        E::Mention(it) => ("mention", it.offset, it.length),
        E::TextUrl(it) => {
            return Some(json!({
                "type": "text_link", "offset": it.offset, "length": it.length, "url": it.url,
            }));
        }
        _ => return None,
    };
    Some(json!({ "type": kind, "offset": offset, "length": length }))
}

fn attached(media: &enums::MessageMedia, detail: &mut Map<String, Value>) -> Option<Attached> {
    use enums::MessageMedia as M;
    let of = |kind| Attached {
        kind,
        id: None,
        mime: None,
        name: None,
        size: None,
        duration_s: None,
        fades: false,
    };
    let mut place = |geo: &enums::GeoPoint, title: Option<&str>| {
        if let enums::GeoPoint::Point(it) = geo {
            let place = json!({ "latitude": it.lat, "longitude": it.long, "title": title });
            detail.insert("location".to_owned(), place);
        }
    };
    Some(match media {
        // A link's preview is not media.
        M::Empty | M::WebPage(_) => return None,
        M::Photo(it) => Attached {
            id: match &it.photo {
                Some(enums::Photo::Photo(photo)) => Some(photo.id.to_string()),
                _ => None,
            },
            fades: it.ttl_seconds.is_some(),
            ..of(ContentKind::Image)
        },
        M::Document(it) => match &it.document {
            Some(enums::Document::Document(document)) => Attached {
                fades: it.ttl_seconds.is_some(),
                ..file(document)
            },
            _ => of(ContentKind::File),
        },
        M::Geo(it) => {
            place(&it.geo, None);
            of(ContentKind::Location)
        }
        M::GeoLive(it) => {
            place(&it.geo, None);
            of(ContentKind::Location)
        }
        M::Venue(it) => {
            place(&it.geo, Some(&it.title));
            of(ContentKind::Location)
        }
        M::Contact(it) => {
            let name = format!("{} {}", it.first_name, it.last_name);
            let contact = json!({
                "phone": it.phone_number,
                "name": name.trim(),
                "userId": (it.user_id != 0).then(|| it.user_id.to_string()),
            });
            detail.insert("contact".to_owned(), contact);
            of(ContentKind::Contact)
        }
        M::Story(_) => of(ContentKind::Share),
        other => {
            detail.insert("what".to_owned(), variant(other).into());
            of(ContentKind::Unsupported)
        }
    })
}

fn file(it: &types::Document) -> Attached {
    use enums::DocumentAttribute as A;
    let (mut name, mut duration_s, mut kind) = (None, None, (0, ContentKind::File));
    // The most telling of its attributes says what it is.
    for attribute in &it.attributes {
        let found = match attribute {
            A::Sticker(_) => (4, ContentKind::Sticker),
            A::Animated => (3, ContentKind::Animation),
            A::Video(video) => {
                duration_s = Some(video.duration.max(0.0) as u64);
                (2, ContentKind::Video)
            }
            A::Audio(audio) => {
                duration_s = u64::try_from(audio.duration).ok();
                let is_voice = audio.voice;
                let kind = if is_voice {
                    ContentKind::Voice
                } else {
                    ContentKind::Audio
                };
                (1, kind)
            }
            A::Filename(file) => {
                name = Some(file.file_name.clone());
                continue;
            }
            _ => continue,
        };
        if found.0 > kind.0 {
            kind = found;
        }
    }
    Attached {
        kind: kind.1,
        id: Some(it.id.to_string()),
        mime: Some(it.mime_type.clone()),
        name,
        size: u64::try_from(it.size).ok(),
        duration_s,
        fades: false,
    }
}

fn reactions(all: &enums::MessageReactions, names: Names<'_>) -> Vec<Reaction> {
    let enums::MessageReactions::Reactions(all) = all;
    let recent = all.recent_reactions.iter().flatten();
    recent
        .map(|reaction| {
            let enums::MessagePeerReaction::Reaction(it) = reaction;
            Reaction {
                from: chat(&it.peer_id, names),
                emoji: match &it.reaction {
                    enums::Reaction::Emoji(emoji) => emoji.emoticon.clone(),
                    enums::Reaction::CustomEmoji(emoji) => format!("custom:{}", emoji.document_id),
                    enums::Reaction::Paid => "paid".to_owned(),
                    enums::Reaction::Empty => String::new(),
                },
                date: it.date.into(),
            }
        })
        .collect()
}

fn service(it: &types::MessageService, names: Names<'_>) -> Item {
    use enums::MessageAction as A;
    let mut detail = Map::new();
    match &it.action {
        A::ChatAddUser(it) => {
            let members: Vec<String> = it.users.iter().map(i64::to_string).collect();
            detail.insert("members".to_owned(), json!(members));
        }
        A::ChatDeleteUser(it) => {
            detail.insert("members".to_owned(), json!([it.user_id.to_string()]));
        }
        A::ChatEditTitle(it) => {
            detail.insert("title".to_owned(), json!(it.title));
        }
        A::ChatMigrateTo(it) => {
            let successor = Chat::new(ChatKind::Channel, it.channel_id);
            detail.insert("successor".to_owned(), json!(successor.thread()));
        }
        _ => {}
    }
    Item::Service {
        chat: chat(&it.peer_id, names),
        id: it.id.into(),
        date: it.date.into(),
        what: variant(&it.action),
        detail,
    }
}

fn typing(chat: Chat, from: Chat, action: &enums::SendMessageAction) -> Item {
    match action {
        enums::SendMessageAction::SendMessageCancelAction => Item::Ignored {
            what: "SendMessageCancelAction".to_owned(),
        },
        _ => Item::Typing { chat, from },
    }
}

/// Who a peer is, with the name that came with it.
pub(super) fn chat(peer: &enums::Peer, names: Names<'_>) -> Chat {
    let mut chat = match peer {
        enums::Peer::User(it) => Chat::new(ChatKind::User, it.user_id),
        enums::Peer::Chat(it) => Chat::new(ChatKind::Chat, it.chat_id),
        enums::Peer::Channel(it) => Chat::new(ChatKind::Channel, it.channel_id),
    };
    chat.name = names(PeerId::from(peer));
    chat
}

/// Telegram's name of a value's kind.
fn variant(value: &dyn Debug) -> String {
    let text = format!("{value:?}");
    let name = text.split(|it: char| !it.is_alphanumeric()).next();
    name.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use grammers_client::tl::Deserializable as _;
    use hub_domain::platform::telegram_user::Told;

    use super::*;

    const UPDATES: &str = include_str!("../../../domain/tests/fixtures/telegram-user/updates.json");
    const TOLD: &str = include_str!("../../../domain/tests/fixtures/telegram-user/told.json");

    /// What is read of these items is proved in the domain, by hand-written expectations.
    #[test]
    fn telegram_s_bytes_become_the_recorded_items() {
        let updates: Value = serde_json::from_str(UPDATES).unwrap();
        let items: Vec<Item> = updates["updates"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| {
                let bytes = hex::decode(it["hex"].as_str().unwrap()).unwrap();
                let update = enums::Update::from_bytes(&bytes).unwrap();
                item(&update, &|_| None)
            })
            .collect();
        assert_eq!(items.len(), 22);
        let told = Told::new("5600000001", &items);
        if let Ok(path) = std::env::var("HUB_WRITE_TOLD") {
            std::fs::write(path, serde_json::to_string_pretty(&told).unwrap()).unwrap();
        }
        let recorded: Told = serde_json::from_str(TOLD).unwrap();
        assert_eq!(told, recorded);
    }

    #[test]
    fn a_picture_that_fades_says_so() {
        let picture = |ttl_seconds| {
            let media = enums::MessageMedia::Photo(types::MessageMediaPhoto {
                spoiler: false,
                live_photo: false,
                photo: Some(enums::Photo::Empty(types::PhotoEmpty { id: 1 })),
                ttl_seconds,
                video: None,
            });
            attached(&media, &mut Map::new()).unwrap()
        };
        assert!(!picture(None).fades);
        assert!(picture(Some(10)).fades);
        assert!(picture(Some(i32::MAX)).fades, "seen once");
    }
}
