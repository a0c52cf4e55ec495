//! `SwarmNative::Turnstile`: what of it needs the VM. Settings, forks and words are Ruby, `swarm_native/turnstile.rb`;
//! the rules are `swarm_core::turnstile`.
//!
//! Every method here runs with the GVL, which is what keeps two threads apart that turn it on and off.

#[cfg(ruby_gte_3_3)]
mod all;
mod core;
#[cfg(not(ruby_gte_3_3))]
pub mod own;
mod queue;
mod vm;

use std::sync::atomic::{AtomicBool, Ordering};

use magnus::{Error, RHash, Ruby, Value, function, prelude::*};
use rb_sys::VALUE;
use swarm_core::turnstile::{Class, Counts, Settings};

use crate::error;

/// The process ends: the VM may be gone by the time a nudge comes.
static ENDING: AtomicBool = AtomicBool::new(false);

unsafe extern "C" fn end(_: VALUE) {
    ENDING.store(true, Ordering::Relaxed);
    stop();
}

/// Returns the reason why it stays off.
fn start(
    ruby: &Ruby,
    budget: f64,
    light: f64,
    nudge_interval: f64,
    keep: f64,
    carry_on: bool,
) -> Result<Option<String>, Error> {
    static AT_EXIT: AtomicBool = AtomicBool::new(false);
    let settings = settings(ruby, budget, light, nudge_interval, keep)?;
    if ENDING.load(Ordering::Relaxed) {
        return Ok(Some("the process is exiting".into()));
    }
    #[cfg(ruby_gte_3_3)]
    if let Err(reason) = all::prepare()? {
        return Ok(Some(reason));
    }
    if !AT_EXIT.swap(true, Ordering::Relaxed) {
        // SAFETY: the caller has the GVL, and `end` lives as long as the library.
        unsafe { rb_sys::rb_set_end_proc(Some(end), rb_sys::Qnil as VALUE) };
    }
    stop();
    let core = core::make();
    #[cfg(ruby_gte_3_3)]
    let started = core.start(settings, carry_on, all::trigger);
    #[cfg(not(ruby_gte_3_3))]
    let started = core.start(settings, carry_on, own::trigger);
    if let Err(failed) = started {
        return Ok(Some(format!("the nudging thread could not be started: {failed}")));
    }
    #[cfg(ruby_gte_3_3)]
    all::listen(core);
    #[cfg(not(ruby_gte_3_3))]
    own::listen(core);
    Ok(None)
}

fn check(ruby: &Ruby, budget: f64, light: f64, nudge_interval: f64, keep: f64) -> Result<(), Error> {
    settings(ruby, budget, light, nudge_interval, keep).map(|_| ())
}

fn settings(ruby: &Ruby, budget: f64, light: f64, nudge_interval: f64, keep: f64) -> Result<Settings, Error> {
    Settings::new(budget, light, nudge_interval)
        .and_then(|settings| settings.with_keep(keep))
        .map_err(|invalid| error::argument(ruby, invalid.to_string()))
}

fn stop() {
    #[cfg(ruby_gte_3_3)]
    all::unlisten();
    if let Some(core) = core::known() {
        core.stop();
    }
}

fn is_on() -> bool {
    core::active().is_some()
}

/// Whether this Ruby tells of all threads.
fn sees_all() -> bool {
    cfg!(ruby_gte_3_3)
}

fn counts(ruby: &Ruby) -> Result<RHash, Error> {
    let counts = core::known().map_or_else(Counts::default, core::Core::counts);
    let waits = ruby.hash_new();
    for (seconds, count) in counts.waits.buckets() {
        waits.aset(seconds, count)?;
    }
    let hash = ruby.hash_new();
    hash.aset(ruby.to_symbol("wake_ups"), counts.wake_ups)?;
    hash.aset(ruby.to_symbol("nudges"), counts.nudges)?;
    hash.aset(ruby.to_symbol("waits"), waits)?;
    hash.aset(ruby.to_symbol("lost"), counts.lost as f64 / 1e9)?;
    hash.aset(ruby.to_symbol("time"), counts.time as f64 / 1e9)?;
    hash.aset(ruby.to_symbol("light"), counts.light)?;
    hash.aset(ruby.to_symbol("heavy"), counts.heavy)?;
    Ok(hash)
}

/// `thread` lives: the caller has asked, and no other thread has run since.
fn set_class(_thread: Value, class: u8) -> Result<(), Error> {
    let _class = match class {
        1 => Class::Light,
        2 => Class::Heavy,
        _ => Class::Auto,
    };
    #[cfg(ruby_gte_3_3)]
    {
        use magnus::rb_sys::AsRawValue;
        all::set_class(core::make(), _thread.as_raw(), _class)?;
    }
    Ok(())
}

pub fn init(ruby: &Ruby) -> Result<(), Error> {
    let module = error::swarm_native(ruby)?.define_module("Turnstile")?;
    let class = module.singleton_class()?;
    class.define_private_method("native_start", function!(start, 5))?;
    class.define_private_method("native_check", function!(check, 4))?;
    class.define_private_method("native_stop", function!(stop, 0))?;
    class.define_private_method("native_on?", function!(is_on, 0))?;
    class.define_private_method("native_sees_all?", function!(sees_all, 0))?;
    class.define_private_method("native_counts", function!(counts, 0))?;
    class.define_private_method("native_set_class", function!(set_class, 2))?;
    queue::init(ruby, module)?;
    Ok(())
}
