//! The exported functions, one per native method of `io.flambeau.jni.Native`. Each decodes its
//! arguments, calls a session and encodes the result inside [`guard`], which no panic and no
//! error leaves but as a Java exception.
#![expect(unsafe_code, reason = "exported symbols, and addresses from the JVM")]
#![expect(unreachable_pub, reason = "the JVM reaches them by their symbols")]

use crate::ending::{self, Call};
use crate::error::Error;
use crate::import::{BatchAddresses, with_batch};
use crate::lent;
use crate::logger;
use crate::session::{self, Inputs, Session};
use crate::sessions;
use crate::streams;
use crate::throw::ThrowFlambeau;
use arrow_array::RecordBatch;
use flambeau_libtorch as libtorch;
use flambeau_train::config::{MicroBatch, ModelFiles};
use flambeau_train::session::Stream;
use jni::objects::{JByteArray, JClass, JLongArray, JString};
use jni::sys::{jboolean, jint, jlong};
use jni::{Env, EnvUnowned};
use std::time::Duration;

/// Of what computes, and so must not run when the JVM ends.
fn guard<'l, T: Default>(
    mut env: EnvUnowned<'l>,
    body: impl FnOnce(&mut Env<'l>) -> Result<T, Error>,
) -> T {
    env.with_env(|env| {
        let _call = Call::begin()?;
        body(env)
    })
    .resolve::<ThrowFlambeau>()
}

/// Of what computes nothing.
fn guard_always<'l, T: Default>(
    mut env: EnvUnowned<'l>,
    body: impl FnOnce(&mut Env<'l>) -> Result<T, Error>,
) -> T {
    env.with_env(|env| {
        let _call = Call::always();
        body(env)
    })
    .resolve::<ThrowFlambeau>()
}

/// `String version()`: JSON with this library's version and build and libtorch's version.
#[unsafe(no_mangle)]
pub extern "system" fn Java_io_flambeau_jni_Native_version<'l>(
    env: EnvUnowned<'l>,
    _class: JClass<'l>,
) -> JString<'l> {
    guard_always(env, |env| {
        logger::install();
        let version = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "build": option_env!("FLAMBEAU_BUILD").unwrap_or("dev"),
            "libtorch": libtorch::VERSION,
        });
        Ok(env.new_string(version.to_string())?)
    })
}

/// `void check(String config, byte[] schema, byte[] model, byte[] weights)`.
#[unsafe(no_mangle)]
pub extern "system" fn Java_io_flambeau_jni_Native_check<'l>(
    env: EnvUnowned<'l>,
    _class: JClass<'l>,
    config: JString<'l>,
    schema: JByteArray<'l>,
    model: JByteArray<'l>,
    weights: JByteArray<'l>,
) {
    guard(env, |env| {
        let config = config.try_to_string(env)?;
        let (schema, model) = (bytes(env, &schema)?, bytes(env, &model)?);
        let files = ModelFiles {
            model: &model,
            weights: &bytes(env, &weights)?,
        };
        session::check(&config, &schema, files)
    })
}

/// `long open(String config, byte[] schema, byte[] model, byte[] weights, byte[] secret)`.
#[unsafe(no_mangle)]
pub extern "system" fn Java_io_flambeau_jni_Native_open<'l>(
    env: EnvUnowned<'l>,
    _class: JClass<'l>,
    config: JString<'l>,
    schema: JByteArray<'l>,
    model: JByteArray<'l>,
    weights: JByteArray<'l>,
    secret: JByteArray<'l>,
) -> jlong {
    guard(env, |env| {
        let config = config.try_to_string(env)?;
        let schema = bytes(env, &schema)?;
        let model = bytes(env, &model)?;
        let weights = bytes(env, &weights)?;
        let secret = session::secret(bytes(env, &secret)?)?;
        let session = Session::open(
            &config,
            Inputs {
                schema,
                model,
                weights,
                secret,
            },
        )?;
        Ok(sessions::add(session))
    })
}

/// `boolean feed(long session, int stream, int rows, long[] nodes, long[] buffers)`.
#[unsafe(no_mangle)]
pub extern "system" fn Java_io_flambeau_jni_Native_feed<'l>(
    env: EnvUnowned<'l>,
    _class: JClass<'l>,
    session: jlong,
    stream: jint,
    rows: jint,
    nodes: JLongArray<'l>,
    buffers: JLongArray<'l>,
) -> jboolean {
    guard(env, |env| {
        let session = sessions::get(session)?;
        let Some(room) = session.room()? else {
            return Ok(false);
        };
        let feed = |batch: &RecordBatch| session.feed(room, stream_of(stream), batch);
        with_lent(env, &session, (rows, &nodes, &buffers), feed)?;
        Ok(true)
    })
}

/// `boolean finish(long session, int stream)`.
#[unsafe(no_mangle)]
pub extern "system" fn Java_io_flambeau_jni_Native_finish<'l>(
    env: EnvUnowned<'l>,
    _class: JClass<'l>,
    session: jlong,
    stream: jint,
) -> jboolean {
    guard(env, |_| sessions::get(session)?.finish(stream_of(stream)))
}

/// `void evaluate(long session, String checkpoint)`: hands an evaluator a local checkpoint.
#[unsafe(no_mangle)]
pub extern "system" fn Java_io_flambeau_jni_Native_evaluate<'l>(
    env: EnvUnowned<'l>,
    _class: JClass<'l>,
    session: jlong,
    checkpoint: JString<'l>,
) {
    guard(env, |env| {
        let checkpoint = checkpoint.try_to_string(env)?;
        sessions::get(session)?.evaluate(checkpoint.into())
    })
}

fn stream_of(number: jint) -> Stream {
    if number == 0 {
        Stream::Training
    } else {
        Stream::Validation
    }
}

/// `String poll(long session, int timeoutMillis)`: the next event, or null.
#[unsafe(no_mangle)]
pub extern "system" fn Java_io_flambeau_jni_Native_poll<'l>(
    env: EnvUnowned<'l>,
    _class: JClass<'l>,
    session: jlong,
    timeout_millis: jint,
) -> JString<'l> {
    guard(env, |env| {
        let timeout = Duration::from_millis(u64::try_from(timeout_millis).unwrap_or(0));
        match sessions::get(session)?.poll(timeout)? {
            Some(event) => Ok(env.new_string(event)?),
            None => Ok(JString::null()),
        }
    })
}

/// `byte[] transform(long session, int rows, long[] nodes, long[] buffers)`.
#[unsafe(no_mangle)]
pub extern "system" fn Java_io_flambeau_jni_Native_transform<'l>(
    env: EnvUnowned<'l>,
    _class: JClass<'l>,
    session: jlong,
    rows: jint,
    nodes: JLongArray<'l>,
    buffers: JLongArray<'l>,
) -> JByteArray<'l> {
    guard(env, |env| {
        let session = sessions::get(session)?;
        let transform = |batch: &RecordBatch| session.transform(batch);
        let bytes = with_lent(env, &session, (rows, &nodes, &buffers), transform)?;
        Ok(env.byte_array_from_slice(&bytes)?)
    })
}

/// `long[] decode(long session, byte[] bytes, int length)`.
#[unsafe(no_mangle)]
pub extern "system" fn Java_io_flambeau_jni_Native_decode<'l>(
    env: EnvUnowned<'l>,
    _class: JClass<'l>,
    session: jlong,
    bytes: JByteArray<'l>,
    length: jint,
) -> JLongArray<'l> {
    guard(env, |env| {
        let fill = |room: &mut [u8]| Ok(bytes.get_region(env, 0, as_signed(room))?);
        let batch = sessions::get(session)?.decode(usize::try_from(length).ok(), fill)?;
        let Some(batch) = batch else {
            return Ok(JLongArray::null());
        };
        let array = env.new_long_array(batch.len())?;
        array.set_region(env, 0, &batch)?;
        Ok(array)
    })
}

/// `void release(long batch)`: from any thread.
#[unsafe(no_mangle)]
pub extern "system" fn Java_io_flambeau_jni_Native_release<'l>(
    env: EnvUnowned<'l>,
    _class: JClass<'l>,
    batch: jlong,
) {
    guard_always(env, |_| {
        lent::release(batch);
        Ok(())
    })
}

/// `boolean holds(String stream, long number)`.
#[unsafe(no_mangle)]
pub extern "system" fn Java_io_flambeau_jni_Native_holds<'l>(
    env: EnvUnowned<'l>,
    _class: JClass<'l>,
    stream: JString<'l>,
    number: jlong,
) -> jboolean {
    guard(env, |env| {
        let micro_batch = MicroBatch {
            stream: stream.try_to_string(env)?,
            number: u64::try_from(number).unwrap_or(0),
        };
        Ok(streams::before(&micro_batch).is_some())
    })
}

/// `void cancel(long session)`: from any thread; a session already closed is left alone.
#[unsafe(no_mangle)]
pub extern "system" fn Java_io_flambeau_jni_Native_cancel<'l>(
    env: EnvUnowned<'l>,
    _class: JClass<'l>,
    session: jlong,
) {
    guard_always(env, |_| {
        if let Ok(session) = sessions::get(session) {
            session.cancel();
        }
        Ok(())
    })
}

/// `void close(long session)`: idempotent; ends running work and joins its threads.
#[unsafe(no_mangle)]
pub extern "system" fn Java_io_flambeau_jni_Native_close<'l>(
    env: EnvUnowned<'l>,
    _class: JClass<'l>,
    session: jlong,
) {
    guard_always(env, |_| {
        if let Some(session) = sessions::remove(session) {
            session.close();
        }
        Ok(())
    })
}

/// `boolean hasFailed(long session)`: from any thread; false for a session that is closed.
#[unsafe(no_mangle)]
pub extern "system" fn Java_io_flambeau_jni_Native_hasFailed<'l>(
    env: EnvUnowned<'l>,
    _class: JClass<'l>,
    session: jlong,
) -> jboolean {
    guard_always(env, |_| {
        Ok(sessions::get(session).is_ok_and(|session| session.has_failed()))
    })
}

/// `String takeLog(boolean debug)`: lines as a JSON array of {level, thread, message}, or null.
#[unsafe(no_mangle)]
pub extern "system" fn Java_io_flambeau_jni_Native_takeLog<'l>(
    env: EnvUnowned<'l>,
    _class: JClass<'l>,
    debug: jboolean,
) -> JString<'l> {
    guard_always(env, |env| {
        let lines = logger::take(debug);
        if lines.is_empty() {
            return Ok(JString::null());
        }
        Ok(env.new_string(serde_json::to_string(&lines)?)?)
    })
}

/// `void shutDown()`: the JVM ends.
#[unsafe(no_mangle)]
pub extern "system" fn Java_io_flambeau_jni_Native_shutDown<'l>(
    mut env: EnvUnowned<'l>,
    _class: JClass<'l>,
) {
    // Not a call that is waited for.
    env.with_env(|_| {
        ending::shut_down();
        Ok::<_, Error>(())
    })
    .resolve::<ThrowFlambeau>()
}

/// `int liveSessions()`.
#[unsafe(no_mangle)]
pub extern "system" fn Java_io_flambeau_jni_Native_liveSessions<'l>(
    env: EnvUnowned<'l>,
    _class: JClass<'l>,
) -> jint {
    guard_always(env, |_| {
        Ok(jint::try_from(sessions::count()).unwrap_or(jint::MAX))
    })
}

/// `void fault(String kind)`: fails on purpose, so that tests can see what becomes of a panic
/// ("panic"), of a C++ exception in libtorch ("torch") and of a bad setting (anything else).
#[unsafe(no_mangle)]
#[expect(clippy::panic, reason = "its purpose")]
pub extern "system" fn Java_io_flambeau_jni_Native_fault<'l>(
    env: EnvUnowned<'l>,
    _class: JClass<'l>,
    kind: JString<'l>,
) {
    guard(env, |env| match kind.try_to_string(env)?.as_str() {
        "panic" => panic!("on purpose"),
        "torch" => Ok(libtorch::refuse_mismatched_shapes().map_err(flambeau_train::Error::from)?),
        kind => Err(flambeau_train::Error::Config(format!("no fault '{kind}'")).into()),
    })
}

/// A Java byte array; null reads as empty.
fn bytes(env: &mut Env<'_>, array: &JByteArray<'_>) -> Result<Vec<u8>, Error> {
    if array.is_null() {
        return Ok(Vec::new());
    }
    Ok(env.convert_byte_array(array)?)
}

/// The same bytes as Java has them.
fn as_signed(bytes: &mut [u8]) -> &mut [i8] {
    let (address, length) = (bytes.as_mut_ptr().cast(), bytes.len());
    // SAFETY: the two types have one layout and every bit pattern is valid in both; the result
    // borrows what `bytes` borrowed.
    unsafe { std::slice::from_raw_parts_mut(address, length) }
}

/// Has `take` the batch that Java lends for its call: rows, field nodes and buffers.
fn with_lent<T>(
    env: &mut Env<'_>,
    session: &Session,
    (rows, nodes, buffers): (jint, &JLongArray<'_>, &JLongArray<'_>),
    take: impl FnOnce(&RecordBatch) -> Result<T, Error>,
) -> Result<T, Error> {
    let addresses = BatchAddresses {
        rows: usize::try_from(rows).map_err(|_| Error::Batch(format!("{rows} rows")))?,
        nodes: longs(env, nodes)?,
        buffers: longs(env, buffers)?,
    };
    // SAFETY: the Java caller holds the batch open until its call returns, which this is a part of.
    unsafe { with_batch(session.schema(), &addresses, take) }?
}

fn longs(env: &mut Env<'_>, array: &JLongArray<'_>) -> Result<Vec<i64>, Error> {
    let mut values = vec![0; array.len(env)?];
    array.get_region(env, 0, &mut values)?;
    Ok(values)
}
