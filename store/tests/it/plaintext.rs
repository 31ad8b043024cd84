//! Nothing personal or secret is in the database in the clear.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use hub_domain::command::{Command, NewCommand};
use hub_domain::envelope::Meta;
use hub_domain::event::{MessageQueued, MessageReceived, MessageType, Sealed};
use hub_domain::id::{MessageId, SessionId, login_stream};
use hub_domain::platform::{Connected, Platform};
use hub_domain::secret::Secret;
use hub_store::PgPool;
use hub_store::account::Owner;
use hub_store::oauth::Begun;
use hub_store::project::{Projection, step};
use hub_store::session::{NewToken, Pair};
use uuid::Uuid;

use crate::facts::{Chat, user};
use crate::world::World;

const EMAIL: &str = "ada.lovelace@example.org";
const NAME: &str = "Ada Plainname";
const TEXT: &str = "the meeting is at noon behind the mill";
const SENT: &str = "the answer nobody else may read";
const MEDIA: &str = "holiday-photograph-4711.jpg";
const BODY: &str = "raw webhook body with a secret inside";
const ACCESS: &str = "access-token-aaaaaaaaaaaaaaaa";
const REFRESH: &str = "refresh-token-rrrrrrrrrrrrrrrr";
const SUCCESSOR: &str = "successor-token-ssssssssssssss";
const VERIFIER: &str = "pkce-verifier-vvvvvvvvvvvvvvvv";
const STATE: &str = "oauth-state-ooooooooooooooooooo";

const ALL: [&str; 11] = [
    EMAIL, NAME, TEXT, SENT, MEDIA, BODY, ACCESS, REFRESH, SUCCESSOR, VERIFIER, STATE,
];

/// Columns in which this text stands, as it is or in base64.
async fn columns_with(pool: &PgPool, text: &str) -> Vec<String> {
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT format('%I.%I', table_schema, table_name), format('%I', column_name) \
         FROM information_schema.columns JOIN information_schema.tables \
             USING (table_schema, table_name) \
         WHERE table_schema IN ('public', 'read') AND table_type = 'BASE TABLE' \
         AND data_type IN ('text', 'character varying', 'json', 'jsonb', 'bytea')",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(columns.len() > 40, "the catalogue lists only {columns:?}");
    let mut found = Vec::new();
    for (table, column) in columns {
        // bytea casts to hexadecimal; look there as well.
        let statement = format!("SELECT count(*) FROM {table} WHERE {column}::text LIKE ANY ($1)");
        let hexadecimal: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        let encoded = STANDARD.encode(text);
        // The ends of an encoding depend on what stands around.
        let middle = &encoded[4..encoded.len() - 4];
        let patterns: Vec<String> = [text, &hexadecimal, middle]
            .into_iter()
            .map(|it| format!("%{it}%"))
            .collect();
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
            .bind(patterns)
            .fetch_one(pool)
            .await
            .unwrap();
        if count > 0 {
            found.push(format!("{table}.{column}"));
        }
    }
    found
}

#[tokio::test]
async fn no_column_holds_a_text_a_name_an_address_or_a_token_in_the_clear() {
    let world = World::new().await;
    let store = &world.store;
    let owner = user(5);
    let shard = store.sharding().of_user(owner);
    let key = store.vault().user(owner).await.unwrap();
    let meta = Meta::default;

    store
        .register(login_stream(EMAIL), owner, EMAIL, "$2b$hash", meta())
        .await
        .unwrap();
    let token = |n| NewToken {
        hash: [n; 32],
        expires_at: Utc::now() + chrono::Duration::days(1),
    };
    let session = SessionId(Uuid::from_u128(1));
    store
        .start_session(owner, session, &token(1), meta())
        .await
        .unwrap();
    let zero = std::time::Duration::ZERO;
    let make = |_| {
        let pair = Pair {
            access: ACCESS.to_owned(),
            refresh: SUCCESSOR.to_owned(),
        };
        (pair, token(2))
    };
    store
        .exchange_refresh_token(owner, [1; 32], zero, zero, make)
        .await
        .unwrap();
    let begun = Begun {
        user: owner,
        platform: Platform::Twitter,
        verifier: Some(VERIFIER.to_owned()),
    };
    store.put_oauth_state(STATE, &begun).await.unwrap();

    let chat = Chat::new(owner, "a-thread-in-the-clear");
    let connected = Connected {
        platform_user_id: "7100".to_owned(),
        username: NAME.to_owned(),
        route: "7100".to_owned(),
        access_token: Secret::new(ACCESS),
        refresh_token: Some(Secret::new(REFRESH)),
        expires_in_s: None,
        granted: None,
    };
    let account = Owner {
        user: owner,
        account: chat.at.account,
    };
    store
        .put_account_tokens(account, &connected, None)
        .await
        .unwrap();
    let (at, routes) = (Utc::now(), vec!["7100".to_owned()]);
    let body = store
        .vault()
        .seal_raw(Platform::Telegram, &routes, at, BODY);
    let command = NewCommand {
        shard,
        command: Command::Webhook {
            platform: Platform::Telegram,
            body: body.await.unwrap(),
            sealed_at: at,
            routes,
        },
        request: None,
    };
    store.accept(command).await.unwrap();
    let mut message = chat.message("m1", 1);
    message.text = key.seal(TEXT);
    message.sender_name = Some(key.seal(NAME));
    message.thread_name = Some(key.seal(NAME));
    message.media = Some(key.seal(MEDIA));
    message.detail = Some(key.seal(MEDIA));
    let queued = MessageQueued {
        at: chat.at.clone(),
        message: MessageId(Uuid::from_u128(9)),
        message_type: MessageType::Text,
        text: key.seal(SENT),
        attached: None,
    };
    store
        .append(chat.append(shard, MessageReceived(message)))
        .await
        .unwrap();
    store.append(chat.append(shard, queued)).await.unwrap();
    while step(world.pool(), Projection::Inbox, 1, shard)
        .await
        .unwrap()
        > 0
    {}

    // The search finds what is there: a thread's id is no secret.
    let thread = columns_with(world.pool(), &chat.at.thread).await;
    for column in ["public.events.payload", "read.conversations.thread"] {
        assert!(thread.iter().any(|it| it == column), "{thread:?}");
    }
    for text in ALL {
        let found = columns_with(world.pool(), text).await;
        assert!(found.is_empty(), "{text:?} stands in {found:?}");
    }
    // And it can be read with the key, from the read model.
    let body: String = sqlx::query_scalar("SELECT body FROM read.messages WHERE NOT outgoing")
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(key.open(&Sealed(body)).unwrap(), TEXT);
}

#[tokio::test]
async fn what_is_sealed_opens_in_another_process_until_the_key_is_deleted() {
    let world = World::new().await;
    let sealed = world.store.vault().user(user(5)).await.unwrap().seal(TEXT);
    let other = world.another_store().await;
    let key = other.vault().user(user(5)).await.unwrap();
    assert_eq!(key.open(&sealed).unwrap(), TEXT);
    let stranger = other.vault().user(user(6)).await.unwrap();
    assert!(stranger.open(&sealed).is_err());
    sqlx::query("DELETE FROM data_keys")
        .execute(world.pool())
        .await
        .unwrap();
    let later = world.another_store().await;
    let key = later.vault().user(user(5)).await.unwrap();
    assert!(key.open(&sealed).is_err(), "erased, yet readable");
}
