//! The line of the program that makes a handle, for the text of a refusal.
//!
//! Every handle pays for it when it is made, so it is not `caller_locations`, which takes microseconds, but the frames as
//! profilers read them.

use magnus::rb_sys::FromRawValue;
use magnus::{RString, Ruby, Value};
use std::ffi::c_int;

/// Gems that make handles for others, by the folder or file of theirs below `lib/`: whoever called them is meant.
const MAKERS: [&[u8]; 6] = [b"rdkafka", b"waterdrop", b"karafka", b"karafka-core", b"racecar", b"swarm_native"];

/// How many frames are read at a time: the line is mostly among the first.
const PIECE: usize = 8;

/// How far up the stack is looked.
const DEPTH: usize = 64;

/// The innermost line outside of [`MAKERS`], as `file:line`; empty where there is none.
pub fn place(_ruby: &Ruby) -> String {
    let mut frames: [rb_sys::VALUE; PIECE] = [0; PIECE];
    let mut lines: [c_int; PIECE] = [0; PIECE];
    for start in (0..DEPTH).step_by(PIECE) {
        // SAFETY: a `Ruby` exists, so this thread has the GVL; both arrays hold as many as is said. The frames lie on
        // the stack, where the garbage collector sees them.
        let count = unsafe {
            rb_sys::rb_profile_frames(start as c_int, PIECE as c_int, frames.as_mut_ptr(), lines.as_mut_ptr())
        };
        let count = usize::try_from(count).unwrap_or(0);
        for (&frame, &line) in frames.iter().zip(&lines).take(count) {
            // SAFETY: a frame that rb_profile_frames has just written; what it gives is a String or nil.
            let path = unsafe { Value::from_raw(rb_sys::rb_profile_frame_path(frame)) };
            let Some(path) = RString::from_value(path) else { continue };
            // SAFETY: copied before any Ruby code can run.
            let path = unsafe { path.as_slice() };
            // Methods that are written in C have no line, and those of Ruby itself no place that says anything.
            if line > 0 && !is_of_a_maker(path) && !path.starts_with(b"<internal:") {
                return format!("{}:{line}", String::from_utf8_lossy(path));
            }
        }
        if count < PIECE {
            break;
        }
    }
    String::new()
}

/// True for `.../lib/rdkafka/config.rb`, `.../lib/rdkafka.rb` and the like.
fn is_of_a_maker(path: &[u8]) -> bool {
    let mut parent: &[u8] = b"";
    path.split(|&byte| byte == b'/').any(|part| {
        let below_lib = std::mem::replace(&mut parent, part) == b"lib";
        below_lib && MAKERS.contains(&part.strip_suffix(b".rb").unwrap_or(part))
    })
}
