//! A small proxy between ranks that damages what goes through it: rank r listens on 127.0.0.r+1, and
//! the others reach it by way of 127.0.1.r+1, where this passes every port of the range on.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// What happens to the bytes of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Harm {
    /// They arrive so much later.
    Delay(Duration),
    /// So many pass in a second, in each direction.
    Throttle(usize),
    /// One bit is another.
    Flip,
    /// A few are left out.
    Truncate,
    /// Some come twice.
    Replay,
    /// Both ends see the connection end.
    Cut,
    /// The receiver sees an end, the sender does not.
    HalfClose,
    /// Nothing more arrives, and nobody is told.
    Drop,
}

/// Passes the ports of `range` on for so many ranks, while it lives.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
}

struct Shared {
    harm: Harm,
    /// Harm that is done once is done to the first connection that has carried so many bytes.
    after: u64,
    armed: AtomicBool,
    done: AtomicBool,
    ended: AtomicBool,
    connections: AtomicU64,
}

impl Proxy {
    pub(crate) fn start(
        ranks: usize,
        range: &RangeInclusive<u16>,
        harm: Harm,
        after: u64,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            harm,
            after,
            armed: AtomicBool::new(false),
            done: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            connections: AtomicU64::new(0),
        });
        for rank in 1..=ranks {
            for port in range.clone() {
                let listener = TcpListener::bind((format!("127.0.1.{rank}"), port))?;
                listener.set_nonblocking(true)?;
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&listener, rank, port, &shared));
            }
        }
        Ok(Self { shared })
    }

    /// Has harm done from now on.
    pub(crate) fn arm(&self) {
        self.shared.armed.store(true, Ordering::SeqCst);
    }

    /// Whether harm that is done once is done.
    pub(crate) fn has_harmed(&self) -> bool {
        self.shared.done.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
    }
}

fn serve(listener: &TcpListener, rank: usize, port: u16, shared: &Arc<Shared>) {
    while !shared.ended.load(Ordering::SeqCst) {
        let Ok((caller, _)) = listener.accept() else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        caller.set_nonblocking(false).ok();
        // Dropping the caller is how a port that nobody listens on looks through the proxy.
        let Ok(called) = TcpStream::connect((format!("127.0.0.{rank}"), port)) else {
            continue;
        };
        shared.connections.fetch_add(1, Ordering::Relaxed);
        let Ok((back, forth)) = caller
            .try_clone()
            .and_then(|c| Ok((c, called.try_clone()?)))
        else {
            continue;
        };
        for (from, to) in [(caller, called), (forth, back)] {
            let shared = Arc::clone(shared);
            thread::spawn(move || pass(from, to, &shared));
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    from.set_nodelay(true).ok();
    to.set_nodelay(true).ok();
    let mut bytes = vec![0; 16 << 10];
    let mut passed = 0;
    let mut silent = false;
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let chunk = &mut bytes[..count];
        passed += count as u64;
        let due = shared.armed.load(Ordering::SeqCst) && passed >= shared.after;
        let once = || due && !shared.done.swap(true, Ordering::SeqCst);
        let sent = match shared.harm {
            Harm::Delay(by) => {
                thread::sleep(by);
                to.write_all(chunk)
            }
            Harm::Throttle(per_second) => {
                thread::sleep(Duration::from_secs_f64(count as f64 / per_second as f64));
                to.write_all(chunk)
            }
            Harm::Flip if once() => {
                chunk[count / 2] ^= 0x10;
                to.write_all(chunk)
            }
            Harm::Truncate if once() => to.write_all(&chunk[..count - count.min(3)]),
            Harm::Replay if once() => to.write_all(chunk).and_then(|()| to.write_all(chunk)),
            Harm::Cut if once() => {
                from.shutdown(Shutdown::Both).ok();
                to.shutdown(Shutdown::Both).ok();
                return;
            }
            Harm::HalfClose if once() => {
                to.shutdown(Shutdown::Write).ok();
                silent = true;
                Ok(())
            }
            Harm::Drop if once() => {
                silent = true;
                Ok(())
            }
            _ if silent => Ok(()),
            _ => to.write_all(chunk),
        };
        if sent.is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Write).ok();
}
