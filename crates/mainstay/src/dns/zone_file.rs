//! Reads records as RFC 1035 writes them, from a zone file or from single lines in the config, each with its line. Entries are
//! taken apart here, because a mistake is worth nothing without its line; what each says is left to the DNS library.

use hickory_proto::rr::{Name, Record};
use hickory_proto::serialize::txt::Parser;

use super::zone::{Slip, Spot};

/// TTL of records that name none, in seconds, when the file has no `$TTL`.
pub const DEFAULT_TTL: u32 = 3600;
/// After so many a file is hardly a zone.
const SLIPS_MOST: usize = 100;

/// One entry of a zone file: what is written up to the end of its line, or of the line that closes its parentheses.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// Its first line, from 1.
    line: usize,
    /// It begins with a blank, so it belongs to the last name.
    goes_on: bool,
    /// Without comments, parentheses and line ends.
    text: String,
}

/// Reads the text of a zone file.
pub fn read(text: &str, origin: &Name) -> (Vec<(Spot, Record)>, Vec<Slip>) {
    let mut reader = Reader::new(origin);
    match entries(text) {
        Ok(entries) => {
            for entry in entries {
                reader.take(Spot::Line(entry.line), &entry);
                if reader.slips.len() >= SLIPS_MOST {
                    break;
                }
            }
        }
        Err((line, what, remedy)) => reader.slips.push(Slip::new(Spot::Line(line), what, remedy)),
    }
    (reader.records, reader.slips)
}

/// Reads single records: each item is one line of a zone file.
pub fn read_items<'t>(
    items: impl IntoIterator<Item = &'t str>,
    origin: &Name,
) -> (Vec<(Spot, Record)>, Vec<Slip>) {
    let mut reader = Reader::new(origin);
    for (index, item) in items.into_iter().enumerate() {
        let spot = Spot::Item(index);
        match entries(item.trim()) {
            Ok(entries) if entries.len() == 1 => reader.take(spot, &entries[0]),
            Ok(_) => {
                reader.slips.push(Slip::new(spot, "not one record", "write \"www 300 A 192.0.2.1\""));
            }
            Err((_, what, remedy)) => reader.slips.push(Slip::new(spot, what, remedy)),
        }
    }
    (reader.records, reader.slips)
}

struct Reader {
    origin: Name,
    zone: Name,
    ttl: Option<u32>,
    last_owner: Option<String>,
    records: Vec<(Spot, Record)>,
    slips: Vec<Slip>,
}

impl Reader {
    fn new(origin: &Name) -> Self {
        let mut origin = origin.clone();
        origin.set_fqdn(true);
        Self {
            zone: origin.clone(),
            origin,
            ttl: None,
            last_owner: None,
            records: Vec::new(),
            slips: Vec::new(),
        }
    }

    fn take(&mut self, spot: Spot, entry: &Entry) {
        let text = entry.text.trim();
        let first = text.split_whitespace().next().unwrap_or("");
        if first.starts_with('$') && !entry.goes_on {
            return self.directive(spot, text);
        }
        let owned = if entry.goes_on {
            let Some(owner) = &self.last_owner else {
                let remedy = "write its name at the beginning of the line; @ is the zone itself";
                return self.slips.push(Slip::new(spot, "a record without a name", remedy));
            };
            format!("{owner} {text}")
        } else {
            self.last_owner = Some(self.absolute(first));
            text.to_owned()
        };
        self.record(spot, &owned);
    }

    /// A name with its origin, so that a later `$ORIGIN` does not change what it means.
    fn absolute(&self, name: &str) -> String {
        match name {
            "@" => self.origin.to_ascii(),
            name if name.ends_with('.') => name.to_owned(),
            name if self.origin.is_root() => format!("{name}."),
            name => format!("{name}.{}", self.origin.to_ascii()),
        }
    }

    fn record(&mut self, spot: Spot, text: &str) {
        let ttl = self.ttl.unwrap_or(DEFAULT_TTL);
        let parsed = Parser::new(format!("$TTL {ttl}\n{text}\n"), None, Some(self.origin.clone())).parse();
        let sets = match parsed {
            Ok((_, sets)) => sets,
            Err(error) => {
                let remedy = "write NAME [TTL] TYPE DATA, for example: www 300 A 192.0.2.1";
                return self.slips.push(Slip::new(spot, format!("not a record: {error}"), remedy));
            }
        };
        let records = sets.values().flat_map(|set| set.records_without_rrsigs());
        let before = self.records.len();
        self.records.extend(records.map(|record| (spot, record.clone())));
        if self.records.len() == before {
            let remedy = "write NAME [TTL] TYPE DATA, for example: www 300 A 192.0.2.1";
            self.slips.push(Slip::new(spot, "a name without a record", remedy));
        }
    }

    fn directive(&mut self, spot: Spot, text: &str) {
        let mut words = text.split_whitespace();
        let (name, value) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        match name.to_ascii_uppercase().as_str() {
            "$TTL" => match ttl(value) {
                Some(ttl) => self.ttl = Some(ttl),
                None => self.slips.push(Slip::new(spot, "not a TTL", "write $TTL 3600, in seconds")),
            },
            "$ORIGIN" => match Name::parse(value, Some(&self.origin)) {
                Ok(mut name) if !value.is_empty() => {
                    name.set_fqdn(true);
                    self.origin = name;
                }
                _ => {
                    let remedy = format!("write $ORIGIN {}", self.zone);
                    self.slips.push(Slip::new(spot, "not a name", remedy));
                }
            },
            "$INCLUDE" => {
                let remedy = "put the records of that file here, or into records = [ … ]";
                self.slips.push(Slip::new(spot, "$INCLUDE is not in this version", remedy));
            }
            other => {
                let what = format!("{other} is not in this version");
                self.slips.push(Slip::new(spot, what, "write the records out"));
            }
        }
    }
}

/// `3600`, or `1h30m` as BIND writes it.
fn ttl(text: &str) -> Option<u32> {
    let (mut total, mut number) = (0u32, None::<u32>);
    for c in text.chars() {
        if let Some(digit) = c.to_digit(10) {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
            continue;
        }
        let unit = match c.to_ascii_lowercase() {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    match number {
        Some(seconds) => total.checked_add(seconds),
        None if text.is_empty() => None,
        None => Some(total),
    }
}

type Broken = (usize, &'static str, &'static str);

/// Takes a text apart into its entries.
fn entries(text: &str) -> Result<Vec<Entry>, Broken> {
    let mut found = Vec::new();
    let mut entry = String::new();
    let (mut line, mut first_line) = (1, 1);
    let (mut depth, mut opened) = (0usize, 1);
    let mut quoted: Option<usize> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' if quoted.is_some() => break,
            '\n' => {
                line += 1;
                if depth > 0 {
                    entry.push(' ');
                } else {
                    close(&mut entry, first_line, &mut found);
                    first_line = line;
                }
            }
            '\\' => {
                entry.push(c);
                entry.extend(chars.next_if(|next| *next != '\n'));
            }
            '"' => {
                quoted = if quoted.is_some() { None } else { Some(line) };
                entry.push(c);
            }
            _ if quoted.is_some() => entry.push(c),
            ';' => while chars.next_if(|next| *next != '\n').is_some() {},
            '(' => {
                (depth, opened) = (depth + 1, line);
                entry.push(' ');
            }
            ')' if depth == 0 => {
                return Err((
                    line,
                    "a parenthesis is closed that was never opened",
                    "remove it, or open it with (",
                ));
            }
            ')' => {
                depth -= 1;
                entry.push(' ');
            }
            '\r' | '\t' => entry.push(' '),
            c => entry.push(c),
        }
    }
    if let Some(line) = quoted {
        return Err((line, "quotes are opened and never closed in this line", "close them with \""));
    }
    if depth > 0 {
        return Err((opened, "a parenthesis is opened and never closed", "close it with )"));
    }
    close(&mut entry, first_line, &mut found);
    Ok(found)
}

fn close(entry: &mut String, line: usize, found: &mut Vec<Entry>) {
    let text = std::mem::take(entry);
    if !text.trim().is_empty() {
        found.push(Entry { line, goes_on: text.starts_with(' '), text });
    }
}
