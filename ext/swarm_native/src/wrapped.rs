//! The classes whose objects hold a Rust value.

use magnus::{Ruby, TypedData};

/// Looks the class of `T` up. Every class that `magnus::wrap` names does this when the library is loaded.
///
/// magnus looks it up when the first object is made: by a call into Ruby, which may give the GVL away, within a lock that
/// whoever has the GVL then waits for. Two threads that make their first objects at once stop the whole process for good.
/// While the library is loaded there is one thread.
pub fn look_up<T: TypedData>(ruby: &Ruby) {
    T::class(ruby);
}
