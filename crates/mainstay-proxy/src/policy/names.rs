//! Which of several services on one address a connection belongs to, by the server name that its client asks for.

/// The place of the one whose names fit best: a whole name before a wildcard, a longer wildcard before a shorter, and at last
/// one that has no names and takes everything.
pub(crate) fn best<'s>(
    services: impl Iterator<Item = &'s [String]> + Clone,
    name: Option<&str>,
) -> Option<usize> {
    let named = services.clone().enumerate().filter_map(|(place, names)| {
        let fit = names.iter().filter_map(|pattern| fit(pattern, name?)).max()?;
        Some((fit, place))
    });
    let everything = || services.clone().position(<[String]>::is_empty);
    named
        .max_by_key(|(fit, place)| (*fit, std::cmp::Reverse(*place)))
        .map(|(_, place)| place)
        .or_else(everything)
}

/// How well a name fits a pattern; `None`: not at all.
fn fit(pattern: &str, name: &str) -> Option<usize> {
    match pattern.strip_prefix('*') {
        Some("") => Some(0),
        Some(end) => (name.len() > end.len() && name.ends_with(end)).then_some(end.len()),
        None => (pattern == name).then_some(usize::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_name_decides_and_who_has_no_names_takes_the_rest() {
        let names = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let all = [
            names(&["*.example.com"]),
            names(&["db.example.com", "*.eu.example.com"]),
            names(&[]),
            names(&["example.org"]),
        ];
        let of = |name: Option<&str>| best(all.iter().map(Vec::as_slice), name);
        assert_eq!(of(Some("db.example.com")), Some(1));
        assert_eq!(of(Some("x.example.com")), Some(0));
        assert_eq!(of(Some("x.eu.example.com")), Some(1));
        assert_eq!(of(Some("example.com")), Some(2), "a wildcard is every name below");
        assert_eq!(of(None), Some(2));
        assert_eq!(best(all[..2].iter().map(Vec::as_slice), Some("example.org")), None);
    }
}
