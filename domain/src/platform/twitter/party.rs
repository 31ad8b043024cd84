//! Who talks with whom: user ids, conversations and the threads they name.
//!
//! Ids are 64-bit numbers written as strings: equal as strings, ordered as numbers.

use std::cmp::Ordering;

use serde_json::Value;

use crate::platform::fact::Fact;
use crate::platform::wire;

/// Threads of groups: their ids look like those of users.
pub const GROUP: &str = "group:";

/// When ids began to carry the time of their making, in milliseconds since 1970 ("Snowflake").
const SNOWFLAKE_EPOCH_MS: i64 = 1_288_834_974_657;

/// True for an id of a user, a message or a group.
pub fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The key of a conversation of two: both ids, the smaller number first.
pub fn pair(one: &str, other: &str) -> String {
    match order(one, other) {
        Ordering::Greater => format!("{other}-{one}"),
        _ => format!("{one}-{other}"),
    }
}

fn order(one: &str, other: &str) -> Ordering {
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

/// Puts a conversation and its thread into a fact about this account, from the id X gives the
/// conversation: `a-b`, in encrypted chat `b:a` in any order, or a number for a group.
pub fn converse(fact: &mut Fact, account: &str, conversation: &str) {
    let two = conversation
        .split_once([':', '-'])
        .filter(|(one, other)| is_id(one) && is_id(other));
    match two {
        Some((one, other)) => between(fact, account, one, other),
        None => {
            fact.conversation = Some(conversation.to_owned());
            fact.thread = Some(format!("{GROUP}{conversation}"));
        }
    }
}

/// Puts the conversation of two into a fact about this account; the thread is whoever is not us.
pub fn between(fact: &mut Fact, account: &str, one: &str, other: &str) {
    fact.conversation = Some(pair(one, other));
    let them = if one == account { other } else { one };
    fact.thread = Some(them.to_owned());
}

/// The display name of a user object of any generation; some wrap it in `data`.
pub fn name(user: &Value) -> Option<String> {
    let user = match &user["data"] {
        Value::Object(_) => &user["data"],
        _ => user,
    };
    ["name", "username", "screen_name"]
        .iter()
        .find_map(|field| wire::filled(&user[*field]))
}

/// When an id was made, for those that tell.
pub fn made_ms(id: &str) -> Option<i64> {
    let id: i64 = id.parse().ok()?;
    let ms = id >> 22;
    (ms > 0).then(|| ms + SNOWFLAKE_EPOCH_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::fact::FactKind;

    fn converse(account: &str, conversation: &str) -> (String, String) {
        let mut fact = Fact::new(FactKind::MessageReceived);
        super::converse(&mut fact, account, conversation);
        (fact.conversation.unwrap(), fact.thread.unwrap())
    }

    #[test]
    fn keys_are_in_the_order_of_numbers() {
        let us = "1700000000000000101";
        let both = "1700000000000000101-1700000000000000202";
        assert_eq!(pair("1700000000000000202", us), both);
        assert_eq!(pair(us, "999999999"), format!("999999999-{us}"));
        let chat = converse(us, "1700000000000000202:1700000000000000101");
        assert_eq!(chat, (both.into(), "1700000000000000202".into()));
        assert_eq!(converse(us, both), chat);
        let group = converse(us, "1700000000000009999");
        let expected = ("1700000000000009999", "group:1700000000000009999");
        assert_eq!((group.0.as_str(), group.1.as_str()), expected);
        assert_eq!(converse("7", "7-7"), ("7-7".into(), "7".into()));
    }

    #[test]
    fn ids_tell_when_they_were_made() {
        let ms = 1_791_201_600_000_i64;
        let id = ((ms - SNOWFLAKE_EPOCH_MS) << 22) + 5;
        assert_eq!(made_ms(&id.to_string()), Some(ms));
        for odd in ["dm1", "", "7", "99999999999999999999"] {
            assert_eq!(made_ms(odd), None, "{odd}");
        }
    }
}
