//! What is said of those that are turned away: one line a minute for each address, so that nobody can
//! fill the log from outside.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

const QUIET: Duration = Duration::from_secs(60);
/// Addresses that are remembered; of more at a time nothing is said.
const LIMIT: usize = 1024;

/// When each address was last written about.
#[derive(Default)]
pub(crate) struct Strangers(HashMap<IpAddr, Instant>);

impl Strangers {
    /// Whether it is time for a line about `address`; if so, the next is a minute away.
    pub(crate) fn is_news(&mut self, address: IpAddr) -> bool {
        let now = Instant::now();
        if self.0.len() >= LIMIT {
            self.0.retain(|_, said| now.duration_since(*said) < QUIET);
        }
        match self.0.get(&address) {
            Some(said) if now.duration_since(*said) < QUIET => false,
            None if self.0.len() >= LIMIT => false,
            _ => {
                self.0.insert(address, now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LIMIT, Strangers};
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn an_address_is_news_once_a_minute_and_a_crowd_is_not() {
        let address = |number: u32| IpAddr::V4(Ipv4Addr::from(number));
        let mut strangers = Strangers::default();
        assert!(strangers.is_news(address(1)));
        assert!(!strangers.is_news(address(1)));
        let news = (0..4096).filter(|number| strangers.is_news(address(*number)));
        assert_eq!(news.count(), LIMIT - 1);
    }
}
