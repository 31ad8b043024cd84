//! The change log of a member: what they and others did that concerns them, their messages among it.
//!
//! Who did it decides the direction: an author may be a mailbox of another LinkedIn product. The
//! same change may be told twice, as a failure and as its successful repetition.

use serde_json::Value;

use super::{content, urn};
use crate::platform::fact::{ContentKind, Direction, Fact, FactKind};
use crate::platform::wire;

/// Resources that are nobody's message.
const OF_NO_INTEREST: [&str; 12] = [
    "connections",
    "events",
    "groups",
    "invitations",
    "memberNotifications",
    "organizationAcls",
    "organizations",
    "people",
    "posts",
    "reactions",
    "shares",
    "ugcPosts",
];

/// Reads one element. `account` is the member it was fetched for.
pub fn read(account: Option<&str>, element: &Value) -> Fact {
    let owner = urn::of(&element["owner"]).or_else(|| account.map(str::to_owned));
    let resource = element["resourceName"].as_str().unwrap_or_default();
    let change = owner.as_deref().map(|owner| Change {
        owner,
        raw: element,
    });
    let read = change.and_then(|change| match resource {
        "messages" => change.message(),
        "messagingThreads" => change.thread_changed(),
        "socialActions/comments" => change.comment(),
        "socialActions/likes" => change.like(),
        _ => None,
    });
    if let Some(fact) = read {
        return fact;
    }
    if OF_NO_INTEREST.contains(&resource) {
        return wire::ignored(owner, resource, element);
    }
    wire::unknown(owner, element)
}

struct Change<'a> {
    owner: &'a str,
    raw: &'a Value,
}

impl Change<'_> {
    fn activity(&self) -> &Value {
        &self.raw["activity"]
    }

    fn method(&self) -> &str {
        self.raw["method"].as_str().unwrap_or_default()
    }

    fn id(&self) -> Option<String> {
        wire::id(&self.raw["resourceId"]).or_else(|| wire::id(&self.activity()["id"]))
    }

    fn fact(&self, kind: FactKind) -> Fact {
        let mut fact = Fact::new(kind);
        fact.account = Some(self.owner.to_owned());
        fact.sender = urn::of(&self.raw["actor"]);
        fact.direction = Some(if self.is_ours() {
            Direction::Outbound
        } else {
            Direction::Inbound
        });
        fact.ts_ms = wire::time_ms(&self.raw["capturedAt"]);
        // The activity's id alone is not unique in old data.
        let parts = ["resourceName", "resourceId", "method", "activityId"];
        let parts = parts.map(|name| wire::id(&self.raw[name]).unwrap_or_default());
        let [name, id, method, activity] = parts.each_ref().map(String::as_str);
        fact.dedup = wire::digest(&[self.owner, name, id, method, activity]);
        fact
    }

    fn is_ours(&self) -> bool {
        urn::of(&self.raw["actor"]).as_deref() == Some(self.owner)
    }

    fn written(&self) -> Fact {
        self.fact(if self.is_ours() {
            FactKind::MessageEchoed
        } else {
            FactKind::MessageReceived
        })
    }

    fn message(&self) -> Option<Fact> {
        let activity = self.activity();
        let id = self.id()?;
        let mut fact = match self.method() {
            "CREATE" => {
                let mut fact = self.written();
                fact.ts_ms = wire::time_ms(&activity["createdAt"])
                    .or_else(|| wire::time_ms(&activity["deliveredAt"]))
                    .or(fact.ts_ms);
                content::read(activity, &mut fact);
                fact
            }
            "UPDATE" | "PARTIAL_UPDATE" => {
                let mut fact = self.fact(FactKind::MessageEdited);
                fact.text = content::text(activity);
                fact.content = Some(ContentKind::Text);
                fact.target = Some(id.clone());
                fact
            }
            "DELETE" => {
                let mut fact = self.fact(FactKind::MessageDeleted);
                fact.target = Some(id.clone());
                fact
            }
            _ => return self.thread_changed(),
        };
        let thread = wire::id(&activity["thread"]);
        // What happens to a message later may come without the thread it happens in.
        if thread.is_none() && self.method() == "CREATE" {
            return None;
        }
        fact.conversation.clone_from(&thread);
        fact.thread = thread;
        fact.message_id = Some(id);
        Some(fact)
    }

    fn thread_changed(&self) -> Option<Fact> {
        let thread = wire::id(&self.activity()["thread"]).or_else(|| {
            self.id()
                .filter(|id| id.starts_with("urn:li:messagingThread:"))
        })?;
        let mut fact = self.fact(FactKind::ConversationUpdated);
        fact.conversation = Some(thread.clone());
        fact.thread = Some(thread);
        wire::keep_raw(&mut fact.detail, "method", &self.raw["method"]);
        wire::keep_raw(&mut fact.detail, "change", self.activity());
        Some(fact)
    }

    /// The post, which may stand only in `/socialActions/<post>/comments/<id>`.
    fn post(&self) -> Option<String> {
        let uri = self.raw["resourceUri"].as_str().unwrap_or_default();
        let in_uri = || uri.split('/').find_map(urn::decoded);
        let object = urn::of(&self.activity()["object"]).or_else(in_uri)?;
        // An answer to a comment is under the same post.
        let post = urn::of_comment(&object).map(|(post, _)| post.to_owned());
        Some(post.unwrap_or(object))
    }

    fn comment(&self) -> Option<Fact> {
        let (post, id) = (self.post()?, self.id()?);
        let activity = self.activity();
        let id = urn::of(&activity["$URN"]).unwrap_or_else(|| urn::comment(&post, &id));
        let mut fact = match self.method() {
            "CREATE" => self.written(),
            "UPDATE" | "PARTIAL_UPDATE" => self.fact(FactKind::MessageEdited),
            "DELETE" => self.fact(FactKind::MessageDeleted),
            _ => return None,
        };
        if matches!(
            fact.kind,
            FactKind::MessageEdited | FactKind::MessageDeleted
        ) {
            fact.target = Some(id.clone());
        }
        if fact.kind != FactKind::MessageDeleted {
            fact.text = wire::filled(&activity["message"]["text"]);
            fact.content = Some(ContentKind::Text);
        }
        fact.ts_ms = wire::time_ms(&activity["created"]["time"])
            .filter(|_| self.method() == "CREATE")
            .or(fact.ts_ms);
        let object = urn::of(&activity["object"]).filter(|urn| urn::of_comment(urn).is_some());
        fact.reply_to = urn::of(&activity["parentComment"]).or(object);
        fact.message_id = Some(id);
        fact.conversation = Some(post.clone());
        fact.thread = Some(post);
        Some(fact)
    }

    fn like(&self) -> Option<Fact> {
        let post = self.post()?;
        let mut fact = self.fact(match self.method() {
            "CREATE" => FactKind::ReactionAdded,
            "DELETE" => FactKind::ReactionRemoved,
            _ => return None,
        });
        fact.emoji = Some("👍".into());
        fact.target = Some(post.clone());
        fact.conversation = Some(post.clone());
        fact.thread = Some(post);
        Some(fact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const OWNER: &str = "urn:li:person:A";

    fn element(resource: &str, method: &str, activity: Value) -> Value {
        json!({"owner": OWNER, "actor": "urn:li:person:B", "resourceName": resource, "method": method,
            "resourceId": "2-x", "activityId": "1", "capturedAt": 1_791_201_653_090_i64,
            "activity": activity})
    }

    #[test]
    fn deletions_with_and_without_activity() {
        for activity in [json!({}), Value::Null] {
            let fact = read(None, &element("messages", "DELETE", activity));
            assert_eq!(fact.kind, FactKind::MessageDeleted);
            assert_eq!(fact.target.as_deref(), Some("2-x"));
            assert_eq!(fact.thread, None);
        }
    }

    #[test]
    fn comments_under_any_post() {
        let mut body = element(
            "socialActions/comments",
            "CREATE",
            json!({"message": {"text": "hi"}}),
        );
        body["resourceId"] = "77".into();
        body["resourceUri"] = "/socialActions/urn%3Ali%3Aactivity%3A1/comments/77".into();
        let encoded = read(None, &body);
        body["resourceUri"] = "/socialActions/urn:li:activity:1/comments/77".into();
        let mut under = body.clone();
        under["activity"]["object"] = "urn:li:comment:(activity:1,5)".into();
        let answer = read(None, &under);
        assert_eq!(answer.thread.as_deref(), Some("urn:li:activity:1"));
        let parent = Some("urn:li:comment:(urn:li:activity:1,5)");
        assert_eq!(answer.reply_to.as_deref(), parent);
        let fact = read(None, &body);
        assert_eq!(
            (&encoded.thread, &encoded.message_id),
            (&fact.thread, &fact.message_id)
        );
        assert_eq!(fact.kind, FactKind::MessageReceived);
        let id = Some("urn:li:comment:(urn:li:activity:1,77)");
        assert_eq!(fact.message_id.as_deref(), id);
        assert_eq!(fact.thread.as_deref(), Some("urn:li:activity:1"));
        body["method"] = "PARTIAL_UPDATE".into();
        assert_eq!(read(None, &body).kind, FactKind::MessageEdited);
        body["method"] = "DELETE".into();
        body["actor"] = OWNER.into();
        let fact = read(None, &body);
        assert_eq!(
            (fact.kind, fact.target.as_deref()),
            (FactKind::MessageDeleted, id)
        );
        assert_eq!(fact.direction, Some(Direction::Outbound));
    }

    #[test]
    fn threads_change() {
        let thread = "urn:li:messagingThread:2-t==";
        let fact = read(
            None,
            &element("messages", "ACTION", json!({"thread": thread})),
        );
        assert_eq!(fact.kind, FactKind::ConversationUpdated);
        assert_eq!(fact.thread.as_deref(), Some(thread));
        let nowhere = read(None, &element("messages", "ACTION", json!({})));
        assert_eq!(nowhere.kind, FactKind::Unknown);
        let content = json!({"content": {"fallback": "new"}});
        let edit = read(None, &element("messages", "UPDATE", content));
        assert_eq!(edit.kind, FactKind::MessageEdited);
        assert_eq!((edit.target.as_deref(), edit.thread), (Some("2-x"), None));
        let lost = read(None, &element("messages", "CREATE", json!({})));
        assert_eq!(lost.kind, FactKind::Unknown);
    }
}
