//! A wire that can be cut: everything between us and a server goes through it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A listener on this machine that passes everything on to a server, until it is cut.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    whole: watch::Sender<bool>,
}

impl Proxy {
    /// Begins to pass connections on to `target` (`host:port`).
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(target: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (whole, watched) = watch::channel(true);
        let target: Arc<str> = target.into();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (mut watched, target) = (watched.clone(), Arc::clone(&target));
                if !*watched.borrow() {
                    continue; // dropped: the caller sees a closed connection
                }
                tokio::spawn(async move {
                    let cut = async {
                        let _gone = watched.wait_for(|whole| !whole).await;
                    };
                    tokio::select! {
                        () = cut => {}
                        _ = pass(near, &target) => {}
                    }
                });
            }
        });
        Ok(Self { address, whole })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection, and every new one at once.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Passes new connections on again.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn pass(mut near: TcpStream, target: &str) -> std::io::Result<()> {
    let mut far = TcpStream::connect(target).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut near, &mut far).await.map(drop)
}
