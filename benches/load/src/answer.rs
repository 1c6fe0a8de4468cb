//! Answers of HTTP/1.1 (RFC 9112), read from bytes as they come.

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and fields, as they came.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// How long the body of an answer is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Length {
    Bytes(usize),
    /// RFC 9112 §7.1.
    Chunked,
}

/// Status, length of the body, and length of a head that is whole.
pub(crate) fn head(read: &[u8]) -> Option<(u16, Length, usize)> {
    let len = find(read, b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&read[..len]).ok()?.to_ascii_lowercase();
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let field = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
    };
    let length = match field("transfer-encoding:") {
        Some(_) => Length::Chunked,
        None => Length::Bytes(field("content-length:").map_or(Some(0), |len| len.parse().ok())?),
    };
    Some((status, length, len))
}

/// A whole answer at the beginning, and its length.
pub(crate) fn whole(read: &[u8]) -> Option<(Answer, usize)> {
    let (status, length, head) = head(read)?;
    let rest = &read[head..];
    let (body, len) = match length {
        Length::Bytes(len) => (rest.get(..len)?.to_vec(), len),
        Length::Chunked => chunks(rest)?,
    };
    let head_text = String::from_utf8_lossy(&read[..head]).into_owned();
    let answer = Answer {
        status,
        head: head_text,
        body,
    };
    Some((answer, head + len))
}

/// All chunks of a body that is whole, and the bytes that they took.
fn chunks(read: &[u8]) -> Option<(Vec<u8>, usize)> {
    // A body that is long is looked at again and again as it comes: only its end says
    // whether it is worth it.
    if !read.ends_with(b"\r\n0\r\n\r\n") && !read.starts_with(b"0\r\n\r\n") {
        return None;
    }
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = find(&read[at..], b"\r\n")?;
        let size = std::str::from_utf8(&read[at..at + line]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        at += line + 2;
        body.extend_from_slice(read.get(at..at + size)?);
        at += size + 2;
        if size == 0 {
            return (at <= read.len()).then_some((body, at));
        }
    }
}

/// Where `text` begins.
pub(crate) fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::whole;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1";
        let (found, len) = whole(answer).expect("whole");
        assert_eq!((found.status, &found.body[..]), (200, &b"hello"[..]));
        assert_eq!(&answer[len..], b"HTTP/1.1");
        assert!(found.head.ends_with("Content-Length: 5\r\n\r\n"));
        assert!(whole(&answer[..len - 1]).is_none());
        assert!(whole(b"HTTP/1.1 200 OK\r\n").is_none());
    }

    #[test]
    fn chunks_are_put_together() {
        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n";
        let (found, len) = whole(answer).expect("whole");
        assert_eq!(found.body, b"hello!");
        assert_eq!(len, answer.len());
        assert!(whole(&answer[..answer.len() - 5]).is_none());
    }
}
