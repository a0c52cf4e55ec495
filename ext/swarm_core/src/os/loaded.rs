//! The libraries that the dynamic linker has loaded into this process.

use std::ffi::{CStr, CString, OsStr, c_int, c_void};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How often the linker has loaded and unloaded something: equal versions mean an equal list of objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    loads: u64,
    unloads: u64,
}

/// One object as the linker lists it: a library, or the program itself, whose name is empty.
#[derive(Clone, Debug)]
pub struct Object {
    /// The path that it was loaded from.
    pub name: CString,
    segments: Vec<Segment>,
}

/// A part of an object.
#[derive(Clone, Debug)]
struct Segment {
    address: usize,
    size: usize,
    offset: u64,
    size_in_file: u64,
    writable: bool,
    executable: bool,
}

/// Calls `visit` with each object until it returns false.
fn visit_objects<F: FnMut(&libc::dl_phdr_info) -> bool>(mut visit: F) {
    unsafe extern "C" fn one<F: FnMut(&libc::dl_phdr_info) -> bool>(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        visit: *mut c_void,
    ) -> c_int {
        // SAFETY: dl_iterate_phdr passes an info that is valid during the call, and the pointer that we gave it, which
        // is the `visit` below. No `visit` of this module panics.
        let (info, visit) = unsafe { (&*info, &mut *visit.cast::<F>()) };
        c_int::from(!visit(info))
    }
    // SAFETY: `visit` outlives the call, which runs `one` on this thread alone.
    unsafe { libc::dl_iterate_phdr(Some(one::<F>), (&raw mut visit).cast()) };
}

/// The version of what is loaded now. Takes less than a microsecond.
pub fn version() -> Version {
    let mut version = Version::default();
    visit_objects(|info| {
        // The linker has them since glibc 2.4 and in every musl.
        version = Version { loads: info.dlpi_adds, unloads: info.dlpi_subs };
        false
    });
    version
}

/// Everything that is loaded now.
pub fn objects() -> Vec<Object> {
    let mut objects = Vec::new();
    visit_objects(|info| {
        objects.push(Object::of(info));
        true
    });
    objects
}

impl Object {
    fn of(info: &libc::dl_phdr_info) -> Self {
        let name = if info.dlpi_name.is_null() {
            CString::default()
        } else {
            // SAFETY: the linker's own string, valid during the visit.
            unsafe { CStr::from_ptr(info.dlpi_name) }.to_owned()
        };
        let headers = if info.dlpi_phdr.is_null() {
            &[]
        } else {
            // SAFETY: the object's program headers, as many as the linker says, mapped while it is loaded.
            unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) }
        };
        #[allow(clippy::unnecessary_cast, reason = "these are as wide as the platform's words")]
        let segments = (headers.iter())
            .filter(|header| header.p_type == libc::PT_LOAD)
            .map(|header| Segment {
                address: (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize),
                size: header.p_memsz as usize,
                offset: header.p_offset as u64,
                size_in_file: header.p_filesz as u64,
                writable: header.p_flags & libc::PF_W != 0,
                executable: header.p_flags & libc::PF_X != 0,
            })
            .collect();
        Self { name, segments }
    }

    /// True if the address lies in this object.
    pub fn holds(&self, address: usize) -> bool {
        self.segments.iter().any(|segment| (segment.address..segment.address + segment.size).contains(&address))
    }

    /// Where the object lies: together with the name it tells objects apart.
    pub fn address(&self) -> usize {
        self.segments.first().map_or(0, |segment| segment.address)
    }

    /// True if the object's constants hold these bytes. The file is read rather than the memory, which would make every
    /// page of it count for this process. False as well where the file cannot be read.
    pub fn has_constant(&self, bytes: &[u8]) -> bool {
        let path = match self.name.to_bytes() {
            b"" => Path::new("/proc/self/exe"),
            name => Path::new(OsStr::from_bytes(name)),
        };
        let Ok(file) = File::open(path) else { return false };
        // Linkers that do not give constants a segment of their own put them beside the code.
        let apart = self.segments.iter().any(|segment| !segment.writable && !segment.executable);
        (self.segments.iter())
            .filter(|segment| !segment.writable && segment.executable != apart)
            .any(|segment| range_holds(&file, segment.offset, segment.size_in_file, bytes))
    }
}

/// True if `bytes` stand somewhere in these `size` bytes of the file.
fn range_holds(file: &File, offset: u64, size: u64, bytes: &[u8]) -> bool {
    let mut buffer = vec![0; 256 * 1024];
    let (mut at, end) = (offset, offset + size);
    let mut kept = 0;
    while at < end {
        let room = (buffer.len() - kept).min(usize::try_from(end - at).unwrap_or(usize::MAX));
        let Ok(read @ 1..) = file.read_at(&mut buffer[kept..kept + room], at) else { return false };
        let filled = kept + read;
        if find(&buffer[..filled], bytes) {
            return true;
        }
        // What was sought may begin in the last bytes of this piece.
        kept = filled.min(bytes.len() - 1);
        buffer.copy_within(filled - kept..filled, 0);
        at += read as u64;
    }
    false
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    // SAFETY: both ranges are slices'.
    let found = unsafe { libc::memmem(haystack.as_ptr().cast(), haystack.len(), needle.as_ptr().cast(), needle.len()) };
    !found.is_null()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn lists_the_program_and_the_c_library() {
        let objects = objects();
        let here = lists_the_program_and_the_c_library as fn() as usize;
        let ours: Vec<_> = objects.iter().filter(|object| object.holds(here)).collect();
        assert_eq!(ours.len(), 1);
        assert!(ours[0].name.is_empty());
        assert!(objects.iter().any(|object| object.name.to_bytes().ends_with(b"libc.so.6")));
    }

    #[test]
    fn the_version_changes_when_something_is_loaded() {
        let before = version();
        // SAFETY: a library of the C library itself, without constructors.
        assert!(!unsafe { libc::dlopen(c"libresolv.so.2".as_ptr(), libc::RTLD_LAZY) }.is_null());
        assert_ne!(version(), before);
        assert_eq!(version(), version());
    }

    #[test]
    fn finds_a_constant_of_this_program_and_not_what_is_nowhere() {
        let objects = objects();
        let program = objects.iter().find(|object| object.name.is_empty()).unwrap();
        let constant = std::hint::black_box("a constant of the test program");
        assert!(program.has_constant(constant.as_bytes()));
        let nowhere: Vec<u8> = constant.bytes().rev().collect();
        assert!(!program.has_constant(&nowhere));
    }

    #[test]
    fn finds_what_lies_across_two_pieces() {
        let mut file = tempfile();
        file.write_all(&vec![b'.'; 256 * 1024 - 3]).unwrap();
        file.write_all(b"needle...").unwrap();
        let size = file.metadata().unwrap().len();
        assert!(range_holds(&file, 0, size, b"needle"));
        assert!(range_holds(&file, 9, size - 9, b"needle"));
        assert!(!range_holds(&file, 0, size - 4, b"needle"));
        assert!(!range_holds(&file, 0, size + 100, b"nothing"));
    }

    fn tempfile() -> File {
        let descriptor = rustix::fs::memfd_create("range", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        File::from(descriptor)
    }
}
