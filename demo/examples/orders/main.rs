//! An HTTP service with a database: an order and its event are one transaction, and a handler
//! bills each order once.
//!
//! ```sh
//! cargo run -p demo --example orders                 # or: … --example orders -- sqlite:FILE
//! curl -d '{"id": "4711", "total_cents": 1290}' -H 'content-type: application/json' http://127.0.0.1:3000/orders
//! curl http://127.0.0.1:3000/orders/4711
//! ```
//!
//! It runs on SQLite, which needs no server. For PostgreSQL change the types `Sqlite…` to
//! `Postgres…` and `Pg…`, begin with `pool.begin()`, leave out the `busy_timeout`, and give the URL:
//! its SQL is the same. For MySQL write `?` where parameters are as well, and VARCHAR for the keys.

use std::{env, net::Ipv4Addr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tidings::{
    ConcurrentScheduler, ConfigMap, Context, DomainEvent, Entity, Handler, HandlerResult, Raiser,
    Scheduler as _, SqliteOptions, SqliteStore,
    sqlx::{
        self, Row as _, SqliteConnection, SqlitePool,
        sqlite::{SqliteConnectOptions, SqlitePoolOptions},
    },
};
use tokio::net::TcpListener;

#[cfg(test)]
mod tests;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long running handlers may go on when the service is stopped.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// The application's own tables, in the database of the store.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, total_cents BIGINT NOT NULL);
    CREATE TABLE IF NOT EXISTS invoices (order_id TEXT PRIMARY KEY, total_cents BIGINT NOT NULL)";

/// What happened.
#[derive(Deserialize, Serialize)]
struct OrderPlaced {
    order: String,
    total_cents: i64,
}

impl DomainEvent for OrderPlaced {
    const NAME: &'static str = "order.placed";

    fn entity(&self) -> Option<Entity> {
        Some(Entity::new("order", self.order.as_str()))
    }
}

/// What a customer sends.
#[derive(Deserialize)]
struct Order {
    id: String,
    total_cents: i64,
}

/// What the routes share.
#[derive(Clone)]
struct Service {
    pool: SqlitePool,
    raiser: Raiser,
}

/// Records the order and the event, or neither.
async fn place(service: &Service, order: Order) -> Result<(), Error> {
    // SQLite lets one transaction write at a time: take the lock before anything is read.
    let mut tx = service.pool.begin_with("BEGIN IMMEDIATE").await?;
    let placed = OrderPlaced {
        order: order.id.clone(),
        total_cents: order.total_cents,
    };
    service.raiser.raise_typed(&mut *tx, &placed).await?;
    sqlx::query("INSERT INTO orders (id, total_cents) VALUES ($1, $2)")
        .bind(order.id)
        .bind(order.total_cents)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    // Optional: without it the scheduler finds the event by its next poll, milliseconds later.
    service.raiser.wake();
    Ok(())
}

/// Bills an order. The row commits together with the completion of the handler's request, so an
/// order is billed once, however often this runs.
async fn bill(placed: OrderPlaced, _: Context, connection: &mut SqliteConnection) -> HandlerResult {
    sqlx::query("INSERT INTO invoices (order_id, total_cents) VALUES ($1, $2)")
        .bind(placed.order)
        .bind(placed.total_cents)
        .execute(connection)
        .await?;
    Ok(())
}

/// `POST /orders`
async fn post_order(State(service): State<Service>, Json(order): Json<Order>) -> StatusCode {
    match place(&service, order).await {
        Ok(()) => StatusCode::CREATED,
        Err(error) => status_of(&error),
    }
}

/// `GET /orders/{id}`: whether it is there, and what has been billed.
async fn get_order(
    State(service): State<Service>,
    Path(id): Path<String>,
) -> Result<Json<serde_json::Value>, StatusCode> {
    let row = sqlx::query(
        "SELECT o.total_cents, i.total_cents FROM orders o \
         LEFT JOIN invoices i ON i.order_id = o.id WHERE o.id = $1",
    )
    .bind(&id)
    .fetch_optional(&service.pool)
    .await;
    let read = row.and_then(|row| match row {
        Some(row) => Ok(Some((row.try_get(0)?, row.try_get(1)?))),
        None => Ok(None),
    });
    let (total, billed): (i64, Option<i64>) = read
        .map_err(|error| status_of(&error.into()))?
        .ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(
        serde_json::json!({ "id": id, "total_cents": total, "billed_cents": billed }),
    ))
}

fn status_of(error: &Error) -> StatusCode {
    let is_taken = error
        .downcast_ref::<sqlx::Error>()
        .and_then(sqlx::Error::as_database_error)
        .is_some_and(sqlx::error::DatabaseError::is_unique_violation);
    if is_taken {
        return StatusCode::CONFLICT;
    }
    tracing::error!(%error, "an order could not be served");
    StatusCode::INTERNAL_SERVER_ERROR
}

/// Serves orders and handles their events until `stop` ends. Then requests under way are answered
/// and running handlers end, within [`SHUTDOWN`].
async fn serve(
    url: &str,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let store = SqliteStore::connect(url, SqliteOptions::new()).await?;
    store.migrate().await?;
    // The store has connections of its own. These wait for each other's writes.
    let pool = SqlitePoolOptions::new().connect_lazy_with(
        url.parse::<SqliteConnectOptions>()?
            .busy_timeout(Duration::from_secs(8)),
    );
    sqlx::raw_sql(TABLES).execute(&pool).await?;

    let config = ConfigMap::builder()
        .handler(Handler::transactional("bill", bill))
        .build()?;
    let scheduler = ConcurrentScheduler::builder(Arc::new(store.clone()), config).build()?;

    let app = Router::new()
        .route("/orders", post(post_order))
        .route("/orders/{id}", get(get_order))
        .with_state(Service {
            pool: pool.clone(),
            raiser: store.raiser(),
        });
    scheduler.start().await?;
    let served = axum::serve(listener, app)
        .with_graceful_shutdown(stop)
        .await;
    // After the server, which raises nothing more.
    scheduler.shutdown(SHUTDOWN).await;
    pool.close().await;
    store.close().await;
    Ok(served?)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing_subscriber::fmt().init();
    let url = env::args()
        .nth(1)
        .unwrap_or_else(|| "sqlite:orders.db".to_owned());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 3000)).await?;
    serve(&url, listener, async {
        // Platforms send SIGTERM: wait for that as well there, with `tokio::signal::unix`.
        let _ = tokio::signal::ctrl_c().await;
    })
    .await
}
