//! The id of a request: the client's own if it sent one that can be passed on, or else one that Mainstay makes.

/// An id. It goes to the server and back to the client as `X-Request-Id`, and into the access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestId {
    /// 32 hexadecimal digits; kept as a number, so that a request without an id of its own costs no allocation.
    Made(u128),
    /// As the client wrote it: printable ASCII without spaces, at most 128 bytes.
    Given(Box<[u8]>),
}

impl RequestId {
    /// The client's id, or the one that `make` gives.
    pub fn of(given: Option<&[u8]>, make: impl FnOnce() -> u128) -> Self {
        given.map_or_else(|| Self::Made(make()), |given| Self::Given(given.into()))
    }

    /// Its text; `digits` holds what is not kept as text.
    pub fn text<'a>(&'a self, digits: &'a mut [u8; 32]) -> &'a [u8] {
        match self {
            RequestId::Given(text) => text,
            RequestId::Made(number) => {
                for (two, byte) in digits.as_chunks_mut().0.iter_mut().zip(number.to_be_bytes()) {
                    *two = HEX[usize::from(byte)];
                }
                digits
            }
        }
    }
}

/// The two digits of every byte; looked up, because each request has an id.
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut all = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        all[byte] = [digits[byte >> 4], digits[byte & 0xf]];
        byte += 1;
    }
    all
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_id_is_32_digits_and_a_given_one_as_it_came() {
        let mut digits = [0; 32];
        let made = RequestId::of(None, || 0xabc);
        assert_eq!(made.text(&mut digits), b"00000000000000000000000000000abc");
        assert_eq!(RequestId::of(Some(b"mine"), || 1).text(&mut [0; 32]), b"mine");
    }
}
