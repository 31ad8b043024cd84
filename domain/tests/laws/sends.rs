//! Sends: the platform's word that it has the message is the last one.

use hub_domain::event::{Event, FailureClass};
use hub_domain::projection::inbox::State;
use proptest::prelude::*;

use crate::history::{about, attempt, own, platform_id, queued, recorded, sent};
use crate::inbox::after_the_first_message;
use crate::rows::Rows;

/// A number that names a message sent through the hub.
const N: u8 = 2;

/// Mixes two sequences, keeping the order of the first.
fn mix(ours: Vec<Event>, theirs: Vec<Event>, turns: &[bool]) -> Vec<Event> {
    let (mut ours, mut theirs) = (ours.into_iter(), theirs.into_iter());
    let mut mixed = Vec::new();
    for is_ours in turns {
        mixed.extend(if *is_ours { ours.next() } else { theirs.next() });
    }
    mixed.extend(ours);
    mixed.extend(theirs);
    mixed
}

fn attempts() -> impl Strategy<Value = Vec<Event>> {
    proptest::collection::vec(attempt(0, N), 0..6)
}

/// What the platform says about the message by its own id: the echo, receipts, reactions.
fn echoes() -> impl Strategy<Value = Vec<Event>> {
    proptest::collection::vec(about(0, N), 0..8)
}

fn turns() -> impl Strategy<Value = Vec<bool>> {
    proptest::collection::vec(any::<bool>(), 24)
}

/// Everything that happens to one send, and then it is sent. Late words of a worker may follow.
fn whole_send(before: &[Event], after: &[Event]) -> Vec<Event> {
    [&[queued(0, N)], before, &[sent(0, N)], after].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn sent_wins_from_any_state_and_in_any_order_with_its_echo(
        before in attempts(),
        after in attempts(),
        echoes in echoes(),
        turns in turns(),
    ) {
        let events = mix(whole_send(&before, &after), echoes, &turns);
        let events = recorded(&events);
        let mut rows = Rows::default();
        for recorded in &events {
            rows.fold(std::slice::from_ref(recorded));
            rows.check();
        }
        prop_assert_eq!(rows.messages.len(), 1, "one message, not one and its echo");
        let row = &rows.messages[&own(0, N)];
        prop_assert_eq!(row.state, State::Sent);
        let id = platform_id(N);
        prop_assert_eq!(row.platform_message_id.as_deref(), Some(id.as_str()));
        prop_assert_eq!((&row.retry_at, &row.failure, &row.failure_reason), (&None, &None, &None));
        prop_assert!(row.outgoing);
        prop_assert_eq!(rows.conversations.len(), 1);
    }

    #[test]
    fn what_the_platform_says_about_a_send_counts_whenever_it_says_it(
        before in attempts(),
        echoes in echoes(),
        turns in turns(),
    ) {
        let ours = whole_send(&before, &[]);
        let afterwards = mix(ours.clone(), echoes.clone(), &[true; 24]);
        // The conversation exists from the moment the message is queued.
        let mixed = mix(ours[1..].to_vec(), echoes, &turns);
        let mixed = [ours[..1].to_vec(), mixed].concat();
        let afterwards = Rows::of(&recorded(&after_the_first_message(afterwards)));
        let mixed = Rows::of(&recorded(&mixed));
        prop_assert_eq!(afterwards.without_order(), mixed.without_order());
    }

    #[test]
    fn a_send_that_was_not_sent_is_in_the_state_of_the_last_word(
        attempts in proptest::collection::vec(attempt(0, N), 1..6)
    ) {
        let last = attempts.last().unwrap().clone();
        let events = [vec![queued(0, N)], attempts].concat();
        let rows = Rows::of(&recorded(&events));
        let row = &rows.messages[&own(0, N)];
        let expected = match last {
            Event::SendAttempted(_) => State::Sending,
            Event::SendDelayed(_) => State::Delayed,
            Event::SendFailed(_) => State::Failed,
            _ => State::Uncertain,
        };
        prop_assert_eq!(row.state, expected);
        prop_assert_eq!(row.retry_at.is_some(), matches!(expected, State::Delayed | State::Uncertain));
    }
}

/// Whenever the platform says that it could not deliver a message, that is the last word about it.
#[test]
fn what_was_taken_and_did_not_arrive_has_failed_whoever_says_more() {
    let lost: Event = hub_domain::event::SendFailed {
        user: crate::history::USER,
        conversation: crate::history::conversation(0),
        message: own(0, N),
        class: FailureClass::Undelivered,
        reason: "gone".to_owned(),
    }
    .into();
    let retried: Event = hub_domain::event::SendUncertain {
        user: crate::history::USER,
        conversation: crate::history::conversation(0),
        message: own(0, N),
        attempt: 1,
        reason: "silence".to_owned(),
        settle_by: crate::history::at(9),
    }
    .into();
    for order in [
        [sent(0, N), lost.clone(), retried.clone()],
        [lost.clone(), sent(0, N), retried.clone()],
        [lost.clone(), retried, sent(0, N)],
    ] {
        let events = [&[queued(0, N)][..], &order].concat();
        let rows = Rows::of(&recorded(&events));
        let row = &rows.messages[&own(0, N)];
        assert_eq!(row.state, State::Failed);
        assert_eq!(row.failure_reason.as_deref(), Some("gone"));
        assert_eq!(row.platform_message_id, Some(platform_id(N)));
        assert!(row.is_listed(), "its sender was told that it left");
    }
}

/// A send the log knows nothing about leaves everything as it was: nothing is lost with it.
#[test]
fn an_unknown_send_does_not_take_its_echo_away() {
    let echo = crate::history::told(0, N);
    let rows = Rows::of(&recorded(&[echo.clone(), sent(0, N)]));
    let alone = Rows::of(&recorded(&[echo]));
    assert_eq!(rows.messages, alone.messages);
}
