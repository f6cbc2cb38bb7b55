//! What can fail: every method of every port that asks the database.

macro_rules! operations {
    ($($name:ident = $text:literal,)*) => {
        /// A method of a port.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Operation {
            $(
                #[doc = concat!("`", $text, "`.")]
                $name,
            )*
        }

        impl Operation {
            /// All operations.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The port and method, as errors show it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

operations! {
    Session = "Storer::session",
    Begin = "Storer::begin",
    LeaseRenewer = "Storer::lease_renewer",
    Look = "Storer::look",
    Listener = "Storer::listener",
    Listen = "Listener::listen",
    Commit = "Transaction::commit",
    Rollback = "Transaction::rollback",
    Savepoint = "Transaction::savepoint",
    RollbackToSavepoint = "Transaction::rollback_to_savepoint",
    RaiseEvents = "EventRepository::raise",
    ClaimEvents = "EventRepository::claim",
    FanOut = "EventRepository::fan_out",
    FailEvents = "EventRepository::fail",
    FindEvent = "EventRepository::find",
    FindEventForUpdate = "EventRepository::find_for_update",
    CountUnprocessed = "EventRepository::count_unprocessed",
    OldestUnprocessed = "EventRepository::oldest_unprocessed",
    CountEvents = "EventRepository::count",
    ListEvents = "EventRepository::list",
    StreamEvents = "EventRepository::stream",
    Prune = "EventRepository::prune",
    Claim = "HandlerRequestRepository::claim",
    ClaimSuspect = "HandlerRequestRepository::claim_suspect",
    Settle = "HandlerRequestRepository::settle",
    HandBack = "HandlerRequestRepository::hand_back",
    Rescue = "HandlerRequestRepository::rescue",
    FindRequest = "HandlerRequestRepository::find",
    FindRequestForUpdate = "HandlerRequestRepository::find_for_update",
    RequestsOfEvent = "HandlerRequestRepository::of_event",
    CountUnexecuted = "HandlerRequestRepository::count_unexecuted",
    OldestUnexecuted = "HandlerRequestRepository::oldest_unexecuted",
    CountDead = "HandlerRequestRepository::count_dead",
    ListDead = "HandlerRequestRepository::dead",
    DeadEventNames = "HandlerRequestRepository::dead_event_names",
    DeadHandlerNames = "HandlerRequestRepository::dead_handler_names",
    CountRequests = "HandlerRequestRepository::count",
    ListRequests = "HandlerRequestRepository::list",
    StreamRequests = "HandlerRequestRepository::stream",
    Cancel = "HandlerRequestRepository::cancel",
    Reexecute = "HandlerRequestRepository::reexecute",
    ReexecuteDead = "HandlerRequestRepository::reexecute_dead",
    RunNow = "HandlerRequestRepository::run_now",
    Replay = "HandlerRequestRepository::replay",
    Register = "RegistrationRepository::register",
    Touch = "RegistrationRepository::touch",
    ListRegistrations = "RegistrationRepository::all",
    Retire = "RegistrationRepository::retire",
    Rename = "RegistrationRepository::rename",
    RenameRequests = "RegistrationRepository::rename_requests",
    AbsentHandlers = "RegistrationRepository::absent",
    Renew = "LeaseRenewer::renew",
}
