//! Where frames of a WebSocket end (RFC 6455, 5.2), found as they pass: nothing of them is kept or changed, but a close can be
//! said between two of them.

/// "I am going away", as a server sends it (RFC 6455, 7.4.1: 1001).
pub const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
const OPCODE: u8 = 0x0f;
const CLOSE: u8 = 8;

/// One direction of a WebSocket.
#[derive(Debug, Clone, Copy, Default)]
pub struct Frames {
    at: At,
    /// A message has begun whose last frame has not come.
    in_message: bool,
    /// A close was begun, or said.
    closed: bool,
}

#[derive(Debug, Clone, Copy, Default)]
enum At {
    /// Between two frames.
    #[default]
    Between,
    /// Its first byte has passed.
    Second,
    /// So many bytes of its length are missing.
    Length { left: u8, value: u64, masked: bool },
    /// So many of its bytes are missing.
    Within(u64),
}

impl Frames {
    /// These bytes pass.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.at {
                At::Between => {
                    self.begin(byte);
                    bytes = rest;
                }
                At::Second => {
                    let masked = byte & MASKED != 0;
                    self.at = match byte & LENGTH {
                        126 => At::Length { left: 2, value: 0, masked },
                        127 => At::Length { left: 8, value: 0, masked },
                        length => within(u64::from(length), masked),
                    };
                    bytes = rest;
                }
                At::Length { left, value, masked } => {
                    let value = value << 8 | u64::from(byte);
                    self.at = match left {
                        0 | 1 => within(value, masked),
                        _ => At::Length { left: left - 1, value, masked },
                    };
                    bytes = rest;
                }
                At::Within(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[here..];
                    self.at = match left - here as u64 {
                        0 => At::Between,
                        left => At::Within(left),
                    };
                }
            }
        }
    }

    /// Everything that has passed is whole: a frame of one's own may follow, and no message is torn by it.
    pub fn is_between_messages(&self) -> bool {
        matches!(self.at, At::Between) && !self.in_message
    }

    /// A close has passed, at least its beginning.
    pub fn has_closed(&self) -> bool {
        self.closed
    }

    fn begin(&mut self, first: u8) {
        let (opcode, is_final) = (first & OPCODE, first & FINAL != 0);
        if opcode < CLOSE {
            // Control frames may stand between the frames of a message and are none of it.
            self.in_message = !is_final;
        }
        self.closed |= opcode == CLOSE;
        self.at = At::Second;
    }
}

/// What follows the length: the mask, and the payload.
fn within(length: u64, masked: bool) -> At {
    match length.saturating_add(if masked { 4 } else { 0 }) {
        0 => At::Between,
        left => At::Within(left),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame as either side writes it.
    fn frame(first: u8, masked: bool, payload: usize) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut bytes = vec![first];
        match payload {
            0..126 => bytes.push(mask | payload as u8),
            126..65_536 => {
                bytes.push(mask | 126);
                bytes.extend_from_slice(&(payload as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend_from_slice(&(payload as u64).to_be_bytes());
            }
        }
        bytes.resize(bytes.len() + payload + if masked { 4 } else { 0 }, 0x88);
        bytes
    }

    proptest! {
        #[test]
        fn the_end_of_each_message_is_found_however_its_bytes_are_cut(
            frames in proptest::collection::vec((0u8..16, any::<bool>(), 0usize..300), 1..6),
            large in 60_000usize..70_000,
            masked: bool,
            step in 1usize..9_000,
        ) {
            let mut all = frame(0x82, masked, large);
            let mut in_message = false;
            let mut ends = vec![all.len()];
            let mut closes = Vec::new();
            for (opcode, is_final, payload) in frames {
                if opcode == CLOSE {
                    closes.push(all.len());
                }
                if opcode < CLOSE {
                    in_message = !is_final;
                }
                all.extend(frame(opcode | if is_final { FINAL } else { 0 }, masked, payload));
                if !in_message {
                    ends.push(all.len());
                }
            }
            let mut frames = Frames::default();
            let mut passed = 0;
            for part in all.chunks(step) {
                frames.pass(part);
                passed += part.len();
                prop_assert_eq!(frames.is_between_messages(), ends.contains(&passed));
                prop_assert_eq!(frames.has_closed(), closes.iter().any(|begun| *begun < passed));
            }
        }

        #[test]
        fn whatever_passes_is_taken(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut frames = Frames::default();
            frames.pass(&bytes);
            prop_assert!(!bytes.is_empty() || frames.is_between_messages());
        }
    }

    #[test]
    fn what_mainstay_says_is_a_whole_close() {
        let mut frames = Frames::default();
        frames.pass(&GOING_AWAY);
        assert!(frames.is_between_messages() && frames.has_closed());
        assert_eq!(u16::from_be_bytes([GOING_AWAY[2], GOING_AWAY[3]]), 1001);
    }
}
