//! Calls on behalf of an account: the one place that knows whether one may be made now.
//!
//! Every such call takes from the account's budget, which all workers share (contract 5.3), and
//! none is made while the account is paused because its platform asked for that. Whoever is told
//! to wait comes back then; that is no failed attempt. Renewing tokens and taking leave of a
//! platform are not counted: they must not wait behind ordinary calls.
//!
//! With Redis all processes count together, without it each for itself; when Redis is away calls
//! pass uncounted (`hub_store::limit`). Pauses are in the database and hold in any case.

use std::time::Duration;

use hub_domain::platform::Platform;
use hub_domain::platform::call::CallFailure;
use hub_domain::platform::http::{HttpRequest, HttpResponse, TransportError};
use hub_store::Result;
use hub_store::account::Owner;
use hub_store::limit::Budget;
use hub_store::usage::Call;

use crate::Context;
use crate::jobs::entropy;
use crate::renewal::{Access, Renewal};

/// No pause is longer, whatever a platform says.
const PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Why a call was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNow {
    /// The account's budget is spent.
    BudgetSpent {
        /// There is room after this time.
        retry_after: Duration,
    },
    /// The platform asked the account to wait.
    Paused {
        /// So long.
        retry_after: Duration,
    },
}

impl NotNow {
    /// When to come back: not earlier, and not all at the same time.
    pub fn come_back(self) -> Duration {
        let (Self::BudgetSpent { retry_after } | Self::Paused { retry_after }) = self;
        retry_after
            + retry_after
                .min(Duration::from_secs(2))
                .mul_f64(entropy() / 4.0)
    }

    /// The same as a failure of the call.
    pub fn failure(self) -> CallFailure {
        CallFailure::RetryAfter {
            wait: self.come_back(),
            reason: "the account may make no more calls for now".to_owned(),
        }
    }
}

/// What became of a call.
#[derive(Debug)]
pub enum Called {
    /// It was made.
    Answered(std::result::Result<HttpResponse, TransportError>),
    /// It was not made, and nothing happened.
    NotNow(NotNow),
}

impl Context {
    /// Tokens to call with, renewed if need be. `None` when there is no adapter for the platform.
    pub fn renewal(&self, platform: Platform, owner: Owner, route: &str) -> Option<Renewal> {
        let (adapter, app) = self.platform(platform)?;
        Some(Renewal {
            context: self.clone(),
            adapter,
            app: app.clone(),
            owner,
            route: route.to_owned(),
        })
    }

    /// [`Renewal::access`] of an account.
    pub async fn access(&self, platform: Platform, owner: Owner, route: &str) -> Result<Access> {
        match self.renewal(platform, owner, route) {
            Some(renewal) => renewal.access().await,
            None => Ok(Access::Gone),
        }
    }

    /// Asks for one call in the name of an account, and counts it. `None`: it may be made now.
    pub async fn admit(&self, platform: Platform, owner: Owner) -> Result<Option<NotNow>> {
        let state = self.store().token_state(owner).await?;
        let paused = state.and_then(|state| state.paused);
        Ok(self.admit_unless(paused, platform, owner).await)
    }

    /// [`Context::admit`] for somebody who has just read for how long the account is paused.
    pub async fn admit_unless(
        &self,
        paused: Option<Duration>,
        platform: Platform,
        owner: Owner,
    ) -> Option<NotNow> {
        if let Some(retry_after) = paused {
            return Some(NotNow::Paused { retry_after });
        }
        let (adapter, app) = self.platform(platform)?;
        let who = owner.account.to_string();
        let budgets = [Budget::calls(app.budget(adapter))];
        let verdict = self.store().limits().take(&who, &budgets).await;
        let spent = verdict.and_then(|verdict| verdict.retry_after);
        if spent.is_some() {
            metrics::counter!("hub_call_budget_spent_total", "platform" => platform.name())
                .increment(1);
        }
        spent.map(|retry_after| NotNow::BudgetSpent { retry_after })
    }

    /// For calls that are a nicety: when to ask again, if what is left of an account's budget should
    /// be kept for what people wait for. `None`: there is more than a quarter of it.
    pub async fn spare_after(&self, platform: Platform, owner: Owner) -> Option<Duration> {
        let (adapter, app) = self.platform(platform)?;
        let budget = Budget::calls(app.budget(adapter));
        let who = owner.account.to_string();
        let level = self.store().limits().look(&who, &budget).await;
        let retry_after = level.room_after;
        let is_short = level.remaining <= budget.requests / 4;
        is_short.then(|| NotNow::BudgetSpent { retry_after }.come_back())
    }

    /// Makes a call in the name of an account, unless its budget is spent or it is paused. An answer
    /// that says for how long to stay away (429 with `Retry-After`) pauses the account.
    pub async fn call_as(
        &self,
        platform: Platform,
        owner: Owner,
        endpoint: &'static str,
        request: HttpRequest,
    ) -> Result<Called> {
        if let Some(not_now) = self.admit(platform, owner).await? {
            return Ok(Called::NotNow(not_now));
        }
        let call = Call {
            platform,
            endpoint,
            user: Some(owner.user),
            account: Some(owner.account),
        };
        let answer = self.call(call, request).await;
        if let Ok(answer) = &answer
            && answer.status == 429
            && let Some(seconds) = answer.header("retry-after").and_then(|it| it.parse().ok())
        {
            self.pause(owner, Duration::from_secs(seconds)).await?;
        }
        Ok(Called::Answered(answer))
    }

    /// The platform asked for a pause: no call in the name of this account until it is over, in any
    /// process.
    pub async fn pause(&self, owner: Owner, wait: Duration) -> Result<()> {
        self.store().pause_account(owner, wait.min(PAUSE_MAX)).await
    }
}
