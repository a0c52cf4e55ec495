//! Signals by name.

/// The highest signal number that Linux knows. From 32 on they are real-time signals, which have no names here.
pub const HIGHEST: i32 = 64;

/// The number of a signal by its name, with or without `SIG`. Every name that Ruby's `Signal.list` has on Linux, but for
/// `EXIT`, which no process can be sent.
pub fn number(name: &[u8]) -> Option<i32> {
    let number = match name.strip_prefix(b"SIG").unwrap_or(name) {
        b"HUP" => libc::SIGHUP,
        b"INT" => libc::SIGINT,
        b"QUIT" => libc::SIGQUIT,
        b"ILL" => libc::SIGILL,
        b"TRAP" => libc::SIGTRAP,
        b"ABRT" | b"IOT" => libc::SIGABRT,
        b"BUS" => libc::SIGBUS,
        b"FPE" => libc::SIGFPE,
        b"KILL" => libc::SIGKILL,
        b"USR1" => libc::SIGUSR1,
        b"SEGV" => libc::SIGSEGV,
        b"USR2" => libc::SIGUSR2,
        b"PIPE" => libc::SIGPIPE,
        b"ALRM" => libc::SIGALRM,
        b"TERM" => libc::SIGTERM,
        b"STKFLT" => libc::SIGSTKFLT,
        b"CHLD" | b"CLD" => libc::SIGCHLD,
        b"CONT" => libc::SIGCONT,
        b"STOP" => libc::SIGSTOP,
        b"TSTP" => libc::SIGTSTP,
        b"TTIN" => libc::SIGTTIN,
        b"TTOU" => libc::SIGTTOU,
        b"URG" => libc::SIGURG,
        b"XCPU" => libc::SIGXCPU,
        b"XFSZ" => libc::SIGXFSZ,
        b"VTALRM" => libc::SIGVTALRM,
        b"PROF" => libc::SIGPROF,
        b"WINCH" => libc::SIGWINCH,
        b"IO" | b"POLL" => libc::SIGIO,
        b"PWR" => libc::SIGPWR,
        b"SYS" => libc::SIGSYS,
        _ => return None,
    };
    Some(number)
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::number;

    #[test]
    fn every_signal_has_its_number_with_and_without_sig() {
        for signal in Signal::iterator() {
            let name = signal.as_str();
            assert_eq!(number(name.as_bytes()), Some(signal as i32), "{name}");
            assert_eq!(number(&name.as_bytes()[3..]), Some(signal as i32), "{name}");
        }
    }

    #[test]
    fn other_names_of_the_same_signal_are_known() {
        assert_eq!(number(b"CLD"), number(b"SIGCHLD"));
        assert_eq!(number(b"IOT"), number(b"SIGABRT"));
        assert_eq!(number(b"POLL"), number(b"SIGIO"));
    }

    #[test]
    fn what_is_no_signal_has_no_number() {
        for name in ["", "SIG", "EXIT", "term", "SIGSIGTERM", "TERM ", "TERM\0", "15"] {
            assert_eq!(number(name.as_bytes()), None, "{name}");
        }
    }
}
