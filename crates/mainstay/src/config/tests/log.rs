//! Where requests are written down, and how a line looks.

use mainstay_proxy::access::{Destination, Format};

use super::{SMALLEST, read, told};

#[test]
fn an_access_log_is_a_file_or_standard_output_in_a_format_of_ones_own() {
    assert_eq!(read(SMALLEST).unwrap().access_log, None);
    let log = |text: &str| read(&format!("{text}\n{SMALLEST}")).unwrap().access_log.expect("a log");
    let file = log("[log]\naccess = \"/tmp/access.log\"");
    assert_eq!((file.destination, file.format), (Destination::File("/tmp/access.log".into()), Format::JSON));
    let out = log("[log]\naccess = \"stdout\"\naccess-format = \"{method} {target}\"");
    assert_eq!(out.destination, Destination::Stdout);
    assert_eq!(out.format, Format::parse("{method} {target}").unwrap());
}

#[test]
fn a_mistake_in_a_format_is_told_at_its_place_with_what_was_meant() {
    for (log, mistakes) in [
        (
            "access = \"stdout\"\naccess-format = \"{time} {statuss}\"",
            "3:17 log.access-format: there is no field {statuss}",
        ),
        (
            "access = \"stdout\"\naccess-format = \"{time\"",
            "3:17 log.access-format: a { without its }: {time",
        ),
        (
            "access = \"stdout\"\naccess-format = \"jsn\"",
            "3:17 log.access-format: neither `json` nor `combined`, and no field in it",
        ),
        ("access-format = \"json\"", "2:17 log.access-format: says nothing without access"),
        ("access = \"/nowhere/at/all.log\"", "2:10 log.access: its folder is not there"),
        ("access = \"/tmp\"", "2:10 log.access: a folder, not a file"),
        ("access = \"\"", "2:10 log.access: not a file"),
        ("acces = \"stdout\"", "2:1 log.acces: unknown key"),
    ] {
        assert_eq!(told(&format!("[log]\n{log}\n{SMALLEST}")), [mistakes], "{log}");
    }
    let text = format!("[log]\naccess = \"stdout\"\naccess-format = \"{{statuss}}\"\n{SMALLEST}");
    let mistakes = read(&text).unwrap_err();
    assert_eq!(mistakes.iter().next().map(|m| m.remedy.as_str()), Some("did you mean {status}?"));
}
