//! One client of librdkafka's: the handle itself, its lease, and its end.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::NonNull;
use std::sync::Arc;

use swarm_core::fork_gate::Lease;

use crate::config::{Config, ConfigError, OpenError};
use crate::error::{KafkaError, code, text};
use crate::lines::{Line, Lines};
use crate::pace::{self, Pace};
use crate::sys;

/// A live handle. It holds a lease of the fork gate from before librdkafka makes it until its threads have ended.
pub struct Client {
    rk: NonNull<sys::rd_kafka_t>,
    /// librdkafka's threads use it, so it goes after the handle.
    opaque: Box<Opaque>,
    /// Given back last, when the handle is gone.
    lease: Lease,
}

// SAFETY: librdkafka's handles may be used from any thread.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

/// What librdkafka's callbacks have at hand.
struct Opaque {
    lines: Arc<Lines>,
    pace: Pace,
}

/// A client that authenticates by OAUTHBEARER tokens, for which it asks.
pub trait Bearer {
    /// Gives librdkafka the token that it wants.
    fn set_token(&self, token: &Token) -> Result<(), KafkaError>;

    /// Tells librdkafka that there is no token now; it asks again in a while.
    fn refuse_token(&self, reason: &str);
}

/// What OAUTHBEARER identifies a client by.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token itself.
    pub value: String,
    /// When it ends, in milliseconds since 1970.
    pub expires_at: i64,
    /// Whom it is for.
    pub principal: String,
    /// SASL extensions: names and values in turn.
    pub extensions: Vec<String>,
}

/// What a handle is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It sends.
    Producer,
    /// It receives.
    Consumer,
}

impl Client {
    /// Makes the handle.
    pub(crate) fn new(role: Role, config: Config, events: c_int, lease: Lease) -> Result<Self, OpenError> {
        Self::with_lines(role, config, events, lease, Arc::default())
    }

    /// Makes the handle; what it logs is put there too.
    pub(crate) fn with_lines(
        role: Role,
        config: Config,
        events: c_int,
        lease: Lease,
        lines: Arc<Lines>,
    ) -> Result<Self, OpenError> {
        let kind = match role {
            Role::Producer => sys::rd_kafka_type_t::RD_KAFKA_PRODUCER,
            Role::Consumer => sys::rd_kafka_type_t::RD_KAFKA_CONSUMER,
        };
        let opaque = Box::new(Opaque { lines, pace: Pace::of(&config) });
        let mut reason = [0 as c_char; 512];
        // SAFETY: the configuration is ours and librdkafka takes it over when it succeeds; the callbacks let no panic
        // out; `reason` has the size that is told; the opaque lives until the handle, or the failed attempt at it, is
        // gone.
        let rk = unsafe {
            sys::rd_kafka_conf_set_events(config.as_ptr(), events);
            sys::rd_kafka_conf_set_log_cb(config.as_ptr(), Some(log));
            sys::rd_kafka_conf_set_socket_cb(config.as_ptr(), Some(socket));
            sys::rd_kafka_conf_set_connect_cb(config.as_ptr(), Some(pace::connect));
            sys::rd_kafka_conf_set_opaque(config.as_ptr(), (&raw const *opaque).cast_mut().cast());
            sys::rd_kafka_new(kind, config.as_ptr(), reason.as_mut_ptr(), reason.len())
        };
        let Some(rk) = NonNull::new(rk) else {
            // SAFETY: librdkafka has filled the buffer. `config` is still ours and is freed by its drop.
            let reason = unsafe { CStr::from_ptr(reason.as_ptr()) }.to_string_lossy().into_owned();
            return Err(ConfigError(vec![reason]).into());
        };
        // librdkafka owns it now.
        config.into_raw();
        let client = Self { rk, opaque, lease };
        client.lease.opened(&client.name());
        Ok(client)
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rd_kafka_t {
        self.rk.as_ptr()
    }

    /// What it has logged.
    pub(crate) fn lines(&self) -> &Lines {
        &self.opaque.lines
    }

    /// No broker's thread waits to connect: it has something else to do.
    pub(crate) fn hurry(&self) {
        self.opaque.pace.hurry();
    }

    /// librdkafka's name of it, such as `rdkafka#producer-1`.
    pub fn name(&self) -> String {
        // SAFETY: the handle lives; the name belongs to it and is copied.
        unsafe { text(sys::rd_kafka_name(self.as_ptr())) }
    }

    /// Gives librdkafka the OAUTHBEARER token that it has asked for.
    pub(crate) fn set_token(&self, token: &Token) -> Result<(), KafkaError> {
        let c_string = |text: &str| {
            CString::new(text).map_err(|_| KafkaError::with(code::INVALID_ARG, "a token's field holds a NUL byte"))
        };
        let (value, principal) = (c_string(&token.value)?, c_string(&token.principal)?);
        let extensions: Vec<_> = token.extensions.iter().map(|text| c_string(text)).collect::<Result<_, _>>()?;
        let mut extensions: Vec<_> = extensions.iter().map(|text| text.as_ptr()).collect();
        let mut reason = [0 as c_char; 512];
        // SAFETY: the handle lives; the strings end in NUL and are copied; both sizes are the true ones.
        let code = unsafe {
            sys::rd_kafka_oauthbearer_set_token(
                self.as_ptr(),
                value.as_ptr(),
                token.expires_at,
                principal.as_ptr(),
                extensions.as_mut_ptr(),
                extensions.len(),
                reason.as_mut_ptr(),
                reason.len(),
            )
        };
        if code == code::NO_ERROR {
            return Ok(());
        }
        // SAFETY: librdkafka has filled the buffer.
        let reason = unsafe { CStr::from_ptr(reason.as_ptr()) }.to_string_lossy().into_owned();
        Err(KafkaError::with(code, reason))
    }

    /// Tells librdkafka that there is no token now. It asks again in a while.
    pub(crate) fn refuse_token(&self, reason: &str) {
        let reason = CString::new(reason.replace('\0', " ")).expect("no NUL is left");
        // SAFETY: the handle lives; the string ends in NUL and is copied.
        unsafe { sys::rd_kafka_oauthbearer_set_token_failure(self.as_ptr(), reason.as_ptr()) };
    }

    /// The error after which the handle can no longer be used, once there is one.
    pub fn fatal_error(&self) -> Option<KafkaError> {
        let mut reason = [0 as c_char; 512];
        // SAFETY: the handle lives; `reason` has the size that is told and is filled when the code is not 0.
        let code = unsafe { sys::rd_kafka_fatal_error(self.as_ptr(), reason.as_mut_ptr(), reason.len()) };
        (code != 0).then(|| {
            // SAFETY: see above.
            let reason = unsafe { CStr::from_ptr(reason.as_ptr()) }.to_string_lossy().into_owned();
            KafkaError { fatal: true, ..KafkaError::with(code, reason) }
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.lease.closing();
        self.opaque.pace.end();
        // A consumer has left its group before, as far as its deadline allowed; waiting for that here could take for
        // ever.
        // SAFETY: the handle is ours and nobody uses it any more. Its threads have ended when this returns.
        unsafe { sys::rd_kafka_destroy_flags(self.as_ptr(), sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE) };
    }
}

/// Makes a socket when the handle's pace allows it; -1 fails.
unsafe extern "C" fn socket(domain: c_int, kind: c_int, protocol: c_int, opaque: *mut c_void) -> c_int {
    std::panic::catch_unwind(|| {
        // SAFETY: librdkafka passes the handle's opaque, an Opaque that outlives the handle.
        unsafe { &(*opaque.cast::<Opaque>()).pace }.socket(domain, kind, protocol)
    })
    .unwrap_or(-1)
}

/// Hands a line of librdkafka's to `tracing`.
unsafe extern "C" fn log(rk: *const sys::rd_kafka_t, level: c_int, facility: *const c_char, line: *const c_char) {
    let _ = std::panic::catch_unwind(|| {
        // SAFETY: librdkafka passes strings that live as long as this call, and a handle or null.
        let (name, facility, line) = unsafe {
            let name = if rk.is_null() { String::new() } else { text(sys::rd_kafka_name(rk)) };
            (name, text(facility), text(line))
        };
        if !rk.is_null() {
            // SAFETY: the handle lives, and its opaque is an Opaque that outlives it.
            let opaque = unsafe { sys::rd_kafka_opaque(rk).cast::<Opaque>().as_ref() };
            if let Some(opaque) = opaque {
                opaque.lines.push(|| Line { level, facility: facility.clone(), text: line.clone() });
            }
        }
        // Its levels are syslog's.
        match level {
            0..=3 => tracing::error!(target: "librdkafka", name, facility, "{line}"),
            4 => tracing::warn!(target: "librdkafka", name, facility, "{line}"),
            5 | 6 => tracing::info!(target: "librdkafka", name, facility, "{line}"),
            _ => tracing::debug!(target: "librdkafka", name, facility, "{line}"),
        }
    });
}
