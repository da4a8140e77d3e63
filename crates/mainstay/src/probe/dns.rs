//! The DNS probe: one question to the server, or to a resolver that was chosen, and whether the answer says what it should. By UDP,
//! and by TCP when the answer does not fit.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{LowerName, RecordType};
use mainstay_model::input::{ProbeAnswer, ProbeFailure};

use super::Look;
use super::connect::connect_failure;
use super::wire::shortened;
use crate::config::probe::DnsProbe;
use crate::dns_client::{AskError, ask};

/// So much of an answer is told.
const TOLD_MAX: usize = 160;

/// Asks and judges.
pub(super) async fn probe(look: &Look<'_>, probe: &DnsProbe) -> Result<ProbeAnswer, ProbeFailure> {
    let Some(server) = probe.resolver.or_else(|| look.address.tcp()) else {
        let what = "its address is a Unix socket, at which nobody asks DNS: write health.dns.resolver";
        return Err(ProbeFailure::NotProbed(what.to_owned()));
    };
    let answer = ask(server, &LowerName::new(&probe.name), probe.kind, true, look.deadline).await;
    judge(&answer.map_err(|error| failure(error, probe))?, probe)
}

fn failure(error: AskError, probe: &DnsProbe) -> ProbeFailure {
    match error {
        AskError::Late => {
            ProbeFailure::Silent(format!("did not answer a question for {} in time", what(probe)))
        }
        AskError::Garbled(why) => ProbeFailure::Answer(format!("did not answer as a DNS server does: {why}")),
        AskError::Io { code: Some(code), .. } => connect_failure(&std::io::Error::from_raw_os_error(code)),
        // Its answer by TCP was cut short.
        AskError::Io { .. } => ProbeFailure::Reset,
    }
}

/// What was asked, for a person.
fn what(probe: &DnsProbe) -> String {
    format!("{} {}", probe.name.to_ascii().trim_end_matches('.'), probe.kind)
}

fn judge(answer: &Message, probe: &DnsProbe) -> Result<ProbeAnswer, ProbeFailure> {
    let bad = |words: String| Err(ProbeFailure::Answer(words));
    let (kind, asked) = (probe.kind, what(probe));
    match answer.metadata.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => return bad(format!("says that there is no such name (NXDOMAIN): {asked}")),
        ResponseCode::ServFail => return bad(format!("could not find out {asked} (SERVFAIL)")),
        ResponseCode::Refused => {
            return bad(format!(
                "refuses the question for {asked} (REFUSED): it may not serve this zone, or not this machine"
            ));
        }
        other => return bad(format!("answered the question for {asked} with an error: {other}")),
    }
    if probe.authoritative && !answer.metadata.authoritative {
        return bad(format!("answered {asked} from memory, and not as a server of the zone"));
    }
    let records = answer.answers.iter().filter(|record| record.record_type() == kind);
    let found: Vec<String> = records.map(|record| DnsProbe::usual(kind, &record.data.to_string())).collect();
    if found.is_empty() {
        let alias = answer.answers.iter().rfind(|record| record.record_type() == RecordType::CNAME);
        return bad(match alias {
            Some(alias) => format!("has no {kind} for {}, an alias of {}", probe.name, alias.data),
            None => format!("knows the name and has no {kind} for it: {asked}"),
        });
    }
    let told = shortened(&found.join(", "), TOLD_MAX);
    if let Some(missing) = probe.all.iter().find(|wanted| !found.contains(wanted)) {
        return bad(format!("answered {asked} with {told}, and not with {missing}"));
    }
    if !probe.any.is_empty() && !probe.any.iter().any(|wanted| found.contains(wanted)) {
        return bad(format!("answered {asked} with {told}, and with none of {}", probe.any.join(", ")));
    }
    let named = |record: &String| probe.all.contains(record) || probe.any.contains(record);
    if let Some(other) = found.iter().find(|record| probe.only && !named(record)) {
        return bad(format!(
            "answered {asked} with {}, which should not be there",
            shortened(other, TOLD_MAX)
        ));
    }
    Ok(ProbeAnswer::said(format!("{kind} {told}")))
}
