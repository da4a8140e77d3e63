//! The WebSocket probe: opens one on a path, checks that the server has understood what was asked, sends a ping and waits for its pong;
//! says and hears something if it is to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mainstay_model::input::{ProbeAnswer, ProbeFailure};
use mainstay_model::policy::Protocol;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::Look;
use super::connect::host_of;
use super::http::NAME;
use super::wire::{Wire, in_time, quoted};
use crate::config::probe::WebSocketProbe;

/// A longer message ends the probe.
const MESSAGE_MAX: usize = 60 * 1024;
/// Lines in the head of an answer.
const HEADERS_MAX: usize = 100;
/// Frames that are looked past while something is waited for.
const FRAMES_MAX: usize = 1000;
/// What RFC 6455 mixes into the key.
const MIXED_IN: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Opens it and says what answered.
pub(super) async fn probe(look: &Look<'_>, probe: &WebSocketProbe) -> Result<ProbeAnswer, ProbeFailure> {
    if look.protocol == Protocol::Http2 {
        let what = "a WebSocket is opened in HTTP/1.1, and its server speaks HTTP/2";
        return Err(ProbeFailure::NotProbed(what.to_owned()));
    }
    let mut wire = Wire::open(look).await?;
    let said = in_time(look, ask(&mut wire, look, probe)).await?;
    wire.ended_well();
    Ok(ProbeAnswer::said(said))
}

async fn ask(wire: &mut Wire, look: &Look<'_>, probe: &WebSocketProbe) -> Result<String, ProbeFailure> {
    let key = STANDARD.encode(random::<16>()?);
    wire.say(request(look, probe, &key).as_bytes()).await?;
    read_head(wire, probe, &key).await?;
    if let Some(text) = &probe.send {
        send(wire, TEXT, text.as_bytes()).await?;
    }
    let mut said = "answered a ping".to_owned();
    let mut left = FRAMES_MAX;
    if let Some(expect) = &probe.expect {
        let heard = loop {
            let message = hear(wire, None, &mut left).await?;
            if expect.is_in(&message) {
                break message;
            }
            if left == 0 {
                let wanted = quoted(expect.as_str().as_bytes());
                return Err(ProbeFailure::Answer(format!("sent {} and not {wanted}", quoted(&message))));
            }
        };
        said = format!("answered {} and a ping", quoted(&heard));
    }
    let ping = random::<8>()?;
    send(wire, PING, &ping).await?;
    hear(wire, Some(&ping[..]), &mut left).await?;
    send(wire, CLOSE, &1000u16.to_be_bytes()).await?;
    Ok(said)
}

fn request(look: &Look<'_>, probe: &WebSocketProbe, key: &str) -> String {
    let host = probe.host.clone().unwrap_or_else(|| host_of(look.address));
    let further = |name: &str, value: &Option<String>| {
        value.as_ref().map_or_else(String::new, |value| format!("{name}: {value}\r\n"))
    };
    format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {NAME}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{}{}\r\n",
        probe.path,
        further("Sec-WebSocket-Protocol", &probe.protocol),
        further("Origin", &probe.origin),
    )
}

/// The head of the answer: it must have opened this very WebSocket.
async fn read_head(wire: &mut Wire, probe: &WebSocketProbe, key: &str) -> Result<(), ProbeFailure> {
    let bad = |what: String| Err(ProbeFailure::Answer(what));
    let line = wire.line().await?;
    let status = status(&line).ok_or_else(|| ProbeFailure::Malformed(quoted(&line)))?;
    if status != 101 {
        return bad(format!("answered status {status} and opened no WebSocket"));
    }
    let (mut accept, mut upgrade, mut protocol) = (None, false, None);
    for lines in 0.. {
        let line = wire.line().await?;
        if line.is_empty() {
            break;
        }
        if lines == HEADERS_MAX {
            return Err(ProbeFailure::Malformed("more headers than a WebSocket needs".to_owned()));
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        let (name, value) = text.split_once(':').unwrap_or((&text, ""));
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "upgrade" => upgrade = value.eq_ignore_ascii_case("websocket"),
            "sec-websocket-accept" => accept = Some(value.to_owned()),
            "sec-websocket-protocol" => protocol = Some(value.to_owned()),
            _ => {}
        }
    }
    let right = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{MIXED_IN}").as_bytes()));
    if !upgrade {
        return bad("answered status 101 without an upgrade to a WebSocket".to_owned());
    }
    if accept.as_deref() != Some(right.as_str()) {
        return bad(
            "opened another WebSocket than the one that was asked for (Sec-WebSocket-Accept)".to_owned()
        );
    }
    match (&probe.protocol, protocol) {
        (Some(wanted), None) => bad(format!("opened a WebSocket without the protocol {wanted}")),
        (Some(wanted), Some(other)) if *wanted != other => {
            bad(format!("opened a WebSocket with {} and not {wanted}", quoted(other.as_bytes())))
        }
        _ => Ok(()),
    }
}

fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let code = std::str::from_utf8(rest.get(..3)?).ok()?;
    let ends = rest.get(3).is_none_or(|byte| *byte == b' ');
    code.parse().ok().filter(|code| ends && (100..600).contains(code))
}

/// A frame as a client sends it: hidden from whatever stands between by a mask.
async fn send(wire: &mut Wire, kind: u8, payload: &[u8]) -> Result<(), ProbeFailure> {
    let mask = random::<4>()?;
    let mut frame = vec![0x80 | kind];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..126), _) => frame.push(0x80 | length),
        (_, Ok(length)) => frame.extend([&[0x80 | 126], &length.to_be_bytes()[..]].concat()),
        _ => {
            let length = u64::try_from(payload.len()).unwrap_or(u64::MAX);
            frame.extend([&[0x80 | 127], &length.to_be_bytes()[..]].concat());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    wire.say(&frame).await
}

/// The next message; or, when a ping was sent, its pong, past all messages.
async fn hear(wire: &mut Wire, ping: Option<&[u8]>, left: &mut usize) -> Result<Vec<u8>, ProbeFailure> {
    let mut message: Option<Vec<u8>> = None;
    loop {
        *left = left.checked_sub(1).ok_or_else(|| {
            ProbeFailure::Answer("sent frame after frame, and not what was waited for".to_owned())
        })?;
        let (last, kind, payload) = frame(wire).await?;
        match kind {
            PING => send(wire, PONG, &payload).await?,
            PONG if ping == Some(&payload[..]) => return Ok(payload),
            PONG => {}
            CLOSE => {
                let code = payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                let why = quoted(payload.get(2..).unwrap_or_default());
                return Err(ProbeFailure::Answer(format!("closed the WebSocket: {code} {why}")));
            }
            0 | TEXT | BINARY if (kind == 0) == message.is_some() => {
                let mut whole = message.take().unwrap_or_default();
                whole.extend(payload);
                match (last, ping) {
                    (false, _) => message = Some(whole),
                    (true, None) => return Ok(whole),
                    (true, Some(_)) => {}
                }
            }
            _ => return Err(strange(kind)),
        }
    }
}

/// A frame as a server sends it: whether it ends its message, its kind, what is in it.
async fn frame(wire: &mut Wire) -> Result<(bool, u8, Vec<u8>), ProbeFailure> {
    let head = wire.take(2).await?;
    let (last, kind) = (head[0] & 0x80 != 0, head[0] & 0x0f);
    // Bits of extensions that nobody has asked for; a mask, which only clients use; control frames are short and whole.
    let control = kind >= CLOSE;
    if head[0] & 0x70 != 0 || head[1] & 0x80 != 0 || control && (!last || head[1] > 125) {
        return Err(strange(kind));
    }
    let length = match head[1] {
        126 => {
            let length = wire.take(2).await?;
            u64::from(u16::from_be_bytes([length[0], length[1]]))
        }
        127 => wire.take(8).await?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        short => u64::from(short),
    };
    match usize::try_from(length) {
        Ok(length @ ..=MESSAGE_MAX) => Ok((last, kind, wire.take(length).await?)),
        _ => Err(ProbeFailure::Answer("sent a message of more than 60 KiB".to_owned())),
    }
}

fn strange(kind: u8) -> ProbeFailure {
    ProbeFailure::Answer(format!("sent a frame that is none of a WebSocket (kind {kind})"))
}

fn random<const N: usize>() -> Result<[u8; N], ProbeFailure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| ProbeFailure::NotProbed(error.to_string()))?;
    Ok(bytes)
}
