//! A proxy on loopback between a store and its server, which loses what a test tells it to.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// When a connection that sends a text is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The text does not reach the server.
    Before,
    /// The server has answered the text; the answer does not come back.
    After,
}

/// Passes bytes on in both directions.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    trap: Arc<Mutex<Option<(&'static [u8], Cut)>>>,
}

impl Proxy {
    pub(crate) async fn new(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let trap = Arc::new(Mutex::new(None));
        let traps = Arc::clone(&trap);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let traps = Arc::clone(&traps);
                tokio::spawn(async move {
                    let server = TcpStream::connect(upstream).await.unwrap();
                    pass(client, server, &traps).await;
                });
            }
        });
        Self { address, trap }
    }

    /// Cuts the next connection whose client sends this text.
    pub(crate) fn cut(&self, text: &'static [u8], cut: Cut) {
        *self.trap.lock().unwrap() = Some((text, cut));
    }

    /// Whether a connection was cut since.
    pub(crate) fn has_cut(&self) -> bool {
        self.trap.lock().unwrap().is_none()
    }
}

async fn pass(
    mut client: TcpStream,
    mut server: TcpStream,
    trap: &Mutex<Option<(&'static [u8], Cut)>>,
) {
    let (mut from_client, mut from_server) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(len @ 1..) = read else { return };
                let cut = sprung(&from_client[..len], trap);
                if cut == Some(Cut::Before) {
                    return;
                }
                if server.write_all(&from_client[..len]).await.is_err() {
                    return;
                }
                if cut == Some(Cut::After) {
                    let _ = server.read(&mut from_server).await;
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(len @ 1..) = read else { return };
                if client.write_all(&from_server[..len]).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn sprung(sent: &[u8], trap: &Mutex<Option<(&'static [u8], Cut)>>) -> Option<Cut> {
    let mut trap = trap.lock().unwrap();
    let (text, cut) = (*trap)?;
    let has_text = sent.windows(text.len()).any(|window| window == text);
    has_text.then(|| {
        *trap = None;
        cut
    })
}
