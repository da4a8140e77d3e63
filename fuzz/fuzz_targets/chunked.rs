//! The chunked decoder: nothing panics, and how the bytes are split does not matter.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay_proxy::codec::{ChunkError, ChunkedDecoder};

fuzz_target!(|bytes: &[u8]| {
    let Some((&cut, bytes)) = bytes.split_first() else { return };
    let cut = usize::from(cut).min(bytes.len());
    assert_eq!(decode(&[bytes]), decode(&[&bytes[..cut], &bytes[cut..]]));
});

fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, bool), ChunkError> {
    let mut decoder = ChunkedDecoder::new();
    let mut body = Vec::new();
    for piece in pieces {
        let mut at = 0;
        while at < piece.len() && !decoder.is_done() {
            let decoded = decoder.decode(&piece[at..])?;
            body.extend_from_slice(decoded.data);
            at += decoded.consumed;
        }
    }
    Ok((body, decoder.is_done()))
}
