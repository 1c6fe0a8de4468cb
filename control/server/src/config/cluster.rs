//! `[cluster]`.

use std::path::PathBuf;

use pinion_plane::{ClusterConfig, PeerName};
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// The cluster that a node belongs to; without it, it is one of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cluster {
    /// The same on all nodes; it is in their certificates.
    pub(crate) name: String,
    /// This node; each has another.
    pub(crate) node: String,
    /// The nodes that begin the cluster, `NODE=HOST:PORT`. The same on all nodes, also on
    /// those that join later.
    pub(crate) initial: Vec<String>,
    /// Where the others and clients reach this node, `HOST:PORT`. What `initial` says,
    /// else `listen`.
    pub(crate) advertise: Option<String>,
    /// Whose certificates count between nodes, PEM.
    pub(crate) ca: PathBuf,
    /// This node's certificate, PEM, leaf first.
    pub(crate) cert: PathBuf,
    /// Its key, PEM.
    pub(crate) key: PathBuf,
    /// Follows and never votes, if it joins.
    #[serde(default)]
    pub(crate) observer: bool,
    /// For placing copies apart.
    #[serde(default)]
    pub(crate) region: String,
    /// Part of the region.
    #[serde(default)]
    pub(crate) zone: String,
}

impl Cluster {
    /// Whether it is what only people get wrong: names and addresses.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.plane().map(|_| ())
    }

    /// This node's name.
    pub(crate) fn node(&self) -> Result<PeerName, ConfigError> {
        PeerName::new(&self.node).map_err(|_| ConfigError::Value {
            key: "cluster.node",
            value: self.node.clone(),
            expected: "a name in lower case: letters, digits, '-', '_' and '.'",
        })
    }

    /// As the plane takes it.
    pub(crate) fn plane(&self) -> Result<ClusterConfig, ConfigError> {
        self.node()?;
        let mut initial: Vec<(PeerName, Box<str>)> = Vec::new();
        for entry in &self.initial {
            let wrong = || ConfigError::Value {
                key: "cluster.initial",
                value: entry.clone(),
                expected: "NODE=HOST:PORT, each node once",
            };
            let (name, address) = entry.split_once('=').ok_or_else(wrong)?;
            let name = PeerName::new(name).map_err(|_| wrong())?;
            let port = address
                .rsplit_once(':')
                .map(|(_, port)| port.parse::<u16>());
            let is_known = initial.iter().any(|(known, _)| *known == name);
            if !matches!(port, Some(Ok(1..))) || is_known {
                return Err(wrong());
            }
            initial.push((name, address.into()));
        }
        if initial.is_empty() {
            return Err(ConfigError::Value {
                key: "cluster.initial",
                value: String::new(),
                expected: "the nodes that begin the cluster",
            });
        }
        Ok(ClusterConfig {
            name: self.name.as_str().into(),
            initial,
            observer: self.observer,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(initial: &[&str], node: &str) -> Result<ClusterConfig, String> {
        let cluster = Cluster {
            name: "c".to_owned(),
            node: node.to_owned(),
            initial: initial.iter().map(ToString::to_string).collect(),
            advertise: None,
            ca: PathBuf::new(),
            cert: PathBuf::new(),
            key: PathBuf::new(),
            observer: false,
            region: String::new(),
            zone: String::new(),
        };
        cluster.plane().map_err(|error| error.to_string())
    }

    #[test]
    fn the_list_of_nodes_is_read_and_what_is_none_is_named() {
        let good = with(&["n1=h1.example:8080", "n2=[::1]:8080"], "n3").expect("good");
        assert_eq!(good.initial.len(), 2);
        assert_eq!(&*good.initial[1].1, "[::1]:8080");
        for (initial, node, word) in [
            (&["n1"][..], "n1", "cluster.initial = 'n1'"),
            (&["n1=host"], "n1", "NODE=HOST:PORT"),
            (&["n1=host:0"], "n1", "NODE=HOST:PORT"),
            (&["N1=host:1"], "n1", "NODE=HOST:PORT"),
            (&["n1=a:1", "n1=b:1"], "n1", "each node once"),
            (&[], "n1", "the nodes that begin the cluster"),
            (&["n1=a:1"], "N1", "cluster.node = 'N1'"),
        ] {
            let error = with(initial, node).expect_err("wrong");
            assert!(error.contains(word), "{error}");
        }
    }
}
