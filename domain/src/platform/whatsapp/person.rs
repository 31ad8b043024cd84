//! Who is who in one webhook.
//!
//! A person is written as a business-scoped user id, a parent id or a phone number, and not every
//! part of a webhook says all three. Contacts and senders that say two of them together tell how to
//! read the parts that say one.

use std::collections::HashMap;

use serde_json::Value;

use crate::platform::wire;

/// The ids of a person, as far as a payload says them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// Business-scoped user id.
    pub user: Option<String>,
    /// The id a managed business has for them across its portfolios.
    pub parent: Option<String>,
    /// Digits without `+`; not the number that was dialled in some countries.
    pub phone: Option<String>,
}

impl Person {
    /// The ids under these keys.
    pub fn read(of: &Value, user: &str, parent: &str, phone: &str) -> Self {
        Self {
            user: wire::id(&of[user]),
            parent: wire::id(&of[parent]),
            phone: phone_of(&of[phone]),
        }
    }

    /// What names the conversation with them.
    pub fn thread(&self) -> Option<String> {
        self.ids().next().cloned()
    }

    /// The other ids that may name it.
    pub fn aliases(&self) -> Vec<String> {
        self.ids().skip(1).cloned().collect()
    }

    /// What a client is told they are called by: the phone number while there is one.
    pub fn shown(&self) -> Option<String> {
        self.phone.clone().or_else(|| self.thread())
    }

    fn ids(&self) -> impl Iterator<Item = &String> {
        [&self.user, &self.parent, &self.phone]
            .into_iter()
            .flatten()
    }

    fn is_nobody(&self) -> bool {
        self.ids().next().is_none()
    }
}

/// What a webhook says about people.
#[derive(Default)]
pub struct People {
    by_id: HashMap<String, Person>,
    names: HashMap<String, String>,
}

impl People {
    /// Notes ids that were said together.
    pub fn meet(&mut self, person: &Person) {
        let ids: Vec<String> = person.ids().cloned().collect();
        let mut whole = person.clone();
        for id in &ids {
            whole = self.complete(&whole, id);
        }
        for id in ids {
            self.by_id.insert(id, whole.clone());
        }
    }

    /// Notes the contacts of a change.
    pub fn meet_contacts(&mut self, contacts: &Value) {
        for contact in wire::items(contacts) {
            let person = contact_ids(contact);
            self.meet(&person);
            if let Some(name) = contact_name(contact) {
                let named = person.ids().map(|id| (id.clone(), name.clone()));
                self.names.extend(named);
            }
        }
    }

    /// A person with everything the webhook says about them.
    pub fn know(&self, person: Person) -> Person {
        let ids: Vec<String> = person.ids().cloned().collect();
        ids.iter()
            .fold(person, |person, id| self.complete(&person, id))
    }

    /// The name a contact has.
    pub fn name(&self, person: &Person) -> Option<String> {
        person.ids().find_map(|id| self.names.get(id)).cloned()
    }

    fn complete(&self, person: &Person, id: &str) -> Person {
        let known = self.by_id.get(id);
        let or = |said: &Option<String>, other: fn(&Person) -> &Option<String>| {
            said.clone()
                .or_else(|| known.and_then(|it| other(it).clone()))
        };
        Person {
            user: or(&person.user, |it| &it.user),
            parent: or(&person.parent, |it| &it.parent),
            phone: or(&person.phone, |it| &it.phone),
        }
    }
}

/// A phone number as it names a conversation: digits alone, however it is written. What has letters
/// in it (a user id, a group) is no number and stays as it is.
pub fn phone_of(value: &Value) -> Option<String> {
    let said = wire::id(value)?;
    let is_number = |letter: char| letter.is_ascii_digit() || "+ -()".contains(letter);
    let digits = || said.chars().filter(char::is_ascii_digit).collect();
    let number: Option<String> = said.chars().all(is_number).then(digits);
    number.filter(|it| !it.is_empty()).or(Some(said))
}

/// The sender of a message: said in it, or else the only contact beside it.
pub fn sender(message: &Value, contacts: &Value) -> Person {
    let said = Person::read(message, "from_user_id", "from_parent_user_id", "from");
    match wire::items(contacts) {
        [only] if said.is_nobody() => contact_ids(only),
        _ => said,
    }
}

fn contact_ids(contact: &Value) -> Person {
    Person::read(contact, "user_id", "parent_user_id", "wa_id")
}

fn contact_name(contact: &Value) -> Option<String> {
    let profile = &contact["profile"];
    wire::filled(&profile["name"]).or_else(|| wire::filled(&profile["username"]))
}
