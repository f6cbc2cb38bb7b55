//! The way of one worker to the server, which can be cut, blocked and slowed.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

use super::Result;
use crate::place::Place;

/// How much is passed on at a time.
const BUFFER: usize = 16 * 1024;

/// What the proxy does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// Connections with a smaller number are closed.
    cut_before: u64,
    /// Nothing comes through those with a smaller number any more, in neither direction, and nobody closes
    /// them: as if a router between had forgotten them.
    forgotten_before: u64,
    /// Nothing is passed on, and nothing is closed, as when packets are dropped.
    blocks: bool,
    delay: Duration,
}

/// What has gone through.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    open: AtomicUsize,
    most_open: AtomicUsize,
    sendings: AtomicU64,
}

/// A connection that its client has open, as far as the proxy can see.
struct Open<'a>(&'a Traffic);

impl<'a> Open<'a> {
    fn new(traffic: &'a Traffic) -> Self {
        let open = traffic.open.fetch_add(1, Ordering::Relaxed) + 1;
        traffic.most_open.fetch_max(open, Ordering::Relaxed);
        Self(traffic)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Traffic {
    /// The most connections that were open at once.
    pub(super) fn most_open(&self) -> usize {
        self.most_open.load(Ordering::Relaxed)
    }

    /// How often clients have sent something.
    pub(super) fn sendings(&self) -> u64 {
        self.sendings.load(Ordering::Relaxed)
    }
}

/// A proxy, until it is dropped.
#[derive(Debug)]
pub(super) struct Proxy {
    /// The database by way of it.
    pub(super) place: Place,
    pub(super) traffic: Arc<Traffic>,
    way: watch::Sender<Way>,
    /// The number of the next connection.
    next: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    pub(super) async fn before(place: &Place) -> Result<Self> {
        let address = place.address()?;
        let address =
            address.ok_or("the server has to be reached by TCP, or nothing can be cut")?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let place = place.through(listener.local_addr()?.port())?;
        let (way, _) = watch::channel(Way {
            cut_before: 0,
            forgotten_before: 0,
            blocks: false,
            delay: Duration::ZERO,
        });
        let (next, traffic) = (Arc::default(), Arc::new(Traffic::default()));
        let line = Line {
            way: way.subscribe(),
            traffic: Arc::clone(&traffic),
        };
        let accepting = tokio::spawn(accept(listener, address, line, Arc::clone(&next)));
        Ok(Self {
            place,
            traffic,
            way,
            next,
            accepting,
        })
    }

    /// Closes all connections that there are.
    pub(super) fn cut(&self) {
        let next = self.next.load(Ordering::Relaxed);
        self.way.send_modify(|way| way.cut_before = next);
    }

    /// Passes on nothing any more that comes through one of the connections that there are.
    pub(super) fn forget(&self) {
        let next = self.next.load(Ordering::Relaxed);
        self.way.send_modify(|way| way.forgotten_before = next);
    }

    /// Passes nothing on any more, or again.
    pub(super) fn block(&self, blocks: bool) {
        self.way.send_modify(|way| way.blocks = blocks);
    }

    /// Passes everything on so much later.
    pub(super) fn delay(&self, delay: Duration) {
        self.way.send_modify(|way| way.delay = delay);
    }
}

async fn accept(listener: TcpListener, address: (String, u16), line: Line, next: Arc<AtomicU64>) {
    loop {
        // Refused for a moment, when there are no descriptors: the client comes again.
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (address, line) = (address.clone(), line.clone());
        let number = next.fetch_add(1, Ordering::Relaxed);
        // Whoever is cut off sees that.
        tokio::spawn(async move { line.connect(client, address, number).await });
    }
}

/// What a connection needs of its proxy.
#[derive(Clone, Debug)]
struct Line {
    way: watch::Receiver<Way>,
    traffic: Arc<Traffic>,
}

impl Line {
    async fn connect(
        self,
        client: TcpStream,
        address: (String, u16),
        number: u64,
    ) -> io::Result<()> {
        let mut way = self.way.clone();
        // Packets of a handshake are dropped as well.
        drop(way.wait_for(|way| !way.blocks).await);
        let server = TcpStream::connect(address).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let mut open = Some(Open::new(&self.traffic));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let mut passing = std::pin::pin!(async {
            tokio::select! {
                ended = self.pass(from_client, to_server, number, true) => ended,
                ended = self.pass(from_server, to_client, number, false) => ended,
            }
        });
        let mut forgets = self.way.clone();
        loop {
            tokio::select! {
                ended = &mut passing => return ended,
                _ = way.wait_for(|way| way.cut_before > number) => return Ok(()),
                // Whether its client still has it cannot be seen from then on.
                _ = forgets.wait_for(|way| way.blocks || way.forgotten_before > number), if open.is_some() => {
                    open = None;
                }
            }
        }
    }

    /// Passes on until one side ends.
    async fn pass(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        number: u64,
        counts: bool,
    ) -> io::Result<()> {
        let mut way = self.way.clone();
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = from.read(&mut buffer).await?;
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
                return Ok(());
            };
            if counts {
                self.traffic.sendings.fetch_add(1, Ordering::Relaxed);
            }
            let delay = way.borrow().delay;
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let passes = |way: &Way| !way.blocks && way.forgotten_before <= number;
            drop(way.wait_for(passes).await);
            to.write_all(bytes).await?;
        }
    }
}
