//! Reads the files again.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use mainstay_model::replay::Beginning;
use mainstay_model::{Input, Now, Wall};
use zstd::stream::read::Decoder;

use super::Header;

/// How the name of a file ends.
pub(super) const USUAL: &str = ".inputs.zst";
/// The same of one that is kept longer.
pub(super) const OF_AN_INCIDENT: &str = ".incident.zst";

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// When it begins.
    pub from: Wall,
    /// An incident was open then, or soon after.
    pub of_an_incident: bool,
    /// Its size.
    pub bytes: u64,
    /// Where it is.
    pub path: PathBuf,
}

/// What is in a file.
pub struct Contents {
    /// From what a judge goes on.
    pub beginning: Beginning,
    /// Nothing is missing between this and the file that begins then.
    pub after: Option<Wall>,
    lines: Lines,
}

struct Lines {
    file: BufReader<Decoder<'static, BufReader<File>>>,
    line: Vec<u8>,
}

impl Lines {
    /// The next whole one. A file that was not ended well, by a crash, ends where it can no longer be read.
    fn next(&mut self) -> Option<&[u8]> {
        self.line.clear();
        self.file.read_until(b'\n', &mut self.line).ok()?;
        self.line.strip_suffix(b"\n")
    }
}

/// The files of a folder, oldest first; none if there is no such folder.
///
/// # Errors
/// When the folder cannot be read.
pub fn segments(folder: &Path) -> io::Result<Vec<Segment>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let of_an_incident = name.ends_with(OF_AN_INCIDENT);
        let Some(at) = name.strip_suffix(USUAL).or_else(|| name.strip_suffix(OF_AN_INCIDENT)) else {
            continue;
        };
        let Ok(at) = at.parse() else { continue };
        let Ok(metadata) = entry.metadata() else { continue };
        all.push(Segment { from: Wall(at), of_an_incident, bytes: metadata.len(), path: entry.path() });
    }
    all.sort_by_key(|segment| segment.from);
    Ok(all)
}

impl Segment {
    /// Opens it.
    ///
    /// # Errors
    /// When it cannot be read, or is of another version of Mainstay.
    pub fn open(&self) -> io::Result<Contents> {
        let strange = || {
            let path = self.path.display();
            io::Error::other(format!("{path} was written by another version of Mainstay"))
        };
        let file = BufReader::new(Decoder::new(File::open(&self.path)?)?);
        let mut lines = Lines { file, line: Vec::new() };
        let header: Header =
            lines.next().and_then(|line| serde_json::from_slice(line).ok()).ok_or_else(strange)?;
        if header.format != Header::FORMAT {
            return Err(strange());
        }
        Ok(Contents { beginning: header.beginning, after: header.after, lines })
    }
}

impl Iterator for Contents {
    type Item = (Now, Input);

    fn next(&mut self) -> Option<Self::Item> {
        serde_json::from_slice(self.lines.next()?).ok()
    }
}
