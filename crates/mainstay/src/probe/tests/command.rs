//! The command probe, with real programs.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::config::Secret;
use crate::config::probe::CommandProbe;

fn shell(script: &str) -> CommandProbe {
    let argv =
        ["/bin/sh", "-c", script, "check", "{address}", "{host}", "{port}", "{server}", "{service}", "{x}"];
    CommandProbe { argv: argv.map(str::to_owned).to_vec(), dir: "/".into(), ..CommandProbe::default() }
}

async fn told(probe: CommandProbe) -> Looked {
    probe_by("192.0.2.7:80".parse().unwrap(), ProbeSpec::Command(probe), None).await
}

#[tokio::test]
async fn the_exit_code_decides_and_the_first_line_says_why() {
    let good = told(shell("echo 'DISK OK - 56% free | /=2643MB;5948;5958;0;5968'; echo more")).await;
    assert_eq!(words(&good), "good: DISK OK - 56% free; / 2643MB (warn 5948, crit 5958)");
    let warns = told(shell("echo 'DISK WARNING - 8% free'; exit 1")).await.expect("it is in rotation");
    assert_eq!(warns.warning.as_deref(), Some("DISK WARNING - 8% free"));
    let fails = told(shell("echo 'DISK CRITICAL - full | a=1'; exit 2")).await;
    assert_eq!(fails, Err(ProbeFailure::Answer("DISK CRITICAL - full; a 1".to_owned())));
    for (script, wanted) in [
        ("echo 'no such host'; exit 3", "no such host"),
        ("echo usage >&2; exit 64", "the check ended with status 64, and only 0 to 3 say something: usage"),
        ("exit 127", "the check ended with status 127, and only 0 to 3 say something: it wrote nothing"),
        ("kill -SEGV $$", "the check was killed by SIGSEGV"),
    ] {
        assert_eq!(told(shell(script)).await, Err(ProbeFailure::NotProbed(wanted.to_owned())), "{script}");
    }
    assert_eq!(words(&told(shell("exit 0")).await), "good: OK");
    assert_eq!(words(&told(shell("exit 2")).await), "its check says CRITICAL");
}

/// Debian's monitoring-plugins, as they are.
#[tokio::test]
async fn plugins_of_nagios_are_understood() {
    let plugin = |name: &str, arguments: &[&str]| {
        let argv = std::iter::once(format!("/usr/lib/nagios/plugins/{name}"));
        let argv = argv.chain(arguments.iter().map(|&argument| argument.to_owned())).collect();
        CommandProbe { argv, ..shell("") }
    };
    let at = server(async |_stream| ()).await;
    let port = at.port().to_string();
    let open = words(&told(plugin("check_tcp", &["-H", "127.0.0.1", "-p", &port])).await);
    assert!(open.starts_with("good: TCP OK - ") && open.contains("; time 0."), "{open}");
    let shut = told(plugin("check_tcp", &["-H", "127.0.0.1", "-p", "1"])).await;
    let refused = "connect to address 127.0.0.1 and port 1: Connection refused";
    assert_eq!(shut, Err(ProbeFailure::Answer(refused.to_owned())));
    let disk = words(&told(plugin("check_disk", &["-w", "0%", "-c", "0%", "-p", "/"])).await);
    assert!(disk.starts_with("good: DISK OK - free space: / ") && disk.contains("; / "), "{disk}");
    let warns = told(plugin("check_procs", &["-w", "0:0"])).await.expect("it is in rotation").warning;
    assert!(warns.as_ref().is_some_and(|text| text.starts_with("PROCS WARNING: ")), "{warns:?}");
    let usage = told(plugin("check_disk", &["-w"])).await;
    assert!(matches!(&usage, Err(ProbeFailure::NotProbed(why)) if !why.is_empty()), "{usage:?}");
}

#[tokio::test]
async fn whom_it_looks_at_is_in_its_arguments_and_its_environment_and_secrets_of_others_are_not() {
    let heard = told(shell("echo \"$1 $2 $3 $4 $5 $6\"")).await;
    assert_eq!(words(&heard), "good: 192.0.2.7:80 192.0.2.7 80 app-1 shop {x}");
    let probe = CommandProbe {
        env: BTreeMap::from([("GREETING".to_owned(), "to {server}".to_owned())]),
        secrets: BTreeMap::from([("TOKEN".to_owned(), Secret::new("{host}".to_owned()))]),
        ..shell("echo \"$MAINSTAY_ADDRESS $MAINSTAY_SERVER $GREETING $TOKEN ${HOME-none}\"")
    };
    let service = ServiceId::new("shop");
    let settings = Settings {
        probes: [(service, Arc::new(ProbeSpec::Command(probe)))].into(),
        withheld: BTreeSet::from(["HOME".to_owned()]),
        ..Settings::default()
    };
    let at: SocketAddr = "192.0.2.7:80".parse().unwrap();
    let report = look(order(at, ProbeKind::Command, LONG), &settings).await;
    assert_eq!(words(&report.result), "good: 192.0.2.7:80 app-1 to app-1 {host} none");
}

#[tokio::test]
async fn one_that_does_not_end_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let script = format!("sleep 1000 & echo $! > {0}; echo $$ >> {0}; wait", pids.display());
    let late = told(shell(&script)).await;
    let Err(ProbeFailure::Silent(why)) = late else { panic!("{late:?}") };
    assert_eq!(why, "/bin/sh did not end within 2000 ms and was killed");
    everyone_ends(&pids).await;
    // One that ended and left somebody behind has its answer, and they are ended too.
    let script = format!("sleep 1000 & echo $! > {}; echo fine", pids.display());
    assert_eq!(words(&told(shell(&script)).await), "good: fine");
    everyone_ends(&pids).await;
}

async fn everyone_ends(pids: &std::path::Path) {
    for pid in std::fs::read_to_string(pids).unwrap().lines() {
        let begun = std::time::Instant::now();
        // What is left of an orphan is waited for by somebody else.
        let lives = |stat: String| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"));
        while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(lives) {
            assert!(begun.elapsed() < LONG, "{pid} goes on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn what_cannot_be_run_or_writes_without_end_says_nothing_worse() {
    let missing = CommandProbe { argv: vec!["/nowhere/check".to_owned()], ..shell("") };
    let told_of = told(missing).await;
    assert!(
        matches!(&told_of, Err(ProbeFailure::NotProbed(why)) if why.contains("/nowhere/check")),
        "{told_of:?}"
    );
    let flood = told(shell("yes 'a flood' | head -c 5000000; exit 2")).await;
    assert_eq!(words(&flood), "a flood");
}
