//! The database systems that bench and attack know, and how they reach one.

use tidings::sqlx::{
    self, ConnectOptions as _,
    mysql::{MySqlConnectOptions, MySqlSslMode},
    postgres::{PgConnectOptions, PgSslMode},
};

use crate::store::Target;

/// A database system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Postgres,
    Sqlite,
    MySql,
}

/// A database: its system, and where it is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) system: System,
    pub(crate) url: String,
}

impl Place {
    /// The database of a store, if the store has one.
    pub(crate) fn of(target: Target<'_>) -> Option<Self> {
        let (system, url) = match target {
            Target::Memory => return None,
            Target::Postgres(url) => (System::Postgres, url),
            Target::Sqlite(url) => (System::Sqlite, url),
            Target::MySql(url) => (System::MySql, url),
        };
        Some(Self {
            system,
            url: url.to_owned(),
        })
    }

    /// The host and the port of its server, if it has one and is not reached through a socket of the file
    /// system.
    pub(crate) fn address(&self) -> sqlx::Result<Option<(String, u16)>> {
        Ok(match self.system {
            System::Sqlite => None,
            System::Postgres => {
                let options: PgConnectOptions = self.url.parse()?;
                let is_tcp = options.get_socket().is_none() && !options.get_host().starts_with('/');
                is_tcp.then(|| (options.get_host().to_owned(), options.get_port()))
            }
            System::MySql => {
                let options = self.mysql()?;
                let is_tcp = options.get_socket().is_none();
                is_tcp.then(|| (options.get_host().to_owned(), options.get_port()))
            }
        })
    }

    /// The same database by way of another port on this machine, in plain text.
    pub(crate) fn through(&self, port: u16) -> sqlx::Result<Self> {
        const HERE: &str = "127.0.0.1";
        let url = match self.system {
            System::Sqlite => self.url.clone(),
            System::Postgres => {
                let options: PgConnectOptions = self.url.parse()?;
                let options = options.host(HERE).port(port).ssl_mode(PgSslMode::Disable);
                options.to_url_lossy().to_string()
            }
            System::MySql => {
                let options = self.mysql()?.host(HERE).port(port);
                let options = options.ssl_mode(MySqlSslMode::Disabled);
                options.to_url_lossy().to_string()
            }
        };
        Ok(Self {
            system: self.system,
            url,
        })
    }

    fn mysql(&self) -> sqlx::Result<MySqlConnectOptions> {
        self.url.parse()
    }

    /// A file of SQLite, for tests.
    #[cfg(test)]
    pub(crate) fn of_file(directory: &std::path::Path) -> Self {
        Self {
            system: System::Sqlite,
            url: format!("sqlite:{}/bench.db", directory.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(system: System, url: &str) -> Place {
        let url = url.to_owned();
        Place { system, url }
    }

    #[test]
    fn the_way_through_another_port_leads_to_the_same_database_as_the_same_user() {
        let place = place(
            System::Postgres,
            "postgres://me:secret@db.example:6543/shop",
        );
        let address = place.address().unwrap();
        assert_eq!(address, Some(("db.example".to_owned(), 6543)));
        let through = place.through(7).unwrap();
        let options: PgConnectOptions = through.url.parse().unwrap();
        assert_eq!((options.get_host(), options.get_port()), ("127.0.0.1", 7));
        assert_eq!(options.get_database(), Some("shop"));
        assert_eq!(options.get_username(), "me");
        assert!(through.url.contains("secret"), "the password is gone");
    }

    #[test]
    fn the_way_through_another_port_is_the_same_on_mysql() {
        let place = place(System::MySql, "mariadb://me:secret@db.example/shop");
        let address = place.address().unwrap();
        assert_eq!(address, Some(("db.example".to_owned(), 3306)));
        let options = place.through(7).unwrap().mysql().unwrap();
        assert_eq!((options.get_host(), options.get_port()), ("127.0.0.1", 7));
        assert_eq!(options.get_database(), Some("shop"));
    }

    #[test]
    fn a_file_has_no_address() {
        let place = place(System::Sqlite, "sqlite:shop.db");
        assert_eq!(place.address().unwrap(), None);
    }
}
