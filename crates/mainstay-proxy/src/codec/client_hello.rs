//! The server name in the first message of TLS, by which connections are told apart without being decrypted (RFC 8446 4.1.2,
//! RFC 6066 3).

use std::borrow::Cow;

/// The longest hello that is waited for: keys of post-quantum exchanges make it some kilobytes, and nothing makes it more.
pub const HELLO_MAX: usize = 16 * 1024;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD_HEAD: usize = 5;
const MESSAGE_HEAD: usize = 4;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
const NAME_MAX: usize = 253;

/// Why there is no name to go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHello {
    /// The bytes are something else than TLS.
    NotTls,
    /// It begins as TLS and goes on otherwise.
    Malformed,
    /// It has not ended within [`HELLO_MAX`].
    TooLong,
}

/// The name that a client asks for, in lower case, once its whole hello is there; `Some(None)`: it asks for none.
///
/// # Errors
/// When the bytes cannot become a hello any more.
pub fn server_name(bytes: &[u8]) -> Result<Option<Option<String>>, NoHello> {
    let Some(message) = message(bytes)? else {
        return if bytes.len() >= HELLO_MAX { Err(NoHello::TooLong) } else { Ok(None) };
    };
    name_in(&message).ok_or(NoHello::Malformed).map(Some)
}

/// The body of the hello, which may be spread over several records; `None`: more is to come.
fn message(bytes: &[u8]) -> Result<Option<Cow<'_, [u8]>>, NoHello> {
    let mut whole: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut rest = bytes;
    loop {
        match rest {
            [] => return Ok(None),
            [HANDSHAKE] | [HANDSHAKE, 3] | [HANDSHAKE, 3, _] | [HANDSHAKE, 3, _, _] => {
                return Ok(None);
            }
            [HANDSHAKE, 3, _, _, _, ..] => {}
            _ if whole.is_empty() => return Err(NoHello::NotTls),
            _ => return Err(NoHello::Malformed),
        }
        let length = usize::from(u16::from_be_bytes([rest[3], rest[4]]));
        // No record holds more, and an empty one would let a hello go on for ever.
        if length == 0 || length > 1 << 14 {
            return Err(NoHello::Malformed);
        }
        let record = &rest[RECORD_HEAD..];
        let part = &record[..length.min(record.len())];
        if whole.is_empty() {
            whole = Cow::Borrowed(part);
        } else {
            whole.to_mut().extend_from_slice(part);
        }
        if let [kind, long, high, low, ..] = whole[..] {
            let length = usize::from(high) << 8 | usize::from(low);
            if kind != CLIENT_HELLO {
                return Err(NoHello::Malformed);
            }
            if long > 0 || length > HELLO_MAX {
                return Err(NoHello::TooLong);
            }
            if whole.len() >= MESSAGE_HEAD + length {
                return Ok(Some(match whole {
                    Cow::Borrowed(part) => Cow::Borrowed(&part[MESSAGE_HEAD..MESSAGE_HEAD + length]),
                    Cow::Owned(all) => Cow::Owned(all[MESSAGE_HEAD..MESSAGE_HEAD + length].to_vec()),
                }));
            }
        }
        rest = match record.get(length..) {
            Some(next) => next,
            None => return Ok(None),
        };
    }
}

/// The name in a hello's body; `None`: it is malformed.
fn name_in(body: &[u8]) -> Option<Option<String>> {
    let mut body = Reader(body);
    // Version and random.
    body.take(2 + 32)?;
    let session = body.byte()?;
    body.take(session.into())?;
    let ciphers = body.short()?;
    body.take(ciphers.into())?;
    let compressions = body.byte()?;
    body.take(compressions.into())?;
    if body.0.is_empty() {
        return Some(None);
    }
    let length = body.short()?;
    let mut extensions = Reader(body.take(length.into())?);
    while !extensions.0.is_empty() {
        let kind = extensions.short()?;
        let length = extensions.short()?;
        let extension = extensions.take(length.into())?;
        if kind == SERVER_NAME {
            return host_name(extension).map(Some);
        }
    }
    Some(None)
}

/// The first name of the list, which has one of each kind at most.
fn host_name(extension: &[u8]) -> Option<String> {
    let mut extension = Reader(extension);
    let length = extension.short()?;
    let mut names = Reader(extension.take(length.into())?);
    while !names.0.is_empty() {
        let kind = names.byte()?;
        let length = names.short()?;
        let name = names.take(length.into())?;
        if kind == HOST_NAME {
            let fine = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            let name = name.strip_suffix(b".").unwrap_or(name);
            let is_name = (1..=NAME_MAX).contains(&name.len()) && name.iter().all(fine);
            return is_name.then(|| String::from_utf8_lossy(name).to_ascii_lowercase());
        }
    }
    None
}

/// What is left of some bytes.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, n: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn short(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(bytes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(bytes.len()).expect("short");
        [&length.to_be_bytes(), bytes].concat()
    }

    /// A hello with this name, in records of so many bytes.
    fn hello(name: Option<&str>, filling: usize, record: usize) -> Vec<u8> {
        let filler = [&[0xfa, 0xfa][..], &list(&vec![7; filling])].concat();
        let name = name.map(|name| {
            let entry = [&[HOST_NAME][..], &list(name.as_bytes())].concat();
            [&[0, 0][..], &list(&list(&entry))].concat()
        });
        let extensions = [filler, name.unwrap_or_default()].concat();
        let body = [&[3, 3][..], &[9; 32], &[0], &list(&[0x13, 1]), &[1, 0], &list(&extensions)].concat();
        let length = u32::try_from(body.len()).expect("short").to_be_bytes();
        let message = [&[CLIENT_HELLO][..], &length[1..], &body].concat();
        message.chunks(record).flat_map(|part| [&[HANDSHAKE, 3, 1][..], &list(part)].concat()).collect()
    }

    #[test]
    fn a_name_is_found_in_lower_case_and_none_where_none_is_asked_for() {
        assert_eq!(
            server_name(&hello(Some("DB.Example.com"), 3, 9000)),
            Ok(Some(Some("db.example.com".into())))
        );
        assert_eq!(server_name(&hello(None, 3, 9000)), Ok(Some(None)));
    }

    #[test]
    fn what_is_no_hello_is_told_apart_from_one_that_is_malformed_or_too_long() {
        assert_eq!(server_name(b"GET / HTTP/1.1\r\n"), Err(NoHello::NotTls));
        assert_eq!(
            server_name(&[0, 0, 0, 8]),
            Err(NoHello::NotTls),
            "PostgreSQL asks for TLS in its own way"
        );
        assert_eq!(server_name(&[HANDSHAKE, 3, 1, 0, 0]), Err(NoHello::Malformed));
        assert_eq!(server_name(&[HANDSHAKE, 3, 1, 0, 4, 2, 0, 0, 0]), Err(NoHello::Malformed));
        assert_eq!(server_name(&[HANDSHAKE, 3, 1, 1, 0, CLIENT_HELLO, 1, 0, 0]), Err(NoHello::TooLong));
        assert_eq!(server_name(&hello(Some("a b"), 0, 9000)), Err(NoHello::Malformed));
        let slow = hello(Some("a.example"), 12_000, 1);
        assert_eq!(server_name(&slow[..HELLO_MAX]), Err(NoHello::TooLong), "a record a byte is no hello");
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = server_name(&bytes);
            let _ = server_name(&[&[HANDSHAKE, 3, 1][..], &bytes].concat());
        }

        #[test]
        fn a_hello_is_read_alike_however_it_is_cut(
            name in "[a-z0-9]{1,20}(\\.[a-z0-9]{1,20}){0,3}",
            filling in 0usize..3000,
            record in 1usize..2000,
            cut in any::<prop::sample::Index>(),
        ) {
            let record = record.max(filling / 2);
            let bytes = hello(Some(&name), filling, record);
            prop_assert_eq!(server_name(&bytes), Ok(Some(Some(name))));
            prop_assert_eq!(server_name(&bytes[..cut.index(bytes.len())]), Ok(None), "not whole yet");
        }
    }
}
