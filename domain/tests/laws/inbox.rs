//! The inbox fold: converges, counts right, and works on the rows it names.

use hub_domain::event::{Event, ReceiptReceived, Sealed};
use hub_domain::id::ConversationId;
use hub_domain::projection::inbox::{State, Touch};
use proptest::prelude::*;
use proptest::sample::subsequence;

use crate::history::{
    about, anything, at, conversation, deleted, edited, facts, forgotten, own, queued, recorded,
    sent, told,
};
use crate::rows::{Rows, touches};

fn arrival_in(event: &Event) -> Option<ConversationId> {
    match event {
        Event::MessageReceived(it) => Some(it.0.at.conversation),
        Event::MessageObserved(it) => Some(it.0.at.conversation),
        _ => None,
    }
}

fn watermark_in(event: &Event) -> Option<ConversationId> {
    match event {
        Event::ReceiptReceived(ReceiptReceived {
            conversation,
            watermark: Some(_),
            ..
        }) => Some(*conversation),
        _ => None,
    }
}

/// A watermark speaks about a conversation as a whole and has no row to wait in before the first
/// message made one: the first message of each conversation is brought before its first watermark.
pub fn after_the_first_message(mut events: Vec<Event>) -> Vec<Event> {
    for chat in (0..3).map(conversation) {
        let watermark = events.iter().position(|it| watermark_in(it) == Some(chat));
        let arrival = events.iter().position(|it| arrival_in(it) == Some(chat));
        if let (Some(watermark), Some(arrival)) = (watermark, arrival)
            && watermark < arrival
        {
            let first = events.remove(arrival);
            events.insert(watermark, first);
        }
    }
    events
}

/// The same facts in another order, some of them told again.
fn told_twice() -> impl Strategy<Value = (Vec<Event>, Vec<Event>)> {
    facts().prop_flat_map(|facts| {
        let len = facts.len();
        let again = subsequence(facts.clone(), 0..=len).prop_flat_map({
            let facts = facts.clone();
            move |again| Just([facts.clone(), again].concat()).prop_shuffle()
        });
        (Just(facts), again)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_order_and_any_repetition_of_the_same_facts_end_in_the_same_rows(
        (once, again) in told_twice()
    ) {
        let once = Rows::of(&recorded(&after_the_first_message(once)));
        let again = Rows::of(&recorded(&after_the_first_message(again)));
        prop_assert_eq!(once.without_order(), again.without_order());
    }

    #[test]
    fn unread_is_a_recount_after_every_single_event(events in anything()) {
        let mut rows = Rows::default();
        for recorded in recorded(&events) {
            rows.fold(std::slice::from_ref(&recorded));
            rows.check();
        }
    }

    #[test]
    fn any_division_into_batches_equals_one_fold(
        events in anything(),
        sizes in proptest::collection::vec(1..9_usize, 80),
    ) {
        let events = recorded(&events);
        let mut rows = Rows::default();
        let mut rest = events.as_slice();
        for size in sizes {
            let (batch, left) = rest.split_at(size.min(rest.len()));
            rows.fold(batch);
            rest = left;
        }
        prop_assert!(rest.is_empty());
        prop_assert_eq!(rows, Rows::of(&events));
    }

    #[test]
    fn a_fold_changes_nothing_that_its_touch_does_not_name(events in anything()) {
        let mut rows = Rows::default();
        for recorded in recorded(&events) {
            let mut touch = Touch::default();
            let concerns = touch.add(&recorded.event);
            let mut all = rows.load_all();
            all.fold(&recorded);
            for row in all.conversations.changed() {
                prop_assert!(concerns && touch.conversations.contains(&row.id));
            }
            for row in all.messages.changed() {
                prop_assert!(touches(&touch, row), "{:?} changed {row:?}", recorded.event);
            }
            for id in all.messages.removed() {
                let row = &rows.messages[&id];
                prop_assert!(touches(&touch, row) || touch.forgotten.contains(&row.conversation));
            }
            rows.fold(std::slice::from_ref(&recorded));
            let mut everything = rows.clone();
            everything.write(&all);
            prop_assert_eq!(&rows, &everything);
        }
    }

    /// What the inbox as of a past moment rests on: a row that says it has not changed since has not.
    #[test]
    fn a_conversation_that_changes_says_when(events in anything()) {
        let mut rows = Rows::default();
        for (nth, mut recorded) in (1..).zip(recorded(&events)) {
            recorded.recorded_at = at(nth);
            let before = rows.conversations.clone();
            rows.fold(std::slice::from_ref(&recorded));
            for (id, row) in &rows.conversations {
                if before.get(id) != Some(row) {
                    prop_assert_eq!(row.updated_at, recorded.recorded_at, "{:?}", recorded.event);
                }
            }
        }
    }

    /// Whatever was before: nothing is left, and what is told from then on is all there is.
    #[test]
    fn what_is_told_after_forgetting_is_as_if_nothing_had_been_before(
        before in facts(),
        after in facts(),
        forgotten_at in 1..9_usize,
    ) {
        let all = (0..3).map(forgotten);
        let before: Vec<Event> = before.into_iter().chain(all).collect();
        let mut rows = Rows::default();
        let log = recorded(&[before.clone(), after.clone()].concat());
        let (first, rest) = log.split_at(before.len());
        for batch in first.chunks(forgotten_at) {
            rows.fold(batch);
            rows.check();
        }
        prop_assert!(rows.messages.is_empty());
        prop_assert!(rows.conversations.values().all(|row| row.forgotten && row.unread == 0));
        for batch in rest.chunks(forgotten_at) {
            rows.fold(batch);
            rows.check();
        }
        let fresh = Rows::of(&recorded(&after));
        let again = rows.conversations.clone();
        prop_assert_eq!(rows.without_order().messages, fresh.clone().without_order().messages);
        for (id, row) in &fresh.conversations {
            let again = &again[id];
            prop_assert_eq!(
                (again.unread, again.messages, again.last_message_at, &again.participant_name),
                (row.unread, row.messages, row.last_message_at, &row.participant_name)
            );
            prop_assert!(!again.forgotten);
        }
    }

    #[test]
    fn the_same_batch_again_changes_nothing_but_our_own_times(
        events in proptest::collection::vec(about(0, 0), 1..20)
    ) {
        let once = Rows::of(&recorded(&after_the_first_message(events.clone())));
        let twice = after_the_first_message([events.clone(), events].concat());
        let twice = Rows::of(&recorded(&twice));
        prop_assert_eq!(once.without_order(), twice.without_order());
    }
}

/// Of what the hub was asked to send somebody was promised an end, and it has one.
#[test]
fn what_is_to_be_sent_outlives_forgetting_and_goes_with_the_next() {
    let (n, other) = (2, 5);
    let mut events = vec![told(0, 0), queued(0, n), queued(0, other), sent(0, other)];
    events.push(forgotten(0));
    let rows = Rows::of(&recorded(&events));
    rows.check();
    let left: Vec<_> = rows
        .messages
        .values()
        .map(|row| (row.id, row.state))
        .collect();
    assert_eq!(left, [(own(0, n), State::Queued)]);
    let row = &rows.conversations[&conversation(0)];
    assert_eq!((row.forgotten, row.messages, row.unread), (false, 1, 0));
    // Late words about what is gone bring nothing back.
    events.extend([sent(0, n), forgotten(0), sent(0, n), sent(0, other)]);
    let rows = Rows::of(&recorded(&events));
    rows.check();
    assert!(rows.messages.is_empty() && rows.conversations[&conversation(0)].forgotten);
}

/// The scenario behind the law: an edit that was overtaken by the deletion must not bring the text
/// back.
#[test]
fn a_deleted_message_stays_empty_whenever_its_edit_arrives() {
    let (edit, deletion) = (edited(0, 0, 10), deleted(0, 0, 20));
    for events in [
        [told(0, 0), edit.clone(), deletion.clone()],
        [told(0, 0), deletion.clone(), edit.clone()],
        [deletion.clone(), edit.clone(), told(0, 0)],
        [edit, deletion, told(0, 0)],
    ] {
        let rows = Rows::of(&recorded(&events));
        let row = rows.messages.values().next().unwrap();
        assert_eq!(
            (&row.text, &row.media),
            (&None::<Sealed>, &None),
            "{events:?}"
        );
        assert!(row.deleted_at.is_some() && row.edited_at.is_some());
    }
}
