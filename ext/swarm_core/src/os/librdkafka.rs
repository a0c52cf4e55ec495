//! Which copies of librdkafka are loaded, and whether a handle of one is live, whoever made it.
//!
//! Each Ruby binding brings a librdkafka of its own, and so may any other library. Two looks tell what is live:
//!
//! - the short one asks each copy for its own count of threads, `rd_kafka_thread_cnt`, which is 0 as soon as its last
//!   handle is destroyed. The list of copies is kept, and the dynamic linker says in less than a microsecond whether it
//!   still holds.
//! - the long one reads the name of every thread of the process, because librdkafka names its own. It takes microseconds
//!   a thread, so it is for copies that hide their symbols alone. That there is one is seen by the name, which stands
//!   among the constants of the library's file.
//!
//! The copy that is linked into this library is left out: the fork gate knows its handles.

use std::cell::UnsafeCell;
use std::collections::HashSet;
use std::ffi::{CString, OsStr, c_int};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::loaded::{self, Object, Version};

/// What the names of librdkafka's threads begin with; `rdk:main` is the one that each handle has.
const THREAD_PREFIX: &str = "rdk:";

/// How a copy that hides its symbols is known.
const MARK: &[u8] = b"rdk:main";

type ThreadCnt = unsafe extern "C" fn() -> c_int;

/// A copy that says how many threads it has.
struct Copy {
    path: PathBuf,
    thread_cnt: ThreadCnt,
    /// What it counts in this process without having them: threads of the process that this one was forked from.
    inherited: c_int,
}

impl Copy {
    fn counted(&self) -> c_int {
        // SAFETY: it is librdkafka's `int rd_kafka_thread_cnt(void)`, which reads one integer. The copy stays loaded:
        // `open` keeps the reference that dlopen gave.
        unsafe { (self.thread_cnt)() }
    }

    fn threads(&self) -> c_int {
        self.counted() - self.inherited
    }
}

#[derive(Default)]
struct Copies {
    version: Version,
    seen: HashSet<(usize, CString)>,
    counting: Vec<Copy>,
    hidden: Vec<PathBuf>,
}

/// The list, with a lock that fork(2)'s handlers can hold across the fork and open on both sides. It is held for
/// microseconds, or for the milliseconds that a new library takes, by a thread that waits for nobody meanwhile.
struct Shared {
    locked: AtomicBool,
    copies: UnsafeCell<Option<Copies>>,
}

// SAFETY: `copies` is used by whoever holds the lock alone.
unsafe impl Sync for Shared {}

static COPIES: Shared = Shared { locked: AtomicBool::new(false), copies: UnsafeCell::new(None) };

struct Locked;

impl Shared {
    fn lock(&self) {
        while self.locked.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            std::thread::yield_now();
        }
    }

    fn unlock(&self) {
        self.locked.store(false, Ordering::Release);
    }
}

impl Locked {
    fn copies(&mut self) -> &mut Copies {
        // SAFETY: a `Locked` holds the lock, and gives this out once at a time.
        unsafe { &mut *COPIES.copies.get() }.get_or_insert_default()
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        COPIES.unlock();
    }
}

/// A copy with a live handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveCopy {
    /// The library's file; empty where it is linked into the program itself.
    pub path: PathBuf,
    /// True where the copy does not tell, and the threads' names tell only that some copy has a handle.
    pub hidden: bool,
}

/// A thread of this process with a name like librdkafka's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its number in the system.
    pub tid: i32,
    /// Its name, such as `rdk:main` or `rdk:broker1`.
    pub name: String,
}

/// The copies with a live handle. `known` are threads that are not librdkafka's, whatever their names: Ruby's.
pub fn live(known: &[i32]) -> Vec<LiveCopy> {
    let mut locked = lock();
    let copies = locked.copies();
    copies.refresh();
    let mut live: Vec<LiveCopy> = (copies.counting.iter())
        .filter(|copy| copy.threads() != 0)
        .map(|copy| LiveCopy { path: copy.path.clone(), hidden: false })
        .collect();
    // Beside a live copy that counts, nobody can tell whose the threads are.
    if live.is_empty() && !copies.hidden.is_empty() && threads().iter().any(|thread| !known.contains(&thread.tid)) {
        live.extend(copies.hidden.iter().map(|path| LiveCopy { path: path.clone(), hidden: true }));
    }
    live
}

/// The short look: false where nothing is live and no copy hides its symbols.
pub fn may_be_live() -> bool {
    let mut locked = lock();
    let copies = locked.copies();
    copies.refresh();
    !copies.hidden.is_empty() || copies.counting.iter().any(|copy| copy.threads() != 0)
}

/// The threads of this process that are named like librdkafka's.
pub fn threads() -> Vec<Thread> {
    let Ok(entries) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let mut threads: Vec<Thread> = entries
        .flatten()
        .filter_map(|entry| {
            // A thread may have ended since it was listed.
            let name = fs::read(entry.path().join("comm")).ok()?;
            let name = String::from_utf8_lossy(&name).trim_end().to_owned();
            let tid = entry.file_name().to_str()?.parse().ok()?;
            name.starts_with(THREAD_PREFIX).then_some(Thread { tid, name })
        })
        .collect();
    threads.sort_by_key(|thread| thread.tid);
    threads
}

fn lock() -> Locked {
    COPIES.lock();
    Locked
}

impl Copies {
    /// Looks at what has been loaded since the last time.
    fn refresh(&mut self) {
        let version = loaded::version();
        if version == self.version {
            return;
        }
        let objects = loaded::objects();
        let listed: HashSet<_> = objects.iter().map(|object| (object.address(), object.name.clone())).collect();
        self.hidden.retain(|path| objects.iter().any(|object| path_of(object) == *path));
        for object in &objects {
            if !self.seen.contains(&(object.address(), object.name.clone())) {
                self.examine(object);
            }
        }
        self.seen = listed;
        self.version = version;
    }

    fn examine(&mut self, object: &Object) {
        if object.holds(threads as fn() -> Vec<Thread> as usize) {
            return;
        }
        if let Some(thread_cnt) = open(object) {
            self.counting.push(Copy { path: path_of(object), thread_cnt, inherited: 0 });
        } else if object.has_constant(MARK) {
            self.hidden.push(path_of(object));
        }
    }
}

fn path_of(object: &Object) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(object.name.to_bytes()))
}

/// The object's own `rd_kafka_thread_cnt`. Keeps the object loaded if it has one.
fn open(object: &Object) -> Option<ThreadCnt> {
    let name = if object.name.is_empty() { std::ptr::null() } else { object.name.as_ptr() };
    // SAFETY: the name is the linker's own; RTLD_NOLOAD loads nothing, so no constructor runs.
    let handle = unsafe { libc::dlopen(name, libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    if handle.is_null() {
        return None; // the kernel's vdso, or a library that is being unloaded
    }
    // SAFETY: a handle of dlopen's and a C string.
    let symbol = unsafe { libc::dlsym(handle, c"rd_kafka_thread_cnt".as_ptr()) };
    // dlsym looks into what the object depends on as well; that is listed by itself.
    if symbol.is_null() || !object.holds(symbol as usize) {
        // SAFETY: the reference that dlopen gave above is given back once.
        unsafe { libc::dlclose(handle) };
        return None;
    }
    // SAFETY: the symbol is part of librdkafka's public interface, with this type in every version.
    Some(unsafe { std::mem::transmute::<*mut std::ffi::c_void, ThreadCnt>(symbol) })
}

/// Inside fork(2), before: no other thread may hold the lock, which the child could never take again. It stays held
/// until the fork is over.
pub(super) fn before_fork() {
    let mut locked = lock();
    // A copy that the child finds later would count the parent's threads.
    locked.copies().refresh();
    std::mem::forget(locked);
}

/// Inside fork(2), after [`before_fork`], in the parent.
pub(super) fn after_fork_in_parent() {
    drop(Locked);
}

/// Inside fork(2), after [`before_fork`], in the child: none of the threads that are counted so far is here.
pub(super) fn after_fork_in_child() {
    let mut locked = Locked;
    for copy in &mut locked.copies().counting {
        copy.inherited = copy.counted();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_threads_by_their_names() {
        let (named, end) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
        let thread = std::thread::Builder::new().name("rdk:odd".into()).spawn(move || {
            named.0.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            let _ = end.1.recv();
        });
        let tid = named.1.recv().unwrap();
        assert!(threads().contains(&Thread { tid, name: "rdk:odd".into() }));
        drop(end.0);
        thread.unwrap().join().unwrap();
    }

    #[test]
    fn nothing_is_live_without_librdkafka() {
        assert!(!may_be_live());
        assert_eq!(live(&[]), []);
    }
}
