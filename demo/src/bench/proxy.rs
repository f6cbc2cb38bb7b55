//! A way to the server on which round trips are counted. It costs time, so nothing is timed on it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::Result;
use crate::place::{Place, System};

/// How much is passed on at a time.
const BUFFER: usize = 64 * 1024;

/// What has gone through so far.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    trips: AtomicU64,
    statements: AtomicU64,
}

impl Traffic {
    /// Questions that had an answer, those that only prepare or test something among them.
    pub(super) fn trips(&self) -> u64 {
        self.trips.load(Ordering::Acquire)
    }

    /// Statements that were executed.
    pub(super) fn statements(&self) -> u64 {
        self.statements.load(Ordering::Acquire)
    }

    fn add(&self, seen: Seen) {
        self.trips.fetch_add(seen.trips, Ordering::AcqRel);
        self.statements.fetch_add(seen.statements, Ordering::AcqRel);
    }
}

/// What was seen in a piece of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    trips: u64,
    statements: u64,
}

/// A proxy, until it is dropped.
#[derive(Debug)]
pub(super) struct Proxy {
    /// The database by way of it.
    pub(super) place: Place,
    pub(super) traffic: Arc<Traffic>,
    accepting: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    /// A proxy before the server of a database; none if it cannot be reached by TCP.
    pub(super) async fn before(place: &Place) -> Result<Option<Self>> {
        let Some(address) = place.address()? else {
            return Ok(None);
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let traffic = Arc::new(Traffic::default());
        let accepting = tokio::spawn(accept(
            listener,
            address,
            place.system,
            Arc::clone(&traffic),
        ));
        Ok(Some(Self {
            place: place.through(port)?,
            traffic,
            accepting,
        }))
    }
}

async fn accept(
    listener: TcpListener,
    address: (String, u16),
    system: System,
    traffic: Arc<Traffic>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let (address, traffic) = (address.clone(), Arc::clone(&traffic));
        // Whoever is cut off sees that.
        tokio::spawn(async move { pass_on(client, address, system, &traffic).await });
    }
}

async fn pass_on(
    client: TcpStream,
    address: (String, u16),
    system: System,
    traffic: &Traffic,
) -> io::Result<()> {
    let server = TcpStream::connect(address).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (mut commands, mut answers) = (Commands::new(), Answers::new());
    tokio::try_join!(
        copy(from_client, to_server, |bytes| {
            if system == System::MySql {
                traffic.add(commands.count(bytes));
            }
        }),
        copy(from_server, to_client, |bytes| {
            if system == System::Postgres {
                traffic.add(answers.count(bytes));
            }
        }),
    )?;
    Ok(())
}

/// Passes on until one side ends, and lets `see` see it.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut see: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return to.shutdown().await;
        };
        see(bytes);
        to.write_all(bytes).await?;
    }
}

/// Looks through a stream of packets, each of which has a header that tells how long it is.
#[derive(Debug)]
struct Packets<const HEADER: usize> {
    header: Vec<u8>,
    /// How much of a packet is still to come that nobody looks at.
    left: usize,
    length: fn([u8; HEADER]) -> usize,
}

impl<const HEADER: usize> Packets<HEADER> {
    const fn new(length: fn([u8; HEADER]) -> usize) -> Self {
        Self {
            header: Vec::new(),
            left: 0,
            length,
        }
    }

    /// Calls `look` with the header of each packet that is not empty, and the byte that follows.
    fn each(&mut self, mut bytes: &[u8], mut look: impl FnMut([u8; HEADER], u8)) {
        while let Some(&next) = bytes.first() {
            if let Ok(header) = <[u8; HEADER]>::try_from(self.header.as_slice()) {
                look(header, next);
                self.header.clear();
            }
            let (_, rest) = bytes.split_at(self.left.min(bytes.len()));
            self.left -= bytes.len() - rest.len();
            let (taken, rest) =
                rest.split_at(HEADER.min(rest.len()).min(HEADER - self.header.len()));
            self.header.extend_from_slice(taken);
            if let Ok(header) = self.header.as_slice().try_into() {
                self.left = (self.length)(header);
                if self.left == 0 {
                    self.header.clear();
                }
            }
            bytes = rest;
        }
    }
}

/// What a server of PostgreSQL says: it ends each round trip with `ReadyForQuery`, and each statement with
/// `CommandComplete`.
#[derive(Debug)]
struct Answers(Packets<5>);

impl Answers {
    const fn new() -> Self {
        // The length counts itself.
        Self(Packets::new(|[_, a, b, c, d]| {
            u32::from_be_bytes([a, b, c, d]).saturating_sub(4) as usize
        }))
    }

    fn count(&mut self, bytes: &[u8]) -> Seen {
        const READY_FOR_QUERY: u8 = b'Z';
        const COMMAND_COMPLETE: u8 = b'C';
        let mut seen = Seen::default();
        self.0.each(bytes, |[kind, ..], _| {
            seen.trips += u64::from(kind == READY_FOR_QUERY);
            seen.statements += u64::from(kind == COMMAND_COMPLETE);
        });
        seen
    }
}

/// What a client of MySQL says: a command begins a sequence of packets, and has one answer unless it closes
/// something.
#[derive(Debug)]
struct Commands(Packets<4>);

impl Commands {
    const fn new() -> Self {
        Self(Packets::new(|[a, b, c, _]| {
            u32::from_le_bytes([a, b, c, 0]) as usize
        }))
    }

    fn count(&mut self, bytes: &[u8]) -> Seen {
        const QUERY: u8 = 0x03;
        const EXECUTE_STATEMENT: u8 = 0x17;
        const QUIT: u8 = 0x01;
        const SEND_LONG_DATA: u8 = 0x18;
        const CLOSE_STATEMENT: u8 = 0x19;
        let mut seen = Seen::default();
        self.0.each(bytes, |[.., sequence], command| {
            let is_command = sequence == 0;
            let has_answer = ![QUIT, SEND_LONG_DATA, CLOSE_STATEMENT].contains(&command);
            let is_statement = [QUERY, EXECUTE_STATEMENT].contains(&command);
            seen.trips += u64::from(is_command && has_answer);
            seen.statements += u64::from(is_command && is_statement);
        });
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind], &length.to_be_bytes()[..], body].concat()
    }

    fn packet(sequence: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_le_bytes();
        [&length[..3], &[sequence], body].concat()
    }

    /// However the network cuts the stream into pieces.
    fn in_pieces(stream: &[u8], mut count: impl FnMut(&[u8]) -> Seen) -> Vec<(u64, u64)> {
        let mut of = |size: usize| {
            let traffic = Traffic::default();
            for piece in stream.chunks(size) {
                traffic.add(count(piece));
            }
            (traffic.trips(), traffic.statements())
        };
        vec![of(1), of(2), of(7), of(stream.len())]
    }

    #[test]
    fn an_answer_is_counted_at_its_end_and_what_looks_like_one_within_a_row_is_not() {
        let row = answer(b'D', b"ZZZZZ\0\0\0\x05Z");
        let stream = [
            row,
            answer(b'C', b"SELECT 1\0"),
            answer(b'Z', b"T"),
            answer(b'Z', b"I"),
        ]
        .concat();
        let mut answers = Answers::new();
        assert_eq!(
            in_pieces(&stream, |bytes| answers.count(bytes)),
            [(2, 1); 4]
        );
    }

    #[test]
    fn a_command_is_counted_at_its_beginning_unless_nobody_answers_it() {
        let stream = [
            packet(1, b"login"),
            packet(3, b""),
            packet(0, b"\x03SELECT 1"),
            packet(0, b"\x0e"),
            packet(0, b"\x19stmt"),
            packet(0, b"\x17execute\0\0\0\0"),
            packet(1, b"the rest of it"),
            packet(0, b"\x01"),
        ]
        .concat();
        let mut commands = Commands::new();
        assert_eq!(
            in_pieces(&stream, |bytes| commands.count(bytes)),
            [(3, 2); 4]
        );
    }

    #[tokio::test]
    async fn what_is_passed_on_arrives_whole_and_is_counted() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let place = Place {
            system: System::Postgres,
            url: format!("postgres://me@127.0.0.1:{port}/shop"),
        };
        let proxy = Proxy::before(&place).await.unwrap().unwrap();
        let (_, through) = proxy.place.address().unwrap().unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", through)).await.unwrap();
        let (mut accepted, _) = server.accept().await.unwrap();
        client.write_all(b"question").await.unwrap();
        let mut question = [0; 8];
        accepted.read_exact(&mut question).await.unwrap();
        assert_eq!(&question, b"question");
        let said = answer(b'Z', b"I");
        accepted.write_all(&said).await.unwrap();
        drop(accepted);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, said);
        assert_eq!(proxy.traffic.trips(), 1);
    }
}
