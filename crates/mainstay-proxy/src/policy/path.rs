//! How a path may be read: as it is written, and as the most lenient server would read it.
//!
//! Servers differ in what they decode, merge and cut off before they look for a page. A request whose readings lead to
//! different routes could be sent past a route, so it is refused; see docs/adr/0004-a-path-with-two-readings-is-refused.md.

/// A path that the most lenient server would read in another way than it is written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lenient {
    /// In this way.
    Reads(Vec<u8>),
    /// A segment leads upwards or nowhere (`..`, `.`), plainly or encoded.
    DotSegment,
    /// It has an encoded NUL, at which some servers stop reading.
    Nul,
}

/// The most lenient reading of a path; `None` if it is the same as what is written.
pub(crate) fn lenient(path: &[u8]) -> Option<Lenient> {
    let mut before = b' ';
    let is_odd = path.iter().any(|&byte| {
        let odd = matches!(byte, b'%' | b'\\' | b';') || (before == b'/' && matches!(byte, b'/' | b'.'));
        before = byte;
        odd
    });
    is_odd.then(|| read(path)).filter(|lenient| !matches!(lenient, Lenient::Reads(read) if read == path))
}

fn read(path: &[u8]) -> Lenient {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [byte, after @ ..] = rest {
        (decoded, rest) = match (byte, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                decoded.push(digit(*high) << 4 | digit(*low));
                (decoded, after)
            }
            _ => {
                decoded.push(*byte);
                (decoded, after)
            }
        };
    }
    if decoded.contains(&0) {
        return Lenient::Nul;
    }
    // What is decoded first is cut at its query after that.
    let end = decoded.iter().position(|b| matches!(b, b'?' | b'#')).unwrap_or(decoded.len());
    let mut out = Vec::with_capacity(end);
    let mut ends_in_slash = true;
    for segment in decoded[..end].split(|b| matches!(b, b'/' | b'\\')) {
        // Parameters of a segment (RFC 3986, 3.3), which servers of Java cut off.
        let name = segment.split(|&b| b == b';').next().unwrap_or_default();
        match name {
            b"" => ends_in_slash = true,
            b"." | b".." => return Lenient::DotSegment,
            name => {
                out.push(b'/');
                out.extend_from_slice(name);
                ends_in_slash = false;
            }
        }
    }
    if ends_in_slash {
        out.push(b'/');
    }
    Lenient::Reads(out)
}

fn digit(hex: u8) -> u8 {
    match hex {
        b'0'..=b'9' => hex - b'0',
        _ => (hex | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_everybody_reads_alike_has_one_reading() {
        for path in ["/", "/a/b", "/a/b/", "/a.b/c..d", "/.well-known/x", "/a/...", "*", "", "/a%"] {
            assert_eq!(lenient(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn the_lenient_reading_decodes_merges_and_cuts() {
        for (path, reading) in [
            ("/%61dmin", "/admin"),
            ("//admin", "/admin"),
            ("/a%2fb%2F", "/a/b/"),
            ("/a\\b", "/a/b"),
            ("/a%5cb", "/a/b"),
            ("/a;x=1/b;y", "/a/b"),
            ("/a/;x", "/a/"),
            ("/a%3fb", "/a"),
            ("/a%23b", "/a"),
            ("/a%2525", "/a%25"),
            ("//", "/"),
            ("/%zz%4", "/%zz%4"),
        ] {
            let expected = (path != reading).then(|| Lenient::Reads(reading.as_bytes().to_vec()));
            assert_eq!(lenient(path.as_bytes()), expected, "{path}");
        }
        for path in ["/a/../b", "/./a", "/a/..", "/%2e%2E/a", "/a%2f..%2fb", "/..;/a", "/.%2e\\a", "/..%3f"] {
            assert_eq!(lenient(path.as_bytes()), Some(Lenient::DotSegment), "{path}");
        }
        assert_eq!(lenient(b"/a%00b"), Some(Lenient::Nul));
    }

    proptest! {
        /// Whatever a server decodes, merges or cuts off, and in whatever order it stops doing so, the end is the same.
        #[test]
        fn reading_leniently_in_parts_ends_in_the_same_reading(
            parts in prop::collection::vec(prop::sample::select(vec!["/", "a", "b", ";x", "\\", "%2f", "%61", "%5C", "%3b"]), 0..12),
            step in 0usize..4,
        ) {
            let path = format!("/{}", parts.concat());
            let partly = match step {
                0 => path.replace("%61", "a"),
                1 => path.replace("%2f", "/").replace("%5C", "\\"),
                2 => path.replace('\\', "/"),
                _ => path.replace("//", "/"),
            };
            let end = |path: &str| match lenient(path.as_bytes()) {
                None => path.as_bytes().to_vec(),
                Some(Lenient::Reads(reading)) => reading,
                Some(other) => panic!("{other:?}"),
            };
            prop_assert_eq!(end(&path), end(&partly));
        }
    }
}
