//! TLS with visitors: which files, read and checked here, so that a wrong one is a mistake like any other and the old one stays
//! in force.

use std::time::Duration;

use mainstay_model::Endpoint;

use super::whole::Resolver;
use crate::config::mistake::Place;
use crate::config::raw::{RawCertificate, RawListen, RawTls};
use crate::config::read::{At, Field, Text};
use crate::tls::certificate::{Authorities, Certificate, Flaw};
use crate::tls::front::{ClientCertificates, FrontTls, Version};

/// Let's Encrypt renews 30 days before the end, so at 14 something has gone wrong for two weeks.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 86_400);

impl Resolver<'_> {
    /// How TLS is spoken at the addresses of `listen.https`.
    pub(super) fn tls(
        &self,
        field: &Field<RawTls>,
        https: &[Endpoint],
        listen: &Field<RawListen>,
    ) -> FrontTls {
        let absent = RawTls::default();
        let raw = field.get().map_or(&absent, |at| &at.value);
        let certificates = self.shown_certificates(raw);
        if let (Field::Here(at), true, Some(listen)) = (&raw.certificate, https.is_empty(), field.get())
            && !at.value.0.is_empty()
        {
            let remedy = "write https = \"0.0.0.0:443\" in [listen]";
            self.mistakes.key(&listen.place, "nobody can reach Mainstay over TLS", remedy);
        }
        if let (true, false, Some(listen)) =
            (raw.certificate.is_absent(), https.is_empty(), listen.get().and_then(|at| at.value.https.get()))
        {
            self.mistakes.value(
                &listen.place,
                "there is no certificate to show",
                "write [tls] with certificate = { chain = \"/etc/…/fullchain.pem\", key = \"/etc/…/privkey.pem\" }",
            );
        }
        FrontTls {
            certificates,
            oldest: match self.word(&raw.min_version, &["1.2", "1.3"]) {
                Some("1.3") => Version::Tls13,
                _ => Version::Tls12,
            },
            clients: self.client_certificates(raw),
            warn_before: self.duration(&raw.warn_before, WARN_BEFORE, Duration::ZERO),
        }
    }

    fn shown_certificates(&self, raw: &RawTls) -> Vec<Certificate> {
        let Some(list) = raw.certificate.get() else { return Vec::new() };
        if list.value.0.is_empty() {
            self.mistakes.value(&list.place, "no certificate", "write { chain = \"…\", key = \"…\" }");
        }
        list.value.0.items.iter().filter_map(|item| self.certificate(item)).collect()
    }

    fn certificate(&self, at: &At<RawCertificate>) -> Option<Certificate> {
        if at.value.chain.is_absent() {
            let remedy = "write chain = \"/etc/letsencrypt/live/shop.example.com/fullchain.pem\"";
            self.mistakes.absent(&at.place, "chain is missing", remedy);
        }
        let chain = at.value.chain.get()?;
        let key = at.value.key.get();
        let path = |at: &At<Text>| self.base_dir.join(&at.value.0);
        let read = Certificate::read(&path(chain), &path(key.unwrap_or(chain)));
        let place = |flaw: &Flaw| key.filter(|key| path(key) == flaw.path).unwrap_or(chain).place.clone();
        read.map_err(|flaw| self.flaw(&place(&flaw), flaw)).ok()
    }

    fn client_certificates(&self, raw: &RawTls) -> Option<ClientCertificates> {
        let required = self.word(&raw.client_auth, &["required", "optional"]) != Some("optional");
        if let (Some(at), true) = (raw.client_auth.get(), raw.client_ca.is_absent()) {
            let remedy = "write client-ca = \"/etc/mainstay/clients.pem\", the authority that issues them";
            self.mistakes.value(&at.place, "nobody's certificates would be accepted", remedy);
        }
        let at = raw.client_ca.get()?;
        let read = Authorities::read(&self.base_dir.join(&at.value.0));
        let authorities = read.map_err(|flaw| self.flaw(&at.place, flaw)).ok()?;
        Some(ClientCertificates { authorities, required })
    }

    /// Something is wrong with a file that is named here.
    pub(super) fn flaw(&self, place: &Place, flaw: Flaw) {
        self.mistakes.in_file(place, flaw.path.display().to_string(), 0, flaw.what, flaw.remedy);
    }
}
