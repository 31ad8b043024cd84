//! Webhooks: what people do with an organization's posts, and the form that earlier hubs were sent.
//!
//! A notification names the organization it is about and the member who subscribed to it; the
//! member is the connected account it comes through.

use serde_json::Value;

use super::urn;
use crate::platform::fact::{ContentKind, Direction, Fact, FactKind};
use crate::platform::wire;

/// The type of webhooks with social actions.
pub const TYPE: &str = "ORGANIZATION_SOCIAL_ACTION_NOTIFICATIONS";

/// Reads one notification.
pub fn read(notification: &Value) -> Fact {
    let organization = urn::of(&notification["organizationalEntity"]);
    let read = organization.as_deref().and_then(|organization| {
        let action = Action {
            organization,
            raw: notification,
        };
        match notification["action"].as_str()? {
            "COMMENT" => action.written("comment", false),
            "ADMIN_COMMENT" => action.written("comment", true),
            "SHARE" | "SHARE_MENTION" => action.written("share", false),
            "COMMENT_EDIT" => action.edited(),
            "COMMENT_DELETE" => action.about(FactKind::MessageDeleted),
            "LIKE" => action.liked(),
            _ => None,
        }
    });
    let mut fact = read.unwrap_or_else(|| wire::unknown(organization, notification));
    let subscriber = urn::of(&notification["subscriber"]);
    fact.through = subscriber.filter(|_| fact.account.is_some());
    fact
}

struct Action<'a> {
    organization: &'a str,
    raw: &'a Value,
}

impl Action<'_> {
    /// What the page does is ours.
    fn direction(&self, actor: Option<&str>) -> Direction {
        match actor == Some(self.organization) {
            true => Direction::Outbound,
            false => Direction::Inbound,
        }
    }

    fn fact(&self, kind: FactKind) -> Option<Fact> {
        // Whoever mentions the page does it in a post of their own.
        let mentioned_in = || {
            let post = urn::of(&self.raw["generatedActivity"])?;
            urn::is_post(&post).then_some(post)
        };
        let post = urn::of(&self.raw["sourcePost"]).or_else(mentioned_in)?;
        let mut fact = Fact::new(kind);
        fact.account = Some(self.organization.to_owned());
        fact.thread = Some(urn::post_thread(self.organization, &post));
        fact.conversation = Some(post);
        fact.direction = Some(Direction::Inbound);
        fact.ts_ms = wire::time_ms(&self.raw["lastModifiedAt"]);
        // The number is unique within a type only.
        let number = wire::id(&self.raw["notificationId"]);
        fact.dedup = match number {
            Some(number) => format!("{TYPE}:{number}"),
            None => wire::content_digest(self.raw),
        };
        Some(fact)
    }

    /// A fact about what was written, which is named by the generated activity.
    fn about(&self, kind: FactKind) -> Option<Fact> {
        let id = urn::of(&self.raw["generatedActivity"])?;
        let mut fact = self.fact(kind)?;
        fact.target = Some(id.clone());
        fact.message_id = Some(id);
        Some(fact)
    }

    /// The content of it, where it was sent along.
    fn decoration(&self, what: &str) -> &Value {
        &self.raw["decoratedGeneratedActivity"][what]
    }

    fn written(&self, what: &str, by_admin: bool) -> Option<Fact> {
        let content = self.decoration(what);
        let owner = urn::of(&content["owner"]);
        let ours = by_admin || owner.as_deref() == Some(self.organization);
        let mut fact = self.about(if ours {
            FactKind::MessageEchoed
        } else {
            FactKind::MessageReceived
        })?;
        fact.target = None;
        if ours {
            fact.direction = Some(Direction::Outbound);
        }
        fact.sender = owner.or_else(|| ours.then(|| self.organization.to_owned()));
        fact.text = text(content);
        let without = if what == "share" {
            ContentKind::Share
        } else {
            ContentKind::Unsupported
        };
        fact.content = Some(match fact.text {
            Some(_) => ContentKind::Text,
            None => without,
        });
        let object = urn::of(&content["object"]).filter(|urn| urn.starts_with("urn:li:comment:"));
        fact.reply_to = urn::of(&content["parentComment"]).or(object);
        let detail = &mut fact.detail;
        wire::keep_raw(detail, "action", &self.raw["action"]);
        wire::keep(detail, "post", text(&self.raw["decoratedSourcePost"]));
        Some(fact)
    }

    fn edited(&self) -> Option<Fact> {
        let mut fact = self.about(FactKind::MessageEdited)?;
        let content = self.decoration("comment");
        fact.sender = urn::of(&content["owner"]);
        fact.direction = Some(self.direction(fact.sender.as_deref()));
        fact.text = text(content);
        fact.content = Some(ContentKind::Text);
        Some(fact)
    }

    /// Nobody is told when a like is taken back.
    fn liked(&self) -> Option<Fact> {
        let like = urn::of(&self.raw["generatedActivity"])?;
        let (who, what) = urn::like(&like)?;
        let mut fact = self.fact(FactKind::ReactionAdded)?;
        fact.direction = Some(self.direction(Some(&who)));
        fact.sender = Some(who);
        fact.target = Some(what);
        fact.emoji = Some("👍".into());
        Some(fact)
    }
}

/// Reads a comment as the list of a post's comments has it. Whose page the post is on it does not
/// say: `account` is whom it was fetched for.
pub fn read_comment(account: Option<&str>, comment: &Value) -> Fact {
    let read = || {
        let object = urn::of(&comment["object"])?;
        let post = match urn::of_comment(&object) {
            Some((post, _)) => post.to_owned(),
            None => object.clone(),
        };
        let number = wire::id(&comment["id"]);
        let id = urn::of(&comment["$URN"])
            .or_else(|| urn::of(&comment["commentUrn"]))
            .or_else(|| Some(urn::comment(&post, &number?)))?;
        let actor = urn::of(&comment["actor"]);
        let ours = account.is_some() && actor.as_deref() == account;
        let mut fact = Fact::new(match ours {
            true => FactKind::MessageEchoed,
            false => FactKind::MessageReceived,
        });
        fact.account = account.map(str::to_owned);
        fact.thread = account.map(|account| urn::post_thread(account, &post));
        fact.conversation = Some(post);
        fact.direction = Some(match ours {
            true => Direction::Outbound,
            false => Direction::Inbound,
        });
        fact.sender = actor;
        fact.ts_ms = wire::time_ms(&comment["created"]["time"]);
        fact.text = text(comment);
        fact.content = Some(match fact.text {
            Some(_) => ContentKind::Text,
            None => ContentKind::Unsupported,
        });
        let under = Some(object).filter(|object| urn::of_comment(object).is_some());
        fact.reply_to = urn::of(&comment["parentComment"]).or(under);
        fact.dedup.clone_from(&id);
        fact.message_id = Some(id);
        Some(fact)
    };
    read().unwrap_or_else(|| wire::unknown(account.map(str::to_owned), comment))
}

fn text(content: &Value) -> Option<String> {
    wire::filled(&content["text"]).or_else(|| wire::filled(&content["message"]["text"]))
}

/// Reads a message in the form that earlier hubs were sent.
pub fn read_old(body: &Value) -> Fact {
    let data = &body["data"];
    let person = |name: &str| wire::id(&data[name]).map(|id| urn::person(&id));
    let account = person("recipient");
    let read = || {
        let mut fact = Fact::new(FactKind::MessageReceived);
        fact.account = Some(account.clone()?);
        fact.direction = Some(Direction::Inbound);
        fact.sender = Some(person("from")?);
        let thread = wire::id(&data["conversationId"])?;
        fact.conversation = Some(thread.clone());
        fact.thread = Some(thread);
        fact.ts_ms = wire::time_ms(&data["createdAt"]);
        fact.text = wire::filled(&data["text"]);
        fact.content = Some(match fact.text {
            Some(_) => ContentKind::Text,
            None => ContentKind::Unsupported,
        });
        let id = wire::id(&data["messageId"])?;
        fact.dedup.clone_from(&id);
        fact.message_id = Some(id);
        Some(fact)
    };
    let kind = body["eventType"].as_str().unwrap_or_default();
    let fact = if kind == "MESSAGE_EVENT" {
        read()
    } else {
        None
    };
    fact.unwrap_or_else(|| wire::unknown(account, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn notification(action: &str) -> Value {
        json!({"notificationId": 1, "organizationalEntity": "urn:li:organization:9",
            "action": action, "sourcePost": "urn:li:activity:1", "lastModifiedAt": 1_791_201_600_000_i64,
            "generatedActivity": "urn:li:comment:(urn:li:activity:1,2)",
            "subscriber": "urn:li:person:A"})
    }

    #[test]
    fn what_the_page_says_is_ours_whatever_the_action_says() {
        let mut body = notification("COMMENT");
        body["decoratedGeneratedActivity"]["comment"] =
            json!({"owner": "urn:li:organization:9", "message": {"text": "hi"}});
        let fact = read(&body);
        assert_eq!(fact.kind, FactKind::MessageEchoed);
        assert_eq!(fact.text.as_deref(), Some("hi"));
        assert_eq!(fact.through.as_deref(), Some("urn:li:person:A"));
    }

    #[test]
    fn answers_know_what_they_answer() {
        let mut body = notification("COMMENT");
        body["decoratedGeneratedActivity"]["comment"] = json!({"owner": "urn:li:person:B",
            "object": "urn:li:comment:(activity:1,1)", "text": "hi"});
        let parent = Some("urn:li:comment:(urn:li:activity:1,1)");
        assert_eq!(read(&body).reply_to.as_deref(), parent);
    }

    #[test]
    fn what_the_page_edits_and_likes_is_ours() {
        let mut edit = notification("COMMENT_EDIT");
        edit["decoratedGeneratedActivity"]["comment"] =
            json!({"owner": "urn:li:organization:9", "text": "hi"});
        assert_eq!(read(&edit).direction, Some(Direction::Outbound));
        let mut like = notification("LIKE");
        for (who, direction) in [
            ("urn:li:organization:9", Direction::Outbound),
            ("urn:li:person:B", Direction::Inbound),
        ] {
            like["generatedActivity"] = format!("urn:li:like:({who},urn:li:activity:1)").into();
            assert_eq!(read(&like).direction, Some(direction), "{who}");
        }
    }

    #[test]
    fn a_mention_is_in_a_post_of_its_own() {
        let mut body = notification("SHARE_MENTION");
        body["sourcePost"] = Value::Null;
        body["generatedActivity"] = "urn:li:ugcPost:5".into();
        let fact = read(&body);
        assert_eq!(fact.kind, FactKind::MessageReceived);
        assert_eq!(fact.conversation.as_deref(), Some("urn:li:ugcPost:5"));
    }

    #[test]
    fn the_list_of_a_posts_comments() {
        let comment = json!({"actor": "urn:li:person:B", "id": "77",
            "object": "urn:li:comment:(activity:1,5)", "message": {"text": "c"},
            "created": {"time": 1_791_201_600_000_i64}});
        let fact = read_comment(Some("urn:li:organization:9"), &comment);
        assert_eq!(fact.kind, FactKind::MessageReceived);
        let id = "urn:li:comment:(urn:li:activity:1,77)";
        assert_eq!(fact.message_id.as_deref(), Some(id));
        let parent = "urn:li:comment:(urn:li:activity:1,5)";
        assert_eq!(fact.reply_to.as_deref(), Some(parent));
        assert_eq!(
            fact.thread.as_deref(),
            Some("urn:li:organization:9/urn:li:activity:1")
        );
        let ours = read_comment(Some("urn:li:person:B"), &comment);
        assert_eq!(ours.kind, FactKind::MessageEchoed);
        let nobody = read_comment(None, &json!({"object": "x", "message": {}}));
        assert_eq!(nobody.kind, FactKind::Unknown);
    }

    #[test]
    fn a_share_without_words() {
        let mut body = notification("SHARE");
        body["decoratedGeneratedActivity"]["share"] = json!({"owner": "urn:li:person:B"});
        let fact = read(&body);
        assert_eq!(fact.content, Some(ContentKind::Share));
        assert_eq!(fact.sender.as_deref(), Some("urn:li:person:B"));
    }

    #[test]
    fn nobody_to_tell() {
        let fact = read(&json!({"action": "COMMENT", "subscriber": "urn:li:person:A"}));
        assert_eq!(
            (fact.kind, fact.account, fact.through),
            (FactKind::Unknown, None, None)
        );
    }
}
