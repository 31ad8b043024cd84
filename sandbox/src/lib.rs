//! The platforms, played: a real HTTP server that speaks the other side of the wire.
//!
//! The hub runs the same adapter code against this server and against the real platforms; only the
//! base URLs differ. So the sandbox promises to be a *peer*, not a mock: it checks tokens, proofs
//! and parameters the way the platform does, signs its webhooks over the exact bytes it sends, and
//! shares no line with the hub's adapters. An error that both sides would make together stays
//! visible.
//!
//! Map, in reading order:
//! - [`Sandbox`] (`serve.rs`): the handle, its router, its accept loop
//! - `world.rs`: what every player shares; `ledger.rs`: what was sent and asked
//! - `platform.rs`: the `Player` seam; `platform/<name>.rs`: one player each
//! - `call.rs`: a request as a player sees it, and how to leave one unanswered
//! - `faults.rs`: the switches; `control.rs`: the routes that tests and people turn them with
//! - `deliver.rs`: webhooks to the hub, with a platform's retries
//! - `customers.rs`: the scripted people who write in the demo
//!
//! Adding a platform is one file in `platform/` and one line in `platform::players`.
//!
//! What it refuses to do: keep anything on disk. Tokens are derived, not remembered, and ids start
//! at the clock, so the sandbox may restart under a hub that does remember.

mod call;
mod control;
mod customers;
mod deliver;
mod faults;
mod ledger;
mod platform;
mod random;
mod serve;
mod shelf;
mod sign;
mod upload;
mod world;

pub use serve::{Sandbox, serve};

/// Pages and accounts that scripted customers write to; Teams has one account for all.
pub(crate) const DEMO_FACEBOOK_PAGE: &str = "104857600998877";
pub(crate) const DEMO_INSTAGRAM_ACCOUNT: &str = "17841478800998877";
pub(crate) const DEMO_WHATSAPP_NUMBER: &str = "205612348998877";
pub(crate) const DEMO_TWITTER_USER: &str = "1700000000000000901";
pub(crate) const DEMO_LINKEDIN_MEMBER: &str = "HubDem0_Own3r";

/// What chooses the account that scripted customers write to, as a parameter of a platform's dialog;
/// `None` where there is nothing to choose.
pub fn demo_choice(platform: &str) -> Option<String> {
    match platform {
        "facebook" => Some(format!("page={DEMO_FACEBOOK_PAGE}")),
        "instagram" => Some(format!("page={DEMO_INSTAGRAM_ACCOUNT}")),
        "whatsapp" => Some(format!("page={DEMO_WHATSAPP_NUMBER}")),
        "twitter" => Some(format!("account={DEMO_TWITTER_USER}")),
        "linkedin" => Some(format!("account={DEMO_LINKEDIN_MEMBER}")),
        _ => None,
    }
}

/// The hub's registration with X.
#[derive(Clone, Default)]
pub struct TwitterApp {
    /// OAuth 2.0 client id.
    pub client_id: String,
    /// OAuth 2.0 client secret.
    pub client_secret: String,
    /// Signs challenges and webhooks.
    pub consumer_secret: String,
    /// The app-only token that manages webhooks.
    pub bearer_token: String,
    /// The app's number, which echoes of its messages carry.
    pub app_id: String,
}

/// The hub's registration with LinkedIn.
#[derive(Clone, Default)]
pub struct LinkedinApp {
    /// OAuth client id.
    pub client_id: String,
    /// OAuth client secret; signs webhooks.
    pub client_secret: String,
    /// The app's number, which challenges carry.
    pub application_id: String,
}

/// The person that scripted customers of Teams write to. Whoever wants to hear them signs in as
/// this one, named in the dialog's URL (`&login_hint=`).
pub const DEMO_TEAMS_PERSON: &str = "d0d0d0d0-0000-4000-8000-00000000de30";

/// The installation the platforms know: what the hub is configured with on its side.
#[derive(Clone, Default)]
pub struct Options {
    /// Where webhooks go, without the path: `http://127.0.0.1:8000`. Can be changed later.
    pub hub_webhook_base: String,
    /// The Meta app's id.
    pub facebook_app_id: String,
    /// The Meta app's secret; signs webhooks and tokens.
    pub facebook_app_secret: String,
    /// The Instagram app's id.
    pub instagram_app_id: String,
    /// Its secret; signs webhooks and tokens of Instagram.
    pub instagram_app_secret: String,
    /// The id of the app that WhatsApp is used with.
    pub whatsapp_app_id: String,
    /// Its secret; signs webhooks and tokens of WhatsApp.
    pub whatsapp_app_secret: String,
    /// The bot's token, `<bot id>:<secret>`.
    pub telegram_bot_token: String,
    /// The bot's user name without `@`.
    pub telegram_bot_username: String,
    /// The secret header of Telegram's webhooks until `setWebhook` names another.
    pub telegram_webhook_secret: String,
    /// The app on X.
    pub twitter: TwitterApp,
    /// The app on LinkedIn.
    pub linkedin: LinkedinApp,
    /// The Microsoft app's client id.
    pub teams_client_id: String,
    /// The Microsoft app's secret; signs tokens.
    pub teams_client_secret: String,
    /// Whether scripted customers write now and then.
    pub customers: bool,
}

impl std::fmt::Debug for Options {
    /// Leaves every secret out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("hub_webhook_base", &self.hub_webhook_base)
            .field("facebook_app_id", &self.facebook_app_id)
            .field("instagram_app_id", &self.instagram_app_id)
            .field("whatsapp_app_id", &self.whatsapp_app_id)
            .field("telegram_bot_username", &self.telegram_bot_username)
            .field("customers", &self.customers)
            .finish_non_exhaustive()
    }
}
