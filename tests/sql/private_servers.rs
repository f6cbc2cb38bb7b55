//! What tests of outages rely on: a server that is ended is away, one that is started again is back.

use std::net::TcpStream;

use crate::server::{Kind, Private, mysql_url, postgres_url};

const KINDS: [Kind; 3] = [Kind::Postgres, Kind::MariaDb, Kind::PgBouncer];

#[test]
fn the_urls_are_not_mixed_up() {
    assert!(postgres_url().starts_with("postgres"));
    assert!(mysql_url().starts_with("mysql:") || mysql_url().starts_with("mariadb:"));
}

#[test]
fn an_ended_server_is_away_and_comes_back_where_it_was() {
    for kind in KINDS {
        let server = Private::start(kind);
        assert!(answers(&server));
        for end in [Private::kill, Private::stop] {
            end(&server);
            assert!(!answers(&server), "{kind:?} runs on");
            // Ended already, which is what was asked for.
            end(&server);
            server.start_again();
            assert!(answers(&server), "{kind:?} is not back");
        }
        server.restart();
        assert!(answers(&server), "{kind:?} is not back");
    }
}

#[test]
fn a_dropped_server_leaves_nothing_behind() {
    for kind in KINDS {
        let server = Private::start(kind);
        let directory = server.directory().to_owned();
        let address = address(&server);
        drop(server);
        assert!(TcpStream::connect(address).is_err(), "{kind:?} runs on");
        assert!(!directory.exists(), "{kind:?} left {directory:?}");
    }
}

#[test]
fn private_servers_share_nothing() {
    let [one, other] = [(); 2].map(|()| Private::start(Kind::MariaDb));
    assert_ne!(one.url(), other.url());
    one.kill();
    assert!(!answers(&one));
    assert!(answers(&other), "a kill ended the wrong server");
}

fn answers(server: &Private) -> bool {
    TcpStream::connect(address(server)).is_ok()
}

/// Between the user and the database.
fn address(server: &Private) -> String {
    let (_, rest) = server.url().split_once('@').unwrap();
    let (address, _) = rest.split_once('/').unwrap();
    address.to_owned()
}
