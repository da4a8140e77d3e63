//! Badges for other people's pages: a small picture, and the JSON that shields.io draws one from.

use serde_json::json;

use super::view::State;

/// White text on it can be read: a contrast of at least 4.5 to 1.
fn colour(state: State) -> &'static str {
    match state {
        State::Works => "#1c7a48",
        State::SomeFail => "#8a5a00",
        State::Down => "#b82f28",
        State::Maintenance => "#2a57b8",
        State::Unsure => "#5c626c",
    }
}

/// As it stands in the middle of a line.
fn message(state: State) -> &'static str {
    match state {
        State::Works => "works",
        State::SomeFail => "some requests fail",
        State::Down => "not available",
        State::Maintenance => "under maintenance",
        State::Unsure => "not sure",
    }
}

/// The picture.
pub(super) fn svg(label: &str, state: State) -> String {
    let message = message(state);
    let (left, right) = (width(label), width(message));
    let whole = left + right;
    let (left_middle, right_middle) = (left / 2, left + right / 2);
    let (label, colour) = (escape(label), colour(state));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{whole}\" height=\"20\" role=\"img\" aria-label=\"{label}: {message}\">\
         <title>{label}: {message}</title>\
         <clipPath id=\"r\"><rect width=\"{whole}\" height=\"20\" rx=\"4\"/></clipPath>\
         <g clip-path=\"url(#r)\"><rect width=\"{left}\" height=\"20\" fill=\"#2b2f36\"/>\
         <rect x=\"{left}\" width=\"{right}\" height=\"20\" fill=\"{colour}\"/></g>\
         <g fill=\"#fff\" text-anchor=\"middle\" font-family=\"Verdana,DejaVu Sans,sans-serif\" font-size=\"11\">\
         <text x=\"{left_middle}\" y=\"14\">{label}</text><text x=\"{right_middle}\" y=\"14\">{message}</text></g></svg>\n"
    )
}

/// What shields.io's endpoint badge reads.
pub(super) fn shields(label: &str, state: State) -> String {
    let body = json!({
        "schemaVersion": 1, "label": label, "message": message(state), "color": colour(state),
        "isError": matches!(state, State::Down), "cacheSeconds": 60,
    });
    format!("{body}\n")
}

/// About what Verdana takes at 11 pixels, and a margin.
fn width(text: &str) -> usize {
    let wide = |c: char| match c {
        'i' | 'j' | 'l' | 'f' | 't' | 'r' | ' ' | '.' | ',' | '\'' | '|' | ':' => 4,
        'm' | 'w' | 'M' | 'W' => 11,
        c if c.is_ascii_uppercase() => 8,
        c if c.is_ascii() => 7,
        _ => 11,
    };
    text.chars().map(wide).sum::<usize>() + 12
}

/// Text as it may stand in XML.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // What no XML may hold.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push(' '),
            '\u{fffe}' | '\u{ffff}' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_out_of_the_picture() {
        let picture = svg("</text><script>\"&\u{1}", State::Works);
        assert!(picture.contains("&lt;/text&gt;&lt;script&gt;&quot;&amp; "), "{picture}");
        assert!(!picture.contains("<script"));
    }

    #[test]
    fn shields_is_told_in_its_own_words() {
        let json: serde_json::Value = serde_json::from_str(&shields("Shop", State::Down)).unwrap();
        assert_eq!(json["schemaVersion"], 1);
        assert_eq!((&json["label"], &json["message"]), (&json!("Shop"), &json!("not available")));
    }
}
