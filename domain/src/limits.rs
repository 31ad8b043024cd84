//! Every bound of the hub in one table, with its reason.

use std::time::Duration;

/// How much of a platform's answer is read. Larger answers are cut, never buffered whole.
pub const RESPONSE_BODY_BYTES_MAX: usize = 1024 * 1024;

/// Longest text of a message in characters after trimming (contract 2.3).
pub const MESSAGE_TEXT_CHARS_MAX: usize = 10_000;

/// Longest e-mail address in characters (contract 1.6).
pub const EMAIL_CHARS_MAX: usize = 255;

/// Shortest password in characters (contract 1.6).
pub const PASSWORD_CHARS_MIN: usize = 8;

/// Longest password in bytes: bcrypt reads no more, so a longer one would be cut silently.
pub const PASSWORD_BYTES_MAX: usize = 72;

/// Rows on a page when the client names no number, and at most (contract 2.3, 2.4).
pub const PAGE_ROWS_DEFAULT: i64 = 50;

/// Most rows on a page; larger wishes are clamped (contract 2.3, 2.4).
pub const PAGE_ROWS_MAX: i64 = 100;

/// Longest `Idempotency-Key` header in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// How long an upload may be sent with a message. After it, and an hour that clocks may differ by,
/// one that no message has is removed.
pub const UPLOAD_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Uploads that one process reads at the same time: each is in memory, sealed and not.
pub const UPLOADS_AT_ONCE_MAX: usize = 8;

/// Longest name of an uploaded file in characters: the least that a platform takes.
pub const FILE_NAME_CHARS_MAX: usize = 240;

/// How long an OAuth state may be used, once (contract 4.1).
pub const OAUTH_STATE_TTL: Duration = Duration::from_secs(600);

/// How old Telegram login widget data may be (contract 4.5).
pub const WIDGET_AGE_MAX: Duration = Duration::from_secs(86_400);

/// Time a Socket.IO client has to authenticate (contract 3.5).
pub const SOCKET_AUTH_DEADLINE: Duration = Duration::from_secs(10);

/// Frames a slow socket may be behind before it is disconnected.
pub const SOCKET_QUEUE_FRAMES_MAX: usize = 1_000;

/// Largest frame a client may send; clients send pings and one token.
pub const SOCKET_FRAME_BYTES_MAX: usize = 64 * 1024;

/// Most appends one transaction takes. Beyond a few hundred the gain is flat and the latency grows.
pub const APPEND_BATCH_MAX: usize = 500;

/// Appends waiting in one process before callers are told to come back later.
pub const APPEND_QUEUE_MAX: usize = 10_000;

/// Events a reactor takes in one transaction.
pub const REACTOR_BATCH_MAX: i64 = 500;

/// Events a turn of several shards takes, all of them together.
pub const TOGETHER_EVENTS_MAX: i64 = 2_000;

/// Events a reactor passes in one statement when none of them concerns it.
pub const GLIDE_EVENTS_MAX: i64 = 20_000;

/// Events a rebuild takes in one transaction: nobody waits for its rows, so it may be slower to
/// commit and faster in all.
pub const REBUILD_BATCH_MAX: i64 = 2_000;

/// Events a rebuild folds in memory before it writes their rows: about 1 KB each, for each of
/// [`REBUILD_SHARDS_MAX`].
pub const BULK_EVENTS_MAX: i64 = 50_000;

/// Events the index of places takes in one transaction: they are copied and not decoded.
pub const PLACES_BATCH_MAX: i64 = 5_000;

/// Events one question about the past may fold; what takes more is for `hub replay --until`.
pub const AS_OF_EVENTS_MAX: i64 = 200_000;

/// Events that are folded at a time for a question about the past.
pub const AS_OF_BATCH_MAX: i64 = 2_000;

/// Events at the end of the log that a question about the past looks through because the index of
/// places does not have them yet.
pub const AS_OF_TAIL_MAX: i64 = 20_000;

/// Questions about the past that one process folds at the same time.
pub const AS_OF_AT_ONCE_MAX: usize = 2;

/// How long a question about the past waits for its turn, and for read models that are behind it. A
/// client gives up after ten seconds.
pub const AS_OF_WAIT_MAX: Duration = Duration::from_secs(4);

/// Shards a rebuild works on at the same time, so that the live fold keeps its connections.
pub const REBUILD_SHARDS_MAX: usize = 2;

/// Rows that are compared once more while a switch holds the live fold. Beyond them the earlier
/// comparison stands: hashing more would make a moment noticeable.
pub const SWITCH_ROWS_MAX: i64 = 20_000;

/// Events one seal covers at most; a shard with as many unsealed ones is sealed at once. At 16 bytes
/// each a seal's leaves stay one small read.
pub const SEAL_EVENTS_MAX: i64 = 1_024;

/// An event that has waited this long is sealed, however few there are.
pub const SEAL_AGE_MAX: Duration = Duration::from_secs(10);

/// Pause between two looks for something to seal: nobody waits for a seal.
pub const SEAL_PAUSE: Duration = Duration::from_secs(1);

/// A seal made this long after its events is mentioned by `hub verify log`: the worker stood still,
/// or somebody took seals away and let them be made again.
pub const SEAL_LATE: Duration = Duration::from_secs(3_600);

/// Differing rows that a certificate names.
pub const DIFFERENCES_MAX: usize = 20;

/// Messages of one conversation sent in one turn, so that a long queue cannot hold a worker.
pub const SENDS_PER_TURN_MAX: usize = 10;
