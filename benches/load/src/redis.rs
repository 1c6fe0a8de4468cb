//! The protocol of Redis (RESP2), as far as GET and SET need it.

use crate::tcp::{decimal, line_end};
use crate::text_cache::{Dialect, TextCache};

/// Drives GET and SET over plain TCP or TLS.
pub type Redis = TextCache<Resp>;

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct Resp;

impl Dialect for Resp {
    const PEER: &'static str = "Redis";

    fn get(key: &[u8]) -> Vec<u8> {
        command(&[b"GET", key])
    }

    fn set(key: &[u8], value: &[u8]) -> Vec<u8> {
        command(&[b"SET", key, value])
    }

    fn reply_length(bytes: &[u8]) -> Result<Option<usize>, &[u8]> {
        let Some(end) = line_end(bytes) else {
            return Ok(None);
        };
        match bytes.first() {
            Some(b'+') => Ok(Some(end + 2)),
            Some(b'$') => {
                let value = decimal(&bytes[1..end]).ok_or(&bytes[..end])?;
                let total = end + 2 + value + 2;
                Ok((bytes.len() >= total).then_some(total))
            }
            _ => Err(&bytes[..end]),
        }
    }
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        assert_eq!(Resp::get(b"k"), b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
        assert_eq!(
            Resp::set(b"k", b"ab"),
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nab\r\n"
        );
    }

    #[test]
    fn replies_are_cut_where_they_end() {
        assert_eq!(Resp::reply_length(b"+OK\r\n$1"), Ok(Some(5)));
        assert_eq!(Resp::reply_length(b"$3\r\na\rb\r\n"), Ok(Some(9)));
        for cut in 0..9 {
            let reply = &b"$3\r\na\rb\r\n"[..cut];
            assert_eq!(Resp::reply_length(reply), Ok(None), "cut at {cut}");
        }
        assert!(
            Resp::reply_length(b"$-1\r\n").is_err(),
            "a miss is not a success"
        );
        assert!(Resp::reply_length(b"-ERR x\r\n").is_err());
    }
}
