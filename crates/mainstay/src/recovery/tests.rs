//! Supervision of real processes: shell scripts that crash, hang, flood, hide and refuse to die.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Stdio;

use mainstay_model::drill::{DrillStep, Fault};
use mainstay_model::effect::{ActionKind, Launch};
use mainstay_model::input::{Exit, ProcessEvent};
use mainstay_model::{ActionId, ServiceId};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::*;

/// Generous, for a loaded machine; nothing waits so long when all is well.
const LONG: Duration = Duration::from_secs(30);

/// A supervisor and what it tells.
struct World {
    supervisor: Supervisor,
    inputs: mpsc::Receiver<Input>,
    commands: BTreeMap<ServerId, CommandSpec>,
    folder: TempDir,
    actions: u64,
    /// What was seen of servers before they were ended.
    captured: Vec<(String, Vec<String>)>,
}

impl World {
    async fn new() -> Self {
        Self::with_inputs(100).await
    }

    async fn with_inputs(capacity: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (sender, inputs) = mpsc::channel(capacity);
        let supervisor = Supervisor::start(folder.path().to_owned(), sender, None).await.unwrap();
        Self { supervisor, inputs, commands: BTreeMap::new(), folder, actions: 0, captured: Vec::new() }
    }

    /// A world with one server that runs `script`, started.
    async fn with(script: &str) -> (Self, ServerId, u32) {
        let mut world = Self::new().await;
        let server = world.serve("app-1", shell(script));
        let pid = world.start(&server).await;
        (world, server, pid)
    }

    fn serve(&mut self, name: &str, spec: CommandSpec) -> ServerId {
        let server = ServiceId::new("shop").server(name);
        self.commands.insert(server.clone(), spec);
        self.supervisor.apply(self.commands.clone(), BTreeSet::new());
        server
    }

    fn order(&mut self, server: &ServerId, kind: ActionKind) -> ActionId {
        self.actions += 1;
        let id = ActionId(self.actions);
        let reason = "a test".to_owned();
        let launch = Launch::own(server);
        let server = server.clone();
        self.supervisor.carry_out(ActionOrder { id, incident: None, server, kind, launch, reason });
        id
    }

    async fn next(&mut self) -> Input {
        loop {
            let input = tokio::time::timeout(LONG, self.inputs.recv()).await;
            match input.expect("an input in time").expect("the supervisor lives") {
                Input::Captured { text, lines, .. } => self.captured.push((text, lines)),
                input => return input,
            }
        }
    }

    async fn next_event(&mut self) -> ProcessEvent {
        match self.next().await {
            Input::Process { event, .. } => event,
            other => panic!("not about a process: {other:?}"),
        }
    }

    async fn next_address(&mut self) -> Option<SocketAddr> {
        match self.next().await {
            Input::Address { address, .. } => address.and_then(|address| address.tcp()),
            other => panic!("not an address: {other:?}"),
        }
    }

    async fn next_outcome(&mut self) -> (ActionId, Result<(), String>) {
        match self.next().await {
            Input::Outcome { action, result } => (action, result),
            other => panic!("not an outcome: {other:?}"),
        }
    }

    async fn next_exit(&mut self) -> (Exit, bool, Vec<String>) {
        assert_eq!(self.next_address().await, None);
        match self.next_event().await {
            ProcessEvent::Exited { exit, asked, last_lines } => (exit, asked, last_lines),
            other => panic!("not an exit: {other:?}"),
        }
    }

    async fn next_start(&mut self) -> (SocketAddr, u32) {
        let address = self.next_address().await.expect("an address");
        match self.next_event().await {
            ProcessEvent::Started { pid } => (address, pid),
            other => panic!("not a start: {other:?}"),
        }
    }

    async fn start(&mut self, server: &ServerId) -> u32 {
        let action = self.order(server, ActionKind::Start);
        let (_, pid) = self.next_start().await;
        assert_eq!(self.next_outcome().await, (action, Ok(())));
        pid
    }

    /// Waits until the server has written this line, and those before it.
    async fn until_written(&self, server: &ServerId, line: &str) -> Vec<String> {
        until(|| {
            let lines = self.supervisor.last_lines(server);
            lines.iter().any(|l| l == line).then_some(lines)
        })
        .await
    }

    async fn close(self) {
        self.supervisor.stop_all(LONG).await;
    }
}

async fn until<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + LONG;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < give_up, "never came true");
        sleep(Duration::from_millis(5)).await;
    }
}

fn shell(script: &str) -> CommandSpec {
    command(&["/bin/sh", "-c", script])
}

fn command(argv: &[&str]) -> CommandSpec {
    CommandSpec {
        argv: argv.iter().map(|&a| a.to_owned()).collect(),
        port: None,
        host: IpAddr::V4(Ipv4Addr::LOCALHOST),
        dir: None,
        env: BTreeMap::new(),
        stop_timeout: LONG,
        capture: Vec::new(),
    }
}

/// It exists and is not a zombie that only waits to be reaped by whoever inherited it.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|s| s.trim().chars().next()).is_some_and(|state| state != 'Z')
}

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).expect("the process exists");
}

/// The number at the end of a line that begins with `name`.
fn number(lines: &[String], name: &str) -> u32 {
    let line = lines.iter().find_map(|l| l.strip_prefix(name)).expect("such a line");
    line.trim().parse().expect("a number")
}

#[tokio::test]
async fn a_crash_is_told_with_its_status_and_last_lines() {
    let (mut world, _, _) =
        World::with("for n in $(seq 60); do echo line $n; done; echo to stderr >&2; exit 3").await;
    let (exit, asked, last_lines) = world.next_exit().await;
    assert_eq!((exit, asked), (Exit::Code(3), false));
    assert_eq!(last_lines.len(), 40);
    assert_eq!(last_lines[0], "line 22");
    assert_eq!(last_lines[38..], ["line 60", "to stderr"]);
    world.close().await;
}

#[tokio::test]
async fn a_kill_is_told_with_its_signal_and_a_start_brings_the_server_back_on_the_same_port() {
    let mut world = World::new().await;
    let server = world.serve("app-1", shell("sleep 1000"));
    world.order(&server, ActionKind::Start);
    let (address, pid) = world.next_start().await;
    assert!(world.next_outcome().await.1.is_ok());
    send(pid, Signal::SIGKILL);
    assert_eq!(world.next_exit().await, (Exit::Signal(9), false, vec![]));
    let action = world.order(&server, ActionKind::Restart);
    let (again, new_pid) = world.next_start().await;
    assert_eq!(again, address);
    assert_ne!(new_pid, pid);
    assert_eq!(world.next_outcome().await, (action, Ok(())));
    world.close().await;
    assert!(!lives(new_pid));
}

#[tokio::test]
async fn the_port_is_given_as_argument_and_variable_and_told_as_address() {
    let mut world = World::new().await;
    let mut spec =
        command(&["/bin/sh", "-c", "echo $1 $PORT $COLOUR $MAINSTAY_SERVER; pwd", "sh", "at:{port}"]);
    spec.env.insert("COLOUR".into(), "red".into());
    spec.env.insert("PORT".into(), "1".into());
    spec.dir = Some("/usr".into());
    spec.host = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let server = world.serve("app-1", spec);
    world.order(&server, ActionKind::Start);
    let (address, _) = world.next_start().await;
    assert_eq!(address.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    assert!(world.next_outcome().await.1.is_ok());
    let (_, _, lines) = world.next_exit().await;
    let port = address.port();
    assert_eq!(lines, [format!("at:{port} {port} red shop/app-1"), "/usr".into()]);
    world.close().await;
}

#[tokio::test]
async fn a_written_port_is_used_as_it_is() {
    let mut world = World::new().await;
    let mut spec = shell("echo $PORT");
    spec.port = Some(4711);
    let server = world.serve("app-1", spec);
    world.order(&server, ActionKind::Start);
    assert_eq!(world.next_start().await.0, "127.0.0.1:4711".parse().unwrap());
    assert!(world.next_outcome().await.1.is_ok());
    assert_eq!(world.next_exit().await.2, ["4711"]);
    world.close().await;
}

#[tokio::test]
async fn a_child_begins_with_no_signal_blocked_or_ignored() {
    let (mut world, _, _) = World::with("grep -E '^Sig(Blk|Ign)' /proc/self/status").await;
    let (_, _, lines) = world.next_exit().await;
    assert_eq!(lines.len(), 2);
    for line in lines {
        let mask = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
        // The upper ones are the C library's own.
        assert_eq!(mask & 0x7fff_ffff, 0, "{line}");
    }
    world.close().await;
}

#[tokio::test]
async fn a_child_gets_no_files_that_mainstay_has_open() {
    // A duplicate stays open on exec, unlike all that the standard library opens.
    let open = nix::unistd::dup(File::open("/dev/null").unwrap()).unwrap();
    let (mut world, _, _) = World::with("for f in /proc/$$/fd/*; do readlink $f; done").await;
    let (_, _, lines) = world.next_exit().await;
    drop(open);
    let nulls = lines.iter().filter(|l| *l == "/dev/null").count();
    assert_eq!((nulls, lines.len()), (1, 3), "{lines:?}");
    world.close().await;
}

#[tokio::test]
async fn a_stop_ends_the_whole_group() {
    let (mut world, server, pid) = World::with("sleep 1000 & echo child $!; echo up; wait").await;
    let child = number(&world.until_written(&server, "up").await, "child");
    let action = world.order(&server, ActionKind::Stop);
    assert!(world.next_exit().await.1, "asked for");
    assert_eq!(world.next_outcome().await, (action, Ok(())));
    assert!(!lives(pid) && !lives(child));
    world.close().await;
}

#[tokio::test]
async fn children_that_outlive_a_crash_are_killed_and_do_not_delay_its_report() {
    // The child holds the output open and ignores SIGTERM; the other one has left the group.
    let script =
        "(trap '' TERM; exec sleep 1000) & echo child $!; setsid sleep 1001 & echo stray $!; echo up; wait";
    let (mut world, server, pid) = World::with(script).await;
    let lines = world.until_written(&server, "up").await;
    let (child, stray) = (number(&lines, "child"), number(&lines, "stray"));
    send(pid, Signal::SIGKILL);
    assert_eq!(world.next_exit().await.0, Exit::Signal(9));
    assert!(!lives(child), "the child in its group");
    assert!(!lives(stray), "the child in a session of its own");
    world.close().await;
}

#[tokio::test]
async fn a_server_that_ignores_sigterm_is_killed_at_its_stop_timeout() {
    let mut world = World::new().await;
    let mut spec = shell("trap '' TERM; echo up; while :; do sleep 0.05; done");
    spec.stop_timeout = Duration::from_millis(100);
    let server = world.serve("app-1", spec);
    let pid = world.start(&server).await;
    world.until_written(&server, "up").await;
    world.order(&server, ActionKind::Stop);
    let (exit, asked, _) = world.next_exit().await;
    assert_eq!((exit, asked), (Exit::Signal(9), true));
    assert!(world.next_outcome().await.1.is_ok());
    assert!(!lives(pid));
    world.close().await;
}

#[tokio::test]
async fn a_server_may_end_in_its_own_time_within_its_stop_timeout() {
    let script =
        "trap 'echo closing; sleep 0.1; echo closed; exit 0' TERM; echo up; while :; do sleep 0.02; done";
    let (mut world, server, _) = World::with(script).await;
    world.until_written(&server, "up").await;
    world.order(&server, ActionKind::Stop);
    let (exit, asked, lines) = world.next_exit().await;
    assert_eq!((exit, asked), (Exit::Code(0), true));
    assert_eq!(lines.last().map(String::as_str), Some("closed"));
    world.close().await;
}

#[tokio::test]
async fn a_stopped_process_is_restarted() {
    let (mut world, server, pid) = World::with("sleep 1000").await;
    send(pid, Signal::SIGSTOP);
    let action = world.order(&server, ActionKind::Restart);
    assert!(world.next_exit().await.1);
    let (_, new_pid) = world.next_start().await;
    assert_eq!(world.next_outcome().await, (action, Ok(())));
    assert!(!lives(pid) && lives(new_pid));
    world.close().await;
}

#[tokio::test]
async fn a_hung_server_that_ignores_sigterm_is_restarted_long_before_its_stop_timeout() {
    let (mut world, server, pid) = World::with("trap '' TERM; echo up; while :; do sleep 0.05; done").await;
    world.until_written(&server, "up").await;
    let begin = Instant::now();
    world.order(&server, ActionKind::Restart);
    assert_eq!(world.next_exit().await.0, Exit::Signal(9));
    let (_, new_pid) = world.next_start().await;
    assert!(begin.elapsed() < LONG, "it did not wait for the stop timeout of {LONG:?}");
    assert!(!lives(pid) && lives(new_pid));
    assert!(world.next_outcome().await.1.is_ok());
    world.supervisor.stop_all(Duration::from_millis(100)).await;
    assert!(!lives(new_pid));
}

#[tokio::test]
async fn what_a_server_hangs_in_is_seen_before_it_is_ended() {
    let mut world = World::new().await;
    let capture = ["/bin/sh", "-c", "echo it is $1; kill -0 $1 && echo it lives", "sh", "{pid}"];
    let capture = capture.iter().map(|&word| word.to_owned()).collect();
    let server = world.serve("app-1", CommandSpec { capture, ..command(&["/bin/sleep", "1000"]) });
    let pid = world.start(&server).await;
    world.order(&server, ActionKind::Restart);
    assert_eq!(world.next_exit().await.0, Exit::Signal(15));
    let (text, lines) = world.captured.pop().expect("it was looked at first");
    assert!(text.starts_with("1 thread: 1 "), "{text}");
    assert_eq!(lines[0], format!("process {pid} (sleep), 1 thread:"));
    assert!(lines[1].starts_with("  1 thread (sleep): "), "{lines:?}");
    assert_eq!(lines[2..], ["/bin/sh:", &format!("it is {pid}"), "it lives"]);
    world.next_start().await;
    world.close().await;
}

#[tokio::test]
async fn a_look_that_hangs_does_not_keep_a_server_from_being_restarted() {
    let mut world = World::new().await;
    let capture = vec!["/bin/sleep".to_owned(), "1000".to_owned()];
    let server = world.serve("app-1", CommandSpec { capture, ..shell("trap '' TERM; sleep 1000") });
    let pid = world.start(&server).await;
    send(pid, Signal::SIGSTOP);
    world.order(&server, ActionKind::Restart);
    // It says meanwhile that it is at it.
    while !matches!(world.next().await, Input::Address { address: None, .. }) {}
    let (text, lines) = world.captured.pop().expect("it was looked at first");
    assert!(text.contains("1 stopped"), "{text}");
    assert!(lines.iter().any(|line| line.contains("killed after 3000 ms")), "{lines:?}");
    while !matches!(world.next().await, Input::Outcome { result: Ok(()), .. }) {}
    assert!(!lives(pid));
    world.close().await;
}

#[tokio::test]
async fn a_person_may_look_at_what_runs_and_ends_nothing_by_it() {
    let (mut world, server, pid) = World::with("exec sleep 1000").await;
    let (_, lines) = world.supervisor.dump(&server).await.unwrap();
    assert!(lines[0].starts_with(&format!("process {pid} ")), "{lines:?}");
    assert!(lives(pid));
    send(pid, Signal::SIGKILL);
    world.next_exit().await;
    assert!(world.supervisor.dump(&server).await.unwrap_err().ends_with("no process of shop/app-1 runs"));
    let other = ServiceId::new("shop").server("other");
    assert!(
        world.supervisor.dump(&other).await.unwrap_err().contains("is not a server that Mainstay starts")
    );
    world.close().await;
}

#[tokio::test]
async fn a_flood_of_output_is_bounded_in_memory_and_on_disk() {
    let (mut world, server, pid) = World::with("echo begin; exec yes 'a line that never ends'").await;
    let folder = world.folder.path().join("logs");
    until(|| folder.join("shop--app-1.log.1").exists().then_some(())).await;
    let lines = world.supervisor.last_lines(&server);
    assert_eq!(lines.len(), 200);
    send(pid, Signal::SIGKILL);
    let (_, _, last_lines) = world.next_exit().await;
    assert_eq!(last_lines.len(), 40);
    for entry in std::fs::read_dir(&folder).unwrap() {
        assert!(entry.unwrap().metadata().unwrap().len() <= 1024 * 1024);
    }
    world.close().await;
}

#[tokio::test]
async fn output_reaches_the_log_file_with_the_times_of_start_and_end_before_mainstay_stops() {
    let (mut world, _, pid) = World::with("printf 'no newline at the end'").await;
    assert_eq!(world.next_exit().await.2, ["no newline at the end"]);
    let file = world.folder.path().join("logs/shop--app-1.log");
    world.supervisor.stop_all(LONG).await;
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(&format!("mainstay: started as process {pid}, port ")), "{text}");
    assert!(text.contains("no newline at the end"), "{text}");
    assert!(text.contains(&format!("mainstay: process {pid} exited with status 0")), "{text}");
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_an_error_that_says_where_to_look() {
    let mut world = World::new().await;
    let mut spec = command(&["./shop", "--port", "{port}"]);
    spec.dir = Some(world.folder.path().to_owned());
    let at = world.folder.path().display().to_string();
    let missing = world.serve("app-1", spec.clone());
    spec.dir = Some(world.folder.path().join("none"));
    let no_folder = world.serve("app-2", spec);
    let not_in_path = world.serve("app-3", command(&["no-such-program-anywhere"]));
    let not_a_program = world.serve("app-4", command(&["/etc/passwd"]));
    let expected = [
        (&missing, format!("cannot start ./shop: No such file or directory; looked in {at}; check service.shop.server.app-1.command")),
        (&no_folder, format!("cannot start ./shop: the folder {at}/none does not exist; check service.shop.server.app-2.dir")),
        (&not_in_path, "cannot start no-such-program-anywhere: No such file or directory; looked in the folders of PATH; check service.shop.server.app-3.command".to_owned()),
        (&not_a_program, "cannot start /etc/passwd: Permission denied; check service.shop.server.app-4.command".to_owned()),
    ];
    for (server, text) in expected {
        let action = world.order(server, ActionKind::Start);
        assert_eq!(world.next_outcome().await, (action, Err(text)));
    }
    let unknown = ServiceId::new("shop").server("nobody");
    world.order(&unknown, ActionKind::Restart);
    let error = world.next_outcome().await.1.unwrap_err();
    assert_eq!(error, "shop/nobody cannot be started: service.shop.server.nobody has no command");
    world.close().await;
}

#[tokio::test]
async fn a_program_with_a_relative_path_is_looked_for_in_its_folder() {
    let mut world = World::new().await;
    let folder = world.folder.path().join("srv");
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink("/bin/sh", folder.join("shop")).unwrap();
    let mut spec = command(&["./shop", "-c", "echo found"]);
    spec.dir = Some(folder);
    let server = world.serve("app-1", spec);
    world.start(&server).await;
    assert_eq!(world.next_exit().await.2, ["found"]);
    world.close().await;
}

#[tokio::test]
async fn a_second_start_of_a_running_server_does_nothing() {
    let (mut world, server, pid) = World::with("sleep 1000").await;
    let action = world.order(&server, ActionKind::Start);
    assert_eq!(world.next_outcome().await, (action, Ok(())));
    assert!(lives(pid));
    world.close().await;
}

#[tokio::test]
async fn orders_to_one_server_are_carried_out_in_their_order() {
    let (mut world, server, _) = World::with("sleep 1000").await;
    let kinds = [ActionKind::Stop, ActionKind::Start, ActionKind::Restart, ActionKind::Stop];
    let actions: Vec<_> = kinds.iter().map(|&kind| world.order(&server, kind)).collect();
    let mut outcomes = Vec::new();
    while outcomes.len() < actions.len() {
        if let Input::Outcome { action, result } = world.next().await {
            assert_eq!(result, Ok(()));
            outcomes.push(action);
        }
    }
    assert_eq!(outcomes, actions);
    world.close().await;
}

#[tokio::test]
async fn of_orders_that_piled_up_behind_a_slow_one_only_the_newest_is_carried_out() {
    let mut world = World::new().await;
    let mut spec = shell("trap '' TERM; echo up; while :; do sleep 0.05; done");
    spec.stop_timeout = Duration::from_millis(1500);
    let server = world.serve("app-1", spec);
    world.start(&server).await;
    world.until_written(&server, "up").await;
    let slow = world.order(&server, ActionKind::Restart);
    // The keeper is at the first one when the others come.
    assert_eq!(world.next_address().await, None);
    let piled: Vec<_> = (0..4).map(|_| world.order(&server, ActionKind::Restart)).collect();
    let (mut outcomes, mut starts) = (Vec::new(), 0);
    while outcomes.len() < 5 {
        match world.next().await {
            Input::Outcome { action, result } => outcomes.push((action, result.is_ok())),
            Input::Process { event: ProcessEvent::Started { .. }, .. } => starts += 1,
            _ => {}
        }
    }
    let dropped = piled[..3].iter().map(|action| (*action, false));
    let expected: Vec<_> = [(slow, true)].into_iter().chain(dropped).chain([(piled[3], true)]).collect();
    assert_eq!((outcomes, starts), (expected, 2));
    world.supervisor.stop_all(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn the_judge_is_told_again_and_again_that_an_order_is_being_carried_out() {
    let mut world = World::new().await;
    let mut spec = shell("trap '' TERM; echo up; while :; do sleep 0.05; done");
    spec.stop_timeout = Duration::from_secs(6);
    let server = world.serve("app-1", spec);
    world.start(&server).await;
    world.until_written(&server, "up").await;
    let stop = world.order(&server, ActionKind::Stop);
    let (mut beats, mut ended) = (0, false);
    while !ended {
        match world.next().await {
            Input::Acting { action } => beats += u32::from(action == stop),
            Input::Outcome { action, .. } => ended = action == stop,
            _ => {}
        }
    }
    assert!(beats > 0, "an order that takes six seconds");
    world.close().await;
}

#[tokio::test]
async fn a_slow_stop_of_one_server_does_not_hold_up_another() {
    let (mut world, slow, _) = World::with("trap '' TERM; echo up; while :; do sleep 0.05; done").await;
    world.until_written(&slow, "up").await;
    let other = world.serve("app-2", shell("sleep 1000"));
    world.order(&slow, ActionKind::Stop);
    assert_eq!(world.next_address().await, None);
    let pid = world.start(&other).await;
    assert!(lives(pid));
    world.supervisor.stop_all(Duration::from_millis(100)).await;
    assert!(!lives(pid));
    let mut exits = Vec::new();
    while let Ok(input) = world.inputs.try_recv() {
        if let Input::Process { server, event: ProcessEvent::Exited { exit, asked, .. } } = input {
            exits.push((server, exit, asked));
        }
    }
    exits.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(exits, [(slow, Exit::Signal(9), true), (other, Exit::Signal(15), true)]);
}

#[tokio::test]
async fn a_server_that_left_the_config_is_stopped_and_can_come_back() {
    let (mut world, server, pid) = World::with("sleep 1000").await;
    let spec = world.commands.remove(&server).unwrap();
    world.supervisor.apply(world.commands.clone(), BTreeSet::new());
    assert!(lives(pid), "a changed config alone ends nothing");
    world.order(&server, ActionKind::Stop);
    assert!(world.next_exit().await.1);
    assert!(world.next_outcome().await.1.is_ok());
    world.serve("app-1", spec);
    let again = world.start(&server).await;
    assert!(lives(again));
    world.close().await;
}

#[tokio::test]
async fn stopping_all_ends_everything_in_time_although_nobody_listens_and_starts_nothing_more() {
    let mut world = World::with_inputs(1).await;
    let mut servers = Vec::new();
    for n in 0..5 {
        let script = "trap '' TERM; setsid sleep 1000 & echo stray $!; echo up; while :; do sleep 0.05; done";
        let server = world.serve(&format!("app-{n}"), shell(script));
        let pid = world.start(&server).await;
        let lines = world.until_written(&server, "up").await;
        servers.push((server, pid, number(&lines, "stray")));
    }
    // Its keeper waits for the judge, which does not listen, when all are stopped.
    send(servers[0].1, Signal::SIGKILL);
    send(servers[1].1, Signal::SIGKILL);
    until(|| (world.inputs.len() == 1).then_some(())).await;
    world.supervisor.stop_all(Duration::from_millis(200)).await;
    for (server, pid, stray) in &servers {
        assert!(!lives(*pid), "{server}");
        assert!(!lives(*stray), "what {server} had started");
    }
    let (first, _, _) = &servers[0];
    while world.inputs.try_recv().is_ok() {}
    world.order(first, ActionKind::Start);
    assert_eq!(world.next_outcome().await.1, Err("Mainstay is stopping".to_owned()));
}

#[tokio::test]
async fn a_dropped_supervisor_leaves_nothing_running() {
    let (world, _, pid) = World::with("sleep 1000").await;
    drop(world.supervisor);
    until(|| (!lives(pid)).then_some(())).await;
}

#[tokio::test]
async fn a_data_directory_serves_one_mainstay_at_a_time_and_keeps_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("instance");
    let (file, first) = own_instance(&path).await.unwrap();
    let holder = OpenOptions::new().read(true).open(&path).unwrap();
    assert!(matches!(holder.try_lock(), Err(TryLockError::WouldBlock)));
    drop(file);
    let (mut file, second) = own_instance(&path).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(first.len(), 32);
    file.set_len(5).unwrap();
    file.rewind().unwrap();
    assert_ne!(read_or_make(&mut file).unwrap(), first, "a damaged id is made anew");
}

/// Run twice: as the test, and by the test, in a process of its own, as the Mainstay that is killed.
#[test]
fn nothing_outlives_a_mainstay_that_is_killed_and_started_again() {
    const ROLE: &str = "MAINSTAY_TEST_IS_KILLED";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Ok(data) = std::env::var(ROLE) {
        runtime.block_on(supervise_until_killed(data.into()));
    }
    let folder = tempfile::tempdir().unwrap();
    let name = "recovery::tests::nothing_outlives_a_mainstay_that_is_killed_and_started_again";
    let mut mainstay = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(ROLE, folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pids_file = folder.path().join("pids");
    let [leader, child, stray] = runtime.block_on(until(|| {
        let text = std::fs::read_to_string(&pids_file).ok()?;
        let pids: Vec<u32> = text.split_whitespace().map_while(|n| n.parse().ok()).collect();
        <[u32; 3]>::try_from(pids).ok()
    }));
    mainstay.kill().unwrap();
    mainstay.wait().unwrap();

    runtime.block_on(async {
        until(|| (!lives(leader)).then_some(())).await;
        assert!(lives(child) && lives(stray), "what a server started itself does survive");
        let (sender, _inputs) = mpsc::channel(10);
        let next = Supervisor::start(folder.path().to_owned(), sender, None).await.unwrap();
        assert!(!lives(child) && !lives(stray), "until Mainstay is there again");
        next.stop_all(LONG).await;
    });
}

async fn supervise_until_killed(data: PathBuf) {
    let (sender, _inputs) = mpsc::channel(100);
    let supervisor = Supervisor::start(data.clone(), sender, None).await.unwrap();
    let server = ServiceId::new("shop").server("app-1");
    let script = "(trap '' TERM; exec sleep 1000) & a=$!; setsid sleep 1000 & sleep 0.1; \
        echo $$ $a $! > pids.new; mv pids.new pids; wait";
    let mut spec = shell(script);
    spec.dir = Some(data);
    supervisor.apply(BTreeMap::from([(server.clone(), spec)]), BTreeSet::new());
    let (id, kind, reason) = (ActionId(1), ActionKind::Start, String::new());
    let launch = Launch::own(&server);
    supervisor.carry_out(ActionOrder { id, incident: None, server, kind, launch, reason });
    sleep(LONG * 4).await;
    std::process::exit(1);
}

#[tokio::test]
async fn mainstays_own_secrets_are_not_in_a_servers_environment() {
    // Cargo sets both for every test, so they stand for secrets here.
    let (secret, own) = ("CARGO_PKG_NAME", "CARGO_PKG_VERSION");
    assert!(std::env::var_os(secret).is_some() && std::env::var_os(own).is_some());
    let mut world = World::new().await;
    let mut spec = shell("echo secret=$CARGO_PKG_NAME; echo own=$CARGO_PKG_VERSION; echo up; exec sleep 600");
    spec.env.insert(own.to_owned(), "mine".to_owned());
    let server = world.serve("app-1", spec);
    let withheld = BTreeSet::from([secret.to_owned(), own.to_owned()]);
    world.supervisor.apply(world.commands.clone(), withheld);
    world.start(&server).await;
    assert_eq!(world.until_written(&server, "up").await, ["secret=", "own=mine", "up"]);
    world.close().await;
}

#[tokio::test]
async fn stopping_all_waits_for_each_server_no_longer_than_its_own_stop_timeout() {
    let mut world = World::new().await;
    let mut spec = shell("trap '' TERM; echo up; while :; do sleep 0.05; done");
    spec.stop_timeout = Duration::from_millis(100);
    let server = world.serve("app-1", spec);
    let pid = world.start(&server).await;
    world.until_written(&server, "up").await;
    let stopped = world.supervisor.stop_all(Duration::from_secs(24 * 3600));
    tokio::time::timeout(LONG, stopped).await.expect("it does not wait a day");
    assert!(!lives(pid));
}

#[tokio::test]
async fn the_fault_of_a_drill_that_was_ended_while_it_waited_for_the_disk_is_not_made() {
    let (mut world, server, pid) = World::with("echo up; exec sleep 600").await;
    world.until_written(&server, "up").await;
    let step = |drill, begin| DrillStep { drill, server: Some(server.clone()), fault: Fault::Hang, begin };
    world.supervisor.drill(step(7, false));
    world.supervisor.drill(step(7, true));
    let refused = world.next().await;
    let Input::Injected { drill: 7, result: Err(why) } = refused else { panic!("{refused:?}") };
    assert_eq!(why, "it was ended before it began");
    let state = |pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let is_stopped = |pid| state(pid).rsplit(')').next().unwrap().trim_start().starts_with('T');
    assert!(!is_stopped(pid));
    // The next one is.
    world.supervisor.drill(step(8, true));
    assert_eq!(world.next().await, Input::Injected { drill: 8, result: Ok(()) });
    until(|| is_stopped(pid).then_some(())).await;
    world.supervisor.drill(step(8, false));
    until(|| (!is_stopped(pid)).then_some(())).await;
    world.close().await;
}
