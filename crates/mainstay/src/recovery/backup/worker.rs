//! The process that does the work: reads its job from standard input, answers on standard output, takes only what others
//! leave of processor and disk, and ends with the Mainstay that started it.
#![expect(unsafe_code, reason = "the standard library cannot lower a process's priority")]

use std::io::{BufRead as _, Read as _};

use super::job::{Answer, Job};
use super::work::work;

/// How far it stands back, of 0 to 19: servers on the same machine come first.
const NICE: libc::c_int = 10;
/// `IOPRIO_CLASS_IDLE`, as the kernel's ioprio.h has it: the disk only when nobody else wants it.
const IO_IDLE: libc::c_int = 3 << 13;
const IO_WHO_PROCESS: libc::c_int = 1;

/// Reads the job, does it, and returns the answer to be written.
pub fn serve() -> Answer {
    stand_back();
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|error| error.to_string())?;
    let job: Job = serde_json::from_str(&line)
        .map_err(|_| "this is started by Mainstay itself, with a job to do".to_owned())?;
    std::thread::spawn(|| {
        // Mainstay holds the other end for as long as it lives and wants the answer.
        let _ = std::io::stdin().lock().read(&mut [0]);
        std::process::exit(1);
    });
    work(&job)
}

fn stand_back() {
    // SAFETY: plain system calls about this process; they take no pointer. Who may not do it goes on as he is.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
        libc::syscall(libc::SYS_ioprio_set, IO_WHO_PROCESS, 0, IO_IDLE);
    }
}
