//! Reading messages of another library's librdkafka into the Ruby objects that its binding makes of them. By FFI a
//! message takes a dozen calls, here one.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::sync::OnceLock;

use magnus::rb_sys::{AsRawValue, FromRawValue};
use magnus::{Error, RArray, RClass, RHash, RString, Ruby, Value, function, prelude::*};
use rb_sys::VALUE;

use crate::error;

/// `rd_kafka_message_t`, which is part of librdkafka's ABI.
#[repr(C)]
struct Message {
    err: c_int,
    topic: *mut c_void,
    partition: i32,
    payload: *const c_char,
    len: usize,
    key: *const c_char,
    key_len: usize,
    offset: i64,
    private: *mut c_void,
}

type TopicName = unsafe extern "C" fn(*const c_void) -> *const c_char;
type Timestamp = unsafe extern "C" fn(*const Message, *mut c_int) -> i64;
type Headers = unsafe extern "C" fn(*const Message, *mut *mut c_void) -> c_int;
type Header = unsafe extern "C" fn(*const c_void, usize, *mut *const c_char, *mut *const c_void, *mut usize) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Message);

/// What the library that the messages are of has for them.
struct Functions {
    topic_name: TopicName,
    timestamp: Timestamp,
    headers: Headers,
    header: Header,
    destroy: Destroy,
    addresses: [usize; 5],
}

static FUNCTIONS: OnceLock<Functions> = OnceLock::new();

/// `RD_KAFKA_RESP_ERR__NOENT`: no more.
const NO_ENTRY: c_int = -156;

/// The instance variables of a message.
struct Names {
    topic: rb_sys::ID,
    partition: rb_sys::ID,
    payload: rb_sys::ID,
    key: rb_sys::ID,
    offset: rb_sys::ID,
    timestamp: rb_sys::ID,
    headers: rb_sys::ID,
}

static NAMES: OnceLock<Names> = OnceLock::new();

impl Names {
    fn get() -> &'static Self {
        // SAFETY: it interns a name; called with the GVL.
        let id = |name: &CStr| unsafe { rb_sys::rb_intern(name.as_ptr()) };
        NAMES.get_or_init(|| Self {
            topic: id(c"@topic"),
            partition: id(c"@partition"),
            payload: id(c"@payload"),
            key: id(c"@key"),
            offset: id(c"@offset"),
            timestamp: id(c"@timestamp"),
            headers: id(c"@headers"),
        })
    }
}

/// Takes the addresses of `rd_kafka_topic_name`, `_message_timestamp`, `_message_headers`, `_header_get_all` and
/// `_message_destroy`. False where those of another library were taken before.
fn library(ruby: &Ruby, addresses: Vec<usize>) -> Result<bool, Error> {
    let Ok(addresses) = <[usize; 5]>::try_from(addresses) else {
        return Err(error::argument(ruby, "five addresses are wanted"));
    };
    if addresses.contains(&0) {
        return Err(error::argument(ruby, "no address may be null"));
    }
    let known = FUNCTIONS.get_or_init(|| {
        let [topic_name, timestamp, headers, header, destroy] = addresses;
        // SAFETY: the caller, Ruby code of this gem alone, has found each by its name in a library that is never
        // unloaded, and librdkafka's ABI gives their shapes.
        unsafe {
            Functions {
                topic_name: std::mem::transmute::<usize, TopicName>(topic_name),
                timestamp: std::mem::transmute::<usize, Timestamp>(timestamp),
                headers: std::mem::transmute::<usize, Headers>(headers),
                header: std::mem::transmute::<usize, Header>(header),
                destroy: std::mem::transmute::<usize, Destroy>(destroy),
                addresses,
            }
        }
    });
    Ok(known.addresses == addresses)
}

/// Makes an object of `class` of the message at this address, and frees the message. Nil, and the message stays, where it
/// is an error, or has headers and `with_headers` is false. `no_headers` is for a message that has none.
fn take(
    ruby: &Ruby,
    class: RClass,
    no_headers: Value,
    address: usize,
    with_headers: bool,
) -> Result<Option<Value>, Error> {
    let Some(functions) = FUNCTIONS.get() else { return Ok(None) };
    let message = address as *mut Message;
    let object = read(ruby, functions, class, no_headers, message, with_headers)?;
    if object.is_some() {
        // SAFETY: the message is the caller's, who uses it no more; nothing points into it.
        unsafe { (functions.destroy)(message) };
    }
    Ok(object)
}

/// As `take`, of any message that is no error, which stays.
fn copy(ruby: &Ruby, class: RClass, no_headers: Value, address: usize) -> Result<Option<Value>, Error> {
    let Some(functions) = FUNCTIONS.get() else { return Ok(None) };
    read(ruby, functions, class, no_headers, address as *const Message, true)
}

fn read(
    ruby: &Ruby,
    functions: &Functions,
    class: RClass,
    no_headers: Value,
    at: *const Message,
    with_headers: bool,
) -> Result<Option<Value>, Error> {
    // SAFETY: the caller, Ruby code of this gem alone, has the message from a poll and has not destroyed it.
    let message = unsafe { &*at };
    if message.err != 0 {
        return Ok(None);
    }
    let mut list = std::ptr::null_mut();
    // SAFETY: the message is live; the list stays the message's.
    let headers = match unsafe { (functions.headers)(at, &mut list) } {
        NO_ENTRY => no_headers,
        0 if with_headers => headers(ruby, functions, list)?.as_value(),
        _ => return Ok(None),
    };
    let names = Names::get();
    // SAFETY: all of it is the VM's API, called with the GVL; what is made is on this stack until it is in the object. The
    // pointers of a live message are null, or have as many bytes as it says. Where memory is short, Ruby jumps from here
    // to Ruby: nothing in this block needs to be dropped.
    let object = unsafe {
        let object = rb_sys::rb_obj_alloc(class.as_raw());
        let set = |name, value| rb_sys::rb_ivar_set(object, name, value);
        if !message.topic.is_null() {
            set(names.topic, rb_sys::rb_str_new_cstr((functions.topic_name)(message.topic)));
        }
        set(names.partition, rb_sys::rb_ll2inum(message.partition.into()));
        if !message.payload.is_null() {
            set(names.payload, string(message.payload, message.len));
        }
        if !message.key.is_null() {
            set(names.key, string(message.key, message.key_len));
        }
        set(names.offset, rb_sys::rb_ll2inum(message.offset));
        set(names.timestamp, time((functions.timestamp)(at, std::ptr::null_mut())));
        set(names.headers, headers.as_raw());
        Value::from_raw(object)
    };
    Ok(Some(object))
}

/// # Safety
/// There are so many bytes. The GVL is held, and Ruby may jump away.
unsafe fn string(bytes: *const c_char, length: usize) -> VALUE {
    // SAFETY: as above. No message is longer than a `long` can say.
    unsafe { rb_sys::rb_str_new(bytes, length as c_long) }
}

/// # Safety
/// The GVL is held, and Ruby may jump away.
unsafe fn time(milliseconds: i64) -> VALUE {
    if milliseconds < 0 {
        return rb_sys::Qnil.into();
    }
    // SAFETY: as above.
    unsafe { rb_sys::rb_time_new(milliseconds / 1000, milliseconds % 1000 * 1000) }
}

/// A frozen Hash. A name that comes more than once has an Array of its values.
fn headers(ruby: &Ruby, functions: &Functions, list: *const c_void) -> Result<RHash, Error> {
    let hash = ruby.hash_new();
    for index in 0.. {
        let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0);
        // SAFETY: the list is a live message's.
        if unsafe { (functions.header)(list, index, &mut name, &mut value, &mut size) } != 0 {
            break;
        }
        // SAFETY: name and value are the list's; the name ends with a zero, the value has `size` bytes or is null.
        let (name, value) = unsafe {
            let value = if value.is_null() { &[] } else { std::slice::from_raw_parts(value.cast(), size) };
            (binary(ruby, CStr::from_ptr(name).to_bytes()), binary(ruby, value))
        };
        match hash.get(name) {
            None => hash.aset(name, value)?,
            Some(earlier) => match RArray::from_value(earlier) {
                Some(all) => all.push(value)?,
                None => hash.aset(name, ruby.ary_new_from_values(&[earlier, value.as_value()]))?,
            },
        }
    }
    hash.freeze();
    Ok(hash)
}

fn binary(ruby: &Ruby, bytes: &[u8]) -> RString {
    ruby.str_from_slice(bytes)
}

pub fn init(ruby: &Ruby) -> Result<(), Error> {
    let module = error::swarm_native(ruby)?.define_module("ForeignMessages")?;
    module.define_singleton_method("library", function!(library, 1))?;
    module.define_singleton_method("take", function!(take, 4))?;
    module.define_singleton_method("copy", function!(copy, 3))
}
