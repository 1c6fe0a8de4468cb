//! Who is logged in: a bounded table, decided without a clock or a socket.
//!
//! What a browser holds is a random number; here is its digest alone, with whom an access
//! table let in. Whether that one is let in still is asked of the newest table by whoever
//! looks a session up ([`super::Frame`]).

use core::time::Duration;
use std::collections::{HashMap, VecDeque};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pinion_admin_ui::live::LiveValues;
use pinion_admin_ui::model::{Flash, Operation};
use pinion_auth::access::Caller;
use pinion_metadata::MetaVersion;
use pinion_types::Monotonic;
use sha2::{Digest, Sha256};

/// Sessions at a time. Each has some kilobytes, most of them what its pages last showed.
pub(crate) const SESSIONS_MAX: usize = 1_024;

/// Sessions of one principal; a further one ends the one that was used longest ago.
pub(crate) const SESSIONS_PER_PRINCIPAL_MAX: usize = 16;

/// A session that asks for nothing for so long is over. Events that a page follows are
/// nothing that somebody does.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(30 * 60);

/// A session is over after so long, whatever it does.
pub(crate) const LIFE_MAX: Duration = Duration::from_secs(12 * 3600);

/// Confirm pages of one session that were shown and not used. A further one makes the
/// oldest count no more.
pub(crate) const ASKED_MAX: usize = 16;

/// Pages of one session whose values are kept for the stream that follows them: as many as
/// it may have streams.
pub(crate) const SHOWN_MAX: usize = STREAMS_PER_SESSION_MAX;

/// Event streams of one session. A browser has six connections to one node over HTTP/1.1,
/// and a page must still be had.
pub(crate) const STREAMS_PER_SESSION_MAX: usize = 4;

const ID_BYTES: usize = 32;

/// The digest of a session's number, under which the session is found: the time that a
/// lookup takes says nothing of the number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionDigest([u8; 32]);

impl core::fmt::Debug for SessionDigest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SessionDigest(..)")
    }
}

/// The number of a new session, as its cookie has it. It is kept nowhere.
pub(crate) fn cookie_text(id: &[u8; ID_BYTES]) -> String {
    URL_SAFE_NO_PAD.encode(id)
}

impl SessionDigest {
    pub(crate) fn of(id: &[u8; ID_BYTES]) -> Self {
        Self(Sha256::digest(id).into())
    }

    /// Of what a cookie says, if that can be a number of ours.
    pub(crate) fn of_cookie(text: &str) -> Option<Self> {
        let mut id = [0; ID_BYTES];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut id) {
            Ok(ID_BYTES) => Some(Self::of(&id)),
            _ => None,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What a confirm page was made for: what is done is what it showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) operation: Operation,
    pub(crate) target: String,
    /// Empty where it is about no tenant.
    pub(crate) tenant: String,
    /// What else the query said.
    pub(crate) more: Vec<(String, String)>,
    /// Of the target, when the page was made.
    pub(crate) version: Option<MetaVersion>,
    /// Digest of the rows of the audit log that the page showed.
    pub(crate) rows: [u8; 32],
}

/// One session.
#[derive(Debug)]
struct Session {
    caller: Caller,
    principal: Box<str>,
    begun: Monotonic,
    last: Monotonic,
    flash: Option<Flash>,
    asked: VecDeque<(u128, Asked)>,
    shown: VecDeque<(String, LiveValues)>,
    streams: usize,
}

/// Every principal's sessions take all the room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// The sessions of one node.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    all: HashMap<SessionDigest, Session>,
}

impl Sessions {
    /// Somebody was let in.
    pub(crate) fn begin(
        &mut self,
        now: Monotonic,
        digest: SessionDigest,
        caller: Caller,
        principal: &str,
    ) -> Result<(), Full> {
        self.all.retain(|_, session| !session.is_over(now));
        let of_same = |session: &&Session| *session.principal == *principal;
        if self.all.values().filter(of_same).count() >= SESSIONS_PER_PRINCIPAL_MAX {
            let of_same = |(_, session): &(_, &Session)| *session.principal == *principal;
            let oldest = self.all.iter().filter(of_same);
            let oldest = oldest.min_by_key(|(_, session)| session.last);
            if let Some(oldest) = oldest.map(|(digest, _)| *digest) {
                self.all.remove(&oldest);
            }
        }
        if self.all.len() >= SESSIONS_MAX {
            return Err(Full);
        }
        let session = Session {
            caller,
            principal: principal.into(),
            begun: now,
            last: now,
            flash: None,
            asked: VecDeque::new(),
            shown: VecDeque::new(),
            streams: 0,
        };
        self.all.insert(digest, session);
        Ok(())
    }

    /// Whom the session is of, while it lasts; `used` when it is somebody who asks.
    pub(crate) fn caller(
        &mut self,
        now: Monotonic,
        digest: &SessionDigest,
        used: bool,
    ) -> Option<Caller> {
        let session = self.all.get_mut(digest)?;
        if session.is_over(now) {
            self.all.remove(digest);
            return None;
        }
        if used {
            session.last = now;
        }
        Some(session.caller.clone())
    }

    /// What a newer table says of whom the session is of.
    pub(crate) fn renew(&mut self, digest: &SessionDigest, caller: Caller) {
        if let Some(session) = self.all.get_mut(digest) {
            session.caller = caller;
        }
    }

    /// Ends a session; whether there was one.
    pub(crate) fn end(&mut self, digest: &SessionDigest) -> bool {
        self.all.remove(digest).is_some()
    }

    /// Says something on the next page.
    pub(crate) fn tell(&mut self, digest: &SessionDigest, flash: Flash) {
        if let Some(session) = self.all.get_mut(digest) {
            session.flash = Some(flash);
        }
    }

    /// What is to be said on this page, once.
    pub(crate) fn told(&mut self, digest: &SessionDigest) -> Option<Flash> {
        self.all.get_mut(digest)?.flash.take()
    }

    /// A confirm page of this number is shown.
    pub(crate) fn ask(&mut self, digest: &SessionDigest, number: u128, asked: Asked) {
        if let Some(session) = self.all.get_mut(digest) {
            if session.asked.len() >= ASKED_MAX {
                session.asked.pop_front();
            }
            session.asked.push_back((number, asked));
        }
    }

    /// What the confirm page of this number was for, once.
    pub(crate) fn confirmed(&mut self, digest: &SessionDigest, number: u128) -> Option<Asked> {
        let asked = &mut self.all.get_mut(digest)?.asked;
        let at = asked.iter().position(|(other, _)| *other == number)?;
        asked.remove(at).map(|(_, asked)| asked)
    }

    /// A page showed these values, of which a stream will tell what has changed.
    pub(crate) fn show(&mut self, digest: &SessionDigest, path: &str, values: LiveValues) {
        if let Some(session) = self.all.get_mut(digest) {
            session.shown.retain(|(other, _)| other != path);
            if session.shown.len() >= SHOWN_MAX {
                session.shown.pop_front();
            }
            session.shown.push_back((path.to_owned(), values));
        }
    }

    /// A stream for what this page showed last, if that is known; `Err` when the session
    /// has as many as it may, or is over.
    pub(crate) fn follow(
        &mut self,
        digest: &SessionDigest,
        path: &str,
    ) -> Result<Option<LiveValues>, Full> {
        let session = self.all.get_mut(digest).ok_or(Full)?;
        if session.streams >= STREAMS_PER_SESSION_MAX {
            return Err(Full);
        }
        session.streams += 1;
        let shown = session.shown.iter().find(|(other, _)| other == path);
        Ok(shown.map(|(_, values)| values.clone()))
    }

    /// A stream of a session has ended; the next one goes on where it was.
    pub(crate) fn unfollow(
        &mut self,
        digest: &SessionDigest,
        path: &str,
        values: Option<LiveValues>,
    ) {
        if let Some(session) = self.all.get_mut(digest) {
            session.streams = session.streams.saturating_sub(1);
        }
        if let Some(values) = values {
            self.show(digest, path, values);
        }
    }
}

impl Session {
    fn is_over(&self, now: Monotonic) -> bool {
        now.since(self.last) >= IDLE_MAX || now.since(self.begun) >= LIFE_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_admin_ui::model::Level;
    use pinion_auth::TenantId;
    use pinion_auth::access::{AccessTable, Principal, TokenDigest};
    use pinion_auth::compile::Credentials;
    use pinion_types::WallMs;

    fn caller() -> Caller {
        let principal = Principal {
            name: "ops".into(),
            tenant: TenantId(1),
            grants: Vec::new(),
        };
        let table = AccessTable::new([(TokenDigest::of(b"t"), principal)]);
        let shown = Credentials {
            bearer: b"t",
            workload: None,
        };
        table.admit(WallMs(0), shown).expect("it is known")
    }

    fn digest(number: u16) -> SessionDigest {
        let mut id = [0; ID_BYTES];
        id[..2].copy_from_slice(&number.to_le_bytes());
        SessionDigest::of(&id)
    }

    fn at(minutes: u64) -> Monotonic {
        Monotonic::ZERO + Duration::from_secs(60 * minutes)
    }

    fn asked() -> Asked {
        Asked {
            operation: Operation::DeleteTenant,
            target: "acme".into(),
            tenant: String::new(),
            more: Vec::new(),
            version: None,
            rows: [0; 32],
        }
    }

    #[test]
    fn a_session_ends_when_nobody_asks_and_after_half_a_day_at_last() {
        let mut sessions = Sessions::default();
        let one = digest(1);
        sessions
            .begin(at(0), one, caller(), "ops")
            .expect("there is room");
        assert!(sessions.caller(at(29), &one, true).is_some());
        assert!(sessions.caller(at(58), &one, false).is_some());
        assert!(
            sessions.caller(at(59), &one, true).is_none(),
            "looking on is not asking"
        );
        sessions
            .begin(at(0), one, caller(), "ops")
            .expect("there is room");
        for minutes in (20..720).step_by(20) {
            assert!(sessions.caller(at(minutes), &one, true).is_some());
        }
        assert!(sessions.caller(at(720), &one, true).is_none());
    }

    #[test]
    fn the_table_is_bounded_for_each_and_for_all() {
        let mut sessions = Sessions::default();
        for number in 0..u16::try_from(SESSIONS_PER_PRINCIPAL_MAX).expect("small") {
            let begun = sessions.begin(at(number.into()), digest(number), caller(), "ops");
            begun.expect("there is room");
        }
        let begun = sessions.begin(at(20), digest(99), caller(), "ops");
        begun.expect("the oldest made room");
        assert!(sessions.caller(at(20), &digest(0), true).is_none());
        assert!(sessions.caller(at(20), &digest(1), true).is_some());
        let mut sessions = Sessions::default();
        for number in 0..u16::try_from(SESSIONS_MAX).expect("small") {
            let name = (number / 8).to_string();
            let begun = sessions.begin(at(0), digest(number), caller(), &name);
            begun.expect("there is room");
        }
        let full = sessions.begin(at(1), digest(5000), caller(), "another");
        assert_eq!(full, Err(Full));
        let later = sessions.begin(at(60), digest(5000), caller(), "another");
        assert_eq!(later, Ok(()), "those that are over make room");
    }

    #[test]
    fn what_is_said_and_what_is_confirmed_is_so_once_and_in_its_session() {
        let mut sessions = Sessions::default();
        for number in [1, 2] {
            sessions
                .begin(at(0), digest(number), caller(), "ops")
                .expect("there is room");
        }
        let flash = Flash {
            level: Level::Ok,
            text: "done".into(),
        };
        sessions.tell(&digest(1), flash);
        assert!(sessions.told(&digest(2)).is_none());
        assert!(sessions.told(&digest(1)).is_some());
        assert!(sessions.told(&digest(1)).is_none());
        sessions.ask(&digest(1), 7, asked());
        assert_eq!(sessions.confirmed(&digest(2), 7), None);
        assert_eq!(sessions.confirmed(&digest(1), 8), None);
        assert_eq!(sessions.confirmed(&digest(1), 7), Some(asked()));
        assert_eq!(sessions.confirmed(&digest(1), 7), None, "a replay");
        for number in 0..=ASKED_MAX as u128 {
            sessions.ask(&digest(1), number, asked());
        }
        assert_eq!(sessions.confirmed(&digest(1), 0), None, "the oldest");
        assert!(sessions.confirmed(&digest(1), 1).is_some());
    }

    #[test]
    fn a_session_follows_so_many_pages_and_goes_on_where_it_was() {
        let mut sessions = Sessions::default();
        let one = digest(1);
        sessions
            .begin(at(0), one, caller(), "ops")
            .expect("there is room");
        let values = |text: &str| LiveValues::of(&format!("<b data-live=\"n\">{text}</b>"));
        sessions.show(&one, "/", values("1"));
        for _ in 0..STREAMS_PER_SESSION_MAX {
            assert_eq!(sessions.follow(&one, "/"), Ok(Some(values("1"))));
        }
        assert_eq!(sessions.follow(&one, "/"), Err(Full));
        sessions.unfollow(&one, "/", Some(values("2")));
        assert_eq!(sessions.follow(&one, "/"), Ok(Some(values("2"))));
        sessions.unfollow(&one, "/", Some(values("2")));
        assert_eq!(sessions.follow(&one, "/ui/raft"), Ok(None));
    }

    #[test]
    fn a_cookie_is_a_number_of_ours_or_nothing() {
        let id = [7; ID_BYTES];
        let text = cookie_text(&id);
        assert_eq!(
            SessionDigest::of_cookie(&text),
            Some(SessionDigest::of(&id))
        );
        for wrong in ["", "AAAA", &text[1..], &format!("{text}A"), "%%%"] {
            assert_eq!(SessionDigest::of_cookie(wrong), None, "{wrong}");
        }
    }
}
