//! The chunked transfer coding (RFC 9112, 7.1): a decoder that takes any split of its input, and the encoder.
//!
//! Extensions are read and dropped. Trailers are checked; they are dropped too but on the way to a client or a server that
//! speaks HTTP/2 (`TE` and `Trailer` are not passed on).

use super::header::is_token_byte;

/// The longest chunk-size line with its extensions, in bytes.
const LINE_MAX: u32 = 1024;
/// All trailers together, in bytes.
const TRAILERS_MAX: u32 = 8 * 1024;
/// Hexadecimal digits of a size: enough for 2^60 bytes, and never an overflow.
const DIGITS_MAX: u32 = 15;

/// Why a chunked body cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ChunkError {
    /// A size that is not hexadecimal digits, or junk after it.
    #[error("a chunk's size is not a hexadecimal number")]
    InvalidSize,
    /// A size of more digits than any body has bytes.
    #[error("a chunk's size is too large")]
    SizeOverflow,
    /// Extensions of more than a kilobyte, or with control characters.
    #[error("a chunk's extension is malformed")]
    InvalidExtension,
    /// A line that does not end in CRLF.
    #[error("a chunk's line does not end in CRLF")]
    InvalidLineEnd,
    /// A chunk's data is longer than its size said.
    #[error("a chunk's data does not end where its size says")]
    InvalidDataEnd,
    /// A trailer that is not `name: value`, or too many of them.
    #[error("a trailer is malformed")]
    InvalidTrailer,
}

impl ChunkError {
    /// The word used in logs and in the answer's problem type.
    pub fn as_str(self) -> &'static str {
        match self {
            ChunkError::InvalidSize => "invalid-chunk-size",
            ChunkError::SizeOverflow => "chunk-size-overflow",
            ChunkError::InvalidExtension => "invalid-chunk-extension",
            ChunkError::InvalidLineEnd => "invalid-chunk-line-end",
            ChunkError::InvalidDataEnd => "invalid-chunk-data-end",
            ChunkError::InvalidTrailer => "invalid-trailer",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// Reads one chunked body, whatever pieces it comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkedDecoder {
    state: State,
    /// Bytes of the present chunk's data still to come.
    remaining: u64,
    /// Digits of the present size.
    digits: u32,
    /// Bytes of the present line, or of all trailers.
    line: u32,
    /// The lines of the trailers so far; `None`: they are dropped.
    trailers: Option<Vec<u8>>,
}

/// What one call of [`ChunkedDecoder::decode`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded<'b> {
    /// Bytes of the input that are dealt with, the data among them.
    pub consumed: usize,
    /// The body's next bytes; empty when the input ended, or the body did.
    pub data: &'b [u8],
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkedDecoder {
    /// A decoder at the start of a body.
    pub const fn new() -> Self {
        Self { state: State::Size, remaining: 0, digits: 0, line: 0, trailers: None }
    }

    /// A decoder that keeps the trailers.
    pub const fn keeping_trailers() -> Self {
        Self { state: State::Size, remaining: 0, digits: 0, line: 0, trailers: Some(Vec::new()) }
    }

    /// The lines of the trailers, each ended by CRLF, if they are kept.
    pub fn trailers(&self) -> &[u8] {
        self.trailers.as_deref().unwrap_or_default()
    }

    /// Reads on up to the next data, the body's end or the input's; how many bytes that were.
    ///
    /// # Errors
    /// When the body is malformed; the decoder is of no use then.
    pub fn skip_to_data(&mut self, input: &[u8]) -> Result<usize, ChunkError> {
        let mut at = 0;
        while at < input.len() && !matches!(self.state, State::Data | State::Done) {
            self.step(input[at])?;
            at += 1;
        }
        Ok(at)
    }

    /// The body was read to its end; what follows belongs to somebody else.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads on until there is data, the input is used up, or the body ended.
    ///
    /// # Errors
    /// When the body is malformed; the decoder is of no use then.
    pub fn decode<'b>(&mut self, input: &'b [u8]) -> Result<Decoded<'b>, ChunkError> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if self.state == State::Data {
                let n = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(input.len() - at);
                self.remaining -= n as u64;
                if self.remaining == 0 {
                    self.state = State::DataCr;
                }
                return Ok(Decoded { consumed: at + n, data: &input[at..at + n] });
            }
            self.step(input[at])?;
            at += 1;
        }
        Ok(Decoded { consumed: at, data: &[] })
    }

    fn step(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.state = match self.state {
            State::Size => return self.size(byte),
            State::Extension => {
                self.line += 1;
                match byte {
                    b'\r' => State::SizeLf,
                    b'\n' => return Err(ChunkError::InvalidLineEnd),
                    _ if self.line > LINE_MAX || !is_field_byte(byte) => {
                        return Err(ChunkError::InvalidExtension);
                    }
                    _ => State::Extension,
                }
            }
            State::SizeLf if byte == b'\n' => {
                self.digits = 0;
                self.line = 0;
                if self.remaining == 0 { State::TrailerStart } else { State::Data }
            }
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => State::Size,
            State::DataCr | State::DataLf => return Err(ChunkError::InvalidDataEnd),
            State::TrailerStart | State::TrailerName | State::TrailerValue => return self.trailer(byte),
            State::TrailerLf if byte == b'\n' => {
                self.keep(byte);
                State::TrailerStart
            }
            State::EndLf if byte == b'\n' => State::Done,
            State::SizeLf | State::TrailerLf | State::EndLf => return Err(ChunkError::InvalidLineEnd),
            State::Data | State::Done => self.state,
        };
        Ok(())
    }

    fn size(&mut self, byte: u8) -> Result<(), ChunkError> {
        match byte {
            b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' => {
                if self.digits == DIGITS_MAX {
                    return Err(ChunkError::SizeOverflow);
                }
                self.digits += 1;
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                self.remaining = self.remaining << 4 | u64::from(digit);
            }
            b'\r' if self.digits > 0 => self.state = State::SizeLf,
            b';' if self.digits > 0 => self.state = State::Extension,
            b'\n' if self.digits > 0 => return Err(ChunkError::InvalidLineEnd),
            _ => return Err(ChunkError::InvalidSize),
        }
        Ok(())
    }

    fn trailer(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.line += 1;
        if self.line > TRAILERS_MAX {
            return Err(ChunkError::InvalidTrailer);
        }
        self.state = match (self.state, byte) {
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart | State::TrailerName, b) if is_token_byte(b) => State::TrailerName,
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, b) if is_field_byte(b) => State::TrailerValue,
            (_, b'\n') => return Err(ChunkError::InvalidLineEnd),
            _ => return Err(ChunkError::InvalidTrailer),
        };
        if self.state != State::EndLf {
            self.keep(byte);
        }
        Ok(())
    }

    /// The limit of all trailers bounds what is kept.
    fn keep(&mut self, byte: u8) {
        if let Some(trailers) = &mut self.trailers {
            trailers.push(byte);
        }
    }
}

/// Adds one chunk; nothing for no data, because an empty chunk would end the body.
pub fn encode_chunk(data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    let mut digits = [0u8; 16];
    let mut at = digits.len();
    let mut rest = data.len();
    while rest > 0 {
        at -= 1;
        digits[at] = b"0123456789abcdef"[rest & 0xf];
        rest >>= 4;
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Adds the end of a chunked body, with the lines of its trailers.
pub fn encode_end(trailers: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}

fn is_field_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes `input` in the given pieces: the body, and how many bytes were left after its end; `None` when unfinished.
    fn decode_in(pieces: &[&[u8]]) -> Result<Option<(Vec<u8>, usize)>, ChunkError> {
        let mut decoder = ChunkedDecoder::new();
        let mut body = Vec::new();
        let mut rest = 0;
        for piece in pieces {
            let mut at = 0;
            while at < piece.len() && !decoder.is_done() {
                let decoded = decoder.decode(&piece[at..])?;
                body.extend_from_slice(decoded.data);
                at += decoded.consumed;
            }
            rest += piece.len() - at;
        }
        Ok(decoder.is_done().then_some((body, rest)))
    }

    fn split<'a>(input: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut at: Vec<usize> = cuts.iter().map(|c| c % (input.len() + 1)).collect();
        at.extend([0, input.len()]);
        at.sort_unstable();
        at.windows(2).map(|w| &input[w[0]..w[1]]).collect()
    }

    #[test]
    fn a_body_with_extensions_and_trailers_is_read() {
        let input = b"4;a=b\r\nWiki\r\nA\r\npedia in c\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\nGET";
        assert_eq!(decode_in(&[input]), Ok(Some((b"Wikipedia in c".to_vec(), 3))));
    }

    #[test]
    fn malformed_bodies_are_refused_by_name() {
        for (input, error) in [
            (&b"g\r\n"[..], ChunkError::InvalidSize),
            (b"\r\n", ChunkError::InvalidSize),
            (b" 4\r\n", ChunkError::InvalidSize),
            (b"4 \r\n", ChunkError::InvalidSize),
            (b"+4\r\n", ChunkError::InvalidSize),
            (b"-1\r\n", ChunkError::InvalidSize),
            (b"0x4\r\n", ChunkError::InvalidSize),
            (b"4\nWiki\r\n", ChunkError::InvalidLineEnd),
            (b"4\r\rWiki", ChunkError::InvalidLineEnd),
            (b"4;a\nWiki", ChunkError::InvalidLineEnd),
            (b"4;\x00\r\n", ChunkError::InvalidExtension),
            (b"4\r\nWikix\r\n", ChunkError::InvalidDataEnd),
            (b"4\r\nWiki\n", ChunkError::InvalidDataEnd),
            (b"4\r\nWiki\r\r", ChunkError::InvalidDataEnd),
            (b"ffffffffffffffff\r\n", ChunkError::SizeOverflow),
            (b"0000000000000000000004\r\n", ChunkError::SizeOverflow),
            (b"0\r\nno colon\r\n\r\n", ChunkError::InvalidTrailer),
            (b"0\r\n folded: 1\r\n\r\n", ChunkError::InvalidTrailer),
            (b"0\r\na: b\n\r\n", ChunkError::InvalidLineEnd),
            (b"0\r\n\n", ChunkError::InvalidLineEnd),
            (b"0\r\n\rX", ChunkError::InvalidLineEnd),
        ] {
            assert_eq!(decode_in(&[input]), Err(error), "{:?}", String::from_utf8_lossy(input));
        }
    }

    #[test]
    fn endless_extensions_and_trailers_are_refused() {
        let mut input = b"4;".to_vec();
        input.resize(3000, b'a');
        assert_eq!(decode_in(&[&input]), Err(ChunkError::InvalidExtension));
        let input = [&b"0\r\n"[..], &b"a: b\r\n".repeat(2000)].concat();
        assert_eq!(decode_in(&[&input]), Err(ChunkError::InvalidTrailer));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_whatever_the_split(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8), cuts in prop::collection::vec(any::<usize>(), 0..12)) {
            let mut wire = Vec::new();
            for chunk in &chunks { encode_chunk(chunk, &mut wire); }
            encode_end(b"", &mut wire);
            wire.extend_from_slice(b"rest");
            prop_assert_eq!(decode_in(&split(&wire, &cuts)), Ok(Some((chunks.concat(), 4))));
        }

        #[test]
        fn the_split_of_arbitrary_bytes_does_not_matter(input in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"0123aF;:\r\n".to_vec())], 0..120), cuts in prop::collection::vec(any::<usize>(), 0..12)) {
            prop_assert_eq!(decode_in(&split(&input, &cuts)), decode_in(&[&input]));
        }
    }
}
