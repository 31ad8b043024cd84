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

/// The two parts of `urn:li:like:(<who>,<what>)`.
pub fn like(urn: &str) -> Option<(String, String)> {
    let parts = urn.strip_prefix("urn:li:like:(")?.strip_suffix(')')?;
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
    fn whole_urns_in_paths() {
        assert_eq!(
            encoded("urn:li:comment:(urn:li:activity:1,2)"),
            "urn%3Ali%3Acomment%3A%28urn%3Ali%3Aactivity%3A1%2C2%29"
        );
    }
}
