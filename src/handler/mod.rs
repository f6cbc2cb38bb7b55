//! Handlers: named reactions to events, typed at the edge and erased inside, and what surrounds
//! them: their context and result, the hooks before them, and the reporter of their errors.

mod context;
mod erased;
mod extensions;
#[expect(
    clippy::module_inception,
    reason = "the file holds the type that the module is about"
)]
mod handler;
mod handler_error;
mod hooks;
mod reporter;

pub use context::{CancellationCause, Context};

pub(crate) use erased::{ErasedHandler, ErasedTransactionalHandler};
pub use erased::{TransactionalFn, WithState};
pub use handler::Handler;
pub(crate) use handler::HandlerKind;
pub(crate) use handler_error::Verdict;
pub use handler_error::{HandlerError, HandlerResult, IntoHandlerError};
pub use hooks::{BeforeExecute, BeforeProcess, ProcessContext};
pub use reporter::{ErrorReport, ErrorReporter, NoReporter, ReportKind};
