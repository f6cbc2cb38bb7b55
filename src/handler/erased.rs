//! Handlers without their types: what executors call.

use std::{future::Future, marker::PhantomData};

use futures_util::future::BoxFuture;

use super::{Context, HandlerError, HandlerResult, IntoHandlerError};
use crate::{
    model::{DecodeError, FromEvent},
    store::Connection,
};

/// An ordinary handler.
pub(crate) trait ErasedHandler: Send + Sync {
    fn call(&self, context: Context) -> BoxFuture<'static, HandlerResult>;
}

/// A handler that gets the connection of the transaction in which its request is settled.
pub(crate) trait ErasedTransactionalHandler: Send + Sync {
    fn call<'c>(
        &'c self,
        context: Context,
        connection: Connection<'c>,
    ) -> BoxFuture<'c, HandlerResult>;
}

pub(super) struct Ordinary<F, E>(pub(super) F, pub(super) PhantomData<fn(E)>);

impl<F, E, Fut, X> ErasedHandler for Ordinary<F, E>
where
    E: FromEvent,
    F: Fn(E, Context) -> Fut + Send + Sync,
    Fut: Future<Output = Result<(), X>> + Send + 'static,
    X: IntoHandlerError,
{
    fn call(&self, context: Context) -> BoxFuture<'static, HandlerResult> {
        match E::from_event(context.event()) {
            Ok(event) => {
                let running = (self.0)(event, context);
                Box::pin(async move { running.await.map_err(IntoHandlerError::into_handler_error) })
            }
            Err(error) => Box::pin(std::future::ready(Err(undecodable(error, &context)))),
        }
    }
}

pub(super) struct Transactional<F, E, C>(pub(super) F, pub(super) PhantomData<fn(E, C)>);

impl<F, E, C> ErasedTransactionalHandler for Transactional<F, E, C>
where
    E: FromEvent,
    C: Send + 'static,
    F: for<'c> TransactionalFn<'c, E, C>,
{
    fn call<'c>(
        &'c self,
        context: Context,
        connection: Connection<'c>,
    ) -> BoxFuture<'c, HandlerResult> {
        Box::pin(async move {
            let event =
                E::from_event(context.event()).map_err(|error| undecodable(error, &context))?;
            let connection = connection.downcast::<C>().ok_or_else(|| {
                HandlerError::new(format!(
                    "the store gave another connection than the {} that the handler takes",
                    std::any::type_name::<C>()
                ))
            })?;
            self.0
                .call(event, context, connection)
                .await
                .map_err(IntoHandlerError::into_handler_error)
        })
    }
}

fn undecodable(error: DecodeError, context: &Context) -> HandlerError {
    #[derive(Debug, thiserror::Error)]
    #[error("handler {handler:?} cannot take its argument")]
    struct Undecodable {
        handler: String,
        #[source]
        source: DecodeError,
    }
    HandlerError::new(Undecodable {
        handler: context.handler().to_owned(),
        source: error,
    })
}

/// A plain `async fn(E, Context, &mut C) -> Result<(), X>`, where `C` is the connection of the
/// store's database. It is implemented for functions and for `async` closures that capture
/// nothing; nothing else needs to.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a transactional handler",
    label = "not an `async fn(E, Context, &mut C) -> Result<(), X>`",
    note = "a transactional handler is an `async fn` or an `async` closure; it captures nothing; give it state with `Handler::transactional_with_state`"
)]
pub trait TransactionalFn<'c, E, C: 'c>: Send + Sync {
    /// The running handler.
    type Future: Future<Output = Result<(), Self::Error>> + Send + 'c;
    /// Its error.
    type Error: IntoHandlerError;

    /// Runs the handler.
    fn call(&self, event: E, context: Context, connection: &'c mut C) -> Self::Future;
}

impl<'c, E, C, F, Fut, X> TransactionalFn<'c, E, C> for F
where
    C: 'c,
    F: Fn(E, Context, &'c mut C) -> Fut + Send + Sync,
    Fut: Future<Output = Result<(), X>> + Send + 'c,
    X: IntoHandlerError,
{
    type Future = Fut;
    type Error = X;

    fn call(&self, event: E, context: Context, connection: &'c mut C) -> Fut {
        self(event, context, connection)
    }
}

/// A function that takes a state before the event.
#[derive(Debug)]
pub struct WithState<S, F> {
    pub(super) state: S,
    pub(super) function: F,
}

impl<'c, S, F, E, C, Fut, X> TransactionalFn<'c, E, C> for WithState<S, F>
where
    S: Clone + Send + Sync,
    C: 'c,
    F: Fn(S, E, Context, &'c mut C) -> Fut + Send + Sync,
    Fut: Future<Output = Result<(), X>> + Send + 'c,
    X: IntoHandlerError,
{
    type Future = Fut;
    type Error = X;

    fn call(&self, event: E, context: Context, connection: &'c mut C) -> Fut {
        (self.function)(self.state.clone(), event, context, connection)
    }
}
