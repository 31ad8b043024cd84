//! Files, in Telegram's own types.
//!
//! Raw calls where the crate's own draw a number of their own for each try, keep a whole file for
//! themselves, or panic at an answer they did not expect. A file may be in another data centre than
//! the account: that one does not know the session until the account's own has vouched for it, and
//! what it says of the key is about itself alone, never about the session.

use grammers_client::session::Session as _;
use grammers_client::tl::{Deserializable as _, Serializable as _};
use grammers_client::tl::{enums, functions, types};
use grammers_client::{InvocationError, tl};
use hub_domain::platform::telegram_user::{Handed, PART_BYTES, Shape};

use super::Network;
use crate::telegram_user::{Failure, FilePart, Located};

/// Data centres that one call is sent to, and times it vouches for the session.
const TRIES_MAX: usize = 3;

impl Network {
    pub(super) async fn save(&self, part: &FilePart) -> Result<bool, InvocationError> {
        let bytes = part.bytes.to_vec();
        if part.is_big {
            let request = functions::upload::SaveBigFilePart {
                file_id: part.file,
                file_part: part.part,
                file_total_parts: part.parts,
                bytes,
            };
            return self.client.invoke(&request).await;
        }
        let request = functions::upload::SaveFilePart {
            file_id: part.file,
            file_part: part.part,
            bytes,
        };
        self.client.invoke(&request).await
    }

    pub(super) async fn piece(&self, file: &Located, offset: u64) -> Result<Vec<u8>, Failure> {
        let unknown = || Failure::Moved {
            reason: "the place is none".to_owned(),
        };
        let (dc, location) = place(file).ok_or_else(unknown)?;
        let request = functions::upload::GetFile {
            precise: false,
            cdn_supported: false,
            location,
            offset: i64::try_from(offset).map_err(|_| unknown())?,
            limit: i32::try_from(PART_BYTES).unwrap_or(i32::MAX),
        };
        match self.in_dc(dc, &request).await {
            Ok(enums::upload::File::File(file)) => Ok(file.bytes),
            Ok(enums::upload::File::CdnRedirect(_)) => Err(Failure::Refused {
                reason: "the file is with somebody else".to_owned(),
            }),
            Err(error) => Err(super::failure(&error)),
        }
    }

    /// A call in the data centre that a file is in.
    async fn in_dc<R: tl::RemoteCall>(
        &self,
        dc: i32,
        request: &R,
    ) -> Result<R::Return, InvocationError> {
        let Ok(home) = self.kept.home_dc_id();
        let mut dc = dc;
        for _ in 1..TRIES_MAX {
            match self.client.invoke_in_dc(dc, request).await {
                Err(InvocationError::Rpc(error)) if error.code == 303 => {
                    let Some(to) = error.value.and_then(|dc| i32::try_from(dc).ok()) else {
                        return Err(InvocationError::Rpc(error));
                    };
                    dc = to;
                }
                Err(InvocationError::Rpc(error)) if dc != home && error.code == 401 => {
                    self.vouch(dc).await?;
                }
                answer => return answer,
            }
        }
        match self.client.invoke_in_dc(dc, request).await {
            // Not about the session, whatever it says.
            Err(InvocationError::Rpc(error)) if dc != home && error.code == 401 => {
                tracing::info!(dc, name = error.name, "a data centre does not let us in");
                Err(InvocationError::InvalidDc)
            }
            answer => answer,
        }
    }

    /// Makes the session known in another data centre.
    async fn vouch(&self, dc: i32) -> Result<(), InvocationError> {
        let export = functions::auth::ExportAuthorization { dc_id: dc };
        let enums::auth::ExportedAuthorization::Authorization(exported) =
            self.client.invoke(&export).await?;
        let import = functions::auth::ImportAuthorization {
            id: exported.id,
            bytes: exported.bytes,
        };
        match self.client.invoke_in_dc(dc, &import).await {
            Ok(_) => Ok(()),
            Err(InvocationError::Rpc(error)) if error.code == 401 => {
                Err(InvocationError::InvalidDc)
            }
            Err(error) => Err(error),
        }
    }
}

/// The call that sends a file with a text beside it.
pub(super) fn message(
    peer: enums::InputPeer,
    text: &str,
    file: &Handed,
    random_id: i64,
) -> functions::messages::SendMedia {
    functions::messages::SendMedia {
        silent: false,
        background: false,
        clear_draft: false,
        noforwards: false,
        update_stickersets_order: false,
        invert_media: false,
        allow_paid_floodskip: false,
        peer,
        reply_to: None,
        media: media(file),
        message: text.to_owned(),
        random_id,
        reply_markup: None,
        entities: None,
        schedule_date: None,
        schedule_repeat_period: None,
        send_as: None,
        quick_reply_shortcut: None,
        effect: None,
        allow_paid_stars: None,
        suggested_post: None,
    }
}

/// A file that was handed over, as a message carries it.
fn media(file: &Handed) -> enums::InputMedia {
    let input = if file.is_big {
        enums::InputFile::Big(types::InputFileBig {
            id: file.id,
            parts: file.parts,
            name: file.name.clone(),
        })
    } else {
        enums::InputFile::File(types::InputFile {
            id: file.id,
            parts: file.parts,
            name: file.name.clone(),
            // Telegram checks one that is given; each part has come whole, by the protocol itself.
            md5_checksum: String::new(),
        })
    };
    if file.shape == Shape::Photo {
        return enums::InputMedia::UploadedPhoto(types::InputMediaUploadedPhoto {
            spoiler: false,
            live_photo: false,
            file: input,
            stickers: None,
            ttl_seconds: None,
            video: None,
        });
    }
    enums::InputMedia::UploadedDocument(types::InputMediaUploadedDocument {
        nosound_video: false,
        force_file: file.shape == Shape::File,
        spoiler: false,
        file: input,
        thumb: None,
        mime_type: file.mime.clone(),
        attributes: attributes(file),
        stickers: None,
        video_cover: None,
        video_timestamp: None,
        ttl_seconds: None,
    })
}

/// What Telegram is told of a file. Sizes of pictures are not known here: one by one makes the clients
/// look for themselves.
fn attributes(file: &Handed) -> Vec<enums::DocumentAttribute> {
    use enums::DocumentAttribute as A;
    let sound = |voice, seconds: u32| {
        A::Audio(types::DocumentAttributeAudio {
            voice,
            duration: i32::try_from(seconds).unwrap_or(i32::MAX),
            title: None,
            performer: None,
            waveform: None,
        })
    };
    let name = A::Filename(types::DocumentAttributeFilename {
        file_name: file.name.clone(),
    });
    let shape = match file.shape {
        Shape::Photo | Shape::File => return vec![name],
        Shape::Animation => A::Animated,
        Shape::Video => A::Video(types::DocumentAttributeVideo {
            round_message: false,
            supports_streaming: true,
            nosound: false,
            duration: 0.0,
            w: 1,
            h: 1,
            preload_prefix_size: None,
            video_start_ts: None,
            video_codec: None,
        }),
        Shape::Audio => sound(false, 0),
        Shape::Voice { seconds } => sound(true, seconds),
    };
    vec![name, shape]
}

/// Where the file of a message is; `None` when it has none that stays.
pub(super) fn located(message: &enums::Message) -> Option<Located> {
    let enums::Message::Message(message) = message else {
        return None;
    };
    match message.media.as_ref()? {
        enums::MessageMedia::Photo(it) if it.ttl_seconds.is_none() => match it.photo.as_ref()? {
            enums::Photo::Photo(photo) => of_photo(photo),
            enums::Photo::Empty(_) => None,
        },
        enums::MessageMedia::Document(it) if it.ttl_seconds.is_none() => {
            match it.document.as_ref()? {
                enums::Document::Document(document) => Some(of_document(document)),
                enums::Document::Empty(_) => None,
            }
        }
        _ => None,
    }
}

/// The largest picture that is no thumbnail inside of the message.
fn of_photo(photo: &types::Photo) -> Option<Located> {
    use enums::PhotoSize as S;
    let sizes = photo.sizes.iter().filter_map(|size| match size {
        S::Size(it) => Some((it.size, &it.r#type)),
        S::Progressive(it) => Some((it.sizes.iter().copied().max()?, &it.r#type)),
        _ => None,
    });
    let (size, kind) = sizes.max_by_key(|(size, _)| *size)?;
    let location = types::InputPhotoFileLocation {
        id: photo.id,
        access_hash: photo.access_hash,
        file_reference: photo.file_reference.clone(),
        thumb_size: kind.clone(),
    };
    let location = enums::InputFileLocation::InputPhotoFileLocation(location);
    Some(at(
        photo.id,
        u64::try_from(size).ok(),
        photo.dc_id,
        &location,
    ))
}

fn of_document(document: &types::Document) -> Located {
    let location = types::InputDocumentFileLocation {
        id: document.id,
        access_hash: document.access_hash,
        file_reference: document.file_reference.clone(),
        thumb_size: String::new(),
    };
    let location = enums::InputFileLocation::InputDocumentFileLocation(location);
    let size = u64::try_from(document.size).ok();
    at(document.id, size, document.dc_id, &location)
}

fn at(id: i64, size: Option<u64>, dc: i32, location: &enums::InputFileLocation) -> Located {
    let mut place = dc.to_le_bytes().to_vec();
    location.serialize(&mut place);
    Located {
        id: id.to_string(),
        size,
        place,
    }
}

/// The data centre a file is in, and where in it.
fn place(file: &Located) -> Option<(i32, enums::InputFileLocation)> {
    let (dc, location) = file.place.split_first_chunk::<4>()?;
    let location = enums::InputFileLocation::from_bytes(location).ok()?;
    Some((i32::from_le_bytes(*dc), location))
}

#[cfg(test)]
mod tests {
    use hub_domain::event::MessageType;

    use super::*;

    const UPDATES: &str =
        include_str!("../../../../domain/tests/fixtures/telegram-user/updates.json");

    /// The recorded message of this name.
    fn message(name: &str) -> types::Message {
        let updates: serde_json::Value = serde_json::from_str(UPDATES).unwrap();
        let mut updates = updates["updates"].as_array().unwrap().iter();
        let update = updates.find(|it| it["name"] == name).unwrap();
        let bytes = hex::decode(update["hex"].as_str().unwrap()).unwrap();
        match enums::Update::from_bytes(&bytes).unwrap() {
            enums::Update::NewMessage(it) => match it.message {
                enums::Message::Message(message) => message,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn found(message: types::Message) -> Option<Located> {
        located(&enums::Message::Message(message))
    }

    #[test]
    fn a_picture_is_where_its_largest_size_is() {
        let mut message = message("photo with caption");
        let Some(enums::MessageMedia::Photo(media)) = &mut message.media else {
            panic!("{:?}", message.media);
        };
        let Some(enums::Photo::Photo(photo)) = &mut media.photo else {
            panic!("{:?}", media.photo);
        };
        photo.dc_id = 4;
        photo.sizes = vec![
            enums::PhotoSize::Size(types::PhotoSize {
                r#type: "m".into(),
                w: 320,
                h: 320,
                size: 9_000,
            }),
            enums::PhotoSize::Progressive(types::PhotoSizeProgressive {
                r#type: "y".into(),
                w: 1280,
                h: 1280,
                sizes: vec![4_000, 70_000, 90_000],
            }),
            enums::PhotoSize::PhotoStrippedSize(types::PhotoStrippedSize {
                r#type: "i".into(),
                bytes: vec![1; 100_000],
            }),
        ];
        let found = found(message.clone()).unwrap();
        assert_eq!(found.id, "5100200300400500600");
        assert_eq!(found.size, Some(90_000));
        let Some((4, enums::InputFileLocation::InputPhotoFileLocation(at))) = place(&found) else {
            panic!("{:?}", place(&found));
        };
        assert_eq!(at.thumb_size, "y");
        // Meant to be seen once: it is not even looked for.
        if let Some(enums::MessageMedia::Photo(media)) = &mut message.media {
            media.ttl_seconds = Some(i32::MAX);
        }
        assert_eq!(self::found(message), None);
    }

    #[test]
    fn a_document_is_where_it_says_and_other_things_are_nowhere() {
        let found_one = found(message("document over 2 GiB")).unwrap();
        assert_eq!(found_one.size, Some(3_000_000_000));
        let place_of = place(&found_one).unwrap().1;
        let enums::InputFileLocation::InputDocumentFileLocation(at) = place_of else {
            panic!("{place_of:?}");
        };
        assert_eq!((at.id.to_string(), &*at.thumb_size), (found_one.id, ""));
        let mut gone = message("voice");
        if let Some(enums::MessageMedia::Document(media)) = &mut gone.media {
            media.document = None;
        }
        assert_eq!(found(gone), None);
        assert_eq!(found(message("location")), None);
        let odd = Located {
            id: "1".into(),
            size: None,
            place: b"2 bytes".to_vec(),
        };
        assert!(place(&odd).is_none());
    }

    #[test]
    fn a_file_goes_as_what_it_is() {
        let sent = |kind, mime: &str, size, shape: Option<Shape>| {
            let mut file = Handed::new(7, kind, mime, size).unwrap();
            file.name = "tea pot".into();
            file.shape = shape.unwrap_or(file.shape);
            let call = super::message(enums::InputPeer::PeerSelf, "look", &file, 42);
            assert_eq!((&*call.message, call.random_id), ("look", 42));
            // What Telegram reads is what was meant.
            let media = enums::InputMedia::from_bytes(&call.media.to_bytes()).unwrap();
            assert_eq!(media, call.media);
            media
        };
        let photo = sent(MessageType::Image, "image/png", 1, None);
        let enums::InputMedia::UploadedPhoto(photo) = photo else {
            panic!("{photo:?}");
        };
        let enums::InputFile::File(file) = photo.file else {
            panic!("{:?}", photo.file);
        };
        assert_eq!((file.id, file.parts, &*file.name), (7, 1, "tea pot"));
        let document = |kind, mime: &str, size, shape| {
            let media = sent(kind, mime, size, shape);
            let enums::InputMedia::UploadedDocument(document) = media else {
                panic!("{media:?}");
            };
            assert_eq!(document.mime_type, mime);
            document
        };
        let big = document(MessageType::Image, "image/png", 11 << 20, None);
        assert!(big.force_file);
        assert_eq!(big.attributes.len(), 1);
        assert!(matches!(big.file, enums::InputFile::Big(it) if it.parts == 22));
        let film = document(MessageType::Video, "video/mp4", 1, None);
        let is_film = |it: &enums::DocumentAttribute| matches!(it, enums::DocumentAttribute::Video(it) if it.supports_streaming);
        assert!(!film.force_file && film.attributes.iter().any(is_film));
        let gif = document(MessageType::Image, "image/gif", 1, None);
        let animated = enums::DocumentAttribute::Animated;
        assert!(gif.attributes.contains(&animated));
        let voice = Some(Shape::Voice { seconds: 5 });
        let voice = document(MessageType::File, "audio/ogg", 1, voice);
        let is_voice = |it: &enums::DocumentAttribute| matches!(it, enums::DocumentAttribute::Audio(it) if it.voice && it.duration == 5);
        assert!(voice.attributes.iter().any(is_voice));
    }
}
