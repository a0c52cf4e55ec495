//! Waiting in another library's C function. On Ruby 3.1 and 3.2 only our own waits ask for the GVL when they come back,
//! and a Karafka consumer waits in a librdkafka that is not ours.

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use magnus::{Error, Ruby, function, prelude::*};
use swarm_core::os::wake::Wake;

use crate::{error, gvl};

type Poll = unsafe extern "C" fn(*mut c_void, c_int) -> *mut c_void;

/// Calls `poll(handle, timeout_ms)` without the GVL and returns the address that it gave.
///
/// An interrupt is looked at before the call; one that comes meanwhile, once it has returned, in Ruby: what was polled
/// is not lost by it. Like every call by FFI, it goes on until then.
fn wait(ruby: &Ruby, poll: usize, handle: usize, timeout_ms: c_int) -> Result<usize, Error> {
    static WAKE: OnceLock<Wake> = OnceLock::new();
    if poll == 0 || handle == 0 {
        return Err(error::argument(ruby, "neither the function nor its handle may be null"));
    }
    // Nobody listens to it: such a function has nothing to be woken by.
    let wake = match WAKE.get() {
        Some(wake) => wake,
        None => {
            let wake = Wake::new().map_err(|errno| error::errno(ruby, errno, "making an eventfd to wait with"))?;
            WAKE.get_or_init(|| wake)
        }
    };
    // SAFETY: the caller, Ruby code of this gem alone, gives the address of a function of this shape, which it has found
    // by its name in a library that is never unloaded.
    let poll: Poll = unsafe { std::mem::transmute::<usize, Poll>(poll) };
    loop {
        let work = move || {
            // SAFETY: the caller keeps the handle from being destroyed until this method returns.
            unsafe { poll(handle as *mut c_void, timeout_ms) as usize }
        };
        if let Some(address) = gvl::without_gvl(wake, work) {
            return Ok(address);
        }
        gvl::check_interrupts(ruby)?;
    }
}

pub fn init(ruby: &Ruby) -> Result<(), Error> {
    let class = error::swarm_native(ruby)?.define_module("Turnstile")?.singleton_class()?;
    class.define_private_method("native_wait", function!(wait, 3))
}
