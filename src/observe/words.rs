//! The words that metrics and logs use: the values of their labels.

/// Declares an enum of label values: the words of the contract, each with its place.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The word it is counted and logged under.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }
    };
}

words! {
    /// What a request was answered: the label `result` of `requests_total`, and
    /// the word in the answer.
    RequestResult {
        /// Every matched required destination accepted.
        Delivered = "delivered",
        /// The id was delivered before.
        Duplicate = "duplicate",
        /// No rule wanted it, or (refused) the source wants one to.
        Unmatched = "unmatched",
        /// The signature headers are out of their form.
        Malformed = "malformed",
        /// Not proven.
        Unverified = "unverified",
        /// The sender's address may not use this source.
        Forbidden = "forbidden",
        /// No source has this path.
        UnknownPath = "unknown_path",
        /// Not POST.
        Method = "method",
        /// The body came too slowly.
        Slow = "slow",
        /// The body is over the limit.
        TooLarge = "too_large",
        /// Delivered before with another body.
        Conflict = "conflict",
        /// A rule needs a type and there is none.
        Untyped = "untyped",
        /// A required destination refused or failed.
        Failed = "failed",
        /// Saturated.
        Busy = "busy",
        /// Stopping.
        Draining = "draining",
        /// Store, broker or circuit away.
        Unavailable = "unavailable",
        /// The same id is still running.
        InFlight = "in_flight",
        /// A destination did not answer in time.
        Late = "late",
    }
}

words! {
    /// Why a request was refused: the label `reason` of `refusals_total`.
    RefusalReason {
        /// A signature header is missing.
        MissingHeader = "missing_header",
        /// A signature header is there twice.
        DuplicateHeader = "duplicate_header",
        /// Headers of both families.
        MixedFamily = "mixed_family",
        /// The id is out of its form.
        BadId = "bad_id",
        /// The timestamp is out of its form.
        BadTimestamp = "bad_timestamp",
        /// The signature header is out of its form.
        BadSignature = "bad_signature",
        /// Signed too long ago.
        TooOld = "too_old",
        /// Signed too far ahead.
        TooNew = "too_new",
        /// No signature matches any key.
        NoKeyMatched = "no_key_matched",
        /// The sender's address may not use this source.
        Forbidden = "forbidden",
        /// The body is over the limit.
        TooLarge = "too_large",
        /// The body came too slowly.
        Slow = "slow",
        /// A rule needs a type and there is none.
        Untyped = "untyped",
        /// Delivered before with another body.
        Conflict = "conflict",
        /// Saturated.
        Busy = "busy",
        /// Stopping.
        Draining = "draining",
        /// Store, broker or circuit away.
        Unavailable = "unavailable",
        /// The same id is still running.
        InFlight = "in_flight",
    }
}

words! {
    /// How an attempt, and in the end a delivery, came out: the label `outcome`.
    AttemptOutcome {
        /// The destination has it.
        Accepted = "accepted",
        /// It answered and said no.
        Refused = "refused",
        /// It could not be handed over.
        Failed = "failed",
        /// Handed over, and whether it arrived is not known.
        Unconfirmed = "unconfirmed",
        /// Its `max_in_flight` is reached.
        Busy = "busy",
        /// It did not answer in time.
        Late = "late",
        /// Its circuit is open, or its broker away.
        Unavailable = "unavailable",
    }
}

words! {
    /// What became of a message of a queue: the label `outcome` of
    /// `queue_messages_total`.
    QueueOutcome {
        /// Acknowledged: delivered, known already, or wanted by nobody.
        Accepted = "accepted",
        /// Rejected at once: not proven, or nothing that could be delivered.
        Refused = "refused",
        /// Rejected after all its attempts.
        Failed = "failed",
        /// Held for another attempt; it will have another outcome besides.
        Retried = "retried",
        /// In the queue again: hookward stops, or the connection was lost.
        Returned = "returned",
    }
}

words! {
    /// How a delivered id was repeated: the label `kind` of `repeats_total`.
    RepeatKind {
        /// The very same request.
        SameTimestamp = "same_timestamp",
        /// The same id, signed anew.
        NewTimestamp = "new_timestamp",
    }
}

words! {
    /// What is limited: the label `of` of `limit`, named as the metric that shows
    /// how much there is.
    Limited {
        /// `server.max_in_flight`
        InFlight = "in_flight",
        /// `server.max_buffered`
        BufferedBytes = "buffered_bytes",
        /// `server.max_connections`, as far as open files allow.
        Connections = "connections",
        /// `ledger.max_entries`
        LedgerEntries = "ledger_entries",
    }
}
