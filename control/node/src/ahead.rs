//! What the next requests will read, asked for before the first of them runs.

use pinion_domains::cache::FETCH_AHEAD_MAX;
use pinion_session::{FrameReader, Phase};
use pinion_types::route::partition_of;
use pinion_wire::message::Request;
use pinion_wire::opcode;

use crate::core::Core;

/// Fewer requests than this do not wait for memory long enough to pay for being
/// looked at twice.
const AHEAD_MIN: usize = 4;

impl Core {
    /// Looks at the requests that `reader` holds, and lets the cache partition that
    /// the first of them asks fetch what they will read. Gives how many requests
    /// may run before it is worth another look, at least 1. Decides nothing: what
    /// is refused later is only read in vain.
    pub(crate) fn fetch_ahead(&mut self, conn: u64, reader: &FrameReader) -> usize {
        // The headers first: a request that came alone is not decoded twice.
        let first = reader.ahead().take(AHEAD_MIN);
        let cached = first.take_while(|frame| is_read_ahead(frame.header.opcode));
        if cached.count() < AHEAD_MIN {
            // Most likely others of its kind follow: they are not looked at each.
            return FETCH_AHEAD_MAX;
        }
        let mut keys = [&[][..]; FETCH_AHEAD_MAX];
        let mut count = 0;
        let mut asked = None;
        for frame in reader.ahead().take(FETCH_AHEAD_MAX) {
            if !is_read_ahead(frame.header.opcode) {
                break;
            }
            let (handle, key) = match Request::decode(frame.header.opcode, frame.body) {
                Ok(Request::CacheGet(get)) => (get.handle, get.key),
                Ok(Request::CacheSet(set)) => (set.handle, set.key),
                _ => break,
            };
            if *asked.get_or_insert(handle) != handle {
                break;
            }
            keys[count] = key;
            count += 1;
        }
        let Some(handle) = asked.filter(|_| count >= AHEAD_MIN) else {
            return FETCH_AHEAD_MAX;
        };
        let Some(connection) = self.connection(conn) else {
            return count;
        };
        if connection.session.phase != Phase::Ready {
            return count;
        }
        let Some(entry) = connection.handles.get(handle.0 as usize) else {
            return count;
        };
        let resource = &entry.resource;
        let partition = partition_of(keys[0], resource.spec.shards);
        let slot = entry.slots[usize::from(partition.0)];
        if let Some(slot) = slot
            && let Some(cache) = self.shard.cache_at(slot)
        {
            cache.fetch_ahead(&keys[..count]);
        }
        count
    }
}

/// Whether requests of this kind are looked at ahead.
const fn is_read_ahead(opcode: u8) -> bool {
    matches!(opcode, opcode::CACHE_GET | opcode::CACHE_SET)
}
