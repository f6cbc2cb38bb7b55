//! What the stores of all databases do in the same way.

/// Implements what does not differ between stores: the port, the raiser and the migrations. The
/// store has a field `shared`.
macro_rules! sql_store {
    ($store:ident, $connection:ty, $concurrent_writers:expr) => {
        impl $store {
            /// Raises events in this store, in its sessions and transactions as well as in
            /// connections and transactions of `sqlx` that the application holds.
            #[must_use]
            pub fn raiser(&self) -> $crate::raiser::Raiser {
                let backend = $crate::sql::raise::Backend(std::sync::Arc::clone(&self.shared));
                $crate::raiser::Raiser::new(self.shared.signals.clone()).with_backend(backend)
            }

            /// Brings the schema up to date. Safe to call at every start, in any number of
            /// processes at once: one of them migrates, the others wait for it.
            ///
            /// Cost: a few round trips when there is nothing to do. Cancellation: on PostgreSQL and
            /// SQLite a migration takes effect as a whole or not at all; on MySQL and MariaDB,
            /// which commit every change of a schema at once, calling it again goes on.
            ///
            /// # Errors
            /// The database is away, or its user may not create tables; the schema belongs to a
            /// newer version of this library that says that this one cannot use it.
            pub async fn migrate(&self) -> $crate::error::Result<()> {
                $crate::sql::migrate::migrate(&self.shared).await
            }

            /// Checks that the schema is there and fits this version of the library. Sessions and
            /// transactions check it themselves when the first one is opened.
            ///
            /// # Errors
            /// The schema is missing or behind: migrate. Or this version is too old for it.
            pub async fn check_schema(&self) -> $crate::error::Result<()> {
                $crate::sql::migrate::check(&self.shared).await
            }

            /// Closes the connections, after those that are in use come back.
            pub async fn close(&self) {
                self.shared.dialect.close().await;
            }
        }

        #[async_trait::async_trait]
        impl $crate::store::Storer for $store {
            async fn session(&self) -> $crate::error::Result<Box<dyn $crate::store::Session>> {
                let purpose = $crate::sql::shared::Purpose::Session;
                let connection = self.shared.acquire(purpose).await?;
                Ok(Box::new($crate::sql::session::SqlSession(connection)))
            }

            async fn begin(&self) -> $crate::error::Result<Box<dyn $crate::store::Transaction>> {
                let purpose = $crate::sql::shared::Purpose::Transaction;
                let mut connection = self.shared.acquire(purpose).await?;
                connection.begin().await?;
                Ok(Box::new($crate::sql::session::SqlSession(connection)))
            }

            async fn lease_renewer(
                &self,
            ) -> $crate::error::Result<Box<dyn $crate::store::LeaseRenewer>> {
                let renewer = $crate::sql::session::SqlLeaseRenewer::connect(&self.shared).await?;
                Ok(Box::new(renewer))
            }

            async fn look(
                &self,
                look: &$crate::store::Look,
            ) -> $crate::error::Result<$crate::store::Outlook> {
                let purpose = $crate::sql::shared::Purpose::Session;
                let mut connection = self.shared.acquire(purpose).await?;
                let needs = $crate::sql::connection::Needs::OneStatement;
                let mut link = connection.open("look", needs).await?;
                let answer = self.shared.dialect.look(&mut link, look).await;
                link.close(answer).await
            }

            async fn listener(&self) -> $crate::error::Result<Box<dyn $crate::store::Listener>> {
                self.shared.dialect.listener(&self.shared).await
            }

            fn signals(&self) -> $crate::signal::Signals {
                self.shared.signals.clone()
            }

            fn capabilities(&self) -> $crate::store::Capabilities {
                let mut capabilities =
                    $crate::store::Capabilities::new(self.shared.dialect.system());
                capabilities.wake_ups = self.shared.dialect.wake_ups();
                capabilities.concurrent_writers = $concurrent_writers;
                capabilities.savepoints = true;
                capabilities
            }

            fn connection_type(&self) -> $crate::store::ConnectionType {
                $crate::store::ConnectionType::of::<$connection>()
            }

            fn is_conflict(&self, error: &(dyn std::error::Error + 'static)) -> bool {
                $crate::sql::error::is_conflict_of_handler(error)
            }
        }
    };
}

pub(super) use sql_store;
