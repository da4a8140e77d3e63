//! TLS: certificates read from files and checked, how it is spoken with visitors and with servers, and one cryptography for all of it: ring, as
//! the process-wide choice that reqwest needs and lettre agrees with.

pub mod certificate;
pub mod front;
pub mod servers;

/// Makes ring the process's provider of cryptography. Call it before the first TLS client or server is made; more calls do nothing.
pub fn install_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may have installed the same one in between.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installing_twice_is_as_good_as_once() {
        install_provider();
        install_provider();
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }
}
