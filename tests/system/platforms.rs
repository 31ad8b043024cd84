//! The same story on every platform that speaks both ways: connect by following the pages, be
//! written to, answer, be receipted, be refused, be asked to wait, and lose an answer.
//!
//! A platform is a row of [`PLATFORMS`]; the story asks the row where platforms differ.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{User, World, eventually};

/// What the story has to know of a platform.
struct Played {
    name: &'static str,
    /// The id of an account to connect; the sandbox is told to grant it.
    account: &'static str,
    /// The account's name, and what the hub shows of it.
    username: (&'static str, &'static str),
    /// A customer: the id they write with, and the name the hub shows.
    customer: (&'static str, &'static str),
    /// Whether the platform says when our messages were read.
    is_read: bool,
    /// The sandbox's status for a send outside of the reply window.
    outside_window: u16,
    /// The longest text in characters of one byte.
    text_max: usize,
    /// Settings of the hub.
    settings: &'static [(&'static str, &'static str)],
}

/// What is the same at Meta's products.
const META: Played = Played {
    name: "",
    account: "",
    username: ("", ""),
    customer: ("", "Mira Q"),
    is_read: true,
    outside_window: 403,
    text_max: 0,
    settings: &[],
};

const PLATFORMS: &[Played] = &[
    Played {
        name: "facebook",
        account: "104857600445566",
        username: ("Teapots & more", "Teapots & more"),
        customer: ("7214365098100001", "Mira Q"),
        is_read: false,
        text_max: 1999,
        ..META
    },
    Played {
        name: "instagram",
        account: "17841478800445566",
        username: ("teapots.and.more", "teapots.and.more"),
        customer: ("1284736450900001", "Mira Q"),
        text_max: 1000,
        ..META
    },
    Played {
        name: "instagram",
        account: "17841478800445577",
        username: ("own.login", "own.login"),
        customer: ("1284736450900002", "Mira Q"),
        text_max: 1000,
        settings: &[("INSTAGRAM_LOGIN", "instagram")],
        ..META
    },
    Played {
        name: "whatsapp",
        account: "205612348445566",
        username: ("Teapots & more", "49308445566"),
        customer: ("491701230001", "Mira Q"),
        text_max: 4096,
        ..META
    },
];

/// The answer to a send waits for the platform's word this long.
const PATIENT: (&str, &str) = ("HUB_SEND_WAIT_MS", "8000");

/// One platform in one world.
struct Stage<'a> {
    world: &'a World,
    user: &'a User,
    played: &'a Played,
}

/// A world with one platform in it.
struct Scene {
    world: World,
    user: User,
    played: &'static Played,
}

impl Scene {
    async fn of(played: &'static Played) -> Self {
        let settings = [played.settings, &[PATIENT]].concat();
        let world = World::with(&settings).await;
        let user = world.register().await;
        Self {
            world,
            user,
            played,
        }
    }

    fn stage(&self) -> Stage<'_> {
        Stage {
            world: &self.world,
            user: &self.user,
            played: self.played,
        }
    }
}

#[tokio::test]
async fn facebook() {
    story(&PLATFORMS[0]).await;
}

#[tokio::test]
async fn instagram_through_facebook() {
    story(&PLATFORMS[1]).await;
}

#[tokio::test]
async fn instagram_with_its_own_login() {
    story(&PLATFORMS[2]).await;
}

#[tokio::test]
async fn whatsapp() {
    story(&PLATFORMS[3]).await;
}

/// WhatsApp takes a message first and says later that it did not arrive.
#[tokio::test]
async fn what_whatsapp_took_and_could_not_deliver_has_failed() {
    let scene = Scene::of(&PLATFORMS[3]).await;
    let (stage, user, world) = (scene.stage(), &scene.user, &scene.world);
    stage.connect().await;
    let conversation = stage.is_written_to().await;
    let url = format!("{}/control/whatsapp/failures", world.sandbox());
    let code = json!({ "code": 131_026 });
    world.http().post(&url, &code).await.expect(200);
    user.send(&conversation, "hello?").await;
    eventually("the failure", Duration::from_secs(10), async || {
        let newest = stage.thread(&conversation).await["messages"][0].clone();
        if newest["status"] == "failed" {
            Ok(())
        } else {
            Err(newest)
        }
    })
    .await;
    let thread = stage.thread(&conversation).await;
    assert_eq!(thread["total"], 2, "its sender was told that it left");
    assert_eq!(thread["messages"][0]["content"], "hello?");
    user.send(&conversation, "again").await.expect(201);
    assert_eq!(
        stage.sent().await.len(),
        2,
        "it is not sent again by itself"
    );
}

/// Somebody is known by number only, and the statuses of what we send them name a user id as well.
#[tokio::test]
async fn whatsapp_receipts_find_whoever_is_known_by_number_only() {
    let scene = Scene::of(&PLATFORMS[3]).await;
    let (stage, user) = (scene.stage(), &scene.user);
    stage.connect().await;
    let phone = stage.played.customer.0;
    stage
        .whatsapp_tells(json!({ "messages": [{ "from": phone, "id": "wamid.old",
            "timestamp": "1791208800", "type": "text", "text": { "body": "old shape" } }] }))
        .await;
    let found = user.conversation(1).await;
    let conversation = found["id"].as_str().expect("an id");
    user.send(conversation, "Yes").await.expect(201);
    eventually("the receipt", Duration::from_secs(10), async || {
        let newest = stage.thread(conversation).await["messages"][0].clone();
        if newest["isRead"] == json!(true) {
            Ok(())
        } else {
            Err(newest)
        }
    })
    .await;
    // What has no reference of ours is known by the message it is about: they have a user id by now,
    // and take back what they wrote under their number.
    let both = json!({ "from": phone, "from_user_id": "DE.4Kq9Zr71Lm20Xc83Vb", "id": "wamid.new",
        "timestamp": "1791208900", "type": "revoke",
        "revoke": { "original_message_id": "wamid.old" } });
    stage.whatsapp_tells(json!({ "messages": [both] })).await;
    eventually("the deletion", Duration::from_secs(10), async || {
        let oldest = stage.thread(conversation).await["messages"][1].clone();
        if oldest["content"] == json!("old shape") {
            Err(oldest)
        } else {
            Ok(())
        }
    })
    .await;
    let all = user.get("/api/conversations").await;
    assert_eq!(all.body["total"], 1, "{}", all.raw);
}

/// Instagram does not promise our reference in an echo: then its id tells whose it is.
#[tokio::test]
async fn an_echo_without_a_reference_makes_no_second_message() {
    let scene = Scene::of(&PLATFORMS[1]).await;
    let (stage, world) = (scene.stage(), &scene.world);
    stage.connect().await;
    let conversation = stage.is_written_to().await;
    let url = format!("{}/control/instagram", world.sandbox());
    let quiet = json!({ "metadata": false });
    world.http().put(&url, &quiet).await.expect(200);
    stage.answers(&conversation).await;
}

async fn story(played: &'static Played) {
    let scene = Scene::of(played).await;
    let stage = scene.stage();
    stage.connect().await;
    let conversation = stage.is_written_to().await;
    stage.answers(&conversation).await;
    stage.is_refused(&conversation).await;
    stage.waits(&conversation).await;
    stage.loses_an_answer(&conversation).await;
    let texts: Vec<_> = stage
        .sent()
        .await
        .iter()
        .map(|it| it["text"].clone())
        .collect();
    assert_eq!(
        texts,
        ["Yes, three left.", "patience", "did it arrive?", "and on"]
    );
}

impl Stage<'_> {
    async fn connect(&self) {
        let Played { name, account, .. } = self.played;
        let (username, shown) = self.played.username;
        let offer = json!({ "platform": name, "id": account, "name": username });
        self.world.control("accounts", &offer).await;
        self.world.connect(self.user, name).await;
        let accounts = self.user.get("/api/oauth/accounts").await;
        let connected = &accounts.body["accounts"][0];
        assert_eq!(connected["platform"], json!(name));
        assert_eq!(connected["platformUserId"], json!(account));
        assert_eq!(connected["platformUsername"], json!(shown));
    }

    async fn writes(&self, text: &str) {
        let Played { name, account, .. } = self.played;
        let (id, called) = self.played.customer;
        let body = json!({ "platform": name, "account": account,
            "from": { "id": id, "name": called }, "text": text });
        let answer = self.world.control("incoming", &body).await;
        assert_eq!(answer["status"], 200, "{answer}");
    }

    /// Returns the conversation.
    async fn is_written_to(&self) -> String {
        let text = "1 < 2 & \"Grüße\" ☕";
        let doubled = json!({ "platform": self.played.name, "op": "webhook",
            "mode": "duplicate", "times": 1 });
        self.world.fault(doubled).await;
        self.writes(text).await;
        let (id, called) = self.played.customer;
        let found = self.user.conversation(1).await;
        assert_eq!(found["platform"], json!(self.played.name));
        assert_eq!(found["participantId"], json!(id));
        let conversation = found["id"].as_str().expect("an id").to_owned();
        // Where messages do not carry the name it is asked for.
        eventually("the name", Duration::from_secs(10), async || {
            let found = self.user.conversation(1).await;
            if found["participantName"] == json!(called) {
                Ok(())
            } else {
                Err(found)
            }
        })
        .await;
        let thread = self.thread(&conversation).await;
        assert_eq!(thread["total"], 1, "told twice and stored once");
        assert_eq!(thread["messages"][0]["content"], json!(text));
        conversation
    }

    async fn thread(&self, conversation: &str) -> Value {
        let answer = self
            .user
            .get(&format!("/api/messages/{conversation}"))
            .await;
        answer.expect(200);
        answer.body
    }

    async fn sent(&self) -> Vec<Value> {
        let Played { name, account, .. } = self.played;
        let path = format!("/control/sent?platform={name}&account={account}");
        let url = format!("{}{path}", self.world.sandbox());
        let answer = self.world.http().get(&url).await;
        answer.expect(200);
        answer.body["messages"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    async fn answers(&self, conversation: &str) {
        let sent = self.user.send(conversation, "Yes, three left.").await;
        sent.expect(201);
        let there = self.sent().await;
        assert_eq!(there.len(), 1, "{there:?}");
        let id = sent.text("/message/platformMessageId");
        assert_eq!(there[0]["platformMessageId"], json!(id));
        assert_eq!(there[0]["to"], json!(self.played.customer.0));
        eventually("the receipt", Duration::from_secs(10), async || {
            let newest = self.thread(conversation).await["messages"][0].clone();
            let read = !self.played.is_read || newest["isRead"] == json!(true);
            if read && newest["deliveredAt"].is_string() {
                Ok(())
            } else {
                Err(newest)
            }
        })
        .await;
        let total = &self.thread(conversation).await["total"];
        assert_eq!(
            total, 2,
            "whatever the platform tells of it, it is one message"
        );
    }

    /// A webhook in WhatsApp's own words, about the account of the stage.
    async fn whatsapp_tells(&self, more: Value) {
        let Played {
            account, customer, ..
        } = self.played;
        let mut value = json!({ "messaging_product": "whatsapp",
            "metadata": { "display_phone_number": "49", "phone_number_id": account },
            "contacts": [{ "profile": { "name": customer.1 }, "wa_id": customer.0 }] });
        for (key, part) in more.as_object().into_iter().flatten() {
            value[key] = part.clone();
        }
        let body = json!({ "object": "whatsapp_business_account", "entry": [{ "id": "1",
            "changes": [{ "field": "messages", "value": value }] }] });
        let raw = body.to_string();
        let secret = "7c4a8d09ca3762af61e59520943dc264";
        let signature = hub_domain::signature::meta_sign(secret, raw.as_bytes());
        let url = format!("{}/api/webhooks/whatsapp", self.world.base());
        let taken = reqwest::Client::new()
            .post(&url)
            .header("x-hub-signature-256", signature)
            .body(raw)
            .send()
            .await
            .expect("an answer");
        assert_eq!(taken.status().as_u16(), 200);
    }

    async fn fault(&self, fault: Value) {
        let mut fault = fault;
        fault["platform"] = self.played.name.into();
        fault["op"] = "send".into();
        self.world.fault(fault).await;
    }

    async fn is_refused(&self, conversation: &str) {
        let status = self.played.outside_window;
        self.fault(json!({ "mode": "status", "status": status, "times": 1 }))
            .await;
        let refused = self.user.send(conversation, "too late").await;
        refused.refuses(422, "PLATFORM_API_ERROR");
        let details = &refused.body["error"]["details"];
        assert_eq!(details["class"], "outside_window", "{}", refused.raw);
        let long = "x".repeat(self.played.text_max + 1);
        let refused = self.user.send(conversation, &long).await;
        assert!((400..=422).contains(&refused.status), "{}", refused.raw);
    }

    async fn waits(&self, conversation: &str) {
        self.fault(json!({ "mode": "status", "status": 429, "retryAfter": 2, "times": 1 }))
            .await;
        let asked = Instant::now();
        self.user.send(conversation, "patience").await.expect(201);
        eventually("the send", Duration::from_secs(40), async || {
            match self.sent().await.len() {
                2 => Ok(()),
                other => Err(other),
            }
        })
        .await;
        assert!(
            asked.elapsed() >= Duration::from_secs(2),
            "{:?}",
            asked.elapsed()
        );
    }

    async fn loses_an_answer(&self, conversation: &str) {
        self.fault(json!({ "mode": "accept_no_reply", "times": 1 }))
            .await;
        self.user
            .send(conversation, "did it arrive?")
            .await
            .expect(201);
        eventually("the platform's word", Duration::from_secs(15), async || {
            let newest = self.thread(conversation).await["messages"][0].clone();
            if newest["platformMessageId"].is_string() {
                Ok(())
            } else {
                Err(newest)
            }
        })
        .await;
        self.user.send(conversation, "and on").await.expect(201);
        assert_eq!(self.thread(conversation).await["total"], 5);
    }
}
