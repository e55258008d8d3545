//! A wire for every pair of a process and a server it talks to.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::plan::roles;
use crate::stack::{Install, of_role};
use crate::wire::Wire;

/// A server as its clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Server {
    Postgres,
    Redis,
    Bank,
    Mail,
    Api,
}

impl Server {
    fn word(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
            Self::Bank => "the bank",
            Self::Mail => "the mail server",
            Self::Api => "api",
        }
    }
}

/// Who talks to api.
const CLIENTS: &str = "clients";

/// A pair that has a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Link {
    /// A process of ours, or the clients.
    pub(super) from: &'static str,
    /// What it talks to.
    pub(super) to: Server,
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", self.from, self.to.word())
    }
}

/// All pairs.
pub(super) fn links() -> Vec<Link> {
    let mut links = vec![Link { from: CLIENTS, to: Server::Api }];
    for from in roles() {
        links.extend([Server::Postgres, Server::Redis].map(|to| Link { from, to }));
        match of_role(from) {
            "payout" => links.push(Link { from, to: Server::Bank }),
            "notify" => links.push(Link { from, to: Server::Mail }),
            _ => {}
        }
    }
    links
}

/// Where the servers are.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    /// The database as api and as the workers reach it.
    pub(super) database_as_api: String,
    pub(super) database_as_worker: String,
    pub(super) redis: String,
    pub(super) bank: String,
    pub(super) mail: String,
    pub(super) api: String,
}

impl Servers {
    fn url(&self, link: Link) -> &str {
        match (link.to, link.from) {
            (Server::Postgres, "api") => &self.database_as_api,
            (Server::Postgres, _) => &self.database_as_worker,
            (Server::Redis, _) => &self.redis,
            (Server::Bank, _) => &self.bank,
            (Server::Mail, _) => &self.mail,
            (Server::Api, _) => &self.api,
        }
    }
}

/// All wires.
#[derive(Debug)]
pub(super) struct Wiring {
    wires: BTreeMap<Link, Wire>,
    /// Where clients reach api.
    pub(super) api_url: String,
}

impl Wiring {
    /// Lays all wires and tells the roles about theirs.
    ///
    /// # Errors
    /// When there is no free port.
    pub(super) async fn lay(servers: &Servers, seed: u64, install: &mut Install) -> Result<Self> {
        let mut wires = BTreeMap::new();
        let mut api_url = String::new();
        for (number, link) in (0..).zip(links()) {
            let (wire, url) = Wire::of_url(servers.url(link), seed.wrapping_add(number)).await?;
            let variable = match link.to {
                Server::Postgres => "DATABASE_URL",
                Server::Redis => "REDIS_URL",
                Server::Bank => "BANK_URL",
                Server::Mail => "SMTP_URL",
                Server::Api => {
                    api_url = url;
                    wires.insert(link, wire);
                    continue;
                }
            };
            install.extra.entry(link.from.to_owned()).or_default().insert(variable.to_owned(), url);
            wires.insert(link, wire);
        }
        Ok(Self { wires, api_url })
    }

    /// The wire of a pair.
    ///
    /// # Errors
    /// When there is no such pair.
    pub(super) fn wire(&self, link: Link) -> Result<&Wire> {
        self.wires.get(&link).with_context(|| format!("no wire from {link}"))
    }

    /// Mends all of them.
    pub(super) fn mend(&self) {
        self.wires.values().for_each(Wire::mend);
    }
}
