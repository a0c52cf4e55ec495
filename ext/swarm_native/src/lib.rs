//! The Ruby bindings and nothing else: one file a Ruby class, plus [`gvl`] (waiting without the VM's lock) and [`error`]
//! (Rust's errors as Ruby's exceptions). Rules live in `swarm_core`, Kafka in `swarm_kafka`.

// Rust code cannot use this crate: its one public function is made by `magnus::init`, out of reach for a comment.
#![allow(missing_docs)]

mod error;
mod foreign_messages;
#[cfg(not(ruby_gte_3_3))]
mod foreign_wait;
mod fork_guard;
mod fork_hooks;
mod fork_lease;
mod fork_place;
mod gvl;
mod init;
#[cfg(feature = "kafka")]
mod kafka;
mod log;
mod pidfd;
mod settings;
mod signal_name;
mod supervisor;
mod turnstile;
mod wrapped;

use magnus::{Error, Ruby};

#[magnus::init(name = "swarm_native")]
fn init(ruby: &Ruby) -> Result<(), Error> {
    error::swarm_native(ruby)?;
    fork_guard::init(ruby)?;
    init::init(ruby)?;
    log::init();
    supervisor::init(ruby)?;
    #[cfg(feature = "kafka")]
    kafka::init(ruby)?;
    pidfd::init(ruby)?;
    turnstile::init(ruby)?;
    foreign_messages::init(ruby)?;
    #[cfg(not(ruby_gte_3_3))]
    foreign_wait::init(ruby)?;
    Ok(())
}

/// What RubyGems before 3.4.6 asks for, which names the library after the gem.
///
/// # Safety
/// Ruby calls it once, with the GVL, from `require`.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn Init_karafka_swarm() {
    // SAFETY: the same call with the same rights; magnus exports it from `init` above.
    unsafe { Init_swarm_native() }
}
