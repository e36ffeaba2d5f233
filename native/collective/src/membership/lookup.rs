//! The addresses of a host: looked up beside everything else, at most once in a while, and never
//! waited for beyond a deadline.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// The most that one caller waits for a name server.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an answer counts: a host may come back under another address.
const FRESH: Duration = Duration::from_secs(5);

/// A host by its name, or by its address with or without the brackets of IPv6.
pub(crate) struct Host {
    name: String,
    answers: Mutex<Answers>,
}

#[derive(Default)]
struct Answers {
    last: Option<(Instant, Vec<SocketAddr>)>,
    /// A look-up under way. It cannot be stopped, so it is waited for again instead of repeated.
    pending: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
}

impl Host {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: bare(name).to_owned(),
            answers: Mutex::default(),
        }
    }

    /// Its addresses with `port`, at least one.
    pub(crate) async fn addresses(&self, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.name.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let mut addresses = self.look_up().await?;
        for address in &mut addresses {
            address.set_port(port);
        }
        Ok(addresses)
    }

    async fn look_up(&self) -> io::Result<Vec<SocketAddr>> {
        let mut answers = self.answers.lock().await;
        if let Some((since, addresses)) = &answers.last
            && since.elapsed() < FRESH
        {
            return Ok(addresses.clone());
        }
        let name = self.name.clone();
        let pending = answers.pending.get_or_insert_with(|| {
            tokio::spawn(async move { Ok(lookup_host((name, 0)).await?.collect()) })
        });
        let Ok(finished) = timeout(PATIENCE, pending).await else {
            let what = format!("no name server has answered for {} yet", self.name);
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        };
        answers.pending = None;
        let addresses = finished.map_err(io::Error::other)??;
        if addresses.is_empty() {
            return Err(io::Error::other(format!("{} has no address", self.name)));
        }
        answers.last = Some((Instant::now(), addresses.clone()));
        Ok(addresses)
    }
}

/// `host` without the brackets that an IPv6 address has beside a port.
fn bare(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::{Host, bare};

    #[test]
    fn brackets_are_no_part_of_an_address() {
        let bared = ["[::1]", "::1", "host", "[fe80::1%eth0]"].map(bare);
        assert_eq!(bared, ["::1", "::1", "host", "fe80::1%eth0"]);
    }

    #[test]
    fn an_answer_is_kept_for_a_while() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let host = Host::new("localhost");
            let first = host.addresses(7).await.expect("this host knows itself");
            assert!(first.iter().all(|address| address.port() == 7));
            let since = host.answers.lock().await.last.clone().expect("kept").0;
            host.addresses(8).await.expect("known");
            assert_eq!(
                host.answers.lock().await.last.clone().expect("kept").0,
                since
            );
        });
    }
}
