//! LinkedIn's names of things: opaque, case-sensitive, and not always written the same way.

use serde_json::Value;

use crate::platform::wire;

/// The URN in a value.
pub fn of(value: &Value) -> Option<String> {
    wire::id(value).map(|urn| normal(&urn))
}

/// A comment's URN in its long form; every other URN as it is. `urn:li:comment:(activity:A,C)` and
/// `urn:li:comment:(urn:li:activity:A,C)` are the same comment.
pub fn normal(urn: &str) -> String {
    match urn.strip_prefix("urn:li:comment:(") {
        Some(rest) if !rest.starts_with("urn:li:") => format!("urn:li:comment:(urn:li:{rest}"),
        _ => urn.to_owned(),
    }
}

/// The URN of a member by the id an app knows them by.
pub fn person(id: &str) -> String {
    if id.starts_with("urn:li:") {
        id.to_owned()
    } else {
        format!("urn:li:person:{id}")
    }
}

/// The URN of a comment on a post, by the comment's number.
pub fn comment(post: &str, id: &str) -> String {
    if id.starts_with("urn:li:") {
        normal(id)
    } else {
        format!("urn:li:comment:({post},{id})")
    }
}

/// True for the URN of something that can be commented on.
pub fn is_post(urn: &str) -> bool {
    ["activity:", "share:", "ugcPost:"].iter().any(|kind| {
        urn.strip_prefix("urn:li:")
            .is_some_and(|it| it.starts_with(kind))
    })
}

/// The post and the number in a comment's URN.
pub fn of_comment(urn: &str) -> Option<(&str, &str)> {
    let parts = urn.strip_prefix("urn:li:comment:(")?.strip_suffix(')')?;
    parts.split_once(',')
}

/// The two parts of `urn:li:like:(<who>,<what>)`, or of the same with its newer name.
pub fn like(urn: &str) -> Option<(String, String)> {
    let kinds = ["urn:li:like:(", "urn:li:reaction:("];
    let parts = kinds.iter().find_map(|kind| urn.strip_prefix(kind))?;
    let parts = parts.strip_suffix(')')?;
    let (who, what) = parts.split_once(',')?;
    (!who.is_empty() && !what.is_empty()).then(|| (who.to_owned(), normal(what)))
}

/// The thread of a post under which an organization speaks: both names, because an answer needs
/// both and an account may administer several organizations.
pub fn post_thread(organization: &str, post: &str) -> String {
    format!("{organization}/{post}")
}

/// The organization and the post of such a thread.
pub fn of_post(thread: &str) -> Option<(&str, &str)> {
    let (organization, post) = thread.split_once('/')?;
    let is_urn = |urn: &str| urn.starts_with("urn:li:");
    (is_urn(organization) && is_urn(post)).then_some((organization, post))
}

/// True for the thread of members' messages.
pub fn is_messages(thread: &str) -> bool {
    thread.starts_with("urn:li:messagingThread:")
}

/// The URN in a part of a path, which may be encoded.
pub fn decoded(part: &str) -> Option<String> {
    let (urn, _) = url::form_urlencoded::parse(part.as_bytes()).next()?;
    urn.starts_with("urn:li:").then(|| normal(&urn))
}

/// A URN as a part of a path.
pub fn encoded(urn: &str) -> String {
    url::form_urlencoded::byte_serialize(urn.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_have_one_name() {
        let long = "urn:li:comment:(urn:li:activity:1,2)";
        assert_eq!(normal("urn:li:comment:(activity:1,2)"), long);
        assert_eq!(normal(long), long);
        assert_eq!(comment("urn:li:activity:1", "2"), long);
        assert_eq!(comment("x", "urn:li:comment:(activity:1,2)"), long);
        let person = "urn:li:person:8A5cZ_-x";
        assert_eq!(normal(person), person);
        assert_eq!(super::person("8A5cZ_-x"), person);
        assert_eq!(super::person(person), person);
    }

    #[test]
    fn likes_name_who_and_what() {
        let found = like("urn:li:like:(urn:li:person:B,urn:li:comment:(activity:1,2))");
        let what = "urn:li:comment:(urn:li:activity:1,2)";
        assert_eq!(found, Some(("urn:li:person:B".into(), what.into())));
        let newer = like("urn:li:reaction:(urn:li:person:B,urn:li:activity:1)");
        assert_eq!(
            newer,
            Some(("urn:li:person:B".into(), "urn:li:activity:1".into()))
        );
        for odd in [
            "urn:li:like:(x)",
            "urn:li:like:(,x)",
            "like",
            "urn:li:like:(",
        ] {
            assert_eq!(like(odd), None, "{odd}");
        }
    }

    #[test]
    fn posts_and_what_is_under_them() {
        for post in ["urn:li:activity:1", "urn:li:share:1", "urn:li:ugcPost:1"] {
            assert!(is_post(post), "{post}");
        }
        assert!(!is_post("urn:li:comment:(urn:li:activity:1,2)"));
        let comment = of_comment("urn:li:comment:(urn:li:activity:1,2)");
        assert_eq!(comment, Some(("urn:li:activity:1", "2")));
        assert_eq!(of_comment("urn:li:activity:1"), None);
        let part = "urn%3Ali%3Acomment%3A%28activity%3A1%2C2%29";
        let urn = "urn:li:comment:(urn:li:activity:1,2)";
        assert_eq!(decoded(part).as_deref(), Some(urn));
        assert_eq!(
            decoded("urn:li:activity:1").as_deref(),
            Some("urn:li:activity:1")
        );
        assert_eq!(decoded("comments"), None);
    }

    #[test]
    fn whole_urns_in_paths() {
        assert_eq!(
            encoded("urn:li:comment:(urn:li:activity:1,2)"),
            "urn%3Ali%3Acomment%3A%28urn%3Ali%3Aactivity%3A1%2C2%29"
        );
    }
}
