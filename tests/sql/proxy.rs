//! A proxy on loopback between a store and its server, which loses what a test tells it to.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// When a connection that sends a text is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The text does not reach the server.
    Before,
    /// The server has answered the text; the answer does not come back.
    After,
    /// Nothing comes through any more on any connection, in neither direction, as if the process stood
    /// still.
    Freeze,
}

/// What is waited for, and what happens then.
#[derive(Clone, Copy)]
struct Set {
    /// What the connection has sent before; nothing in particular if it is empty.
    first: &'static [u8],
    text: &'static [u8],
    cut: Cut,
}

type Trap = Mutex<Option<Set>>;

/// Passes bytes on in both directions.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    trap: Arc<Trap>,
    statements: Arc<AtomicU64>,
    sendings: Arc<AtomicU64>,
}

impl Proxy {
    async fn new(upstream: SocketAddr, is_statement: fn(&[u8]) -> bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let trap = Arc::new(Mutex::new(None));
        let statements = Arc::new(AtomicU64::new(0));
        let sendings = Arc::new(AtomicU64::new(0));
        let (traps, counted) = (Arc::clone(&trap), Arc::clone(&statements));
        let sent = Arc::clone(&sendings);
        let (freezes, _) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (traps, counted) = (Arc::clone(&traps), Arc::clone(&counted));
                let sent = Arc::clone(&sent);
                let freezes = freezes.clone();
                tokio::spawn(async move {
                    let server = TcpStream::connect(upstream).await.unwrap();
                    pass(
                        client,
                        server,
                        &traps,
                        is_statement,
                        &counted,
                        &sent,
                        &freezes,
                    )
                    .await;
                });
            }
        });
        Self {
            address,
            trap,
            statements,
            sendings,
        }
    }

    /// A proxy of the server of a URL, and the URL that goes through it.
    pub(crate) async fn of(url: &str) -> (Self, String) {
        let (_, rest) = url.split_once("://").unwrap();
        let authority = rest.split('/').next().unwrap();
        let upstream = authority.rsplit('@').next().unwrap();
        let address = tokio::net::lookup_host(upstream)
            .await
            .unwrap()
            .next()
            .unwrap();
        // What is encrypted could not be read here.
        let (is_statement, setting): (fn(&[u8]) -> bool, _) = if url.starts_with("mysql") {
            (is_statement_of_mysql, "ssl-mode=DISABLED")
        } else {
            (is_statement_of_postgres, "sslmode=disable")
        };
        let proxy = Self::new(address, is_statement).await;
        let through = url.replacen(upstream, &proxy.address.to_string(), 1);
        let through = format!("{through}?{setting}");
        (proxy, through)
    }

    /// Cuts the next connection whose client sends this text.
    pub(crate) fn cut(&self, text: &'static [u8], cut: Cut) {
        self.cut_after(b"", text, cut);
    }

    /// Cuts the next connection whose client sends this text after the first one.
    pub(crate) fn cut_after(&self, first: &'static [u8], text: &'static [u8], cut: Cut) {
        *self.trap.lock().unwrap() = Some(Set { first, text, cut });
    }

    /// How many statements clients have sent; what prepares one or tests a connection is none.
    pub(crate) fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// How often clients have sent something; each waits for an answer before it does so again.
    pub(crate) fn sendings(&self) -> u64 {
        self.sendings.load(Ordering::Relaxed)
    }

    /// Whether a connection was cut since.
    pub(crate) fn has_cut(&self) -> bool {
        self.trap.lock().unwrap().is_none()
    }
}

async fn pass(
    mut client: TcpStream,
    mut server: TcpStream,
    trap: &Trap,
    is_statement: fn(&[u8]) -> bool,
    statements: &AtomicU64,
    sendings: &AtomicU64,
    freezes: &watch::Sender<bool>,
) {
    let (mut from_client, mut from_server) = (vec![0; 65536], vec![0; 65536]);
    let mut is_marked = false;
    let mut has_answered = true;
    let mut frozen = freezes.subscribe();
    loop {
        tokio::select! {
            biased;
            true = async { frozen.wait_for(|frozen| *frozen).await.is_ok() } => {
                std::future::pending::<()>().await;
            }
            read = client.read(&mut from_client) => {
                let Ok(len @ 1..) = read else { return };
                // What is long comes in pieces.
                if std::mem::replace(&mut has_answered, false) {
                    sendings.fetch_add(1, Ordering::Relaxed);
                }
                if is_statement(&from_client[..len]) {
                    statements.fetch_add(1, Ordering::Relaxed);
                }
                let cut = sprung(&from_client[..len], trap, &mut is_marked);
                if cut == Some(Cut::Before) {
                    return;
                }
                if cut == Some(Cut::Freeze) {
                    freezes.send_replace(true);
                    std::future::pending::<()>().await;
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
                has_answered = true;
                if client.write_all(&from_server[..len]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Bind, which begins the execution of what is prepared, or a simple query.
fn is_statement_of_postgres(sent: &[u8]) -> bool {
    matches!(sent.first(), Some(b'B' | b'Q'))
}

/// `COM_STMT_EXECUTE` or `COM_QUERY`, behind the length and the number of a packet.
fn is_statement_of_mysql(sent: &[u8]) -> bool {
    matches!(sent.get(3..5), Some([0, 0x17 | 0x03]))
}

fn sprung(sent: &[u8], trap: &Trap, is_marked: &mut bool) -> Option<Cut> {
    let mut trap = trap.lock().unwrap();
    let Set { first, text, cut } = (*trap)?;
    let has = |text: &[u8]| text.is_empty() || sent.windows(text.len()).any(|part| part == text);
    *is_marked |= has(first);
    (*is_marked && has(text)).then(|| {
        *trap = None;
        cut
    })
}
