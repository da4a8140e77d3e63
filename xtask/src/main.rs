//! The project's own chores: `cargo xtask test` does all that is checked before a change is taken, `cargo xtask dist`
//! builds what ships, `cargo xtask bench` compares it with HAProxy and nginx, `cargo xtask drill` writes what drills come to, `cargo xtask deny` asks cargo-deny about licences
//! and advisories.

mod bench;
mod deny;
mod dist;
mod drill;
mod packages;
mod purity;
mod run;
mod test;

use std::process::ExitCode;

const HELP: &str = "\
Usage: cargo xtask COMMAND

Commands:
  test [-v] [STEP…]   run all steps, or the named ones; -v shows their output as it comes
  test --long [STEP…] the same, with some ten thousand seeds of the simulation instead of some hundred
  test --list         name the steps
  deny                licences, bans and advisories by cargo-deny, which must be installed
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["test", rest @ ..] => test::main(rest),
        ["deny"] => deny::main(),
        ["dist"] => dist::main(),
        ["bench", rest @ ..] => bench::main(rest),
        ["drill", rest @ ..] => drill::main(rest),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}{}{}{}", drill::HELP, dist::HELP, bench::HELP);
            return ExitCode::SUCCESS;
        }
        other => {
            let (drill, dist, bench) = (drill::HELP, dist::HELP, bench::HELP);
            eprint!("`{}` is not a command here.\n\n{HELP}{drill}{dist}{bench}", other.join(" "));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
