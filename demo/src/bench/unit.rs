//! What figures count.

use serde::Serialize;

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unit {
    /// Requests, or events, per second.
    PerSecond,
    /// The time which half of the samples kept, in milliseconds.
    P50Milliseconds,
    /// The time which 99 of 100 samples kept, in milliseconds.
    P99Milliseconds,
    /// The time which 999 of 1000 samples kept, in milliseconds.
    P999Milliseconds,
    /// What the smallest share of several processes is, in percent of all.
    SmallestSharePercent,
    /// Statements per second of a system that has nothing to do.
    StatementsPerSecond,
    /// Processor time of this process in percent of the time that passed.
    CpuPercent,
    /// The most memory of a process that does nothing else, in MiB.
    Mebibytes,
    /// Bytes in the server's log for each request; with SQLite, bytes that were written at all.
    WrittenBytesPerRequest,
    TransactionsPerRequest,
    RoundTripsPerRequest,
    StatementsPerRequest,
    /// Microseconds of processor time of this process for each request.
    CpuMicrosecondsPerRequest,
    /// The same of the server's processes.
    ServerCpuMicrosecondsPerRequest,
    /// The most memory of this process meanwhile, in MiB.
    PeakMebibytes,
}

impl Unit {
    /// What stands beside a throughput, with the heading of its column.
    pub(super) const COSTS: [(Self, &str); 7] = [
        (Self::WrittenBytesPerRequest, "WAL B"),
        (Self::TransactionsPerRequest, "transact."),
        (Self::RoundTripsPerRequest, "trips"),
        (Self::StatementsPerRequest, "statem."),
        (Self::CpuMicrosecondsPerRequest, "our µs"),
        (Self::ServerCpuMicrosecondsPerRequest, "server µs"),
        (Self::PeakMebibytes, "peak MiB"),
    ];

    /// Whether it is told beside a throughput.
    pub(super) fn is_cost(self) -> bool {
        Self::COSTS.iter().any(|(unit, _)| *unit == self)
    }

    /// Whether it is counted on the way to the server, in a pass that is not timed.
    pub(super) const fn is_counted(self) -> bool {
        matches!(
            self,
            Self::RoundTripsPerRequest | Self::StatementsPerRequest
        )
    }

    /// Whether it says something to have so many times the figure of another contender.
    pub(super) const fn has_ratio(self) -> bool {
        !matches!(self, Self::SmallestSharePercent)
    }

    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::PerSecond => "/s",
            Self::P50Milliseconds => "ms p50",
            Self::P99Milliseconds => "ms p99",
            Self::P999Milliseconds => "ms p99.9",
            Self::SmallestSharePercent => "% at least",
            Self::StatementsPerSecond => "statem./s",
            Self::CpuPercent => "% CPU",
            Self::Mebibytes => "MiB",
            Self::WrittenBytesPerRequest => "B/request",
            Self::TransactionsPerRequest => "t/request",
            Self::RoundTripsPerRequest => "r/request",
            Self::StatementsPerRequest => "s/request",
            Self::CpuMicrosecondsPerRequest | Self::ServerCpuMicrosecondsPerRequest => "µs/request",
            Self::PeakMebibytes => "MiB at most",
        }
    }

    /// How many digits of its figures say something.
    pub(super) const fn digits(self) -> usize {
        match self {
            Self::PerSecond | Self::WrittenBytesPerRequest => 0,
            Self::Mebibytes
            | Self::PeakMebibytes
            | Self::SmallestSharePercent
            | Self::CpuMicrosecondsPerRequest
            | Self::ServerCpuMicrosecondsPerRequest => 1,
            Self::TransactionsPerRequest
            | Self::RoundTripsPerRequest
            | Self::StatementsPerRequest
            | Self::CpuPercent => 3,
            _ => 2,
        }
    }
}
