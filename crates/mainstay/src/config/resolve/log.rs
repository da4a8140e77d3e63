//! Where requests are written down, and how a line looks.

use std::path::Path;

use mainstay_proxy::access::{Destination, Format, FormatError, check_path};

use super::{AccessLogConfig, Resolver};
use crate::config::mistake::nearest;
use crate::config::raw::RawLog;
use crate::config::read::{Field, Text};

impl Resolver<'_> {
    /// `None`: nothing is written down.
    pub(super) fn access_log(&self, field: &Field<RawLog>) -> Option<AccessLogConfig> {
        let raw = &field.get()?.value;
        let format = self.format(&raw.access_format);
        let Some(at) = raw.access.get() else {
            if let (true, Some(format)) = (raw.access.is_absent(), raw.access_format.get()) {
                let remedy = "write access = \"/var/log/mainstay/access.log\", or \"stdout\"";
                self.mistakes.absent(&format.place, "says nothing without access", remedy);
            }
            return None;
        };
        let written = at.value.0.as_str();
        if written == "stdout" {
            return Some(AccessLogConfig { destination: Destination::Stdout, format });
        }
        let path = self.base_dir.join(written);
        let wrong = match written.is_empty() || written.contains('\0') {
            true => Err("not a file"),
            false => check_path(&path),
        };
        if let Err(what) = wrong {
            let folder = path.parent().unwrap_or(Path::new("/")).display();
            let remedy = match what {
                "its folder is not there" => format!("make {folder}, or name another file"),
                _ => "write \"/var/log/mainstay/access.log\", or \"stdout\"".to_owned(),
            };
            self.mistakes.value(&at.place, what, remedy);
        }
        Some(AccessLogConfig { destination: Destination::File(path), format })
    }

    fn format(&self, field: &Field<Text>) -> Format {
        let Some(at) = field.get() else { return Format::JSON };
        Format::parse(&at.value.0).unwrap_or_else(|error| {
            let remedy = match &error {
                FormatError::UnknownField(name) => match nearest(name, Format::field_names()) {
                    Some(meant) => format!("did you mean {{{meant}}}?"),
                    None => format!("write one of: {}", Format::field_names().collect::<Vec<_>>().join(", ")),
                },
                FormatError::NoFields => {
                    "write \"json\", \"combined\", or fields in braces: \"{time} {visitor} {method} {target} {status}\"".to_owned()
                }
                FormatError::Unclosed(_) | FormatError::Unopened => {
                    "write {name} for a field, and {{ or }} for a brace".to_owned()
                }
                FormatError::ControlCharacter => "write it on one line".to_owned(),
                FormatError::TooLong => "write fewer fields".to_owned(),
            };
            self.mistakes.value(&at.place, error.to_string(), remedy);
            Format::JSON
        })
    }
}
