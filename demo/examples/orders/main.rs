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

use std::{env, io, net::Ipv4Addr, pin::pin, process::ExitCode, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tidings::{
    ConcurrentScheduler, ConfigMap, Context, DomainEvent, Entity, ErrorChain, Handler,
    HandlerResult, Raiser, Scheduler as _, SqliteOptions, SqliteStore, StoreError,
    sqlx::{
        self, Row as _, SqliteConnection, SqlitePool,
        sqlite::{SqliteConnectOptions, SqlitePoolOptions},
    },
};
use tokio::{
    net::TcpListener,
    sync::oneshot,
    time::{sleep, timeout},
};

#[cfg(test)]
mod tests;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long requests under way may go on when the service is stopped, and then running handlers.
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
async fn post_order(
    State(service): State<Service>,
    Json(order): Json<Order>,
) -> Result<StatusCode, Refusal> {
    match place(&service, order).await {
        Ok(()) => Ok(StatusCode::CREATED),
        Err(error) => Err(refusal(&*error)),
    }
}

/// `GET /orders/{id}`: whether it is there, and what has been billed.
async fn get_order(
    State(service): State<Service>,
    Path(id): Path<String>,
) -> Result<Json<serde_json::Value>, Refusal> {
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
        .map_err(|error| refusal(&error))?
        .ok_or((StatusCode::NOT_FOUND, String::new()))?;
    Ok(Json(
        serde_json::json!({ "id": id, "total_cents": total, "billed_cents": billed }),
    ))
}

/// What a client hears in place of an answer.
type Refusal = (StatusCode, String);

fn refusal(error: &(dyn std::error::Error + 'static)) -> Refusal {
    // What cannot be raised: an id that is empty, too long, or has characters that no name may have.
    if let Some(invalid @ StoreError::Invalid { .. }) = error.downcast_ref() {
        return (StatusCode::UNPROCESSABLE_ENTITY, invalid.to_string());
    }
    let is_taken = error
        .downcast_ref::<sqlx::Error>()
        .and_then(sqlx::Error::as_database_error)
        .is_some_and(sqlx::error::DatabaseError::is_unique_violation);
    if is_taken {
        return (StatusCode::CONFLICT, String::new());
    }
    tracing::error!(error = %ErrorChain(error), "an order could not be served");
    (StatusCode::INTERNAL_SERVER_ERROR, String::new())
}

/// Serves orders and handles their events until `stop` ends. Then requests under way are answered,
/// and after that running handlers end, each within `deadline`.
async fn serve(
    url: &str,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
    deadline: Duration,
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
    let (stopping, stopped) = oneshot::channel();
    let served = axum::serve(listener, app).with_graceful_shutdown(async move {
        stop.await;
        let _ = stopping.send(());
    });
    // By itself it would wait for ever for a client that never ends its request.
    let too_late = async {
        let _ = stopped.await;
        sleep(deadline).await;
    };
    let served = tokio::select! {
        served = served.into_future() => served,
        () = too_late => {
            tracing::warn!("requests did not end in time");
            Ok(())
        }
    };
    // After the server, which raises nothing more.
    scheduler.shutdown(deadline).await;
    // Waits for connections that are in use.
    let _ = timeout(deadline, pool.close()).await;
    store.close().await;
    Ok(served?)
}

/// Ends with Ctrl-C, or with the SIGTERM that platforms send.
async fn stop_signal() -> io::Result<()> {
    let interrupted = pin!(tokio::signal::ctrl_c());
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupted = interrupted => interrupted,
            _ = terminated.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    interrupted.await
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().init();
    let url = env::args()
        .nth(1)
        .unwrap_or_else(|| "sqlite:orders.db".to_owned());
    let stop = async {
        if let Err(error) = stop_signal().await {
            tracing::error!(%error, "no signals can be waited for; stopping");
        }
    };
    let served = async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 3000)).await?;
        serve(&url, listener, stop, SHUTDOWN).await
    };
    match served.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %ErrorChain(&*error), "the service failed");
            ExitCode::FAILURE
        }
    }
}
