//! The computed vectors of the platform documents and of the contract.

use hub_domain::platform::{Platform, Refused, TextUnit, adapter};
use hub_domain::secret::Secret;
use hub_domain::{signature, text};
use serde_json::Value;

use crate::{app, fixture};

const META_SECRET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

const META_BODY: &str = r#"{"object":"page","entry":[{"id":"104857600112233","time":1791201600900,"messaging":[{"sender":{"id":"7214365098123401"},"recipient":{"id":"104857600112233"},"timestamp":1791201600005,"message":{"mid":"m_vector_1","text":"Gr\u00fc\u00dfe \u2615 https:\/\/shop.example\/a"}}]}]}"#;

const META_SIGNATURE: &str =
    "sha256=6315dca9341631e3fe733aade2e6ff5e9cbd5668019dc70428cfcfab1c0a2549";

const SIGNED_REQUEST: &str = "QD2OH1rTBdGSubbQc3f4LHKiMNQdeoJm-mpj-UYvwiU.eyJ1c2VyX2lkIjoiMTAxNTgwMDAwMDAwMDAwMDEiLCJhbGdvcml0aG0iOiJITUFDLVNIQTI1NiIsImlzc3VlZF9hdCI6MTc5MTIwMTYwMCwiZXhwaXJlcyI6MTc5MTIwNTIwMH0";

fn none() -> Secret {
    Secret::default()
}

#[test]
fn meta_signatures() {
    let body = META_BODY.as_bytes();
    assert_eq!(body.len(), 276);
    assert_eq!(signature::meta_sign(META_SECRET, body), META_SIGNATURE);
    let empty = "sha256=c5d1779acf3d4f9b5a53cf4e030fdcb3ff701f1f2915fc6216211d2139b5b299";
    assert_eq!(signature::meta_sign(META_SECRET, b""), empty);
    assert_eq!(
        signature::appsecret_proof(META_SECRET, "EAAGm0PX4ZCpsBAexamplePageToken"),
        "f016abe7c11da2fda2f42d3cd3e59dca724ebb7328662aad0be4ff3f3272b5df"
    );
}

/// Instagram's and WhatsApp's own vectors, in the order of their documents: the body, its size, its
/// signature, that of the same JSON serialised again, that of nothing, a token with its proof, a
/// signed request and whom it names.
const SIBLINGS: [[&str; 10]; 2] = [
    [
        "a1b2c3d4e5f60718293a4b5c6d7e8f90",
        r#"{"object":"instagram","entry":[{"time":1791205200700,"id":"17841478800123456","messaging":[{"sender":{"id":"1284736450912837"},"recipient":{"id":"17841478800123456"},"timestamp":1791205200000,"message":{"mid":"aWdfVECTOR1","text":"Z\u00fcrich? \u2728"}}]}]}"#,
        "257",
        "sha256=3893fb97dfeaff3d253fdcf68f5c1648a77605b89be4160125226f6ed4f4ab71",
        "sha256=c0c3fe934a26a241d6c9644fee4c8d1d4038d17a60a6bcc875bbb4d155bdfc17",
        "sha256=1fe95ce19907e21ce98abb3d7a0e4ca2c94dd9b673cf34aac7c71bceb3d88dcc",
        "IGAAexampleUserToken",
        "dd3f1292371ec5fc85401b0790e18318fcb33043af94edd68f09bfb0fd0ef7d1",
        "KbbWeHspaZU6uAXNWLr2pvcJKwMp3Px9Xvx_mSXoe48.eyJ1c2VyX2lkIjoiMjYyNjMwMDAwMDAwMDAwMDEiLCJhbGdvcml0aG0iOiJITUFDLVNIQTI1NiIsImlzc3VlZF9hdCI6MTc5MTIwMTYwMCwiZXhwaXJlcyI6MTc5MTIwNTIwMH0",
        "26263000000000001",
    ],
    [
        "7c4a8d09ca3762af61e59520943dc264",
        r#"{"object":"whatsapp_business_account","entry":[{"id":"102930475610293","changes":[{"value":{"messaging_product":"whatsapp","metadata":{"display_phone_number":"4930555550123","phone_number_id":"205612348765432"},"contacts":[{"profile":{"name":"Mira Q"},"wa_id":"491701234567","user_id":"DE.4Kq9Zr71Lm20Xc83Vb"}],"messages":[{"from":"491701234567","from_user_id":"DE.4Kq9Zr71Lm20Xc83Vb","id":"wamid.VECTOR1","timestamp":"1791208800","text":{"body":"Gr\u00fc\u00dfe \ud83d\udc4b"},"type":"text"}]},"field":"messages"}]}]}"#,
        "518",
        "sha256=a6f1ae5e96c6dafe7d7c6c2e0dbcbb029a0ebe29b39094314911dbdacbf4300a",
        "sha256=83c5b14407524dbe6def81b48f042dd7c7c2c45d4904cd6d9fe840ee8c569fc6",
        "sha256=61d437b85edd4b0ead9216ce12a00aca6a6d5d36b019b9704bef670defb6b6d1",
        "EAAJBexampleBusinessToken",
        "8af7163bdb7872f8af10e54f68253c90c78b247fb9306e8778659c6f6f1c6334",
        "CNK7FNbfxFwEbAG4pVSvYO-4wakl3-5267uuy-i9tF0.eyJ1c2VyX2lkIjoiMTAxNTgwMDAwMDAwMDAwMDEiLCJhbGdvcml0aG0iOiJITUFDLVNIQTI1NiIsImlzc3VlZF9hdCI6MTc5MTIwMTYwMCwiZXhwaXJlcyI6MTc5MTIwNTIwMH0",
        "10158000000000001",
    ],
];

#[test]
fn meta_vectors_of_instagram_and_whatsapp() {
    for vector in SIBLINGS {
        let [
            secret,
            body,
            size,
            signed,
            again,
            nothing,
            token,
            proof,
            request,
            user,
        ] = vector;
        let body = body.as_bytes();
        assert_eq!(body.len().to_string(), size);
        assert_eq!(signature::meta_sign(secret, body), signed);
        assert_eq!(signature::meta_sign(secret, b""), nothing);
        let accepted = |header: &str, body: &[u8]| {
            signature::meta(Some(header), body, &secret.into(), &none())
        };
        assert!(accepted(signed, body));
        assert!(!accepted(again, body));
        assert!(!accepted(signed, &[body, b"\n"].concat()));
        assert_eq!(signature::appsecret_proof(secret, token), proof);
        let request = signature::signed_request(request, &secret.into(), &none()).unwrap();
        assert_eq!(request.user_id, user);
    }
}

#[test]
fn meta_negative_cases() {
    let accepted = |header: &str, body: &str| {
        signature::meta(Some(header), body.as_bytes(), &META_SECRET.into(), &none())
    };
    assert!(accepted(META_SIGNATURE, META_BODY));
    let reserialised = "sha256=331868ad97c9d1739276bf9e16e3c77c4c91feb07970c44d8a58a2423a58be23";
    let digest = META_SIGNATURE.strip_prefix("sha256=").unwrap();
    let last_digit_changed = format!("{}8", &META_SIGNATURE[..70]);
    for wrong in [
        reserialised,
        &last_digit_changed,
        &format!("SHA256={digest}"),
        digest,
        &format!("sha256={}", digest.to_uppercase()),
        "sha1=c5753d82e6ecf8730d1120761909f4fdf263e39d",
    ] {
        assert!(!accepted(wrong, META_BODY), "{wrong}");
    }
    assert!(!accepted(META_SIGNATURE, &format!("{META_BODY}\n")));
    // The legacy header is never a way in.
    let legacy = [(
        "x-hub-signature".to_owned(),
        "sha1=c5753d82e6ecf8730d1120761909f4fdf263e39d".to_owned(),
    )];
    let messenger = adapter(Platform::Facebook).unwrap();
    let refused = messenger.verify(&app(), &legacy, META_BODY.as_bytes());
    assert_eq!(refused, Err(Refused::Signature));
    // An empty body is unreadable, not forged.
    let header = signature::meta_sign(META_SECRET, b"");
    let signed = [("x-hub-signature-256".to_owned(), header)];
    assert_eq!(messenger.verify(&app(), &signed, b""), Ok(()));
    assert!(messenger.translate(&app(), None, b"").is_err());
}

#[test]
fn meta_signatures_of_the_contract() {
    let secret = Secret::new("fb-secret");
    for (header, body) in [
        (
            "sha256=f7dada6053235c779ed04a7a6fc13238bd68d7a3a196601307149ae9cf78a246",
            r#"{"object":"page","entry":[{"id":"PAGE1","time":1700000000000,"messaging":[{"sender":{"id":"PSID9"},"recipient":{"id":"PAGE1"},"timestamp":1700000000000,"message":{"mid":"m_1","text":"Tom & Jerry <b>hi</b>"}}]}]}"#,
        ),
        (
            "sha256=b164d8621bce92bf3f4c89b683127f3dd8b20c01956096e88e970da377c14dcf",
            r#"{"object":"instagram","entry":[{"id":"IG1","time":1700000000000,"messaging":[{"sender":{"id":"IGSID5"},"recipient":{"id":"IG1"},"timestamp":1700000000000,"message":{"mid":"ig_1","attachments":[{"type":"image","payload":{"url":"https://cdn.example/p.jpg"}}]}}]}]}"#,
        ),
        (
            "sha256=15d38f869d291e4f4392ac73ad283ce2270331b7fcf74d0dc4a134d9b51c2940",
            r#"{"object":"whatsapp_business_account","entry":[{"id":"WABA1","changes":[{"field":"messages","value":{"messaging_product":"whatsapp","metadata":{"display_phone_number":"15550001111","phone_number_id":"PNID1"},"contacts":[{"profile":{"name":"Bob"},"wa_id":"15557654321"}],"messages":[{"from":"15557654321","id":"wamid.1","timestamp":"1700000000","type":"text","text":{"body":"hello"}}]}}]}]}"#,
        ),
    ] {
        assert!(signature::meta(
            Some(header),
            body.as_bytes(),
            &secret,
            &none()
        ));
    }
    let twitter = r#"{"for_user_id":"200","direct_message_events":[{"type":"message_create","id":"dm1","created_timestamp":"1700000000000","message_create":{"target":{"recipient_id":"200"},"sender_id":"100","message_data":{"text":"hello"}}}],"users":{"100":{"id":"100","screen_name":"bob"}}}"#;
    let given = "HeEATEOOlvukZLWOO1UWl6nmSxKTvBsM98ORSZ2a5nE=";
    assert!(signature::base64_matches(
        &"tw-secret".into(),
        twitter.as_bytes(),
        given
    ));
    let linkedin = r#"{"eventType":"MESSAGE_EVENT","data":{"conversationId":"c9","messageId":"lm1","from":"urn:li:person:b","recipient":"urn:li:person:a","text":"hello","createdAt":1700000000000}}"#;
    let given = "a096a594bd2b205f813a8c2ef314e4d6e860b0f0727a2e3246b74dabaa03868c";
    assert!(signature::hex_matches(
        &"li-secret".into(),
        linkedin.as_bytes(),
        given
    ));
}

#[test]
fn signed_request() {
    let secret = Secret::new(META_SECRET);
    let request = signature::signed_request(SIGNED_REQUEST, &secret, &none()).unwrap();
    assert_eq!(request.user_id, "10158000000000001");
    assert_eq!(request.algorithm, "HMAC-SHA256");
    assert_eq!(
        (request.issued_at, request.expires),
        (1_791_201_600, Some(1_791_205_200))
    );
    for odd in [
        format!("{SIGNED_REQUEST}=="),
        SIGNED_REQUEST.replace('.', ""),
        SIGNED_REQUEST.replacen('Q', "R", 1),
        String::new(),
    ] {
        assert!(signature::signed_request(&odd, &secret, &none()).is_err());
    }
    assert!(signature::signed_request(SIGNED_REQUEST, &"other".into(), &none()).is_err());
}

fn vectors() -> Value {
    serde_json::from_slice(&fixture("vectors/telegram.json")).unwrap()
}

fn fields(of: &Value) -> Vec<(String, String)> {
    let object = of.as_object().unwrap();
    object
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn login_widget() {
    let vectors = vectors();
    let cases = vectors["login_widget"].as_array().unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let token = case["bot_token"].as_str().unwrap();
        let mut given = fields(&case["fields"]);
        let hash = case["hash"].as_str().unwrap();
        if case["data_check_string"].is_string() {
            assert_eq!(
                signature::widget_sign(token, &given),
                hash,
                "{}",
                case["name"]
            );
        }
        given.push(("hash".into(), hash.into()));
        let now_s = case["now"].as_i64().unwrap_or(1_791_205_200);
        let max_age_s = case["max_age_s"].as_i64().unwrap_or(i64::MAX);
        let result = signature::widget(&token.into(), &given, now_s, max_age_s);
        assert_eq!(
            result.is_ok(),
            case["valid"] == true,
            "{}: {result:?}",
            case["name"]
        );
    }
}

#[test]
fn login_widget_by_query_string() {
    let vectors = vectors();
    let query = vectors["callback_query_string"].as_str().unwrap();
    let given: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    let check = |given: &[_]| signature::widget(&app().bot_token, given, 1_791_205_200, 86_400);
    assert_eq!(check(&given), Ok(()));
    let upper = |(name, value): &(String, String)| match name.as_str() {
        "hash" => (name.clone(), value.to_uppercase()),
        _ => (name.clone(), value.clone()),
    };
    assert!(check(&given.iter().map(upper).collect::<Vec<_>>()).is_err());
    assert!(check(&given[..given.len() - 1]).is_err());
    let twice: Vec<_> = given.iter().chain(&given[..1]).cloned().collect();
    assert!(check(&twice).is_err());
}

#[test]
fn mini_app_data_is_no_login() {
    let vectors = vectors();
    let data = vectors["mini_app_init_data"]["init_data"].as_str().unwrap();
    let given: Vec<(String, String)> = url::form_urlencoded::parse(data.as_bytes())
        .into_owned()
        .collect();
    assert!(signature::widget(&app().bot_token, &given, 1_791_205_200, 86_400).is_err());
}

#[test]
fn webhook_secret() {
    let vectors = vectors();
    let vector = &vectors["webhook_secret_token"];
    let secret = Secret::new(vector["configured"].as_str().unwrap());
    let check = |given: &Value| signature::shared_secret(given.as_str(), &secret, &none());
    assert!(vector["accept"].as_array().unwrap().iter().all(check));
    assert!(!vector["reject"].as_array().unwrap().iter().any(check));
    assert!(!signature::shared_secret(None, &secret, &none()));
    assert!(signature::shared_secret(
        Some(secret.expose()),
        &"new".into(),
        &secret
    ));
}

#[test]
fn utf16_offsets() {
    let vectors = vectors();
    for vector in vectors["utf16_offsets"].as_array().unwrap() {
        let number = |name: &str| vector[name].as_u64().unwrap() as usize;
        let of = vector["text"].as_str().unwrap();
        let slice = text::utf16_slice(of, number("offset"), number("length"));
        // The accented letter of one vector is a letter and an accent: nothing is normalised.
        assert_eq!(slice, vector["slice"].as_str(), "{of}");
        assert_eq!(text::length(of, TextUnit::Utf16), of.encode_utf16().count());
    }
}
