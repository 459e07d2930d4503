//! A run in a terminal: closed, blocked, or absent.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::libc;
use nix::pty::{Winsize, openpty};

use crate::lab::{FAKE, Lab, gone, succeeded, wait_until};

const SIX: &str =
    "eval = [\"two_digit_subtraction\"]\nlimit = 10\n[axes]\n\"lora.rank\" = [2, 4, 8, 16, 32]\n";

/// The user's end of a pseudo-terminal.
struct Terminal(OwnedFd);

impl Terminal {
    /// Starts a program in a new terminal, as a shell does; its output goes there unless redirected.
    fn start(command: Command, prepare: impl FnOnce(&mut Command)) -> (Self, Child) {
        Self::start_in(&Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }, command, prepare)
    }

    /// The same in a terminal of a size.
    fn start_in(size: &Winsize, mut command: Command, prepare: impl FnOnce(&mut Command)) -> (Self, Child) {
        let pair = openpty(size, None).unwrap();
        // The program must not inherit the user's end.
        let flag = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
        nix::fcntl::fcntl(&pair.master, flag).unwrap();
        command.stdin(pair.slave.try_clone().unwrap());
        command.stdout(pair.slave.try_clone().unwrap()).stderr(pair.slave.try_clone().unwrap());
        // SAFETY: between fork and exec only system calls are made.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        prepare(&mut command);
        let child = command.spawn().unwrap();
        (Self(pair.master), child)
    }

    /// Reads until the program has closed its end.
    fn read(self) -> String {
        use std::io::Read;
        let mut text = Vec::new();
        // Reading at the end of a terminal returns an error.
        let _ = std::fs::File::from(self.0).read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[test]
fn s14_a_terminal_that_is_closed_stops_the_run_as_a_signal_does() {
    let lab = Lab::new(SIX);
    let (terminal, mut run) = Terminal::start(lab.command(Some("hang@train"), &[]), |_| {});
    let engine = lab.wait_for_fault();
    drop(terminal);
    assert_eq!(run.wait().unwrap().code(), Some(129));
    wait_until("the engine is gone", || gone(&engine));
    assert_eq!(lab.0.json(&["status", "--json"])["sweeps"][0]["running"], 0);
    succeeded(&lab.run(None, &[]));
    assert!(lab.is_done());
    assert_eq!(lab.rows().len(), 6);
}

#[test]
fn s14_under_nohup_a_run_goes_on_when_its_terminal_is_closed() {
    let many: Vec<String> = (1..=200).map(|seed| seed.to_string()).collect();
    let lab = Lab::new(&format!(
        "eval = [\"two_digit_subtraction\"]\nlimit = 2\n[axes]\nseed = [{}]\n",
        many.join(", ")
    ));
    let log = lab.0.path().join("nohup.out");
    succeeded(&lab.0.run(&["submit", "sweep.toml"]));
    let (terminal, mut run) = Terminal::start(lab.with_engine(FAKE, &["work"]), |command| {
        let file = std::fs::File::create(&log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        // SAFETY: ignoring a signal is a system call.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGHUP, libc::SIG_IGN);
                Ok(())
            });
        }
    });
    wait_until("jobs run", || lab.attempts() > 0);
    drop(terminal);
    assert!(run.wait().unwrap().success(), "{}", std::fs::read_to_string(&log).unwrap());
    assert!(lab.is_done());
}

#[test]
fn s14_a_terminal_that_takes_nothing_holds_no_training_up() {
    let many: Vec<String> = (1..=400).map(|seed| seed.to_string()).collect();
    let lab = Lab::new(&format!(
        "eval = [\"two_digit_subtraction\"]\nlimit = 2\n[axes]\nseed = [{}]\n",
        many.join(", ")
    ));
    succeeded(&lab.0.run(&["submit", "sweep.toml"]));
    let (terminal, mut run) = Terminal::start(lab.with_engine(FAKE, &["work"]), |_| {});
    wait_until("everything is done though nobody reads", || {
        lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'done'") == 401
    });
    // The terminal is read again.
    let text = terminal.read();
    assert!(run.wait().unwrap().success(), "{text}");
    assert!(text.contains("401 done in"), "{text}");
}

#[test]
fn s14_without_a_terminal_lines_are_plain() {
    let lab = Lab::new(SIX);
    let path = lab.0.path().join("out.txt");
    let file = std::fs::File::create(&path).unwrap();
    let mut run = lab.command(None, &[]);
    run.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
    // SAFETY: closing a descriptor is a system call.
    unsafe {
        run.pre_exec(|| {
            libc::close(0);
            Ok(())
        });
    }
    assert!(run.status().unwrap().success());
    let text = std::fs::read(&path).unwrap();
    assert!(!text.contains(&0x1b), "{}", String::from_utf8_lossy(&text));
    assert!(lab.is_done());
}

#[test]
fn an_error_in_the_plain_locale_is_ascii_and_fits_a_narrow_terminal() {
    let lab = Lab::new("[lora]\nrnk = 8\n");
    let mut plan = lab.0.command(&["plan", "sweep.toml"]);
    plan.env("LANG", "C");
    let output = plan.output().unwrap();
    assert!(!output.status.success());
    assert!(output.stderr.is_ascii(), "{}", crate::support::stderr(&output));
    let mut plan = lab.0.command(&["plan", "sweep.toml"]);
    plan.env("COLUMNS", "44").env("NO_COLOR", "1");
    let (terminal, mut child) = Terminal::start(plan, |_| {});
    let text = terminal.read();
    child.wait().unwrap();
    let wide = text.lines().filter(|line| line.trim_end().chars().count() > 44).collect::<Vec<_>>();
    assert!(text.contains("lora.rnk") && wide.is_empty(), "{wide:?}\n{text}");
}

#[test]
fn watch_shows_a_run_in_eighty_by_twenty_four_does_what_was_confirmed_and_leaves_it_alone() {
    use std::io::{Read, Write};
    let lab = Lab::new(SIX);
    let run = lab.spawn(lab.command(Some("hang@train"), &[]));
    lab.wait_for_fault();
    let mut watch = lab.0.command(&["watch"]);
    watch.env("TERM", "xterm").env("NO_COLOR", "1");
    let (terminal, mut child) = Terminal::start(watch, |_| {});
    let mut file = std::fs::File::from(terminal.0);
    let mut shown = String::new();
    let mut until = |file: &mut std::fs::File, text: &str| {
        let mut bytes = [0; 4096];
        while !shown.contains(text) {
            let read = file.read(&mut bytes).unwrap();
            shown.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    until(&mut file, "sweep tiny");
    until(&mut file, "cpu");
    // The pane of what waits, its first job, cancel, and a no before the yes.
    file.write_all(b"4").unwrap();
    until(&mut file, "r=32");
    file.write_all(b"cncy").unwrap();
    wait_until("a job is cancelled", || {
        lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'cancelled'") == 1
    });
    file.write_all(b"q").unwrap();
    let mut rest = Vec::new();
    let _ = file.read_to_end(&mut rest);
    assert!(child.wait().unwrap().success());
    let rest = String::from_utf8_lossy(&rest);
    assert!(rest.contains("\u{1b}[?1049l"), "the terminal is as it was before: {rest:?}");
    assert_eq!(lab.count("SELECT COUNT(*) FROM attempts WHERE ended_ms IS NULL"), 1, "the run goes on");
    run.signal(nix::sys::signal::Signal::SIGKILL);
    run.wait();
    // Without a terminal there is nothing to draw on.
    let output = lab.0.run(&["watch"]);
    assert_eq!(output.status.code(), Some(2), "{}", crate::support::stderr(&output));
}
