//! Two network namespaces with a wire between them, for partitions that no signal can make. Needs root.

use std::process::Command;

pub(crate) const ADDRESSES: [&str; 2] = ["10.213.7.1", "10.213.7.2"];

/// Both namespaces; gone with this value.
pub(crate) struct Namespaces {
    pub(crate) names: [String; 2],
    wires: [String; 2],
}

/// How the network is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// No packet gets through.
    BothWays,
    /// Those of the first namespace get lost, those of the second arrive.
    OneWay,
}

impl Namespaces {
    pub(crate) fn create() -> Result<Self, String> {
        let id = std::process::id();
        let made = Self {
            names: ["a", "b"].map(|side| format!("flambeau-{id}-{side}")),
            wires: ["a", "b"].map(|side| format!("fl{id}{side}")),
        };
        for name in &made.names {
            ip(&["netns", "add", name])?;
        }
        let [wire_a, wire_b] = &made.wires;
        ip(&[
            "link", "add", wire_a, "type", "veth", "peer", "name", wire_b,
        ])?;
        for ((name, wire), address) in made.names.iter().zip(&made.wires).zip(ADDRESSES) {
            ip(&["link", "set", wire, "netns", name])?;
            ip(&[
                "-n",
                name,
                "addr",
                "add",
                &format!("{address}/24"),
                "dev",
                wire,
            ])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
            ip(&["-n", name, "link", "set", wire, "up"])?;
        }
        Ok(made)
    }

    pub(crate) fn cut(&self, how: Cut) -> Result<(), String> {
        match how {
            Cut::BothWays => ip(&["-n", &self.names[0], "link", "set", &self.wires[0], "down"]),
            // To an address of the wire that nobody has.
            Cut::OneWay => ip(&[
                "-n",
                &self.names[0],
                "neigh",
                "replace",
                ADDRESSES[1],
                "lladdr",
                "02:00:00:00:00:99",
                "dev",
                &self.wires[0],
                "nud",
                "permanent",
            ]),
        }
    }

    pub(crate) fn heal(&self, how: Cut) -> Result<(), String> {
        match how {
            Cut::BothWays => ip(&["-n", &self.names[0], "link", "set", &self.wires[0], "up"]),
            Cut::OneWay => ip(&[
                "-n",
                &self.names[0],
                "neigh",
                "del",
                ADDRESSES[1],
                "dev",
                &self.wires[0],
            ]),
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.names {
            ip(&["netns", "del", name]).ok();
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let run = Command::new("ip").args(arguments).output();
    match run {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("ip {}: {}", arguments.join(" "), said.trim()))
        }
        Err(error) => Err(format!("ip: {error}")),
    }
}
