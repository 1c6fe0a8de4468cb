//! Named durable cursors of streams: how far somebody has read.

use pinion_domains::stream::CursorError;
use pinion_types::Refusal;
use pinion_wire::message::{self, CursorItem, CursorList, Reply, Request};
use pinion_wire::reply::CursorPageBuilder;

use crate::core::{Core, answer};
use crate::execute::{Executed, Target};
use crate::mail::Origin;

impl Core {
    /// A request about cursors; `None` when it is about something else.
    pub(crate) fn execute_cursor(
        &mut self,
        origin: Origin,
        target: Target,
        request: &Request<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Result<Executed, Refusal>> {
        Some(match request {
            Request::CursorCommit(commit) => self.change_cursor(
                origin,
                target,
                commit.name,
                |stream, wall| stream.cursor_commit(commit.name.as_bytes(), commit.offset, wall),
                |durability| {
                    Reply::Cursor(message::Cursor {
                        offset: commit.offset,
                        durability,
                    })
                },
                out,
            ),
            Request::CursorDelete(delete) => self.change_cursor(
                origin,
                target,
                delete.name,
                |stream, wall| stream.cursor_delete(delete.name.as_bytes(), wall),
                |_| Reply::Done,
                out,
            ),
            Request::CursorGet(get) => {
                let durability = self.durability(target.slot);
                match self.shard.stream(target.slot).cursor(get.name.as_bytes()) {
                    Some(offset) => {
                        let cursor = Reply::Cursor(message::Cursor { offset, durability });
                        answer(out, origin.correlation, &cursor);
                        Ok(Executed::Replied)
                    }
                    None => Err(CursorError::Unknown.into()),
                }
            }
            Request::CursorList(list) => {
                self.list_cursors(origin, target, list, out);
                Ok(Executed::Replied)
            }
            _ => return None,
        })
    }

    fn change_cursor(
        &mut self,
        origin: Origin,
        target: Target,
        name: &str,
        change: impl FnOnce(
            &mut pinion_domains::stream::Partition,
            pinion_types::WallMs,
        ) -> Result<(), CursorError>,
        reply: impl FnOnce(message::Durability) -> Reply<'static>,
        out: &mut Vec<u8>,
    ) -> Result<Executed, Refusal> {
        // A cursor frees nothing, but it is how consumers go on: it passes
        // while the disk is full.
        self.shard.admit(target.slot, name.len(), true)?;
        change(self.shard.stream(target.slot), self.wall)?;
        let ticket = self.shard.take_ops(self.now, target.slot);
        answer(
            out,
            origin.correlation,
            &reply(self.durability(target.slot)),
        );
        Ok(ticket.map_or(Executed::Replied, Executed::Held))
    }

    fn list_cursors(
        &mut self,
        origin: Origin,
        target: Target,
        list: &CursorList<'_>,
        out: &mut Vec<u8>,
    ) {
        let stream = self.shard.stream(target.slot);
        let mut page = CursorPageBuilder::new(out, origin.correlation);
        let mut more = false;
        let after = list.after.as_bytes();
        let left = stream.cursors().filter(|(name, _)| *name > after);
        for (count, (name, offset)) in (0..).zip(left) {
            let name = core::str::from_utf8(name).expect("names come from text fields");
            if count == list.max_items || !page.push(CursorItem { name, offset }) {
                more = true;
                break;
            }
        }
        page.finish(more);
    }
}
