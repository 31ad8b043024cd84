//! The switches that make a platform misbehave.
//!
//! A fault is (platform, operation, mode) with an optional count and probability. An operation asks
//! with [`Faults::hit`] and obeys. Setting a fault of an operation replaces the earlier one, except
//! that webhook faults of different modes add up, because duplicated *and* reordered is a real day.

use std::sync::Mutex;

use serde::Deserialize;

use crate::ledger::hold;
use crate::random::Dice;

/// What the hub asked for, or what the platform was about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Op {
    /// The hub sends a message.
    Send,
    /// The platform delivers a webhook.
    Webhook,
    /// Token exchange and identity.
    Token,
    /// Reading accounts and conversations.
    Fetch,
    /// Handing out a file.
    Media,
    /// Taking a file before the message that shows it.
    Upload,
    /// The page a person sees when connecting.
    Dialog,
}

/// How it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Refuse with the platform's own error for a status.
    Status,
    /// Neither accept nor answer.
    Hang,
    /// Accept, but never answer.
    AcceptNoReply,
    /// Deliver each webhook twice.
    Duplicate,
    /// Deliver webhooks in swapped pairs.
    Reorder,
    /// Do not deliver; of a file that comes in parts, take one and lose it.
    Drop,
    /// Break off in the middle of a file.
    CutOff,
}

/// A fault as `PUT /control/faults` describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Setting {
    pub(crate) platform: String,
    pub(crate) op: Op,
    pub(crate) mode: Mode,
    pub(crate) status: Option<u16>,
    pub(crate) retry_after: Option<u64>,
    pub(crate) times: Option<u64>,
    pub(crate) rate: Option<f64>,
    pub(crate) seed: Option<u64>,
}

/// What an operation has to suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Refuse with this status, asking for this many seconds of patience.
    Status {
        status: u16,
        retry_after_s: Option<u64>,
    },
    /// Neither accept nor answer.
    Hang,
    /// Accept, but never answer.
    AcceptNoReply,
}

/// A fault that is switched on.
struct Active {
    setting: Setting,
    left: Option<u64>,
    dice: Dice,
}

/// All faults that are switched on.
pub(crate) struct Faults {
    active: Mutex<Vec<Active>>,
    seed: u64,
}

impl Setting {
    /// Why this cannot be switched on, in words for the person who tried.
    fn objection(&self, platforms: &[&str]) -> Option<String> {
        let allowed: &[Mode] = match self.op {
            Op::Send => &[Mode::Status, Mode::Hang, Mode::AcceptNoReply],
            Op::Upload if self.platform == "telegram-user" => {
                &[Mode::Status, Mode::Hang, Mode::AcceptNoReply, Mode::Drop]
            }
            Op::Upload => &[Mode::Status, Mode::Hang, Mode::AcceptNoReply],
            Op::Webhook => &[Mode::Duplicate, Mode::Reorder, Mode::Drop],
            Op::Token | Op::Fetch => &[Mode::Status, Mode::Hang],
            // A session's calls are bounded by the session: one that hangs is any other call's fault.
            Op::Media if self.platform == "telegram-user" => &[Mode::Status, Mode::CutOff],
            Op::Media => &[Mode::Status, Mode::Hang, Mode::CutOff],
            Op::Dialog => &[Mode::Status],
        };
        if !platforms.contains(&self.platform.as_str()) {
            return Some(format!("platform must be one of {}", platforms.join(", ")));
        }
        if !allowed.contains(&self.mode) {
            return Some(format!(
                "{:?} cannot go wrong with mode {:?}",
                self.op, self.mode
            ));
        }
        if self.mode == Mode::Status
            && self.op != Op::Dialog
            && !self
                .status
                .is_some_and(|status| (400..600).contains(&status))
        {
            return Some("status must be between 400 and 599".to_owned());
        }
        if self.rate.is_some_and(|rate| !(0.0..=1.0).contains(&rate)) {
            return Some("rate must be between 0 and 1".to_owned());
        }
        None
    }

    /// Whether this takes the place of an earlier setting.
    fn replaces(&self, other: &Self) -> bool {
        let same = self.platform == other.platform && self.op == other.op;
        same && (self.op != Op::Webhook || self.mode == other.mode)
    }
}

impl Faults {
    /// No faults; probabilities are thrown from this seed unless a fault brings its own.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            active: Mutex::default(),
            seed,
        }
    }

    /// The seed that reproduces the probabilities.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Switches a fault on, or says why not.
    pub(crate) fn set(&self, setting: Setting, platforms: &[&str]) -> Result<(), String> {
        if let Some(objection) = setting.objection(platforms) {
            return Err(objection);
        }
        let mut active = hold(&self.active);
        active.retain(|fault| !setting.replaces(&fault.setting));
        active.push(Active {
            left: setting.times,
            dice: Dice::new(setting.seed.unwrap_or(self.seed)),
            setting,
        });
        Ok(())
    }

    /// Switches everything off.
    pub(crate) fn clear(&self) {
        hold(&self.active).clear();
    }

    /// The fault this operation has to suffer now, if any. Counts as one of its `times`. A part that is
    /// to be lost is not refused: [`Faults::loses_part`] says so.
    pub(crate) fn hit(&self, platform: &str, op: Op) -> Option<Fault> {
        let is_lost = |setting: &Setting| setting.op == Op::Upload && setting.mode == Mode::Drop;
        let setting = self.strike(platform, |setting| setting.op == op && !is_lost(setting))?;
        Some(match setting.mode {
            Mode::AcceptNoReply => Fault::AcceptNoReply,
            Mode::Status => Fault::Status {
                status: setting.status.unwrap_or(500),
                retry_after_s: setting.retry_after,
            },
            Mode::Hang | Mode::Duplicate | Mode::Reorder | Mode::Drop | Mode::CutOff => Fault::Hang,
        })
    }

    /// Whether a webhook has to suffer this mode now. Counts as one of its `times`.
    pub(crate) fn hits_webhook(&self, platform: &str, mode: Mode) -> bool {
        self.strike(platform, |setting| {
            setting.op == Op::Webhook && setting.mode == mode
        })
        .is_some()
    }

    /// Whether a part of a file has to get lost now. Counts as one of its `times`.
    pub(crate) fn loses_part(&self, platform: &str) -> bool {
        self.strike(platform, |setting| {
            setting.op == Op::Upload && setting.mode == Mode::Drop
        })
        .is_some()
    }

    /// Whether handing out a file has to break off now. Counts as one of its `times`.
    pub(crate) fn cuts_off(&self, platform: &str) -> bool {
        self.strike(platform, |setting| {
            setting.op == Op::Media && setting.mode == Mode::CutOff
        })
        .is_some()
    }

    fn strike(&self, platform: &str, wanted: impl Fn(&Setting) -> bool) -> Option<Setting> {
        let mut active = hold(&self.active);
        let index = active.iter().position(|fault| {
            fault.setting.platform == platform && wanted(&fault.setting) && fault.left != Some(0)
        })?;
        let fault = &mut active[index];
        if let Some(rate) = fault.setting.rate
            && !fault.dice.chance(rate)
        {
            return None;
        }
        let setting = fault.setting.clone();
        if let Some(left) = &mut fault.left {
            *left -= 1;
            if *left == 0 {
                active.remove(index);
            }
        }
        Some(setting)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set(faults: &Faults, setting: Value) -> Result<(), String> {
        let setting = serde_json::from_value(setting).map_err(|error| error.to_string())?;
        faults.set(setting, &["facebook", "telegram"])
    }

    #[test]
    fn a_counted_fault_is_gone_after_its_times() {
        let faults = Faults::new(1);
        set(
            &faults,
            json!({"platform":"facebook","op":"send","mode":"hang","times":2}),
        )
        .unwrap();
        assert_eq!(faults.hit("telegram", Op::Send), None);
        assert_eq!(faults.hit("facebook", Op::Fetch), None);
        assert_eq!(faults.hit("facebook", Op::Send), Some(Fault::Hang));
        assert_eq!(faults.hit("facebook", Op::Send), Some(Fault::Hang));
        assert_eq!(faults.hit("facebook", Op::Send), None);
    }

    #[test]
    fn a_rate_is_reproducible_from_its_seed() {
        let throw = || {
            let faults = Faults::new(1);
            let setting = json!({"platform":"facebook","op":"webhook","mode":"drop",
                "rate":0.5,"seed":42});
            set(&faults, setting).unwrap();
            (0..64)
                .map(|_| faults.hits_webhook("facebook", Mode::Drop))
                .collect::<Vec<_>>()
        };
        assert_eq!(throw(), throw());
        assert!(throw().contains(&true) && throw().contains(&false));
    }

    #[test]
    fn webhook_faults_add_up_and_others_replace() {
        let faults = Faults::new(1);
        set(
            &faults,
            json!({"platform":"facebook","op":"webhook","mode":"drop"}),
        )
        .unwrap();
        set(
            &faults,
            json!({"platform":"facebook","op":"webhook","mode":"duplicate"}),
        )
        .unwrap();
        assert!(faults.hits_webhook("facebook", Mode::Drop));
        assert!(faults.hits_webhook("facebook", Mode::Duplicate));
        set(
            &faults,
            json!({"platform":"facebook","op":"send","mode":"hang"}),
        )
        .unwrap();
        set(
            &faults,
            json!({"platform":"facebook","op":"send","mode":"status","status":503}),
        )
        .unwrap();
        let refused = Fault::Status {
            status: 503,
            retry_after_s: None,
        };
        assert_eq!(faults.hit("facebook", Op::Send), Some(refused));
    }

    #[test]
    fn meaningless_settings_are_refused() {
        let faults = Faults::new(1);
        for bad in [
            json!({"platform":"facebook","op":"send","mode":"duplicate"}),
            json!({"platform":"facebook","op":"send","mode":"status"}),
            json!({"platform":"facebook","op":"send","mode":"status","status":200}),
            json!({"platform":"facebook","op":"webhook","mode":"status","status":500}),
            json!({"platform":"facebook","op":"webhook","mode":"hang"}),
            json!({"platform":"facebook","op":"token","mode":"accept_no_reply"}),
            json!({"platform":"facebook","op":"send","mode":"hang","rate":2}),
            json!({"platform":"facebook","op":"upload","mode":"drop"}),
            json!({"platform":"myspace","op":"send","mode":"hang"}),
            json!({"platform":"facebook","op":"dance","mode":"hang"}),
        ] {
            assert!(set(&faults, bad.clone()).is_err(), "{bad}");
        }
    }
}
