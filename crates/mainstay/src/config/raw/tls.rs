//! The part of the config about TLS, as written.

use crate::config::read::{OneOrMany, Span, Text, table};

table! {
    /// TLS with visitors, at the addresses of `listen.https`.
    RawTls {
        /// The certificates. A client gets the one with the host name that it asks for; the first is for clients that name no host,
        /// or one that none has. The files are read again when they change, and on SIGHUP.
        certificate: OneOrMany<RawCertificate>,
        /// The oldest version that is spoken: `1.2` or `1.3`.
        #[schemars(extend("default" = "1.2", "enum" = ["1.2", "1.3"]))]
        min_version: Text,
        /// The authorities that issue certificates of clients: a PEM file. With it clients are asked for one.
        client_ca: Text,
        /// `required`: who shows no certificate is turned away. `optional`: only who shows a wrong one. By default `required` with
        /// `client-ca`.
        #[schemars(extend("enum" = ["required", "optional"]))]
        client_auth: Text,
        /// A certificate that is valid for less time than this opens an incident; renewing it closes it.
        #[schemars(extend("default" = "14d"))]
        warn_before: Span,
    }
}

table! {
    /// TLS to servers whose address begins with `https://`. Probes go by it too.
    RawServerTls {
        /// Who issues their certificates: a PEM file, in place of the authorities that this machine trusts. It may also hold a
        /// server's own certificate, one that nobody has issued.
        ca: Text,
        /// The name that their certificates must have, and that is asked for (SNI). By default the host in each server's address.
        name: Text,
        /// `false`: their certificates are not looked at. Whoever can stand between Mainstay and a server can then read and change
        /// everything.
        #[schemars(extend("default" = true))]
        verify: bool,
        /// The certificate that Mainstay shows to servers that ask for one: a PEM file with its chain.
        certificate: Text,
        /// The PEM file with its private key. By default it is in the file of `certificate`.
        key: Text,
        /// The oldest version that is spoken: `1.2` or `1.3`.
        #[schemars(extend("default" = "1.2", "enum" = ["1.2", "1.3"]))]
        min_version: Text,
    }
}

table! {
    /// A certificate.
    RawCertificate {
        /// A PEM file: the site's own certificate first, then the ones that issued it (certbot's `fullchain.pem`).
        chain: Text,
        /// The PEM file with its private key (certbot's `privkey.pem`). By default it is in the file of `chain`, as HAProxy has it.
        key: Text,
    }
}
