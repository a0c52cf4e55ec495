//! Every way in which Rust's errors become Ruby's. The classes themselves are Ruby source, `swarm_native/errors.rb`.

use magnus::{Error, ExceptionClass, Module, RClass, RModule, Ruby, value::ReprValue};

/// The module `SwarmNative`.
pub fn swarm_native(ruby: &Ruby) -> Result<RModule, Error> {
    ruby.define_module("SwarmNative")
}

/// An exception of the class `SwarmNative::<name>`.
pub fn raise(ruby: &Ruby, name: &str, message: impl Into<String>) -> Error {
    let class = swarm_native(ruby).and_then(|module| module.const_get::<_, ExceptionClass>(name));
    match class {
        Ok(class) => Error::new(class, message.into()),
        Err(missing) => missing,
    }
}

/// An ArgumentError.
pub fn argument(ruby: &Ruby, message: impl Into<String>) -> Error {
    Error::new(ruby.exception_arg_error(), message.into())
}

/// The `Errno::*` of the kernel's refusal, with what was being done: "Too many open files - opening a pidfd for ...".
pub fn errno(ruby: &Ruby, errno: rustix::io::Errno, doing: &str) -> Error {
    let made = ruby
        .class_object()
        .const_get::<_, RClass>("SystemCallError")
        .and_then(|class| class.funcall::<_, _, magnus::Exception>("new", (doing, errno.raw_os_error())));
    match made {
        Ok(exception) => exception.into(),
        Err(failed) => failed,
    }
}
