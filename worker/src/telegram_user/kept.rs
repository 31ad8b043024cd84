//! A session as grammers keeps it, in memory, to be stored as text.
//!
//! The text is full access to the account. Two more forms are read: the session strings of earlier
//! installations, which carry nothing but the key (contract 6.8).

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddrV4, SocketAddrV6};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use futures::future::BoxFuture;
use grammers_client::session::types::{
    ChannelState, DcOption, PeerId, PeerInfo, UpdateState, UpdatesState,
};
use grammers_client::session::{Session, SessionData};
use serde::{Deserialize, Serialize};

use super::Failure;

/// Peers remembered; one that was forgotten is found again with the dialogs.
const PEERS_MAX: usize = 5_000;

/// The state of a session.
pub(super) struct Kept {
    state: Mutex<State>,
}

#[derive(Serialize, Deserialize)]
struct State {
    mtproto: u32,
    home_dc: i32,
    dc_options: BTreeMap<i32, DcOption>,
    peers: Vec<PeerInfo>,
    updates: UpdatesState,
    #[serde(skip)]
    places: HashMap<PeerId, usize>,
}

/// The session ended while somebody still used it. Cannot happen: there is nothing to fail.
#[derive(Debug, thiserror::Error)]
pub(super) enum Never {}

impl Kept {
    /// The session of a stored text; a new one without.
    pub(super) fn of(text: Option<&str>) -> Result<Self, Failure> {
        let unreadable = || Failure::Revoked {
            reason: "the stored session cannot be read".to_owned(),
        };
        let mut state = match text {
            None => State::new(),
            Some(text) if text.starts_with('{') => {
                serde_json::from_str(text).map_err(|_| unreadable())?
            }
            Some(text) => State::imported(text).ok_or_else(unreadable)?,
        };
        let ids = state.peers.iter().map(PeerInfo::id).enumerate();
        state.places = ids.map(|(place, id)| (id, place)).collect();
        Ok(Self {
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session as it has to be stored.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(&*self.state()).unwrap_or_default()
    }

    /// Who this session says it belongs to.
    pub(super) fn own_id(&self) -> Option<i64> {
        self.state().peers.iter().find_map(|peer| match peer {
            PeerInfo::User {
                id,
                is_self: Some(true),
                ..
            } => Some(*id),
            _ => None,
        })
    }
}

impl State {
    fn new() -> Self {
        let data = SessionData::default();
        Self {
            mtproto: 1,
            home_dc: data.home_dc,
            dc_options: data.dc_options.into_iter().collect(),
            peers: Vec::new(),
            updates: UpdatesState::default(),
            places: HashMap::new(),
        }
    }

    /// `1`, then base64 of data centre, address, port and key, in either of two layouts.
    fn imported(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix('1')?;
        let bytes = [&URL_SAFE, &URL_SAFE_NO_PAD, &STANDARD, &STANDARD_NO_PAD]
            .into_iter()
            .find_map(|engine| engine.decode(encoded).ok())?;
        let (dc, rest) = bytes.split_first()?;
        let (address, rest) = if bytes.len() == 263 {
            let (ip, rest) = rest.split_first_chunk::<4>()?;
            (Ipv4Addr::from(*ip), rest)
        } else {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let (address, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
            (std::str::from_utf8(address).ok()?.parse().ok()?, rest)
        };
        let (port, key) = rest.split_first_chunk::<2>()?;
        let ipv4 = SocketAddrV4::new(address, u16::from_be_bytes(*port));
        let mut state = Self::new();
        state.home_dc = i32::from(*dc);
        let option = DcOption {
            id: state.home_dc,
            ipv4,
            ipv6: SocketAddrV6::new(address.to_ipv6_mapped(), ipv4.port(), 0, 0),
            auth_key: Some(key.try_into().ok()?),
        };
        state.dc_options.insert(option.id, option);
        Some(state)
    }

    fn cache(&mut self, peer: PeerInfo) {
        let id = peer.id();
        match self.places.get(&id) {
            Some(place) => {
                self.peers[*place].extend_info(&peer);
            }
            None if self.peers.len() < PEERS_MAX => {
                self.places.insert(id, self.peers.len());
                self.peers.push(peer);
            }
            None => {}
        }
    }
}

impl Session for Kept {
    type Error = Never;

    fn home_dc_id(&self) -> Result<i32, Never> {
        Ok(self.state().home_dc)
    }

    fn set_home_dc_id(&self, dc_id: i32) -> BoxFuture<'_, Result<(), Never>> {
        self.state().home_dc = dc_id;
        Box::pin(async { Ok(()) })
    }

    fn dc_option(&self, dc_id: i32) -> Result<Option<DcOption>, Never> {
        Ok(self.state().dc_options.get(&dc_id).cloned())
    }

    fn set_dc_option(&self, dc_option: &DcOption) -> BoxFuture<'_, Result<(), Never>> {
        self.state()
            .dc_options
            .insert(dc_option.id, dc_option.clone());
        Box::pin(async { Ok(()) })
    }

    fn peer(&self, peer: PeerId) -> BoxFuture<'_, Result<Option<PeerInfo>, Never>> {
        let state = self.state();
        let found = if peer == PeerId::self_user() {
            let is_self = |it: &&PeerInfo| {
                matches!(
                    it,
                    PeerInfo::User {
                        is_self: Some(true),
                        ..
                    }
                )
            };
            state.peers.iter().find(is_self).cloned()
        } else {
            let place = state.places.get(&peer);
            place.and_then(|place| state.peers.get(*place)).cloned()
        };
        Box::pin(async move { Ok(found) })
    }

    fn cache_peer(&self, peer: PeerInfo) -> BoxFuture<'_, Result<(), Never>> {
        self.state().cache(peer);
        Box::pin(async { Ok(()) })
    }

    fn updates_state(&self) -> BoxFuture<'_, Result<UpdatesState, Never>> {
        let state = self.state().updates.clone();
        Box::pin(async move { Ok(state) })
    }

    fn set_update_state(&self, update: UpdateState) -> BoxFuture<'_, Result<(), Never>> {
        let state = &mut self.state().updates;
        match update {
            UpdateState::All(all) => *state = all,
            UpdateState::Primary { pts, date, seq } => {
                (state.pts, state.date, state.seq) = (pts, date, seq);
            }
            UpdateState::Secondary { qts } => state.qts = qts,
            UpdateState::Channel { id, pts } => {
                state.channels.retain(|channel| channel.id != id);
                state.channels.push(ChannelState { id, pts });
            }
        }
        Box::pin(async { Ok(()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(session: &Kept) -> Option<[u8; 256]> {
        let option = session.dc_option(2).unwrap().unwrap();
        assert_eq!(option.ipv4.to_string(), "149.154.167.51:443");
        option.auth_key
    }

    #[tokio::test]
    async fn a_session_comes_back_from_its_text() {
        let session = Kept::of(None).unwrap();
        let mut option = session.dc_option(2).unwrap().unwrap();
        option.auth_key = Some([7; 256]);
        option.ipv4 = "149.154.167.51:443".parse().unwrap();
        session.set_dc_option(&option).await.unwrap();
        session.set_home_dc_id(2).await.unwrap();
        let me = PeerInfo::User {
            id: 42,
            auth: None,
            bot: Some(false),
            is_self: Some(true),
        };
        session.cache_peer(me).await.unwrap();
        session
            .set_update_state(UpdateState::Primary {
                pts: 9,
                date: 8,
                seq: 7,
            })
            .await
            .unwrap();
        let again = Kept::of(Some(&session.text())).unwrap();
        assert_eq!(again.text(), session.text());
        assert_eq!(key(&again), Some([7; 256]));
        assert_eq!(again.own_id(), Some(42));
        let me = again.peer(PeerId::self_user()).await;
        assert!(me.unwrap().is_some());
    }

    #[test]
    fn session_strings_of_earlier_installations_are_read() {
        let key_bytes = [5_u8; 256];
        let mut first = vec![2_u8, 0, 14];
        first.extend(b"149.154.167.51");
        first.extend(443_u16.to_be_bytes());
        first.extend(key_bytes);
        let mut second = vec![2_u8, 149, 154, 167, 51];
        second.extend(443_u16.to_be_bytes());
        second.extend(key_bytes);
        for text in [
            format!("1{}", STANDARD.encode(first)),
            format!("1{}", URL_SAFE.encode(second)),
        ] {
            assert!(hub_domain::platform::telegram_user::is_session(&text));
            let session = Kept::of(Some(&text)).unwrap();
            assert_eq!(session.home_dc_id().unwrap(), 2);
            assert_eq!(key(&session), Some(key_bytes));
        }
        for odd in ["", "1", "1AAAA", "{", "7100000001:AAHub"] {
            assert!(matches!(Kept::of(Some(odd)), Err(Failure::Revoked { .. })));
        }
    }
}
