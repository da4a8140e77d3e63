//! What the status of a gRPC call says of the server that answered it.
//!
//! A call is answered 200 whatever became of it; its own status comes in a trailer, or in a head that is all. Three of the sixteen
//! are held against a server as an answer of 5xx is, because it says so of itself: INTERNAL (its own invariants are broken),
//! UNAVAILABLE (it cannot serve now) and DATA_LOSS. UNKNOWN is too, which is what most libraries make of an exception that
//! nobody caught. DEADLINE_EXCEEDED is not, because it is the client who sets the deadline, nor RESOURCE_EXHAUSTED, which is
//! how a quota is refused; the others are about the call.

/// A status that is held against the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The status of HTTP that says the same.
    pub(crate) status: u16,
    /// The word used in logs.
    pub(crate) word: &'static str,
}

/// Whether the value of `grpc-status` is held against the server.
pub(crate) fn fault(status: &[u8]) -> Option<Fault> {
    let (status, word) = match status {
        b"2" => (500, "grpc-unknown"),
        b"13" => (500, "grpc-internal"),
        b"14" => (503, "grpc-unavailable"),
        b"15" => (500, "grpc-data-loss"),
        _ => return None,
    };
    Some(Fault { status, word })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_of_itself_is_held_against_it_and_what_it_says_of_the_call_is_not() {
        for status in ["2", "13", "14", "15"] {
            assert!(fault(status.as_bytes()).is_some_and(|fault| fault.status >= 500), "{status}");
        }
        for status in ["0", "1", "3", "4", "5", "7", "8", "12", "16", "", "014"] {
            assert_eq!(fault(status.as_bytes()), None, "{status}");
        }
    }
}
