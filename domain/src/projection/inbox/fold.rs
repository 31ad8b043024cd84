//! One event at a time onto the inbox rows.

use super::*;

impl Inbox {
    /// Applies one event. What [`Touch`] names for it must have been loaded if it exists.
    pub fn fold(&mut self, recorded: &Recorded) {
        let mut subject = Touch::default();
        if !subject.add(&recorded.event) {
            return;
        }
        let before = self.counted(&subject);
        self.apply(recorded);
        self.recount(&subject, before, recorded.recorded_at);
    }

    fn apply(&mut self, recorded: &Recorded) {
        let at = recorded.recorded_at;
        match &recorded.event {
            Event::MessageReceived(it) => self.arrived(&it.0, &Arrival::NEWS, recorded),
            Event::MessageObserved(it) => self.arrived(&it.0, &Arrival::OURS, recorded),
            Event::MessageEdited(it) => {
                let row = self.about(it.conversation, &it.platform_message_id, recorded);
                // Some platforms' clocks tick in seconds: of two edits in one, the later told counts.
                if row.edited_at.is_none_or(|old| it.edited_at >= old) {
                    row.edited_at = Some(it.edited_at);
                    // An edit that its message's deletion has overtaken must not bring a text back.
                    row.text = row.deleted_at.is_none().then(|| it.text.clone());
                }
            }
            Event::MessageDeleted(it) => {
                let id = self
                    .about(it.conversation, &it.platform_message_id, recorded)
                    .id;
                self.unread_changes(id, at, |row| {
                    // Told more than once, it happened when it was first true.
                    let first = row
                        .deleted_at
                        .map_or(it.deleted_at, |old| old.min(it.deleted_at));
                    row.deleted_at = Some(first);
                    row.text = None;
                    row.media = None;
                    row.files.clear();
                    row.detail = None;
                });
            }
            Event::ReactionChanged(it) => {
                let row = self.about(it.conversation, &it.platform_message_id, recorded);
                react(row, &it.sender_id, it.emoji.as_deref(), it.added, it.at);
            }
            Event::ReceiptReceived(it) => {
                for id in &it.platform_message_ids {
                    let row = self.about(it.conversation, id, recorded);
                    let mark = match it.receipt {
                        Receipt::Delivered => &mut row.delivered_at,
                        Receipt::Read => &mut row.seen_at,
                    };
                    // The earliest report of this message is when it happened.
                    *mark = Some(mark.map_or(it.at, |old| old.min(it.at)));
                }
                if let (Some(until), Some(row)) =
                    (it.watermark, self.conversations.change(it.conversation))
                {
                    let mark = match it.receipt {
                        Receipt::Delivered => &mut row.delivered_until,
                        Receipt::Read => &mut row.seen_until,
                    };
                    *mark = Some(mark.map_or(until, |old| old.max(until)));
                    row.updated_at = at;
                }
            }
            Event::MessageQueued(it) => self.queued(it, recorded),
            Event::SendAttempted(it) => self.unless_sent(it.message, |row| {
                row.state = State::Sending;
                row.attempts = i32::try_from(it.attempt).unwrap_or(i32::MAX);
                row.retry_at = None;
            }),
            Event::MessageSent(it) => self.sent(it, at),
            Event::SendDelayed(it) => self.unless_sent(it.message, |row| {
                row.state = State::Delayed;
                row.retry_at = Some(it.retry_at);
                row.failure = Some(it.class.name().to_owned());
                row.failure_reason = Some(it.reason.clone());
            }),
            Event::SendFailed(it) => self.failed(it),
            Event::SendUncertain(it) => self.unless_sent(it.message, |row| {
                row.state = State::Uncertain;
                row.retry_at = Some(it.settle_by);
                row.failure_reason = Some(it.reason.clone());
            }),
            Event::ConversationImported(it) => self.conversation_imported(it, recorded),
            Event::MessageImported(it) => {
                let arrival = Arrival {
                    outgoing: it.outgoing,
                    is_read: it.is_read && !it.outgoing,
                    delivered_at: it.delivered_at,
                    names: false,
                };
                self.arrived(&it.message, &arrival, recorded);
            }
            Event::MessageRead(it) => {
                self.unread_changes(it.message, at, |row| row.is_read |= !row.outgoing);
            }
            Event::ConversationRead(it) => {
                if let Some(row) = self.conversations.change(it.conversation) {
                    row.read_through = recorded.place.position;
                    row.unread = 0;
                    row.updated_at = at;
                }
            }
            Event::ConversationForgotten(it) => self.forget(it.conversation, at),
            Event::ContactNamed(it) => {
                // A name that came with a message is newer than one that was asked for.
                if let Some(row) = self.conversations.change(it.conversation)
                    && row.named_at.is_none()
                {
                    row.participant_name = Some(it.name.clone());
                    row.updated_at = at;
                }
            }
            Event::MediaStored(it) => {
                let stored = StoredFile {
                    object: it.object,
                    content_type: it.content_type.clone(),
                    size: it.size,
                };
                let file = File {
                    index: it.index,
                    stored: Some(stored),
                    loss: None,
                };
                self.filed(it.conversation, it.message, file, at);
            }
            Event::MediaUnavailable(it) => {
                let file = File {
                    index: it.index,
                    stored: None,
                    loss: Some(it.loss),
                };
                self.filed(it.conversation, it.message, file, at);
            }
            // The rows stay: what is sealed in them is unreadable, here as in the log.
            Event::UserRegistered(_)
            | Event::UserErased(_)
            | Event::SessionStarted(_)
            | Event::SessionRefreshed(_)
            | Event::SessionRevoked(_)
            | Event::AccountConnected(_)
            | Event::AccountDisconnected(_)
            | Event::AccountNeedsReconnect(_)
            | Event::AccountPolled(_)
            | Event::ResetRequested(_)
            | Event::AccountForgotten(_)
            | Event::ConnectFailed(_)
            | Event::AccountNoted(_)
            | Event::MediaAnnounced(_)
            | Event::MediaUploaded(_)
            | Event::ConversationNoted(_) => {}
        }
    }

    /// Takes a conversation's messages away, but for those that are to be sent, of which somebody was
    /// promised an end: while there are any, the conversation is shown with them.
    fn forget(&mut self, conversation: ConversationId, at: DateTime<Utc>) {
        let of_it = self.messages.all();
        let of_it = of_it.filter(|row| row.conversation == conversation);
        let (kept, gone): (Vec<_>, Vec<_>) = of_it.partition(|row| row.state.is_pending());
        let newest = kept.iter().filter_map(|row| row.sent_at).max();
        let listed = kept.iter().filter(|row| row.is_listed()).count();
        let is_gone = kept.is_empty();
        let gone: Vec<MessageId> = gone.into_iter().map(|row| row.id).collect();
        for id in gone {
            if let Some(row) = self.messages.remove(id)
                && let Some(platform_id) = row.platform_message_id
            {
                self.by_platform_id.remove(&(conversation, platform_id));
            }
        }
        self.forgotten.insert(conversation);
        let Some(row) = self.conversations.change(conversation) else {
            return;
        };
        row.messages = i32::try_from(listed).unwrap_or(i32::MAX);
        row.last_message_at = newest;
        row.unread = 0;
        row.delivered_until = None;
        row.seen_until = None;
        row.forgotten = is_gone;
        row.updated_at = at;
        if is_gone {
            row.participant_id = None;
            row.participant_name = None;
            row.named_at = None;
        }
    }

    /// What is known already stays, but for when it began: the earlier installation knew it first.
    fn conversation_imported(
        &mut self,
        it: &crate::event::ConversationImported,
        recorded: &Recorded,
    ) {
        let row = self.conversation(&it.at, recorded);
        row.created_at = row.created_at.min(recorded.happened_at());
        row.last_message_at = row.last_message_at.max(it.last_message_at);
        row.updated_at = recorded.recorded_at;
        if row.participant_id.is_none() {
            row.participant_id = it.participant_id.clone();
        }
        if row.participant_name.is_none() {
            row.participant_name = it.participant_name.clone();
            row.named_at = row
                .participant_name
                .as_ref()
                .map(|_| recorded.happened_at());
        }
    }

    /// The conversation's row, for something that is shown in it.
    fn conversation(&mut self, at: &Thread, recorded: &Recorded) -> &mut ConversationRow {
        let row = self
            .conversations
            .change_or(at.conversation, || ConversationRow {
                id: at.conversation,
                user: at.user,
                account: at.account,
                platform: at.platform,
                thread: at.thread.clone(),
                participant_id: None,
                participant_name: None,
                named_at: None,
                last_message_at: None,
                unread: 0,
                messages: 0,
                read_through: 0,
                delivered_until: None,
                seen_until: None,
                forgotten: false,
                created_at: recorded.happened_at(),
                updated_at: recorded.recorded_at,
            });
        row.forgotten = false;
        row
    }

    pub(super) fn find(
        &self,
        conversation: ConversationId,
        platform_id: &str,
    ) -> Option<MessageId> {
        self.by_platform_id
            .get(&(conversation, platform_id.to_owned()))
            .copied()
    }

    /// The row of a message known by its platform id, or a placeholder for it.
    fn about(
        &mut self,
        conversation: ConversationId,
        platform_id: &str,
        recorded: &Recorded,
    ) -> &mut MessageRow {
        let id = self
            .find(conversation, platform_id)
            .unwrap_or_else(|| message_id(conversation, platform_id));
        self.by_platform_id
            .insert((conversation, platform_id.to_owned()), id);
        self.messages.change_or(id, || MessageRow {
            id,
            platform_message_id: Some(platform_id.to_owned()),
            ..blank(id, conversation, recorded)
        })
    }

    fn arrived(&mut self, it: &PlatformMessage, how: &Arrival, recorded: &Recorded) {
        let outgoing = how.outgoing;
        let known = self.find(it.at.conversation, &it.platform_message_id);
        if let Some(row) = self.messages.get(known.unwrap_or(it.message))
            && row.state != State::Placeholder
        {
            return;
        }
        let row = self.named(it, known, recorded);
        row.state = if outgoing {
            State::Observed
        } else {
            State::Received
        };
        row.sender_id = it.sender_id.clone();
        row.sender_name = it.sender_name.clone();
        row.message_type = it.message_type;
        row.outgoing = outgoing;
        row.is_read |= how.is_read;
        row.delivered_at = row.delivered_at.or(how.delivered_at);
        row.sent_at = Some(it.sent_at);
        row.position = recorded.place.position;
        row.created_at = recorded.happened_at();
        if row.deleted_at.is_none() {
            if row.edited_at.is_none() {
                row.text = Some(it.text.clone());
            }
            row.media = it.media.clone();
            row.detail = it.detail.clone();
        }
        let row = row.clone();
        let conversation = self.conversation(&it.at, recorded);
        conversation.unread += i32::from(row.is_unread(conversation.read_through));
        conversation.last_message_at = conversation.last_message_at.max(Some(it.sent_at));
        conversation.updated_at = recorded.recorded_at;
        if !outgoing {
            conversation
                .participant_id
                .get_or_insert_with(|| it.sender_id.clone());
        }
        let name = match (&it.thread_name, outgoing) {
            _ if !how.names => None,
            (Some(name), _) => Some(name),
            (None, false) => it.sender_name.as_ref(),
            (None, true) => None,
        };
        if let Some(name) = name
            && conversation.named_at.is_none_or(|old| it.sent_at >= old)
        {
            conversation.participant_name = Some(name.clone());
            conversation.named_at = Some(it.sent_at);
        }
    }

    /// The row of a message that has come, under the id it was given: what was told about it before
    /// waits under the one that follows from its platform id.
    fn named(
        &mut self,
        it: &PlatformMessage,
        known: Option<MessageId>,
        recorded: &Recorded,
    ) -> &mut MessageRow {
        let waiting = known.filter(|id| *id != it.message);
        let waiting = waiting.and_then(|id| self.messages.remove(id));
        let (conversation, id) = (it.at.conversation, &it.platform_message_id);
        self.by_platform_id
            .insert((conversation, id.clone()), it.message);
        self.messages.change_or(it.message, || MessageRow {
            id: it.message,
            platform_message_id: Some(id.clone()),
            ..waiting.unwrap_or_else(|| blank(it.message, conversation, recorded))
        })
    }

    fn queued(&mut self, it: &crate::event::MessageQueued, recorded: &Recorded) {
        let now = recorded.recorded_at;
        if self.messages.get(it.message).is_some() {
            return;
        }
        self.messages.change_or(it.message, || MessageRow {
            state: State::Queued,
            sender_id: "me".to_owned(),
            text: Some(it.text.clone()),
            message_type: it.message_type,
            media: it.attached.as_ref().map(|file| file.described.clone()),
            files: it
                .attached
                .as_ref()
                .map(File::uploaded)
                .into_iter()
                .collect(),
            outgoing: true,
            sent_at: Some(now),
            ..blank(it.message, it.at.conversation, recorded)
        });
        let conversation = self.conversation(&it.at, recorded);
        conversation.last_message_at = conversation.last_message_at.max(Some(now));
        conversation.updated_at = now;
    }

    fn sent(&mut self, it: &crate::event::MessageSent, at: DateTime<Utc>) {
        // Said twice, or of a message the log knows nothing about: what is there stays.
        if self
            .messages
            .get(it.message)
            .is_none_or(|row| row.state == State::Sent)
        {
            return;
        }
        // Whatever the platform already told about this id under another row (an echo without our
        // reference, an early receipt) belongs to this message.
        let twin = self
            .find(it.conversation, &it.platform_message_id)
            .filter(|id| *id != it.message)
            .and_then(|id| self.messages.remove(id));
        let Some(row) = self.messages.change(it.message) else {
            return;
        };
        // Told that it did not arrive before it was told that it left.
        if !row.is_undelivered() {
            row.state = State::Sent;
            row.failure = None;
            row.failure_reason = None;
        }
        row.platform_message_id = Some(it.platform_message_id.clone());
        row.sent_at = Some(it.sent_at);
        row.retry_at = None;
        if let Some(twin) = twin {
            row.delivered_at = row.delivered_at.or(twin.delivered_at);
            row.seen_at = row.seen_at.or(twin.seen_at);
            row.reactions = twin.reactions;
            if twin.edited_at.is_some() {
                row.edited_at = twin.edited_at;
                row.text = twin.text;
            }
            if twin.deleted_at.is_some() {
                row.deleted_at = twin.deleted_at;
                row.text = None;
                row.media = None;
                row.files.clear();
            }
        }
        self.by_platform_id.insert(
            (it.conversation, it.platform_message_id.clone()),
            it.message,
        );
        if let Some(conversation) = self.conversations.change(it.conversation) {
            conversation.last_message_at = conversation.last_message_at.max(Some(it.sent_at));
            conversation.updated_at = at;
        }
    }

    fn failed(&mut self, it: &crate::event::SendFailed) {
        let change = |row: &mut MessageRow| {
            row.state = State::Failed;
            row.retry_at = None;
            row.failure = Some(it.class.name().to_owned());
            row.failure_reason = Some(it.reason.clone());
        };
        // The platform's own word on a message it had taken.
        if it.class == FailureClass::Undelivered {
            if let Some(row) = self.messages.change(it.message) {
                change(row);
            }
        } else {
            self.unless_sent(it.message, change);
        }
    }

    /// Notes what became of a medium. One that is stored stays so, and a message that was withdrawn
    /// gets none.
    fn filed(
        &mut self,
        conversation: ConversationId,
        message: MessageId,
        file: File,
        at: DateTime<Utc>,
    ) {
        let is_open = |row: &MessageRow| {
            row.deleted_at.is_none()
                && !(row.files.iter()).any(|it| it.index == file.index && it.stored.is_some())
        };
        if !self.messages.get(message).is_some_and(is_open) {
            return;
        }
        if let Some(row) = self.messages.change(message) {
            row.files.retain(|it| it.index != file.index);
            row.files.push(file);
            row.files.sort_by_key(|it| it.index);
        }
        if let Some(row) = self.conversations.change(conversation) {
            row.updated_at = at;
        }
    }

    /// Applies a change to a message of ours that the platform is not known to have.
    fn unless_sent(&mut self, message: MessageId, change: impl FnOnce(&mut MessageRow)) {
        if self
            .messages
            .get(message)
            .is_some_and(|row| row.state != State::Sent && !row.is_undelivered())
            && let Some(row) = self.messages.change(message)
        {
            change(row);
        }
    }

    /// Applies a change that may make a message count as unread or stop counting.
    fn unread_changes(
        &mut self,
        message: MessageId,
        at: DateTime<Utc>,
        change: impl FnOnce(&mut MessageRow),
    ) {
        let Some(row) = self.messages.change(message) else {
            return;
        };
        let conversation = row.conversation;
        let Some(conversation) = self.conversations.change(conversation) else {
            change(row);
            return;
        };
        let before = row.is_unread(conversation.read_through);
        change(row);
        let after = row.is_unread(conversation.read_through);
        conversation.unread += i32::from(after) - i32::from(before);
        conversation.updated_at = at;
    }
}

/// How a message became known.
struct Arrival {
    outgoing: bool,
    is_read: bool,
    delivered_at: Option<DateTime<Utc>>,
    /// Whether it may say what the conversation is called.
    names: bool,
}

impl Arrival {
    const NEWS: Self = Self {
        outgoing: false,
        is_read: false,
        delivered_at: None,
        names: true,
    };
    const OURS: Self = Self {
        outgoing: true,
        ..Self::NEWS
    };
}

fn blank(id: MessageId, conversation: ConversationId, recorded: &Recorded) -> MessageRow {
    MessageRow {
        id,
        conversation,
        platform_message_id: None,
        state: State::Placeholder,
        sender_id: String::new(),
        sender_name: None,
        text: None,
        message_type: MessageType::Text,
        media: None,
        files: Vec::new(),
        detail: None,
        outgoing: false,
        is_read: false,
        sent_at: None,
        delivered_at: None,
        seen_at: None,
        edited_at: None,
        deleted_at: None,
        reactions: Vec::new(),
        attempts: 0,
        retry_at: None,
        failure: None,
        failure_reason: None,
        position: recorded.place.position,
        created_at: recorded.recorded_at,
    }
}

/// One reaction per person and emoji slot: the newest statement of a person wins, so that a
/// reaction taken back before it arrived stays taken back.
fn react(row: &mut MessageRow, sender: &str, emoji: Option<&str>, added: bool, at: DateTime<Utc>) {
    let emoji = emoji.filter(|_| added).map(str::to_owned);
    match row.reactions.iter_mut().find(|it| it.sender == sender) {
        Some(old) if at >= old.at => {
            old.emoji = emoji;
            old.at = at;
        }
        Some(_) => {}
        None => row.reactions.push(Reaction {
            sender: sender.to_owned(),
            emoji,
            at,
        }),
    }
    row.reactions.sort_by(|a, b| a.sender.cmp(&b.sender));
}
