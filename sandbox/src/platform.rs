//! The seam between the sandbox and the platforms it plays.
//!
//! A [`Player`] owns everything about its platform: paths, tokens, errors, webhook bodies, its own
//! extra controls. The rest of the crate knows players only by this trait.

pub(crate) mod facebook;
mod graph;
mod instagram;
pub(crate) mod linkedin;
mod sealed;
pub(crate) mod teams;
pub(crate) mod telegram;
pub(crate) mod telegram_user;
pub(crate) mod twitter;
mod whatsapp;

use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use futures::future::BoxFuture;

use crate::Options;
use crate::call::Call;
use crate::deliver::Webhook;
use crate::world::World;

/// A customer's message, before the platform has made a webhook of it.
#[derive(Clone, Debug)]
pub(crate) struct Incoming {
    /// The account written to; players fall back to their [`Player::home`].
    pub(crate) account: Option<String>,
    pub(crate) from_id: String,
    pub(crate) from_name: String,
    /// May be empty when something is attached.
    pub(crate) text: String,
    /// A picture comes with it.
    pub(crate) picture: bool,
    pub(crate) media: Option<Attached>,
}

/// What a customer attached to a message.
#[derive(Clone, Debug)]
pub(crate) struct Attached {
    /// `image`, `video`, `audio` or `file`.
    pub(crate) kind: String,
    /// Its name on the shelf.
    pub(crate) name: String,
    /// Where it is, on platforms that say so.
    pub(crate) url: String,
}

/// What the platform made of a customer's message.
pub(crate) struct Written {
    pub(crate) message_id: String,
    /// `None` when the hub has to come and fetch it.
    pub(crate) webhook: Option<Webhook>,
}

/// A platform's side of the wire.
pub(crate) trait Player: Send + Sync {
    /// The platform's name in the hub's words.
    fn name(&self) -> &'static str;

    /// The account that is meant when nobody names one.
    fn home(&self) -> String;

    /// The account that somebody who names this one means.
    fn account_named(&self, name: &str) -> String {
        name.to_owned()
    }

    /// The account that scripted customers write to.
    fn shop(&self) -> String {
        self.home()
    }

    /// Whether a request is meant for this platform. The first player that says yes answers.
    fn claims(&self, call: &Call) -> bool;

    /// The path as it may be noted: without secrets.
    fn loggable(&self, path: &str) -> String {
        path.to_owned()
    }

    /// Answers a request.
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Response>;

    /// A customer writes. The error says what is wrong with the message.
    fn write(&self, incoming: &Incoming) -> Result<Written, String>;

    /// Who has agreed to Meta's app, on Meta's platforms.
    fn login(&self) -> Option<&graph::Login> {
        None
    }

    /// The next person who connects grants this account instead of the default one.
    fn offer(&self, id: &str, name: &str) -> Result<(), String> {
        let login = self.login();
        let login = login.ok_or("accounts of this platform cannot be chosen")?;
        login.offer(id, name);
        Ok(())
    }

    /// Every token of this account expires.
    fn expire(&self, account: &str) -> Result<(), String> {
        let login = self.login();
        let login = login.ok_or("tokens of this platform do not expire")?;
        login.expire(account);
        Ok(())
    }

    /// Control routes of this platform alone.
    fn controls(self: Arc<Self>) -> Router {
        Router::new()
    }

    /// Forgets what was exchanged, keeps what was configured.
    fn reset(&self) {}
}

/// Everybody who plays.
pub(crate) fn players(world: &Arc<World>, options: &Options) -> Vec<Arc<dyn Player>> {
    vec![
        Arc::new(telegram::Bot::new(world, options)),
        // Before Meta's, who take every path with a version.
        Arc::new(teams::Graph::new(world, options)),
        Arc::new(instagram::Direct::new(world, options)),
        Arc::new(whatsapp::Cloud::new(world, options)),
        // Takes every Graph call that names no other product.
        Arc::new(facebook::Messenger::new(world, options)),
        Arc::new(twitter::X::new(world, options)),
        Arc::new(linkedin::Site::new(world, options)),
        Arc::new(telegram_user::Users::new(world)),
    ]
}
