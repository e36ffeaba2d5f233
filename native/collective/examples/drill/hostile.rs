//! Strangers that come by the thousand: garbage, silence, slow bytes, a wrong key, a replay, an attempt
//! that is over; and impostors that listen where a rank might.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const HELLO: usize = 128;

/// Callers at every port of a range, until stopped.
pub(crate) struct Callers {
    over: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Callers {
    /// `hello` is a recorded one, so that some of them speak the protocol as far as it goes.
    pub(crate) fn start(port: u16, hello: Option<Vec<u8>>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let calls = Arc::new(AtomicUsize::new(0));
        let words = words(hello);
        let threads = (0..2)
            .map(|_| {
                let (over, calls, words) = (Arc::clone(&over), Arc::clone(&calls), words.clone());
                thread::spawn(move || call(port, &words, &over, &calls))
            })
            .collect();
        Self {
            over,
            calls,
            threads,
        }
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(self) -> usize {
        self.over.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().ok();
        }
        self.calls.load(Ordering::Relaxed)
    }
}

/// What callers say: all at once, or byte by byte where the flag says so.
fn words(hello: Option<Vec<u8>>) -> Vec<(Vec<u8>, bool)> {
    let mut words = vec![
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), false),
        (b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(), false),
        (vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], false),
        (vec![0xa5; 4096], false),
        (Vec::new(), false),
        (b"FLAMBEAU".repeat(20), false),
        (b"FLAMBEAU".repeat(20), true),
    ];
    if let Some(hello) = hello {
        // A proof of nothing: zeros, the hello again, and a first word of 64 KiB, all by a wrong key.
        for rest in [vec![0; 48 + 528], hello.clone(), vec![0xff; 1 << 16]] {
            words.push(([hello.clone(), rest].concat(), false));
        }
        // An attempt that is over, and one that has not come yet.
        for attempt in [0, 9] {
            let mut stale = hello.clone();
            stale[24] = attempt;
            words.push(([stale, vec![1; 48]].concat(), false));
        }
    }
    words
}

fn call(port: u16, words: &[(Vec<u8>, bool)], over: &AtomicBool, calls: &AtomicUsize) {
    let mut held = Vec::new();
    while !over.load(Ordering::SeqCst) {
        for (words, slowly) in words {
            for port in port..port + 4 {
                let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
                    continue;
                };
                calls.fetch_add(1, Ordering::Relaxed);
                let first = if *slowly { &words[..1] } else { &words[..] };
                stream.write_all(first).ok();
                held.push((stream, if *slowly { words.len() } else { 0 }));
            }
        }
        for (stream, left) in &mut held {
            if *left > 0 {
                *left -= 1;
                stream.write_all(b"F").ok();
            }
        }
        if held.len() > 400 {
            held.drain(..200);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Listens on one port for as long as it lives; gives the first hello that it hears.
pub(crate) struct Impostor {
    over: Arc<AtomicBool>,
    pub(crate) heard: Arc<std::sync::Mutex<Option<Vec<u8>>>>,
}

impl Impostor {
    /// `manner` chooses what it answers.
    pub(crate) fn listen(port: u16, manner: usize) -> Option<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).ok()?;
        listener.set_nonblocking(true).ok()?;
        let over = Arc::new(AtomicBool::new(false));
        let heard = Arc::new(std::sync::Mutex::new(None));
        let (end, record) = (Arc::clone(&over), Arc::clone(&heard));
        thread::spawn(move || {
            while !end.load(Ordering::SeqCst) {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(5));
                    continue;
                };
                stream.set_nonblocking(false).ok();
                let record = Arc::clone(&record);
                thread::spawn(move || answer(stream, manner, &record));
            }
        });
        Some(Self { over, heard })
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

fn answer(mut stream: TcpStream, manner: usize, heard: &std::sync::Mutex<Option<Vec<u8>>>) {
    let mut hello = [0; HELLO];
    if stream.read_exact(&mut hello).is_err() {
        return;
    }
    if let Ok(mut heard) = heard.lock() {
        heard.get_or_insert_with(|| hello.to_vec());
    }
    let mut turned = hello;
    turned[12..16].copy_from_slice(&hello[16..20]);
    turned[16..20].copy_from_slice(&hello[12..16]);
    let answer = match manner % 5 {
        0 => turned.to_vec(),
        1 => {
            turned[24] += 1;
            turned.to_vec()
        }
        2 => Vec::new(),
        3 => vec![b'?'; 4096],
        _ => hello.to_vec(),
    };
    stream.write_all(&answer).ok();
    let mut noise = [0; 48];
    if stream.read_exact(&mut noise).is_ok() {
        stream.write_all(&[0; 48]).ok();
        // Whoever waits for more is left waiting.
        stream.read_exact(&mut noise).ok();
    }
}
