//! memcached's text protocol, as far as `get` and `set` need it. It is
//! described in `doc/protocol.txt` of memcached.

use crate::tcp::{decimal, line_end};
use crate::text_cache::{Dialect, TextCache};

/// What a `set` is answered with.
const STORED: &[u8] = b"STORED";

/// What ends the answer to a `get`.
const END: &[u8] = b"END\r\n";

/// Drives `get` and `set`.
pub type Memcached = TextCache<Text>;

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct Text;

impl Dialect for Text {
    const PEER: &'static str = "memcached";

    fn get(key: &[u8]) -> Vec<u8> {
        [b"get ", key, b"\r\n"].concat()
    }

    /// With no flags.
    fn set(key: &[u8], value: &[u8]) -> Vec<u8> {
        let size = value.len().to_string();
        let head = [b"set ", key, b" 0 0 ", size.as_bytes(), b"\r\n"].concat();
        [&head, value, b"\r\n"].concat()
    }

    fn reply_length(bytes: &[u8]) -> Result<Option<usize>, &[u8]> {
        let Some(line) = line_end(bytes) else {
            return Ok(None);
        };
        let head = &bytes[..line];
        if head == STORED {
            return Ok(Some(line + 2));
        }
        // VALUE <key> <flags> <bytes>
        let size = head
            .strip_prefix(b"VALUE ")
            .and_then(|rest| rest.rsplit(|&byte| byte == b' ').next())
            .and_then(decimal)
            .ok_or(head)?;
        let value_end = line + 2 + size;
        let total = value_end + 2 + END.len();
        if bytes.len() < total {
            return Ok(None);
        }
        // A count of bytes that is wrong would shift every reply after it.
        let tail = &bytes[value_end..total];
        if tail.strip_prefix(b"\r\n") == Some(END) {
            Ok(Some(total))
        } else {
            Err(tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_key_size_and_value() {
        assert_eq!(Text::get(b"k"), b"get k\r\n");
        assert_eq!(Text::set(b"k", b"abc"), b"set k 0 0 3\r\nabc\r\n");
    }

    #[test]
    fn replies_are_cut_where_they_end() {
        assert_eq!(Text::reply_length(b"STORED\r\nVA"), Ok(Some(8)));
        // The value holds a line end and what looks like an end.
        let value = b"VALUE k 0 7\r\nEND\r\nab\r\nEND\r\n";
        assert_eq!(Text::reply_length(value), Ok(Some(value.len())));
        for cut in 0..value.len() {
            assert_eq!(Text::reply_length(&value[..cut]), Ok(None), "cut at {cut}");
        }
        assert!(
            Text::reply_length(b"END\r\n").is_err(),
            "a miss is not a success"
        );
        assert!(Text::reply_length(b"SERVER_ERROR out of memory\r\n").is_err());
        assert!(Text::reply_length(b"VALUE k 0 x\r\n").is_err());
        assert!(
            Text::reply_length(b"VALUE k 0 1\r\nab\r\nEND\r\n").is_err(),
            "a wrong size"
        );
    }
}
