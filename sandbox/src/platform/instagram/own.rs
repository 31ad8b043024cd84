//! Instagram's own login: a code, an hour, sixty days, and again.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::Direct;
use crate::call::Call;
use crate::platform::graph::{self, Answer, GraphError, Kind, Token};

/// Seconds a token lives: sixty days, less what the platform took to make it.
pub(super) const TOKEN_S: u64 = 5_183_944;

impl Direct {
    /// A code for a token of an hour. The errors of this host have a shape of their own.
    pub(super) fn short(&self, call: &Call) -> Response {
        let param = |name: &str| call.param(name).unwrap_or_default();
        let refused = |words: &str| {
            let body = json!({"error_type": "OAuthException", "code": 400, "error_message": words});
            graph::reply(StatusCode::BAD_REQUEST, &body)
        };
        let ours = (&self.login.app_id, &self.login.app_secret);
        if (&param("client_id"), &param("client_secret")) != ours {
            return refused("Invalid platform app");
        }
        if param("grant_type") != "authorization_code" {
            return refused("Invalid grant_type: only authorization_code is supported");
        }
        let Ok(agreed) = self.login.redeem(&param("code"), &param("redirect_uri")) else {
            return refused("Matching code was not found or was already used");
        };
        let body = json!({"data": [{
            "access_token": self.login.mint(Kind::Account, &agreed),
            "user_id": app_scoped(&agreed),
            "permissions": "instagram_business_basic,instagram_business_manage_messages",
        }]});
        graph::reply(StatusCode::OK, &body)
    }

    /// A token of an hour for one of sixty days.
    pub(super) fn long(&self, call: &Call) -> Answer {
        let secret = call.param("client_secret").unwrap_or_default();
        let grant = call.param("grant_type").unwrap_or_default();
        if secret != self.login.app_secret || grant != "ig_exchange_token" {
            return Err(GraphError::new(100, "(#100) Invalid parameter"));
        }
        self.hand_out(call)
    }

    /// A token of sixty days for the next one.
    pub(super) fn next(&self, call: &Call) -> Answer {
        if call
            .param("grant_type")
            .is_none_or(|grant| grant != "ig_refresh_token")
        {
            return Err(GraphError::new(100, "(#100) Invalid parameter"));
        }
        self.hand_out(call)
    }

    fn hand_out(&self, call: &Call) -> Answer {
        let given = self.bearer(call)?;
        if given.kind != Kind::Account {
            return Err(GraphError::new(190, "Invalid OAuth access token."));
        }
        let token = self.login.renew(&given);
        let mut state = self.state();
        let seconds = state.token_seconds;
        if seconds != TOKEN_S {
            let end = Instant::now() + Duration::from_secs(seconds);
            state.ends.insert(token.grant.clone(), end);
        }
        let body = json!({
            "access_token": self.login.mint(Kind::Account, &token),
            "token_type": "bearer",
            "expires_in": seconds,
        });
        Ok(graph::ok(&self.login.app_id, &body))
    }

    /// Three numbers for the same business; webhooks carry `user_id`.
    pub(super) fn own_account(&self, token: &Token) -> Value {
        json!({
            "id": app_scoped(token),
            "user_id": token.page,
            "username": self.login.name(&token.page),
            "name": "Northwind",
            "account_type": "BUSINESS",
        })
    }
}

fn app_scoped(token: &Token) -> String {
    format!("26263{}", token.page.get(5..).unwrap_or_default())
}
